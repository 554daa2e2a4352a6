//! What comes back: sizes, codings, slowness and noise.

use std::time::Duration;

use http::header::{ACCEPT_ENCODING, HOST};
use http::{HeaderValue, Version};

use super::fixture::{OK, Server, Then, egress, get, loopback};
use crate::{Egress, EgressError, FetchLimits, Limits, Phase};

async fn fetch(answer: impl Into<Vec<u8>>, then: Then, limits: FetchLimits) -> Result<Vec<u8>, EgressError> {
    let server = Server::answering(answer, then).await;
    let text = format!("http://127.0.0.1:{}/", server.port());
    egress(&loopback()).fetch(get(&text), limits).await.map(|document| document.into_body().to_vec())
}

fn bytes(limit: usize) -> FetchLimits {
    FetchLimits { bytes: limit, ..FetchLimits::default() }
}

#[tokio::test]
async fn a_document_comes_whole() {
    let server = Server::answering("HTTP/1.1 404 No\r\nx-a: b\r\ncontent-length: 4\r\n\r\nnone", Then::Keep).await;
    let mut request = get(&format!("http://127.0.0.1:{}/a?b=c", server.port()));
    request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, br"));
    request.headers_mut().insert(HOST, HeaderValue::from_static("elsewhere.example"));
    let document = egress(&loopback()).fetch(request, FetchLimits::default()).await.unwrap();
    assert_eq!(document.status(), 404);
    assert_eq!(document.version(), Version::HTTP_11);
    assert_eq!(document.headers()["x-a"], "b");
    assert_eq!(document.body(), "none");

    let head = server.heads().concat();
    assert!(head.starts_with("get /a?b=c http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\naccept-encoding: identity\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: 127.0.0.1:{}\r\n", server.port())), "{head}");
    assert!(head.contains("\r\nuser-agent: connectors/"), "{head}");
    for absent in ["gzip", "elsewhere", "cookie", "referer", "origin", "proxy-"] {
        assert!(!head.contains(absent), "{absent}: {head}");
    }
}

#[tokio::test]
async fn the_limit_is_exact() {
    let body = "x".repeat(1000);
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{body}");
    let until_closed = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}");
    let (one, two) = body.split_at(400);
    let chunked =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n190\r\n{one}\r\n258\r\n{two}\r\n0\r\n\r\n");
    for answer in [announced, until_closed, chunked] {
        assert_eq!(fetch(answer.as_str(), Then::Close, bytes(1000)).await, Ok(body.clone().into_bytes()), "{answer}");
        let over = fetch(answer.as_str(), Then::Close, bytes(999)).await;
        assert_eq!(over, Err(EgressError::TooLarge { limit: 999 }), "{answer}");
    }
    assert_eq!(fetch("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Keep, bytes(0)).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_document_that_announces_too_much_is_not_read() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n";
    let error = fetch(answer, Then::Hang, FetchLimits::default()).await.unwrap_err();
    assert!(matches!(error, EgressError::TooLarge { .. } | EgressError::Protocol), "{error}");
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n";
    assert_eq!(
        fetch(answer, Then::Hang, FetchLimits::default()).await,
        Err(EgressError::TooLarge { limit: 1024 * 1024 })
    );
}

#[tokio::test]
async fn a_stream_of_events_is_an_empty_document() {
    for media in ["text/event-stream", "Text/Event-Stream; charset=utf-8"] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\nconnection: close\r\n\r\n: hello\n\n");
        let limits = FetchLimits { time: Duration::from_mins(1), ..FetchLimits::default() };
        let started = tokio::time::Instant::now();
        assert_eq!(fetch(answer, Then::Hang, limits).await, Ok(Vec::new()));
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_compressed_document_is_refused_before_it_is_read() {
    for header in [
        "content-encoding: gzip",
        "content-encoding: GZIP",
        "content-encoding: identity, gzip",
        "content-encoding: identity\r\ncontent-encoding: br",
        "content-encoding: x-unheard-of",
        "transfer-encoding: gzip, chunked",
    ] {
        let length = if header.starts_with("transfer") { "" } else { "content-length: 1052\r\n" };
        // The body never comes: an attempt to read it would end in a time-out.
        let answer = format!("HTTP/1.1 200 OK\r\n{header}\r\n{length}\r\n");
        assert_eq!(fetch(answer, Then::Hang, FetchLimits::default()).await, Err(EgressError::Encoded), "{header}");
    }
    for header in ["content-encoding: identity", "content-encoding: Identity", "content-encoding:"] {
        let answer = format!("HTTP/1.1 200 OK\r\n{header}\r\ncontent-length: 2\r\n\r\nok");
        assert_eq!(fetch(answer, Then::Keep, FetchLimits::default()).await, Ok(b"ok".to_vec()), "{header}");
    }
}

#[tokio::test]
async fn a_relayed_body_is_passed_on_as_it_is() {
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\x04\x00\x43\xbe\xb7\xe8\x01\x00\x00\x00";
    let mut answer =
        format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", gzip.len()).into_bytes();
    answer.extend_from_slice(gzip);
    let server = Server::answering(answer, Then::Keep).await;
    let response = egress(&loopback()).send(get(&format!("http://127.0.0.1:{}/", server.port()))).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert_eq!(response.bytes().await.unwrap().as_ref(), gzip);
    assert!(!server.heads().concat().contains("accept-encoding"));
}

#[tokio::test]
async fn slowness_ends() {
    let quick = FetchLimits { time: Duration::from_millis(100), ..FetchLimits::default() };
    let slow_head = fetch("HTTP/1.1 200", Then::Hang, quick).await;
    assert_eq!(slow_head, Err(EgressError::TimedOut(Phase::Head)));
    let slow_body = fetch("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", Then::Hang, quick).await;
    assert_eq!(slow_body, Err(EgressError::TimedOut(Phase::Body)));
    assert!(slow_body.unwrap_err().may_have_been_sent());

    let server = Server::answering("HTTP/1.1 103 Early\r\n\r\n", Then::Hang).await;
    let limits = Limits { head: Duration::from_millis(100), ..Limits::default() };
    let egress = Egress::new(&loopback(), &limits, None).unwrap();
    let error = egress.send(get(&format!("http://127.0.0.1:{}/", server.port()))).await.unwrap_err();
    assert_eq!(error, EgressError::TimedOut(Phase::Head));
}

#[tokio::test]
async fn a_trickle_of_bytes_does_not_extend_the_time() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let limits = FetchLimits { time: Duration::from_millis(200), ..FetchLimits::default() };
    let error = egress(&loopback()).fetch(get(&format!("http://127.0.0.1:{port}/")), limits).await.unwrap_err();
    assert_eq!(error, EgressError::TimedOut(Phase::Body));
    server.abort();
}

#[tokio::test]
async fn headers_have_a_limit() {
    let answer = |value: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: {}\r\n\r\n", "v".repeat(value));
    // content-length: 14 + 1 + 32; x: 1 + value + 32.
    let rest = 14 + 1 + 32 + 1 + 32;
    assert!(fetch(answer(32 * 1024 - rest), Then::Keep, bytes(10)).await.is_ok());
    let over = fetch(answer(32 * 1024 - rest + 1), Then::Keep, bytes(10)).await;
    assert_eq!(over, Err(EgressError::TooLarge { limit: 32 * 1024 }));

    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert_eq!(fetch(many, Then::Keep, bytes(10)).await, Err(EgressError::Protocol));
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "v".repeat(1024 * 1024));
    assert_eq!(fetch(endless, Then::Hang, bytes(10)).await, Err(EgressError::Protocol));
}

#[tokio::test]
async fn what_is_not_http_is_told_from_what_is_not_there() {
    for noise in ["SSH-2.0-OpenSSH_9.2\r\n", "\0\0\0\0\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", ""] {
        let error = fetch(noise, Then::Close, bytes(10)).await.unwrap_err();
        assert_eq!(error, EgressError::Protocol, "{noise:?}");
        assert!(error.may_have_been_sent());
    }
    let cut = fetch("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", Then::Close, bytes(10)).await;
    assert_eq!(cut, Err(EgressError::Protocol));

    // A port that was just free is closed.
    let port = Server::answering(OK, Then::Close).await.port();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_ne!(port, closed);
    let error = egress(&loopback()).send(get(&format!("http://127.0.0.1:{closed}/"))).await.unwrap_err();
    assert_eq!(error, EgressError::Unreachable { reason: "it refused the connection" });
    assert!(!error.may_have_been_sent());
}

#[tokio::test]
async fn an_error_met_in_a_relayed_body_converts() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", Then::Close).await;
    let response = egress(&loopback()).send(get(&format!("http://127.0.0.1:{}/", server.port()))).await.unwrap();
    let error = response.bytes().await.unwrap_err();
    assert_eq!(EgressError::from(error), EgressError::Protocol);
}

#[tokio::test]
async fn a_url_that_no_request_line_can_hold_is_refused() {
    let text = format!("http://127.0.0.1/{}", "x".repeat(70_000));
    let error = egress(&loopback()).send(get(&text)).await.unwrap_err();
    assert_eq!(error, EgressError::Refused(crate::Refusal::Url));
}
