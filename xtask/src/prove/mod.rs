//! `cargo xtask prove`: what is promised of renewals and under load, shown by figures. Each case runs the service itself, as
//! one process or several, against the strict authorization server and the MCP server of `testkit`, which run in here. Its
//! logs are in `target/prove/CASE/`.
//!
//! A case prints what it measured, and fails where a promise is not kept.

mod crash;
mod crowd;
mod due;
mod fleet;
mod goodbye;
mod measure;
mod model;
mod outage;
mod proxy;
mod replicas;
mod shutdown;
mod slow;
mod storm;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use crate::support::count::Count;
use crate::support::process::remove_directory;
use crate::support::{binary, workspace};

#[derive(Args, Clone, Default)]
pub(crate) struct Arguments {
    /// Which cases; without any, all of them
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// Names the cases and runs none
    #[arg(long)]
    list: bool,
    /// Runs an optimised build of the service
    #[arg(long)]
    release: bool,
    /// In `crash`: how often the service is killed at each point
    #[arg(long, default_value_t = 250)]
    times: u32,
    /// In `outage`: how long each outage lasts
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// In `replicas` and `due`: how many connectors there are, instead of the case's own number
    #[arg(long)]
    connectors: Option<usize>,
    /// In `model`: how many runs
    #[arg(long, default_value_t = 100_000)]
    seeds: u64,
    /// A short form of the cases that have one; `ci` runs those of `storm`, `crash` and `goodbye`
    #[arg(long)]
    short: bool,
}

/// What a case is given.
struct Context {
    arguments: Arguments,
    /// The service.
    connectors: PathBuf,
    /// The case's own, and empty.
    folder: PathBuf,
}

type Running<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

struct Case {
    name: &'static str,
    what: &'static str,
    run: for<'a> fn(&'a Context) -> Running<'a>,
}

const CASES: &[Case] = &[
    Case {
        name: "storm",
        what: "a thousand calls at the moment at which the access ends: one renewal",
        run: |context| Box::pin(storm::run(context)),
    },
    Case {
        name: "replicas",
        what: "three processes, a thousand connectors that end in the same second: one renewal each",
        run: |context| Box::pin(replicas::run(context)),
    },
    Case {
        name: "crash",
        what: "kill -9 in the middle of renewals: nothing is lost, or the loss is told",
        run: |context| Box::pin(crash::run(context)),
    },
    Case {
        name: "outage",
        what: "database or authorization server away for a while: everything recovers by itself",
        run: |context| Box::pin(outage::run(context)),
    },
    Case {
        name: "due",
        what: "a hundred connectors due among a hundred thousand: only those are touched",
        run: |context| Box::pin(due::run(context)),
    },
    Case {
        name: "goodbye",
        what: "what is disconnected or deleted is revoked, sooner or later, and nobody waits for it",
        run: |context| Box::pin(goodbye::run(context)),
    },
    Case {
        name: "model",
        what: "renewals in a model, under faults from so many seeds",
        run: |context| Box::pin(async { model::run(context) }),
    },
    Case {
        name: "shutdown",
        what: "SIGTERM with a thousand streams open and renewals under way",
        run: |context| Box::pin(shutdown::run(context)),
    },
    Case {
        name: "slow",
        what: "5,000 clients that are slow on purpose and 1,000 open streams: nobody else notices",
        run: |context| Box::pin(slow::run(context)),
    },
];

/// What the cases came to.
pub(crate) struct Outcome {
    results: Vec<(&'static str, bool, Duration)>,
}

impl Outcome {
    /// A case counts as one test.
    pub(crate) fn count(&self) -> Count {
        let failed = self.results.iter().filter(|(_, ok, _)| !ok).count() as u64;
        Count { passed: self.results.len() as u64 - failed, failed, skipped: 0 }
    }

    /// An error if a case failed.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        let failed: Vec<_> = self.results.iter().filter(|(_, ok, _)| !ok).map(|(name, ..)| *name).collect();
        if !failed.is_empty() {
            bail!("{} of {} cases failed: {}", failed.len(), self.results.len(), failed.join(", "));
        }
        Ok(())
    }
}

/// The short form of the quick cases, for every change.
pub(crate) fn short() -> anyhow::Result<Outcome> {
    let cases = ["storm", "crash", "goodbye"].map(str::to_owned).to_vec();
    run(&Arguments { cases, times: 5, short: true, ..Arguments::default() })
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    if arguments.list {
        for case in CASES {
            println!("{:<10} {}", case.name, case.what);
        }
        return Ok(Outcome { results: Vec::new() });
    }
    if let Some(unknown) = arguments.cases.iter().find(|name| CASES.iter().all(|case| case.name != **name)) {
        bail!("no case is called {unknown}: `cargo xtask prove --list` names them");
    }
    let wanted = |case: &&Case| arguments.cases.is_empty() || arguments.cases.iter().any(|name| name == case.name);
    let connectors = binary::build(arguments.release)?;
    let folder = workspace::target()?.join("prove");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    let mut outcome = Outcome { results: Vec::new() };
    for case in CASES.iter().filter(wanted) {
        println!("\n{}: {}", case.name, case.what);
        let start = Instant::now();
        let context =
            Context { arguments: arguments.clone(), connectors: connectors.clone(), folder: folder.join(case.name) };
        let result = fresh(&context.folder).and_then(|()| runtime.block_on((case.run)(&context)));
        let took = start.elapsed();
        match &result {
            Ok(()) => println!("{}: ok, {:.1} s", case.name, took.as_secs_f64()),
            Err(error) => println!("{}: FAILED, {:.1} s: {error:#}", case.name, took.as_secs_f64()),
        }
        outcome.results.push((case.name, result.is_ok(), took));
    }
    Ok(outcome)
}

fn fresh(folder: &Path) -> anyhow::Result<()> {
    remove_directory(folder)?;
    Ok(std::fs::create_dir_all(folder)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: std::collections::HashSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }
}
