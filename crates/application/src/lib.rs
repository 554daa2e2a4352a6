//! What the service does: use cases, and the ports that they need.
//!
//! [`ConnectorService`] is the whole of it; each of its use cases has a file of its own, named after it. What lies
//! outside — storage, MCP servers, time, chance — is reached through the traits in [`ports`], which adapters implement.
//! Nothing here knows a web framework, a database or an HTTP client.

mod authorize;
mod callback;
mod connect;
mod create;
mod delete;
mod disconnect;
mod error;
mod follow;
mod home;
mod issuers;
mod keeper;
mod list;
pub mod ports;
mod presets;
mod read;
mod relay;
mod renew;
mod schedule;
mod service;
mod step_up;
mod streams;
mod targets;

pub use callback::{CallbackOutcome, CallbackRequest};
pub use connect::ConnectRequest;
pub use create::CreateRequest;
pub use error::{Conflict, Error};
pub use issuers::IssuerLimits;
pub use keeper::{Keeper, KeeperConfig};
pub use relay::RelayFailure;
pub use renew::{RenewalConfig, Unrenewed};
pub use service::{ConnectorService, Ports, ServiceConfig};
