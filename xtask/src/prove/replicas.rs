//! Three processes on one database, and connectors whose access ends in the same second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Context;
use super::fleet::{Instance, Launch, Peers, Remote, connect_many, states};
use super::measure::{latencies, peak, refreshes, seconds};
use crate::support::postgres::Database;
use crate::support::workspace;

const PROCESSES: usize = 3;
const CALLS: usize = 20;
/// Calls under way at once after the first ones. All of this runs on one machine: with more, calls that need nothing but
/// time on its cores would be what the renewals wait for.
const AT_ONCE: usize = 100;
/// More than a flow takes on a slow machine.
const A_FLOW: Duration = Duration::from_millis(40);
const LONG: Duration = Duration::from_hours(1);

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let connectors = context.arguments.connectors.unwrap_or(1000);
    for crossed in [false, true] {
        round(context, connectors, crossed).await?;
    }
    Ok(())
}

async fn round(context: &Context, connectors: usize, crossed: bool) -> anyhow::Result<()> {
    let where_to = if crossed { "callbacks at another process" } else { "callbacks at the same process" };
    let database = Database::create(&workspace::shell()?)?;
    let processes = processes(context, &database, crossed)?;
    let remotes: Vec<_> = processes.iter().map(Instance::remote).collect();

    // Every token ends at one instant. What the service does by itself would renew before that, one after the other: it is
    // kept from that, so that all comes at once.
    let peers = Arc::new(Peers::start(|_| {}).await?);
    let begun = Instant::now();
    let end = begun + Duration::from_secs(20) + A_FLOW * u32::try_from(connectors)?;
    let setting = tokio::spawn({
        let peers = Arc::clone(&peers);
        async move {
            loop {
                peers.set_lifetime(end.saturating_duration_since(Instant::now()));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    });
    peers.set_lifetime(end.saturating_duration_since(Instant::now()));
    let ids = connect_many(&remotes, &peers, 0..connectors, crossed).await?;
    setting.abort();
    let connected = begun.elapsed();
    database.query("UPDATE connectors SET due_at = NULL")?;
    println!("  {where_to}: {connectors} connectors connected in {}", seconds(connected));
    ensure!(Instant::now() < end, "connecting took longer than the tokens live");
    tokio::time::sleep(end.saturating_duration_since(Instant::now())).await;

    peers.set_lifetime(LONG);
    peers.authorization.clear();
    let counted = peers.mcp.count();
    let start = Instant::now();
    let (times, failed) = calls(&remotes, &ids).await?;
    let took = start.elapsed();
    let arrived = refreshes(&peers.authorization);
    let counters = peers.authorization.counters();
    let renewed = arrived.iter().max().map_or(Duration::ZERO, |last| last.duration_since(start));
    println!(
        "  {where_to}: {} calls in {}, {} failed, {} effects; refresh requests {}, refreshes {}, reuse {}; all renewed after \
         {}, at most {} refreshes in a second; latency {}",
        times.len(),
        seconds(took),
        failed.len(),
        peers.mcp.count() - counted,
        counters.refresh_requests,
        counters.refreshes,
        counters.reuses,
        seconds(renewed),
        peak(&arrived),
        latencies(&times),
    );
    println!("  {where_to}: refreshes in each second: {:?}", each_second(&arrived, start));
    let (connected, others) = states(&remotes[0], &ids).await?;
    println!("  {where_to}: {connected} connected afterwards");
    ensure!(failed.is_empty(), "calls failed, the first with {}", failed[0]);
    ensure!((counters.refreshes, counters.reuses) == (connectors as u64, 0), "not one refresh each");
    ensure!(others.is_empty(), "connectors are disconnected: {others:?}");
    Ok(())
}

/// How many events were in each second from `start` on.
fn each_second(instants: &[Instant], start: Instant) -> Vec<usize> {
    let mut counts = Vec::new();
    for at in instants {
        let second = usize::try_from(at.saturating_duration_since(start).as_secs()).unwrap_or(0);
        if counts.len() <= second {
            counts.resize(second + 1, 0);
        }
        counts[second] += 1;
    }
    counts
}

fn processes(context: &Context, database: &Database, crossed: bool) -> anyhow::Result<Vec<Instance>> {
    let mut processes = Vec::new();
    let mut public = None;
    for number in 0..PROCESSES {
        let launch = Launch::new(context, &format!("process-{number}{}", if crossed { "-crossed" } else { "" }))?;
        let public = public.get_or_insert_with(|| launch.url());
        let launch = launch.on_postgres(&database.url(database.port)).with("SERVER__PUBLIC_URL", public);
        processes.push(launch.start()?);
    }
    Ok(processes)
}

/// Each connector is called so often, at each process in turn. First of all, every connector is called at every process, all
/// at once.
async fn calls(remotes: &[Remote], ids: &[String]) -> anyhow::Result<(Vec<Duration>, Vec<String>)> {
    let mut places = Arc::new(Semaphore::new(PROCESSES * ids.len()));
    let mut tasks = JoinSet::new();
    let (mut times, mut failed) = (Vec::new(), Vec::new());
    let mut note = |done: (u16, String, Duration)| {
        let (status, text, time) = done;
        times.push(time);
        if status != 200 {
            failed.push(format!("{status} {text}"));
        }
    };
    for call in 0..CALLS {
        if call == PROCESSES {
            while let Some(done) = tasks.join_next().await {
                note(done?);
            }
            places = Arc::new(Semaphore::new(AT_ONCE));
        }
        for (number, id) in ids.iter().enumerate() {
            let place = Arc::clone(&places).acquire_owned().await?;
            let (remote, id) = (remotes[(number + call) % remotes.len()].clone(), id.clone());
            tasks.spawn(async move {
                let start = Instant::now();
                let answer = remote.count(&id).await;
                drop(place);
                let (status, text) = answer.unwrap_or_else(|error| (0, format!("{error:#}")));
                (status, text, start.elapsed())
            });
            while let Some(done) = tasks.try_join_next() {
                note(done?);
            }
        }
    }
    while let Some(done) = tasks.join_next().await {
        note(done?);
    }
    Ok((times, failed))
}
