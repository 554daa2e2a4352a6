//! What the service does: use cases, and the ports that they need.
//!
//! [`ConnectorService`] is the whole of it; each of its use cases has a file of its own, named after it. What lies
//! outside — storage, MCP servers, time, chance — is reached through the traits in [`ports`], which adapters implement.
//! Nothing here knows a web framework, a database or an HTTP client.

mod access;
mod administer;
mod api_tokens;
pub mod audit;
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
mod limits;
mod list;
mod pace;
pub mod ports;
mod presets;
mod read;
mod relay;
mod renew;
mod schedule;
mod service;
mod sessions;
mod start;
mod step_up;
mod streams;
mod targets;

pub use access::{Access, AccessConfig, Denied};
pub use api_tokens::{ApiTokenService, NewApiToken};
pub use callback::{CallbackOutcome, CallbackRequest};
pub use connect::ConnectRequest;
pub use create::CreateRequest;
pub use error::{Conflict, Error};
pub use issuers::IssuerLimits;
pub use keeper::{Keeper, KeeperConfig};
pub use limits::UserLimits;
pub use relay::RelayFailure;
pub use renew::{RenewalConfig, Unrenewed};
pub use service::{ConnectorService, Ports, ServiceConfig};
pub use start::{SetOut, StartPage};

/// `bytes` in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
