//! The paths of the service, and what every handler can reach.

pub(crate) mod admin;
pub(crate) mod callback;
pub(crate) mod client;
pub(crate) mod connectors;
mod console;
pub(crate) mod docs;
pub(crate) mod mcp;
pub(crate) mod metadata;
pub(crate) mod sign_in;
pub(crate) mod start;
pub(crate) mod system;

use std::sync::Arc;

use actix_web::web;
use bytes::Bytes;
use connectors_application::ports::{Login, Sealer};
use connectors_application::{Access, ConnectorService};
use tokio::sync::watch;

use crate::config::ApiConfig;
use crate::cookies::Cookies;
use crate::guard::Guard;
use crate::links::{LOGIN, LOGIN_CALLBACK, Links, METADATA};
use crate::metrics::Metrics;
use crate::observe::{RequestIds, no_such_path};

/// What every handler can reach.
pub(crate) struct Api {
    pub(crate) service: ConnectorService,
    pub(crate) access: Access,
    pub(crate) sealer: Arc<dyn Sealer>,
    /// Logs people in, where they have an identity provider.
    pub(crate) login: Option<Arc<dyn Login>>,
    pub(crate) links: Links,
    pub(crate) cookies: Cookies,
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
        .service(web::resource(METADATA).route(web::get().to(metadata::service)))
        .service(
            web::resource(format!("{METADATA}/api/v1/connectors/{{id}}/mcp")).route(web::get().to(metadata::connector)),
        )
        .service(web::resource(LOGIN).route(web::get().to(sign_in::login)))
        .service(web::resource(LOGIN_CALLBACK).route(web::get().to(sign_in::finish)))
        .service(
            web::resource("/auth/session")
                .route(web::get().to(sign_in::session))
                .route(web::post().to(sign_in::sign_in)),
        )
        .service(web::resource("/auth/logout").route(web::post().to(sign_in::sign_out)))
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
            web::resource("/api/v1/connectors/{id}/oauth/start")
                .route(web::get().to(start::show))
                .route(web::head().to(start::look))
                .route(web::post().to(start::set_out)),
        )
        .service(
            web::resource("/api/v1/connectors/{id}/mcp")
                .route(web::post().to(mcp::relay))
                .route(web::get().to(mcp::relay))
                .route(web::delete().to(mcp::relay)),
        )
        .service(web::resource("/api/v1/admin/connectors").route(web::get().to(admin::list)))
        .service(
            web::resource("/api/v1/admin/connectors/{id}")
                .route(web::get().to(admin::read))
                .route(web::delete().to(admin::delete)),
        )
        .service(web::resource("/api/v1/admin/connectors/{id}/disconnect").route(web::post().to(admin::disconnect)))
        .default_service(web::to(no_such_path));
}
