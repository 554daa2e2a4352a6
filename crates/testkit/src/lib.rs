//! Memory store, contract suites of the ports, fault decorators, clocks and a scriptable MCP server, for tests.

pub mod arbitrary;
mod clock;
pub mod contract;
mod entropy;
pub mod faults;
pub mod http;
pub mod mcp_server;
mod store;

pub use clock::ManualClock;
pub use entropy::SeededEntropy;
pub use store::MemoryStore;
