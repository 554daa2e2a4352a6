//! The OAuth client against servers on real sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests are tests, too")]

mod assertion;
mod authorize;
mod discovery;
mod exchange;
mod hostile;
mod leak;
mod quirks;
mod refresh;
mod refused;
mod registration;
mod revoke;
mod spellings;
mod step_up;
mod strict;
mod support;
