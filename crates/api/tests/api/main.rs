//! The API over real HTTP, on a store in memory and a scripted MCP port.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

mod connectors;
mod http;
mod support;
