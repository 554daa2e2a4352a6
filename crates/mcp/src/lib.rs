//! Probe and relay towards MCP servers: an outbound adapter.
//!
//! [`McpClient`] is the port `McpServer` over the guarded way out:
//!
//! - **probe** finds out what a server speaks, in a conversation of its own that ends before the probe does;
//! - **relay** passes one request on and hands the answer back as it comes. It is the hot path: it parses nothing, keeps
//!   nothing and copies no body.
//!
//! What a server sends is hostile until shown otherwise. Only a status, listed headers and a body of one of MCP's two
//! content types come back; nothing that a server wrote stands in an error.
//!
//! What this crate deliberately is not: it follows no redirect, sends nothing twice, refreshes no token, translates between
//! no two eras of MCP, and does not speak HTTP+SSE of 2024-11-05. Which addresses may be called is for `connectors-egress`.

mod client;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod head;
mod probe;
mod relay;
mod stream;

pub use client::{McpClient, McpConfig};
