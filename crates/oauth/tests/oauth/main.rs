//! The OAuth client against servers on real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests, too")]

mod authorize;
mod discovery;
mod exchange;
mod hostile;
mod registration;
mod strict;
mod support;
