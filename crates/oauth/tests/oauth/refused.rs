//! What the answers to a refresh token mean. Only one of them may cost a user the connector.

use std::time::Duration;

use connectors_application::ports::{AuthorizationServer as _, RefreshError, RefreshRequest, SpentToken};
use connectors_oauth::OAuthConfig;
use connectors_testkit::authorization_server::{AuthorizationServer, Behaviour, Ending, Endpoint};
use connectors_testkit::mcp_server::Reply;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::refresh::ready;
use crate::support::{bare, config, issued, obtain, pair, request, service_with};

/// What comes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Refused,
    Client,
    /// It may pass, and nothing was spent.
    No,
    /// It may pass, and the token may be spent.
    Perhaps,
}

fn outcome(error: &RefreshError) -> Outcome {
    match error {
        RefreshError::Refused => Outcome::Refused,
        RefreshError::ClientRefused => Outcome::Client,
        RefreshError::Passing { spent: SpentToken::No, .. } => Outcome::No,
        RefreshError::Passing { spent: SpentToken::Perhaps, .. } => Outcome::Perhaps,
    }
}

const ERRORS: &[(u16, &str, Outcome)] = &[
    (400, r#"{"error":"invalid_grant","error_description":"CANARY"}"#, Outcome::Refused),
    (401, r#"{"error":"invalid_grant"}"#, Outcome::Refused),
    (403, r#"{"error":"invalid_grant"}"#, Outcome::Refused),
    (200, r#"{"error":"invalid_grant"}"#, Outcome::Refused),
    (500, r#"{"error":"invalid_grant"}"#, Outcome::Refused),
    (200, r#"{"error":"invalid_grant","access_token":"CANARY","token_type":"Bearer"}"#, Outcome::Refused),
    (400, r#"{"error":"invalid\u005fgrant"}"#, Outcome::Refused),
    (400, r#"{"error":"invalid_client"}"#, Outcome::Client),
    (401, r#"{"error":"invalid_client"}"#, Outcome::Client),
    (200, r#"{"error":"invalid_client"}"#, Outcome::Client),
    (400, r#"{"error":"unauthorized_client"}"#, Outcome::Client),
    (400, r#"{"error":"invalid_request"}"#, Outcome::No),
    (400, r#"{"error":"invalid_scope"}"#, Outcome::No),
    (400, r#"{"error":"invalid_target"}"#, Outcome::No),
    (400, r#"{"error":"unsupported_grant_type"}"#, Outcome::No),
    (400, r#"{"error":"slow_down"}"#, Outcome::No),
    (503, r#"{"error":"temporarily_unavailable"}"#, Outcome::No),
    (200, r#"{"error":"temporarily_unavailable"}"#, Outcome::No),
    (401, r#"{"error":"invalid_token"}"#, Outcome::No),
    (403, r#"{"error":"access_denied"}"#, Outcome::No),
    (200, r#"{"error":"bad_refresh_token"}"#, Outcome::Refused),
    (400, r#"{"error":"Invalid_Grant"}"#, Outcome::No),
    (400, r#"{"error":" invalid_grant"}"#, Outcome::No),
    (400, r#"{"error":"invalid_grant\u0000"}"#, Outcome::No),
    (429, r#"{"error":"rate_limited"}"#, Outcome::No),
    (429, r#"{"error":{"code":429}}"#, Outcome::No),
    (429, "", Outcome::No),
    (429, "<html>CANARY", Outcome::No),
    (400, r#"{"error":"server_error"}"#, Outcome::Perhaps),
    (500, r#"{"error":"oops"}"#, Outcome::Perhaps),
    (502, r#"{"error":"invalid_request"}"#, Outcome::Perhaps),
    (200, r#"{"error":"slow_down","access_token":"CANARY","token_type":"Bearer"}"#, Outcome::Perhaps),
    (200, r#"{"error":7,"access_token":"CANARY","token_type":"Bearer"}"#, Outcome::Perhaps),
];

const PAGES: &[(u16, &str)] = &[
    (400, ""),
    (400, "<html>invalid_grant"),
    (400, "error=invalid_grant"),
    (400, r#"{"error":null}"#),
    (400, r#"{"error":""}"#),
    (400, r#"{"error":400}"#),
    (400, r#"{"error":["invalid_grant"]}"#),
    (400, r#"{"error":{"code":"invalid_grant"}}"#),
    (400, r#"{"error":"x","error":"invalid_grant"}"#),
    (400, r#"[{"error":"invalid_grant"}]"#),
    (400, r#""invalid_grant""#),
    (401, ""),
    (401, "invalid_grant"),
    (401, r#"{"message":"invalid_client"}"#),
    (403, "<html>CANARY"),
    (403, r#"{"errors":["invalid_grant"]}"#),
    (404, ""),
    (405, ""),
    (408, ""),
    (301, ""),
    (302, ""),
    (307, ""),
    (500, ""),
    (500, "<html>CANARY"),
    (502, "<html>CANARY"),
    (503, ""),
    (504, "CANARY"),
    (530, "CANARY"),
];

const UNUSABLE: &[&str] = &[
    "",
    "null",
    "[]",
    "{}",
    "<html>",
    "access_token=CANARY&token_type=bearer",
    r#"{"access_token":"CANARY"}"#,
    r#"{"access_token":"CANARY","token_type":"mac"}"#,
    r#"{"access_token":"CANARY","token_type":["Bearer"]}"#,
    r#"{"token_type":"Bearer"}"#,
    r#"{"access_token":null,"token_type":"Bearer"}"#,
    r#"{"access_token":7,"token_type":"Bearer"}"#,
    r#"{"access_token":"","token_type":"Bearer"}"#,
    r#"{"access_token":"CANARY b","token_type":"Bearer"}"#,
    r#"{"access_token":"CANARY\r\nX: y","token_type":"Bearer"}"#,
    r#"{"access_token":"CANARY","token_type":"Bearer","refresh_token":"a\n"}"#,
    r#"{"access_token":"CANARY","token_type":"Bearer","refresh_token":7}"#,
    r#"{"access_token":"CANARY","access_token":"b","token_type":"Bearer"}"#,
    r#"{"access_token":"CANARY","token_type":"Bearer""#,
];

#[tokio::test]
async fn an_answer_means_what_it_says_in_so_many_words() {
    let pages = PAGES.iter().map(|(status, body)| (*status, *body, Outcome::Perhaps));
    let unusable = UNUSABLE.iter().map(|body| (200, *body, Outcome::Perhaps));
    let (server, service, request) = ready().await;
    for (status, body, expected) in ERRORS.iter().copied().chain(pages).chain(unusable) {
        server.route("/token", Reply::json(body).status(status));
        let error = service.client.refresh(request.clone()).await.unwrap_err();
        assert_eq!(outcome(&error), expected, "{status} {body}");
        assert!(!format!("{error} {error:?}").contains("CANARY"), "{status} {body}");
    }
}

#[tokio::test]
async fn hostile_answers_pass() {
    let (server, mcp) = pair(AuthorizationServer::builder().start().await.unwrap()).await;
    let service = service_with(OAuthConfig { request_timeout: Duration::from_millis(400), ..config() });
    let trap = bare().await;
    let right = r#"{"access_token":"at","token_type":"Bearer"}"#;
    for behaviour in [
        Behaviour::hang(),
        Behaviour::close(),
        Behaviour::reset(),
        Behaviour::garbage(),
        Behaviour::hang_in_head(),
        Behaviour::invalid_json(),
        Behaviour::deep_json(100_000),
        Behaviour::endless_json(),
        Behaviour::endless_sse(Duration::from_millis(5)),
        Behaviour::oversized(2 << 20),
        Behaviour::gzip(),
        Behaviour::huge_headers(1 << 20),
        Behaviour::trickle(Duration::from_millis(20)),
        Behaviour::shorter_than_declared(),
        Behaviour::cut_in_the_middle(Ending::Reset),
        Behaviour::cut_in_the_middle(Ending::Hang),
        Behaviour::redirect(302, &trap.url()),
        Behaviour::redirect(307, &trap.url()),
        Behaviour::redirect(308, &trap.url()),
        Behaviour::with_member("access_token", "a\r\nb"),
        Behaviour::with_member("access_token", "x".repeat(20_000)),
        Behaviour::with_member("token_type", "DPoP"),
        Behaviour::without_member("access_token"),
        Behaviour::raw(format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n\r\n{right}")),
        Behaviour::raw(&b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"[..]),
    ] {
        let grant = obtain(&service, request(&mcp)).await;
        server.add_rules(server.once(Endpoint::Refresh, behaviour.clone()));
        let request = RefreshRequest::of(issued(&grant)).unwrap();
        let error = service.client.refresh(request).await.unwrap_err();
        assert_eq!(outcome(&error), Outcome::Perhaps, "{behaviour:?}: {error}");
    }
    assert_eq!(trap.request_count(), 0);
}

/// Bodies that are near `invalid_grant`, and others.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let near = select(vec![
        "invalid_grant",
        r#""invalid_grant""#,
        r#"{"error":"invalid_grant"}"#,
        r#"{"error":"invalid_grant"#,
        r#"{"error":"invalid_grants"}"#,
        r#"{"error":"INVALID_GRANT"}"#,
        r#"{"Error":"invalid_grant"}"#,
        r#"{"error":["invalid_grant"]}"#,
        r#"{"error":{"error":"invalid_grant"}}"#,
        r#"{"error_description":"invalid_grant"}"#,
        r#"{"error":"invalid_request","error_description":"invalid_grant"}"#,
        r#"{"error":"access_denied","a":{"error":"invalid_grant"}}"#,
    ]);
    let around = ("[ \\n{}\\[\\]\",:]{0,3}", near, "[ \\n{}\\[\\]\",:]{0,3}");
    prop_oneof![
        2 => around.prop_map(|(before, near, after)| format!("{before}{near}{after}").into_bytes()),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => "\\{\"error\":\"[a-z_]{0,20}\"\\}".prop_map(String::into_bytes),
        1 => ".{0,60}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn garbage_is_never_a_refusal(
        status in select(vec![200, 201, 202, 301, 302, 400, 401, 402, 403, 404, 418, 422, 429, 500, 502, 503]),
        html in any::<bool>(),
        body in body(),
    ) {
        let says_so = serde_json::from_slice::<Value>(&body).is_ok_and(|value| value["error"] == "invalid_grant");
        let refused = Runtime::new().unwrap().block_on(async {
            let (server, service, request) = ready().await;
            let reply = if html { Reply::html(body.clone()) } else { Reply::json(body.clone()) };
            server.route("/token", reply.status(status));
            service.client.refresh(request).await == Err(RefreshError::Refused)
        });
        prop_assert!(!refused || says_so, "{status} {:?}", String::from_utf8_lossy(&body));
    }
}
