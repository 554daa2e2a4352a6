//! URLs that a user gives: of a server, and to go back to; and origins that an operator allows.
#![no_main]
#![expect(clippy::panic, reason = "it is how a target tells what it has found")]

use std::sync::LazyLock;

use connectors_domain::{RedirectOrigins, ServerUrl};
use connectors_fuzz::{assert_address, is_loopback};
use libfuzzer_sys::fuzz_target;
use url::{Origin, Url};

static LISTED: LazyLock<Vec<Origin>> = LazyLock::new(|| {
    let origins = ["https://app.example.com", "https://app.example.com:8443", "http://localhost:3000"];
    origins.iter().filter_map(|origin| RedirectOrigins::parse_origin(origin).ok()).collect()
});

fuzz_target!(|text: &str| {
    if let Ok(url) = ServerUrl::parse(text) {
        assert_address(url.as_url());
        assert_eq!(ServerUrl::parse(url.as_str()).as_ref(), Ok(&url));
        // The key is the URL of the same server, and has no other key.
        let key = ServerUrl::parse(&url.key()).map(|key| (key.as_url().origin(), key.key()));
        assert_eq!(key, Ok((url.as_url().origin(), url.key())));
    }

    for origins in [RedirectOrigins::Loopback, RedirectOrigins::Listed(LISTED.clone())] {
        let Ok(redirect) = origins.admit(text) else { continue };
        assert_eq!(redirect.as_str(), text, "it goes out as it came in");
        assert!(text.is_ascii() && !text.contains(|char: char| char.is_ascii_control() || char == '\\'));
        let url = Url::parse(text).map(|mut url| {
            url.set_fragment(None);
            url
        });
        let Ok(url) = url else { panic!("an admitted URL cannot be read") };
        assert!(matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.password().is_none());
        match &origins {
            RedirectOrigins::Loopback => assert!(is_loopback(&url)),
            RedirectOrigins::Listed(listed) => assert!(listed.contains(&url.origin())),
        }
    }

    if let Ok(origin) = RedirectOrigins::parse_origin(text) {
        let serialized = origin.ascii_serialization();
        assert_eq!(RedirectOrigins::parse_origin(&serialized), Ok(origin), "{serialized}");
    }
});
