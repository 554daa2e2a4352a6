//! The store on real databases: SQLite in a directory of its own for each test, PostgreSQL in a schema of its own.
//!
//! PostgreSQL is the server that the variable `CONNECTORS_TEST_POSTGRES` names, by a URL whose user may create schemas.
//! Without it those tests are skipped, loudly, unless `CONNECTORS_REQUIRE_POSTGRES=1`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests are tests, which clippy does not know of integration tests"
)]

mod api_tokens;
mod background;
mod changes;
mod check;
mod common;
mod contention;
mod contract;
mod crash;
mod damage;
mod files;
mod keys;
mod migrations;
mod outages;
mod registrations;
mod reseal;
mod sealer;
mod sealing;
mod tls;
mod upgrade;
