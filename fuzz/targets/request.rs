//! The head of a request, as it is on the wire: `Host`, `Origin`, the parameters of a list, what a browser brings back.
#![no_main]
#![expect(clippy::panic, reason = "it is how a target tells what it has found")]

use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_api::ApiConfig;
use connectors_api::fuzz::{admits, callback, list, location};
use connectors_domain::{DisconnectReason, RedirectOrigins};
use connectors_fuzz::SECRET;
use http::{HeaderName, HeaderValue, Uri};
use libfuzzer_sys::fuzz_target;
use url::{Url, form_urlencoded};

static CONFIG: LazyLock<ApiConfig> = LazyLock::new(|| {
    let Ok(public_url) = Url::parse("https://connectors.example.com") else { panic!("it is a URL") };
    ApiConfig {
        authorization_servers: Vec::new(),
        session_lifetime: Duration::from_hours(12),
        public_url,
        allowed_hosts: vec!["internal.example".to_owned(), "[fd00::1]".to_owned()],
        allowed_origins: vec!["https://inspector.example.com".to_owned()],
        allow_loopback_hosts: true,
        api_body_limit: 0,
        relay_body_limit: 0,
        body_timeout: Duration::ZERO,
        head_timeout: Duration::ZERO,
        event_keep_alive: Duration::ZERO,
        workers: 1,
        max_connections_per_worker: 1,
        shutdown_timeout: Duration::ZERO,
        client_metadata: None,
        instance: [0; 4],
    }
});

const HOSTS: [&str; 6] = ["connectors.example.com", "internal.example", "[fd00::1]", "localhost", "127.0.0.1", "[::1]"];

fuzz_target!(|wire: &[u8]| {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(_)) = head.parse(wire) else { return };
    check_guard(head.headers);
    let Some(target) = head.path.and_then(|path| path.parse::<Uri>().ok()) else { return };
    let query = target.query().unwrap_or_default();

    match list(query) {
        Ok(asked) => {
            assert!((1..=1000).contains(&asked.limit));
            if let Some(after) = asked.after {
                let token = URL_SAFE_NO_PAD.encode(after.as_uuid().as_bytes());
                assert!(list(&format!("page_token={token}")).is_ok_and(|again| again.after == asked.after));
            }
        }
        Err(told) => assert!(!told.contains(SECRET), "{told}"),
    }

    if let Some(brought) = callback(path(&target)) {
        // Read in another way: no parameter that counts stands there twice.
        let given = |name: &str| {
            let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(other, _)| other == name);
            let value = values.next().map(|(_, value)| value.into_owned());
            assert!(values.next().is_none(), "{name} stands there twice");
            value
        };
        assert_eq!(Some(brought.state), given("state"));
        assert_eq!([brought.code, brought.iss, brought.error], ["code", "iss", "error"].map(given));
    }

    let origins = RedirectOrigins::parse_origin("https://app.example.com").into_iter().collect();
    if let Ok(redirect) = RedirectOrigins::Listed(origins).admit(&format!("https://app.example.com{}", path(&target))) {
        for failure in [None, Some(&DisconnectReason::authorization_expired())] {
            let sent = location(&redirect, failure);
            let origin = sent.and_then(|sent| Url::parse(&sent).ok()).map(|sent| sent.origin().ascii_serialization());
            assert_eq!(origin.as_deref(), Some("https://app.example.com"));
        }
    }
});

fn path(target: &Uri) -> &str {
    target.path_and_query().map_or("/", |path| path.as_str())
}

/// What is let in names one host that is known, and no origin, or one that is known.
fn check_guard(headers: &[httparse::Header<'_>]) {
    let headers: Vec<_> = headers
        .iter()
        .filter_map(|header| {
            Some((header.name.parse::<HeaderName>().ok()?, HeaderValue::from_bytes(header.value).ok()?))
        })
        .collect();
    if !admits(&CONFIG, headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))) {
        return;
    }
    let all = |name: &str| -> Vec<&str> {
        headers.iter().filter(|(other, _)| other == name).filter_map(|(_, value)| value.to_str().ok()).collect()
    };
    let [host] = all("host")[..] else { panic!("not one host") };
    // A port that is no number of 16 bits makes no URL, and no browser sends it.
    if let Ok(url) = Url::parse(&format!("http://{host}/")) {
        assert!(url.host_str().is_some_and(|host| HOSTS.contains(&host)), "{host}");
        assert!(url.username().is_empty() && url.password().is_none() && url.path() == "/");
    }
    match all("origin")[..] {
        [] => {}
        [origin] => {
            let own = [format!("http://{host}"), format!("https://{host}")];
            let listed = ["https://connectors.example.com", "https://inspector.example.com"];
            assert!(listed.contains(&origin) || own.iter().any(|own| own.eq_ignore_ascii_case(origin)), "{origin}");
        }
        _ => panic!("several origins"),
    }
}
