//! `cargo xtask fuzz`: the targets of the package in `fuzz/`, under libFuzzer.
//!
//! libFuzzer comes as a crate, and the compiler instruments with the same pass that clang uses; its flags are the ones
//! that cargo-fuzz gives. So this needs no nightly toolchain, no clang and no installation. What is built so has a
//! directory of its own: no other build can use it.
//!
//! A run begins with the seeds in the repository and with what earlier runs have found, in `target/fuzz/corpus/`.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use xshell::cmd;

use crate::support::process::{Process, tail};
use crate::support::workspace;

const PACKAGE: &str = "connectors-fuzz";

/// What makes the compiler count the edges that an input takes, and hand over what it compares.
const INSTRUMENTATION: &str = "--cfg fuzzing \
    -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// An input that takes more than 10 s or 2 GiB is a finding. None is longer than 4 KiB, which is more than most limits on a
/// single value, and little enough to be tried often.
const LIMITS: [&str; 3] = ["-timeout=10", "-rss_limit_mb=2048", "-max_len=4096"];

/// How long a target may take to begin and to end, beside the time that it was given.
const GRACE: Duration = Duration::from_mins(2);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The targets, by default all of them; `--list` names them
    targets: Vec<String>,
    /// How long each target runs; 0 is until it is stopped, and then all run at once
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Runs one target on this one input, such as one that was found to fail
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Only names the targets
    #[arg(long)]
    list: bool,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { targets: Vec::new(), seconds: 60, input: None, list: false }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let all = targets()?;
    if arguments.list {
        for name in &all {
            println!("{name}");
        }
        return Ok(());
    }
    if let Some(unknown) = arguments.targets.iter().find(|name| !all.contains(name)) {
        bail!("there is no target {unknown}; there are {}", all.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { &all } else { &arguments.targets };
    let build = Build::new()?;
    if let Some(input) = &arguments.input {
        let [target] = chosen.as_slice() else {
            bail!("an input is for one target: cargo xtask fuzz TARGET --input FILE")
        };
        // Cargo and this program may have different ideas of where they are.
        let input = fs::canonicalize(input).with_context(|| format!("cannot read {}", input.display()))?;
        build.make(chosen)?;
        return build.reproduce(target, &input);
    }
    build.make(chosen)?;
    build.run_all(chosen, arguments.seconds)
}

/// Clippy on the targets and on their doors in the crates, which no other run of clippy sees. It goes without
/// instrumentation, so that it has the dependencies in common with those.
pub(crate) fn lint() -> anyhow::Result<()> {
    let shell = workspace::shell()?;
    Ok(cmd!(shell, "cargo clippy --workspace --features {PACKAGE}/fuzzing --locked -- -D warnings --cfg fuzzing")
        .run()?)
}

/// The targets, in the order of the manifest.
fn targets() -> anyhow::Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let package = metadata.workspace_packages().into_iter().find(|package| *package.name == PACKAGE);
    let package = package.with_context(|| format!("the workspace has no package {PACKAGE}"))?;
    Ok(package.targets.iter().filter(|target| target.is_bin()).map(|target| target.name.clone()).collect())
}

/// Where things are.
struct Build {
    /// The system for which is built. It is named to Cargo so that build scripts and macros are not instrumented.
    host: String,
    /// What all runs share, below `target/`.
    directory: PathBuf,
    /// Seeds and dictionaries.
    package: PathBuf,
}

impl Build {
    fn new() -> anyhow::Result<Self> {
        let shell = workspace::shell()?;
        let version = cmd!(shell, "rustc --version --verbose").quiet().read()?;
        let host =
            version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
        let (directory, package) = (workspace::target()?.join("fuzz"), workspace::root().join("fuzz"));
        Ok(Self { host: host.to_owned(), directory, package })
    }

    fn make(&self, targets: &[String]) -> anyhow::Result<()> {
        println!("Building the fuzz targets in {}. The first time it takes minutes.", self.directory.display());
        let chosen: Vec<_> = targets.iter().flat_map(|name| ["--bin", name]).collect();
        let shell = workspace::shell()?;
        let Self { host, directory, .. } = self;
        cmd!(shell, "cargo build --quiet --locked --package {PACKAGE} --features fuzzing {chosen...} --profile fuzz --target {host} --target-dir {directory}")
            .quiet()
            .env("RUSTFLAGS", INSTRUMENTATION)
            .run()
            .context("the fuzz targets do not build; libFuzzer itself needs a C++ compiler")
    }

    fn program(&self, target: &str) -> PathBuf {
        [&self.host, "fuzz", target].iter().fold(self.directory.clone(), |path, part| path.join(part))
    }

    /// The directory of a kind for a target, made if need be.
    fn directory_of(&self, kind: &str, target: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory.join(kind).join(target);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    fn reproduce(&self, target: &str, input: &Path) -> anyhow::Result<()> {
        let shell = workspace::shell()?;
        let program = self.program(target);
        cmd!(shell, "{program} {LIMITS...} {input}").quiet().run().context("the input still fails")?;
        println!("The input passes.");
        Ok(())
    }

    /// Runs the targets, as many at once as there are cores.
    fn run_all(&self, targets: &[String], seconds: u64) -> anyhow::Result<()> {
        let endless = seconds == 0;
        let workers = if endless { targets.len() } else { thread::available_parallelism()?.get().min(targets.len()) };
        if endless {
            println!("All targets run until Ctrl-C. Their logs are in {}.", self.directory.join("log").display());
        }
        println!("{:<12}{:>14}{:>10}{:>12}{:>10}{:>10}", "target", "executions", "each s", "features", "corpus", "new");
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match self.run_one(target, seconds) {
                            Ok(figures) => println!("{target:<12}{figures}"),
                            Err(error) => {
                                failed.store(true, Ordering::Relaxed);
                                println!("{target:<12}FAILED: {error:#}");
                            }
                        }
                    }
                });
            }
        });
        if failed.into_inner() {
            bail!("some fuzz targets failed");
        }
        Ok(())
    }

    fn run_one(&self, target: &str, seconds: u64) -> anyhow::Result<String> {
        let (corpus, artifacts) = (self.directory_of("corpus", target)?, self.directory_of("artifacts", target)?);
        let log = self.directory_of("log", "")?.join(format!("{target}.log"));
        let mut command = Command::new(self.program(target));
        command
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={seconds}"))
            .args(LIMITS)
            .args(["-print_final_stats=1", "-verbosity=1"])
            .env("RUST_BACKTRACE", "1");
        let dictionary = self.package.join("dictionaries").join(format!("{target}.dict"));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        // What is found goes into the first directory.
        command.args([&corpus, &self.package.join("seeds").join(target)]);
        let mut process = Process::start(target, &mut command, &log)?;
        let limit = if seconds == 0 { Duration::MAX } else { Duration::from_secs(seconds) + GRACE };
        let Some(status) = process.wait(limit)? else { bail!("it does not end\n{}", tail(&log)) };
        let printed = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if !status.success() {
            bail!("{}", failure(target, &printed, &log));
        }
        Figures::read(&printed)
            .map(|figures| figures.to_string())
            .with_context(|| format!("{} has no figures", log.display()))
    }
}

/// What to do about a crash.
fn failure(target: &str, printed: &str, log: &Path) -> String {
    let mut told = String::from("an input makes it fail\n");
    for line in printed.lines().filter(|line| line.contains("panicked at") || line.contains("ERROR: libFuzzer")) {
        let _ = writeln!(told, "    | {line}");
    }
    if let Some(input) = printed.lines().find_map(|line| Some(line.split_once("Test unit written to ")?.1)) {
        let _ = writeln!(told, "    the input: {input}");
        let _ = writeln!(told, "    again:     cargo xtask fuzz {target} --input {input}");
    }
    let _ = write!(told, "    the log:   {}", log.display());
    told
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
struct Figures {
    executions: u64,
    per_second: u64,
    features: u64,
    corpus: u64,
    new: u64,
}

impl Figures {
    /// Reads what libFuzzer prints at the end: lines such as `stat::number_of_executed_units: 7`, and before them
    /// `#7 DONE cov: 5 ft: 6 corp: 4/1Kb …`.
    fn read(printed: &str) -> Option<Self> {
        let statistic = |name: &str| {
            let line =
                printed.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name)?.strip_prefix(':'));
            line?.trim().parse().ok()
        };
        let done = printed.lines().rfind(|line| line.contains("DONE") && line.contains(" ft: "))?;
        let after = |label: &str| {
            let text = done.split_once(label)?.1.trim_start();
            text.split(|char: char| !char.is_ascii_digit()).next()?.parse().ok()
        };
        Some(Self {
            executions: statistic("number_of_executed_units")?,
            per_second: statistic("average_exec_per_sec")?,
            features: after(" ft: ")?,
            corpus: after(" corp: ")?,
            new: statistic("new_units_added")?,
        })
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { executions, per_second, features, corpus, new } = self;
        write!(f, "{executions:>14}{per_second:>10}{features:>12}{corpus:>10}{new:>10}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "INFO: Seed: 1
#2	INITED cov: 10 ft: 11 corp: 1/1b exec/s: 0 rss: 30Mb
#4952696	DONE   cov: 871 ft: 2419 corp: 402/20Kb lim: 4096 exec/s: 81191 rss: 400Mb
Done 4952696 runs in 61 second(s)
stat::number_of_executed_units: 4952696
stat::average_exec_per_sec:     81191
stat::new_units_added:          377
stat::slowest_unit_time_sec:    0
";

    #[test]
    fn the_figures_are_those_of_the_end() {
        let figures = Figures { executions: 4_952_696, per_second: 81_191, features: 2_419, corpus: 402, new: 377 };
        assert_eq!(Figures::read(PRINTED), Some(figures));
        assert_eq!(Figures::read("INFO: Seed: 1"), None);
    }

    #[test]
    fn a_crash_says_how_to_see_it_again() {
        let printed = "thread '<unnamed>' panicked at fuzz/targets/url.rs:7:5:\nTest unit written to x/crash-1\n";
        let told = failure("url", printed, Path::new("url.log"));
        assert!(told.contains("panicked at fuzz/targets/url.rs:7:5"), "{told}");
        assert!(told.contains("cargo xtask fuzz url --input x/crash-1"), "{told}");
    }

    #[test]
    fn every_target_has_seeds_and_every_seed_a_target() {
        let seeds = fs::read_dir(workspace::root().join("fuzz/seeds")).unwrap();
        let mut seeded: Vec<_> = seeds.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let mut targets = targets().unwrap();
        seeded.sort();
        targets.sort();
        assert_eq!(seeded, targets);
    }
}
