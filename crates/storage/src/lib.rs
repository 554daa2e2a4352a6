//! Connectors in SQLite or PostgreSQL, secrets sealed: an outbound adapter on diesel-async.
//!
//! [`Store`] implements the ports [`Connectors`], [`Renewals`], [`Agenda`], [`Revocations`], [`Changes`],
//! [`Registrations`], [`ApiTokens`] and [`Sealer`]. Both databases are served by the same queries over the same schema;
//! what differs between them is in `sqlite.rs` and `postgres.rs`. Secrets are sealed when a row is made of a connector
//! and opened when a connector is made of a row (`row.rs`), so nothing between there and the disk ever holds one.
//!
//! What is deliberately absent: transactions that span calls, a unit of work, and queries that other crates could pass
//! in.
//!
//! [`Agenda`]: connectors_application::ports::Agenda
//! [`ApiTokens`]: connectors_application::ports::ApiTokens
//! [`Changes`]: connectors_application::ports::Changes
//! [`Connectors`]: connectors_application::ports::Connectors
//! [`Registrations`]: connectors_application::ports::Registrations
//! [`Renewals`]: connectors_application::ports::Renewals
//! [`Revocations`]: connectors_application::ports::Revocations
//! [`Sealer`]: connectors_application::ports::Sealer

mod agenda;
mod api_tokens;
mod canary;
mod changes;
mod connectors;
mod document;
mod due;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod key_file;
mod keys;
mod migrations;
mod pool;
mod postgres;
#[cfg(test)]
mod query_plans;
mod registrations;
mod renewals;
mod reseal;
mod revocations;
mod row;
mod schema;
mod seal;
mod sealer;
mod settings;
mod sqlite;
mod store;
mod time;
mod tls;
mod told;

pub use error::OpenError;
pub use keys::{KeyError, KeyRing};
pub use reseal::{KeyInUse, ResealFrom, Resealed};
pub use settings::{DatabaseUrl, DatabaseUrlError, Limits, Migrations, StoreSettings};
pub use store::{Checked, Store};
