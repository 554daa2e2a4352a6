//! What the fuzz targets have in common. The targets themselves are in `targets/`, one file each.
//!
//! A target hands its input to the parsers of one kind, and asserts what holds of whatever they accept: that a panic is
//! not all that can be wrong is what makes it worth its time. `cargo xtask fuzz` builds and runs them.
#![cfg(feature = "fuzzing")]
#![expect(clippy::expect_used, reason = "a target that cannot be set up has to say so")]
#![expect(clippy::missing_panics_doc, reason = "a panic is how a target tells what it has found")]

use std::sync::LazyLock;

use connectors_domain::Scopes;
use connectors_egress::{Egress, Limits, Policy};
use url::{Host, Url};

/// What stands in seeds and dictionaries where a secret would: no error may repeat it.
pub const SECRET: &str = "hunter2";

/// A way out that may call this machine, as that of a service that listens on loopback.
pub static EGRESS: LazyLock<Egress> = LazyLock::new(|| {
    let policy = Policy { loopback: true, ..Policy::default() };
    Egress::new(&policy, &Limits::default(), None).expect("the way out can be built")
});

/// Asserts that a URL may be used as an address: it is bounded, and nothing in it leads elsewhere than it seems to.
#[track_caller]
pub fn assert_address(url: &Url) {
    assert!(matches!(url.scheme(), "http" | "https"), "its scheme is {}", url.scheme());
    assert!(url.has_host(), "it has no host");
    assert!(url.username().is_empty() && url.password().is_none(), "it has user info");
    assert!(url.fragment().is_none(), "it has a fragment");
    assert!(url.as_str().len() <= 2048, "it is too long");
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(url), "it is another URL when it is read again");
}

/// Whether a URL leads to this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Asserts that scopes which a server wrote may go into a request.
#[track_caller]
pub fn assert_scopes(scopes: &Scopes) {
    assert!(scopes.iter().count() <= 256, "there are too many");
    let text = scopes.to_string();
    assert!(text.len() <= 8 * 1024, "they are too long");
    // RFC 6749, appendix A.4.
    let plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    assert!(text.bytes().all(plain), "they are no scopes");
    assert_eq!(Scopes::parse(&text), *scopes, "they are others when they are read again");
}
