//! Every way to write an address that must not be reached, against the gate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use connectors_testkit::spellings::{Canary, INSIDE, hosts, whole_table};
use proptest::prelude::*;
use url::{Host, Url};

use super::fixture::{allow, egress, get, loopback};
use crate::{Egress, EgressError, Limits, Policy, Refusal, is_public};

/// Refused at once, without the network, and refused again when sent all the same.
async fn all_refused(egress: &Egress, table: &[String]) {
    for text in table {
        let Ok(url) = text.parse::<Url>() else { continue };
        assert!(egress.admit(&url).is_err(), "admitted: {text:?}, which is {url}");
        let error = egress.send(get(text)).await.expect_err(text);
        assert!(matches!(error, EgressError::Refused(_)), "{text:?}: {error}");
        assert!(!error.may_have_been_sent());
    }
}

#[tokio::test]
async fn nothing_inside_is_reached_however_it_is_spelled() {
    let canary = Canary::start().await.unwrap();
    let table = whole_table(canary.port());
    let readable = table.iter().filter(|text| text.parse::<Url>().is_ok()).count();
    assert!(readable >= 2000, "a table of URLs that cannot be read would show nothing: {readable}");

    // Neither by default, nor where a port beside the canary's is open.
    for policy in [Policy::default(), allow(&[format!("127.0.0.1:{}", canary.port() ^ 1)])] {
        all_refused(&egress(&policy), &table).await;
    }
    assert_eq!(canary.connections().await.unwrap(), 0);
}

#[tokio::test]
async fn the_spellings_do_lead_inside_where_that_is_permitted() {
    let canary = Canary::start().await.unwrap();
    let egress = egress(&loopback());
    let mut reached = 0;
    for text in whole_table(canary.port()) {
        let Ok(url) = text.parse::<Url>() else { continue };
        // Which names lead to this machine, its resolver decides.
        let literal = matches!(url.host(), Some(Host::Ipv4(_) | Host::Ipv6(_)));
        if literal && egress.admit(&url).is_ok() && url.port() == Some(canary.port()) {
            // The canary hangs up: that a connection came is all that is to be shown.
            assert!(egress.send(get(&text)).await.is_err());
            reached += 1;
            assert!(canary.connections().await.unwrap() >= reached, "{text}");
        }
    }
    assert!(reached >= 80, "{reached}");
}

#[tokio::test]
async fn the_loopback_switch_opens_nothing_but_loopback() {
    let egress = egress(&loopback());
    for ip in INSIDE.iter().filter(|ip| !ip.is_loopback()) {
        for host in hosts(*ip) {
            for scheme in ["http", "https"] {
                let Ok(url) = format!("{scheme}://{host}/").parse::<Url>() else { continue };
                assert!(egress.admit(&url).is_err(), "{url}");
            }
        }
    }
    for text in
        ["http://mcp.example.com/mcp", "http://8.8.8.8/", "http://localhost.example.com/", "http://127.0.0.1.nip.io/"]
    {
        assert_eq!(egress.admit(&text.parse().unwrap()), Err(Refusal::PlainHttp), "{text}");
    }
    for text in
        ["http://localhost:1/", "http://a.localhost/", "http://127.9.9.9/", "https://[::1]/", "http://2130706433/"]
    {
        assert_eq!(egress.admit(&text.parse().unwrap()), Ok(()), "{text}");
    }
}

#[tokio::test]
async fn rules_for_everything_do_not_open_what_is_never_a_destination() {
    let canary = Canary::start().await.unwrap();
    let limits = Limits { connect: Duration::from_millis(300), ..Limits::default() };
    let egress = Egress::new(&allow(&["0.0.0.0/0", "::/0"]), &limits, None).unwrap();
    let port = canary.port();
    for host in [
        "0.0.0.0",
        "0",
        "[::]",
        "[::ffff:0.0.0.0]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "224.0.0.1",
        "[ff02::1]",
        "255.255.255.255",
        "169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[64:ff9b::169.254.169.254]",
    ] {
        let error = egress.send(get(&format!("http://{host}:{port}/"))).await.expect_err(host);
        assert_eq!(error, EgressError::Refused(Refusal::NotPublic), "{host}");
    }
    assert_eq!(canary.connections().await.unwrap(), 0);
}

#[test]
fn what_is_public_is_admitted() {
    let egress = egress(&Policy::default());
    for text in [
        "https://mcp.example.com",
        "https://mcp.example.com./mcp?x=y",
        "https://MCP.EXAMPLE.COM:8443/mcp",
        "https://bücher.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:8443/",
        "https://[::ffff:8.8.8.8]/",
        "https://metadata.example.com/",
        "https://localhost.example.com/",
        "https://mylocalhost/",
        "https://169.254.169.254.example.com/",
        "https://@example.com/",
    ] {
        assert_eq!(egress.admit(&text.parse().unwrap()), Ok(()), "{text}");
    }
}

#[test]
fn refusals_name_their_reason() {
    let egress = egress(&Policy::default());
    let table = [
        ("ftp://example.com/", Refusal::Scheme),
        ("http://example.com/", Refusal::PlainHttp),
        ("https://user@example.com/", Refusal::Credentials),
        ("https://example.com/#x", Refusal::Fragment),
        ("https://example.com:0/", Refusal::Port),
        ("https://./", Refusal::Host),
        ("https://10.0.0.1/", Refusal::NotPublic),
        ("http://10.0.0.1/", Refusal::NotPublic),
        ("https://localhost/", Refusal::NotPublic),
    ];
    for (text, refusal) in table {
        assert_eq!(egress.admit(&text.parse().unwrap()), Err(refusal), "{text}");
    }
    for refusal in [Refusal::PlainHttp, Refusal::NotPublic, Refusal::Own] {
        assert!(refusal.to_string().contains("`egress.allow`"), "{refusal}");
    }
}

#[test]
fn a_literal_is_admitted_if_and_only_if_it_is_public() {
    let egress = egress(&Policy::default());
    proptest!(ProptestConfig::with_cases(2048), |(four: u32, six: u128)| {
        for ip in [IpAddr::V4(Ipv4Addr::from_bits(four)), IpAddr::V6(Ipv6Addr::from_bits(six))] {
            let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
            let admitted = egress.admit(&format!("https://{host}/").parse().unwrap()).is_ok();
            prop_assert_eq!(admitted, is_public(ip), "{}", ip);
        }
    });
}
