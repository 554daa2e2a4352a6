//! One connector, and a thousand calls at once.

use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinSet;

use super::Context;
use super::fleet::{Launch, Peers, Remote};
use super::measure::latencies;

const LIFETIME: Duration = Duration::from_secs(4);
const LONG: Duration = Duration::from_hours(1);

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let calls = if context.arguments.short { 200 } else { 1000 };
    let peers = Peers::start(|settings| settings.token_lifetime = LIFETIME).await?;
    // What is due is not looked for meanwhile: the calls are what asks for the renewal.
    let service = Launch::new(context, "service")?.with("BACKGROUND__INTERVAL", 60).start()?;
    let remote = service.remote();
    let begun = Instant::now();
    let id = remote.connected(&peers.url(0), &remote).await?;

    peers.set_lifetime(LONG);
    tokio::time::sleep(LIFETIME.saturating_sub(begun.elapsed())).await;
    storm("the token has just ended", &remote, &peers, &id, calls).await?;

    peers.authorization.expire_access_tokens();
    storm("the server refuses the token", &remote, &peers, &id, calls).await?;
    Ok(())
}

async fn storm(when: &str, remote: &Remote, peers: &Peers, id: &str, calls: u64) -> anyhow::Result<()> {
    peers.authorization.clear();
    let counted = peers.mcp.count();
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let (remote, id) = (remote.clone(), id.to_owned());
        tasks.spawn(async move {
            let start = Instant::now();
            let answer = remote.count(&id).await;
            (answer.unwrap_or_else(|error| (0, format!("{error:#}"))), start.elapsed())
        });
    }
    let mut times = Vec::new();
    let mut failed = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let ((status, text), time) = done?;
        times.push(time);
        if status != 200 {
            failed.push(format!("{status} {text}"));
        }
    }
    let took = start.elapsed();
    let (counters, effects) = (peers.authorization.counters(), peers.mcp.count() - counted);
    println!(
        "  {when}: {calls} calls at once in {:.2} s, {} failed, {effects} effects at the server; refresh requests {}, \
         refreshes {}, reuse {}; latency {}",
        took.as_secs_f64(),
        failed.len(),
        counters.refresh_requests,
        counters.refreshes,
        counters.reuses,
        latencies(&times),
    );
    ensure!(failed.is_empty(), "calls failed, the first with {}", failed[0]);
    ensure!(effects == calls, "{calls} calls had {effects} effects");
    ensure!((counters.refresh_requests, counters.refreshes, counters.reuses) == (1, 1, 0), "not one refresh");
    Ok(())
}
