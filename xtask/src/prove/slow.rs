//! Thousands of clients that are slow on purpose, and whether others notice.

use std::collections::HashMap;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tokio::time::sleep;

use super::Context;
use super::crowd::{Crowd, Cuts, Manner, SENDERS};
use super::fleet::{Launch, Peers, Remote, until};
use super::measure::{latencies, percentile, seconds};

/// How long the service gives a client for the head of a request, and for its body.
const HEAD: Duration = Duration::from_secs(4);
const BODY: Duration = Duration::from_secs(8);
/// How much later somebody may be cut off than was set: timers and two busy cores.
const LATE: Duration = Duration::from_secs(5);
/// How much earlier: the service reads its clock twice a second.
const EARLY: Duration = Duration::from_secs(1);
/// A latency at the 99th percentile that is no fault, whatever it was before. The crowd, which opens hundreds of connections
/// a second, and the server behind run on the same cores as the service, and one turn of the scheduler is longer than a call.
const FLOOR: Duration = Duration::from_millis(250);
/// What a connection may cost the service in memory, in KiB.
const EACH: u64 = 128;

/// Latencies of calls that a normal client makes.
#[derive(Default)]
struct Latencies {
    relayed: Vec<Duration>,
    listed: Vec<Duration>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let (slow, streams, rounds) = if context.arguments.short { (500, 100, 1) } else { (5000, 1000, 3) };
    // In here there are both ends of the service: its clients, and the server behind the streams.
    allow_descriptors(2 * (slow + streams) + 500)?;
    let peers = Peers::start(|_| {}).await?;
    let launch = Launch::new(context, "service")?
        .with("SERVER__HEADER_TIMEOUT", HEAD.as_secs())
        .with("SERVER__BODY_TIMEOUT", BODY.as_secs())
        .with("EGRESS__IDLE_TIMEOUT", 1)
        .with("LOG__FILTER", "warn");
    let service = launch.start()?;
    let remote = service.remote();
    let id = remote.connected(&peers.url(0), &remote).await?;
    let process = service.id();
    // What is allocated once is not for the crowd to answer for.
    measure(&remote, &id, Duration::from_secs(2), &mut Latencies::default()).await?;

    let (mut calm, mut busy) = (Latencies::default(), Latencies::default());
    let mut cuts: HashMap<Manner, Cuts> = HashMap::new();
    let mut most = Vec::new();
    // So long that every slow sender is cut off at least once meanwhile.
    let time = BODY + LATE;
    for round in 1..=rounds {
        measure(&remote, &id, time, &mut calm).await?;
        // By then our own client, and the service, have given up what connections they kept.
        sleep(Duration::from_secs(3)).await;
        let (memory, descriptors) = (memory(process)?, descriptors(process)?);
        let start = Instant::now();
        let crowd = Crowd::gather(&remote, &id, slow, streams).await?;
        let gathered = start.elapsed();
        measure(&remote, &id, time, &mut busy).await?;
        let (grown, open) = (self::memory(process)?.saturating_sub(memory), self::descriptors(process)?);
        most.push(grown);
        for (manner, more) in crowd.disperse().await {
            let all = cuts.entry(manner).or_default();
            all.after.extend(more.after);
            all.told += more.told;
        }
        let released = async || self::descriptors(process).is_ok_and(|now| now <= descriptors);
        let released = until("every descriptor to be released", Duration::from_secs(30), released).await?;
        println!(
            "  round {round}: {slow} slow connections and {streams} streams open after {}; descriptors {descriptors}, then \
             {open}, and {descriptors} again {} after they had gone; memory {} MiB, then {} MiB more",
            seconds(gathered),
            seconds(released),
            memory / 1024,
            grown / 1024,
        );
        ensure!(open >= descriptors + slow + streams, "not all of them were there at once");
    }
    judge_cuts(&cuts)?;
    let connections = (slow + streams) as u64;
    let worst = most.iter().copied().max().unwrap_or_default();
    println!("  memory: at most {:.1} KiB for each connection", grown_each(worst, connections));
    ensure!(worst <= EACH * connections, "memory grew by more than {EACH} KiB for each connection");
    println!(
        "  judged: the median with them is at most twice that without them; the 99th percentile, too, or else at most {} ms, \
         for all of them share {} cores with the service",
        FLOOR.as_millis(),
        std::thread::available_parallelism().map_or(1, usize::from),
    );
    judge("/mcp", &calm.relayed, &busy.relayed)?;
    judge("GET /api/v1/connectors", &calm.listed, &busy.listed)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for a person")]
fn grown_each(kib: u64, connections: u64) -> f64 {
    kib as f64 / connections as f64
}

/// Calls in turn, one after the other, for so long.
async fn measure(remote: &Remote, id: &str, time: Duration, into: &mut Latencies) -> anyhow::Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        let asked = Instant::now();
        let (status, text) = remote.count(id).await?;
        ensure!(status == 200, "a call was answered with {status}: {text}");
        into.relayed.push(asked.elapsed());
        let asked = Instant::now();
        let (status, list) = remote.call("GET", "/api/v1/connectors", None).await?;
        ensure!(status == 200, "the list was answered with {status}: {list}");
        into.listed.push(asked.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

fn judge(what: &str, calm: &[Duration], busy: &[Duration]) -> anyhow::Result<()> {
    let ratio = |percent| percentile(busy, percent).as_secs_f64() / percentile(calm, percent).as_secs_f64();
    println!("  {what} without them, {} calls: {}", calm.len(), latencies(calm));
    println!("  {what} with them, {} calls: {}", busy.len(), latencies(busy));
    println!("  {what}: median times {:.2}, 99th percentile times {:.2}", ratio(50), ratio(99));
    ensure!(ratio(50) <= 2.0, "{what}: the median is more than twice what it was");
    ensure!(
        ratio(99) <= 2.0 || percentile(busy, 99) <= FLOOR,
        "{what}: the 99th percentile is more than twice what it was"
    );
    Ok(())
}

fn judge_cuts(cuts: &HashMap<Manner, Cuts>) -> anyhow::Result<()> {
    for manner in SENDERS {
        let cuts = cuts.get(&manner).with_context(|| format!("{manner:?}: nobody was cut off"))?;
        let limit = if manner.is_of_body() { BODY } else { HEAD };
        let after = |percent| percentile(&cuts.after, percent);
        println!(
            "  {manner:?}: {} cut off after {} to {}, 90 of 100 of them between {} and {}, {} with 408; the limit is {}",
            cuts.after.len(),
            seconds(after(0)),
            seconds(after(100)),
            seconds(after(5)),
            seconds(after(95)),
            cuts.told,
            seconds(limit),
        );
        // A client counts from when the kernel has connected it, and may wait until the service gets to it. One that sends
        // its next head just when the service gives the idle connection up is cut off at once.
        ensure!(after(95) <= limit + LATE, "{manner:?}: they are let wait too long");
        ensure!(after(5) + EARLY >= limit, "{manner:?}: they are cut off too early");
        // A byte that crosses the answer resets the connection, and may take the answer with it.
        ensure!(!manner.is_told() || cuts.told * 20 >= cuts.after.len() * 19, "{manner:?}: they are not told why");
    }
    Ok(())
}

/// Raises this process's soft limit on descriptors, if it has to be.
fn allow_descriptors(wanted: usize) -> anyhow::Result<()> {
    let limits = fs::read_to_string("/proc/self/limits").context("this case needs Linux")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files")).context("there is such a limit")?;
    let mut numbers = line.split_whitespace().skip(3).map(|number| number.parse().unwrap_or(usize::MAX));
    let (soft, hard) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if hard < wanted {
        bail!("this case needs {wanted} file descriptors, and `ulimit -Hn` is {hard}: raise it, or run with --short");
    }
    if soft < wanted {
        // Standard Rust cannot do that.
        let (process, limit) = (std::process::id().to_string(), format!("--nofile={hard}:{hard}"));
        let done = Command::new("prlimit").args(["--pid", &process, &limit]).status();
        if !done.is_ok_and(|status| status.success()) {
            bail!("this case needs {wanted} file descriptors: run `ulimit -Sn {hard}` before it");
        }
    }
    Ok(())
}

/// How many descriptors a process has open.
fn descriptors(process: u32) -> anyhow::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

/// The memory of a process, in KiB.
fn memory(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
    line.split_whitespace().next().and_then(|number| number.parse().ok()).context("it is a number")
}
