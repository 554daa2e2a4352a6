//! The use cases over a store in memory and mocks at the network.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

mod access;
mod authorize;
mod codes;
mod connect;
mod home;
mod limits;
mod relay;
mod renew;
mod sessions;
mod start;
mod support;
