//! The HTTP API: an inbound adapter on actix-web.
//!
//! It turns requests into calls of [`ConnectorService`] and answers into documents; it decides nothing about connectors.
//! Wire types live in [`wire`], one file for the paths of each kind lives in `routes`, and every error leaves as a
//! problem document (RFC 9457) by way of `problem`.
//!
//! [`ConnectorService`]: connectors_application::ConnectorService

mod caller;
mod config;
mod event_stream;
mod guard;
mod json;
mod metrics;
mod observe;
mod openapi;
mod problem;
mod routes;
mod server;
pub mod wire;

pub use config::ApiConfig;
pub use openapi::openapi_json;
pub use server::Server;
