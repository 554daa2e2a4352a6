//! `cargo xtask db`: a private PostgreSQL for development, in `target/`. Tests use it while it runs.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use crate::support::postgres::Development;
use crate::support::workspace;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Starts it, if it does not run, and prints its URL
    Start,
    /// Stops it; its data stays until target/ is removed
    Stop,
    /// Prints its URL, for the setting `DATABASE__URL`
    Url,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let shell = workspace::shell()?;
    let server = Development::new()?;
    match arguments.command {
        Command::Start => println!("{}", server.start(&shell)?),
        Command::Stop if server.stop(&shell)? => eprintln!("stopped"),
        Command::Stop => eprintln!("it was not running"),
        Command::Url => {
            println!("{}", server.running().context("it is not running: `cargo xtask db start` starts it")?);
        }
    }
    Ok(())
}
