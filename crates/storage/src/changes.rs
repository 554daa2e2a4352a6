//! The port of changes: what PostgreSQL tells every replica of connectors that were made, changed or removed.
//!
//! A trigger tells it in the transaction of the change, so a change costs no more calls, and one that is rolled back is
//! not told. Here one connection listens, for all who follow. It is made when somebody follows first.

use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use connectors_application::ports::{ChangeStream, Changes, Noted};
use connectors_domain::ConnectorId;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::sync::broadcast::{Receiver, Sender, error::RecvError};
use tokio::task::AbortHandle;
use tokio_postgres::{AsyncMessage, Client, Error};
use uuid::Uuid;

use crate::Store;
use crate::postgres::Connector;
use crate::tls::chain;

/// How many changes wait for a follower that is slow. One that has missed some is told so.
const WAITING: usize = 1024;

/// How long the first and the longest pause before the next connection is.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// How often the server is asked whether it is still there: one that vanished without a word would be waited for as long
/// as the system keeps the connection.
const PULSE: Duration = Duration::from_secs(15);

/// How long it takes at the most to connect, and to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Listens on the channel of the table that the schema path leads to.
const LISTEN: &str = "DO $$ BEGIN EXECUTE 'LISTEN connectors_' || 'connectors'::regclass::oid; END $$";

/// Tells all who follow what the server tells. It ends when it is dropped.
pub(crate) struct Listener {
    /// How to reach PostgreSQL; `None` for SQLite, which no other process uses.
    connector: Option<Connector>,
    runtime: Handle,
    changes: Sender<Noted>,
    task: OnceLock<AbortHandle>,
}

impl Listener {
    pub(crate) fn new(connector: Option<Connector>, runtime: Handle) -> Self {
        Self { connector, runtime, changes: Sender::new(WAITING), task: OnceLock::new() }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Changes for Store {
    fn follow(&self) -> ChangeStream {
        let listener = &self.listener;
        let Some(connector) = &listener.connector else { return Box::pin(stream::pending()) };
        // Before the connection is made: it tells that anything may have happened until then.
        let changes = listener.changes.subscribe();
        listener
            .task
            .get_or_init(|| listener.runtime.spawn(listen(connector.clone(), listener.changes.clone())).abort_handle());
        Box::pin(stream::unfold(changes, next))
    }
}

/// The next change for one who follows. When the store is gone, none comes any more.
async fn next(mut changes: Receiver<Noted>) -> Option<(Noted, Receiver<Noted>)> {
    let noted = match changes.recv().await {
        Ok(noted) => noted,
        Err(RecvError::Lagged(_)) => {
            // What still waits is a part of everything.
            changes = changes.resubscribe();
            Noted::Everything
        }
        Err(RecvError::Closed) => std::future::pending().await,
    };
    Some((noted, changes))
}

async fn listen(connector: Connector, changes: Sender<Noted>) {
    let (shortest, longest) = PAUSES;
    let mut pause = shortest;
    loop {
        let (ended, heard) = session(&connector, &changes).await;
        if heard {
            pause = shortest;
        }
        tracing::warn!(
            error = chain(&ended),
            "changes that other replicas make are not heard of until PostgreSQL is reached again"
        );
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

/// Why a session has ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the connection failed")]
    Failed(#[from] Error),
    #[error("the server does not answer")]
    Silent(#[from] tokio::time::error::Elapsed),
    #[error("the server has closed the connection")]
    Closed,
}

/// Listens on one connection until it ends; says also whether it ever listened.
async fn session(connector: &Connector, changes: &Sender<Noted>) -> (Ended, bool) {
    let dialled = tokio::time::timeout(PATIENCE, connector.dial()).await;
    let (client, messages) = match dialled {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return (error.into(), false),
        Err(elapsed) => return (elapsed.into(), false),
    };
    let mut heard = false;
    let ended = tokio::select! {
        ended = pulse(&client, changes, &mut heard) => ended,
        ended = forward(messages, changes) => ended,
    };
    (ended, heard)
}

/// Begins to listen, and asks again and again whether the server is there.
async fn pulse(client: &Client, changes: &Sender<Noted>, heard: &mut bool) -> Ended {
    let mut question = LISTEN;
    loop {
        match tokio::time::timeout(PATIENCE, client.batch_execute(question)).await {
            Err(elapsed) => return elapsed.into(),
            Ok(Err(error)) => return error.into(),
            Ok(Ok(())) => {}
        }
        if !*heard {
            *heard = true;
            tracing::debug!("listening for changes that other replicas make");
            tell(changes, Noted::Everything);
        }
        question = "SELECT 1";
        tokio::time::sleep(PULSE).await;
    }
}

/// Passes on what the server sends.
async fn forward(messages: impl Stream<Item = Result<AsyncMessage, Error>>, changes: &Sender<Noted>) -> Ended {
    let mut messages = pin!(messages);
    while let Some(message) = messages.next().await {
        match message {
            Ok(AsyncMessage::Notification(told)) => {
                let id = Uuid::parse_str(told.payload()).map(ConnectorId::from_uuid);
                tell(changes, id.map_or(Noted::Everything, Noted::Connector));
            }
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
    Ended::Closed
}

/// Tells those who follow, if there are any.
fn tell(changes: &Sender<Noted>, noted: Noted) {
    let _ = changes.send(noted);
}
