//! How much one user may do, at the edge of each limit.

use std::num::NonZeroU32;
use std::time::Duration;

use connectors_application::ports::{RelayBody, RelayMethod, RelayResponse, RequestHeaders, ResponseHeaders};
use connectors_application::{ConnectRequest, CreateRequest, Error, RelayFailure};
use connectors_domain::{ClientState, Connector, OwnerId};
use uuid::Uuid;

use crate::authorize::{authorization, protected};
use crate::support::{World, facts, mcp};

fn stranger() -> OwnerId {
    OwnerId::from_uuid(Uuid::from_u128(7))
}

async fn create(world: &World, owner: OwnerId, number: usize) -> Connector {
    let url = format!("https://mcp.example.com/{number}");
    world.service.create(owner, CreateRequest { url, ..CreateRequest::default() }).await.unwrap()
}

async fn connect(world: &World, connector: &Connector) -> Result<Connector, Error> {
    world.service.connect(connector.owner, connector.id, ConnectRequest::default()).await
}

#[tokio::test]
async fn so_many_connectors_wait_for_a_user_and_no_more() {
    let world = World::authorized_by(protected(), authorization(false))
        .configured(|config| config.limits.waiting = NonZeroU32::new(2));
    let mut waiting = Vec::new();
    for number in 0..2 {
        waiting.push(connect(&world, &create(&world, world.owner, number).await).await.unwrap());
    }
    let third = create(&world, world.owner, 2).await;
    assert!(matches!(connect(&world, &third).await, Err(Error::LimitReached(_))));
    assert_eq!(world.stored(&third).await, third, "it is as it was");
    // One that waits already goes on waiting, and another user is not concerned.
    assert_eq!(connect(&world, &waiting[0]).await.unwrap(), waiting[0]);
    assert_eq!(
        connect(&world, &create(&world, stranger(), 0).await).await.unwrap().client_state(),
        ClientState::AuthRequired
    );
    world.service.disconnect(world.owner, waiting[0].id).await.unwrap();
    assert_eq!(connect(&world, &third).await.unwrap().client_state(), ClientState::AuthRequired);
}

#[tokio::test]
async fn a_user_begins_so_many_connects_in_a_minute() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    let world = World::new(mcp).configured(|config| config.limits.connects_per_minute = NonZeroU32::new(3));
    let connector = create(&world, world.owner, 0).await;
    for _ in 0..3 {
        connect(&world, &connector).await.unwrap();
    }
    let Err(Error::TooMany { retry_after, .. }) = connect(&world, &connector).await else { panic!("a fourth") };
    assert!(retry_after > Duration::from_secs(15) && retry_after <= Duration::from_secs(20), "{retry_after:?}");
    connect(&world, &create(&world, stranger(), 0).await).await.unwrap();
}

#[tokio::test]
async fn a_user_has_so_many_streams_open() {
    let mut mcp = mcp();
    mcp.expect_probe().returning(|_, _| Ok(facts()));
    mcp.expect_relay().returning(|_| {
        let stream = Box::pin(futures_util::stream::pending());
        let headers = ResponseHeaders::default();
        Ok(RelayResponse { status: 200, headers, challenges: Vec::new(), body: RelayBody::Events { stream } })
    });
    let world = World::new(mcp).configured(|config| config.limits.streams = NonZeroU32::new(2));
    let connector = create(&world, world.owner, 0).await;
    let theirs = create(&world, stranger(), 0).await;
    connect(&world, &connector).await.unwrap();
    connect(&world, &theirs).await.unwrap();
    let send = |of: &Connector, method| {
        let (owner, id) = (of.owner, of.id);
        world.service.relay(owner, id, method, RequestHeaders::default(), bytes::Bytes::new())
    };
    let open = |of: &Connector| send(of, RelayMethod::Get);
    let first = open(&connector).await.unwrap();
    // The answer to a call counts, and is not refused where it is one too many.
    let _second = send(&connector, RelayMethod::Post).await.unwrap();
    drop(send(&connector, RelayMethod::Post).await.unwrap());
    assert!(matches!(open(&connector).await, Err(RelayFailure::Service(Error::TooMany { .. }))));
    let _theirs = open(&theirs).await.unwrap();
    drop(first);
    open(&connector).await.unwrap();
}
