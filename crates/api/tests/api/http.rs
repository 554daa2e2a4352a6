//! What holds for every call: hosts, origins, CORS, methods, ids, slow clients, and the end of the service.

use std::time::{Duration, Instant};

use crate::support::{Stage, start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ALL: [(&str, &str); 7] = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/api/v1/connectors"),
    ("GET", "/api/v1/connectors/presets"),
    ("GET", "/api/v1/connectors/oauth/callback"),
    ("POST", "/api/v1/connectors/019f0000-0000-7000-8000-000000000000/mcp"),
];

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_are_refused_everywhere() {
    let server = start();
    for (method, path) in ALL {
        for (header, value) in [("origin", "https://evil.example"), ("origin", "null"), ("host", "evil.example")] {
            let answer = server.send(server.request(method, path).header(header, value)).await;
            assert_eq!(answer.status, 403, "{method} {path} {header}: {value}");
            assert_eq!(answer.json()["status"], 403);
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
        let own = server.send(server.request(method, path).header("origin", &server.url)).await;
        assert_ne!(own.status, 403, "{method} {path}");
    }
    // Those who watch over the service know it by its address alone.
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.send(server.request("GET", path).header("host", "10.1.2.3:8333")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_origins_get_cors_answers_and_no_others() {
    let server = start();
    let path = "/api/v1/connectors/019f0000-0000-7000-8000-000000000000/mcp";
    let preflight = |origin: &str| {
        server
            .request("OPTIONS", path)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "mcp-protocol-version,content-type")
    };
    let allowed = server.send(preflight("https://inspector.example.com")).await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, "https://inspector.example.com"));
    let refused = server.send(preflight("https://evil.example")).await;
    assert!(refused.status >= 400 && refused.header("access-control-allow-origin").is_empty());
    let called = server.send(server.request("POST", path).header("origin", "https://inspector.example.com")).await;
    assert_eq!(called.status, 404);
    assert_eq!(called.header("access-control-allow-origin"), "https://inspector.example.com");
    let exposed = called.header("access-control-expose-headers").to_ascii_lowercase();
    assert!(exposed.contains("mcp-session-id") && exposed.contains("www-authenticate"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_paths_and_methods_are_problems() {
    let server = start();
    for path in ["/nothing", "/api", "/api/v1", "/api/v1/connectors/", "/api/v2/connectors"] {
        let answer = server.call("GET", path, None).await;
        assert_eq!((answer.status, answer.header("content-type")), (404, "application/problem+json"), "{path}");
    }
    for (method, path, allow) in [
        ("PUT", "/api/v1/connectors", "GET, POST"),
        ("GET", "/api/v1/connectors/x/connect", "POST"),
        ("POST", "/healthz", "GET"),
        ("PATCH", "/api/v1/connectors/x/mcp", "POST, GET, DELETE"),
    ] {
        let answer = server.call(method, path, None).await;
        assert_eq!((answer.status, answer.json()["status"].as_u64()), (405, Some(405)), "{method} {path}");
        let mut found: Vec<_> = answer.header("allow").split(", ").collect();
        let mut expected: Vec<_> = allow.split(", ").collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_with_an_unknown_state_is_a_page_that_tells_nothing() {
    let server = start();
    for path in ["", "/issuer-key"] {
        let query = "state=guess&code=c&error=%3Csvg%2Fonload%3Dalert(1)%3E&error_description=canary";
        let answer = server.call("GET", &format!("/api/v1/connectors/oauth/callback{path}?{query}"), None).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
        assert!(!answer.text.contains("canary") && !answer.text.contains("onload") && !answer.text.contains("<script"));
        assert!(answer.text.contains(r#"class="mark bad""#), "{}", answer.text);
        assert_eq!(
            server.call("HEAD", &format!("/api/v1/connectors/oauth/callback{path}?{query}"), None).await.status,
            200
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_and_shown() {
    let server = start();
    let document = server.call("GET", "/openapi.json", None).await;
    assert_eq!(document.json()["openapi"], "3.1.0");
    assert_eq!(document.text, connectors_api::openapi_json().unwrap());
    let page = server.call("GET", "/docs", None).await;
    for shown in ["/api/v1/connectors/{id}/connect", "Connect a connector", "access_token", "At most so many"] {
        assert!(page.text.contains(shown), "{shown}");
    }
    assert!(!page.text.contains('`'));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route() {
    let server = start();
    server.call("GET", "/api/v1/connectors/one", None).await;
    server.call("GET", "/api/v1/connectors/two", None).await;
    let metrics = server.call("GET", "/metrics", None).await;
    let line = r#"connectors_http_requests_total{method="GET",route="/api/v1/connectors/{id}",status="404"} 2"#;
    assert!(metrics.text.contains(line), "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_trickles_is_cut_off() {
    let mut stage = Stage::open();
    stage.config.head_timeout = Duration::from_millis(500);
    let server = stage.start();
    let address = server.url.trim_start_matches("http://").to_owned();
    // A head that never ends.
    let mut head = TcpStream::connect(&address).await.unwrap();
    head.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
    // A body that never comes.
    let mut body = TcpStream::connect(&address).await.unwrap();
    let request = b"POST /api/v1/connectors HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    body.write_all(request).await.unwrap();
    let started = Instant::now();
    for stream in [&mut head, &mut body] {
        let mut answer = Vec::new();
        tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 408"), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(started.elapsed() < Duration::from_secs(8));
}

/// Reads one answer without a body of unknown length, and returns its status line.
async fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let head = loop {
        read.push(stream.read_u8().await.unwrap());
        if read.ends_with(b"\r\n\r\n") {
            break String::from_utf8(std::mem::take(&mut read)).unwrap().to_ascii_lowercase();
        }
    };
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok()).unwrap_or(0);
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    head.lines().next().unwrap().to_owned()
}

/// Sends a piece every so often until the other side hangs up, and returns how long that took.
async fn trickle(mut stream: TcpStream, piece: &[u8]) -> Duration {
    let started = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {
                if stream.write_all(piece).await.is_err() {
                    return started.elapsed();
                }
            }
            read = stream.read_u8() => match read {
                Ok(_) => {}
                Err(_) => return started.elapsed(),
            },
        }
        assert!(started.elapsed() < Duration::from_secs(8), "nobody hangs up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_head_has_its_time_and_not_the_first_of_a_connection_alone() {
    let mut stage = Stage::open();
    stage.config.head_timeout = Duration::from_millis(500);
    let server = stage.start();
    let address = server.url.trim_start_matches("http://").to_owned();
    for before in [1, 3] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        for _ in 0..before {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            assert!(answer(&mut stream).await.contains("200"));
        }
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
        let took = trickle(stream, b"x").await;
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(3), "{took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_wants_is_not_waited_for() {
    let server = start();
    let address = server.url.trim_start_matches("http://").to_owned();
    for (path, status) in [("/nothing", "404"), ("/healthz", "405"), ("/api/v1/connectors", "408")] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(answer(&mut stream).await.contains(status), "{path}");
        let took = trickle(stream, b" ").await;
        assert!(took < Duration::from_secs(3), "{path} {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_told_and_ends_the_server() {
    let mut server = start();
    assert_eq!(server.call("GET", "/readyz", None).await.status, 200);
    server.stop();
    let started = Instant::now();
    while server.client.get(format!("{}/healthz", server.url)).send().await.is_ok() {
        assert!(started.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
