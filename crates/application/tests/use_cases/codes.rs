//! The disconnect codes that no test of the whole program brings about, because they take a minute and more on a real clock.
//! All others are in `tests/end_to_end/codes.rs` of the app crate, which also knows of these.

use std::time::Duration;

use connectors_application::ports::{ExchangeError, PrepareError};
use connectors_application::{CallbackOutcome, ConnectRequest, Error, Keeper, KeeperConfig};
use connectors_domain::{ClientState, DisconnectCode, Lifecycle};

use crate::authorize::{authorization, begun, callback, protected};
use crate::support::{ATTEMPT_LIFETIME, World, not_offered};

#[tokio::test(start_paused = true)]
async fn an_authorization_that_nobody_finishes_ends_by_itself() {
    let (world, waiting) = begun(authorization(true)).await;
    let keeper = Keeper::new(world.service.clone(), KeeperConfig { interval: Duration::from_secs(1) });
    let keeping = tokio::spawn(async move { keeper.run().await });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.stored(&waiting).await, waiting, "it is not over yet");

    world.clock.advance(ATTEMPT_LIFETIME);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let ended = world.stored(&waiting).await;
    assert_eq!(ended.disconnect_reason().unwrap().code(), DisconnectCode::AuthorizationExpired);
    assert_eq!(world.service.callback(callback("a")).await.unwrap(), CallbackOutcome::Unknown);
    let again = world.service.connect(world.owner, ended.id, ConnectRequest::default()).await.unwrap();
    assert_eq!(again.client_state(), ClientState::AuthRequired);
    keeping.abort();
}

#[tokio::test]
async fn an_authorization_server_that_does_not_answer_is_told_from_one_that_is_not_there() {
    let mut silent = not_offered();
    silent.checkpoint();
    silent.expect_prepare().returning(|_| Err(PrepareError::TimedOut));
    silent.expect_is_named_by().returning(|_| true);
    let world = World::authorized_by(protected(), silent);
    let connector = world.create().await;
    let outcome = world.service.connect(world.owner, connector.id, ConnectRequest::default()).await;
    assert!(
        matches!(&outcome, Err(Error::ConnectFailed(reason)) if reason.code() == DisconnectCode::AuthorizationServerTimeout),
        "{outcome:?}"
    );

    let mut silent = authorization(false);
    silent.expect_exchange().returning(|_| Err(ExchangeError::TimedOut));
    let (world, waiting) = begun(silent).await;
    assert!(matches!(
        world.service.callback(callback("a")).await.unwrap(),
        CallbackOutcome::Finished { failure: Some(reason), .. } if reason.code() == DisconnectCode::AuthorizationServerTimeout
    ));
    assert_eq!(world.stored(&waiting).await.lifecycle(), Lifecycle::Disconnected);
}
