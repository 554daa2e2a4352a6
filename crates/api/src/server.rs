//! The HTTP server: it listens, serves, and stops within its time.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_cors::Cors;
use actix_http::{HttpService, Protocol};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Server as ActixServer, ServerHandle};
use actix_web::http::header::HeaderName;
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, web};
use bytes::Bytes;
use connectors_application::ports::{Login, Sealer};
use connectors_application::{Access, ConnectorService};
use tokio::net::TcpStream;
use tokio::sync::watch;
use utoipa::OpenApi as _;

use crate::config::ApiConfig;
use crate::connection::Connection;
use crate::cookies::Cookies;
use crate::guard::{Guard, enforce, serialized_origin};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::observe::{RequestIds, observe};
use crate::openapi::{Document, openapi_json};
use crate::routes::{Api, docs, guarded, unguarded};

/// How long a client that has got its answer may go on sending what nobody reads, so that it sees the answer.
const LINGER: Duration = Duration::from_secs(1);

/// What the HTTP API calls.
pub struct Inbound {
    /// The use cases.
    pub service: ConnectorService,
    /// Knows callers.
    pub access: Access,
    /// Seals what browsers hold.
    pub sealer: Arc<dyn Sealer>,
    /// Logs people in with a browser; `None` where they have no identity provider.
    pub login: Option<Arc<dyn Login>>,
}

/// A server that listens. It serves while [`Server::run`] is awaited.
pub struct Server {
    address: SocketAddr,
    running: ActixServer,
    handle: ServerHandle,
    stopping: watch::Sender<bool>,
}

impl Server {
    /// Begins to listen on `listener` for `inbound`. Must be called on a multi-thread tokio runtime.
    pub fn new(listener: TcpListener, inbound: Inbound, config: ApiConfig) -> io::Result<Self> {
        let Inbound { service, access, sealer, login } = inbound;
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
            links: Links::new(&config.public_url),
            cookies: Cookies::new(&config.public_url),
            service,
            access,
            sealer,
            login,
            config,
        });
        let app = move || {
            App::new()
                .app_data(api.clone())
                .configure(unguarded)
                .service(web::scope("").wrap(from_fn(enforce)).configure(guarded))
                .wrap(from_fn(observe))
                .wrap(Condition::new(!cors.is_empty(), cross_origin(&cors)))
        };
        // Put together by hand, since `HttpServer` lets nobody stand between it and the socket.
        let builder = ActixServer::build()
            .workers(workers)
            .max_concurrent_connections(connections)
            .shutdown_timeout(shutdown_timeout.as_secs())
            .disable_signals();
        let draining = builder.graceful_shutdown_signal();
        let accept = move || {
            let draining = draining.clone();
            let http = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let draining = draining.clone();
                    async move { draining.notified().await }
                })
                .client_request_timeout(head_timeout)
                .client_disconnect_timeout(LINGER)
                // A client that closes its side has gone: its upstream request must not live on.
                .h1_allow_half_closed(false)
                .local_addr(address)
                .on_connect_ext(|connection: &Connection, data| {
                    data.insert(connection.turns());
                });
            let app = app().into_factory().map_err(|error: actix_web::Error| error.error_response());
            fn_service(move |stream: TcpStream| async move {
                // Answers leave in two writes, head and body: without this the second waits for the first one's
                // acknowledgement. A connection for which it cannot be set is gone, which reading will tell.
                let _ = stream.set_nodelay(true);
                let peer = stream.peer_addr().ok();
                Ok((Connection::new(stream, head_timeout), Protocol::Http1, peer))
            })
            .and_then(http.finish(map_config(app, |()| AppConfig::default())))
        };
        let running = builder.listen("api", listener, accept)?.run();
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
    let expose = ["mcp-session-id", "mcp-protocol-version", "retry-after", "www-authenticate"];
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
