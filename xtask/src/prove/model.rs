//! The model of renewals, run from many seeds.

use std::time::Instant;

use anyhow::Context as _;
use xshell::cmd;

use super::Context;
use super::measure::seconds;
use crate::support::workspace;

pub(super) fn run(context: &Context) -> anyhow::Result<()> {
    let shell = workspace::shell()?;
    let seeds = context.arguments.seeds;
    let test = [
        "test",
        "--quiet",
        "--locked",
        "--profile",
        "model",
        "-p",
        "connectors-application",
        "--test",
        "renewal_model",
    ];
    let start = Instant::now();
    cmd!(shell, "cargo {test...} --no-run").run().context("the model does not build")?;
    println!("  built in {}", seconds(start.elapsed()));
    let start = Instant::now();
    let run = cmd!(shell, "cargo {test...}").env("CONNECTORS_MODEL_SEEDS", seeds.to_string());
    run.run().context("the model has found something")?;
    println!("  {seeds} seeds in {}", seconds(start.elapsed()));
    Ok(())
}
