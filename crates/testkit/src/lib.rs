//! Memory store, contract suites of the ports, fault decorators, clocks, a scriptable MCP server and a strict
//! authorization server, for tests.

pub mod arbitrary;
pub mod authorization_server;
mod clock;
pub mod contract;
mod entropy;
pub mod faults;
pub mod http;
pub mod mcp_server;
mod store;
mod wire;

pub use clock::{ManualClock, SystemClock};
pub use entropy::SeededEntropy;
pub use store::MemoryStore;
