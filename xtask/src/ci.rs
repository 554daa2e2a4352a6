//! `cargo xtask ci`: all that a change has to pass. What runs here runs nowhere else in another way: `.ci/run` and the
//! workflow on GitHub call this.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use xshell::cmd;

use crate::support::count::Count;
use crate::support::workspace;
use crate::{deny, docs, fuzz, interop, layers, prove, test, tree};

/// A step is given the count of tests, to add its own.
type Step = (&'static str, fn(&mut Count) -> anyhow::Result<()>);

/// What is quick to fail comes first.
const STEPS: &[Step] = &[
    ("fmt", |_| fmt()),
    ("clippy", |_| clippy()),
    ("layers", |_| layers::run().and_then(|()| tree::run())),
    ("docs", |_| docs::run(&docs::Arguments { check: true })),
    ("deny", |_| deny::run(&deny::Arguments::default())),
    ("test", |count| {
        let outcome = test::run(&test::Arguments::default())?;
        *count += outcome.count;
        outcome.into_result()
    }),
    ("prove", |count| {
        let outcome = prove::short()?;
        *count += outcome.count();
        outcome.into_result()
    }),
    ("interop", |count| {
        let outcome = interop::run(&interop::Arguments::default())?;
        *count += outcome.count();
        outcome.into_result()
    }),
];

pub(crate) fn run() -> anyhow::Result<()> {
    let mut count = Count::default();
    let mut done = Vec::new();
    let mut outcome = Ok(());
    for (name, step) in STEPS {
        println!("\n==> {name}");
        let start = Instant::now();
        outcome = step(&mut count).with_context(|| format!("step `{name}`"));
        let took = start.elapsed();
        println!("<== {name}: {}, {}", if outcome.is_ok() { "ok" } else { "FAILED" }, duration(took));
        done.push((*name, outcome.is_ok(), took));
        if outcome.is_err() {
            break;
        }
    }
    print_summary(&done);
    // Alone on its line, and the last of them: what reads this output counts tests by it.
    println!("\n{count}");
    outcome
}

fn fmt() -> anyhow::Result<()> {
    let shell = workspace::shell()?;
    cmd!(shell, "cargo fmt --all --check").run().context("`cargo fmt` would change some files")
}

fn clippy() -> anyhow::Result<()> {
    let shell = workspace::shell()?;
    cmd!(shell, "cargo clippy --workspace --all-targets --locked -- -D warnings").run()?;
    fuzz::lint()
}

fn print_summary(done: &[(&str, bool, Duration)]) {
    println!();
    for (name, ok, took) in done {
        println!("{name:<10}{:<8}{:>10}", if *ok { "ok" } else { "FAILED" }, duration(*took));
    }
    for (name, _) in &STEPS[done.len()..] {
        println!("{name:<10}not run");
    }
    println!("{:<18}{:>10}", "in all", duration(done.iter().map(|(_, _, took)| *took).sum()));
}

fn duration(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(605)), "10 min 05 s");
    }
}
