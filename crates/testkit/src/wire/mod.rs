//! What the servers of this crate have in common: HTTP/1.1 on sockets, a record of what came, and scripts that make it go
//! wrong. Knows nothing of what is served; that is a [`Service`].

pub(crate) mod behaviour;
mod connection;
pub(crate) mod gauge;
mod http;
pub(crate) mod hub;
mod play;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod script;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use self::{
    gauge::{Gauge, NotReached},
    hub::Hub,
    reply::Reply,
    request::Request,
    script::{Rules, Script},
};

/// How long to wait before accepting again when the process is out of sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// What is served.
pub(crate) trait Service: Send + Sync + 'static {
    /// The answer of a server that behaves, with all effects. `json` is the body, where it is JSON.
    fn answer(&self, request: &Request, json: Option<&Value>) -> Answer;
}

/// What a request gets.
pub(crate) enum Answer {
    Now(Box<Reply>),
    /// When it is sent; the connection closes when it never will be.
    Later(oneshot::Receiver<Reply>),
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Now(Box::new(reply))
    }
}

/// A listening server; stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) core: Arc<Core>,
    pub(crate) address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// What every connection needs besides the service.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) rules: Rules,
    pub(crate) hub: Arc<Hub>,
    pub(crate) arrived: Gauge,
    pub(crate) connections: Gauge,
    pub(crate) streams: Gauge,
    recording: bool,
    requests: Mutex<Vec<Request>>,
    /// Its next value ends every connection.
    hang_up: tokio::sync::watch::Sender<()>,
}

impl Server {
    /// Serves what comes to the listener.
    pub(crate) fn start(
        listener: TcpListener,
        recording: bool,
        script: Script,
        hub: Arc<Hub>,
        service: Arc<impl Service>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let core = Arc::new(Core {
            rules: Rules::default(),
            hub,
            arrived: Gauge::new("requests"),
            connections: Gauge::new("connections"),
            streams: Gauge::new("open streams"),
            recording,
            requests: Mutex::default(),
            hang_up: tokio::sync::watch::Sender::new(()),
        });
        core.rules.replace(script);
        let accepting = tokio::spawn(accept(listener, Arc::clone(&core), service));
        Ok(Self { core, address, accepting })
    }

    /// Stops, and waits until the port is free.
    pub(crate) async fn stop(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
        let _ = self.core.connections.wait(0, |open| open == 0, Duration::from_secs(5)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Owns the connections: they end when this task does.
async fn accept(listener: TcpListener, core: Arc<Core>, service: Arc<impl Service>) {
    let mut connections = JoinSet::new();
    let mut number = 0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (core, service) = (Arc::clone(&core), Arc::clone(&service));
        connections.spawn(async move {
            let _open = core.connections.enter();
            let mut hang_up = core.hang_up.subscribe();
            // An error here is a client that went away, which is its right.
            tokio::select! {
                _ = connection::serve(stream, number, &core, &*service) => {}
                _ = hang_up.changed() => {}
            }
        });
        number += 1;
    }
}

impl Core {
    pub(crate) fn close_connections(&self) {
        self.hang_up.send_replace(());
    }

    pub(crate) fn clear_requests(&self) {
        let mut requests = self.lock_requests();
        requests.clear();
        self.arrived.set(0);
    }

    pub(crate) async fn wait_until_requests(&self, wanted: usize, limit: Duration) -> Result<Duration, NotReached> {
        self.arrived.wait(wanted, |came| came >= wanted, limit).await
    }

    pub(crate) fn lock_requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, request: Request) {
        let mut requests = self.lock_requests();
        if self.recording {
            requests.push(request);
        }
        self.arrived.add();
    }
}
