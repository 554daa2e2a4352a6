//! The composition root: settings, telemetry, wiring, and the connectors binary.
//!
//! Here, and nowhere else, adapters meet the use cases. Nothing here decides about connectors, speaks HTTP or knows a
//! table: this crate reads what the operator wants, builds the parts, and runs them until it is told to stop.

pub mod application;
pub mod cli;
mod codes;
mod healthcheck;
mod platform;
pub mod settings;
mod signals;
mod telemetry;
mod tokens;
mod wiring;

pub use application::{Application, StartError};
pub use platform::{SystemClock, SystemEntropy};
