//! Connect, in every state and beside others who change the same connector.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use connectors_application::ports::{
    AddressRefused, Clock, Connectors, McpServer, ProbeError, RelayError, RelayRequest, RelayResponse,
};
use connectors_application::{Conflict, ConnectRequest, Error};
use connectors_domain::{
    AccessToken, Connector, ConnectorState, DisconnectCode, Event, Grant, Lifecycle, ServerFacts, ServerUrl,
};
use tokio::sync::Semaphore;

use crate::support::{PROBE_DEADLINE, World, facts, mcp};

fn with_token(token: &str) -> ConnectRequest {
    ConnectRequest { access_token: Some(token.into()), ..ConnectRequest::default() }
}

fn failure(outcome: Result<Connector, Error>) -> DisconnectCode {
    match outcome {
        Err(Error::ConnectFailed(reason)) => reason.code(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn each_failure_of_a_probe_has_its_code_and_can_be_left() {
    for (error, code) in [
        (ProbeError::AddressRefused(AddressRefused("no".into())), DisconnectCode::AddressRefused),
        (ProbeError::Unreachable("it is away"), DisconnectCode::ServerUnreachable),
        (ProbeError::TimedOut, DisconnectCode::ServerTimeout),
        (ProbeError::Unauthorized { challenges: vec![] }, DisconnectCode::AuthorizationRequired),
        (ProbeError::Status(500), DisconnectCode::ServerError),
        (ProbeError::NotMcp, DisconnectCode::NotMcp),
        (ProbeError::UnsupportedVersion, DisconnectCode::UnsupportedVersion),
    ] {
        let mut mcp = mcp();
        mcp.expect_probe().times(1).return_once(move |_, _| Err(error));
        mcp.expect_probe().times(1).returning(|_, _| Ok(facts()));
        let world = World::new(mcp);
        let connector = world.create().await;
        let outcome = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await;
        assert_eq!(failure(outcome), code);
        assert_eq!(world.stored(&connector).await.disconnect_reason().unwrap().code(), code);
        let again = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
        assert_eq!(again.lifecycle(), Lifecycle::Connected);
    }
}

#[tokio::test]
async fn a_token_is_kept_while_nothing_speaks_against_it() {
    let mut mcp = mcp();
    let outcomes = [
        Err(ProbeError::Unreachable("it is away")),
        Ok(facts()),
        Err(ProbeError::Unauthorized { challenges: vec![] }),
        Ok(facts()),
    ];
    let calls = AtomicUsize::new(0);
    mcp.expect_probe().times(4).returning(move |_, token| {
        assert_eq!(token.unwrap().expose(), "t-1");
        outcomes[calls.fetch_add(1, Ordering::SeqCst)].clone()
    });
    let world = World::new(mcp);
    let connector = world.create().await;
    let connect = |request| world.service.connect(world.owner, connector.id, request);
    assert_eq!(failure(connect(with_token("t-1")).await), DisconnectCode::ServerUnreachable);
    assert!(connect(ConnectRequest::default()).await.is_ok());
    // It has worked before, so one refusal does not lose it.
    assert_eq!(failure(connect(ConnectRequest::default()).await), DisconnectCode::CredentialRejected);
    assert!(connect(ConnectRequest::default()).await.is_ok());
}

#[tokio::test]
async fn a_token_that_never_worked_is_dropped_when_it_is_refused() {
    let mut mcp = mcp();
    mcp.expect_probe().times(1).return_once(|_, token| {
        assert!(token.is_some());
        Err(ProbeError::Unauthorized { challenges: vec![] })
    });
    mcp.expect_probe().times(1).return_once(|_, token| {
        assert!(token.is_none());
        Err(ProbeError::Unauthorized { challenges: vec![] })
    });
    let world = World::new(mcp);
    let connector = world.create().await;
    let connect = |request| world.service.connect(world.owner, connector.id, request);
    assert_eq!(failure(connect(with_token("bad")).await), DisconnectCode::CredentialRejected);
    assert_eq!(world.stored(&connector).await.grant(), None);
    assert_eq!(failure(connect(ConnectRequest::default()).await), DisconnectCode::AuthorizationRequired);
}

#[tokio::test]
async fn a_bad_request_touches_nothing() {
    let world = World::new(mcp());
    let connector = world.create().await;
    for (request, field) in [
        (with_token(""), "access_token"),
        (with_token(&"t".repeat(16 * 1024 + 1)), "access_token"),
        (
            ConnectRequest { redirect_url: Some("https://evil.example/".into()), ..ConnectRequest::default() },
            "redirect_url",
        ),
    ] {
        let error = world.service.connect(world.owner, connector.id, request).await.unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(world.stored(&connector).await, connector);
}

/// A server that answers when it is let, and counts.
struct Gate {
    probes: AtomicUsize,
    open: Semaphore,
}

impl Gate {
    fn closed() -> Arc<Self> {
        Arc::new(Self { probes: AtomicUsize::new(0), open: Semaphore::new(0) })
    }

    async fn wait_for(&self, probes: usize) {
        while self.probes.load(Ordering::SeqCst) < probes {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl McpServer for Gate {
    fn admit(&self, _url: &ServerUrl) -> Result<(), AddressRefused> {
        Ok(())
    }

    async fn probe(&self, _url: ServerUrl, _credential: Option<AccessToken>) -> Result<ServerFacts, ProbeError> {
        self.probes.fetch_add(1, Ordering::SeqCst);
        self.open.acquire().await.unwrap().forget();
        Ok(facts())
    }

    async fn tools_challenge(&self, _: ServerUrl, _: ServerFacts) -> Option<Vec<String>> {
        None
    }

    async fn relay(&self, _request: RelayRequest) -> Result<RelayResponse, RelayError> {
        Err(RelayError::Unreachable("it is away"))
    }
}

#[tokio::test]
async fn twenty_connects_at_once_are_one_probe() {
    let gate = Gate::closed();
    let world = World::with(Arc::clone(&gate) as Arc<dyn McpServer>);
    let connector = world.create().await;
    let connects: Vec<_> = (0..20)
        .map(|_| {
            let (service, owner, id) = (world.service.clone(), world.owner, connector.id);
            tokio::spawn(async move { service.connect(owner, id, ConnectRequest::default()).await })
        })
        .collect();
    gate.wait_for(1).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    gate.open.add_permits(20);
    for connect in connects {
        assert_eq!(connect.await.unwrap().unwrap().lifecycle(), Lifecycle::Connected);
    }
    assert_eq!(gate.probes.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_connector_in_the_middle() {
    let gate = Gate::closed();
    let world = World::with(Arc::clone(&gate) as Arc<dyn McpServer>);
    let connector = world.create().await;
    let connect = tokio::spawn({
        let (service, owner, id) = (world.service.clone(), world.owner, connector.id);
        async move { service.connect(owner, id, ConnectRequest::default()).await }
    });
    gate.wait_for(1).await;
    connect.abort();
    gate.open.add_permits(1);
    while world.stored(&connector).await.lifecycle() != Lifecycle::Connected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_probe_that_died_with_its_process_is_taken_over() {
    let mut mcp = mcp();
    mcp.expect_probe().times(1).returning(|_, _| Ok(facts()));
    let world = World::new(mcp);
    let connector = world.create().await;
    let deadline = world.clock.now().checked_add(PROBE_DEADLINE).unwrap();
    let begun = connector.clone().apply(Event::ConnectStarted { deadline }, world.clock.now()).unwrap().connector;
    world.store.update(begun).await.unwrap();

    let connect = tokio::spawn({
        let (service, owner, id) = (world.service.clone(), world.owner, connector.id);
        async move { service.connect(owner, id, ConnectRequest::default()).await }
    });
    tokio::time::sleep(std::time::Duration::from_millis(150)).await;
    assert!(!connect.is_finished(), "whoever probes may still be alive");
    world.clock.advance(PROBE_DEADLINE);
    assert_eq!(connect.await.unwrap().unwrap().lifecycle(), Lifecycle::Connected);
}

#[tokio::test]
async fn a_process_that_is_alone_knows_that_older_probes_are_dead() {
    let world = World::new(mcp());
    let connector = world.create().await;
    let deadline = world.clock.now().checked_add(PROBE_DEADLINE).unwrap();
    let begun = connector.clone().apply(Event::ConnectStarted { deadline }, world.clock.now()).unwrap().connector;
    world.store.update(begun).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(1));

    let mut mcp = mcp();
    mcp.expect_probe().times(1).returning(|_, _| Ok(facts()));
    let world = world.restarted(mcp);
    let connected = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(connected.lifecycle(), Lifecycle::Connected);
}

#[tokio::test]
async fn what_others_did_meanwhile_stands() {
    let gate = Gate::closed();
    let world = World::with(Arc::clone(&gate) as Arc<dyn McpServer>);
    let start = |id| {
        let (service, owner) = (world.service.clone(), world.owner);
        tokio::spawn(async move { service.connect(owner, id, ConnectRequest::default()).await })
    };
    // Deleted while the server was probed.
    let connector = world.create().await;
    let connect = start(connector.id);
    gate.wait_for(1).await;
    world.service.delete(world.owner, connector.id).await.unwrap();
    gate.open.add_permits(1);
    assert!(matches!(connect.await.unwrap(), Err(Error::NotFound)));
    assert!(world.store.find(world.owner, connector.id).await.unwrap().is_none());

    // Disconnected while a connected server was probed once more.
    let connector = world.create().await;
    gate.open.add_permits(1);
    start(connector.id).await.unwrap().unwrap();
    let connect = start(connector.id);
    gate.wait_for(3).await;
    world.service.disconnect(world.owner, connector.id).await.unwrap();
    gate.open.add_permits(1);
    assert!(matches!(connect.await.unwrap(), Err(Error::Conflict(Conflict::Changed))));
    assert_eq!(world.stored(&connector).await.disconnect_reason().unwrap().code(), DisconnectCode::ClientRequest);
}

#[tokio::test]
async fn a_token_that_works_is_not_lost_to_a_connect_beside_it() {
    let gate = Gate::closed();
    let world = World::with(Arc::clone(&gate) as Arc<dyn McpServer>);
    let connector = world.create().await;
    let start = |request| {
        let (service, owner, id) = (world.service.clone(), world.owner, connector.id);
        tokio::spawn(async move { service.connect(owner, id, request).await })
    };
    gate.open.add_permits(1);
    start(with_token("old")).await.unwrap().unwrap();
    let plain = start(ConnectRequest::default());
    gate.wait_for(2).await;
    let new = start(with_token("new"));
    gate.wait_for(3).await;
    // The plain one ends first.
    gate.open.add_permits(1);
    plain.await.unwrap().unwrap();
    gate.open.add_permits(1);
    let connected = new.await.unwrap().unwrap();
    assert_eq!(connected.grant().unwrap().access_token.expose(), "new");
    assert_eq!(world.stored(&connector).await, connected);
}

#[tokio::test]
async fn a_new_token_takes_the_place_of_the_old_one() {
    let mut mcp = mcp();
    mcp.expect_probe().times(2).returning(|_, _| Ok(facts()));
    let world = World::new(mcp);
    let connector = world.create().await;
    for token in ["t-1", "t-2"] {
        world.service.connect(world.owner, connector.id, with_token(token)).await.unwrap();
        let ConnectorState::Connected(connected) = world.stored(&connector).await.state else { panic!() };
        assert_eq!(connected.grant, Some(Grant::supplied(AccessToken::new(token.into()).unwrap())));
    }
}
