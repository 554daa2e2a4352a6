//! `cargo xtask test`: every test of every crate, doc tests too, with a PostgreSQL found or started for them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::support::count::Count;
use crate::support::postgres::{self, Server};
use crate::support::workspace;

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// Starts a PostgreSQL for this run even where another one is running
    #[arg(long)]
    private_postgres: bool,
    /// Passed on to `cargo test --workspace`, such as a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// What the tests came to.
pub(crate) struct Outcome {
    pub(crate) count: Count,
    success: bool,
}

impl Outcome {
    /// An error if a test failed, or a crate does not compile.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        if !self.success {
            bail!("the tests failed ({})", self.count);
        }
        Ok(())
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let shell = workspace::shell()?;
    let server = if arguments.private_postgres { postgres::start(&shell) } else { postgres::find_or_start(&shell) };
    match &server {
        Ok(Server { url, origin, .. }) => eprintln!("PostgreSQL tests run against {url}, {origin}."),
        Err(reason) => warn(reason),
    }

    // Without nextest, so that nothing need be installed; to the end, so that one failure does not hide another.
    let mut command = Command::new("cargo");
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]).args(&arguments.rest);
    command.current_dir(workspace::root());
    match &server {
        Ok(server) => command.env("CONNECTORS_TEST_POSTGRES", &server.url).env("CONNECTORS_REQUIRE_POSTGRES", "1"),
        Err(_) => command.env_remove("CONNECTORS_TEST_POSTGRES").env_remove("CONNECTORS_REQUIRE_POSTGRES"),
    };
    let outcome = run_and_count(&mut command)?;

    match &server {
        Ok(Server { origin, .. }) => eprintln!("PostgreSQL tests ran against a server {origin}."),
        Err(reason) => warn(reason),
    }
    Ok(outcome)
}

/// Runs `cargo test`, showing what it prints and adding up its closing lines.
fn run_and_count(command: &mut Command) -> anyhow::Result<Outcome> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run cargo")?;
    let stdout = child.stdout.take().context("a piped output is there")?;
    let mut count = Count::default();
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        std::io::stdout().write_all(&line)?;
        if let Some(closing) = Count::from_closing_line(&String::from_utf8_lossy(&line)) {
            count += closing;
        }
        line.clear();
    }
    Ok(Outcome { count, success: child.wait()?.success() })
}

fn warn(reason: &anyhow::Error) {
    let rule = "!".repeat(100);
    eprintln!(
        "\n{rule}\nPOSTGRESQL TESTS ARE SKIPPED: {reason:#}.\n\
         Install PostgreSQL's server (it need not run), or set CONNECTORS_TEST_POSTGRES to the URL of one.\n{rule}\n"
    );
}
