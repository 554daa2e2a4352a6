//! A few connectors that are due among many: what the database has to do for them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::Context;
use super::fleet::{Launch, Peers, connect_many, states, until};
use super::measure::{refreshes, seconds};
use crate::support::postgres::Database;
use crate::support::workspace;

const DUE: usize = 100;
const LIFETIME: Duration = Duration::from_secs(90);
const LONG: Duration = Duration::from_hours(1);
/// PostgreSQL tells what a session did a second later, or ten if the session is idle.
const TOLD: Duration = Duration::from_secs(12);

/// What `crates/storage/src/agenda.rs` asks each second. Tests of that crate explain the very statement.
const TAKE: &str = "UPDATE connectors SET due_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + 600000000 \
                    WHERE connectors.ctid = ANY (ARRAY (SELECT ctid FROM connectors WHERE due_at <= \
                    (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) ORDER BY due_at LIMIT 128 \
                    FOR UPDATE SKIP LOCKED)) RETURNING id";

const TOUCHED: &str = "SELECT n_tup_upd, seq_scan, seq_tup_read, idx_scan, idx_tup_fetch FROM pg_stat_user_tables \
                       WHERE relname = 'connectors'";

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let all = context.arguments.connectors.unwrap_or(100_000);
    let database = Database::create(&workspace::shell()?)?;
    let service = Launch::new(context, "service")?.on_postgres(&database.url(database.port)).start()?;
    let peers = Peers::start(|settings| settings.token_lifetime = LIFETIME).await?;
    let begun = Instant::now();
    let ids = connect_many(&[service.remote()], &peers, 0..DUE, false).await?;
    peers.set_lifetime(LONG);
    peers.authorization.clear();

    // The others are copies of one, which are due in a year.
    let columns = database.query(
        "SELECT string_agg(column_name, ', ') FROM information_schema.columns WHERE table_name = 'connectors' \
         AND column_name NOT IN ('id', 'url', 'url_key', 'due_at', 'attempt_state_hash')",
    )?;
    let columns = columns.first().and_then(|row| row.first()).context("a table has columns")?;
    database.query(&format!(
        "INSERT INTO connectors (id, url, url_key, due_at, {columns}) \
         SELECT lpad(to_hex(n), 8, '0') || '-0000-0000-0000-000000000000', url || '&' || n, url_key || '&' || n, \
         due_at + 31536000000000, {columns} FROM generate_series(1, {}) n, \
         (SELECT * FROM connectors LIMIT 1) one",
        all - DUE
    ))?;
    database.query("VACUUM ANALYZE connectors")?;
    let first = database.number(
        "SELECT (min(due_at) - (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) / 1000000 FROM connectors",
    )?;
    println!(
        "  {} connectors, {DUE} of them due within {} s; made in {}",
        database.number("SELECT count(*) FROM connectors")?,
        LIFETIME.as_secs(),
        seconds(begun.elapsed())
    );
    ensure!(refreshes(&peers.authorization).is_empty() && first > 15, "it took too long: some are due already");
    tokio::time::sleep(TOLD).await;
    let before = touched(&database)?;

    let renewed = async || refreshes(&peers.authorization).len() >= DUE;
    until("all to be renewed", LIFETIME * 2, renewed).await?;
    let arrived = refreshes(&peers.authorization);
    let spread = arrived.iter().max().zip(arrived.iter().min()).map(|(last, first)| last.duration_since(*first));
    println!(
        "  {DUE} renewed, the last {} after connecting began and {} after the first",
        seconds(begun.elapsed()),
        seconds(spread.unwrap_or_default())
    );
    tokio::time::sleep(TOLD).await;
    let after = touched(&database)?;
    let [updated, scans, read, index_scans, fetched] = std::array::from_fn(|column| after[column] - before[column]);
    let changed = database.number("SELECT count(*) FROM connectors WHERE renewal_marked IS NOT NULL")?;
    println!(
        "  the database: {updated} row versions written ({} for each renewal), {scans} scans of the whole table ({read} \
         rows), {index_scans} index scans ({fetched} rows fetched); {changed} connectors were ever leased",
        updated / DUE as u64
    );
    let counters = peers.authorization.counters();
    println!("  refreshes {}, reuse {}", counters.refreshes, counters.reuses);

    // As many are made due once more, to be explained and not to be done.
    for row in database.query(&format!(
        "BEGIN; UPDATE connectors SET due_at = 0 WHERE due_at < (SELECT percentile_disc(0.001) WITHIN GROUP (ORDER BY due_at) \
         FROM connectors); EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) {TAKE}; ROLLBACK"
    ))? {
        println!("    {}", row.concat());
    }
    let (connected, others) = states(&service.remote(), &ids).await?;
    println!("  {connected} of the {DUE} connected afterwards");
    ensure!(others.is_empty(), "connectors are disconnected: {others:?}");
    ensure!((counters.refreshes, counters.reuses) == (DUE as u64, 0), "not one refresh each");
    ensure!(changed == DUE as u64 && updated <= 5 * DUE as u64, "others were touched");
    ensure!(scans == 0, "the whole table was read");
    Ok(())
}

fn touched(database: &Database) -> anyhow::Result<[u64; 5]> {
    let rows = database.query(TOUCHED)?;
    let row = rows.first().context("the table is there")?;
    let mut numbers = [0; 5];
    for (number, text) in numbers.iter_mut().zip(row) {
        *number = text.parse()?;
    }
    Ok(numbers)
}
