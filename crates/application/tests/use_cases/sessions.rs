//! Sessions of MCP servers: the client holds an id that is good for its user and its connector, and the server's own id
//! never leaves the service.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use connectors_application::ports::{RelayBody, RelayMethod, RelayResponse, RequestHeaders, ResponseHeaders};
use connectors_application::{ConnectRequest, CreateRequest, RelayFailure};
use connectors_domain::{Connector, OwnerId};
use uuid::Uuid;

use crate::support::{World, facts, mcp};

const SERVER_ID: &str = "server-side-1";

/// What the server has seen as session ids, in order.
type Seen = Arc<Mutex<Vec<Vec<u8>>>>;

/// A server that gives out one session id, with every answer.
async fn world() -> (World, Connector, Seen) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    mcp.expect_relay().returning(move |request| {
        let ids = request.headers.iter().filter(|(name, _)| *name == "mcp-session-id");
        noted.lock().unwrap().extend(ids.map(|(_, value)| value.to_vec()));
        let mut headers = ResponseHeaders::default();
        headers.offer("mcp-session-id", SERVER_ID.as_bytes());
        Ok(RelayResponse { status: 200, headers, challenges: Vec::new(), body: RelayBody::Empty })
    });
    let world = World::new(mcp);
    let connector = world.create().await;
    let connector = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap();
    (world, connector, seen)
}

/// Calls, and returns the session id that comes back.
async fn call(world: &World, owner: OwnerId, of: &Connector, ids: &[&[u8]]) -> Result<String, RelayFailure> {
    let mut headers = RequestHeaders::default();
    for id in ids {
        headers.offer("mcp-session-id", id);
    }
    let answer = world.service.relay(owner, of.id, RelayMethod::Post, headers, Bytes::new()).await?;
    let (_, id) = answer.headers.iter().find(|(name, _)| *name == "mcp-session-id").unwrap();
    Ok(String::from_utf8(id.to_vec()).unwrap())
}

#[tokio::test]
async fn a_client_never_sees_the_server_s_id_and_the_server_never_the_client_s() {
    let (world, connector, seen) = world().await;
    let id = call(&world, world.owner, &connector, &[]).await.unwrap();
    assert!(!id.contains(SERVER_ID), "{id}");
    assert!(seen.lock().unwrap().is_empty());
    let again = call(&world, world.owner, &connector, &[id.as_bytes()]).await.unwrap();
    assert_eq!(again, id, "a session keeps the id by which its client knows it");
    assert_eq!(*seen.lock().unwrap(), [SERVER_ID.as_bytes()]);
}

#[tokio::test]
async fn an_id_is_good_for_its_user_and_its_connector_alone() {
    let (world, connector, seen) = world().await;
    let id = call(&world, world.owner, &connector, &[]).await.unwrap();

    let stranger = OwnerId::from_uuid(Uuid::from_u128(7));
    let same = |owner| {
        let request = CreateRequest { url: "https://mcp.example.com/mcp".into(), ..CreateRequest::default() };
        let service = world.service.clone();
        async move {
            let connector = service.create(owner, request).await.unwrap();
            service.connect(owner, connector.id, ConnectRequest::default()).await.unwrap()
        }
    };
    let theirs = same(stranger).await;
    let other = {
        let url = "https://mcp.example.com/other".into();
        let request = CreateRequest { url, ..CreateRequest::default() };
        let connector = world.service.create(world.owner, request).await.unwrap();
        world.service.connect(world.owner, connector.id, ConnectRequest::default()).await.unwrap()
    };
    for (owner, of) in [(stranger, &theirs), (world.owner, &other)] {
        let refused = call(&world, owner, of, &[id.as_bytes()]).await;
        assert!(matches!(refused, Err(RelayFailure::UnknownSession)), "{refused:?}");
    }
    assert!(seen.lock().unwrap().is_empty(), "no foreign id gets through");
}

#[tokio::test]
async fn an_id_that_nobody_gave_out_is_unknown() {
    let (world, connector, seen) = world().await;
    let id = call(&world, world.owner, &connector, &[]).await.unwrap();
    let long = "x".repeat(100_000);
    let cases: [&[&[u8]]; 7] = [
        &[SERVER_ID.as_bytes()],
        &[b""],
        &[b"\xff\xfe"],
        &[&id.as_bytes()[1..]],
        &[id.as_bytes(), id.as_bytes()],
        &[id.as_bytes(), SERVER_ID.as_bytes()],
        &[long.as_bytes()],
    ];
    for ids in cases {
        let refused = call(&world, world.owner, &connector, ids).await;
        assert!(matches!(refused, Err(RelayFailure::UnknownSession)), "{ids:?}");
    }
    assert!(seen.lock().unwrap().is_empty());
}
