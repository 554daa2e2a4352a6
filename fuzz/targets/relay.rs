//! Answers that the relay passes back: an HTTP response, as it is on the wire.
#![no_main]
#![expect(clippy::panic, reason = "it is how a target tells what it has found")]

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use connectors_application::ports::{RelayBody, RelayError, RelayResponse};
use connectors_egress::Body;
use connectors_mcp::McpConfig;
use connectors_mcp::fuzz::relayed;
use futures_util::{StreamExt as _, stream};
use http::Response;
use libfuzzer_sys::fuzz_target;
use tokio::runtime::{Builder, Runtime};

/// What may stand in a response beside its content type.
const PASSING: [&str; 5] = ["mcp-session-id", "mcp-protocol-version", "cache-control", "retry-after", "allow"];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| match Builder::new_current_thread().enable_time().build() {
    Ok(runtime) => runtime,
    Err(error) => panic!("{error}"),
});

static CONFIG: LazyLock<McpConfig> = LazyLock::new(|| McpConfig {
    probe_timeout: Duration::from_secs(1),
    body_idle_timeout: Duration::from_secs(1),
    stream_idle_timeout: None,
    client_name: String::new(),
    client_version: String::new(),
});

fuzz_target!(|wire: &[u8]| {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = head.parse(wire) else { return };
    let mut response = Response::builder().status(head.code.unwrap_or_default());
    for header in head.headers.iter() {
        response = response.header(header.name, header.value);
    }
    let content = Bytes::copy_from_slice(&wire[length..]);
    // Once of a length that is known, and once as it comes.
    let Ok(known) = response.body(Body::from(content.clone())) else { return };
    let (parts, body) = known.into_parts();
    let chunks: Vec<_> = content.chunks(16).map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk))).collect();
    for body in [body, Body::wrap_stream(stream::iter(chunks))] {
        RUNTIME.block_on(async {
            match relayed(Response::from_parts(parts.clone(), body), &CONFIG).await {
                Ok(passed) => check(passed, &content).await,
                Err(RelayError::Unauthorized { challenges }) => {
                    assert_eq!(parts.status, 401);
                    check_challenges(&challenges);
                }
                Err(RelayError::BadAnswer(_)) => {}
                Err(error) => panic!("an answer that is there is no {error:?}"),
            }
        });
    }
});

async fn check(passed: RelayResponse, content: &Bytes) {
    assert!(matches!(passed.status, 200..=299 | 400 | 402..=406 | 408..=599), "status {}", passed.status);
    assert!(passed.challenges.is_empty() || passed.status == 403);
    check_challenges(&passed.challenges);
    let (media, stream) = match passed.body {
        RelayBody::Json { stream, .. } => (Some("application/json"), Some(stream)),
        RelayBody::Events { stream } => (Some("text/event-stream"), Some(stream)),
        RelayBody::Withheld => {
            assert!(passed.status >= 400);
            (None, None)
        }
        RelayBody::Empty => (None, None),
    };
    let types: Vec<_> =
        passed.headers.iter().filter(|(name, _)| *name == "content-type").map(|(_, value)| value).collect();
    assert_eq!(types, Vec::from_iter(media), "the type is said once, and is that of the body");
    assert!(passed.headers.iter().all(|(name, _)| name == "content-type" || PASSING.contains(&name)));
    if let Some(mut stream) = stream {
        let mut whole = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let Ok(chunk) = chunk else { panic!("the body broke off") };
            whole.extend_from_slice(&chunk);
        }
        assert_eq!(whole, content, "a body is passed as it came");
    }
}

fn check_challenges(challenges: &[String]) {
    assert!(challenges.len() <= 8 && challenges.iter().all(|field| field.len() <= 4096));
}
