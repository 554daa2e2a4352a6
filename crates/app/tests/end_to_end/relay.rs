//! The program between a client and an MCP server, all of them real: what comes through, what stops, what survives.

use std::process::Command;
use std::time::{Duration, Instant};

use connectors_testkit::mcp_server::{Auth, Behaviour, Ending, Eras, McpServer, Reply, Rule};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::Service;

const SECOND: Duration = Duration::from_secs(1);

async fn server(eras: Eras) -> McpServer {
    McpServer::builder().eras(eras).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_both_eras_are_used_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    for eras in [Eras::Modern, Eras::Dual] {
        let server = server(eras).await;
        let id = service.connected(&server).await;
        let answer: Value =
            service.tool(&id, "echo", &json!({ "text": "hello" })).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["result"]["content"][0]["text"], "hello", "{answer}");
    }

    let server = server(Eras::Legacy).await;
    let id = service.connected(&server).await;
    let post = |body: Value, session: Option<String>| {
        let request =
            service.client.post(service.mcp(&id)).header("accept", "application/json, text/event-stream").json(&body);
        session.into_iter().fold(request, |request, session| request.header("mcp-session-id", session)).send()
    };
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } },
    });
    let answer = post(initialize, None).await.unwrap();
    let session = answer.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    assert_eq!(post(initialized, Some(session.clone())).await.unwrap().status(), 202);
    let call = json!({
        "jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": { "name": "echo", "arguments": { "text": "hello" } },
    });
    let answer = post(call, Some(session.clone())).await.unwrap().text().await.unwrap();
    assert!(answer.contains("hello"), "{answer}");
    let stream = service.client.get(service.mcp(&id)).header("accept", "text/event-stream");
    let stream = stream.header("mcp-session-id", &session).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.headers()["x-accel-buffering"], "no");
    assert_eq!(stream.headers()["cache-control"], "no-cache, no-transform");
    let mut events = stream.bytes_stream();
    server.notify("notifications/tools/list_changed", &json!({}));
    let mut seen = String::new();
    while !seen.contains("list_changed") {
        let chunk = tokio::time::timeout(5 * SECOND, events.next()).await.unwrap().unwrap().unwrap();
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    let ended = service.client.delete(service.mcp(&id)).header("mcp-session-id", &session).send().await.unwrap();
    assert!(ended.status().is_success());
    let gone = post(json!({ "jsonrpc": "2.0", "id": 3, "method": "tools/list" }), Some(session)).await.unwrap();
    assert_eq!(gone.status(), 404, "the end of a session is the client's business");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_arrives_as_it_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let id = service.connected(&server).await;
    let answer = service.tool(&id, "slow", &json!({ "steps": 5, "interval_ms": 100 })).send().await.unwrap();
    let mut arrivals = Vec::new();
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        if String::from_utf8_lossy(&chunk.unwrap()).contains("progress") {
            arrivals.push(Instant::now());
        }
    }
    assert_eq!(arrivals.len(), 5);
    let spread = arrivals[4] - arrivals[0];
    assert!(spread >= Duration::from_millis(250), "{spread:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_of_100_mb_is_never_collected() {
    const BYTES: u64 = 100 * 1024 * 1024;
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let id = service.connected(&server).await;
    service.tool(&id, "big", &json!({ "bytes": 1_000_000 })).send().await.unwrap().bytes().await.unwrap();
    for sse in [false, true] {
        let before = service.memory();
        let answer = service.tool(&id, "big", &json!({ "bytes": BYTES, "sse": sse })).send().await.unwrap();
        let (mut received, mut most) = (0, 0);
        let mut body = answer.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.unwrap().len() as u64;
            // A look at every megabyte.
            if received / 1_000_000 != (received + chunk) / 1_000_000 {
                most = most.max(service.memory());
            }
            received += chunk;
        }
        assert!(received >= BYTES, "{received}");
        let growth = most.saturating_sub(before);
        assert!(growth < 16 * 1024 * 1024, "sse {sse}: memory grew by {growth} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_without_bounds_cost_no_memory_whether_they_are_read_or_not() {
    const MIB: u64 = 1024 * 1024;
    const ALLOWED: u64 = 32 * MIB;
    /// Of a body that would take minutes.
    const READ: u64 = 256 * MIB;
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let id = service.connected(&server).await;
    service.tool(&id, "big", &json!({ "bytes": MIB })).send().await.unwrap().bytes().await.unwrap();

    let long = |media_type, bytes| Reply::long(media_type, "data: ", bytes, "\n\n").into();
    let bodies: [(&str, Behaviour); 4] = [
        ("10 GiB of JSON", long("application/json", 10 * 1024 * MIB)),
        ("one event of 1 GiB", Behaviour::huge_sse_event(1024 * MIB)),
        ("JSON that never ends", Behaviour::endless_json()),
        ("events that never end", Behaviour::endless_sse(Duration::ZERO)),
    ];
    for (what, behaviour) in bodies {
        let enough = if what.starts_with("events") { 4 * MIB } else { READ };
        server.script(Rule::new(behaviour).on_method("tools/call"));
        let before = service.memory();
        let (mut received, mut most) = (0, 0);
        let mut body = service.tool(&id, "count", &json!({})).send().await.unwrap().bytes_stream();
        while received < enough {
            let chunk = body.next().await.unwrap().unwrap().len() as u64;
            if received / MIB != (received + chunk) / MIB {
                most = most.max(service.memory().saturating_sub(before));
            }
            received += chunk;
        }
        drop(body);
        server.wait_until_open_streams(0, 5 * SECOND).await.unwrap();
        assert!(most < ALLOWED, "{what}, read: memory grew by {most} bytes");

        // What is not read stands still all the way back to the server.
        let mut unread = Vec::new();
        for _ in 0..10 {
            unread.push(service.tool(&id, "count", &json!({})).send().await.unwrap());
        }
        tokio::time::sleep(SECOND).await;
        let grown = service.memory().saturating_sub(before);
        assert!(grown < ALLOWED, "{what}, unread: memory grew by {grown} bytes");
        assert_eq!(server.open_streams(), 10, "{what}");
        drop(unread);
        server.wait_until_open_streams(0, 5 * SECOND).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_the_server_within_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let id = service.connected(&server).await;

    // Before the answer has begun.
    server.script(Rule::new(Behaviour::hang()).on_method("tools/call"));
    let waiting = tokio::spawn(service.tool(&id, "echo", &json!({ "text": "x" })).send());
    server.wait_until_open_streams(1, 5 * SECOND).await.unwrap();
    waiting.abort();
    server.wait_until_open_streams(0, SECOND).await.unwrap();

    // In the middle of a silent stream, and of one that never stops.
    for behaviour in [
        Behaviour::cut_in_the_middle(Ending::Hang),
        Behaviour::endless_sse(Duration::from_millis(10)),
        Behaviour::endless_json(),
    ] {
        server.script(Rule::new(behaviour).on_method("tools/call"));
        let answer = service.tool(&id, "echo", &json!({ "text": "x" })).send().await.unwrap();
        let mut body = answer.bytes_stream();
        body.next().await.unwrap().unwrap();
        assert_eq!(server.open_streams(), 1);
        drop(body);
        server.wait_until_open_streams(0, SECOND).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_off_is_told_and_not_hidden() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let id = service.connected(&server).await;
    for behaviour in [
        Behaviour::cut_in_the_middle(Ending::Close),
        Behaviour::cut_in_the_middle(Ending::Reset),
        Behaviour::shorter_than_declared(),
    ] {
        server.script(Rule::new(behaviour).on_method("tools/call"));
        // A reset may overtake what was sent before it, the head included.
        if let Ok(answer) = service.tool(&id, "echo", &json!({ "text": "x" })).send().await {
            let status = answer.status();
            assert!(status == 502 || (status == 200 && answer.bytes().await.is_err()), "{status}");
        }
    }
    assert_eq!(service.read(&id).await["state"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_may_not_send_does_not_pass() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let collector = self::server(Eras::Modern).await;
    let id = service.connected(&server).await;
    let call = |behaviour: Behaviour| {
        server.script(Rule::new(behaviour).on_method("tools/call"));
        service.tool(&id, "echo", &json!({ "text": "x" })).send()
    };
    for (behaviour, status) in [
        (Behaviour::html("<script>CANARY</script>"), 502),
        (Behaviour::gzip(), 502),
        (Behaviour::redirect(307, &collector.url()), 502),
        (Behaviour::redirect(302, &collector.url()), 502),
        (Behaviour::garbage(), 502),
        (Behaviour::text(404, "CANARY"), 404),
        (Behaviour::text(500, "CANARY"), 500),
        (Behaviour::too_many_requests(7), 429),
    ] {
        let answer = call(behaviour).await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(!answer.text().await.unwrap().contains("CANARY"));
    }
    assert_eq!(collector.request_count(), 0);

    let answer = call(Behaviour::hostile_headers()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut names: Vec<_> = answer.headers().keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    for name in &names {
        let allowed = [
            "cache-control",
            "content-length",
            "content-type",
            "date",
            "mcp-protocol-version",
            "mcp-session-id",
            "retry-after",
            "allow",
            "transfer-encoding",
            "x-content-type-options",
        ];
        assert!(allowed.contains(&name.as_str()), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_headers_and_the_connectors_own_token_reach_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = McpServer::builder().eras(Eras::Modern).auth(Auth::bearer("up-token")).start().await.unwrap();
    let id = service.create(&server.url()).await;
    let path = format!("/api/v1/connectors/{id}/connect");
    let (status, told) = service.call("POST", &path, None).await;
    assert_eq!((status, told["disconnect_code"].as_str()), (502, Some("authorization_required")), "{told}");
    let (status, _) = service.call("POST", &path, Some(json!({ "access_token": "up-token" }))).await;
    assert_eq!(status, 200);
    server.clear_requests();

    let hostile = [
        ("authorization", "Bearer platform-canary"),
        ("cookie", "c=platform-canary"),
        ("x-forwarded-for", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x-auth", "platform-canary"),
        ("x_forwarded_user", "root"),
        ("proxy-authorization", "platform-canary"),
        ("via", "1.1 x"),
        ("mcp-param-region", "eu"),
        ("traceparent", "00-1-1-00"),
    ];
    let call = service.tool(&id, "echo", &json!({ "text": "x", "region": "eu" }));
    let answer = hostile.iter().fold(call, |call, (name, value)| call.header(*name, *value)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let seen = server.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].bearer(), Some("up-token"));
    assert!(!seen[0].contains("platform-canary"));
    let mut names = seen[0].header_names();
    names.sort();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "content-type",
            "host",
            "mcp-method",
            "mcp-name",
            "mcp-param-region",
            "mcp-protocol-version",
            "traceparent",
            "user-agent",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_disconnects_with_words_for_a_person() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = McpServer::builder().eras(Eras::Modern).auth(Auth::bearer("up-token")).start().await.unwrap();
    let id = service.create(&server.url()).await;
    let path = format!("/api/v1/connectors/{id}/connect");
    service.call("POST", &path, Some(json!({ "access_token": "up-token" }))).await;
    server.revoke_all_tokens();
    for _ in 0..2 {
        let answer = service.tool(&id, "count", &json!({})).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().get("www-authenticate").is_none());
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((answer["id"].as_i64(), answer["error"]["code"].as_i64()), (Some(7), Some(-31_001)));
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(&id) && message.contains("access_token") && message.contains(&service.url),
            "{message}"
        );
    }
    let read = service.read(&id).await;
    assert_eq!(
        (read["state"].as_str(), read["disconnect_code"].as_str()),
        (Some("disconnected"), Some("credential_rejected"))
    );
    let stream = service.client.get(service.mcp(&id)).send().await.unwrap();
    assert_eq!(stream.status(), 409);
    server.accept_token("up-token");
    assert_eq!(service.call("POST", &path, None).await.0, 200);
    assert_eq!(service.tool(&id, "count", &json!({})).send().await.unwrap().status(), 200);
    assert_eq!(server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_body_passes_and_one_byte_more_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let id = service.connected(&server).await;
    let limit = 8 * 1024 * 1024;
    for (bytes, status) in [(limit, 200), (limit + 1, 413)] {
        let call = service.tool(&id, "count", &json!({})).build().unwrap();
        let mut body = call.body().unwrap().as_bytes().unwrap().to_vec();
        body.resize(bytes, b' ');
        for chunked in [false, true] {
            let request = service.tool(&id, "count", &json!({})).header("content-type", "application/json");
            let body = if chunked {
                let pieces: Vec<Result<_, std::io::Error>> =
                    body.chunks(100_000).map(|piece| Ok(piece.to_vec())).collect();
                reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
            } else {
                body.clone().into()
            };
            // A server that answers before it has read everything may cut the sender off.
            match request.body(body).send().await {
                Ok(answer) => assert_eq!(answer.status(), status, "{bytes} bytes, chunked {chunked}"),
                Err(error) => assert!(status == 413, "{bytes} bytes, chunked {chunked}: {error}"),
            }
        }
    }
    assert_eq!(server.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_survive_a_restart_and_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let server = McpServer::builder().eras(Eras::Dual).auth(Auth::bearer("up-token")).start().await.unwrap();
    let mut service = Service::start(directory.path());
    let id = service.create(&server.url()).await;
    let connect = format!("/api/v1/connectors/{id}/connect");
    service.call("POST", &connect, Some(json!({ "access_token": "up-token" }))).await;
    let before = service.read(&id).await;
    assert_eq!(before["state"], "connected");

    service.kill();
    let mut service = Service::start(directory.path());
    assert_eq!(service.read(&id).await, before);
    assert_eq!(service.tool(&id, "count", &json!({})).send().await.unwrap().status(), 200);

    // Killed in the middle of a probe: nobody else can be probing, so the connector can be connected at once.
    let hanging = self::server(Eras::Modern).await;
    hanging.script(Behaviour::hang());
    let stuck = service.create(&hanging.url()).await;
    let connecting =
        tokio::spawn(service.client.post(format!("{}/api/v1/connectors/{stuck}/connect", service.url)).send());
    hanging.wait_until_open_streams(1, 5 * SECOND).await.unwrap();
    service.kill();
    assert!(connecting.await.unwrap().is_err());
    hanging.behave();
    let service = Service::start(directory.path());
    let read = service.read(&stuck).await;
    assert_eq!((read["state"].as_str(), read["lifecycle"].as_str()), (Some("created"), Some("connecting")));
    let begun = Instant::now();
    let (status, connector) = service.call("POST", &format!("/api/v1/connectors/{stuck}/connect"), None).await;
    assert_eq!((status, connector["state"].as_str()), (200, Some("connected")), "{connector}");
    assert!(begun.elapsed() < 5 * SECOND, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_leaves_connectors_that_can_be_connected() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(Eras::Dual).await;
    let mut known: Vec<String> = Vec::new();
    for round in 0..12_u64 {
        let mut service = Service::start_with(directory.path(), &[("PROBE__TIMEOUT", "1")]);
        for id in &known {
            assert_eq!(service.read(id).await["id"], *id);
        }
        // Creates and connects run until the process dies under them.
        let (client, url, target) = (service.client.clone(), service.url.clone(), server.origin());
        let work = tokio::spawn(async move {
            let mut created = Vec::new();
            for n in 0.. {
                let body = json!({ "url": format!("{target}/mcp?round={round}&n={n}") });
                let Ok(answer) = client.post(format!("{url}/api/v1/connectors")).json(&body).send().await else {
                    break;
                };
                let Ok(connector) = answer.json::<Value>().await else { break };
                let id = connector["id"].as_str().unwrap().to_owned();
                created.push(id.clone());
                if client.post(format!("{url}/api/v1/connectors/{id}/connect")).send().await.is_err() {
                    break;
                }
            }
            created
        });
        tokio::time::sleep(Duration::from_millis(20 + round * 13)).await;
        service.kill();
        known.extend(work.await.unwrap());
    }
    assert!(!known.is_empty());
    let service = Service::start_with(directory.path(), &[("PROBE__TIMEOUT", "1")]);
    for id in &known {
        let (status, connector) = service.call("POST", &format!("/api/v1/connectors/{id}/connect"), None).await;
        assert_eq!((status, connector["state"].as_str()), (200, Some("connected")), "{connector}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_closes_streams_and_ends_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path());
    let server = server(Eras::Modern).await;
    let id = service.connected(&server).await;
    server.script(Rule::new(Behaviour::endless_sse(Duration::from_millis(50))).on_method("tools/call"));
    let answer = service.tool(&id, "echo", &json!({ "text": "x" })).send().await.unwrap();
    let mut body = answer.bytes_stream();
    body.next().await.unwrap().unwrap();
    let begun = Instant::now();
    let pid = service.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    while let Some(Ok(_)) = body.next().await {}
    let status = tokio::task::spawn_blocking(move || (service.child.wait().unwrap(), service)).await.unwrap().0;
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() < 10 * SECOND, "{:?}", begun.elapsed());
}
