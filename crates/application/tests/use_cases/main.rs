//! The use cases over a store in memory and mocks at the network.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

mod authorize;
mod codes;
mod connect;
mod home;
mod relay;
mod renew;
mod support;
