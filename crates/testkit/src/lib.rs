//! Memory store, contract suites of the ports, fault decorators, clocks, a scriptable MCP server, a strict authorization
//! server, an OpenID provider and a table of URLs that must not be called, for tests.

pub mod arbitrary;
pub mod authorization_server;
mod clock;
pub mod contract;
mod entropy;
pub mod faults;
pub mod http;
pub mod identity_provider;
pub mod mcp_server;
mod sealer;
pub mod spellings;
mod store;
mod wire;

pub use clock::{ManualClock, SystemClock};
pub use entropy::SeededEntropy;
pub use sealer::MemorySealer;
pub use store::MemoryStore;
