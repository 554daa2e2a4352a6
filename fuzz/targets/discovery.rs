//! Documents in which servers say who authorizes for them, and authorization servers what they are.
#![no_main]
#![expect(clippy::panic, reason = "it is how a target tells what it has found")]

use std::sync::LazyLock;

use connectors_domain::ServerUrl;
use connectors_fuzz::{EGRESS, assert_address, assert_scopes};
use connectors_oauth::fuzz::{address, metadata, resource};
use libfuzzer_sys::fuzz_target;
use url::Url;

static SERVERS: LazyLock<Vec<ServerUrl>> = LazyLock::new(|| {
    let servers =
        ["https://mcp.example.com/team/mcp", "https://mcp.example.com/?tenant=1", "http://127.0.0.1:9101/mcp"];
    servers.iter().filter_map(|url| ServerUrl::parse(url).ok()).collect()
});

fuzz_target!(|body: &[u8]| {
    for server in SERVERS.iter() {
        let Some((resource, issuers, scopes)) = resource(&EGRESS, body, server) else { continue };
        let Ok(named) = Url::parse(&resource) else { panic!("the resource is no URL") };
        assert_address(&named);
        assert_eq!(named.origin(), server.as_url().origin(), "a resource of somebody else");
        assert!(server.as_url().path().starts_with(named.path().trim_end_matches('/')), "no parent of the server");
        assert!(issuers.len() <= 4);
        for issuer in &issuers {
            let Some(url) = address(&EGRESS, issuer) else { panic!("an issuer is no address") };
            assert_address(&url);
            assert!(url.query().is_none());
        }
        assert_scopes(&scopes);
    }

    let accepted = ["https://as.example.com".to_owned(), "https://as.example.com/".to_owned()];
    if let Some((issuer, endpoints, scopes)) = metadata(&EGRESS, body, &accepted) {
        assert!(accepted.iter().any(|accepted| accepted == issuer.as_str()), "an issuer that was not asked");
        assert!((2..=4).contains(&endpoints.len()));
        endpoints.iter().for_each(assert_address);
        assert_scopes(&scopes);
    }
});
