//! The API over real HTTP, on a store in memory and scripted ports.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

mod access;
mod admin;
mod connectors;
mod http;
mod leak;
mod metadata;
mod sign_in;
mod start;
mod support;
