//! The paths of the service, and what every handler can reach.

pub(crate) mod callback;
pub(crate) mod client;
pub(crate) mod connectors;
mod console;
pub(crate) mod docs;
pub(crate) mod mcp;
pub(crate) mod system;

use actix_web::web;
use bytes::Bytes;
use connectors_application::ConnectorService;
use tokio::sync::watch;

use crate::config::ApiConfig;
use crate::guard::Guard;
use crate::metrics::Metrics;
use crate::observe::{RequestIds, no_such_path};

/// What every handler can reach.
pub(crate) struct Api {
    pub(crate) service: ConnectorService,
    pub(crate) config: ApiConfig,
    pub(crate) guard: Guard,
    pub(crate) metrics: Metrics,
    pub(crate) request_ids: RequestIds,
    /// Becomes true when the service stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// The OpenAPI document and the page that shows it, made once.
    pub(crate) openapi: Bytes,
    pub(crate) docs: Bytes,
}

/// The paths without the checks of host and origin: those who watch over the service know it by address.
pub(crate) fn unguarded(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/healthz").route(web::get().to(system::healthz)))
        .service(web::resource("/readyz").route(web::get().to(system::readyz)))
        .service(web::resource("/metrics").route(web::get().to(system::metrics)));
}

/// All other paths. The fixed ones come before `{id}`, which would take them.
pub(crate) fn guarded(config: &mut web::ServiceConfig) {
    config
        .service(web::resource("/").route(web::get().to(console::page)))
        .service(web::resource("/console.css").route(web::get().to(console::style)))
        .service(web::resource("/console.js").route(web::get().to(console::script)))
        .service(web::resource("/oauth/client.json").route(web::get().to(client::document)))
        .service(web::resource("/docs").route(web::get().to(docs::page)))
        .service(web::resource("/openapi.json").route(web::get().to(docs::document)))
        .service(
            web::resource("/api/v1/connectors")
                .route(web::get().to(connectors::list))
                .route(web::post().to(connectors::create)),
        )
        .service(web::resource("/api/v1/connectors/presets").route(web::get().to(connectors::presets)))
        .service(
            web::resource(["/api/v1/connectors/oauth/callback", "/api/v1/connectors/oauth/callback/{issuer_key}"])
                .route(web::get().to(callback::finish))
                .route(web::head().to(callback::look)),
        )
        .service(
            web::resource("/api/v1/connectors/{id}")
                .route(web::get().to(connectors::read))
                .route(web::delete().to(connectors::delete)),
        )
        .service(web::resource("/api/v1/connectors/{id}/connect").route(web::post().to(connectors::connect)))
        .service(web::resource("/api/v1/connectors/{id}/disconnect").route(web::post().to(connectors::disconnect)))
        .service(
            web::resource("/api/v1/connectors/{id}/mcp")
                .route(web::post().to(mcp::relay))
                .route(web::get().to(mcp::relay))
                .route(web::delete().to(mcp::relay)),
        )
        .default_service(web::to(no_such_path));
}
