//! Authorization, with a strict authorization server before the MCP server.

use std::time::Duration;

use connectors_testkit::authorization_server::{Consent, Endpoint, Iss, Rotation, parameter, visit};
use connectors_testkit::mcp_server::{Behaviour, Eras};
use serde_json::{Value, json};

use crate::support::{Service, free_address, protected, protected_in};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_server_connects_by_visiting_one_url() {
    let directory = tempfile::tempdir().unwrap();
    let listen = free_address();
    let environment = [("SERVER__LISTEN", listen.as_str())];
    let mut service = Service::start_with(directory.path(), &environment);
    let (authorization, server) = protected().await;
    let id = service.create(&server.url()).await;
    let url = service.consent_url(&id, json!({})).await;
    assert_eq!(service.consent_url(&id, json!({})).await, url, "the same attempt is offered again");

    let callback = visit(&url).await.unwrap();
    // Looking ahead spends nothing.
    assert_eq!(service.client.head(&callback).send().await.unwrap().status(), 200);
    let prefetch = service.client.get(&callback).header("sec-purpose", "prefetch").send().await.unwrap();
    assert_eq!(prefetch.status(), 204);
    let (status, headers, page) = service.get(&callback).await;
    assert_eq!(status, 200, "{page}");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert!(page.contains("Connected") && !page.contains("<script"));
    assert_eq!(service.read(&id).await["state"], "connected");
    assert_eq!(service.get(&callback).await.0, 400, "a state is good once");

    let called = service.tool(&id, "echo", &json!({ "text": "hello" })).send().await.unwrap();
    assert_eq!(called.status(), 200);
    let counters = authorization.counters();
    assert_eq!((counters.registrations, counters.code_requests, counters.exchanges), (1, 1, 1));

    // It survives a kill, and goodbye leaves nothing to use.
    service.kill();
    let service = Service::start_with(directory.path(), &environment);
    assert_eq!(service.tool(&id, "echo", &json!({ "text": "hello" })).send().await.unwrap().status(), 200);
    service.call("POST", &format!("/api/v1/connectors/{id}/disconnect"), None).await;
    let url = service.consent_url(&id, json!({})).await;
    service.get(&visit(&url).await.unwrap()).await;
    assert_eq!(service.read(&id).await["state"], "connected");
    assert_eq!(authorization.counters().registrations, 1, "one registration serves all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_an_anonymous_handshake_is_not_taken_for_an_open_one() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    for eras in [Eras::Modern, Eras::Legacy] {
        let (authorization, server) = protected_in(eras).await;
        for method in ["server/discover", "initialize", "notifications/initialized"] {
            server.open_method(method);
        }
        let id = service.create(&server.url()).await;
        let url = service.consent_url(&id, json!({})).await;
        assert_eq!(server.requests_for("tools/list").len(), 1);
        service.get(&visit(&url).await.unwrap()).await;
        assert_eq!(service.read(&id).await["state"], "connected");
        assert_eq!(authorization.counters().code_requests, 1);

        // Its tools are for everybody, too, and nobody is asked to consent.
        server.open_method("tools/list");
        service.call("POST", &format!("/api/v1/connectors/{id}/disconnect"), None).await;
        let (status, connector) = service.connect(&id, json!({})).await;
        assert_eq!((status, connector["state"].as_str()), (200, Some("connected")), "{connector}");
        assert_eq!(authorization.counters().code_requests, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_goes_back_where_it_was_to_go() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = protected().await;
    let id = service.create(&server.url()).await;
    let back = json!({ "redirect_url": "http://localhost:3000/done?x=1" });
    let url = service.consent_url(&id, back.clone()).await;
    let (status, headers, _) = service.get(&visit(&url).await.unwrap()).await;
    assert_eq!(status, 303);
    assert_eq!(headers["location"], "http://localhost:3000/done?x=1");

    authorization.change(|settings| {
        settings.consent = Consent::Refuse("access_denied".into(), "<svg/onload=alert(1)>".into());
    });
    service.call("POST", &format!("/api/v1/connectors/{id}/disconnect"), None).await;
    let url = service.consent_url(&id, back).await;
    let (status, headers, _) = service.get(&visit(&url).await.unwrap()).await;
    let location = headers["location"].to_str().unwrap();
    assert_eq!(status, 303);
    assert!(location.starts_with("http://localhost:3000/done?x=1&error=access_denied&"), "{location}");
    assert!(!location.contains("svg"), "{location}");
    assert_eq!(service.read(&id).await["disconnect_code"], "authorization_refused");

    let url = service.consent_url(&id, json!({})).await;
    let (status, _, page) = service.get(&visit(&url).await.unwrap()).await;
    assert!(status == 400 && page.contains("refused") && !page.contains("onload"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_another_issuer_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = protected().await;
    let id = service.create(&server.url()).await;
    authorization.change(|settings| settings.iss = Iss::Wrong("https://evil.example".into()));
    let url = service.consent_url(&id, json!({})).await;
    let (status, _, page) = service.get(&visit(&url).await.unwrap()).await;
    assert!(status == 400 && !page.contains("evil"), "{page}");
    assert_eq!(authorization.counters().code_requests, 0);
    assert_eq!(service.read(&id).await["state"], "auth_required");
    assert_eq!(
        service.get(&format!("{}/api/v1/connectors/oauth/callback?state=guess&code=c", service.url)).await.0,
        400
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callbacks_at_once_make_one_token_request() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = protected().await;
    let id = service.create(&server.url()).await;
    let callback = visit(&service.consent_url(&id, json!({})).await).await.unwrap();
    let callbacks: Vec<_> = (0..50).map(|_| tokio::spawn(service.client.get(&callback).send())).collect();
    let mut connected = 0;
    for callback in callbacks {
        connected += u32::from(callback.await.unwrap().unwrap().status() == 200);
    }
    assert_eq!((connected, authorization.counters().code_requests), (1, 1));
    assert_eq!(service.read(&id).await["state"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_survives_a_restart_in_its_middle() {
    let directory = tempfile::tempdir().unwrap();
    let listen = free_address();
    let environment = [("SERVER__LISTEN", listen.as_str())];
    let mut service = Service::start_with(directory.path(), &environment);
    let (_authorization, server) = protected().await;
    let id = service.create(&server.url()).await;
    let callback = visit(&service.consent_url(&id, json!({})).await).await.unwrap();
    service.kill();
    let service = Service::start_with(directory.path(), &environment);
    assert_eq!(service.get(&callback).await.0, 200);
    assert_eq!(service.read(&id).await["state"], "connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_authorization_server_has_its_reason_and_connect_leaves_it() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    for (endpoint, behaviour, code) in [
        (Endpoint::Metadata, Behaviour::text(500, "CANARY"), None),
        (Endpoint::Registration, Behaviour::text(500, "CANARY"), Some("registration_failed")),
        (Endpoint::Registration, Behaviour::garbage(), None),
    ] {
        let (authorization, server) = protected().await;
        let id = service.create(&server.url()).await;
        authorization.add_rules(authorization.on(endpoint, behaviour));
        let (status, told) = service.connect(&id, json!({})).await;
        assert!(matches!(status, 502 | 504), "{told}");
        assert!(!told.to_string().contains("CANARY"));
        if let Some(code) = code {
            assert_eq!(told["disconnect_code"], code);
        }
        authorization.behave();
        service.get(&visit(&service.consent_url(&id, json!({})).await).await.unwrap()).await;
        assert_eq!(service.read(&id).await["state"], "connected");
    }
    let (authorization, server) = protected().await;
    let id = service.create(&server.url()).await;
    authorization.change(|settings| {
        settings.metadata.insert("code_challenge_methods_supported".into(), None);
    });
    assert_eq!(service.connect(&id, json!({})).await.1["disconnect_code"], "pkce_unsupported");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_use_and_cannot_be_renewed_leads_to_consent_again() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path());
    let (authorization, server) = protected().await;
    authorization.change(|settings| settings.rotation = Rotation::Never);
    let id = service.create(&server.url()).await;
    service.get(&visit(&service.consent_url(&id, json!({})).await).await.unwrap()).await;
    authorization.revoke_grants();
    let answer: Value = service.tool(&id, "count", &json!({})).send().await.unwrap().json().await.unwrap();
    let visit_url = answer["error"]["data"]["url"].as_str().unwrap().to_owned();
    assert!(visit_url.starts_with(authorization.url()), "{answer}");
    assert_eq!(service.read(&id).await["state"], "auth_required");
    service.get(&visit(&visit_url).await.unwrap()).await;
    assert_eq!(service.tool(&id, "count", &json!({})).send().await.unwrap().status(), 200);
    assert_eq!(server.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_flow_is_seen_anywhere() {
    let directory = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let mut service = Service::start_logging(directory.path(), &[("LOG__FILTER", "trace")], log);
    let (authorization, server) = protected().await;
    let id = service.create(&server.url()).await;
    let url = service.consent_url(&id, json!({})).await;
    let callback = visit(&url).await.unwrap();
    let mut secrets = vec![parameter(&callback, "code").unwrap(), parameter(&url, "state").unwrap()];
    service.get(&callback).await;
    service.tool(&id, "count", &json!({})).send().await.unwrap();
    secrets.extend(server.requests().iter().filter_map(|request| request.bearer().map(str::to_owned)));
    secrets.extend(authorization.requests_to(Endpoint::Token).iter().filter_map(|request| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        parameter(&format!("http://x/?{body}"), "code_verifier")
    }));
    assert!(secrets.len() >= 4, "{}", secrets.len());
    let read = service.read(&id).await.to_string();
    service.kill();
    tokio::time::sleep(SECOND / 10).await;
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a secret of the flow", path.display());
            assert!(!read.contains(secret));
        }
    }
}
