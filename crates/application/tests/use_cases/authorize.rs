//! Authorization: from a server's 401 over the user's consent to a connected connector, and every way in which it fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{
    Connectors, ExchangeError, MockAuthorizationServer, MockMcpServer, PrepareError, Prepared, ProbeError, RelayBody,
    RelayError, RelayMethod, RelayResponse, RequestHeaders, ResponseHeaders,
};
use connectors_application::{
    CallbackOutcome, CallbackRequest, ConnectRequest, Error, Keeper, KeeperConfig, RelayFailure,
};
use connectors_domain::{
    AccessToken, Authority, ClientAuthentication, ClientCredentials, ClientOrigin, ClientState, Connector,
    DisconnectCode, Grant, GrantSource, IssuedGrant, Issuer, Lifecycle, OAuthClient, Scopes, Secret, StateHash,
};
use jiff::Timestamp;

use crate::support::{ATTEMPT_LIFETIME, World, facts, mcp};

const ISSUER: &str = "https://as.example.com";

fn authority(origin: ClientOrigin) -> Authority {
    Authority {
        issuer: Issuer::new(ISSUER),
        token_endpoint: "https://as.example.com/token".into(),
        revocation_endpoint: None,
        resource: Some("https://mcp.example.com/mcp".into()),
        client: OAuthClient {
            credentials: ClientCredentials::new("client".into(), None).unwrap(),
            authentication: ClientAuthentication::None,
            origin,
        },
    }
}

pub(crate) fn grant() -> Grant {
    Grant {
        access_token: AccessToken::new("issued".into()).unwrap(),
        source: GrantSource::Issued(IssuedGrant {
            authority: authority(ClientOrigin::Registered),
            refresh_token: None,
            obtained_at: Timestamp::UNIX_EPOCH,
            expires_at: None,
            scopes: Scopes::default(),
            generation: IssuedGrant::UNSTORED,
            step_ups: 0,
        }),
    }
}

fn token(connector: &Connector) -> Option<&str> {
    Some(connector.grant()?.access_token.expose())
}

/// A state hashes to its own first byte, so that tests can tell attempts apart.
fn hash(state: &str) -> StateHash {
    StateHash([state.as_bytes().first().copied().unwrap_or_default(); 32])
}

/// An authorization server whose attempts have the states "a", "b", "c" and so on.
pub(crate) fn authorization(names_itself: bool) -> MockAuthorizationServer {
    let mut authorization = MockAuthorizationServer::new();
    let attempts = AtomicUsize::new(0);
    authorization.expect_prepare().returning(move |request| {
        assert_eq!(request.challenges, ["Bearer x=y"]);
        let number = u8::try_from(attempts.fetch_add(1, Ordering::SeqCst)).unwrap();
        let state = char::from(b'a' + number).to_string();
        Ok(Prepared {
            authority: authority(if request.client.is_some() { ClientOrigin::Given } else { ClientOrigin::Registered }),
            names_itself,
            authorization_url: Secret::new(format!("https://as.example.com/authorize?state={state}")),
            state_hash: hash(&state),
            verifier: Secret::new("verifier"),
            redirect_uri: "http://127.0.0.1:8333/api/v1/connectors/oauth/callback/key".into(),
            scopes: Scopes::parse("read"),
        })
    });
    authorization.expect_state_hash().returning(hash);
    authorization.expect_is_named_by().returning(|_| true);
    authorization
}

/// A server that takes the issued token and no other.
pub(crate) fn protected() -> MockMcpServer {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, token| match token {
        Some(token) if token.expose() == "issued" => Ok(facts()),
        _ => Err(ProbeError::Unauthorized { challenges: vec!["Bearer x=y".into()] }),
    });
    mcp
}

pub(crate) fn callback(state: &str) -> CallbackRequest {
    CallbackRequest {
        state: state.into(),
        code: Some("code".into()),
        issuer_key: Some("key".into()),
        ..CallbackRequest::default()
    }
}

pub(crate) async fn begun(authorization: MockAuthorizationServer) -> (World, Connector) {
    let world = World::authorized_by(protected(), authorization);
    let connector = world.create().await;
    let waiting = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(waiting.client_state(), ClientState::AuthRequired);
    (world, waiting)
}

#[tokio::test]
async fn consent_connects() {
    let mut authorization = authorization(true);
    authorization.expect_exchange().times(1).returning(|request| {
        assert_eq!((request.code.expose(), request.verifier.expose()), ("code", "verifier"));
        assert!(request.redirect_uri.ends_with("/callback/key"));
        Ok(grant())
    });
    let (world, waiting) = begun(authorization).await;
    assert_eq!(waiting.attempt().unwrap().authorization_url.expose(), "https://as.example.com/authorize?state=a");
    let request = CallbackRequest { iss: Some(ISSUER.into()), ..callback("a") };
    let outcome = world.service.callback(request.clone()).await.unwrap();
    assert_eq!(outcome, CallbackOutcome::Finished { redirect_url: None, failure: None });
    let connected = world.stored(&waiting).await;
    assert_eq!((connected.lifecycle(), token(&connected)), (Lifecycle::Connected, Some("issued")));
    // A state is good once.
    assert_eq!(world.service.callback(request).await.unwrap(), CallbackOutcome::Unknown);
    assert_eq!(world.stored(&waiting).await, connected);
}

#[tokio::test]
async fn a_second_connect_offers_the_same_attempt_unless_it_leads_elsewhere() {
    let (world, waiting) = begun(authorization(false)).await;
    let connect = |redirect_url: Option<&str>| {
        let request = ConnectRequest { redirect_url: redirect_url.map(str::to_owned), ..ConnectRequest::default() };
        world.service.connect(world.owner, waiting.id, request)
    };
    assert_eq!(connect(None).await.unwrap(), waiting);
    let elsewhere = connect(Some("http://localhost:3000/done")).await.unwrap();
    assert_eq!(elsewhere.attempt().unwrap().state_hash, hash("b"));
    assert_eq!(connect(Some("http://localhost:3000/done")).await.unwrap(), elsewhere);
    // The first one is over.
    assert_eq!(world.service.callback(callback("a")).await.unwrap(), CallbackOutcome::Unknown);
    world.clock.advance(ATTEMPT_LIFETIME);
    let anew = connect(Some("http://localhost:3000/done")).await.unwrap();
    assert_eq!(anew.attempt().unwrap().state_hash, hash("c"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_callbacks_at_once_are_one_exchange() {
    let mut authorization = authorization(false);
    let exchanges = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&exchanges);
    authorization.expect_exchange().returning(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        Ok(grant())
    });
    let (world, waiting) = begun(authorization).await;
    let callbacks: Vec<_> = (0..50)
        .map(|_| {
            let service = world.service.clone();
            tokio::spawn(async move { service.callback(callback("a")).await.unwrap() })
        })
        .collect();
    let mut finished = 0;
    for callback in callbacks {
        match callback.await.unwrap() {
            CallbackOutcome::Finished { failure: None, .. } => finished += 1,
            CallbackOutcome::Unknown => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((finished, exchanges.load(Ordering::SeqCst)), (1, 1));
    assert_eq!(world.stored(&waiting).await.lifecycle(), Lifecycle::Connected);
}

#[tokio::test]
async fn what_comes_from_elsewhere_changes_nothing() {
    for (names_itself, iss, path, accepted) in [
        (true, Some(ISSUER), Some("key"), true),
        (true, None, Some("key"), false),
        (true, Some("https://as.example.com/"), Some("key"), false),
        (true, Some("https://AS.example.com"), Some("key"), false),
        (true, Some("https://evil.example"), Some("key"), false),
        (false, None, Some("key"), true),
        (false, Some(ISSUER), Some("key"), true),
        (false, Some("https://evil.example"), Some("key"), false),
        (false, None, None, false),
        (false, None, Some("other"), false),
        (false, None, Some("k"), false),
    ] {
        for error in [None, Some("access_denied".to_owned())] {
            let mut authorization = authorization(names_itself);
            authorization.expect_exchange().returning(|_| Ok(grant()));
            let (world, waiting) = begun(authorization).await;
            let request = CallbackRequest {
                iss: iss.map(str::to_owned),
                issuer_key: path.map(str::to_owned),
                error: error.clone(),
                ..callback("a")
            };
            let outcome = world.service.callback(request).await.unwrap();
            let acted = matches!(outcome, CallbackOutcome::Finished { .. });
            assert_eq!(acted, accepted, "{names_itself} {iss:?} {path:?} {error:?}: {outcome:?}");
            if !accepted {
                assert_eq!(outcome, CallbackOutcome::WrongIssuer);
                assert_eq!(world.stored(&waiting).await, waiting);
            }
        }
    }
}

#[tokio::test]
async fn an_attempt_ends_with_its_time() {
    let (world, waiting) = begun(authorization(false)).await;
    world.clock.advance(ATTEMPT_LIFETIME);
    assert_eq!(world.service.callback(callback("a")).await.unwrap(), CallbackOutcome::Unknown);
    assert_eq!(world.stored(&waiting).await, waiting);
    assert_eq!(world.service.callback(callback("z")).await.unwrap(), CallbackOutcome::Unknown);
}

#[tokio::test]
async fn a_refusal_ends_the_attempt_with_words_of_our_own() {
    let (world, waiting) = begun(authorization(false)).await;
    let request = CallbackRequest { code: None, error: Some("access_denied <script>".into()), ..callback("a") };
    let CallbackOutcome::Finished { failure: Some(reason), .. } = world.service.callback(request).await.unwrap() else {
        panic!();
    };
    assert_eq!(reason.code(), DisconnectCode::AuthorizationRefused);
    assert!(!reason.message().contains("script"));
    assert_eq!(world.stored(&waiting).await.disconnect_reason(), Some(&reason));
    // And the next connect asks anew.
    let again = world.service.connect(world.owner, waiting.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(again.client_state(), ClientState::AuthRequired);
}

#[tokio::test]
async fn each_failure_of_an_exchange_has_its_code() {
    for (error, code) in [
        (ExchangeError::Unreachable, DisconnectCode::AuthorizationServerUnreachable),
        (ExchangeError::TimedOut, DisconnectCode::AuthorizationServerTimeout),
        (ExchangeError::Refused, DisconnectCode::TokenExchangeFailed),
        (ExchangeError::ClientRefused, DisconnectCode::ClientRejected),
        (ExchangeError::InvalidResponse, DisconnectCode::TokenResponseInvalid),
    ] {
        let mut authorization = authorization(false);
        authorization.expect_exchange().times(1).return_once(move |_| Err(error));
        let (world, waiting) = begun(authorization).await;
        world.service.callback(callback("a")).await.unwrap();
        assert_eq!(world.stored(&waiting).await.disconnect_reason().unwrap().code(), code);
    }
}

#[tokio::test]
async fn each_failure_to_ask_has_its_code() {
    for (error, code) in [
        (PrepareError::NotOffered, DisconnectCode::AuthorizationRequired),
        (PrepareError::Unreachable, DisconnectCode::AuthorizationServerUnreachable),
        (PrepareError::TimedOut, DisconnectCode::AuthorizationServerTimeout),
        (PrepareError::InvalidMetadata("it has no token endpoint"), DisconnectCode::AuthorizationMetadataInvalid),
        (PrepareError::PkceUnsupported, DisconnectCode::PkceUnsupported),
        (PrepareError::ClientRequired, DisconnectCode::ClientRequired),
        (PrepareError::ClientBoundElsewhere, DisconnectCode::ClientRejected),
        (PrepareError::RegistrationFailed, DisconnectCode::RegistrationFailed),
    ] {
        let mut authorization = MockAuthorizationServer::new();
        authorization.expect_prepare().times(1).return_once(move |_| Err(error));
        let world = World::authorized_by(protected(), authorization);
        let connector = world.create().await;
        let outcome = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await;
        let Err(Error::ConnectFailed(reason)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason.code(), code);
    }
}

#[tokio::test]
async fn a_browser_goes_only_where_it_may_still_go() {
    let mut authorization = authorization(false);
    authorization.expect_exchange().returning(|_| Ok(grant()));
    let world = World::authorized_by(protected(), authorization);
    let connector = world.create().await;
    let request =
        ConnectRequest { redirect_url: Some("http://localhost:3000/done?x=1".into()), ..ConnectRequest::default() };
    world.service.connect(world.owner, connector.id, request).await.unwrap();
    let outcome = world.service.callback(callback("a")).await.unwrap();
    let CallbackOutcome::Finished { redirect_url: Some(url), failure: None } = outcome else { panic!("{outcome:?}") };
    assert_eq!(url.as_str(), "http://localhost:3000/done?x=1");
}

#[tokio::test]
async fn a_given_client_is_bound_to_the_issuer_that_saw_it_first() {
    let mut authorization = MockAuthorizationServer::new();
    let calls = AtomicUsize::new(0);
    authorization.expect_prepare().times(2).returning(move |request| {
        let bound = request.bound_to.map(|issuer| issuer.as_str().to_owned());
        if calls.fetch_add(1, Ordering::SeqCst) > 0 {
            assert_eq!(bound.as_deref(), Some(ISSUER));
            return Err(PrepareError::ClientBoundElsewhere);
        }
        assert_eq!(bound, None);
        Ok(Prepared {
            authority: authority(ClientOrigin::Given),
            names_itself: false,
            authorization_url: Secret::new("https://as.example.com/authorize"),
            state_hash: hash("a"),
            verifier: Secret::new("verifier"),
            redirect_uri: "http://127.0.0.1:8333/api/v1/connectors/oauth/callback".into(),
            scopes: Scopes::default(),
        })
    });
    let world = World::authorized_by(protected(), authorization);
    let connector = world.create_with_client("given").await;
    world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(world.stored(&connector).await.client_issuer, Some(Issuer::new(ISSUER)));
    world.clock.advance(ATTEMPT_LIFETIME + Duration::from_secs(1));
    assert!(world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.is_err());
    assert!(world.store.find(world.owner, connector.id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_401_in_the_middle_of_use_leads_to_consent() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    mcp.expect_tools_challenge().returning(|_, _| None);
    mcp.expect_relay().times(1).returning(|_| Err(RelayError::Unauthorized { challenges: vec!["Bearer x=y".into()] }));
    let world = World::authorized_by(mcp, authorization(false));
    let connector = world.create().await;
    world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    for _ in 0..2 {
        let headers = RequestHeaders::default();
        let relayed =
            world.service.relay(world.owner, connector.id, RelayMethod::Post, headers, Bytes::from_static(b"{}")).await;
        let Err(RelayFailure::Unusable(told)) = relayed else { panic!("{relayed:?}") };
        assert_eq!(told.client_state(), ClientState::AuthRequired);
        assert_eq!(told.attempt().unwrap().state_hash, hash("a"));
    }
}

/// A server that talks of itself to everybody, and answers a question for its tools without a token with these
/// challenges.
fn open_to_talk(challenges: Option<Vec<String>>) -> MockMcpServer {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    mcp.expect_tools_challenge().times(1).return_once(|_, server| {
        assert_eq!(server, facts());
        challenges
    });
    mcp
}

#[tokio::test]
async fn a_server_that_talks_of_itself_to_everybody_may_want_consent_for_its_tools() {
    let mut authorization = authorization(false);
    authorization.expect_exchange().times(1).returning(|_| Ok(grant()));
    let world = World::authorized_by(open_to_talk(Some(vec!["Bearer x=y".into()])), authorization);
    let connector = world.create().await;
    let waiting = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(waiting.client_state(), ClientState::AuthRequired);
    assert_eq!(waiting.attempt().unwrap().state_hash, hash("a"));
    // With a token, the answer to a probe is enough.
    world.service.callback(callback("a")).await.unwrap();
    let connected = world.stored(&connector).await;
    assert_eq!((connected.lifecycle(), token(&connected)), (Lifecycle::Connected, Some("issued")));
}

#[tokio::test]
async fn a_server_that_lists_its_tools_to_everybody_is_connected_without_consent() {
    let world = World::authorized_by(open_to_talk(None), authorization(false));
    let connector = world.create().await;
    let connected = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!((connected.lifecycle(), connected.grant()), (Lifecycle::Connected, None));
}

#[tokio::test]
async fn a_server_that_names_no_authorization_server_is_not_asked_for_its_tools() {
    let mut authorization = MockAuthorizationServer::new();
    authorization.expect_is_named_by().times(1).returning(|_| false);
    let mut mcp = mcp();
    mcp.expect_probe().times(1).returning(|_, _| Ok(facts()));
    let world = World::authorized_by(mcp, authorization);
    let connector = world.create().await;
    let connected = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(connected.lifecycle(), Lifecycle::Connected);
}

#[tokio::test]
async fn a_token_that_a_probe_accepts_is_not_questioned() {
    let mut mcp = mcp();
    mcp.expect_probe().times(1).returning(|_, _| Ok(facts()));
    let world = World::authorized_by(mcp, MockAuthorizationServer::new());
    let connector = world.create().await;
    let request = ConnectRequest { access_token: Some("mine".into()), ..ConnectRequest::default() };
    let connected = world.service.connect(world.owner, connector.id, request).await.unwrap();
    assert_eq!(connected.lifecycle(), Lifecycle::Connected);
}

/// A server that wants more than was granted for its first question.
#[tokio::test]
async fn a_403_to_a_probe_asks_for_a_wider_consent_until_there_were_three() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, token| {
        let challenges = vec!["Bearer x=y".to_owned()];
        Err(if token.is_some() {
            ProbeError::Forbidden { challenges }
        } else {
            ProbeError::Unauthorized { challenges }
        })
    });
    let mut authorization = authorization(false);
    authorization.expect_demanded_scopes().returning(|_| Some(Scopes::parse("more")));
    authorization.expect_exchange().returning(|_| Ok(grant()));
    let world = World::authorized_by(mcp, authorization);
    let connector = world.create().await;
    world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    for (state, next) in [("a", "b"), ("b", "c")] {
        let outcome = world.service.callback(callback(state)).await.unwrap();
        let CallbackOutcome::Further { authorization_url } = outcome else { panic!("{outcome:?}") };
        assert!(authorization_url.expose().ends_with(next));
        assert_eq!(world.stored(&connector).await.client_state(), ClientState::AuthRequired);
    }
    let outcome = world.service.callback(callback("c")).await.unwrap();
    assert!(matches!(
        outcome,
        CallbackOutcome::Finished { failure: Some(reason), .. } if reason.code() == DisconnectCode::ServerError
    ));
}

#[tokio::test(start_paused = true)]
async fn an_offer_that_nobody_takes_ends_with_its_time_and_takes_nothing_along() {
    let mut mcp = protected();
    mcp.expect_relay().returning(|_| {
        let challenges = vec!["Bearer x=y".to_owned()];
        Ok(RelayResponse { status: 403, headers: ResponseHeaders::default(), challenges, body: RelayBody::Empty })
    });
    let mut authorization = authorization(false);
    authorization.expect_demanded_scopes().returning(|_| Some(Scopes::parse("more")));
    authorization.expect_exchange().returning(|_| Ok(grant()));
    let world = World::authorized_by(mcp, authorization);
    let connector = world.create().await;
    world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    world.service.callback(callback("a")).await.unwrap();
    let (headers, body) = (RequestHeaders::default(), Bytes::from_static(b"{}"));
    let outcome = world.service.relay(world.owner, connector.id, RelayMethod::Post, headers, body).await;
    assert!(matches!(outcome, Err(RelayFailure::WiderConsent(_))), "{outcome:?}");
    assert!(world.stored(&connector).await.attempt().is_some());

    world.clock.advance(ATTEMPT_LIFETIME);
    let keeper = Keeper::new(world.service.clone(), KeeperConfig { interval: Duration::from_secs(1) });
    let keeping = tokio::spawn(async move { keeper.run().await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    keeping.abort();
    let stored = world.stored(&connector).await;
    assert_eq!((stored.lifecycle(), stored.attempt()), (Lifecycle::Connected, None));
    assert_eq!(token(&stored), Some("issued"));
    assert_eq!(world.service.callback(callback("b")).await.unwrap(), CallbackOutcome::Unknown);
}
