//! Everything that is secret in the life of a connector, looked for everywhere that somebody may look.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_testkit::authorization_server::{
    AuthMethod, AuthorizationServer, Behaviour, Endpoint, Hold, Reply, parameter, visit,
};
use connectors_testkit::mcp_server::{McpServer, Rule};
use serde_json::json;

use crate::support::{Service, protected, until};

/// What both servers have been shown that nobody else may see.
fn secrets(authorization: &AuthorizationServer, server: &McpServer) -> BTreeSet<String> {
    let mut secrets = BTreeSet::new();
    for request in authorization.requests() {
        let form = format!("http://x/?{}", String::from_utf8_lossy(&request.body));
        for name in ["code", "code_verifier", "refresh_token", "token", "client_secret", "client_assertion"] {
            secrets.extend(parameter(&form, name));
        }
        secrets.extend(parameter(&format!("http://x{}", request.target), "state"));
        let basic = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
        if let Some(encoded) = basic {
            secrets.insert(encoded.to_owned());
            let decoded = String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap();
            secrets.extend(decoded.split_once(':').map(|(_, secret)| secret.to_owned()));
        }
    }
    secrets.extend(server.requests().iter().filter_map(|request| request.bearer().map(str::to_owned)));
    secrets
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_whole_life_is_seen_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let environment = [("LOG__FILTER", "trace"), ("BACKGROUND__INTERVAL", "0.1")];
    let mut service = Service::start_logging(directory.path(), &environment, std::fs::File::create(&log).unwrap());
    let (authorization, server) = protected().await;
    let authorization = Arc::new(authorization);
    authorization.change(|settings| settings.auth_methods = vec![AuthMethod::Basic]);

    // Consent, a call, a renewal, one that is refused aloud, and one whose answer cannot be read.
    let id = service.authorized(&server).await;
    service.counts(&id).await;
    authorization.expire_access_tokens();
    service.counts(&id).await;
    let echoing = Behaviour::alter(|reply| reply.edit_json(|answer| answer["expires_in"] = json!({ "deep": [1] })));
    authorization.script(authorization.once(Endpoint::Refresh, echoing));
    authorization.expire_access_tokens();
    service.count(&id).await;

    // A wider consent.
    let challenge = r#"Bearer error="insufficient_scope", scope="write""#;
    let refusal = Reply::json("{}").status(403).header("www-authenticate", challenge);
    let info = Arc::clone(&authorization);
    server.script(Rule::new(refusal).when(move |request| {
        let token = request.bearer().and_then(|token| info.token_info(token));
        request.contains("\"count\"") && token.is_some_and(|token| token.scopes.is_empty())
    }));
    let answer = service.count(&id).await.1;
    let url = answer["error"]["data"]["url"].as_str().unwrap().to_owned();
    let callback = visit(&url).await.unwrap();
    service.get(&callback).await;
    service.counts(&id).await;

    // A renewal in the middle of which it is disconnected, a new consent, and the end.
    let hold = Hold::new();
    authorization.script(authorization.once(Endpoint::Refresh, Behaviour::held(&hold)));
    authorization.expire_access_tokens();
    let before = authorization.counters().refresh_requests;
    let call = tokio::spawn(service.tool(&id, "count", &json!({})).send());
    until("a renewal is under way", || authorization.counters().refresh_requests > before).await;
    service.disconnect(&id).await;
    hold.release();
    call.await.unwrap().unwrap();
    let waiting = service.consent_url(&id, json!({})).await;
    service.get(&visit(&waiting).await.unwrap()).await;
    let seen = [service.read(&id).await.to_string(), service.get(&format!("{}/metrics", service.url)).await.2];
    // Revocations go wrong as well.
    authorization.script(authorization.once(Endpoint::Revocation, Behaviour::text(500, "no")));
    service.delete(&id).await;
    let revocations = || authorization.requests_to(Endpoint::Revocation).len();
    until("what was disconnected and deleted is revoked", || revocations() >= 5).await;
    let further = [
        service.call("GET", "/api/v1/connectors", None).await.1.to_string(),
        service.get(&format!("{}/metrics", service.url)).await.2,
        service.get(&callback).await.2,
    ];
    service.stop().await;

    let secrets = secrets(&authorization, &server);
    for kind in ["access-", "refresh-", "code-", "secret-"] {
        assert!(secrets.iter().any(|secret| secret.starts_with(kind)), "none of the kind {kind}");
    }
    assert!(secrets.len() > 15, "{}", secrets.len());
    let mut places: Vec<_> =
        seen.into_iter().chain(further).map(|text| ("an answer".to_owned(), text.into_bytes())).collect();
    places.push(("standard output".to_owned(), service.printed().into_bytes()));
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    let logged = &places.iter().find(|(place, _)| place.ends_with("log")).unwrap().1;
    assert!(String::from_utf8_lossy(logged).contains("grant.revocation"), "it logs");
    for (place, bytes) in &places {
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{place} holds a secret: {secret}");
        }
    }
}
