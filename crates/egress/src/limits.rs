//! The limits of the way out.
//!
//! What a stream may carry and how long it may pause is for the reader of the stream to limit; here are the limits of
//! what happens before it is read, and of documents read whole.

use std::time::Duration;

/// Limits of every request.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Name look-up, TCP and TLS together.
    pub connect: Duration,
    /// From the call to the head of the response, connecting included.
    pub head: Duration,
    /// Size of a response's header fields in bytes, counted as HTTP/2 does: name, value and 32 for each. Beside this,
    /// HTTP/1 takes at most 100 fields, and reads at most 400 KiB before it knows where the head ends.
    pub header_bytes: u32,
    /// Name look-ups under way at once. Each occupies a thread until the resolver of the operating system gives up,
    /// however early its caller does; those threads are shared with the rest of the process, and a server decides how
    /// slow its name is to look up.
    pub lookups: usize,
    /// Unused connections kept for each scheme, host and port.
    pub idle_connections: usize,
    /// How long an unused connection is kept.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_mins(1),
            header_bytes: 32 * 1024,
            lookups: 128,
            idle_connections: 64,
            idle: Duration::from_secs(30),
        }
    }
}

/// Limits of a document that is read whole, see [`Egress::fetch`](crate::Egress::fetch).
#[derive(Clone, Copy, Debug)]
pub struct FetchLimits {
    /// Size of the body in bytes, as received.
    pub bytes: usize,
    /// From the call to the last byte of the body.
    pub time: Duration,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, time: Duration::from_secs(10) }
    }
}
