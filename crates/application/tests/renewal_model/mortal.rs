//! Ports of a replica that can die at any moment: from then on nothing that it had begun has any further effect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{
    AddressRefused, Agenda, AuthorizationServer, ChangeStream, Changes, Claim, Claimed, Clock, ConnectorPage,
    Connectors, Due, DueRevocation, ExchangeError, ExchangeRequest, InsertError, ListQuery, McpServer, Postponed,
    PrepareError, PrepareRequest, Prepared, ProbeError, RefreshError, RefreshRequest, RelayBody, RelayError,
    RelayRequest, RelayResponse, Removed, RenewalKey, Renewals, ResponseHeaders, Revocation, RevocationKey,
    Revocations, RevokeError, StoreError, UpdateError,
};
use connectors_domain::{
    AccessToken, Connector, ConnectorId, Grant, OwnerId, Scopes, ServerFacts, ServerUrl, StateHash,
};
use connectors_testkit::MemoryStore;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::authority::Server;
use crate::chance::Chance;

/// The time of the model, as one process sees it.
#[derive(Clone)]
pub(crate) struct ModelClock {
    start: Instant,
    skew: SignedDuration,
}

impl ModelClock {
    pub(crate) fn new(start: Instant, skew: SignedDuration) -> Self {
        Self { start, skew }
    }
}

impl Clock for ModelClock {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.start.elapsed()).unwrap();
        Timestamp::from_second(1_800_000_000).unwrap() + passed + self.skew
    }
}

/// What the store cannot do for a moment.
#[derive(Debug, Error)]
#[error("the store is away")]
struct Away;

/// The outside of one replica.
#[derive(Clone)]
pub(crate) struct Mortal {
    dead: Arc<AtomicBool>,
    /// Nothing fails or is slow any more.
    calm: Arc<AtomicBool>,
    /// The store is away, for every replica.
    outage: Arc<AtomicBool>,
    store: MemoryStore,
    authority: Server,
    chance: Chance,
    clock: ModelClock,
    /// The refresh tokens that this replica has sent, each with the number of its request. It has heard nothing of them,
    /// or of a new grant that may not be stored yet.
    spending: Arc<Mutex<Vec<(String, u64)>>>,
}

impl Mortal {
    pub(crate) fn new(
        store: MemoryStore,
        authority: Server,
        chance: Chance,
        clock: ModelClock,
        [calm, outage]: [Arc<AtomicBool>; 2],
    ) -> Self {
        Self { dead: Arc::default(), calm, outage, store, authority, chance, clock, spending: Arc::default() }
    }

    pub(crate) fn kill(&self) {
        self.dead.store(true, Ordering::SeqCst);
        // What is stored in place of a spent token shows that nothing of it is lost.
        let stored = self
            .store
            .all()
            .into_iter()
            .find_map(|connector| Some(connector.grant()?.issued()?.refresh_token.as_ref()?.expose().to_owned()));
        let spending = self.spending.lock().unwrap();
        let lost: Vec<_> = spending.iter().filter(|(token, _)| stored.as_ref() == Some(token)).cloned().collect();
        self.authority.forget(&lost);
    }

    fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    /// Never returns to a replica that is dead.
    async fn alive(&self) {
        if self.dead.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// What lies between a replica and its store: time, and now and then a failure, on either side of the work.
    async fn store<T, E: From<StoreError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        self.alive().await;
        let outage = self.outage.load(Ordering::SeqCst);
        let fails = outage || (!self.is_calm() && self.chance.one_in(25));
        let before = outage || self.chance.one_in(2);
        sleep(self.chance.up_to(Duration::from_millis(40))).await;
        self.alive().await;
        if fails && before {
            return Err(away().into());
        }
        let done = work.await;
        self.alive().await;
        sleep(self.chance.up_to(Duration::from_millis(40))).await;
        self.alive().await;
        if fails { Err(away().into()) } else { done }
    }
}

fn away() -> StoreError {
    StoreError::Unavailable(Box::new(Away))
}

#[async_trait]
impl Connectors for Mortal {
    async fn insert(&self, connector: Connector, limit: u32) -> Result<(), InsertError> {
        self.store(self.store.insert(connector, limit)).await
    }

    async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        self.store(self.store.find(owner, id)).await
    }

    async fn find_any(&self, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        self.store(self.store.find_any(id)).await
    }

    async fn list_any(&self, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.store(self.store.list_any(query)).await
    }

    async fn count_waiting(&self, owner: OwnerId) -> Result<u64, StoreError> {
        self.store(self.store.count_waiting(owner)).await
    }

    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError> {
        self.store(self.store.find_by_state(state)).await
    }

    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.store(self.store.list(owner, query)).await
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        self.store(self.store.update(connector)).await
    }

    async fn retire(&self, connector: Connector, grant: Grant) -> Result<Connector, UpdateError> {
        self.store(self.store.retire(connector, grant)).await
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        self.store(self.store.remove(owner, id)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.store(self.store.ready()).await
    }
}

#[async_trait]
impl Renewals for Mortal {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.store(self.store.claim(claim)).await
    }

    async fn release(&self, key: RenewalKey, holder: Uuid, unspent: bool) -> Result<(), StoreError> {
        self.store(self.store.release(key, holder, unspent)).await
    }
}

#[async_trait]
impl Agenda for Mortal {
    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<Due>, StoreError> {
        self.store(Agenda::take_due(&self.store, limit, hold)).await
    }

    async fn postpone(&self, postponed: Postponed) -> Result<(), StoreError> {
        self.store(Agenda::postpone(&self.store, postponed)).await
    }

    async fn backlog(&self) -> Result<u64, StoreError> {
        self.store(self.store.backlog()).await
    }
}

#[async_trait]
impl Revocations for Mortal {
    async fn add(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.store(self.store.add(revocation)).await
    }

    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<DueRevocation>, StoreError> {
        self.store(Revocations::take_due(&self.store, limit, hold)).await
    }

    async fn postpone(&self, key: RevocationKey, until: Timestamp) -> Result<(), StoreError> {
        self.store(Revocations::postpone(&self.store, key, until)).await
    }

    async fn done(&self, key: RevocationKey) -> Result<(), StoreError> {
        self.store(self.store.done(key)).await
    }
}

impl Changes for Mortal {
    fn follow(&self) -> ChangeStream {
        self.store.follow()
    }
}

impl Clock for Mortal {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

#[async_trait]
impl AuthorizationServer for Mortal {
    async fn is_named_by(&self, _: ServerUrl) -> bool {
        false
    }

    async fn prepare(&self, _: PrepareRequest) -> Result<Prepared, PrepareError> {
        Err(PrepareError::NotOffered)
    }

    fn state_hash(&self, _: &str) -> StateHash {
        StateHash([0; 32])
    }

    async fn exchange(&self, _: ExchangeRequest) -> Result<Grant, ExchangeError> {
        Err(ExchangeError::Refused)
    }

    async fn refresh(&self, request: RefreshRequest) -> Result<Grant, RefreshError> {
        self.alive().await;
        let token = request.refresh_token.expose().to_owned();
        let number = self.chance.below(u64::MAX);
        self.spending.lock().unwrap().push((token, number));
        let now = || self.clock.now();
        let answer = self.authority.refresh(request, number, self.chance.clone(), self.is_calm(), now).await;
        self.alive().await;
        if answer.is_err() {
            self.spending.lock().unwrap().retain(|(_, other)| *other != number);
        }
        answer
    }

    async fn revoke(&self, _: Grant) -> Result<(), RevokeError> {
        Ok(())
    }

    fn demanded_scopes(&self, _: &[String]) -> Option<Scopes> {
        None
    }
}

#[async_trait]
impl McpServer for Mortal {
    fn admit(&self, _: &ServerUrl) -> Result<(), AddressRefused> {
        Ok(())
    }

    async fn probe(&self, _: ServerUrl, _: Option<AccessToken>) -> Result<ServerFacts, ProbeError> {
        self.alive().await;
        Ok(ServerFacts::default())
    }

    async fn tools_challenge(&self, _: ServerUrl, _: ServerFacts) -> Option<Vec<String>> {
        None
    }

    async fn relay(&self, request: RelayRequest) -> Result<RelayResponse, RelayError> {
        self.alive().await;
        sleep(self.chance.up_to(Duration::from_millis(20))).await;
        let token = request.target.access_token.as_ref().unwrap().expose().to_owned();
        if self.authority.lock().refuses(&token, Instant::now(), !self.is_calm() && self.chance.one_in(20)) {
            return Err(RelayError::Unauthorized { challenges: Vec::new() });
        }
        let (headers, challenges) = (ResponseHeaders::default(), Vec::new());
        Ok(RelayResponse { status: 202, headers, challenges, body: RelayBody::Empty })
    }
}
