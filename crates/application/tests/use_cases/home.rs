//! Work that was begun on a thread of the HTTP server, which ends before the service does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use connectors_application::ports::{
    AddressRefused, McpServer, ProbeError, RelayError, RelayMethod, RelayRequest, RelayResponse, RequestHeaders,
};
use connectors_application::{ConnectRequest, RelayFailure};
use connectors_domain::{AccessToken, Lifecycle, ServerFacts, ServerUrl};
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;

use crate::support::{World, facts};

/// A server whose probe takes until somebody lets it go on.
#[derive(Default)]
struct Waiting {
    called_on: Mutex<Option<Id>>,
    begun: Notify,
    go_on: Notify,
}

#[async_trait]
impl McpServer for Waiting {
    fn admit(&self, _: &ServerUrl) -> Result<(), AddressRefused> {
        Ok(())
    }

    async fn probe(&self, _: ServerUrl, _: Option<AccessToken>) -> Result<ServerFacts, ProbeError> {
        self.begun.notify_one();
        self.go_on.notified().await;
        Ok(facts())
    }

    async fn tools_challenge(&self, _: ServerUrl, _: ServerFacts) -> Option<Vec<String>> {
        None
    }

    async fn relay(&self, _: RelayRequest) -> Result<RelayResponse, RelayError> {
        *self.called_on.lock().unwrap() = Some(Handle::current().id());
        Err(RelayError::TimedOut)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_outlives_the_thread_on_which_it_was_asked_for() {
    let server = Arc::new(Waiting::default());
    let world = World::with(Arc::clone(&server) as Arc<dyn McpServer>);
    let connector = world.create().await;
    let (service, owner, id) = (world.service.clone(), world.owner, connector.id);
    let watched = Arc::clone(&server);
    on_a_thread_of_its_own(async move {
        tokio::spawn(async move { service.connect(owner, id, ConnectRequest::default()).await });
        watched.begun.notified().await;
    });
    server.go_on.notify_one();
    let connected = async {
        while world.stored(&connector).await.lifecycle() != Lifecycle::Connected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), connected).await.expect("it is carried to its end");

    // And what a call begins, such as a connection that serves later ones, does as well.
    let service = world.service.clone();
    on_a_thread_of_its_own(async move {
        let (headers, body) = (RequestHeaders::default(), Bytes::from_static(b"{}"));
        let outcome = service.relay(owner, id, RelayMethod::Post, headers, body).await;
        assert!(matches!(outcome, Err(RelayFailure::Server(RelayError::TimedOut))), "{outcome:?}");
    });
    assert_eq!(*server.called_on.lock().unwrap(), Some(Handle::current().id()));
}

/// Waits until `work` is done on another runtime, which then ends.
fn on_a_thread_of_its_own(work: impl Future<Output = ()> + Send + 'static) {
    let worker = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    });
    worker.join().unwrap();
}
