//! The probe against servers of every kind, over real sockets.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests, too")]

mod common;

use std::time::{Duration, Instant};

use common::{LONG, client, client_with, config, server, token, url};
use connectors_application::ports::{McpServer as _, ProbeError};
use connectors_domain::{ServerFacts, ServerUrl};
use connectors_egress::{Egress, Limits, Policy};
use connectors_mcp::{McpClient, McpConfig};
use connectors_testkit::mcp_server::{Auth, Behaviour, Ending, Eras, McpServer, Reply, Rule, SseStyle, Step};
use serde_json::{Value, json};

type Facts = (Option<String>, Option<String>, Option<String>);
type Outcome = Result<Facts, ProbeError>;

fn facts(facts: ServerFacts) -> Facts {
    let text = |version: Option<connectors_domain::ProtocolVersion>| version.map(|version| version.to_string());
    (text(facts.modern), text(facts.legacy), facts.name)
}

/// What is expected of a server called `testkit`.
#[expect(clippy::unnecessary_wraps, reason = "it is compared with outcomes")]
fn speaks(modern: Option<&str>, legacy: Option<&str>) -> Outcome {
    Ok((modern.map(str::to_owned), legacy.map(str::to_owned), Some("testkit".to_owned())))
}

async fn probe(server: &McpServer) -> Outcome {
    client().probe(url(server), None).await.map(facts)
}

async fn probe_with(server: &McpServer, credential: &str) -> Outcome {
    client().probe(url(server), Some(token(credential))).await.map(facts)
}

/// The outcome for a server that does the same with every request, in an era in which it could be used.
async fn probe_of(behaviour: Behaviour) -> Outcome {
    let server = McpServer::builder().eras(Eras::Dual).script(behaviour).start().await.unwrap();
    probe(&server).await
}

fn versions(versions: &[&str]) -> Eras {
    Eras::Versions(versions.iter().map(|version| (*version).to_owned()).collect())
}

/// What the server was asked, in order: the JSON-RPC method, or the verb.
fn asked(server: &McpServer) -> Vec<String> {
    server.requests().iter().map(|request| request.rpc_method.clone().unwrap_or_else(|| request.verb.clone())).collect()
}

/// Every session that the server began was ended, in the same number.
fn no_session_is_left(server: &McpServer) {
    let ended: Vec<_> = server.requests().into_iter().filter(|request| request.verb == "DELETE").collect();
    let begun = server.requests_for("initialize").len();
    assert_eq!(ended.len(), begun, "{:?}", asked(server));
    assert!(ended.iter().all(|request| request.header("mcp-session-id").is_some()));
}

// What servers speak

#[tokio::test]
async fn a_legacy_server_is_known_and_left_without_a_session() {
    let server = server(Eras::Legacy).await;
    assert_eq!(probe(&server).await, speaks(None, Some("2025-11-25")));
    assert_eq!(asked(&server), ["server/discover", "initialize", "DELETE"]);
    no_session_is_left(&server);
    let end = &server.requests()[2];
    assert_eq!(end.header("mcp-protocol-version"), Some("2025-11-25"));
    assert!(end.header("mcp-session-id").unwrap().starts_with("session-"));
}

#[tokio::test]
async fn a_legacy_server_without_sessions_is_asked_no_more_than_needed() {
    let server = McpServer::builder().eras(Eras::Legacy).stateless().start().await.unwrap();
    assert_eq!(probe(&server).await, speaks(None, Some("2025-11-25")));
    assert_eq!(asked(&server), ["server/discover", "initialize"]);
}

#[tokio::test]
async fn a_legacy_server_may_answer_in_any_event_stream() {
    for style in [
        SseStyle::Plain,
        SseStyle::Bare,
        SseStyle::CrLf,
        SseStyle::Cr,
        SseStyle::Bom,
        SseStyle::Comments,
        SseStyle::MultiLine,
        SseStyle::Primed,
        SseStyle::Everything,
    ] {
        let server = server(Eras::Legacy).await;
        server.script(Rule::new(Behaviour::as_sse(style)).on_verb("POST"));
        assert_eq!(probe(&server).await, speaks(None, Some("2025-11-25")), "{style:?}");
        no_session_is_left(&server);
        server.script(Rule::new(Behaviour::alter(move |reply| reply.as_sse(style).in_pieces_of(1))).on_verb("POST"));
        assert_eq!(probe(&server).await, speaks(None, Some("2025-11-25")), "{style:?} in bytes");
    }
}

#[tokio::test]
async fn what_comes_before_the_answer_is_passed_over_and_what_comes_after_is_not_waited_for() {
    let server = McpServer::builder().eras(Eras::Legacy).stateless().start().await.unwrap();
    let chatty = Behaviour::wire([
        Step::Send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nmcp-session-id: s1\r\n\r\n".into()),
        Step::Send("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":{}}\n\n".into()),
        Step::Wait(Duration::from_millis(20)),
        Step::Send("data: {\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}\n\n".into()),
        Step::Send("data: {\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{\"protocolVersion\":\"2024-11-05\"}}\n\n".into()),
        Step::Send("data: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"protocolVersion\":\"2025-03-26\"}}\n\n".into()),
        Step::End(Ending::Hang),
    ]);
    server.script(Rule::new(chatty).on_method("initialize"));
    let start = Instant::now();
    assert_eq!(probe(&server).await, Ok((None, Some("2025-03-26".to_owned()), None)));
    assert!(start.elapsed() < LONG / 4);
    assert_eq!(asked(&server), ["server/discover", "initialize", "DELETE"]);
}

#[tokio::test]
async fn a_modern_server_is_known() {
    let server = server(Eras::Modern).await;
    assert_eq!(probe(&server).await, speaks(Some("2026-07-28"), None));
    assert_eq!(asked(&server), ["server/discover", "initialize"]);
    let styled = self::server(Eras::Modern).await;
    styled.script(Behaviour::as_sse(SseStyle::Everything));
    assert_eq!(probe(&styled).await, speaks(Some("2026-07-28"), None));
}

#[tokio::test]
async fn a_server_of_both_eras_that_says_so_is_asked_once() {
    let server = server(Eras::Dual).await;
    assert_eq!(probe(&server).await, speaks(Some("2026-07-28"), Some("2025-11-25")));
    assert_eq!(asked(&server), ["server/discover"]);
}

#[tokio::test]
async fn a_server_of_both_eras_that_does_not_say_so_is_known_too() {
    let server = server(Eras::Dual).await;
    let quiet = Behaviour::alter(|reply| {
        reply.edit_json(|message| message["result"]["supportedVersions"] = json!(["2026-07-28"]))
    });
    server.script(Rule::new(quiet).on_method("server/discover"));
    assert_eq!(probe(&server).await, speaks(Some("2026-07-28"), Some("2025-11-25")));
    assert_eq!(asked(&server), ["server/discover", "initialize", "DELETE"]);
    no_session_is_left(&server);
}

#[tokio::test]
async fn the_newest_known_version_is_chosen() {
    for (offered, expected) in [
        (vec!["2099-01-01", "2026-07-28"], speaks(Some("2026-07-28"), None)),
        (vec!["2026-07-28", "2024-11-05", "2025-06-18"], speaks(Some("2026-07-28"), Some("2025-06-18"))),
        (vec!["2025-03-26"], speaks(None, Some("2025-03-26"))),
        (vec!["2024-11-05"], speaks(None, Some("2024-11-05"))),
    ] {
        let server = server(versions(&offered)).await;
        assert_eq!(probe(&server).await, expected, "{offered:?}");
        // A modern server begins no session when it refuses `initialize`.
        if expected.is_ok_and(|(modern, _, _)| modern.is_none()) {
            no_session_is_left(&server);
        }
    }
}

#[tokio::test]
async fn versions_that_nobody_knows_are_unsupported() {
    for offered in [vec!["2099-01-01"], vec!["2023-01-01"], vec!["2025-06-19"], vec!["2099-01-01", "2023-01-01"]] {
        let server = server(versions(&offered)).await;
        assert_eq!(probe(&server).await, Err(ProbeError::UnsupportedVersion), "{offered:?}");
    }
    let odd = ["", "latest", "2025-11-25 ", "DRAFT-2026-v1", "2026-07-28"];
    for version in odd {
        let server = server(Eras::Legacy).await;
        let behaviour = Behaviour::alter(move |reply| {
            reply.edit_json(|message| message["result"]["protocolVersion"] = version.into())
        });
        server.script(Rule::new(behaviour).on_method("initialize"));
        assert_eq!(probe(&server).await, Err(ProbeError::UnsupportedVersion), "{version:?}");
        no_session_is_left(&server);
    }
}

#[tokio::test]
async fn a_refused_version_is_asked_for_once_more() {
    let refusal = |supported: Value| {
        Behaviour::rpc_error(400, -32022, "Unsupported protocol version", &json!({ "supported": supported }))
    };
    let server = server(Eras::Modern).await;
    server.script(Rule::once(refusal(json!(["2027-01-01", "2026-07-28"]))).on_method("server/discover"));
    assert_eq!(probe(&server).await, speaks(Some("2026-07-28"), None));
    assert_eq!(asked(&server), ["server/discover", "server/discover", "initialize"]);
    let ids: Vec<_> = server.requests().iter().map(|request| request.json().unwrap()["id"].clone()).collect();
    assert_eq!(ids, [1, 2, 3]);

    server.clear_requests();
    server.script(Rule::new(refusal(json!(["2026-07-28"]))).on_method("server/discover"));
    // It says so when it is asked as by a legacy client, too.
    assert_eq!(probe(&server).await, Ok((Some("2026-07-28".to_owned()), None, None)));
    assert_eq!(asked(&server), ["server/discover", "server/discover", "initialize"]);

    let legacy = self::server(Eras::Legacy).await;
    legacy.script(Rule::new(refusal(json!(["2025-11-25"]))).on_method("server/discover"));
    assert_eq!(probe(&legacy).await, speaks(None, Some("2025-11-25")));
    legacy.clear_requests();
    let old =
        Behaviour::rpc_error(200, -32602, "Unsupported protocol version", &json!({ "supported": ["2025-06-18"] }));
    legacy.script(Rule::once(old).on_method("initialize"));
    assert_eq!(probe(&legacy).await, speaks(None, Some("2025-06-18")));
    assert_eq!(asked(&legacy), ["server/discover", "initialize", "initialize", "DELETE"]);
    let strange = Behaviour::rpc_error(200, -32602, "no", &json!({ "supported": ["2023-01-01"] }));
    legacy.script(Rule::new(strange).on_method("initialize"));
    assert_eq!(probe(&legacy).await, Err(ProbeError::UnsupportedVersion));
}

#[tokio::test]
async fn errors_that_only_modern_servers_have_are_a_sign_of_the_era() {
    for code in [-32020, -32021] {
        let server = server(Eras::Modern).await;
        server.script(Rule::new(Behaviour::rpc_error(400, code, "no", &Value::Null)).on_method("server/discover"));
        assert_eq!(probe(&server).await, Ok((Some("2026-07-28".to_owned()), None, None)), "{code}");
    }
    // Others are not: a legacy server's are among them.
    for (status, code) in [(400, -32000), (400, -32600), (404, -32601), (200, -32601), (404, -32001), (500, -32022)] {
        let server = server(Eras::Legacy).await;
        server.script(Rule::new(Behaviour::rpc_error(status, code, "no", &Value::Null)).on_method("server/discover"));
        assert_eq!(probe(&server).await, speaks(None, Some("2025-11-25")), "{status} {code}");
        server.script(Behaviour::rpc_error(status, code, "no", &Value::Null));
        assert!(probe(&server).await.is_err(), "{status} {code}");
    }
}

#[tokio::test]
async fn a_server_that_fails_on_what_it_does_not_know_is_still_known() {
    for behaviour in [
        Behaviour::status(200),
        Behaviour::status(500),
        Behaviour::text(400, "session required"),
        Behaviour::text(403, "no"),
        Behaviour::html("<html>"),
        Behaviour::close(),
        Behaviour::reset(),
        Behaviour::garbage(),
        Behaviour::endless_json(),
        Behaviour::gzip(),
    ] {
        let server = server(Eras::Legacy).await;
        server.script(Rule::new(behaviour.clone()).on_method("server/discover"));
        assert_eq!(probe(&server).await, speaks(None, Some("2025-11-25")), "{behaviour:?}");
        no_session_is_left(&server);
    }
    let silent = server(Eras::Legacy).await;
    silent.script(Rule::new(Behaviour::hang()).on_method("server/discover"));
    let client = client_with(&Limits::default(), McpConfig { probe_timeout: Duration::from_secs(2), ..config() });
    assert_eq!(client.probe(url(&silent), None).await.map(facts), speaks(None, Some("2025-11-25")));

    let modern = server(Eras::Modern).await;
    modern.script(Rule::new(Behaviour::status(500)).on_method("initialize"));
    assert_eq!(probe(&modern).await, speaks(Some("2026-07-28"), None));
    modern.script(Rule::new(Behaviour::reset()).on_method("initialize"));
    assert_eq!(probe(&modern).await, speaks(Some("2026-07-28"), None));
}

#[tokio::test]
async fn a_server_of_the_old_transport_is_not_spoken() {
    let server = server(Eras::HttpSse).await;
    assert_eq!(probe(&server).await, Err(ProbeError::NotMcp));
    assert!(server.requests().iter().all(|request| request.verb == "POST"));
}

// What the probe sends

#[tokio::test]
async fn the_questions_are_what_the_specification_asks_for() {
    let server = server(Eras::Modern).await;
    probe(&server).await.unwrap();
    let requests = server.requests();
    let (discover, initialize) = (&requests[0], &requests[1]);
    assert_eq!(discover.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(discover.header("mcp-method"), Some("server/discover"));
    let meta = &discover.json().unwrap()["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    let client = json!({ "name": "connectors", "version": "1.2.3" });
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"], client);
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));

    let params = json!({ "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client });
    assert_eq!(initialize.json().unwrap()["params"], params);
    for request in [discover, initialize] {
        assert_eq!(request.header("accept"), Some("application/json, text/event-stream"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        assert!(request.header("user-agent").unwrap().starts_with("connectors/"));
        for absent in ["authorization", "cookie", "origin", "referer", "mcp-session-id"] {
            assert_eq!(request.header(absent), None, "{absent}");
        }
    }
    assert_eq!(initialize.header("mcp-method"), None);
}

#[tokio::test]
async fn every_request_carries_the_credential() {
    let server = McpServer::builder().eras(Eras::Legacy).auth(Auth::bearer("good")).start().await.unwrap();
    assert_eq!(probe_with(&server, "good").await, speaks(None, Some("2025-11-25")));
    assert_eq!(asked(&server), ["server/discover", "initialize", "DELETE"]);
    assert!(server.requests().iter().all(|request| request.bearer() == Some("good")));
    no_session_is_left(&server);
}

// Authorization

#[tokio::test]
async fn a_server_that_wants_a_credential_is_unauthorized_in_every_era() {
    for eras in [Eras::Legacy, Eras::Modern, Eras::Dual, Eras::HttpSse] {
        let server = McpServer::builder().eras(eras.clone()).auth(Auth::bearer("good")).start().await.unwrap();
        assert!(matches!(probe(&server).await, Err(ProbeError::Unauthorized { .. })), "{eras:?}");
        assert!(matches!(probe_with(&server, "bad").await, Err(ProbeError::Unauthorized { .. })), "{eras:?}");
        assert_eq!(server.request_count(), 2);
    }
}

#[tokio::test]
async fn a_401_to_either_question_is_the_outcome() {
    let server = McpServer::builder()
        .eras(versions(&["2026-07-28"]))
        .auth(Auth::bearer("good").open_method("server/discover"))
        .start()
        .await
        .unwrap();
    assert!(matches!(probe(&server).await, Err(ProbeError::Unauthorized { .. })));
    assert!(matches!(probe_with(&server, "bad").await, Err(ProbeError::Unauthorized { .. })));
    assert_eq!(probe_with(&server, "good").await, speaks(Some("2026-07-28"), None));

    let server = McpServer::builder()
        .eras(Eras::Legacy)
        .auth(Auth::bearer("good").open_method("initialize"))
        .start()
        .await
        .unwrap();
    assert!(matches!(probe(&server).await, Err(ProbeError::Unauthorized { .. })));
    assert_eq!(probe_with(&server, "good").await, speaks(None, Some("2025-11-25")));
    no_session_is_left(&server);
}

/// What a server that has been probed answers when it is asked for its tools.
async fn tools_challenge(server: &McpServer, client: &McpClient) -> Option<Vec<String>> {
    let known = client.probe(url(server), None).await.unwrap();
    server.clear_requests();
    client.tools_challenge(url(server), known).await
}

/// A server with an anonymous handshake.
fn anonymous() -> Auth {
    ["server/discover", "initialize", "notifications/initialized"]
        .into_iter()
        .fold(Auth::bearer("good").challenge("Bearer scope=\"a\""), Auth::open_method)
}

#[tokio::test]
async fn a_server_with_an_anonymous_handshake_wants_a_credential_for_its_tools() {
    for (eras, questions) in [
        (Eras::Modern, &["tools/list"][..]),
        (Eras::Dual, &["tools/list"]),
        (Eras::Legacy, &["initialize", "notifications/initialized", "tools/list", "DELETE"]),
    ] {
        let server = McpServer::builder().eras(eras).auth(anonymous()).start().await.unwrap();
        let challenges = tools_challenge(&server, &client()).await;
        assert_eq!(challenges, Some(vec!["Bearer scope=\"a\"".to_owned()]));
        assert_eq!(asked(&server), questions);
    }
}

#[tokio::test]
async fn a_server_that_lists_its_tools_to_everybody_has_no_challenge() {
    let server = self::server(Eras::Modern).await;
    assert_eq!(tools_challenge(&server, &client()).await, None);
    let question = &server.requests()[0];
    assert_eq!(question.header("mcp-protocol-version"), Some("2026-07-28"));
    assert_eq!(question.header("mcp-method"), Some("tools/list"));
    let meta = &question.json().unwrap()["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(question.header("authorization"), None);

    let server = self::server(Eras::Legacy).await;
    assert_eq!(tools_challenge(&server, &client()).await, None);
    assert_eq!(asked(&server), ["initialize", "notifications/initialized", "tools/list", "DELETE"]);
    no_session_is_left(&server);
    for request in &server.requests()[1..] {
        assert_eq!(request.header("mcp-protocol-version"), Some("2025-11-25"));
        assert!(request.header("mcp-session-id").is_some());
    }

    let server = McpServer::builder().eras(Eras::Legacy).stateless().start().await.unwrap();
    assert_eq!(tools_challenge(&server, &client()).await, None);
    assert_eq!(asked(&server), ["initialize", "notifications/initialized", "tools/list"]);
}

#[tokio::test]
async fn only_a_401_is_a_challenge() {
    let unknown = Reply::json(
        json!({
            "jsonrpc": "2.0", "id": 1, "error": { "code": -32601, "message": "Method not found" },
        })
        .to_string(),
    );
    for behaviour in [
        Behaviour::from(unknown.clone()),
        Behaviour::from(unknown.status(404)),
        Behaviour::text(403, "no"),
        Behaviour::text(500, "no"),
        Behaviour::garbage(),
        Behaviour::hang(),
    ] {
        for eras in [Eras::Modern, Eras::Legacy] {
            let server = self::server(eras).await;
            server.script(Rule::new(behaviour.clone()).on_method("tools/list"));
            let config = McpConfig { probe_timeout: Duration::from_secs(1), ..config() };
            assert_eq!(tools_challenge(&server, &client_with(&Limits::default(), config)).await, None, "{behaviour:?}");
            assert_eq!(server.requests_for("tools/list").len(), 1, "{behaviour:?}");
            no_session_is_left(&server);
        }
    }
}

// Misbehaviour

#[tokio::test]
async fn what_is_not_mcp_is_told() {
    let wrong = "CANARY-BODY";
    for behaviour in [
        Behaviour::html(wrong),
        Behaviour::text(200, wrong),
        Behaviour::status(200),
        Behaviour::status(202),
        Behaviour::status(204),
        Behaviour::text(404, wrong),
        Behaviour::text(405, wrong),
        Behaviour::status(404),
        Behaviour::status(405),
        Behaviour::gzip(),
        Behaviour::garbage(),
        Behaviour::close(),
        Behaviour::reset(),
        Behaviour::invalid_json(),
        Behaviour::not_json_rpc(),
        Behaviour::wrong_id(),
        Behaviour::deep_json(100_000),
        Behaviour::endless_json(),
        Behaviour::huge_sse_event(64 << 20),
        Behaviour::huge_headers(64 << 10),
        Behaviour::cut_in_the_middle(Ending::Close),
        Behaviour::cut_in_the_middle(Ending::Reset),
        Behaviour::shorter_than_declared(),
        Behaviour::duplicate_content_length(),
        Behaviour::rpc_result(&json!({})),
        Behaviour::rpc_result(&json!([])),
        Behaviour::rpc_result(&json!({ "protocolVersion": 1, "supportedVersions": "2026-07-28" })),
        Reply::json("").into(),
        Reply::json("null").into(),
        Reply::json(&b"\xff\xfe{}"[..]).into(),
        Reply::rpc_result(&json!({ "protocolVersion": "2025-11-25" })).content_type("text/plain").into(),
        Reply::rpc_result(&json!({ "protocolVersion": "2025-11-25" })).header("content-type", "text/html").into(),
        Reply::stream(["data: no json\n\n"]).into(),
        Reply::stream::<&str>([]).into(),
        Reply::stream([&b"data: \xff\n\n"[..]]).into(),
    ] {
        let start = Instant::now();
        let outcome = probe_of(behaviour.clone()).await;
        assert_eq!(outcome, Err(ProbeError::NotMcp), "{behaviour:?}");
        assert!(start.elapsed() < LONG / 2, "{behaviour:?}");
        assert!(!outcome.unwrap_err().to_string().contains(wrong));
    }
}

#[tokio::test]
async fn an_unusable_answer_still_leaves_no_session() {
    for behaviour in [
        Behaviour::alter(|reply| reply.edit_json(|message| message["id"] = 99.into())),
        Behaviour::alter(|reply| reply.body("nonsense")),
        Behaviour::alter(|reply| reply.content_type("text/html")),
        Behaviour::gzip(),
        Behaviour::cut_in_the_middle(Ending::Reset),
        Behaviour::hostile_headers(),
    ] {
        let server = server(Eras::Legacy).await;
        server.script(Rule::new(behaviour.clone()).on_method("initialize"));
        let _ = probe(&server).await;
        no_session_is_left(&server);
    }
}

#[tokio::test]
async fn a_status_is_told_and_the_body_is_not() {
    for status in [400, 402, 403, 406, 407, 408, 409, 410, 413, 415, 418, 429, 500, 501, 502, 503, 504, 599] {
        let outcome = probe_of(Behaviour::text(status, "CANARY-BODY")).await;
        assert_eq!(outcome, Err(ProbeError::Status(status)), "{status}");
        assert!(!outcome.unwrap_err().to_string().contains("CANARY"));
    }
    assert_eq!(probe_of(Behaviour::too_many_requests(5)).await, Err(ProbeError::Status(429)));
    // The more telling one of two.
    let server = server(Eras::Legacy).await;
    for (discover, initialize, expected) in [
        (500, 404, ProbeError::Status(500)),
        (404, 503, ProbeError::Status(503)),
        (400, 404, ProbeError::NotMcp),
        (403, 404, ProbeError::Status(403)),
        (500, 503, ProbeError::Status(503)),
    ] {
        server.script([
            Rule::once(Behaviour::text(discover, "")).on_method("server/discover"),
            Rule::once(Behaviour::text(initialize, "")).on_method("initialize"),
        ]);
        assert_eq!(probe(&server).await, Err(expected), "{discover} {initialize}");
    }
}

#[tokio::test]
async fn a_403_is_told_with_its_challenges_unless_the_other_question_is_answered() {
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"w\"";
    let refusal = || Behaviour::from(Reply::text(403, "CANARY").header("www-authenticate", challenge));
    let told = Err(ProbeError::Forbidden { challenges: vec![challenge.to_owned()] });
    assert_eq!(probe_of(refusal()).await, told);
    let server = server(Eras::Legacy).await;
    server.script(Rule::new(refusal()).on_method("initialize"));
    assert_eq!(probe(&server).await, told);
    server.script(Rule::new(refusal()).on_method("server/discover"));
    assert_eq!(probe(&server).await, speaks(None, Some("2025-11-25")));
}

#[tokio::test]
async fn a_redirect_is_told_and_not_followed() {
    let canary = server(Eras::Dual).await;
    for status in [301, 302, 303, 307, 308] {
        let server = McpServer::builder().script(Behaviour::redirect(status, &canary.url())).start().await.unwrap();
        assert_eq!(probe_with(&server, "good").await, Err(ProbeError::Status(status)));
        let own = server.url();
        server.script(Behaviour::redirect(status, &own));
        assert_eq!(probe_with(&server, "good").await, Err(ProbeError::Status(status)));
        assert_eq!(server.request_count(), 4);
    }
    assert_eq!((canary.request_count(), canary.connections()), (0, 0));
}

#[tokio::test]
async fn slowness_ends_within_the_time_of_a_probe() {
    let limit = Duration::from_millis(600);
    let client = client_with(&Limits::default(), McpConfig { probe_timeout: limit, ..config() });
    for behaviour in [
        Behaviour::hang(),
        Behaviour::hang_in_head(),
        Behaviour::delayed(Duration::from_mins(1)),
        Behaviour::trickle(Duration::from_millis(100)),
        Behaviour::endless_sse(Duration::from_millis(10)),
        Behaviour::cut_in_the_middle(Ending::Hang),
    ] {
        let server = McpServer::builder().eras(Eras::Legacy).script(behaviour.clone()).start().await.unwrap();
        let start = Instant::now();
        let outcome = client.probe(url(&server), None).await;
        assert_eq!(outcome, Err(ProbeError::TimedOut), "{behaviour:?}");
        assert!(start.elapsed() < limit + Duration::from_secs(1), "{behaviour:?}: {:?}", start.elapsed());
        assert!(start.elapsed() > limit / 2, "{behaviour:?}: {:?}", start.elapsed());
        server.wait_until_open_streams(0, Duration::from_secs(1)).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_whose_answer_does_not_come_is_ended() {
    let limit = Duration::from_secs(1);
    let client = client_with(&Limits::default(), McpConfig { probe_timeout: limit, ..config() });
    let server = server(Eras::Legacy).await;
    server.script(Rule::new(Behaviour::cut_in_the_middle(Ending::Hang)).on_method("initialize"));
    assert_eq!(client.probe(url(&server), None).await, Err(ProbeError::TimedOut));
    no_session_is_left(&server);
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_changes_nothing() {
    let limit = Duration::from_secs(2);
    let client = client_with(&Limits::default(), McpConfig { probe_timeout: limit, ..config() });
    for behaviour in [
        Behaviour::status(405),
        Behaviour::status(500),
        Behaviour::unauthorized("Bearer"),
        Behaviour::redirect(307, "http://127.0.0.1:1/"),
        Behaviour::reset(),
        Behaviour::garbage(),
        Behaviour::endless_json(),
        Behaviour::hang(),
    ] {
        let server = server(Eras::Legacy).await;
        server.script(Rule::new(behaviour.clone()).on_verb("DELETE"));
        let start = Instant::now();
        let outcome = client.probe(url(&server), None).await.map(facts);
        assert_eq!(outcome, speaks(None, Some("2025-11-25")), "{behaviour:?}");
        assert!(start.elapsed() < limit, "{behaviour:?}");
        no_session_is_left(&server);
    }
}

#[tokio::test]
async fn a_session_that_comes_with_another_answer_is_ended_too() {
    let server = McpServer::builder().eras(Eras::Modern).start().await.unwrap();
    server.script(Rule::new(Behaviour::with_headers(&[("mcp-session-id", "lax")])).on_method("server/discover"));
    probe(&server).await.unwrap();
    assert_eq!(asked(&server), ["server/discover", "initialize", "DELETE"]);
    assert_eq!(server.requests()[2].header("mcp-session-id"), Some("lax"));
}

#[tokio::test]
async fn a_server_that_names_itself_strangely_is_known() {
    for (name, expected) in [
        (json!("a\u{0}b\n\u{1b}[31mc"), Some("ab[31mc".to_owned())),
        (json!("x".repeat(10_000)), Some("x".repeat(200))),
        (json!(" \t"), None),
        (json!(["x"]), None),
        (Value::Null, None),
    ] {
        let modern = {
            let name = name.clone();
            Behaviour::alter(move |reply| {
                let name = name.clone();
                reply.edit_json(|message| {
                    message["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] = name;
                })
            })
        };
        let server = server(Eras::Dual).await;
        server.script(Rule::new(modern).on_method("server/discover"));
        assert_eq!(probe(&server).await.unwrap().2, expected, "{name}");
        let legacy = self::server(Eras::Legacy).await;
        let change = Behaviour::alter(move |reply| {
            let name = name.clone();
            reply.edit_json(|message| message["result"]["serverInfo"]["name"] = name)
        });
        legacy.script(Rule::new(change).on_method("initialize"));
        assert_eq!(probe(&legacy).await.unwrap().2, expected);
    }
}

// Where the probe does not get to

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let server = server(Eras::Dual).await;
    let there = url(&server);
    server.stop().await;
    assert!(matches!(client().probe(there, None).await, Err(ProbeError::Unreachable(_))));
    let nowhere = ServerUrl::parse("https://connectors-test.invalid/mcp").unwrap();
    assert!(matches!(client().probe(nowhere, None).await, Err(ProbeError::Unreachable(_))));
    // Something that does not speak TLS.
    let plain = self::server(Eras::Dual).await;
    let tls = ServerUrl::parse(&plain.url().replace("http:", "https:")).unwrap();
    assert!(matches!(client().probe(tls, None).await, Err(ProbeError::Unreachable(_))));
}

#[tokio::test]
async fn a_refused_address_is_not_called_and_says_what_an_operator_can_do() {
    let server = server(Eras::Dual).await;
    let client = McpClient::new(Egress::new(&Policy::default(), &Limits::default(), None).unwrap(), config());
    let plain = client.admit(&url(&server)).unwrap_err();
    assert!(plain.0.contains("egress.allow"), "{plain}");
    assert_eq!(client.probe(url(&server), Some(token("good"))).await, Err(ProbeError::AddressRefused(plain)));
    let inside = ServerUrl::parse("https://10.1.2.3/mcp").unwrap();
    let refused = client.admit(&inside).unwrap_err();
    assert!(refused.0.contains("egress.allow") && !refused.0.contains("10.1.2.3"), "{refused}");
    assert_eq!(client.probe(inside, None).await, Err(ProbeError::AddressRefused(refused)));
    // A name is looked up only when it is dialled.
    let name = ServerUrl::parse("https://localhost.localdomain.example/mcp").unwrap();
    assert_eq!(client.admit(&name), Ok(()));
    assert_eq!((server.request_count(), server.connections()), (0, 0));
}
