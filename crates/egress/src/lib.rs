//! The only door out: the guarded HTTP client.
//!
//! Users name servers, servers name authorization servers, and those name endpoints. Each of these addresses may point
//! at the inside of the network in which the service runs: at a metadata service, at a database, at the service itself.
//! So every request to an address that somebody named leaves through [`Egress`], and nothing else in the workspace may
//! build an HTTP client.
//!
//! What is guaranteed:
//!
//! - **The decision is made on the address that is dialled.** An IP literal is judged as it stands in the URL, whatever
//!   its spelling; a name is looked up once for each connection, *every* address of the answer is judged, one bad
//!   address refuses the answer, and only judged addresses are dialled. There is no second look-up, hence nothing to
//!   rebind.
//! - **The decision is made at every dial**, on the policy that is in force then. That a URL was accepted earlier
//!   counts for nothing. A connection is reused only for the same scheme, host and port, only within one `Egress`, and
//!   thus only where the policy that it was opened under is the policy in force. HTTP/2 connections are never shared
//!   between hosts.
//! - **Default deny.** Only public unicast addresses over `https` are reachable unless the operator says otherwise.
//! - Redirects are returned, not followed. Proxy variables of the environment are not read. Bodies are not
//!   decompressed. There are no cookies and no referrer. TLS is 1.2 or 1.3 and cannot be switched to unverified.
//!
//! What this crate deliberately is not: it does not choose headers (an allow-list of what may be relayed is the relay's
//! business), does not retry beyond what HTTP calls never processed, does not read settings, and does not limit how
//! much a user may send.

mod address;
mod allow;
mod client;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod limits;
mod own;
mod policy;
mod resolver;
#[cfg(test)]
mod tests;

pub use address::is_public;
pub use allow::{AllowRule, AllowRuleError};
pub use client::{BuildError, Egress};
pub use error::{EgressError, Phase, Refusal};
pub use limits::{FetchLimits, Limits};
pub use own::OwnEndpoint;
pub use policy::Policy;
pub use reqwest::{Body, Request, Response};
