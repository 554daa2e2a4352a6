//! The chores of this repository: `cargo xtask --help` lists them.
//!
//! One chore is one file; what several of them need is in [`support`]. Nothing here is part of the product, and no crate of
//! the product depends on it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its terminal")]

mod ci;
mod db;
mod demo;
mod deny;
mod docs;
mod fuzz;
mod interop;
mod layers;
mod prove;
mod support;
mod test;
mod tree;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The chores of this repository. Each does its own set-up.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that a change has to pass, in order, up to the first failure
    Ci,
    /// All tests of all crates, on SQLite and on a PostgreSQL that is found or started
    Test(test::Arguments),
    /// Which crate may depend on which, and rules about the files of the repository
    Layers,
    /// The dependency policy of deny.toml: licences, bans, sources
    Deny(deny::Arguments),
    /// The generated pages of docs/reference
    Docs(docs::Arguments),
    /// Every parser of what somebody else wrote, fed with inputs that reach ever more of it
    Fuzz(fuzz::Arguments),
    /// Published MCP servers, clients and test suites against the service
    Interop(interop::Arguments),
    /// What is promised of renewals, shown by figures: under load, through crashes and outages
    Prove(prove::Arguments),
    /// The service and a sample MCP server, shown at work, and left running until Ctrl-C
    Demo(demo::Arguments),
    /// A private PostgreSQL for development, in target/
    Db(db::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Ci => ci::run(),
        Chore::Test(arguments) => test::run(&arguments).and_then(test::Outcome::into_result),
        Chore::Layers => layers::run().and_then(|()| tree::run()),
        Chore::Deny(arguments) => deny::run(&arguments),
        Chore::Docs(arguments) => docs::run(&arguments),
        Chore::Fuzz(arguments) => fuzz::run(&arguments),
        Chore::Interop(arguments) => interop::run(&arguments).and_then(interop::Outcome::into_result),
        Chore::Prove(arguments) => prove::run(&arguments).and_then(prove::Outcome::into_result),
        Chore::Demo(arguments) => demo::run(&arguments),
        Chore::Db(arguments) => db::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
