//! Replicas, what their callers do, and when they die.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{Clock, Connectors, RelayMethod, RequestHeaders};
use connectors_application::{
    ConnectorService, IssuerLimits, Keeper, KeeperConfig, Ports, RenewalConfig, ServiceConfig, UserLimits,
};
use connectors_domain::{Connector, ConnectorId, Event, OwnerId, Presets, RedirectOrigins, ServerFacts, ServerUrl};
use connectors_testkit::{MemorySealer, MemoryStore, SeededEntropy};
use jiff::SignedDuration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::LIFE;
use crate::authority::{Server, Strictness, grant};
use crate::chance::Chance;
use crate::mortal::{ModelClock, Mortal};

const LEASE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    store: MemoryStore,
    pub(crate) authority: Server,
    start: Instant,
    chance: Chance,
    calm: Arc<AtomicBool>,
    outage: Arc<AtomicBool>,
    owner: OwnerId,
    id: ConnectorId,
}

struct Replica {
    service: ConnectorService,
    outside: Mortal,
    keeping: JoinHandle<()>,
}

impl World {
    /// A store with one connected connector whose access ends soon.
    pub(crate) async fn new(seed: u64, strictness: Strictness) -> Self {
        let start = Instant::now();
        let clock = ModelClock::new(start, SignedDuration::ZERO);
        let store = MemoryStore::with_clock(clock.clone());
        let owner = OwnerId::local();
        let id = ConnectorId::new(clock.now(), [u8::try_from(seed % 256).unwrap(); 10]);
        let url = ServerUrl::parse("https://mcp.example.com/mcp").unwrap();
        let mut connector = Connector::new(id, owner, url, None, None, clock.now());
        store.insert(connector.clone(), 10).await.unwrap();
        let deadline = clock.now() + Duration::from_secs(30);
        let established = Event::Established { grant: Some(grant(0, clock.now())), server: ServerFacts::default() };
        for event in [Event::ConnectStarted { deadline }, established] {
            connector = connector.apply(event, clock.now()).unwrap().connector;
            connector.due_at = Some(clock.now() + Duration::from_secs(90));
            connector = store.update(connector).await.unwrap();
        }
        let calm = Arc::new(AtomicBool::new(false));
        Self {
            store,
            authority: Server::new(strictness),
            start,
            chance: Chance::new(!seed),
            calm,
            outage: Arc::default(),
            owner,
            id,
        }
    }

    fn replica(&self, number: u64) -> Replica {
        let skew = SignedDuration::from_millis(i64::try_from(self.chance.below(10_000)).unwrap() - 5_000);
        let clock = ModelClock::new(self.start, skew);
        let outside = Mortal::new(
            self.store.clone(),
            self.authority.clone(),
            self.chance.clone(),
            clock,
            [Arc::clone(&self.calm), Arc::clone(&self.outage)],
        );
        let port = Arc::new(outside.clone());
        let ports = Ports {
            connectors: port.clone(),
            renewals: port.clone(),
            agenda: port.clone(),
            revocations: port.clone(),
            changes: port.clone(),
            mcp: port.clone(),
            authorization: port.clone(),
            clock: port,
            sealer: Arc::new(MemorySealer::default()),
            entropy: Arc::new(SeededEntropy::new(number + 1)),
        };
        let config = ServiceConfig {
            presets: Presets::default(),
            redirect_origins: RedirectOrigins::Loopback,
            limits: UserLimits::of_connectors(10),
            bind_browsers: false,
            probe_deadline: Duration::from_secs(30),
            attempt_lifetime: Duration::from_mins(10),
            alone_since: None,
            target_capacity: 100,
            target_ttl: Some(Duration::from_secs(30)),
            renewal: RenewalConfig {
                lease: LEASE,
                wait: Duration::from_secs(20),
                issuers: IssuerLimits { concurrency: 16, per_second: NonZeroU32::new(1000).unwrap() },
            },
            health_interval: None,
        };
        let service = ConnectorService::new(ports, config);
        let keeper = Keeper::new(service.clone(), KeeperConfig { interval: Duration::from_secs(1) });
        let keeping = tokio::spawn(async move { keeper.run().await });
        Replica { service, outside, keeping }
    }

    /// Callers at three replicas, some of which die and come back; tells how many did.
    pub(crate) async fn live_through(&self, chance: &mut Chance) -> usize {
        let mut replicas: Vec<_> = (0..3).map(|number| self.replica(number)).collect();
        let mut crashes = 0;
        let mut number = 3;
        while self.start.elapsed() < LIFE {
            sleep(chance.up_to(Duration::from_secs(20))).await;
            let which = usize::try_from(chance.below(3)).unwrap();
            if chance.one_in(12) {
                replicas[which].outside.kill();
                replicas[which].keeping.abort();
                replicas[which] = self.replica(number);
                number += 1;
                crashes += 1;
                continue;
            }
            if chance.one_in(12) {
                // Longer than a lease, now and then.
                self.outage.store(true, Ordering::SeqCst);
                sleep(chance.up_to(Duration::from_secs(90))).await;
                self.outage.store(false, Ordering::SeqCst);
                continue;
            }
            let callers = chance.below(6);
            for _ in 0..callers {
                let (service, owner, id) = (replicas[which].service.clone(), self.owner, self.id);
                let pause = chance.up_to(Duration::from_secs(2));
                tokio::spawn(async move {
                    sleep(pause).await;
                    call(&service, owner, id).await;
                });
            }
        }
        for replica in replicas {
            replica.outside.kill();
            replica.keeping.abort();
        }
        crashes
    }

    /// The store goes away for longer than a lease, just when one replica has spent the refresh token; when it is back,
    /// another one wants the grant at once.
    pub(crate) async fn cut_off_in_the_middle(&self) {
        self.calm.store(true, Ordering::SeqCst);
        let replicas = [self.replica(0), self.replica(1)];
        let [spender, other] = [&replicas[0].service, &replicas[1].service].map(Clone::clone);
        sleep(Duration::from_secs(100)).await;
        let (owner, id) = (self.owner, self.id);
        tokio::spawn(async move { call(&spender, owner, id).await });
        while self.authority.lock().refreshes == 0 {
            sleep(Duration::from_millis(10)).await;
        }
        self.outage.store(true, Ordering::SeqCst);
        sleep(LEASE * 2).await;
        self.outage.store(false, Ordering::SeqCst);
        for _ in 0..200 {
            let other = other.clone();
            tokio::spawn(async move { call(&other, owner, id).await });
            sleep(Duration::from_millis(20)).await;
        }
        sleep(Duration::from_mins(1)).await;
        for replica in replicas {
            replica.outside.kill();
            replica.keeping.abort();
        }
    }

    /// One replica alone, when nothing fails any more: whatever was left open comes to its end.
    pub(crate) async fn settle(&self) {
        self.calm.store(true, Ordering::SeqCst);
        let last = self.replica(1_000);
        for _ in 0..6 {
            sleep(Duration::from_mins(1)).await;
            call(&last.service, self.owner, self.id).await;
        }
        last.service.renewals_settled().await;
        last.keeping.abort();
    }

    pub(crate) async fn stored(&self) -> Connector {
        self.store.find(self.owner, self.id).await.unwrap().unwrap()
    }
}

async fn call(service: &ConnectorService, owner: OwnerId, id: ConnectorId) {
    // What the caller is told is not what is looked at here.
    let _ = service.relay(owner, id, RelayMethod::Post, RequestHeaders::default(), Bytes::new()).await;
}
