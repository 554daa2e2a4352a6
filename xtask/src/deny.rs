//! `cargo xtask deny`: the dependency policy of `deny.toml`, checked by cargo-deny.
//!
//! Advisories are left out unless asked for: their database is one more thing to reach, and what it says of an unchanged
//! tree changes from day to day. The workflow on GitHub asks for them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use xshell::{Shell, cmd};

use crate::support::workspace;

/// The policy is in the words of this line of versions.
const LINE: &str = "0.20.";
const VERSION: &str = "0.20.2";

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// Also looks for known vulnerabilities; needs the advisory database, which is on GitHub
    #[arg(long)]
    advisories: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let shell = workspace::shell()?;
    let program = find_or_install(&shell)?;
    let advisories = arguments.advisories.then_some("advisories");
    cmd!(shell, "{program} --locked --all-features check --hide-inclusion-graph bans licenses sources {advisories...}")
        .run()
        .context("the dependencies break the policy in deny.toml: `cargo tree --workspace --invert NAME` tells who wants one")
}

fn find_or_install(shell: &Shell) -> anyhow::Result<PathBuf> {
    let tools = workspace::target()?.join("tools");
    let own = tools.join("bin/cargo-deny");
    for program in [PathBuf::from("cargo-deny"), own.clone()] {
        let version = cmd!(shell, "{program} --version").quiet().ignore_stderr().read().unwrap_or_default();
        if version.strip_prefix("cargo-deny ").is_some_and(|version| version.starts_with(LINE)) {
            return Ok(program);
        }
    }
    // Without optimisation: it builds in half of the time and still takes no more than a second here. Its build has a
    // directory of its own, removed at the end.
    eprintln!("Installing cargo-deny {VERSION} in target/tools. This takes two minutes, once.");
    let build = tools.join("build");
    cmd!(
        shell,
        "cargo install --quiet --locked --debug cargo-deny --version {VERSION} --root {tools} --target-dir {build}"
    )
    .run()
    .context("cargo-deny could not be installed")?;
    shell.remove_path(build)?;
    Ok(own)
}
