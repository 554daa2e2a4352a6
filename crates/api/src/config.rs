//! The settings of the HTTP API.

use std::time::Duration;

use url::Url;

/// The settings of the HTTP API. All limits are enforced here, none is a hint.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Where browsers reach this service. URLs that the service hands out are built from this alone, never from a
    /// request's headers.
    pub public_url: Url,
    /// Names, beside that of `public_url` and loopback, that a request's `Host` may have; without port.
    pub allowed_hosts: Vec<String>,
    /// Origins, beside the service's own, from which a browser may call: `scheme://host[:port]`. They get CORS answers.
    pub allowed_origins: Vec<String>,
    /// Whether `Host` may be `localhost`, `127.0.0.1` or `[::1]`: when the service listens on loopback.
    pub allow_loopback_hosts: bool,
    /// The issuers of the tokens that callers present, as the protected resource metadata name them (RFC 9728, section 2);
    /// none where the operator makes the tokens.
    pub authorization_servers: Vec<String>,
    /// How long a person who has signed in to the console stays so.
    pub session_lifetime: Duration,
    /// The largest body of an API call, in bytes.
    pub api_body_limit: usize,
    /// The largest body that is relayed to an MCP server, in bytes.
    pub relay_body_limit: usize,
    /// How long a client may take to send a body.
    pub body_timeout: Duration,
    /// How long a client may take to send the head of a request.
    pub head_timeout: Duration,
    /// After how much silence a comment is written into a stream of events.
    pub event_keep_alive: Duration,
    /// How many threads serve requests.
    pub workers: usize,
    /// How many connections each of them holds at the most.
    pub max_connections_per_worker: usize,
    /// How long requests under way may take to end once the service stops, in whole seconds.
    pub shutdown_timeout: Duration,
    /// The client ID metadata document, as JSON, if the service publishes one.
    pub client_metadata: Option<String>,
    /// Tells this process from others in request ids.
    pub instance: [u8; 4],
}
