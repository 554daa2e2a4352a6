//! Every way to write an address that must not be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;
use url::Url;

use super::fixture::{Server, allow, egress, get, loopback};
use crate::{Egress, EgressError, Limits, Policy, Refusal, is_public};

/// One address or more of every range that is not public.
const INSIDE: &[&str] = &[
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.254",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.254",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "192.168.255.254",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
];

/// The spellings of one IPv4 address, as the host of a URL.
fn spellings(ip: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let bits = ip.to_bits();
    let (low16, low24) = (bits & 0xffff, bits & 0xff_ffff);
    let dotted = ip.to_string();
    let (high, low) = (bits >> 16, low16);
    vec![
        dotted.clone(),
        format!("{dotted}."),
        bits.to_string(),
        format!("{bits}."),
        format!("{bits:#x}"),
        format!("{bits:#X}").replace("0X", "0x000000"),
        format!("0{bits:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.{b:#x}.{c}.{d}"),
        format!("{a}.{b}.{low16}"),
        format!("{a}.{low24}"),
        format!("{a:#x}.{low24:#x}"),
        dotted.chars().map(full_width).collect(),
        dotted.replace('.', "。"),
        dotted.replace('.', "%2e"),
        dotted.chars().flat_map(escaped).collect(),
        dotted.chars().map(circled).collect(),
        format!("{}\t{}", &dotted[..2], &dotted[2..]),
        format!("{}\n{}", &dotted[..2], &dotted[2..]),
        format!("{}\u{ad}{}", &dotted[..2], &dotted[2..]),
        format!("[::ffff:{dotted}]"),
        format!("[::FFFF:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:ffff:{high:04x}:{low:04x}]"),
        format!("[::{dotted}]"),
        format!("[::ffff:0:{dotted}]"),
        format!("[64:ff9b::{dotted}]"),
        format!("[64:ff9b::{high:x}:{low:x}]"),
        format!("[64:ff9b:1::{dotted}]"),
        format!("[64:ff9b:1:{a:02x}{b:02x}:{c:x}:{d:02x}00::]"),
        format!("[2002:{high:x}:{low:x}::]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:4136:e378:8000:63bf:{:x}:{:x}]", high ^ 0xffff, low ^ 0xffff),
        format!("[2001::{dotted}]"),
        format!("user@{dotted}"),
        format!("user:password@{dotted}"),
        format!("example.com@{dotted}"),
        format!("example.com%40{dotted}"),
        format!("example.com:443@{dotted}"),
        format!("{dotted}%00.example.com"),
        format!("{dotted}%20"),
    ]
}

fn full_width(digit: char) -> char {
    match digit {
        '0'..='9' => char::from_u32(digit as u32 - '0' as u32 + '０' as u32).unwrap(),
        _ => '．',
    }
}

fn escaped(digit: char) -> Vec<char> {
    format!("%{:02x}", digit as u32).chars().collect()
}

fn circled(digit: char) -> char {
    match digit {
        '0' => '⓪',
        '1'..='9' => char::from_u32(digit as u32 - '1' as u32 + '①' as u32).unwrap(),
        other => other,
    }
}

/// Whole URLs; `PORT` is the canary's.
const WRITTEN_OUT: &[&str] = &[
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://localhost..:PORT/",
    "https://localhost:PORT/",
    "https://a.localhost:PORT/",
    "https://a.b.localhost.:PORT/",
    "http://ｌｏｃａｌｈｏｓｔ:PORT/",
    "https://ｌｏｃａｌｈｏｓｔ:PORT/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/",
    "https://local%68ost:PORT/",
    "https://loc\talhost:PORT/",
    "https://localhost。:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://0:PORT/",
    "http://0x:PORT/",
    "http://00000000000:PORT/",
    "https://0x7f.1:PORT/",
    "https://0X7F.0x0.00.1:PORT/",
    "http:\\\\127.0.0.1:PORT\\",
    "http:/\\127.0.0.1:PORT/",
    "https:\\/127.0.0.1:PORT/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "http:////127.0.0.1:PORT/",
    "https:///127.0.0.1:PORT/",
    "  http://127.0.0.1:PORT/  ",
    "\u{0}http://127.0.0.1:PORT/",
    "ht\ntp://127.0.0.1:PORT/",
    "HTTP://127.0.0.1:PORT/",
    "HtTpS://127.0.0.1:PORT/",
    "http://127.0.0.1\\@example.com:PORT/",
    "http://example.com\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@example.com/",
    "http://127.0.0.1:PORT#@example.com/",
    "http://example.com#@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT?@example.com/",
    "https://127.0.0.1:PORT#",
    "https://127.0.0.1:PORT/#fragment",
    "https://user@example.com:PORT/",
    "https://user:@example.com:PORT/",
    "https://:password@example.com:PORT/",
    "https://example.com/#fragment",
    "https://example.com/#",
    "https://example.com:0/",
    "https://127.0.0.1:0/",
    "https://example.com:65536/",
    "https://example.com:-1/",
    "https://example.com:PORT:PORT/",
    "https://./",
    "https://../",
    "https://",
    "https://:PORT/",
    "https://%00/",
    "https://%2f127.0.0.1/",
    "https://[::1]:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]:PORT/",
    "http://[::0.0.0.1]:PORT/",
    "http://[::]:PORT/",
    "http://[::1%25lo]:PORT/",
    "http://[::1%lo]:PORT/",
    "http://[fe80::1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::a9fe:a9fe]/",
    "https://[febf:ffff::1]/",
    "https://[fec0::1]/",
    "https://[feff::1]/",
    "https://[fc00::1]/",
    "https://[fd00::1]/",
    "https://[fd00:ec2::254]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "https://[fd20:ce::254]/",
    "https://[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]/",
    "https://[ff02::1]/",
    "https://[ff0e::1]/",
    "https://[100::1]/",
    "https://[100:0:0:1::1]/",
    "https://[2001:db8::1]/",
    "https://[2001:2::1]/",
    "https://[2001:10::1]/",
    "https://[2001:20::1]/",
    "https://[2001:1ff::1]/",
    "https://[3fff::1]/",
    "https://[3fff:fff::1]/",
    "https://[5f00::1]/",
    "https://[4000::1]/",
    "https://[8000::1]/",
    "https://[1::1]/",
    "https://[::ffff:127.1]/",
    "https://[::ffff:0x7f000001]/",
    "https://[127.0.0.1]/",
    "https://[v1.127.0.0.1]/",
    "https://metadata/",
    "http://metadata/computeMetadata/v1/",
    "https://metadata./",
    "https://METADATA/",
    "https://metadata.google.internal/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "https://metadata.google.internal./",
    "https://Metadata.Google.Internal/",
    "https://metadata.azure.internal/",
    "https://instance-data.ec2.internal/",
    "https://instance-data.ec2.internal../",
    "http://169.254.169.254/latest/meta-data/",
    "http://mcp.example.com/",
    "http://mcp.example.com:443/",
    "http://mcp.example.com:PORT/mcp",
    "http://8.8.8.8/",
    "http://8.8.8.8:443/",
    "http://[2606:4700::1111]/",
    "http://[::ffff:8.8.8.8]/",
    "https://[::8.8.8.8]/",
    "https://[64:ff9b::8.8.8.8]/",
    "https://[2002:808:808::]/",
    "ftp://127.0.0.1:PORT/",
    "ws://127.0.0.1:PORT/",
    "wss://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/_x",
    "data:text/plain,x",
    "javascript:alert(1)",
    "unix:/var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "blob:https://127.0.0.1:PORT/x",
    "about:blank",
    "jar:http://127.0.0.1:PORT/!/",
    "netdoc:///etc/passwd",
    "mailto:root@localhost",
];

fn table(port: u16) -> Vec<String> {
    let mut table: Vec<String> = WRITTEN_OUT.iter().map(|url| url.replace("PORT", &port.to_string())).collect();
    for ip in INSIDE {
        for host in spellings(ip.parse().unwrap()) {
            table.push(format!("http://{host}:{port}/mcp"));
            table.push(format!("https://{host}:{port}/mcp"));
            table.push(format!("http://{host}/latest/meta-data/"));
        }
    }
    table
}

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
    let canary = Server::canary().await;
    let table = table(canary.port());
    assert!(table.len() >= 300, "{}", table.len());
    let readable = table.iter().filter(|text| text.parse::<Url>().is_ok()).count();
    assert!(readable >= 300, "a table of URLs that cannot be read would show nothing: {readable}");

    all_refused(&egress(&Policy::default()), &table).await;
    assert_eq!(canary.accepts(), 0);

    // The canary is alive, and the same spelling does reach it once that is permitted.
    let reached = egress(&loopback()).send(get(&format!("http://0x7f.1:{}/", canary.port()))).await.unwrap();
    assert_eq!(reached.status(), 200);
    assert_eq!(canary.accepts(), 1);
}

#[tokio::test]
async fn the_loopback_switch_opens_nothing_but_loopback() {
    let egress = egress(&loopback());
    for ip in INSIDE.iter().filter(|ip| !ip.starts_with("127.")) {
        for host in spellings(ip.parse().unwrap()) {
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
    let canary = Server::canary().await;
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
    assert_eq!(canary.accepts(), 0);
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
