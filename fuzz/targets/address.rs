//! Whether a URL may be called: the URL is the first line, and rules that the operator allows are the others.
#![no_main]

use std::net::IpAddr;

use connectors_domain::ServerUrl;
use connectors_egress::fuzz::admits;
use connectors_egress::{AllowRule, OwnEndpoint, Policy, is_public};
use libfuzzer_sys::fuzz_target;
use url::{Host, Url};

fuzz_target!(|text: &str| {
    let mut lines = text.lines();
    let url = lines.next().and_then(|line| Url::parse(line).ok());
    let allow: Vec<AllowRule> = lines.take(8).filter_map(rule).collect();
    let Some(url) = url else { return };

    let strict = Policy::default();
    let listed = Policy { allow, ..Policy::default() };
    if admits(&strict, &url) {
        assert!(url.scheme() == "https" && ServerUrl::parse(url.as_str()).is_ok_and(|known| *known.as_url() == url));
        assert!(address(&url).is_none_or(is_public), "an address that is not public");
        assert!(url.domain().is_none_or(|name| !is_local(name)), "this machine by name");
        assert!(admits(&listed, &url), "a rule that closes");
    }
    if admits(&listed, &url) {
        assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none());
        assert!(address(&url).is_none_or(|ip| !is_link_local(ip)), "a metadata service");
    }
    for loopback in [false, true] {
        let open = Policy { loopback, link_local: true, ..listed.clone() };
        assert!(admits(&open, &url) || !admits(&listed, &url), "a switch that closes");
        let own = OwnEndpoint::public(&url).into_iter().collect();
        assert!(!admits(&Policy { own, ..open }, &url), "the service itself");
    }
});

/// A rule, which is the same one when it is written and read again.
fn rule(line: &str) -> Option<AllowRule> {
    let rule: AllowRule = line.parse().ok()?;
    let written = rule.to_string();
    assert_eq!(written.parse().as_ref(), Ok(&rule), "{written}");
    assert!(!written.contains(['@', '*', '?', '#', '%']) && written.len() <= 300);
    Some(rule)
}

/// The address that is dialled, if the URL has one.
fn address(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        Host::Domain(_) => None,
    }
}

fn is_local(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name.is_empty() || name == "localhost" || name.ends_with(".localhost")
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
