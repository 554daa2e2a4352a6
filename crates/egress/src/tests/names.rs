//! Names, and DNS servers that lie.

use std::sync::Arc;
use std::time::Duration;

use connectors_testkit::spellings::INSIDE;
use reqwest::dns::Resolve;

use super::fixture::{Names, OK, Server, Then, allow, get, loopback};
use crate::gate::{Class, Gate};
use crate::resolver::{Answer, GuardedResolver, Lookup};
use crate::{Egress, EgressError, Limits, OwnEndpoint, Phase, Policy, Refusal};

const NOT_PUBLIC: EgressError = EgressError::Refused(Refusal::NotPublic);
const SECURE: Class = Class { plain: false, port: None };

/// What the resolver behind the gate for `https` hands out.
async fn resolve(policy: &Policy, names: &Arc<Names>, name: &str) -> Result<Vec<String>, Option<Refusal>> {
    let resolver = GuardedResolver::new(Arc::new(Gate::new(policy, SECURE)), names.lookup());
    match resolver.resolve(name.parse().unwrap()).await {
        Ok(addresses) => Ok(addresses.map(|address| address.to_string()).collect()),
        Err(error) => Err(error.downcast_ref().copied()),
    }
}

#[tokio::test]
async fn only_judged_addresses_are_handed_out() {
    let names = Names::new([
        ("public.test", &[&["8.8.8.8", "[2606:4700::1111]:53"]]),
        ("mapped.test", &[&["::ffff:8.8.8.8"]]),
        ("rebind.test", &[&["8.8.8.8"], &["10.0.0.1"]]),
        ("mixed.test", &[&["8.8.8.8", "127.0.0.1"]]),
        ("mixed6.test", &[&["2606:4700::1111", "::1"]]),
        ("last.test", &[&["8.8.8.8", "8.8.4.4", "1.1.1.1", "169.254.169.254"]]),
        ("v6map.test", &[&["::ffff:127.0.0.1"]]),
        ("nat64.test", &[&["64:ff9b::a9fe:a9fe"]]),
        ("nat64public.test", &[&["64:ff9b::808:808"]]),
        ("six.test", &[&["2002:7f00:1::"]]),
        ("teredo.test", &[&["2001:0:4136:e378:8000:63bf:80ff:fffe"]]),
        ("zone.test", &[&["[2606:4700::1111%2]:0"]]),
        ("ula.test", &[&["fd00::1"]]),
        ("unspecified.test", &[&["0.0.0.0"]]),
        ("empty.test", &[&[]]),
    ]);
    let policy = Policy::default();
    // Port 0 is where the client puts the port of the URL, so a port in the answer never counts.
    let public = vec!["8.8.8.8:0".to_owned(), "[2606:4700::1111]:0".to_owned()];
    assert_eq!(resolve(&policy, &names, "public.test").await, Ok(public));
    assert_eq!(resolve(&policy, &names, "mapped.test").await, Ok(vec!["8.8.8.8:0".to_owned()]));
    assert!(resolve(&policy, &names, "rebind.test").await.is_ok());
    assert_eq!(resolve(&policy, &names, "rebind.test").await, Err(Some(Refusal::NotPublic)));
    for name in [
        "mixed.test",
        "mixed6.test",
        "last.test",
        "v6map.test",
        "nat64.test",
        "nat64public.test",
        "six.test",
        "teredo.test",
        "zone.test",
        "ula.test",
        "unspecified.test",
    ] {
        assert_eq!(resolve(&policy, &names, name).await, Err(Some(Refusal::NotPublic)), "{name}");
        // Nor does loopback being open help: none of these is loopback alone.
        let expected = if name == "v6map.test" {
            Ok(vec!["127.0.0.1:0".to_owned()])
        } else {
            resolve(&policy, &names, name).await
        };
        if !name.starts_with("mixed") {
            assert_eq!(resolve(&loopback(), &names, name).await, expected, "{name}");
        }
    }
    assert_eq!(resolve(&policy, &names, "empty.test").await, Err(None));
    assert_eq!(resolve(&policy, &names, "missing.test").await, Err(None));
    // A network without IPv4 opens the prefix of its translator, and only what is public behind it.
    let nat64 = allow(&["64:ff9b::/96"]);
    assert!(resolve(&nat64, &names, "nat64public.test").await.is_ok());
    assert_eq!(resolve(&nat64, &names, "nat64.test").await, Err(Some(Refusal::NotPublic)));
}

#[tokio::test]
async fn a_name_that_is_rebound_is_refused_at_the_next_dial() {
    // Two addresses of this machine with one port: what the rule permits, and what it does not.
    let once = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 6\r\n\r\nwanted";
    let permitted = Server::on("127.0.0.2:0", once, Then::Close).await;
    let canary = Server::on(&format!("127.0.0.1:{}", permitted.port()), OK, Then::Keep).await;
    let names = Names::new([("rebind.test", &[&["127.0.0.2"], &["127.0.0.1"]])]);
    let egress = names.egress(&allow(&["127.0.0.2"]));
    let text = format!("http://rebind.test:{}/", permitted.port());

    let first = egress.send(get(&text)).await.unwrap();
    assert_eq!(first.text().await.unwrap(), "wanted");
    assert_eq!(names.asked("rebind.test"), 1, "one look-up decides and dials");
    assert_eq!(egress.send(get(&text)).await.unwrap_err(), NOT_PUBLIC);
    assert_eq!(names.asked("rebind.test"), 2);
    assert_eq!((permitted.accepts(), canary.accepts()), (1, 0));
}

#[tokio::test]
async fn a_kept_connection_goes_where_it_was_permitted_to_go() {
    let permitted = Server::on("127.0.0.2:0", OK, Then::Keep).await;
    let canary = Server::on(&format!("127.0.0.1:{}", permitted.port()), OK, Then::Keep).await;
    let names = Names::new([("rebind.test", &[&["127.0.0.2"], &["127.0.0.1"]]), ("other.test", &[&["127.0.0.2"]])]);
    let egress = names.egress(&allow(&["127.0.0.2"]));
    for _ in 0..3 {
        let response = egress.send(get(&format!("http://rebind.test:{}/", permitted.port()))).await.unwrap();
        assert_eq!(response.text().await.unwrap(), "wanted");
    }
    assert_eq!((permitted.accepts(), canary.accepts(), names.asked("rebind.test")), (1, 0, 1));
    // Another name at the same address has to earn a connection of its own.
    egress.send(get(&format!("http://other.test:{}/", permitted.port()))).await.unwrap();
    assert_eq!((permitted.accepts(), names.asked("other.test")), (2, 1));
}

#[tokio::test]
async fn no_name_leads_inside_whatever_form_of_address_it_resolves_to() {
    for ip in INSIDE {
        let [high, low] = [ip.to_bits() >> 16, ip.to_bits() & 0xffff];
        for answer in [
            ip.to_string(),
            format!("::ffff:{ip}"),
            format!("::{ip}"),
            format!("::ffff:0:{ip}"),
            format!("64:ff9b::{ip}"),
            format!("64:ff9b:1::{ip}"),
            format!("2002:{high:x}:{low:x}::1"),
            format!("2001:0:4136:e378:8000:63bf:{:x}:{:x}", high ^ 0xffff, low ^ 0xffff),
            format!("fe80::5efe:{ip}"),
        ] {
            let names = Names::new([("inside.test", &[&[answer.as_str()]])]);
            let resolved = resolve(&Policy::default(), &names, "inside.test").await;
            assert_eq!(resolved, Err(Some(Refusal::NotPublic)), "{answer}");
        }
    }
}

#[tokio::test]
async fn answers_that_mix_are_not_dialled_at_all() {
    let server = Server::on("127.0.0.2:0", OK, Then::Keep).await;
    let canary = Server::on(&format!("127.0.0.1:{}", server.port()), OK, Then::Keep).await;
    let names = Names::new([
        ("mixed.test", &[&["127.0.0.2", "127.0.0.1"]]),
        ("reversed.test", &[&["127.0.0.1", "127.0.0.2"]]),
        ("families.test", &[&["::1", "127.0.0.2"]]),
    ]);
    let egress = names.egress(&allow(&["127.0.0.2"]));
    for name in ["mixed.test", "reversed.test", "families.test"] {
        let error = egress.send(get(&format!("http://{name}:{}/", server.port()))).await.unwrap_err();
        assert_eq!(error, NOT_PUBLIC, "{name}");
        assert!(!error.may_have_been_sent());
    }
    assert_eq!((server.accepts(), canary.accepts()), (0, 0));
}

#[tokio::test]
async fn a_rule_for_a_name_opens_that_name_at_that_port() {
    let (open, closed) = (Server::canary().await, Server::canary().await);
    let address: &[&[&str]] = &[&["127.0.0.1"]];
    let names = Names::new([("mcp.corp.test", address), ("other.corp.test", address)]);
    let egress = names.egress(&allow(&[format!("mcp.corp.test:{}", open.port()), "10.0.0.0/8".to_owned()]));

    let response = egress.send(get(&format!("http://mcp.corp.test:{}/", open.port()))).await.unwrap();
    assert_eq!(response.status(), 200);
    for text in [
        format!("http://mcp.corp.test:{}/", closed.port()),
        format!("https://mcp.corp.test:{}/", closed.port()),
        format!("http://other.corp.test:{}/", open.port()),
        format!("https://other.corp.test:{}/", open.port()),
        format!("http://127.0.0.1:{}/", open.port()),
    ] {
        assert_eq!(egress.send(get(&text)).await.unwrap_err(), NOT_PUBLIC, "{text}");
    }
    assert_eq!((open.accepts(), closed.accepts()), (1, 0));
}

#[tokio::test]
async fn a_rule_for_a_name_opens_neither_metadata_nor_the_service() {
    let own = Server::canary().await;
    let names = Names::new([
        ("mcp.corp.test", &[&["169.254.169.254"], &["127.0.0.1"]]),
        ("zone.corp.test", &[&["[fd00::1%2]:0"]]),
    ]);
    let policy =
        Policy { own: vec![OwnEndpoint::listener(own.address)], ..allow(&["mcp.corp.test", "zone.corp.test"]) };
    let egress = names.egress(&policy);
    let text = format!("http://mcp.corp.test:{}/", own.port());
    assert_eq!(egress.send(get(&text)).await.unwrap_err(), NOT_PUBLIC);
    assert_eq!(egress.send(get(&text)).await.unwrap_err(), EgressError::Refused(Refusal::Own));
    assert_eq!(egress.send(get("http://zone.corp.test/")).await.unwrap_err(), NOT_PUBLIC);
    assert_eq!(own.accepts(), 0);
}

#[tokio::test]
async fn plain_http_to_a_name_needs_every_address_to_be_listed() {
    let names = Names::new([("public.test", &[&["8.8.8.8"]]), ("half.test", &[&["10.0.0.1", "8.8.8.8"]])]);
    // The range lets the name pass until its addresses are known.
    let egress = names.egress(&allow(&["10.0.0.0/8"]));
    for name in ["public.test", "half.test"] {
        let error = egress.send(get(&format!("http://{name}/"))).await.unwrap_err();
        assert_eq!(error, EgressError::Refused(Refusal::PlainHttp), "{name}");
    }
}

#[tokio::test]
async fn a_backend_is_recognised_by_name_and_by_address() {
    let backend = Server::on("127.0.0.2:0", OK, Then::Keep).await;
    let port = backend.port();
    let names = Names::new([
        ("db.test", &[&["127.0.0.2"]]),
        ("alias.test", &[&["127.0.0.2"]]),
        ("elsewhere.test", &[&["127.0.0.3"]]),
        ("empty.test", &[&[]]),
    ]);
    let elsewhere = Server::on(&format!("127.0.0.3:{port}"), OK, Then::Keep).await;
    let policy = |host| Policy { own: vec![OwnEndpoint::backend(host, port)], ..allow(&["127.0.0.0/8"]) };

    let egress = names.egress(&policy("db.test"));
    for host in ["db.test", "DB.test.", "alias.test", "127.0.0.2", "[::ffff:127.0.0.2]"] {
        let error = egress.send(get(&format!("http://{host}:{port}/"))).await.unwrap_err();
        assert_eq!(error, EgressError::Refused(Refusal::Own), "{host}");
    }
    for host in ["elsewhere.test", "127.0.0.3"] {
        assert_eq!(egress.send(get(&format!("http://{host}:{port}/"))).await.unwrap().status(), 200, "{host}");
    }
    assert_eq!((backend.accepts(), elsewhere.accepts()), (0, 2));

    // Unless it can be looked up, any address may be it.
    for unknown in ["gone.test", "empty.test"] {
        let blind = names.egress(&policy(unknown));
        for host in ["elsewhere.test", "127.0.0.3"] {
            let error = blind.send(get(&format!("http://{host}:{port}/"))).await.unwrap_err();
            assert_eq!(error, EgressError::Refused(Refusal::Own), "{unknown} {host}");
        }
    }
    assert_eq!(elsewhere.accepts(), 2);
}

#[tokio::test]
async fn the_resolver_of_the_system_is_guarded_too() {
    let canary = Server::canary().await;
    let names_of_this_machine = ["localhost", "ip6-localhost", "localhost.localdomain"];
    let policy = allow(&["10.0.0.0/8"]);
    let egress = Egress::new(&policy, &Limits::default(), None).unwrap();
    for name in names_of_this_machine {
        let error = egress.send(get(&format!("https://{name}:{}/", canary.port()))).await.unwrap_err();
        assert!(matches!(error, NOT_PUBLIC | EgressError::Unreachable { .. }), "{name}: {error}");
    }
    assert_eq!(canary.accepts(), 0);

    let open = Egress::new(&loopback(), &Limits::default(), None).unwrap();
    let reached = open.send(get(&format!("http://localhost:{}/", canary.port()))).await.unwrap();
    assert_eq!(reached.status(), 200);
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_unreachable_and_says_nothing_of_the_server_that_was_asked() {
    let names = Names::new([("empty.test", &[&[]])]);
    let egress = names.egress(&Policy::default());
    for name in ["missing.test", "empty.test"] {
        let error = egress.send(get(&format!("https://{name}/"))).await.unwrap_err();
        assert_eq!(error, EgressError::Unreachable { reason: "its name cannot be resolved" });
        assert!(!format!("{error} {error:?}").contains("10.53.53.53"));
    }
}

#[tokio::test]
async fn a_refusal_does_not_tell_what_a_name_resolved_to() {
    let names = Names::new([("probe.test", &[&["10.20.30.40"]])]);
    let error = names.egress(&Policy::default()).send(get("https://probe.test/")).await.unwrap_err();
    assert_eq!(error, NOT_PUBLIC);
    assert!(!format!("{error} {error:?}").contains("10.20"));
}

#[tokio::test]
async fn a_slow_look_up_counts_as_connecting() {
    let never: Lookup = Arc::new(|_| -> Answer { Box::pin(std::future::pending()) });
    let limits = Limits { connect: Duration::from_millis(50), ..Limits::default() };
    let egress = Egress::with_lookup(&Policy::default(), &limits, None, never).unwrap();
    let error = egress.send(get("https://slow.test/")).await.unwrap_err();
    assert_eq!(error, EgressError::TimedOut(Phase::Connect));
    assert!(!error.may_have_been_sent());
}
