//! SIGTERM while a thousand streams are open and renewals are under way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use connectors_testkit::authorization_server::{Behaviour, Endpoint, Hold};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Context;
use super::fleet::{Launch, Peers, connect_many, until};
use super::measure::seconds;

const STREAMS: usize = 1000;
/// Fewer than may be under way at once at one authorization server.
const RENEWALS: usize = 10;
const LIMIT: Duration = Duration::from_secs(30);
/// How long the authorization server keeps its answers back after SIGTERM.
const HELD: Duration = Duration::from_secs(2);

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let peers = Peers::start(|_| {}).await?;
    let launch = Launch::new(context, "service")?;
    let mut service = launch.start()?;
    let remote = service.remote();
    let ids = connect_many(&[service.remote()], &peers, 0..RENEWALS + 1, false).await?;
    let (streaming, renewing) = ids.split_first().context("there are connectors")?;

    let (tell, mut ends) = mpsc::unbounded_channel();
    let mut streams = JoinSet::new();
    for _ in 0..STREAMS {
        let (remote, id, tell) = (remote.clone(), streaming.clone(), tell.clone());
        streams.spawn(async move {
            let call = remote.tool(&id, "slow", &json!({ "steps": 600, "interval_ms": 1000 }));
            // The last ones may be cut before their first byte has come.
            if let Ok(mut answer) = call.send().await {
                while let Ok(Some(_)) = answer.chunk().await {}
            }
            let _ = tell.send(Instant::now());
        });
    }
    let open = peers.mcp.wait_until_open_streams(STREAMS, LIMIT).await?;
    println!("  {STREAMS} streams open after {}", seconds(open));

    let hold = Hold::new();
    // The streams that are open stay so: only what is asked from now on needs another token.
    peers.authorization.expire_access_tokens();
    peers.authorization.clear();
    peers.authorization.script(peers.authorization.on(Endpoint::Refresh, Behaviour::held(&hold)));
    let mut calls = JoinSet::new();
    for id in renewing {
        let (remote, id) = (remote.clone(), id.clone());
        calls.spawn(async move { remote.count(&id).await });
    }
    let come = async || peers.authorization.requests_to(Endpoint::Refresh).len() >= RENEWALS;
    until("refresh requests", LIMIT, come).await?;
    ensure!(remote.ready().await == 200, "it was not ready");

    let start = Instant::now();
    service.terminate()?;
    let unready = tokio::spawn({
        let remote = remote.clone();
        async move {
            // When the last question was asked that was answered with 200, and what the next one came to.
            let mut last = start;
            loop {
                let asked = Instant::now();
                match remote.ready().await {
                    200 => last = asked,
                    status => return (status, last, Instant::now()),
                }
            }
        }
    });
    let release = tokio::spawn(async move {
        tokio::time::sleep(HELD).await;
        hold.release();
    });
    let ended = tokio::task::block_in_place(|| service.wait(LIMIT))?;
    let took = start.elapsed();
    let (status, last_ready, unready) = unready.await?;
    release.await?;
    drop(tell);
    while streams.join_next().await.is_some() {}
    let mut cut = Vec::new();
    while let Some(end) = ends.recv().await {
        cut.push(end.saturating_duration_since(start));
    }
    let mut answered = 0;
    while let Some(call) = calls.join_next().await {
        answered += u32::from(call?.is_ok_and(|(status, _)| status == 200));
    }
    println!(
        "  SIGTERM: not ready after {} ({}); streams ended after {} to {}; exit after {} with {}; {answered} of {RENEWALS} calls \
         that waited for a renewal were answered",
        seconds(unready.saturating_duration_since(start)),
        if status == 0 { "no answer".to_owned() } else { status.to_string() },
        seconds(cut.iter().min().copied().unwrap_or_default()),
        seconds(cut.iter().max().copied().unwrap_or_default()),
        seconds(took),
        ended.map_or("no status".to_owned(), |status| status.to_string()),
    );
    let ended = ended.context("it did not end")?;

    peers.authorization.behave();
    drop(service);
    let again = launch.start()?;
    let mut usable = 0;
    for id in &ids {
        usable += usize::from(again.remote().count(id).await?.0 == 200);
    }
    let counters = peers.authorization.counters();
    println!(
        "  after the restart: {usable} of {} usable; refreshes {}, reuse {}",
        ids.len(),
        counters.refreshes,
        counters.reuses
    );
    ensure!(ended.success() && took < Duration::from_secs(10), "it did not end in time");
    ensure!(usable == ids.len() && counters.reuses == 0, "a renewal was lost");
    ensure!(counters.refreshes == ids.len() as u64, "not one refresh each");
    ensure!(cut.len() == STREAMS, "{} streams ended", cut.len());
    let first = cut.iter().min().copied().unwrap_or_default();
    ensure!(last_ready.saturating_duration_since(start) <= first, "it said that it was ready after streams had ended");
    Ok(())
}
