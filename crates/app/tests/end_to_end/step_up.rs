//! Servers that want more than the user has consented to.

use std::sync::Arc;

use connectors_testkit::authorization_server::{AuthorizationServer, Consent, Endpoint, Reply, parameter, visit};
use connectors_testkit::mcp_server::{McpServer, Rule};
use serde_json::{Value, json};

use crate::support::{Service, protected};

/// A server for which consent to `read` is enough, until `demand` says otherwise.
pub(crate) async fn server_of_scopes() -> (Arc<AuthorizationServer>, McpServer) {
    let (authorization, server) = protected().await;
    let metadata = format!("{}/.well-known/oauth-protected-resource/mcp", server.origin());
    server.set_challenge(Some(&format!("Bearer resource_metadata=\"{metadata}\", scope=\"read\"")));
    (Arc::new(authorization), server)
}

/// The server wants this scope for requests that hold these bytes, and says so.
pub(crate) fn demand(
    authorization: &Arc<AuthorizationServer>,
    server: &McpServer,
    part: &'static str,
    scope: &'static str,
) {
    let authorization = Arc::clone(authorization);
    let lacks = move |token: &str| {
        authorization.token_info(token).is_some_and(|info| !info.scopes.iter().any(|held| held == scope))
    };
    let rule = Rule::new(refusal(scope)).on_verb("POST");
    server.add_rules(rule.when(move |request| request.contains(part) && request.bearer().is_some_and(&lacks)));
}

fn refusal(scope: &str) -> Reply {
    let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"");
    Reply::json(r#"{"error":"insufficient_scope"}"#).status(403).header("www-authenticate", challenge)
}

/// What the last authorization request asked for.
fn asked(authorization: &AuthorizationServer) -> Vec<String> {
    let requests = authorization.requests_to(Endpoint::Authorization);
    let url = format!("http://x{}", requests.last().unwrap().target);
    parameter(&url, "scope").unwrap().split(' ').map(str::to_owned).collect()
}

/// The URL in the error of a call that needs a wider consent.
fn offer(answer: &Value) -> String {
    assert_eq!(answer["error"]["data"]["lifecycle"], "connected", "{answer}");
    answer["error"]["data"]["url"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_consent_is_offered_while_all_else_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = server_of_scopes().await;
    demand(&authorization, &server, "\"count\"", "write");
    let id = service.authorized(&server).await;
    assert_eq!(asked(&authorization), ["read"]);

    let (status, answer) = service.count(&id).await;
    assert_eq!(status, 200);
    let url = offer(&answer);
    assert!(answer["error"]["message"].as_str().unwrap().contains(&url), "{answer}");
    let read = service.read(&id).await;
    assert_eq!((&read["state"], &read["auth_request"]["authorization_endpoint"]), (&json!("connected"), &json!(url)));
    let echo = service.tool(&id, "echo", &json!({ "text": "meanwhile" })).send().await.unwrap();
    assert!(echo.text().await.unwrap().contains("meanwhile"));
    assert_eq!(offer(&service.count(&id).await.1), url, "one offer at a time");

    // A refusal takes nothing away, and the next call may offer it again.
    authorization.change(|settings| settings.consent = Consent::Refuse("access_denied".into(), String::new()));
    assert_eq!(service.get(&visit(&url).await.unwrap()).await.0, 400);
    let read = service.read(&id).await;
    assert_eq!((&read["state"], &read["auth_request"]), (&json!("connected"), &Value::Null));
    authorization.change(|settings| settings.consent = Consent::Grant);

    let url = offer(&service.count(&id).await.1);
    assert_eq!(service.get(&visit(&url).await.unwrap()).await.0, 200);
    assert_eq!(asked(&authorization), ["read", "write"], "what is held is asked for again");
    service.counts(&id).await;
    assert_eq!(service.read(&id).await["auth_request"], Value::Null);
    let used = server.requests_for("tools/call").last().unwrap().bearer().unwrap().to_owned();
    assert_eq!(authorization.token_info(&used).unwrap().scopes, ["read", "write"]);

    // The wider grant is renewed as it is.
    authorization.expire_access_tokens();
    service.counts(&id).await;
    assert_eq!(authorization.counters().authorizations, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_three_rounds_nobody_is_asked_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = server_of_scopes().await;
    let id = service.authorized(&server).await;
    // It is never content.
    server.script(Rule::new(refusal("more")).when(|request| request.contains("\"count\"")));
    for _ in 0..3 {
        let url = offer(&service.count(&id).await.1);
        assert_eq!(service.get(&visit(&url).await.unwrap()).await.0, 200);
    }
    for _ in 0..2 {
        let answer = service.tool(&id, "count", &json!({})).send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(answer.headers().get("www-authenticate").is_none());
        assert!(!answer.text().await.unwrap().contains("\"url\""));
    }
    assert_eq!(authorization.counters().authorizations, 4);
    let read = service.read(&id).await;
    assert_eq!((&read["state"], &read["auth_request"]), (&json!("connected"), &Value::Null));

    // A renewal is no consent, and does not begin the count anew; a connect of the user's own does.
    authorization.expire_access_tokens();
    assert_eq!(service.count(&id).await.0, 403);
    service.disconnect(&id).await;
    service.authorize(&id).await;
    offer(&service.count(&id).await.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_outlives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let listen = crate::support::free_address();
    let start = || Service::start_with(directory.path(), &[("SERVER__LISTEN", &listen)]);
    let mut service = start();
    let (authorization, server) = server_of_scopes().await;
    demand(&authorization, &server, "\"count\"", "write");
    let id = service.authorized(&server).await;
    let url = offer(&service.count(&id).await.1);
    service.kill();
    let service = start();
    assert_eq!(service.get(&visit(&url).await.unwrap()).await.0, 200);
    service.counts(&id).await;
}

/// A server may want more for the first question already. The user is asked at once, not told of an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_wants_more_for_the_handshake_is_given_it_after_one_more_consent() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = server_of_scopes().await;
    for handshake in ["server/discover", "\"initialize\""] {
        demand(&authorization, &server, handshake, "connect");
    }
    let id = service.create(&server.url()).await;
    let url = service.consent_url(&id, json!({ "redirect_url": "http://localhost:3000/done" })).await;
    let (status, headers, _) = service.get(&visit(&url).await.unwrap()).await;
    let further = headers["location"].to_str().unwrap().to_owned();
    assert!(status == 303 && further.starts_with(authorization.url()), "{status} {further}");
    let read = service.read(&id).await;
    assert_eq!(
        (&read["state"], &read["auth_request"]["authorization_endpoint"]),
        (&json!("auth_required"), &json!(further))
    );
    let (status, headers, _) = service.get(&visit(&further).await.unwrap()).await;
    assert_eq!((status, headers["location"].to_str().unwrap()), (303, "http://localhost:3000/done"));
    assert_eq!(asked(&authorization), ["connect", "read"]);
    service.counts(&id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_handshake_is_never_content_is_given_up_after_three_consents() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = server_of_scopes().await;
    server.script(Rule::new(refusal("more")).on_verb("POST").when(|request| request.bearer().is_some()));
    let id = service.create(&server.url()).await;
    let mut url = service.consent_url(&id, json!({})).await;
    for _ in 0..2 {
        let (status, headers, _) = service.get(&visit(&url).await.unwrap()).await;
        assert_eq!(status, 303);
        headers["location"].to_str().unwrap().clone_into(&mut url);
    }
    let (status, _, page) = service.get(&visit(&url).await.unwrap()).await;
    assert_eq!(status, 400, "{page}");
    assert_eq!(authorization.counters().authorizations, 3);
    let read = service.read(&id).await;
    assert_eq!((&read["state"], &read["disconnect_code"]), (&json!("disconnected"), &json!("server_error")));

    // With the token that it holds, a connect is refused in the same way, and asks nobody.
    assert_eq!(service.connect(&id, json!({})).await.1["disconnect_code"], "server_error");
    assert_eq!(authorization.counters().authorizations, 3);
}

/// The handshake begins to want more when the connector is connected already, and the user connects anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_asks_for_more_where_the_handshake_wants_more_than_is_held() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = server_of_scopes().await;
    let id = service.authorized(&server).await;
    for handshake in ["server/discover", "\"initialize\""] {
        demand(&authorization, &server, handshake, "connect");
    }
    let (status, connector) = service.connect(&id, json!({})).await;
    assert_eq!((status, connector["state"].as_str()), (200, Some("connected")), "{connector}");
    let url = connector["auth_request"]["authorization_endpoint"].as_str().unwrap();
    service.counts(&id).await;
    assert_eq!(service.get(&visit(url).await.unwrap()).await.0, 200);
    assert_eq!(asked(&authorization), ["connect", "read"]);
    assert_eq!(service.connect(&id, json!({})).await.1["auth_request"], Value::Null);
}
