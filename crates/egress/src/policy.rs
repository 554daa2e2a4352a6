//! What the operator has decided about the way out.
//!
//! Plain data, built from settings and handed to [`Egress::new`](crate::Egress::new). Nothing that a user or a server
//! sends ever changes it.

use crate::allow::AllowRule;
use crate::own::OwnEndpoint;

/// Which destinations are permitted beyond public addresses over `https`.
///
/// The default permits nothing beyond.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The hosts, addresses and ranges that may be called although they are not public, or over plain `http`.
    pub allow: Vec<AllowRule>,
    /// Whether this machine may be called, over `http` too: `127.0.0.0/8`, `::1`, and `localhost` by name. Meant for a
    /// service that itself listens on loopback only and asks nobody for credentials, where there is nothing to gain.
    pub loopback: bool,
    /// Whether an allow rule may open link-local addresses and the metadata services of clouds, which hand out the
    /// credentials of the machine. This alone opens nothing: an allow rule has to name the address or the host as well.
    pub link_local: bool,
    /// The service's own endpoints, refused whatever else is permitted.
    pub own: Vec<OwnEndpoint>,
}
