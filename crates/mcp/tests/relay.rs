//! The relay against servers of every kind, over real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests, too")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{LONG, client, client_with, config, server, token, url};
use connectors_application::ports::{
    AddressRefused, BadAnswer, BodyError, ByteStream, McpServer as _, RelayBody, RelayError, RelayMethod, RelayRequest,
    RelayResponse, RelayTarget, RequestHeaders,
};
use connectors_domain::ServerUrl;
use connectors_egress::{Egress, Limits, Policy};
use connectors_mcp::{McpClient, McpConfig};
use connectors_testkit::mcp_server::{
    Behaviour, Ending, Eras, Framing, HOSTILE_HEADERS, McpServer, Reply, Rule, SseStyle, Step,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(1);

const LISTED: [&str; 12] = [
    "accept",
    "content-type",
    "mcp-protocol-version",
    "mcp-session-id",
    "mcp-method",
    "mcp-name",
    "mcp-param-region",
    "mcp-param-x-unheard-of",
    "last-event-id",
    "traceparent",
    "tracestate",
    "baggage",
];

fn target(url: ServerUrl, credential: Option<&str>) -> Arc<RelayTarget> {
    Arc::new(RelayTarget { url, access_token: credential.map(token) })
}

fn headers(given: &[(&str, &str)]) -> RequestHeaders {
    let mut headers = RequestHeaders::default();
    for (name, value) in given {
        headers.offer(name, value.as_bytes());
    }
    headers
}

/// A request as a client of the legacy era without a session makes it.
fn post(server: &McpServer, body: impl Into<Bytes>) -> RelayRequest {
    RelayRequest {
        target: target(url(server), Some("good")),
        method: RelayMethod::Post,
        headers: headers(&[("accept", "application/json, text/event-stream"), ("content-type", "application/json")]),
        body: body.into(),
    }
}

fn message(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string()
}

fn call(tool: &str, arguments: &Value) -> String {
    message("tools/call", &json!({ "name": tool, "arguments": arguments }))
}

/// A legacy server that needs no session, so that single calls suffice.
async fn simple() -> McpServer {
    McpServer::builder().eras(Eras::Legacy).stateless().start().await.unwrap()
}

/// The answer to a call where the server treats it like this.
async fn answer(behaviour: impl Into<Behaviour>) -> Result<RelayResponse, RelayError> {
    let server = McpServer::builder().script(behaviour.into()).start().await.unwrap();
    let answer = client().relay(post(&server, call("count", &json!({})))).await;
    // It goes on sending until the runtime of the test ends.
    std::mem::forget(server);
    answer
}

async fn read(mut stream: ByteStream) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    assert!(stream.next().await.is_none());
    Ok(bytes)
}

fn stream(response: RelayResponse) -> ByteStream {
    match response.body {
        RelayBody::Json { stream, .. } | RelayBody::Events { stream } => stream,
        other => panic!("no stream: {other:?}"),
    }
}

async fn json_of(response: RelayResponse) -> Value {
    serde_json::from_slice(&read(stream(response)).await.unwrap()).unwrap()
}

fn header(response: &RelayResponse, name: &str) -> Option<String> {
    let found = response.headers.iter().find(|(key, _)| *key == name);
    found.map(|(_, value)| String::from_utf8(value.to_vec()).unwrap())
}

/// What a body is, in a word.
fn kind(body: &RelayBody) -> String {
    match body {
        RelayBody::Json { length, .. } => format!("Json({length:?})"),
        other => format!("{other:?}"),
    }
}

/// Status and kind of body, or what went wrong.
async fn outcome(behaviour: impl Into<Behaviour>) -> Result<(u16, String), RelayError> {
    answer(behaviour).await.map(|response| (response.status, kind(&response.body)))
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with outcomes")]
fn passed(status: u16, kind: &str) -> Result<(u16, String), RelayError> {
    Ok((status, kind.to_owned()))
}

// What is sent

#[tokio::test]
async fn a_request_carries_what_is_listed_and_nothing_else() {
    let unlisted = [
        "authorization",
        "authorization ",
        "Authorization",
        "proxy-authorization",
        "proxy-connection",
        "cookie",
        "cookie2",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-user",
        "x_forwarded_user",
        "X_Forwarded_User",
        "x-real-ip",
        "x-original-url",
        "x-rewrite-url",
        "x-auth",
        "x-auth-request-user",
        "x-api-key",
        "x-csrf-token",
        "x-http-method-override",
        "via",
        "host",
        "origin",
        "referer",
        "user-agent",
        "accept-encoding",
        "accept-language",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "content-length",
        "content-encoding",
        "range",
        "if-none-match",
        "sec-fetch-site",
        "dnt",
        "mcp",
        "mcp-",
        "mcp_session_id",
        "mcp-params-x",
        "x-mcp-param-y",
        "MCP-PARAM-LOUD",
        "mcp-session-id ",
        " mcp-session-id",
        "mcp-param-evil\r\nx-injected",
        "mcp-param-evil: x\r\nx-injected",
        "mcp-param-with space",
        "mcp-param-\u{e9}",
    ];
    let server = simple().await;
    let given: Vec<_> = LISTED.iter().chain(&unlisted).map(|name| (*name, "v")).collect();
    assert!(given.len() > 60);
    let mut offered = headers(&given);
    // Neither a value that HTTP cannot carry.
    offered.offer("mcp-name", b"a\r\nx-injected: 1");
    offered.offer("mcp-name", b"a\0b");
    for method in [RelayMethod::Post, RelayMethod::Get, RelayMethod::Delete] {
        server.clear_requests();
        let request = RelayRequest {
            target: target(url(&server), Some("good")),
            method,
            headers: offered.clone(),
            body: Bytes::from_static(b"{}"),
        };
        let _ = client().relay(request).await;
        let request = server.requests().remove(0);
        let mut names = request.header_names();
        names.sort();
        let mut expected: Vec<_> = LISTED.to_vec();
        expected.extend(["accept-encoding", "authorization", "host", "user-agent"]);
        if method == RelayMethod::Post {
            expected.push("content-length");
        }
        expected.sort_unstable();
        assert_eq!(names, expected, "{method:?}");
        assert_eq!(request.header("host"), Some(server.address().to_string().as_str()));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert!(request.header("user-agent").unwrap().starts_with("connectors/"));
        assert!(!request.contains("x-injected"));
        for name in LISTED {
            assert_eq!(request.header(name), Some("v"), "{name}");
        }
    }
}

#[tokio::test]
async fn header_values_pass_as_they_are_and_as_often() {
    let server = simple().await;
    let mut given = headers(&[("mcp-param-a", "one"), ("mcp-param-a", "two"), ("mcp-name", "")]);
    given.offer("mcp-param-b", b"=?base64?SGVsbG8=?=");
    given.offer("tracestate", b"\xe9\xff obs-text");
    let request = RelayRequest { headers: given, ..post(&server, "{}") };
    let _ = client().relay(request).await;
    let request = server.requests().remove(0);
    assert_eq!(request.header_values("mcp-param-a").collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(request.header("mcp-name"), Some(""));
    assert_eq!(request.header("mcp-param-b"), Some("=?base64?SGVsbG8=?="));
    assert_eq!(request.header_values("tracestate").next().unwrap(), &b"\xe9\xff obs-text"[..]);
}

#[tokio::test]
async fn every_method_carries_the_credential_of_its_target() {
    let server = simple().await;
    let client = client();
    for method in [RelayMethod::Post, RelayMethod::Get, RelayMethod::Delete] {
        for credential in [Some("one"), Some("two"), None] {
            server.clear_requests();
            let request = RelayRequest {
                target: target(url(&server), credential),
                method,
                headers: headers(&[("authorization", "Bearer platform"), ("accept", "text/event-stream")]),
                body: Bytes::new(),
            };
            let _ = client.relay(request).await;
            let request = server.requests().remove(0);
            assert_eq!(request.bearer(), credential, "{method:?}");
            assert_eq!(request.header_values("authorization").count(), usize::from(credential.is_some()));
        }
    }
}

#[tokio::test]
async fn a_body_goes_out_byte_for_byte_and_only_with_a_post() {
    let server = simple().await;
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for body in [every_byte, b"\xef\xbb\xbf{}\r\n".to_vec(), Vec::new(), vec![b' '; 8 << 20]] {
        server.clear_requests();
        let _ = client().relay(post(&server, body.clone())).await;
        assert!(server.requests()[0].body == body, "{} bytes", body.len());
    }
    for (method, verb) in [(RelayMethod::Get, "GET"), (RelayMethod::Delete, "DELETE")] {
        server.clear_requests();
        let _ = client().relay(RelayRequest { method, ..post(&server, "not to be sent") }).await;
        let request = server.requests().remove(0);
        assert_eq!((request.verb.as_str(), request.body.len()), (verb, 0));
        assert_eq!(request.header("content-length"), None);
    }
}

#[tokio::test]
async fn the_url_is_called_as_it_is() {
    let server = McpServer::builder().path("/a%2Fb/").start().await.unwrap();
    let there = ServerUrl::parse(&format!("{}/a%2Fb/?x=%20&y", server.origin())).unwrap();
    let request = RelayRequest { target: target(there, None), ..post(&server, "{}") };
    let _ = client().relay(request).await;
    assert_eq!(server.requests()[0].target, "/a%2Fb/?x=%20&y");
}

// What comes back

#[tokio::test]
async fn a_session_of_the_legacy_era_works() {
    let server = server(Eras::Legacy).await;
    let client = client();
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t" } });
    let opened = client.relay(post(&server, message("initialize", &params))).await.unwrap();
    assert_eq!((opened.status, header(&opened, "content-type").as_deref()), (200, Some("application/json")));
    let session = header(&opened, "mcp-session-id").unwrap();
    assert_eq!(json_of(opened).await["result"]["protocolVersion"], "2025-06-18");

    let own = || {
        headers(&[
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("mcp-session-id", &session),
            ("mcp-protocol-version", "2025-06-18"),
        ])
    };
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string();
    let accepted = client.relay(RelayRequest { headers: own(), ..post(&server, initialized) }).await.unwrap();
    assert_eq!((accepted.status, kind(&accepted.body).as_str()), (202, "Empty"));
    assert_eq!(header(&accepted, "content-type"), None);

    let slow = call("slow", &json!({ "steps": 3 }));
    let streamed = client.relay(RelayRequest { headers: own(), ..post(&server, slow) }).await.unwrap();
    assert_eq!(header(&streamed, "content-type").as_deref(), Some("text/event-stream"));
    assert!(String::from_utf8(read(stream(streamed)).await.unwrap()).unwrap().contains("3 steps"));

    let get = RelayRequest { headers: own(), method: RelayMethod::Get, ..post(&server, "") };
    let mut live = stream(client.relay(get).await.unwrap());
    assert_eq!(live.next().await, Some(Ok(Bytes::from_static(b": open\n\n"))));
    server.notify("notifications/tools/list_changed", &json!({}));
    assert!(live.next().await.unwrap().unwrap().starts_with(b"event: message\ndata: {"));
    server.end_streams();
    assert_eq!(live.next().await, None);

    let delete = || RelayRequest { headers: own(), method: RelayMethod::Delete, ..post(&server, "") };
    let ended = client.relay(delete()).await.unwrap();
    assert_eq!((ended.status, kind(&ended.body).as_str()), (200, "Empty"));
    let gone = client.relay(delete()).await.unwrap();
    assert_eq!(gone.status, 404);
    assert_eq!(json_of(gone).await["error"]["code"], -32001);
}

#[tokio::test]
async fn a_request_of_the_modern_era_works() {
    let server = server(Eras::Modern).await;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": "echo", "arguments": { "text": "hi", "region": "eu" }, "_meta": meta });
    let given = headers(&[
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "echo"),
        ("mcp-param-region", "eu"),
    ]);
    let request = RelayRequest { headers: given, ..post(&server, message("tools/call", &params)) };
    let answer = client().relay(request).await.unwrap();
    assert_eq!(json_of(answer).await["result"]["content"][0]["text"], "hi");
}

#[tokio::test]
async fn listed_headers_come_back_and_hostile_ones_do_not() {
    let own = [
        ("mcp-session-id", "s"),
        ("mcp-protocol-version", "2025-11-25"),
        ("cache-control", "no-store"),
        ("retry-after", "7"),
        ("allow", "POST"),
    ];
    let reply = || {
        // The parameters do not pass either.
        let reply = Reply::json("{}").content_type("application/json; charset=utf-7, text/html");
        HOSTILE_HEADERS.iter().chain(&own).fold(reply, |reply, (name, value)| reply.header(name, value))
    };
    for (status, body) in [(200, "Json(Some(2))"), (400, "Json(Some(2))"), (503, "Json(Some(2))")] {
        let response = answer(reply().status(status)).await.unwrap();
        assert_eq!((response.status, kind(&response.body).as_str()), (status, body));
        let names: Vec<_> = response.headers.iter().map(|(name, _)| name).collect();
        let mut expected: Vec<_> = own.iter().map(|(name, _)| *name).collect();
        expected.push("content-type");
        assert_eq!(names, expected);
        for (name, value) in own {
            assert_eq!(header(&response, name).as_deref(), Some(value));
        }
        assert_eq!(header(&response, "content-type").as_deref(), Some("application/json"));
        assert!(!format!("{response:?}").contains("hostile"));
    }
}

#[tokio::test]
async fn a_json_body_comes_back_byte_for_byte() {
    let every_byte: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    for body in [
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{ } }\r\n\r\n".to_vec(),
        b"\xef\xbb\xbf{\"a\" : 1.0e+400, \"a\":\t2}".to_vec(),
        b"not json at all".to_vec(),
        b"\0".to_vec(),
        every_byte,
    ] {
        for framing in [Framing::Length, Framing::Chunked, Framing::Close] {
            for pieces in [usize::MAX, 70_001, 17] {
                if body.len() / pieces > 1000 {
                    continue;
                }
                let reply = Reply::json(body.clone()).framing(framing).in_pieces_of(pieces);
                let response = answer(reply).await.unwrap();
                let RelayBody::Json { length, stream } = response.body else { panic!("{:?}", response.body) };
                let known = (framing == Framing::Length).then_some(body.len() as u64);
                assert_eq!(length, known, "{framing:?}");
                assert!(read(stream).await.unwrap() == body, "{framing:?} in pieces of {pieces}");
            }
        }
    }
}

#[tokio::test]
async fn an_event_stream_comes_back_byte_for_byte_and_at_once() {
    let pieces: [&[u8]; 9] = [
        b"\xef\xbb\xbf",
        b": comment\r\n\r\n",
        b"data: a\rdata: b\r\r",
        b"event: message\nid: \0\ndata:x\n\n\n\n",
        b"retry: 1\n",
        b"\n",
        b"data: \xff\xfe\n\n",
        b"\r",
        b"\ndata: unfinished",
    ];
    let reply = Reply::stream(pieces.map(Bytes::from_static)).pace(Duration::from_millis(30));
    let response = answer(reply).await.unwrap();
    assert!(matches!(response.body, RelayBody::Events { .. }));
    let mut stream = stream(response);
    // Each piece arrives as it was written: nothing is held back.
    for piece in pieces {
        assert_eq!(stream.next().await, Some(Ok(Bytes::from_static(piece))));
    }
    assert_eq!(stream.next().await, None);

    for style in [SseStyle::CrLf, SseStyle::Cr, SseStyle::Bom, SseStyle::Everything] {
        let direct = Reply::json(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#).as_sse(style);
        let through = answer(direct.clone().in_pieces_of(3)).await.unwrap();
        let bytes = read(self::stream(through)).await.unwrap();
        let whole = answer(direct).await.unwrap();
        assert_eq!(bytes, read(self::stream(whole)).await.unwrap(), "{style:?}");
    }
}

#[tokio::test]
async fn what_kind_a_body_is() {
    let ok = |status| passed(status, "Empty");
    assert_eq!(outcome(Behaviour::status(200)).await, ok(200));
    assert_eq!(outcome(Behaviour::status(202)).await, ok(202));
    assert_eq!(outcome(Behaviour::status(204)).await, ok(204));
    assert_eq!(outcome(Behaviour::status(404)).await, ok(404));
    assert_eq!(outcome(Reply::new(200).framing(Framing::Chunked)).await, ok(200));
    assert_eq!(outcome(Reply::new(202).framing(Framing::Chunked)).await, ok(202));
    assert_eq!(outcome(Reply::new(200).framing(Framing::Close)).await, ok(200));
    assert_eq!(outcome(Reply::json("")).await, ok(200));
    assert_eq!(outcome(Reply::html("")).await, ok(200));
    // 202 has no body; some say a word all the same.
    assert_eq!(outcome(Behaviour::text(202, "Accepted")).await, ok(202));
    assert_eq!(outcome(Reply::new(202).body("Accepted")).await, ok(202));

    assert_eq!(outcome(Reply::json("{}")).await, passed(200, "Json(Some(2))"));
    assert_eq!(outcome(Reply::json("{}").framing(Framing::Chunked)).await, passed(200, "Json(None)"));
    assert_eq!(outcome(Reply::json("{}").status(202)).await, passed(202, "Json(Some(2))"));
    assert_eq!(outcome(Reply::json("{}").content_type("Application/JSON; a=b")).await, passed(200, "Json(Some(2))"));
    assert_eq!(outcome(Reply::stream::<&str>([])).await, passed(200, "Events"));
    assert_eq!(outcome(Reply::stream(["data: 1\n\n"]).status(400)).await, passed(400, "Events"));
    let error = Behaviour::rpc_error(400, -32022, "no", &Value::Null);
    assert!(outcome(error).await.unwrap().1.starts_with("Json(Some("));

    for status in [400, 403, 404, 405, 406, 408, 409, 415, 429, 500, 502, 503, 599] {
        assert_eq!(outcome(Behaviour::text(status, "session not found")).await, passed(status, "Withheld"));
    }
    assert_eq!(outcome(Reply::new(404).body("no type")).await, passed(404, "Withheld"));
    assert_eq!(outcome(Reply::html("<b>").status(502)).await, passed(502, "Withheld"));
    assert_eq!(outcome(Reply::json("{}").status(500).gzipped()).await, passed(500, "Withheld"));
    assert_eq!(
        outcome(Reply::json("{}").status(500).header("content-type", "text/html")).await,
        passed(500, "Withheld")
    );
}

#[tokio::test]
async fn a_body_that_may_not_pass_is_a_bad_answer() {
    for behaviour in [
        Behaviour::html("<script>"),
        Behaviour::text(200, "x"),
        Reply::json("{}").gzipped().into(),
        Reply::json("{}").header("content-encoding", "br").into(),
        Reply::json("{}").header("content-encoding", "identity, gzip").into(),
        Reply::json("{}").framing(Framing::Chunked).header("transfer-encoding", "gzip").into(),
        Reply::stream(["data: 1\n\n"]).header("content-encoding", "gzip").into(),
        Reply::json("{}").header("content-type", "application/json").into(),
        Reply::json("{}").header("content-type", "text/html").into(),
        Reply::json("{}").content_type("application/json, text/html").into(),
        Reply::json("{}").content_type("application/problem+json").into(),
        Reply::json("{}").content_type("").into(),
        Reply::new(200).body("{}").into(),
        Reply::new(200).body("{}").framing(Framing::Chunked).into(),
    ] {
        assert!(
            matches!(
                outcome(behaviour.clone()).await,
                Err(RelayError::BadAnswer(BadAnswer::ContentType | BadAnswer::Encoded))
            ),
            "{behaviour:?}"
        );
    }
}

#[tokio::test]
async fn an_error_keeps_the_headers_that_tell_what_to_do() {
    let not_allowed = answer(Reply::text(405, "no").header("allow", "POST")).await.unwrap();
    assert_eq!(header(&not_allowed, "allow").as_deref(), Some("POST"));
    let busy = answer(Behaviour::too_many_requests(7)).await.unwrap();
    assert_eq!((busy.status, header(&busy, "retry-after").as_deref()), (429, Some("7")));
    assert_eq!(header(&busy, "content-type"), None);
}

#[tokio::test]
async fn a_redirect_is_a_bad_answer_and_not_followed() {
    let canary = server(Eras::Dual).await;
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        let redirect = Behaviour::redirect(status, &canary.url());
        assert_eq!(outcome(redirect).await, Err(RelayError::BadAnswer(BadAnswer::Redirect)), "{status}");
    }
    assert_eq!((canary.request_count(), canary.connections()), (0, 0));
}

#[tokio::test]
async fn statuses_that_mean_something_else_are_bad_answers() {
    assert_eq!(outcome(Reply::json("{}").status(401)).await, Err(RelayError::Unauthorized { challenges: vec![] }));
    assert_eq!(
        outcome(Behaviour::unauthorized("Bearer")).await,
        Err(RelayError::Unauthorized { challenges: vec!["Bearer".into()] })
    );
    assert_eq!(outcome(Behaviour::status(401)).await, Err(RelayError::Unauthorized { challenges: vec![] }));
    assert_eq!(outcome(Reply::json("{}").status(407)).await, Err(RelayError::BadAnswer(BadAnswer::Status)));
    for raw in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 600 Odd\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 999 Odd\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 99 Odd\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert!(
            matches!(
                outcome(Behaviour::raw(raw)).await,
                Err(RelayError::BadAnswer(BadAnswer::Status | BadAnswer::NoHttp))
            ),
            "{raw:?}"
        );
    }
    let early = "HTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                 content-length: 2\r\n\r\n{}";
    assert_eq!(outcome(Behaviour::raw(early)).await, passed(200, "Json(Some(2))"));
    for behaviour in [Behaviour::garbage(), Behaviour::close(), Behaviour::reset()] {
        assert_eq!(outcome(behaviour.clone()).await, Err(RelayError::BadAnswer(BadAnswer::NoHttp)), "{behaviour:?}");
    }
    let huge = outcome(Behaviour::huge_headers(64 << 10)).await;
    assert_eq!(huge, Err(RelayError::BadAnswer(BadAnswer::HeaderTooLarge)));
}

// Where it breaks

#[tokio::test]
async fn a_body_that_breaks_off_ends_with_an_error() {
    for ending in [Ending::Close, Ending::Reset] {
        for (framing, expected) in [(Framing::Chunked, 50), (Framing::Length, 50)] {
            let reply = Reply::json("x".repeat(100)).framing(framing).in_pieces_of(10).pace(Duration::from_millis(2));
            let response = answer(reply.cut_after(50, ending)).await.unwrap();
            let mut stream = stream(response);
            let mut read = 0;
            let end = loop {
                match stream.next().await {
                    Some(Ok(chunk)) => read += chunk.len(),
                    end => break end,
                }
            };
            assert_eq!(end, Some(Err(BodyError::Broken)), "{framing:?} {ending:?}");
            assert!(read <= expected);
            assert!(stream.next().await.is_none());
        }
        let events = Reply::stream(["data: 1\n\n", "data: 2\n\n"]).cut_after(9, ending);
        assert_eq!(read(stream(answer(events).await.unwrap())).await, Err(BodyError::Broken), "{ending:?}");
    }
    // Closed by a reset, even a body that has no other end is no whole body.
    let reset = Reply::json("{}").framing(Framing::Close).in_pieces_of(1).pace(Duration::from_millis(20));
    let response = answer(reset.cut_after(1, Ending::Reset)).await.unwrap();
    assert_eq!(read(stream(response)).await, Err(BodyError::Broken));
    let short = answer(Behaviour::shorter_than_declared()).await.unwrap();
    assert_eq!(read(stream(short)).await, Err(BodyError::Broken));
    for raw in ["5\r\n{\"a\":\r\nzz\r\n", "5\r\n{\"a\":XX3\r\n1}\n\r\n0\r\n\r\n", "ffffffffffffffffff\r\n{}"] {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
        let response = answer(Behaviour::raw(format!("{head}{raw}"))).await.unwrap();
        assert_eq!(read(stream(response)).await, Err(BodyError::Broken), "{raw:?}");
    }
}

#[tokio::test]
async fn what_a_server_writes_beyond_a_body_reaches_nobody() {
    let server = simple().await;
    let client = client();
    let long = Reply::json("{\"a\":1}{\"evil\":1}").framing(Framing::Declared(7));
    let smuggled = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}\
                    HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"evil\":1}";
    let smuggling = Behaviour::wire([Step::Send(smuggled.into()), Step::End(Ending::Hang)]);
    for (behaviour, expected) in [(Behaviour::from(long), "{\"a\":1}"), (smuggling, "{}")] {
        server.script(Rule::once(behaviour));
        let first = client.relay(post(&server, "{}")).await.unwrap();
        assert_eq!(read(stream(first)).await.unwrap(), expected.as_bytes());
        let second = client.relay(post(&server, call("echo", &json!({ "text": "mine" })))).await.unwrap();
        assert_eq!(json_of(second).await["result"]["content"][0]["text"], "mine");
    }
}

#[tokio::test]
async fn nothing_is_sent_twice() {
    for behaviour in [
        Behaviour::close(),
        Behaviour::reset(),
        Behaviour::garbage(),
        Behaviour::raw("HTTP/1.1 200 OK\r\ncontent-"),
        Behaviour::status(408),
        Behaviour::status(421),
        Behaviour::status(425),
        Behaviour::status(500),
        Behaviour::status(502),
        Behaviour::status(503),
        Behaviour::too_many_requests(0),
        Behaviour::unauthorized("Bearer"),
        Behaviour::redirect(307, "/mcp"),
        Behaviour::alter(|reply| reply.status(500)),
        Behaviour::alter(|reply| reply.cut_in_the_middle(Ending::Reset)),
        Behaviour::alter(|reply| reply.cut_after(0, Ending::Reset)),
    ] {
        for reused in [false, true] {
            let server = simple().await;
            let client = client();
            if reused {
                let first = client.relay(post(&server, call("count", &json!({})))).await.unwrap();
                read(stream(first)).await.unwrap();
            }
            let before = (server.request_count(), server.count());
            server.script(Rule::once(behaviour.clone()));
            let second = client.relay(post(&server, call("count", &json!({})))).await;
            if let Ok(RelayResponse { body: RelayBody::Json { stream, .. }, .. }) = second {
                let _ = read(stream).await;
            }
            assert_eq!(server.request_count(), before.0 + 1, "{behaviour:?}, reused: {reused}");
            assert!(server.count() <= before.1 + 1);
            if reused {
                assert_eq!(server.requests()[0].connection, server.requests()[1].connection, "{behaviour:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_connection_that_has_gone_stale_is_no_error_and_no_second_call() {
    let server = simple().await;
    let client = client();
    let (mut good, mut calls) = (0, 0);
    for round in 0..50 {
        let answer = client.relay(post(&server, call("count", &json!({})))).await;
        if let Ok(response) = answer
            && read(stream(response)).await.is_ok()
        {
            good += 1;
        }
        calls += 1;
        assert!((good..=calls).contains(&server.count()), "round {round}");
        server.close_connections();
        if round % 2 == 0 {
            server.wait_until_connections(0, SOON).await.unwrap();
        }
    }
    assert!(good >= 25, "{good} of 50");
}

// Time

#[tokio::test]
async fn a_body_may_pause_but_not_for_too_long() {
    let (short, long) = (Duration::from_millis(500), Duration::from_secs(10));
    for (body, events) in [(short, long), (long, short)] {
        let config = McpConfig { body_idle_timeout: body, stream_idle_timeout: Some(events), ..config() };
        let client = client_with(&Limits::default(), config);
        for pace in [Duration::from_millis(50), Duration::from_millis(1200)] {
            for (reply, idle) in [
                (Reply::json("{\"a\":1}").framing(Framing::Chunked).in_pieces_of(4), body),
                (Reply::stream(["data: 1\n\n", ":\n\n", "data: 2\n\n"]), events),
            ] {
                let server = McpServer::builder().script(reply.pace(pace)).start().await.unwrap();
                let response = client.relay(post(&server, "{}")).await.unwrap();
                let outcome = read(stream(response)).await;
                assert_eq!(outcome.err(), (pace > idle).then_some(BodyError::TimedOut), "{pace:?} within {idle:?}");
                server.wait_until_open_streams(0, SOON).await.unwrap();
            }
        }
    }
    // A body that has to be looked at counts as one.
    let client = client_with(&Limits::default(), McpConfig { body_idle_timeout: short, ..config() });
    let server =
        McpServer::builder().script(Reply::new(200).body("x").cut_after(0, Ending::Hang)).start().await.unwrap();
    assert_eq!(client.relay(post(&server, "{}")).await.unwrap_err(), RelayError::TimedOut);
    server.wait_until_open_streams(0, SOON).await.unwrap();
}

#[tokio::test]
async fn an_event_stream_without_a_limit_may_be_silent() {
    let config = McpConfig { body_idle_timeout: Duration::from_millis(50), stream_idle_timeout: None, ..config() };
    let client = client_with(&Limits::default(), config);
    let reply = Reply::stream(["data: 1\n\n", "data: 2\n\n"]).pace(Duration::from_millis(400));
    let server = McpServer::builder().script(reply).start().await.unwrap();
    let response = client.relay(post(&server, "{}")).await.unwrap();
    assert_eq!(read(stream(response)).await.unwrap(), b"data: 1\n\ndata: 2\n\n");
}

#[tokio::test]
async fn an_answer_that_does_not_begin_is_timed_out() {
    let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
    let client = client_with(&limits, config());
    for behaviour in [Behaviour::hang(), Behaviour::hang_in_head(), Behaviour::delayed(LONG)] {
        let server = McpServer::builder().script(behaviour.clone()).start().await.unwrap();
        let start = Instant::now();
        assert_eq!(client.relay(post(&server, "{}")).await.unwrap_err(), RelayError::TimedOut, "{behaviour:?}");
        assert!(start.elapsed() < SOON);
        server.wait_until_open_streams(0, SOON).await.unwrap();
        assert_eq!(server.request_count(), 1);
    }
}

// Going away

#[tokio::test]
async fn dropping_an_answer_ends_the_request() {
    let server = simple().await;
    let client = client();
    for behaviour in [
        Behaviour::endless_sse(Duration::from_millis(5)),
        Behaviour::endless_sse(Duration::from_hours(1)),
        Behaviour::endless_json(),
        Behaviour::cut_in_the_middle(Ending::Hang),
    ] {
        server.script(behaviour.clone());
        let mut answers = Vec::new();
        for read_some in [false, true] {
            for _ in 0..20 {
                let mut body =
                    stream(client.relay(post(&server, call("add", &json!({ "a": 1, "b": 2 })))).await.unwrap());
                if read_some {
                    assert!(body.next().await.unwrap().is_ok());
                }
                answers.push(body);
            }
        }
        assert_eq!(server.open_streams(), answers.len());
        drop(answers);
        server.wait_until_open_streams(0, SOON).await.unwrap_or_else(|error| panic!("{behaviour:?}: {error}"));
        server.wait_until_connections(0, SOON).await.unwrap();
    }
}

#[tokio::test]
async fn dropping_the_call_ends_the_request() {
    let server = simple().await;
    let client = Arc::new(client());
    for behaviour in [
        Behaviour::hang(),
        Behaviour::hang_in_head(),
        Behaviour::reply(Reply::new(200).body("x").cut_after(0, Ending::Hang)),
    ] {
        server.clear_requests();
        server.script(behaviour.clone());
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let (client, request) = (Arc::clone(&client), post(&server, "{}"));
                tokio::spawn(async move { client.relay(request).await })
            })
            .collect();
        server.wait_until_requests(20, LONG).await.unwrap();
        assert_eq!(server.open_streams(), 20);
        calls.iter().for_each(tokio::task::JoinHandle::abort);
        server.wait_until_open_streams(0, SOON).await.unwrap_or_else(|error| panic!("{behaviour:?}: {error}"));
    }
}

#[tokio::test]
async fn an_answer_that_may_not_pass_is_not_read_to_its_end() {
    let server = simple().await;
    let client = client();
    for status in [200, 302, 401, 404, 500] {
        server.script(Reply::endless("text/plain", "", vec![b'x'; 64 << 10]).status(status));
        let _ = client.relay(post(&server, "{}")).await;
        server.wait_until_open_streams(0, SOON).await.unwrap_or_else(|error| panic!("{status}: {error}"));
    }
}

// Where the relay does not get to

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let server = simple().await;
    let request = || post(&server, "{}");
    let (there, nowhere) = (request(), ServerUrl::parse("https://connectors-test.invalid/mcp").unwrap());
    let lost = RelayRequest { target: target(nowhere, None), ..request() };
    server.stop().await;
    assert!(matches!(client().relay(there).await.unwrap_err(), RelayError::Unreachable(_)));
    assert!(matches!(client().relay(lost).await.unwrap_err(), RelayError::Unreachable(_)));
}

#[tokio::test]
async fn a_refused_address_is_not_called() {
    let server = simple().await;
    let client = McpClient::new(Egress::new(&Policy::default(), &Limits::default(), None).unwrap(), config());
    match client.relay(post(&server, "{}")).await.unwrap_err() {
        RelayError::AddressRefused(AddressRefused(text)) => assert!(text.contains("egress.allow"), "{text}"),
        other => panic!("{other}"),
    }
    assert_eq!((server.request_count(), server.connections()), (0, 0));
}

#[tokio::test]
async fn an_address_is_judged_at_every_call() {
    let server = simple().await;
    let open = client();
    let closed = McpClient::new(Egress::new(&Policy::default(), &Limits::default(), None).unwrap(), config());
    assert!(open.relay(post(&server, call("count", &json!({})))).await.is_ok());
    assert!(closed.relay(post(&server, call("count", &json!({})))).await.is_err());
    assert_eq!(server.count(), 1);
}
