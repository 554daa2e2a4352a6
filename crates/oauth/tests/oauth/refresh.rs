//! Renewal against servers that keep to the rules, more or less.

use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::{AuthorizationServer as _, RefreshError, RefreshRequest, SpentToken};
use connectors_domain::{
    Authority, ClientAuthentication, ClientCredentials, ClientOrigin, Grant, IssuedGrant, Issuer, OAuthClient,
    RefreshToken, Scopes,
};
use connectors_testkit::authorization_server::{
    AuthMethod, AuthorizationServer, Behaviour, Client, Ending, Endpoint, ExpiresIn, Rotation,
};
use connectors_testkit::mcp_server::{McpServer, Reply};
use jiff::{SignedDuration, Timestamp};

use crate::support::{
    CALLBACK, Service, config, issued, obtain, pair, protected, refresh_token, request, service, service_with,
};

const NOW: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A grant of a scripted server; the service registered itself there.
pub(crate) async fn ready() -> (McpServer, Service, RefreshRequest) {
    let (server, service) = (protected().await, service());
    let prepared = service.prepare(request(&server)).await.unwrap();
    let refresh_token = RefreshToken::new("old&token".to_owned()).unwrap();
    let request = RefreshRequest { authority: prepared.authority, refresh_token, scopes: Scopes::parse("held") };
    (server, service, request)
}

async fn renewed(body: &str) -> Grant {
    let (server, service, request) = ready().await;
    server.route("/token", Reply::json(body.to_owned()));
    service.client.refresh(request).await.unwrap()
}

/// A grant of a strict server.
async fn strict(server: AuthorizationServer) -> (AuthorizationServer, Service, Grant) {
    let (server, mcp) = pair(server).await;
    let service =
        service_with(connectors_oauth::OAuthConfig { request_timeout: Duration::from_millis(800), ..config() });
    let grant = obtain(&service, request(&mcp)).await;
    (server, service, grant)
}

fn of(grant: &Grant) -> RefreshRequest {
    RefreshRequest::of(issued(grant)).unwrap()
}

#[tokio::test]
async fn a_refresh_token_becomes_a_grant() {
    let (server, service, request) = ready().await;
    server.route(
        "/token",
        Reply::json(
            r#"{"access_token":"at","token_type":"bEARER","expires_in":3600,"refresh_token":"rt","scope":"b a"}"#,
        )
        .delay(Duration::from_millis(50)),
    );
    let grant = service.client.refresh(request.clone()).await.unwrap();
    let printed = format!("{grant:?} {request:?}");
    assert!(!printed.contains("\"at\"") && !printed.contains("\"rt\"") && !printed.contains("old&"), "{printed}");
    assert_eq!((grant.access_token.expose(), refresh_token(&grant)), ("at", "rt"));
    let issued = issued(&grant);
    assert_eq!(issued.authority, request.authority);
    assert_eq!(issued.scopes, Scopes::parse("a b"));
    assert_eq!((issued.generation, issued.step_ups), (IssuedGrant::UNSTORED, 0));
    // Its life is counted from before the request.
    assert_eq!(issued.obtained_at, NOW);
    assert_eq!(issued.expires_at, Some(NOW + SignedDuration::from_hours(1)));

    let sent = server.requests().pop().unwrap();
    assert_eq!(sent.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(sent.header("accept"), Some("application/json"));
    let form: Vec<(String, String)> = url::form_urlencoded::parse(&sent.body).into_owned().collect();
    let expected = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "old&token"),
        ("resource", &server.url()),
        ("client_id", "registered"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn what_the_answer_leaves_out_stays_as_it_was() {
    let year = Some(365 * 24 * 60 * 60);
    for (members, token, life, scopes) in [
        ("", "old&token", None, "held"),
        (r#","refresh_token":"new""#, "new", None, "held"),
        (r#","refresh_token":null"#, "old&token", None, "held"),
        (r#","refresh_token":"""#, "old&token", None, "held"),
        (r#","scope":"a b""#, "old&token", None, "a b"),
        (r#","scope":["b","a"]"#, "old&token", None, "a b"),
        (r#","scope":"""#, "old&token", None, "held"),
        (r#","scope":null"#, "old&token", None, "held"),
        (r#","scope":{}"#, "old&token", None, "held"),
        (r#","error":null"#, "old&token", None, "held"),
        (r#","error":"""#, "old&token", None, "held"),
        (r#","expires_in":3600"#, "old&token", Some(3600), "held"),
        (r#","expires_in":"3600""#, "old&token", Some(3600), "held"),
        (r#","expires_in":3599.5"#, "old&token", Some(3599), "held"),
        (r#","expires_in":0"#, "old&token", Some(0), "held"),
        (r#","expires_in":-1"#, "old&token", Some(0), "held"),
        (r#","expires_in":18446744073709551615"#, "old&token", year, "held"),
        (r#","expires_in":"3600abc""#, "old&token", None, "held"),
        (r#","expires_in":true"#, "old&token", None, "held"),
        (r#","expires_in":{"a":[]}"#, "old&token", None, "held"),
        (r#","unknown":{"deep":[[[]]]}"#, "old&token", None, "held"),
    ] {
        let grant = renewed(&format!(r#"{{"access_token":"at","token_type":"Bearer"{members}}}"#)).await;
        let issued = issued(&grant);
        assert_eq!(refresh_token(&grant), token, "{members}");
        assert_eq!(issued.expires_at.map(|end| end.duration_since(NOW).as_secs()), life, "{members}");
        assert_eq!(issued.scopes.to_string(), scopes, "{members}");
    }
}

#[tokio::test]
async fn a_strict_server_renews_in_every_way_of_authentication() {
    for method in [AuthMethod::None, AuthMethod::Basic, AuthMethod::Post] {
        for rotation in [Rotation::Rotate, Rotation::Keep, Rotation::Repeat] {
            let builder = AuthorizationServer::builder().with(|settings| {
                (settings.auth_methods, settings.rotation) = (vec![method], rotation);
                (settings.token_lifetime, settings.expires_in) = (Duration::from_secs(77), ExpiresIn::Text);
            });
            let (server, service, first) = strict(builder.start().await.unwrap()).await;
            let second = service.client.refresh(of(&first)).await.unwrap();
            assert_eq!(refresh_token(&first) == refresh_token(&second), rotation != Rotation::Rotate);
            assert_ne!(first.access_token, second.access_token);
            let life = issued(&second).expires_at.unwrap().duration_since(issued(&second).obtained_at);
            assert_eq!(life.as_secs(), 77);
            let third = service.client.refresh(of(&second)).await.unwrap();
            assert!(server.token_info(third.access_token.expose()).is_some());
            let history = server.grant_of(refresh_token(&third)).unwrap();
            assert_eq!((history.refreshes, history.reuses, history.revoked), (2, 0, false));
        }
    }
}

#[tokio::test]
async fn a_spent_or_revoked_refresh_token_is_refused() {
    let (server, service, grant) = strict(AuthorizationServer::builder().start().await.unwrap()).await;
    service.client.refresh(of(&grant)).await.unwrap();
    assert_eq!(service.client.refresh(of(&grant)).await, Err(RefreshError::Refused));
    assert_eq!(server.grant_of(refresh_token(&grant)).unwrap().reuses, 1);

    let (server, service, grant) = strict(AuthorizationServer::builder().start().await.unwrap()).await;
    server.revoke_grants();
    assert_eq!(service.client.refresh(of(&grant)).await, Err(RefreshError::Refused));
}

#[tokio::test]
async fn an_answer_that_was_lost_can_be_asked_for_again_where_the_server_is_graceful() {
    for ending in [Ending::Reset, Ending::Close, Ending::Hang] {
        let builder = AuthorizationServer::builder().with(|settings| settings.grace = Duration::from_mins(1));
        let (server, service, grant) = strict(builder.start().await.unwrap()).await;
        server.add_rules(server.once(Endpoint::Refresh, Behaviour::lost(ending)));
        let lost = service.client.refresh(of(&grant)).await;
        assert!(
            matches!(lost, Err(RefreshError::Passing { spent: SpentToken::Perhaps, retry_after: None, .. })),
            "{ending:?}: {lost:?}"
        );
        assert_eq!(server.counters().refreshes, 1, "{ending:?}");
        assert!(service.client.refresh(of(&grant)).await.is_ok(), "{ending:?}");
        assert_eq!((server.counters().graced, server.counters().reuses), (1, 0), "{ending:?}");
    }
}

#[tokio::test]
async fn a_client_that_is_refused_is_forgotten_if_it_registered_itself() {
    let (server, mcp) = pair(AuthorizationServer::builder().start().await.unwrap()).await;
    let service = service();
    let grant = obtain(&service, request(&mcp)).await;
    assert_eq!(service.kept.registered().len(), 1);
    server.forget_clients();
    assert_eq!(service.client.refresh(of(&grant)).await, Err(RefreshError::ClientRefused));
    assert!(service.kept.registered().is_empty());
    let again = obtain(&service, request(&mcp)).await;
    assert!(service.client.refresh(of(&again)).await.is_ok());
    // What is late does no harm to what is new.
    assert_eq!(service.client.refresh(of(&grant)).await, Err(RefreshError::ClientRefused));
    assert_eq!(service.kept.registered().len(), 1);
}

#[tokio::test]
async fn what_never_reached_the_server_spent_nothing() {
    let (server, service, request) = ready().await;
    let spent = async |request: RefreshRequest| match service.client.refresh(request).await {
        Err(RefreshError::Passing { spent, retry_after: None, .. }) => spent,
        other => panic!("{other:?}"),
    };
    for endpoint in [
        "http://169.254.169.254/latest/api/token",
        "https://10.0.0.1/token",
        "http://as.example/token",
        "javascript:alert(1)",
        "",
        "https://user@as.example/token",
    ] {
        let mut request = request.clone();
        request.authority.token_endpoint = endpoint.to_owned();
        assert_eq!(spent(request).await, SpentToken::No, "{endpoint}");
    }
    server.stop().await;
    assert_eq!(spent(request).await, SpentToken::No);
}

#[tokio::test]
async fn the_server_says_when_it_wants_to_be_asked_again() {
    let (server, service, grant) = strict(AuthorizationServer::builder().start().await.unwrap()).await;
    for (status, value, expected) in [
        (429, "1", Some(1)),
        (503, "120", Some(120)),
        (503, "Thu, 01 Jan 2026 00:01:00 GMT", Some(60)),
        (429, "999999999", Some(24 * 60 * 60)),
        (429, "whenever", None),
    ] {
        server.add_rules(server.once(Endpoint::Refresh, Reply::text(status, "later").header("retry-after", value)));
        let Err(RefreshError::Passing { retry_after, spent, .. }) = service.client.refresh(of(&grant)).await else {
            panic!("it passes")
        };
        assert_eq!(retry_after.map(|pause| pause.as_secs()), expected, "{value}");
        assert_eq!(spent == SpentToken::No, status == 429);
    }
    assert!(service.client.refresh(of(&grant)).await.is_ok());
    assert_eq!(server.counters().reuses, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_grants_are_renewed_at_once() {
    let server = AuthorizationServer::builder().client(Client::public("many", CALLBACK)).start().await.unwrap();
    let resource = "https://mcp.example/mcp";
    let authority = Authority {
        issuer: Issuer::new(server.issuer()),
        token_endpoint: server.token_endpoint(),
        revocation_endpoint: Some(server.revocation_endpoint()),
        resource: Some(resource.to_owned()),
        client: OAuthClient {
            credentials: ClientCredentials::new("many".to_owned(), None).unwrap(),
            authentication: ClientAuthentication::None,
            origin: ClientOrigin::Given,
        },
    };
    let service =
        Arc::new(service_with(connectors_oauth::OAuthConfig { request_timeout: Duration::from_mins(1), ..config() }));
    let tasks: Vec<_> = (0..1000)
        .map(|_| {
            let issued = server.issue("many", Some(resource), &["read"]).unwrap();
            let request = RefreshRequest {
                authority: authority.clone(),
                refresh_token: RefreshToken::new(issued.refresh_token.unwrap()).unwrap(),
                scopes: Scopes::parse("read"),
            };
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.client.refresh(request).await })
        })
        .collect();
    for task in tasks {
        let grant = task.await.unwrap().unwrap();
        let history = server.grant_of(refresh_token(&grant)).unwrap();
        assert_eq!((history.refreshes, history.reuses), (1, 0));
    }
    assert_eq!((server.counters().refreshes, server.grants().len()), (1000, 1000));
}
