//! kill -9 in the middle of a renewal, at each point that makes a difference.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use connectors_testkit::authorization_server::{Behaviour, Ending, Endpoint, Hold, Rule};
use serde_json::json;
use tokio::task::JoinHandle;

use super::Context;
use super::fleet::{Instance, Launch, Peers, Remote, connect_many, until};
use super::proxy::{Network, Proxy};
use crate::support::postgres::Database;
use crate::support::workspace;

/// For how long a server with a grace period takes a spent refresh token once more.
const GRACE: Duration = Duration::from_mins(10);
const LIMIT: Duration = Duration::from_secs(30);
/// Connectors whose renewals are under way when a process on PostgreSQL is killed: fewer than may be at once.
const TOGETHER: usize = 10;
/// The shortest lease that can be set.
const LEASE: u64 = 15;

/// Where the renewal is when the process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Unread,
    Unspent,
    Unanswered,
    Answered,
    Stored,
}

const POINTS: [Point; 5] = [Point::Unread, Point::Unspent, Point::Unanswered, Point::Answered, Point::Stored];

impl Point {
    const fn what(self) -> &'static str {
        match self {
            Self::Unread => "sent, not read by the server",
            Self::Unspent => "read by the server, not spent there",
            Self::Unanswered => "spent there, answer not sent",
            Self::Answered => "answer sent, 0 to 15 ms later",
            Self::Stored => "stored, call answered",
        }
    }

    /// Whether a strict server may have spent a token of which nobody has the successor.
    const fn may_lose(self) -> bool {
        matches!(self, Self::Unanswered | Self::Answered)
    }
}

/// What became of the renewals that were under way.
#[derive(Default)]
struct Tally {
    kills: u32,
    usable: u32,
    labelled: u32,
    silent: Vec<String>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<()> {
    println!(
        "  {:<9}{:<10}{:<38}{:>6}{:>8}{:>15}{:>8}",
        "database", "server", "killed when", "kills", "usable", "told as lost", "silent"
    );
    let mut broken = Vec::new();
    for grace in [true, false] {
        for point in POINTS {
            let tally = on_sqlite(context, point, grace).await?;
            print(&mut broken, "SQLite", grace, point, &tally);
        }
    }
    if !context.arguments.short {
        let shell = workspace::shell()?;
        for grace in [true, false] {
            for point in POINTS {
                let database = Database::create(&shell)?;
                let tally = on_postgres(context, &database, point, grace).await?;
                print(&mut broken, "PostgreSQL", grace, point, &tally);
            }
        }
    }
    ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(())
}

fn print(broken: &mut Vec<String>, database: &str, grace: bool, point: Point, tally: &Tally) {
    let server = if grace { "grace" } else { "strict" };
    println!(
        "  {database:<11}{server:<8}{:<38}{:>6}{:>8}{:>15}{:>8}",
        point.what(),
        tally.kills,
        tally.usable,
        tally.labelled,
        tally.silent.len()
    );
    if let Some(first) = tally.silent.first() {
        broken.push(format!("{database}, {server}, {}: {first}", point.what()));
    }
    if tally.labelled > 0 && (grace || !point.may_lose()) {
        broken.push(format!("{database}, {server}, {}: {} lost", point.what(), tally.labelled));
    }
}

/// The servers, with a network before the token endpoint.
struct World {
    peers: Peers,
    tokens: Proxy,
}

impl World {
    async fn new(grace: bool) -> anyhow::Result<Self> {
        let peers = Peers::start(|settings| {
            settings.grace = if grace { GRACE } else { Duration::ZERO };
        })
        .await?;
        let tokens = Proxy::start(peers.authorization.address()).await?;
        let endpoint = format!("http://{}/token", tokens.address);
        peers.authorization.change(|settings| {
            settings.metadata.insert("token_endpoint".to_owned(), Some(json!(endpoint)));
        });
        Ok(Self { peers, tokens })
    }

    /// Brings the renewals of these connectors to the point, asked for by calls.
    async fn bring_to(&self, point: Point, remote: &Remote, ids: &[String]) -> anyhow::Result<()> {
        let server = &self.peers.authorization;
        server.clear();
        server.expire_access_tokens();
        let hold = Hold::new();
        match point {
            Point::Unread => self.tokens.set(Network::Hanging),
            Point::Unspent => server.script(server.on(Endpoint::Refresh, Behaviour::hang())),
            Point::Unanswered => server.script(server.on(Endpoint::Refresh, Behaviour::lost(Ending::Hang))),
            Point::Answered => server.script(server.on(Endpoint::Refresh, Behaviour::held(&hold))),
            Point::Stored => server.script(Vec::<Rule>::new()),
        }
        let calls: Vec<JoinHandle<_>> = ids
            .iter()
            .map(|id| {
                let (remote, id) = (remote.clone(), id.clone());
                tokio::spawn(async move { remote.count(&id).await })
            })
            .collect();
        match point {
            Point::Unread => {
                until("requests that are held", LIMIT, async || self.tokens.held() >= ids.len()).await.map(drop)
            }
            Point::Unspent | Point::Unanswered => self.refreshes_have_come(ids.len()).await,
            Point::Answered => {
                self.refreshes_have_come(ids.len()).await?;
                hold.release();
                tokio::time::sleep(Duration::from_micros(chance(15_000))).await;
                Ok(())
            }
            Point::Stored => {
                for call in calls {
                    let (status, text) = call.await??;
                    ensure!(status == 200, "a call was answered with {status} {text}");
                }
                Ok(())
            }
        }
    }

    async fn refreshes_have_come(&self, count: usize) -> anyhow::Result<()> {
        let come = async || self.peers.authorization.requests_to(Endpoint::Refresh).len() >= count;
        until("refresh requests", LIMIT, come).await.map(drop)
    }

    /// Nothing is in the way any more.
    fn behave(&self) {
        self.tokens.set(Network::Up);
        self.peers.authorization.behave();
    }
}

/// A number below `limit`, which need not be good.
fn chance(limit: u64) -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(limit) % limit
}

impl Tally {
    /// Looks what became of a connector, by using it; brings it back if it is lost.
    async fn judge(&mut self, remote: &Remote, id: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut status, mut text) = remote.count(id).await?;
        // A call that has waited for its turn long enough is told to come again.
        while status == 503 && start.elapsed() < Duration::from_mins(1) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            (status, text) = remote.count(id).await?;
        }
        if status == 200 {
            self.usable += 1;
            return Ok(());
        }
        let connector = remote.read(id).await?;
        if connector["disconnect_code"] == "refresh_outcome_unknown" {
            self.labelled += 1;
        } else {
            self.silent.push(format!("{status} {text} {connector}"));
        }
        remote.connect(id, remote).await
    }
}

async fn on_sqlite(context: &Context, point: Point, grace: bool) -> anyhow::Result<Tally> {
    let world = World::new(grace).await?;
    let launch = Launch::new(context, &format!("sqlite-{}-{point:?}", if grace { "grace" } else { "strict" }))?;
    let mut service = launch.start()?;
    let id = service.remote().connected(&world.peers.url(0), &service.remote()).await?;
    let mut tally = Tally::default();
    for number in 0..context.arguments.times {
        let once = async {
            world.bring_to(point, &service.remote(), std::slice::from_ref(&id)).await?;
            service.kill()?;
            world.behave();
            let service = launch.start()?;
            tally.kills += 1;
            tally.judge(&service.remote(), &id).await?;
            anyhow::Ok(service)
        };
        service = once.await.with_context(|| format!("{}, kill {number}", point.what()))?;
    }
    Ok(tally)
}

/// Two processes: the one with the renewals is killed, and the other is asked.
async fn on_postgres(context: &Context, database: &Database, point: Point, grace: bool) -> anyhow::Result<Tally> {
    let world = World::new(grace).await?;
    let base = format!("postgres-{}-{point:?}", if grace { "grace" } else { "strict" });
    let [first, second] = ["first", "second"].map(|name| {
        let launch = Launch::new(context, Path::new(&base).join(name).to_str().unwrap_or(name))?;
        let launch = launch.on_postgres(&database.url(database.port)).with("RENEWAL__LEASE", LEASE);
        // A call waits for longer than a lease that nobody gives back.
        anyhow::Ok(launch.with("RENEWAL__WAIT", 60))
    });
    let (first, second) = (first?, second?);
    let victim: Instance = first.start()?;
    let ids = connect_many(&[victim.remote()], &world.peers, 0..TOGETHER, false).await?;
    let heir = second.with("SERVER__PUBLIC_URL", first.url()).start()?;
    world.bring_to(point, &victim.remote(), &ids).await?;
    victim.kill()?;
    world.behave();
    let mut tally = Tally { kills: u32::try_from(TOGETHER)?, ..Tally::default() };
    let start = Instant::now();
    // All at once, as users would.
    let mut calls = Vec::new();
    for id in &ids {
        let (remote, id) = (heir.remote(), id.clone());
        calls.push(tokio::spawn(async move {
            let mut one = Tally::default();
            one.judge(&remote, &id).await.map(|()| one)
        }));
    }
    for call in calls {
        let one = call.await??;
        tally.usable += one.usable;
        tally.labelled += one.labelled;
        tally.silent.extend(one.silent);
    }
    if start.elapsed() > Duration::from_secs(LEASE) + LIMIT {
        bail!("the other process took {} s to take over", start.elapsed().as_secs());
    }
    Ok(tally)
}
