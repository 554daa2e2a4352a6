//! Relay: where requests go, what a refused credential does, and that nothing in memory outlives its truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use connectors_application::ports::{
    BadAnswer, BodyError, RelayBody, RelayError, RelayMethod, RelayResponse, RequestHeaders, ResponseHeaders,
};
use connectors_application::{ConnectRequest, Error, RelayFailure};
use connectors_domain::{Connector, DisconnectCode, OwnerId};
use futures_util::StreamExt;

use crate::support::{SLOW, World, facts, mcp};

fn empty() -> RelayResponse {
    RelayResponse { status: 202, headers: ResponseHeaders::default(), challenges: Vec::new(), body: RelayBody::Empty }
}

async fn relay(world: &World, connector: &Connector) -> Result<RelayResponse, RelayFailure> {
    let (owner, id) = (world.owner, connector.id);
    let headers = RequestHeaders::default();
    world.service.relay(owner, id, RelayMethod::Post, headers, Bytes::from_static(b"{}")).await
}

async fn connect(world: &World, connector: &Connector, token: &str) {
    let request = ConnectRequest { access_token: Some(token.into()), ..ConnectRequest::default() };
    world.service.connect(world.owner, connector.id, request).await.unwrap();
}

#[tokio::test]
async fn only_a_connected_connector_relays() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    mcp.expect_relay().times(1).returning(|request| {
        assert_eq!(request.target.url.as_str(), "https://mcp.example.com/mcp");
        assert_eq!(request.target.access_token.as_ref().unwrap().expose(), "t-1");
        Ok(empty())
    });
    let world = World::new(mcp);
    let connector = world.create().await;
    assert!(matches!(relay(&world, &connector).await, Err(RelayFailure::Unusable(_))));
    connect(&world, &connector, "t-1").await;
    assert_eq!(relay(&world, &connector).await.unwrap().status, 202);
    world.service.disconnect(world.owner, connector.id).await.unwrap();
    assert!(matches!(relay(&world, &connector).await, Err(RelayFailure::Unusable(_))));
    world.service.delete(world.owner, connector.id).await.unwrap();
    assert!(matches!(relay(&world, &connector).await, Err(RelayFailure::Service(Error::NotFound))));
}

#[tokio::test]
async fn another_user_finds_nothing_even_in_memory() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    mcp.expect_relay().times(1).returning(|_| Ok(empty()));
    let world = World::new(mcp);
    let connector = world.create().await;
    connect(&world, &connector, "t-1").await;
    relay(&world, &connector).await.unwrap();
    let other = OwnerId::derive("https://issuer.example", "other");
    let headers = RequestHeaders::default();
    let outcome = world.service.relay(other, connector.id, RelayMethod::Post, headers, Bytes::new()).await;
    assert!(matches!(outcome, Err(RelayFailure::Service(Error::NotFound))));
}

#[tokio::test]
async fn a_refused_credential_disconnects_once_and_is_kept_for_the_next_connect() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    mcp.expect_relay().times(1).returning(|_| Err(RelayError::Unauthorized { challenges: vec![] }));
    let world = World::new(mcp);
    let connector = world.create().await;
    connect(&world, &connector, "t-1").await;
    for _ in 0..2 {
        let Err(RelayFailure::Unusable(told)) = relay(&world, &connector).await else { panic!() };
        assert_eq!(told.disconnect_reason().unwrap().code(), DisconnectCode::CredentialRejected);
    }
    assert_eq!(world.stored(&connector).await.grant().unwrap().access_token.expose(), "t-1");
}

#[tokio::test]
async fn a_request_is_sent_again_only_with_another_credential() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    // The second process connects with a new token while the first one's memory holds the old one.
    let world = World::new(mcp);
    let sent = Arc::new(AtomicUsize::new(0));
    let good = Arc::new(AtomicBool::new(false));
    let mut other = crate::support::mcp();
    other.expect_relay().returning({
        let (sent, good) = (Arc::clone(&sent), Arc::clone(&good));
        move |request| {
            assert_eq!(request.body, Bytes::from_static(b"{}"));
            sent.fetch_add(1, Ordering::SeqCst);
            let expected = if good.load(Ordering::SeqCst) { "newer" } else { "new" };
            let token = request.target.access_token.as_ref().unwrap().expose();
            if token == expected { Ok(empty()) } else { Err(RelayError::Unauthorized { challenges: vec![] }) }
        }
    });
    let relaying = world.beside(other);
    let connector = world.create().await;
    connect(&world, &connector, "new").await;
    assert_eq!(relay(&relaying, &connector).await.unwrap().status, 202);

    // The memory of the relaying process does not learn of the change: it holds "new", and the store "newer".
    connect(&world, &connector, "newer").await;
    sent.store(0, Ordering::SeqCst);
    good.store(true, Ordering::SeqCst);
    assert_eq!(relay(&relaying, &connector).await.unwrap().status, 202);
    assert_eq!(sent.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn failures_of_the_server_change_nothing() {
    for error in
        [RelayError::Unreachable("it is away"), RelayError::TimedOut, RelayError::BadAnswer(BadAnswer::Redirect)]
    {
        let mut mcp = mcp();
        mcp.expect_probe().returning(|_, _| Ok(facts()));
        let told = error.clone();
        mcp.expect_relay().times(1).return_once(move |_| Err(error));
        let world = World::new(mcp);
        let connector = world.create().await;
        connect(&world, &connector, "t-1").await;
        let before = world.stored(&connector).await;
        let Err(RelayFailure::Server(found)) = relay(&world, &connector).await else { panic!() };
        assert_eq!(found, told);
        assert_eq!(world.stored(&connector).await, before);
    }
}

#[tokio::test]
async fn a_stream_of_events_ends_with_the_right_to_use_the_server() {
    for end in ["disconnect", "delete", "another token"] {
        let mut mcp = mcp();
        mcp.expect_probe().returning(|_, _| Ok(facts()));
        mcp.expect_relay().times(1).returning(|_| {
            let stream = Box::pin(futures_util::stream::pending());
            Ok(RelayResponse { body: RelayBody::Events { stream }, ..empty() })
        });
        let world = World::new(mcp);
        let connector = world.create().await;
        connect(&world, &connector, "t-1").await;
        let RelayBody::Events { mut stream } = relay(&world, &connector).await.unwrap().body else { panic!() };
        // The same token again changes nothing.
        connect(&world, &connector, "t-1").await;
        assert!(futures_util::poll!(stream.next()).is_pending());
        match end {
            "disconnect" => drop(world.service.disconnect(world.owner, connector.id).await.unwrap()),
            "delete" => world.service.delete(world.owner, connector.id).await.unwrap(),
            _ => connect(&world, &connector, "t-2").await,
        }
        assert_eq!(stream.next().await, Some(Err(BodyError::Broken)), "{end}");
    }
}

#[tokio::test]
async fn a_change_whose_caller_has_gone_is_known_in_memory_too() {
    for end in ["disconnect", "delete"] {
        let mut mcp = mcp();
        mcp.expect_probe().returning(|_, _| Ok(facts()));
        mcp.expect_relay().times(1).returning(|_| Ok(empty()));
        let world = World::slow(mcp);
        let connector = world.create().await;
        connect(&world, &connector, "t-1").await;
        relay(&world, &connector).await.unwrap();
        let (service, owner, id) = (world.service.clone(), world.owner, connector.id);
        let caller = tokio::spawn(async move {
            match end {
                "disconnect" => drop(service.disconnect(owner, id).await),
                _ => drop(service.delete(owner, id).await),
            }
        });
        // The store is slow: the caller goes away while it works.
        tokio::time::sleep(SLOW / 2).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        tokio::time::sleep(SLOW * 2).await;
        assert!(relay(&world, &connector).await.is_err(), "{end}");
    }
}
