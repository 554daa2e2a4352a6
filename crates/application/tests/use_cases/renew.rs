//! Renewal, wider consent, and the work behind the scenes, with a server that takes the latest token only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{
    Clock, Connectors, MockAuthorizationServer, MockMcpServer, Prepared, ProbeError, RefreshError, RefreshRequest,
    RelayBody, RelayError, RelayMethod, RelayResponse, RequestHeaders, ResponseHeaders, SpentToken,
};
use connectors_application::{ConnectRequest, Error, Keeper, KeeperConfig, RelayFailure};
use connectors_domain::{
    AccessToken, Authority, ClientAuthentication, ClientCredentials, ClientOrigin, Connector, ConnectorState,
    DisconnectCode, DisconnectReason, Event, Grant, GrantSource, IssuedGrant, Issuer, OAuthClient, Preset, Presets,
    Quirks, RefreshToken, Scopes, Secret, StateHash,
};
use connectors_testkit::faults::{Method, Moment};
use jiff::Timestamp;
use tokio::time::sleep;

use crate::support::{HEALTH_INTERVAL, World, facts, mcp};

const LIFE: Duration = Duration::from_mins(10);

/// The grant whose tokens have this number.
fn grant(number: usize, now: Timestamp) -> Grant {
    Grant {
        access_token: AccessToken::new(format!("access-{number}")).unwrap(),
        source: GrantSource::Issued(IssuedGrant {
            authority: Authority {
                issuer: Issuer::new("https://as.example.com"),
                token_endpoint: "https://as.example.com/token".into(),
                revocation_endpoint: Some("https://as.example.com/revoke".into()),
                resource: None,
                client: OAuthClient {
                    credentials: ClientCredentials::new("client".into(), None).unwrap(),
                    authentication: ClientAuthentication::None,
                    origin: ClientOrigin::Registered,
                },
            },
            refresh_token: Some(RefreshToken::new(format!("refresh-{number}")).unwrap()),
            obtained_at: now,
            expires_at: Some(now + LIFE),
            scopes: Scopes::parse("read"),
            generation: IssuedGrant::UNSTORED,
            step_ups: 0,
        }),
    }
}

/// An authorization server that renews, with the number of renewals.
fn renewing(fails: Option<RefreshError>) -> (MockAuthorizationServer, Arc<AtomicUsize>) {
    let mut authorization = MockAuthorizationServer::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let number = Arc::clone(&asked);
    authorization.expect_refresh().returning(move |request: RefreshRequest| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        assert_eq!(request.refresh_token.expose(), format!("refresh-{number}"));
        match &fails {
            Some(error) => Err(error.clone()),
            None => Ok(grant(number + 1, Timestamp::from_second(1_800_000_600).unwrap())),
        }
    });
    authorization.expect_demanded_scopes().returning(|challenges| {
        challenges.first().and_then(|challenge| challenge.strip_prefix("want ")).map(Scopes::parse)
    });
    (authorization, asked)
}

/// A world with a connector that was connected just now.
async fn connected(mcp: MockMcpServer, authorization: MockAuthorizationServer) -> (World, Connector) {
    let world = World::authorized_by(mcp, authorization);
    let connector = world.create().await;
    let established = Event::Established { grant: Some(grant(0, world.clock.now())), server: facts() };
    let connector = put(&world, connector, &[started(&world), established]).await;
    (world, connector)
}

fn started(world: &World) -> Event {
    Event::ConnectStarted { deadline: world.clock.now() + Duration::from_secs(30) }
}

/// Lets events happen to a connector and stores it, due now.
async fn put(world: &World, connector: Connector, events: &[Event]) -> Connector {
    let mut connector = connector;
    for event in events {
        connector = connector.apply(event.clone(), world.clock.now()).unwrap().connector;
        connector.due_at = Some(world.clock.now());
        connector = world.store.update(connector).await.unwrap();
    }
    connector
}

fn answer(status: u16, challenges: &[&str]) -> RelayResponse {
    let challenges = challenges.iter().map(|&text| text.to_owned()).collect();
    RelayResponse { status, headers: ResponseHeaders::default(), challenges, body: RelayBody::Empty }
}

/// A server that takes this token and no other.
fn takes(token: &'static str) -> MockMcpServer {
    let mut mcp = mcp();
    mcp.expect_relay().returning(move |request| {
        let presented = request.target.access_token.as_ref().unwrap().expose();
        if presented == token { Ok(answer(202, &[])) } else { Err(RelayError::Unauthorized { challenges: vec![] }) }
    });
    mcp
}

async fn relay(world: &World, connector: &Connector) -> Result<RelayResponse, RelayFailure> {
    let headers = RequestHeaders::default();
    world.service.relay(world.owner, connector.id, RelayMethod::Post, headers, Bytes::from_static(b"{}")).await
}

/// Lets the work behind the scenes go on until `done`.
async fn kept(world: &World, connector: &Connector, done: impl Fn(&Connector) -> bool) -> Connector {
    let keeper = Keeper::new(world.service.clone(), KeeperConfig { interval: Duration::from_millis(5) });
    let working = tokio::spawn(async move { keeper.run().await });
    for _ in 0..400 {
        let stored = world.stored(connector).await;
        if done(&stored) {
            working.abort();
            return stored;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("it was not done: {:?}", world.stored(connector).await.state);
}

fn passing() -> RefreshError {
    RefreshError::Passing { what: "it is away", spent: SpentToken::No, retry_after: Some(Duration::from_mins(5)) }
}

fn code(connector: &Connector) -> Option<DisconnectCode> {
    connector.disconnect_reason().map(DisconnectReason::code)
}

#[tokio::test]
async fn access_is_renewed_before_it_ends_and_once_for_all_callers() {
    let (authorization, asked) = renewing(None);
    let (world, connector) = connected(takes("access-1"), authorization).await;
    world.clock.advance(Duration::from_mins(9));
    let calls = (0..50).map(|_| relay(&world, &connector));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap().status, 202);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert!(world.stored(&connector).await.generation() > connector.generation());
}

#[tokio::test]
async fn renewed_access_is_in_memory_should_the_store_go_away() {
    let (authorization, _) = renewing(None);
    let (world, connector) = connected(takes("access-1"), authorization).await;
    let (world, store) = world.failing();
    world.clock.advance(Duration::from_mins(9));
    relay(&world, &connector).await.unwrap();
    store.fail_always(Method::Find, Moment::Before);
    assert_eq!(relay(&world, &connector).await.unwrap().status, 202);
}

#[tokio::test]
async fn access_that_cannot_be_stored_is_used_from_memory_and_stored_in_the_end() {
    let (authorization, asked) = renewing(None);
    let (world, connector) = connected(takes("access-1"), authorization).await;
    let (world, store) = world.failing();
    world.clock.advance(Duration::from_mins(9));
    store.fail_always(Method::Update, Moment::Before);
    for _ in 0..3 {
        assert_eq!(relay(&world, &connector).await.unwrap().status, 202);
    }
    assert_eq!(world.stored(&connector).await.generation(), connector.generation(), "not stored yet");
    store.recover();
    world.service.renewals_settled().await;
    assert!(world.stored(&connector).await.generation() > connector.generation());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn access_is_not_renewed_a_moment_too_early() {
    let (authorization, asked) = renewing(None);
    let (world, connector) = connected(takes("access-0"), authorization).await;
    world.clock.advance(Duration::from_secs(9 * 60 - 1));
    relay(&world, &connector).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_refused_token_is_renewed_and_the_request_sent_once_more() {
    let (authorization, asked) = renewing(None);
    let (world, connector) = connected(takes("access-1"), authorization).await;
    let calls = (0..50).map(|_| relay(&world, &connector));
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(outcome.unwrap().status, 202);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_fresh_token_that_is_refused_leads_to_the_user() {
    let (mut authorization, asked) = renewing(None);
    prepares(&mut authorization, None);
    let (world, connector) = connected(takes("none"), authorization).await;
    let Err(RelayFailure::Unusable(told)) = relay(&world, &connector).await else { panic!() };
    assert!(told.attempt().is_some());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_may_pass_costs_no_connection() {
    let (authorization, asked) = renewing(Some(passing()));
    let (world, connector) = connected(takes("access-0"), authorization).await;
    world.clock.advance(Duration::from_secs(9 * 60 + 30));
    // The access still works, so it is used; and nobody asks again before the time that was wished for.
    for _ in 0..3 {
        assert_eq!(relay(&world, &connector).await.unwrap().status, 202);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    world.clock.advance(Duration::from_secs(30));
    let Err(RelayFailure::Unrenewed(unrenewed)) = relay(&world, &connector).await else { panic!() };
    assert!(unrenewed.retry_after > Duration::from_secs(290), "{unrenewed:?}");
    assert!(matches!(world.stored(&connector).await.state, ConnectorState::Connected(_)));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn only_the_authorization_server_ends_a_grant() {
    for (error, expected) in [
        (RefreshError::Refused, DisconnectCode::AuthorizationRevoked),
        (RefreshError::ClientRefused, DisconnectCode::ClientRejected),
    ] {
        let (authorization, asked) = renewing(Some(error));
        let (world, connector) = connected(takes("access-1"), authorization).await;
        let Err(RelayFailure::Unusable(told)) = relay(&world, &connector).await else { panic!() };
        assert_eq!((code(&told), told.grant()), (Some(expected), None));
        assert!(matches!(relay(&world, &connector).await, Err(RelayFailure::Unusable(_))));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_connect_renews_what_was_kept() {
    let (authorization, asked) = renewing(None);
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, token| match token {
        Some(token) if token.expose() == "access-1" => Ok(facts()),
        _ => Err(ProbeError::Unauthorized { challenges: vec![] }),
    });
    let (world, connector) = connected(mcp, authorization).await;
    let away = DisconnectReason::new(DisconnectCode::ServerUnreachable, "away");
    let failed = Event::Failed { reason: away, recovery: connector.grant().cloned() };
    let connector = put(&world, connector, &[failed]).await;
    let connected = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(connected.grant().unwrap().access_token.expose(), "access-1");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nobody_has_to_wait_for_an_authorization_server_that_is_away() {
    let (mut authorization, asked) = renewing(Some(passing()));
    prepares(&mut authorization, None);
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Err(ProbeError::Unauthorized { challenges: vec![] }));
    let (world, connector) = connected(mcp, authorization).await;
    world.clock.advance(LIFE);
    let connect = || world.service.connect(world.owner, connector.id, ConnectRequest::default());
    let Err(Error::ConnectFailed(reason)) = connect().await else { panic!() };
    assert_eq!(reason.code(), DisconnectCode::AuthorizationServerUnreachable);
    let kept = world.stored(&connector).await;
    assert_eq!(kept.generation(), connector.generation());
    assert!(kept.due_at.is_some(), "the service tries by itself");
    let waiting = connect().await.unwrap();
    assert!(waiting.attempt().is_some());
    assert_eq!(waiting.generation(), connector.generation(), "still kept, should nobody consent");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_connector_recovers_when_its_authorization_server_is_back() {
    let (authorization, _) = renewing(None);
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, token| match token {
        Some(token) if token.expose() == "access-1" => Ok(facts()),
        _ => Err(ProbeError::Unauthorized { challenges: vec![] }),
    });
    let (world, connector) = connected(mcp, authorization).await;
    world.clock.advance(LIFE);
    let away = DisconnectReason::new(DisconnectCode::AuthorizationServerUnreachable, "away");
    let failed = Event::Failed { reason: away, recovery: connector.grant().cloned() };
    let connector = put(&world, connector, &[failed]).await;
    kept(&world, &connector, |stored| matches!(stored.state, ConnectorState::Connected(_))).await;
}

#[tokio::test]
async fn access_that_nobody_uses_is_renewed_behind_the_scenes() {
    let (authorization, asked) = renewing(None);
    let (world, connector) = connected(mcp(), authorization).await;
    world.clock.advance(LIFE / 10 * 8);
    let renewed = kept(&world, &connector, |stored| stored.generation() > connector.generation()).await;
    assert!(renewed.due_at.unwrap() > world.clock.now());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_server_that_is_away_is_asked_again_and_keeps_its_connector() {
    let (authorization, _) = renewing(None);
    let mut mcp = mcp();
    mcp.expect_probe().times(1..).returning(|_, _| Err(ProbeError::TimedOut));
    let (world, connector) = connected(mcp, authorization).await;
    let put_off = kept(&world, &connector, |stored| stored.due_at == Some(world.clock.now() + Duration::from_secs(30)));
    assert!(matches!(put_off.await.state, ConnectorState::Connected(_)));
}

#[tokio::test]
async fn a_server_that_refuses_a_fresh_token_for_a_moment_keeps_its_connector() {
    let (authorization, asked) = renewing(None);
    let mut mcp = mcp();
    mcp.expect_probe().times(1..).returning(|_, _| Err(ProbeError::Unauthorized { challenges: vec![] }));
    let (world, connector) = connected(mcp, authorization).await;
    let again = world.clock.now() + Duration::from_mins(10);
    let put_off = kept(&world, &connector, |stored| stored.due_at == Some(again)).await;
    assert!(matches!(put_off.state, ConnectorState::Connected(_)));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_service_that_stops_spends_no_refresh_token() {
    let (authorization, asked) = renewing(None);
    let (world, connector) = connected(takes("access-1"), authorization).await;
    world.service.stop();
    let Err(RelayFailure::Unrenewed(unrenewed)) = relay(&world, &connector).await else { panic!() };
    assert_eq!(unrenewed.what, "the service is stopping");
    world.service.renewals_settled().await;
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_preset_with_a_new_secret_renews_what_was_granted_with_the_old_one() {
    let client = |secret: &str| ClientCredentials::new("preset".into(), Some(secret.into())).unwrap();
    let mut authorization = MockAuthorizationServer::new();
    authorization.expect_refresh().times(1).returning(|request| {
        assert_eq!(request.authority.client.credentials.secret().unwrap().expose(), "new");
        Ok(grant(1, Timestamp::from_second(1_800_000_600).unwrap()))
    });
    let world = World::authorized_by(takes("access-1"), authorization);
    let connector = world.create().await;
    let mut granted = grant(0, world.clock.now());
    if let GrantSource::Issued(issued) = &mut granted.source {
        let authentication = ClientAuthentication::SecretBasic;
        issued.authority.client =
            OAuthClient { credentials: client("old"), authentication, origin: ClientOrigin::Given };
    }
    let established = Event::Established { grant: Some(granted), server: facts() };
    let connector = put(&world, connector, &[started(&world), established]).await;
    let (url, client) = (connector.url.clone(), Some(client("new")));
    let preset = Preset { url, client, metadata: None, quirks: Quirks::default() };
    let world = world.offering(Presets::new(vec![preset]));
    assert_eq!(relay(&world, &connector).await.unwrap().status, 202);
}

#[tokio::test]
async fn a_server_that_is_there_is_asked_again_after_a_while() {
    let (authorization, _) = renewing(None);
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    let (world, connector) = connected(mcp, authorization).await;
    // The renewal comes before the next look.
    let earliest = world.clock.now() + LIFE / 10 * 7;
    let next = kept(&world, &connector, |stored| stored.due_at.is_some_and(|due_at| due_at >= earliest)).await;
    assert!(next.due_at.unwrap() < world.clock.now() + HEALTH_INTERVAL);
}

#[tokio::test]
async fn a_connector_recovers_when_its_server_is_back() {
    let (authorization, _) = renewing(None);
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    let (world, connector) = connected(mcp, authorization).await;
    let away = DisconnectReason::new(DisconnectCode::ServerUnreachable, "away");
    let failed = Event::Failed { reason: away, recovery: connector.grant().cloned() };
    let connector = put(&world, connector, &[failed]).await;
    let back = kept(&world, &connector, |stored| matches!(stored.state, ConnectorState::Connected(_))).await;
    assert_eq!(back.generation(), connector.generation());
}

#[tokio::test]
async fn what_nobody_finished_ends() {
    let (authorization, _) = renewing(None);
    let world = World::authorized_by(mcp(), authorization);
    let connector = world.create().await;
    let connector = put(&world, connector, &[started(&world)]).await;
    world.clock.advance(Duration::from_secs(30));
    kept(&world, &connector, |stored| stored.state == ConnectorState::Created).await;
}

#[tokio::test]
async fn what_is_given_up_is_revoked() {
    for end in ["disconnect", "delete"] {
        let (mut authorization, _) = renewing(None);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        authorization.expect_revoke().times(1).returning(move |grant| {
            tell.send(grant.access_token.expose().to_owned()).unwrap();
            Ok(())
        });
        let (world, connector) = connected(mcp(), authorization).await;
        let keeper = Keeper::new(world.service.clone(), KeeperConfig { interval: Duration::from_hours(1) });
        let working = tokio::spawn(async move { keeper.run().await });
        match end {
            "disconnect" => drop(world.service.disconnect(world.owner, connector.id).await.unwrap()),
            _ => world.service.delete(world.owner, connector.id).await.unwrap(),
        }
        let revoked = tokio::time::timeout(Duration::from_secs(5), told.recv()).await.unwrap();
        assert_eq!(revoked.as_deref(), Some("access-0"), "{end}");
        working.abort();
    }
}

/// Makes authorization requests, for these scopes in place of the held and the demanded ones.
fn prepares(authorization: &mut MockAuthorizationServer, scopes: Option<&'static str>) {
    authorization.expect_prepare().returning(move |request| {
        let demanded = request.challenges.first().and_then(|text| text.strip_prefix("want ")).unwrap_or_default();
        let Some(IssuedGrant { authority, .. }) = grant(0, Timestamp::UNIX_EPOCH).issued().cloned() else { panic!() };
        Ok(Prepared {
            authority,
            names_itself: false,
            authorization_url: Secret::new("https://as.example.com/authorize"),
            state_hash: StateHash([7; 32]),
            verifier: Secret::new("verifier"),
            redirect_uri: "http://127.0.0.1:8333/api/v1/connectors/oauth/callback".into(),
            scopes: scopes.map_or_else(|| request.held.union(&Scopes::parse(demanded)), Scopes::parse),
        })
    });
}

/// A server that wants another scope.
fn wants_more() -> MockMcpServer {
    let mut mcp = mcp();
    mcp.expect_relay().returning(|_| Ok(answer(403, &["want write"])));
    mcp
}

#[tokio::test]
async fn a_wider_consent_is_offered_once_while_the_connector_serves() {
    let (mut authorization, _) = renewing(None);
    prepares(&mut authorization, None);
    let (world, connector) = connected(wants_more(), authorization).await;
    let mut offered = Vec::new();
    for _ in 0..2 {
        let Err(RelayFailure::WiderConsent(told)) = relay(&world, &connector).await else { panic!() };
        assert!(matches!(told.state, ConnectorState::Connected(_)));
        let attempt = told.attempt().unwrap();
        assert_eq!((attempt.scopes.to_string().as_str(), attempt.step_ups), ("read write", 1));
        offered.push(told.revision);
    }
    assert_eq!(offered[0], offered[1], "the second refusal finds the offer of the first");
}

#[tokio::test]
async fn a_server_that_wants_another_scope_each_time_is_listened_to_once() {
    let (mut authorization, _) = renewing(None);
    prepares(&mut authorization, None);
    let mut mcp = mcp();
    let calls = AtomicUsize::new(0);
    mcp.expect_relay().returning(move |_| {
        let scope = format!("want scope-{}", calls.fetch_add(1, Ordering::SeqCst));
        Ok(answer(403, &[&scope]))
    });
    let (world, connector) = connected(mcp, authorization).await;
    for _ in 0..10 {
        assert!(matches!(relay(&world, &connector).await, Err(RelayFailure::WiderConsent(_))));
    }
    assert_eq!(world.stored(&connector).await.attempt().unwrap().scopes.to_string(), "read scope-0");
}

#[tokio::test]
async fn nobody_is_asked_for_wider_consent_for_ever() {
    let (mut authorization, _) = renewing(None);
    prepares(&mut authorization, None);
    let (world, connector) = connected(wants_more(), authorization).await;
    let asked_thrice = grant(0, world.clock.now()).after_step_ups(3);
    let established = Event::Established { grant: Some(asked_thrice), server: facts() };
    let connector = put(&world, connector, &[established]).await;
    assert_eq!(relay(&world, &connector).await.unwrap().status, 403);
    assert!(world.stored(&connector).await.attempt().is_none());
}

#[tokio::test]
async fn a_403_that_names_no_scope_is_the_servers_last_word() {
    let (authorization, _) = renewing(None);
    let mut mcp = mcp();
    mcp.expect_relay().returning(|_| Ok(answer(403, &["Bearer"])));
    let (world, connector) = connected(mcp, authorization).await;
    assert_eq!(relay(&world, &connector).await.unwrap().status, 403);
}
