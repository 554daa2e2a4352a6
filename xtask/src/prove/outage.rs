//! The database, or the authorization server, is away for a while, just when tokens come near their end.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use connectors_testkit::authorization_server::{Behaviour, Endpoint, Reply};
use tokio::task::JoinSet;

use super::Context;
use super::fleet::{Instance, Launch, Peers, Remote, connect_many, states};
use super::measure::{refreshes, seconds};
use super::proxy::{Network, Proxy};
use crate::support::postgres::Database;
use crate::support::workspace;

/// How many connectors an outage meets: half of them are in use, the others wait.
const CONNECTORS: usize = 10;
const LONG: Duration = Duration::from_hours(1);
const SECOND: Duration = Duration::from_secs(1);
/// By when each connector has recovered by itself, from the end of the outage on, beside the time that it lasted: the
/// pauses between two tries grow with it.
const RECOVERED: Duration = Duration::from_secs(90);

/// What is wrong.
#[derive(Clone)]
enum Fault {
    /// The authorization server answers refreshes so.
    Answers(Behaviour),
    /// Of the network to the database.
    Network(Network),
    /// The sessions of the database end, and it is not there for a while.
    Restart,
    /// The database takes no writes.
    ReadOnly,
    /// No file can grow.
    Full,
}

impl Fault {
    const fn is_of_the_database(&self) -> bool {
        !matches!(self, Self::Answers(_))
    }
}

/// Where it happens.
#[derive(Clone)]
struct Site {
    peers: Arc<Peers>,
    remote: Remote,
    process: u32,
    database: Option<(Arc<Database>, Arc<Proxy>)>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    let mut broken = Vec::new();
    servers(context, &mut broken).await?;
    postgres(context, &mut broken).await?;
    sqlite(context, &mut broken).await?;
    ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(())
}

/// All at once, each at an authorization server of its own.
async fn servers(context: &Context, broken: &mut Vec<String>) -> anyhow::Result<()> {
    let service = Launch::new(context, "servers")?.start()?;
    let page = |status| Behaviour::reply(Reply::html("<h1>Sorry</h1>").status(status));
    let faults = [
        ("server answers 429, Retry-After 2", Behaviour::too_many_requests(2)),
        ("server answers 503", Behaviour::text(503, "later")),
        ("server answers 500 in HTML", page(500)),
        ("server answers 403 in HTML", page(403)),
        ("server does not answer", Behaviour::hang()),
        ("server resets connections", Behaviour::reset()),
    ];
    let mut outages = JoinSet::new();
    for (name, behaviour) in faults {
        let site = site(&service, None).await?;
        let seconds = context.arguments.seconds;
        outages.spawn(async move { outage(name, &site, &Fault::Answers(behaviour), seconds).await });
    }
    while let Some(outcome) = outages.join_next().await {
        note(broken, outcome?);
    }
    Ok(())
}

/// One after the other, on one database.
async fn postgres(context: &Context, broken: &mut Vec<String>) -> anyhow::Result<()> {
    let database = Arc::new(Database::create(&workspace::shell()?)?);
    let proxy = Arc::new(Proxy::start(([127, 0, 0, 1], database.port).into()).await?);
    let service = Launch::new(context, "postgres")?.on_postgres(&database.url(proxy.address.port())).start()?;
    for (name, fault) in [
        ("PostgreSQL cut off", Fault::Network(Network::Cut)),
        ("PostgreSQL does not answer", Fault::Network(Network::Hanging)),
        ("PostgreSQL restarted", Fault::Restart),
        ("PostgreSQL read-only", Fault::ReadOnly),
    ] {
        let site = site(&service, Some((Arc::clone(&database), Arc::clone(&proxy)))).await?;
        note(broken, outage(name, &site, &fault, context.arguments.seconds).await);
    }
    Ok(())
}

async fn sqlite(context: &Context, broken: &mut Vec<String>) -> anyhow::Result<()> {
    let service = Launch::new(context, "sqlite")?.start()?;
    let site = site(&service, None).await?;
    note(broken, outage("SQLite on a full disk", &site, &Fault::Full, context.arguments.seconds).await);
    Ok(())
}

async fn site(service: &Instance, database: Option<(Arc<Database>, Arc<Proxy>)>) -> anyhow::Result<Site> {
    let peers = Arc::new(Peers::start(|_| {}).await?);
    Ok(Site { peers, remote: service.remote(), process: service.id(), database })
}

fn note(broken: &mut Vec<String>, outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        println!("    BROKEN: {error:#}");
        broken.push(format!("{error:#}"));
    }
}

impl Site {
    fn begin(&self, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Answers(behaviour) => {
                let server = &self.peers.authorization;
                server.script(server.on(Endpoint::Refresh, behaviour.clone()));
                Ok(())
            }
            Fault::Network(network) => {
                self.database()?.1.set(*network);
                Ok(())
            }
            Fault::Restart => {
                let (database, proxy) = self.database()?;
                database.end_sessions()?;
                proxy.set(Network::Cut);
                Ok(())
            }
            Fault::ReadOnly => {
                let (database, _) = self.database()?;
                database
                    .outside(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name))?;
                database.end_sessions()
            }
            Fault::Full => self.limit("0:"),
        }
    }

    fn end(&self, fault: &Fault) -> anyhow::Result<()> {
        match fault {
            Fault::Answers(_) => {
                self.peers.authorization.behave();
                Ok(())
            }
            Fault::Network(_) | Fault::Restart => {
                self.database()?.1.set(Network::Up);
                Ok(())
            }
            Fault::ReadOnly => {
                // Sessions of the time between stay read-only: to be rid of them is the service's business.
                let (database, _) = self.database()?;
                database.outside(&format!("ALTER DATABASE {} RESET default_transaction_read_only", database.name))
            }
            Fault::Full => self.limit("unlimited:"),
        }
    }

    fn database(&self) -> anyhow::Result<(&Database, &Proxy)> {
        let (database, proxy) = self.database.as_ref().context("there is no PostgreSQL here")?;
        Ok((database, proxy))
    }

    /// Limits the size of the files that the service may write, its log included.
    fn limit(&self, size: &str) -> anyhow::Result<()> {
        let process = self.process.to_string();
        let status = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={size}")]).status();
        ensure!(status.context("`prlimit` of util-linux is missing")?.success(), "prlimit failed");
        Ok(())
    }

    /// Calls some connectors at once: how many failed, and with what first.
    async fn call(&self, ids: &[String]) -> (usize, Option<String>) {
        let mut calls = JoinSet::new();
        for id in ids {
            let (remote, id) = (self.remote.clone(), id.clone());
            calls.spawn(async move { remote.count(&id).await });
        }
        let (mut failed, mut first) = (0, None);
        while let Some(call) = calls.join_next().await {
            let what = match call {
                Ok(Ok((200, _))) => continue,
                Ok(Ok((status, text))) => format!("{status} {text}"),
                Ok(Err(error)) => format!("{error:#}"),
                Err(error) => error.to_string(),
            };
            failed += 1;
            first.get_or_insert(what);
        }
        (failed, first)
    }
}

async fn outage(name: &str, site: &Site, fault: &Fault, lasts: u64) -> anyhow::Result<()> {
    let remotes = [site.remote.clone()];
    let server = &site.peers.authorization;
    // The outage begins before the first is due, after 70 % of a token's life, and ends before the tokens do.
    let lifetime = Duration::from_secs((lasts + 3) * 10 / 3);
    let lasts = Duration::from_secs(lasts);
    let ids = connect_many(&remotes, &site.peers, 0..CONNECTORS, false).await?;
    let used = &ids[..CONNECTORS / 2];
    site.peers.set_lifetime(lifetime);
    server.expire_access_tokens();
    let issued = Instant::now();
    let (failed, first) = site.call(&ids).await;
    ensure!(failed == 0, "{name}: {first:?} before the outage");
    site.peers.set_lifetime(LONG);
    tokio::time::sleep((lifetime * 7 / 10).saturating_sub(issued.elapsed() + SECOND)).await;

    // What is in use is in memory: nothing else can be served without the database.
    let (failed, first) = site.call(used).await;
    ensure!(failed == 0, "{name}: {first:?} before the outage");
    server.clear();
    let begun = Instant::now();
    site.begin(fault)?;
    let (mut calls, mut failed, mut first, mut ready) = (0, 0, None, Vec::new());
    while begun.elapsed() < lasts {
        let tick = Instant::now();
        let ((missed, what), status) = tokio::join!(site.call(used), site.remote.ready());
        calls += used.len();
        failed += missed;
        first = first.or(what);
        if !ready.contains(&status) {
            ready.push(status);
        }
        tokio::time::sleep(SECOND.saturating_sub(tick.elapsed())).await;
    }
    let asked = refreshes(server);
    let spent = asked.iter().filter(|at| at.duration_since(begun) > SECOND).count();
    site.end(fault)?;
    let ended = Instant::now();

    let (mut late, mut late_first) = (0, None);
    let mut recovered = None;
    let limit = RECOVERED + lasts;
    while ended.elapsed() < limit {
        if server.counters().refreshes >= CONNECTORS as u64 {
            recovered = Some(ended.elapsed());
            break;
        }
        let (missed, what) = site.call(used).await;
        late += missed;
        late_first = late_first.or(what);
        tokio::time::sleep(SECOND).await;
    }
    // What follows at once belongs to it.
    tokio::time::sleep(SECOND).await;
    let (unusable, _) = site.call(&ids).await;
    let (connected, others) = states(&site.remote, &ids).await?;
    let counters = server.counters();
    println!(
        "  {name} for {}: {failed} of {calls} calls failed, ready {ready:?}, {} refresh requests; afterwards all renewed \
         after {}, {late} calls failed until then; {connected} of {CONNECTORS} connected, {unusable} unusable, refreshes {}, \
         reuse {}",
        seconds(lasts),
        asked.len(),
        recovered.map_or("NEVER".to_owned(), seconds),
        counters.refreshes,
        counters.reuses
    );
    if let Some(first) = &first {
        println!("    the first that failed during it: {first}");
    }
    if let Some(first) = &late_first {
        println!("    the first that failed after it: {first}");
    }
    ensure!(others.is_empty() && unusable == 0, "{name}: connectors were lost: {others:?}");
    ensure!(recovered.is_some(), "{name}: not recovered within {} s", limit.as_secs());
    ensure!((counters.refreshes, counters.reuses) == (CONNECTORS as u64, 0), "{name}: not one refresh each");
    ensure!(!fault.is_of_the_database() || spent == 0, "{name}: {spent} tokens were spent that could not be stored");
    ensure!(failed == 0, "{name}: calls failed although the old token lived");
    Ok(())
}
