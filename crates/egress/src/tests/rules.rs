//! What the operator opens, exactly that far.

use std::net::{SocketAddr, UdpSocket};

use super::fixture::{OK, Server, Then, allow, egress, get, loopback, url};
use crate::{EgressError, OwnEndpoint, Policy, Refusal};

const OWN: EgressError = EgressError::Refused(Refusal::Own);
const NOT_PUBLIC: EgressError = EgressError::Refused(Refusal::NotPublic);

#[tokio::test]
async fn a_rule_with_a_port_opens_that_port_only() {
    let (open, closed) = (Server::canary().await, Server::canary().await);
    for rule in [
        format!("127.0.0.1:{}", open.port()),
        format!("127.0.0.0/8:{}", open.port()),
        format!("[::ffff:127.0.0.1]:{}", open.port()),
        format!("http://127.0.0.1:{}", open.port()),
        format!("localhost:{}", open.port()),
    ] {
        let egress = egress(&allow(&[&rule]));
        let host = if rule.starts_with("localhost") { "localhost" } else { "127.0.0.1" };
        let before = open.accepts();
        let response = egress.send(get(&format!("http://{host}:{}/", open.port()))).await.unwrap();
        assert_eq!(response.status(), 200, "{rule}");
        assert_eq!(open.accepts(), before + 1, "{rule}");

        let next = egress.send(get(&format!("http://{host}:{}/", closed.port()))).await.err();
        assert_eq!(next, Some(NOT_PUBLIC), "{rule}");
    }
    assert_eq!(closed.accepts(), 0);
}

#[tokio::test]
async fn a_rule_with_a_scheme_opens_that_scheme_only() {
    let server = Server::canary().await;
    let egress = egress(&allow(&[format!("https://127.0.0.1:{}", server.port())]));
    let plain = egress.send(get(&format!("http://127.0.0.1:{}/", server.port()))).await.err();
    assert_eq!(plain, Some(NOT_PUBLIC));
    assert_eq!(server.accepts(), 0);
    assert_eq!(egress.admit(&url(&format!("https://127.0.0.1:{}/", server.port()))), Ok(()));
}

#[test]
fn default_ports_are_ports() {
    let egress = egress(&allow(&["10.0.0.1:443", "http://10.0.0.2"]));
    assert_eq!(egress.admit(&url("https://10.0.0.1/")), Ok(()));
    assert_eq!(egress.admit(&url("https://10.0.0.1:443/")), Ok(()));
    assert_eq!(egress.admit(&url("http://10.0.0.1:443/")), Ok(()));
    assert_eq!(egress.admit(&url("http://10.0.0.1/")), Err(Refusal::NotPublic));
    assert_eq!(egress.admit(&url("http://10.0.0.2/")), Ok(()));
    assert_eq!(egress.admit(&url("https://10.0.0.2/")), Err(Refusal::NotPublic));
    assert_eq!(egress.admit(&url("http://10.0.0.2:8080/")), Err(Refusal::NotPublic));
}

#[test]
fn plain_http_needs_a_rule() {
    let by_name = egress(&allow(&["mcp.corp.example"]));
    assert_eq!(by_name.admit(&url("http://mcp.corp.example/")), Ok(()));
    assert_eq!(by_name.admit(&url("http://MCP.corp.example.:8080/")), Ok(()));
    assert_eq!(by_name.admit(&url("http://x.mcp.corp.example/")), Err(Refusal::PlainHttp));
    assert_eq!(by_name.admit(&url("http://corp.example/")), Err(Refusal::PlainHttp));

    // A name may turn out to be in the range; whether it is, its look-up will tell.
    let by_range = egress(&allow(&["10.0.0.0/8:8080"]));
    assert_eq!(by_range.admit(&url("http://mcp.corp.example:8080/")), Ok(()));
    assert_eq!(by_range.admit(&url("http://mcp.corp.example/")), Err(Refusal::PlainHttp));
    assert_eq!(by_range.admit(&url("http://8.8.8.8:8080/")), Err(Refusal::PlainHttp));

    let public = egress(&allow(&["8.8.8.0/24"]));
    assert_eq!(public.admit(&url("http://8.8.8.8/")), Ok(()));
}

#[test]
fn link_local_needs_the_switch_and_a_rule() {
    let metadata = ["http://169.254.169.254/", "https://[fe80::1]/", "http://metadata.google.internal/"];
    let rules = ["169.254.0.0/16", "fe80::/10", "metadata.google.internal"];
    let switch = |policy: Policy| Policy { link_local: true, ..policy };
    for text in metadata {
        assert!(egress(&allow(&rules)).admit(&url(text)).is_err(), "{text}");
        assert!(egress(&switch(Policy::default())).admit(&url(text)).is_err(), "{text}");
        assert_eq!(egress(&switch(allow(&rules))).admit(&url(text)), Ok(()), "{text}");
    }
}

#[tokio::test]
async fn own_endpoints_stay_closed_though_loopback_is_open() {
    let (own, other) = (Server::canary().await, Server::canary().await);
    let policies = [
        OwnEndpoint::listener(own.address),
        OwnEndpoint::listener(SocketAddr::new("0.0.0.0".parse().unwrap(), own.port())),
        OwnEndpoint::listener(SocketAddr::new("::".parse().unwrap(), own.port())),
        OwnEndpoint::backend("127.0.0.1", own.port()),
        OwnEndpoint::backend("::1", own.port()),
        OwnEndpoint::backend("localhost", own.port()),
    ]
    .map(|endpoint| Policy { own: vec![endpoint], ..loopback() });
    for policy in policies {
        // A rule does not help either.
        let with_rule = Policy { allow: allow(&["127.0.0.0/8", "localhost"]).allow, ..policy.clone() };
        for egress in [egress(&policy), egress(&with_rule)] {
            for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"] {
                let error = egress.send(get(&format!("http://{host}:{}/", own.port()))).await.err();
                assert_eq!(error, Some(OWN), "{host} {policy:?}");
            }
            assert_eq!(egress.send(get(&format!("http://127.0.0.1:{}/", other.port()))).await.unwrap().status(), 200);
        }
    }
    assert_eq!(own.accepts(), 0);
}

#[tokio::test]
async fn an_unspecified_listener_closes_the_addresses_of_the_interfaces() {
    let server = Server::on("0.0.0.0:0", OK, Then::Keep).await;
    // Sends nothing: it makes the kernel choose the interface and its address.
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    let mut hosts = vec!["127.0.0.1".to_owned(), "127.3.2.1".to_owned(), "[::1]".to_owned()];
    if probe.connect("192.0.2.1:9").is_ok() {
        hosts.push(probe.local_addr().unwrap().ip().to_string());
    }
    let everything = Policy {
        own: vec![OwnEndpoint::listener(server.address)],
        loopback: true,
        link_local: true,
        ..allow(&["0.0.0.0/0", "::/0"])
    };
    let egress = egress(&everything);
    for host in hosts {
        let error = egress.send(get(&format!("http://{host}:{}/", server.port()))).await.err();
        assert_eq!(error, Some(OWN), "{host}");
    }
    assert_eq!(server.accepts(), 0);
}

#[test]
fn the_public_url_of_the_service_is_refused_by_name() {
    let own = OwnEndpoint::public(&url("https://connectors.example/app")).unwrap();
    let egress = egress(&Policy { own: vec![own], ..allow(&["connectors.example"]) });
    assert_eq!(egress.admit(&url("https://connectors.example/mcp")), Err(Refusal::Own));
    assert_eq!(egress.admit(&url("https://Connectors.Example.:443/mcp")), Err(Refusal::Own));
    assert_eq!(egress.admit(&url("https://connectors.example:8443/mcp")), Ok(()));
    assert_eq!(egress.admit(&url("https://mcp.connectors.example/mcp")), Ok(()));
}

#[tokio::test]
async fn a_url_that_was_accepted_is_refused_under_the_next_policy() {
    let server = Server::canary().await;
    let text = format!("http://127.0.0.1:{}/", server.port());
    let before = egress(&allow(&["127.0.0.1"]));
    assert_eq!(before.send(get(&text)).await.unwrap().status(), 200);
    // The connection of the old one is alive, and of no use to the new one.
    let after = egress(&Policy::default());
    assert_eq!(after.send(get(&text)).await.err(), Some(NOT_PUBLIC));
    assert_eq!(server.accepts(), 1);
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn redirects_are_answers() {
    let canary = Server::canary().await;
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 0\r\n\r\n",
            canary.port()
        );
        let server = Server::answering(answer, Then::Keep).await;
        let response = egress(&loopback()).send(get(&format!("http://127.0.0.1:{}/", server.port()))).await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(server.accepts(), 1);
    }
    assert_eq!(canary.accepts(), 0);
}
