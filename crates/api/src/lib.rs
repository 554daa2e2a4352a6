//! The HTTP API: an inbound adapter on actix-web.
//!
//! It turns requests into calls of [`ConnectorService`] and answers into documents; it decides nothing about connectors.
//! Who calls, and whether they may, is settled in `caller` before a handler runs. Wire types live in [`wire`], one file for the paths of each kind lives in `routes`, and every error leaves as a
//! problem document (RFC 9457) by way of `problem`.
//!
//! [`ConnectorService`]: connectors_application::ConnectorService

mod caller;
mod challenge;
mod config;
mod connection;
mod cookies;
mod credential;
mod event_stream;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod json;
mod links;
mod metrics;
mod observe;
mod openapi;
mod page;
mod problem;
mod routes;
mod server;
mod session;
pub mod wire;

pub use config::ApiConfig;
pub use openapi::openapi_json;
pub use server::{Inbound, Server};
