//! The program between clients and servers, all of them real.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

mod authorization;
mod relay;
mod support;
