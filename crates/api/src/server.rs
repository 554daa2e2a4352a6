//! The HTTP server: it listens, serves, and stops within its time.

use std::io;
use std::net::{SocketAddr, TcpListener};

use actix_cors::Cors;
use actix_web::dev::{Server as ActixServer, ServerHandle};
use actix_web::http::header::HeaderName;
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, HttpServer, web};
use bytes::Bytes;
use connectors_application::ConnectorService;
use tokio::sync::watch;
use utoipa::OpenApi as _;

use crate::config::ApiConfig;
use crate::guard::{Guard, enforce, serialized_origin};
use crate::metrics::Metrics;
use crate::observe::{RequestIds, observe};
use crate::openapi::{Document, openapi_json};
use crate::routes::{Api, docs, guarded, unguarded};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// A server that listens. It serves while [`Server::run`] is awaited.
pub struct Server {
    address: SocketAddr,
    running: ActixServer,
    handle: ServerHandle,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// Begins to listen on `listener` for `service`. Must be called on a multi-thread tokio runtime.
    pub fn new(listener: TcpListener, service: ConnectorService, config: ApiConfig) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stopping, stopped) = watch::channel(false);
        let cors = config.allowed_origins.clone();
        let (workers, connections) = (config.workers, config.max_connections_per_worker);
        let (head_timeout, shutdown_timeout) = (config.head_timeout, config.shutdown_timeout);
        let api = web::Data::new(Api {
            guard: Guard::new(&config),
            metrics: Metrics::new(),
            request_ids: RequestIds::new(config.instance),
            stopping: stopped,
            openapi: Bytes::from(openapi_json()?),
            docs: docs::render(&Document::openapi()).map_err(io::Error::other)?,
            service,
            config,
        });
        let running = HttpServer::new(move || {
            App::new()
                .app_data(api.clone())
                .configure(unguarded)
                .service(web::scope("").wrap(from_fn(enforce)).configure(guarded))
                .wrap(from_fn(observe))
                .wrap(Condition::new(!cors.is_empty(), cross_origin(&cors)))
        })
        .workers(workers)
        .max_connections(connections)
        .backlog(BACKLOG)
        .client_request_timeout(head_timeout)
        .shutdown_timeout(shutdown_timeout.as_secs())
        .disable_signals()
        // Answers leave in two writes, head and body: without this the second waits for the first one's
        // acknowledgement.
        .tcp_nodelay(true)
        // A client that closes its side has gone: its upstream request must not live on.
        .h1_allow_half_closed(false)
        .listen(listener)?
        .run();
        let handle = running.handle();
        Ok(Self { address, running, handle, stopping })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` resolves, then stops: it reports itself not ready, ends streams of events, lets other
    /// requests end within [`ApiConfig::shutdown_timeout`], and cuts off what is left.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let mut server = std::pin::pin!(self.running);
        tokio::select! {
            ended = &mut server => return ended,
            () = shutdown => {}
        }
        self.stopping.send_replace(true);
        let stop = self.handle.stop(true);
        let (ended, ()) = tokio::join!(server, stop);
        ended
    }
}

/// CORS answers for the origins that the operator lists.
fn cross_origin(origins: &[String]) -> Cors {
    let expose = ["mcp-session-id", "mcp-protocol-version", "retry-after"];
    let cors = Cors::default()
        .allowed_methods(["GET", "POST", "DELETE"])
        .allow_any_header()
        .expose_headers(expose.map(HeaderName::from_static))
        .max_age(600);
    origins
        .iter()
        .filter_map(|origin| serialized_origin(origin))
        .fold(cors, |cors, origin| cors.allowed_origin(&origin))
}
