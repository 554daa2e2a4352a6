//! The program between clients and servers, all of them real.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

mod authorization;
mod codes;
mod goodbye;
mod keys;
mod leak;
mod postgres;
mod relay;
mod renewal;
mod replicas;
mod shutdown;
mod spellings;
mod step_up;
mod support;
mod tls;
mod users;
