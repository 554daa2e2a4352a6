//! A store in memory, for tests of use cases: what a database would do, without one.
//!
//! It passes the same contracts as the databases. It seals nothing and keeps nothing when it is dropped. Its clones stand
//! for the processes that share a database: they tell each other of changes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{
    Agenda, ApiTokens, ChangeStream, Changes, Claim, Claimed, Clock, ConnectorPage, Connectors, Due, DueRevocation,
    InsertError, ListQuery, Noted, Postponed, Registration, RegistrationKey, Registrations, Removed, RenewalKey,
    Renewals, Reservation, Revocation, RevocationKey, Revocations, StoreError, UpdateError,
};
use connectors_domain::{ApiToken, ApiTokenId, ClientState, Connector, ConnectorId, Grant, OwnerId, Secret, StateHash};
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use uuid::Uuid;

use crate::SystemClock;

/// How many changes wait for a follower that is slow.
const WAITING: usize = 1024;

/// Keeps in memory what a database would keep. Clones share what they keep.
#[derive(Clone)]
pub struct MemoryStore {
    kept: Arc<Mutex<Kept>>,
    clock: Arc<dyn Clock>,
    changes: Sender<Noted>,
}

#[derive(Default)]
struct Kept {
    rows: BTreeMap<ConnectorId, Row>,
    revocations: BTreeMap<(ConnectorId, u64), WaitingGrant>,
    registrations: HashMap<RegistrationKey, Slot>,
    api_tokens: Vec<(Secret, ApiToken)>,
}

struct Row {
    connector: Connector,
    failures: u32,
    /// The generation whose refresh token may have been spent.
    marked: Option<u64>,
    /// The lease on that generation: who has it, and until when.
    lease: Option<(Uuid, Timestamp)>,
}

struct WaitingGrant {
    revocation: Revocation,
    failures: u32,
    due_at: Timestamp,
}

/// What a unique index of a database would refuse.
#[derive(Debug, Error)]
#[error("it is there already")]
struct Duplicate;

enum Slot {
    Reserved(Timestamp),
    Kept(Registration),
}

impl MemoryStore {
    /// An empty store whose clock is the system's.
    pub fn new() -> Self {
        Self::with_clock(SystemClock)
    }

    /// An empty store with a clock of its own: that of leases and of what is due.
    pub fn with_clock(clock: impl Clock) -> Self {
        Self { kept: Arc::default(), clock: Arc::new(clock), changes: Sender::new(WAITING) }
    }

    /// All connectors, of every owner, in order of ids.
    pub fn all(&self) -> Vec<Connector> {
        self.kept().rows.values().map(|row| row.connector.clone()).collect()
    }

    /// What is registered where.
    pub fn registered(&self) -> Vec<(RegistrationKey, Registration)> {
        let kept = self.kept();
        let kept = kept.registrations.iter().filter_map(|(key, slot)| match slot {
            Slot::Kept(registration) => Some((key.clone(), registration.clone())),
            Slot::Reserved(_) => None,
        });
        kept.collect()
    }

    /// All grants that wait for their revocation, in order of connectors and generations.
    pub fn waiting(&self) -> Vec<Revocation> {
        self.kept().revocations.values().map(|waiting| waiting.revocation.clone()).collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Every change below is whole before anything in it could panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So long from now.
    fn after(&self, time: Duration) -> Timestamp {
        let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        self.clock.now().saturating_add(time).unwrap_or(Timestamp::MAX)
    }

    fn tell(&self, id: ConnectorId) {
        // There may be nobody who follows.
        let _ = self.changes.send(Noted::Connector(id));
    }

    /// Stores `connector` over the revision from which it was made.
    fn swap(&self, kept: &mut Kept, connector: Connector) -> Result<Connector, UpdateError> {
        let stored = kept
            .rows
            .get_mut(&connector.id)
            .filter(|row| row.connector.owner == connector.owner && row.connector.revision == connector.revision)
            .ok_or(UpdateError::Conflict)?;
        let updated = Connector { revision: connector.revision.next(), ..connector };
        stored.connector = updated.clone();
        stored.failures = 0;
        self.tell(updated.id);
        Ok(updated)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("connectors", &self.all()).finish_non_exhaustive()
    }
}

impl Kept {
    fn row(&mut self, owner: OwnerId, id: ConnectorId) -> Option<&mut Row> {
        self.rows.get_mut(&id).filter(|row| row.connector.owner == owner)
    }

    /// The connectors of `owner`, or of all owners, in `state`, or in all states, in order of ids.
    fn matching(&self, owner: Option<OwnerId>, state: Option<ClientState>) -> impl Iterator<Item = &Connector> {
        let connectors = self.rows.values().map(|row| &row.connector);
        connectors
            .filter(move |connector| owner.is_none_or(|owner| connector.owner == owner))
            .filter(move |connector| state.is_none_or(|state| connector.client_state() == state))
    }

    fn page(&self, owner: Option<OwnerId>, query: &ListQuery) -> ConnectorPage {
        let matching = || self.matching(owner, query.state);
        let limit = usize::try_from(query.limit.max(1)).unwrap_or(usize::MAX);
        let mut rest = matching().filter(|connector| query.after.is_none_or(|after| connector.id > after));
        let items: Vec<_> = rest.by_ref().take(limit).cloned().collect();
        let next = rest.next().and_then(|_| items.last()).map(|last| last.id);
        ConnectorPage { total: matching().count() as u64, items, next }
    }

    /// Puts a grant among the revocations, unless one of its generation is there or nobody issued it.
    fn give_up(&mut self, owner: OwnerId, connector: ConnectorId, grant: Grant, now: Timestamp) {
        let Some(generation) = grant.issued().map(|issued| issued.generation) else { return };
        let key = RevocationKey { connector, generation };
        self.wait(Revocation { key, owner, grant }, now);
    }

    fn wait(&mut self, revocation: Revocation, due_at: Timestamp) {
        let key = (revocation.key.connector, revocation.key.generation);
        self.revocations.entry(key).or_insert(WaitingGrant { revocation, failures: 0, due_at });
    }
}

#[async_trait]
impl Connectors for MemoryStore {
    async fn insert(&self, connector: Connector, limit: u32) -> Result<(), InsertError> {
        let mut kept = self.kept();
        let key = connector.url.key();
        let mut owned = 0_u64;
        for row in kept.rows.values().filter(|row| row.connector.owner == connector.owner) {
            if row.connector.url.key() == key {
                return Err(InsertError::Duplicate);
            }
            owned += 1;
        }
        if kept.rows.contains_key(&connector.id) {
            return Err(InsertError::Duplicate);
        }
        if owned >= u64::from(limit) {
            return Err(InsertError::LimitReached);
        }
        self.tell(connector.id);
        kept.rows.insert(connector.id, Row { connector, failures: 0, marked: None, lease: None });
        Ok(())
    }

    async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        Ok(self.kept().row(owner, id).map(|row| row.connector.clone()))
    }

    async fn find_any(&self, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        Ok(self.kept().rows.get(&id).map(|row| row.connector.clone()))
    }

    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError> {
        let kept = self.kept();
        let mut connectors = kept.rows.values().map(|row| &row.connector);
        let waits = |connector: &&Connector| connector.attempt().is_some_and(|attempt| attempt.state_hash == state);
        Ok(connectors.find(waits).cloned())
    }

    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        Ok(self.kept().page(Some(owner), &query))
    }

    async fn list_any(&self, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        Ok(self.kept().page(None, &query))
    }

    async fn count_waiting(&self, owner: OwnerId) -> Result<u64, StoreError> {
        Ok(self.kept().matching(Some(owner), Some(ClientState::AuthRequired)).count() as u64)
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        self.swap(&mut self.kept(), connector)
    }

    async fn retire(&self, connector: Connector, grant: Grant) -> Result<Connector, UpdateError> {
        let mut kept = self.kept();
        let updated = self.swap(&mut kept, connector)?;
        kept.give_up(updated.owner, updated.id, grant, self.clock.now());
        Ok(updated)
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        let mut kept = self.kept();
        if kept.row(owner, id).is_none() {
            return Ok(Removed::Nothing);
        }
        let removed = kept.rows.remove(&id).map(|row| row.connector);
        if let Some(grant) = removed.as_ref().and_then(Connector::grant) {
            kept.give_up(owner, id, grant.clone(), self.clock.now());
        }
        self.tell(id);
        Ok(removed.into())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Renewals for MemoryStore {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let Claim { key, holder, lease } = claim;
        let (now, until) = (self.clock.now(), self.after(lease));
        let mut kept = self.kept();
        let row = kept.row(key.owner, key.connector).filter(|row| row.connector.generation() == Some(key.generation));
        let Some(row) = row else { return Ok(Claimed::Outdated) };
        let interrupted = row.marked == Some(key.generation);
        // A lease is on the generation that is marked, and means nothing for any other.
        if interrupted && row.lease.is_some_and(|(other, until)| other != holder && until > now) {
            return Ok(Claimed::Busy);
        }
        row.marked = Some(key.generation);
        row.lease = Some((holder, until));
        Ok(Claimed::Yours { connector: Box::new(row.connector.clone()), interrupted })
    }

    async fn release(&self, key: RenewalKey, holder: Uuid, unspent: bool) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let held =
            |row: &&mut Row| row.marked == Some(key.generation) && row.lease.is_some_and(|(other, _)| other == holder);
        if let Some(row) = kept.row(key.owner, key.connector).filter(held) {
            row.lease = None;
            if unspent {
                row.marked = None;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Agenda for MemoryStore {
    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<Due>, StoreError> {
        let (now, until) = (self.clock.now(), self.after(hold));
        let mut kept = self.kept();
        let mut due: Vec<_> =
            kept.rows.values_mut().filter(|row| row.connector.due_at.is_some_and(|due_at| due_at <= now)).collect();
        due.sort_by_key(|row| row.connector.due_at);
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let take = |row: &mut Row| {
            row.connector.due_at = Some(until);
            Due { connector: row.connector.clone(), failures: row.failures }
        };
        Ok(due.into_iter().map(take).collect())
    }

    async fn postpone(&self, postponed: Postponed) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let row = kept.row(postponed.owner, postponed.connector);
        if let Some(row) = row.filter(|row| row.connector.revision == postponed.revision) {
            row.connector.due_at = postponed.until;
            row.failures = postponed.failures;
        }
        Ok(())
    }

    async fn backlog(&self) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let kept = self.kept();
        let due = kept.rows.values().filter(|row| row.connector.due_at.is_some_and(|due_at| due_at <= now));
        Ok(due.count() as u64)
    }
}

#[async_trait]
impl Revocations for MemoryStore {
    async fn add(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.kept().wait(revocation, self.clock.now());
        Ok(())
    }

    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<DueRevocation>, StoreError> {
        let (now, until) = (self.clock.now(), self.after(hold));
        let mut kept = self.kept();
        let mut due: Vec<_> = kept.revocations.values_mut().filter(|waiting| waiting.due_at <= now).collect();
        due.sort_by_key(|waiting| waiting.due_at);
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let take = |waiting: &mut WaitingGrant| {
            waiting.due_at = until;
            DueRevocation { revocation: waiting.revocation.clone(), failures: waiting.failures }
        };
        Ok(due.into_iter().map(take).collect())
    }

    async fn postpone(&self, key: RevocationKey, until: Timestamp) -> Result<(), StoreError> {
        if let Some(waiting) = self.kept().revocations.get_mut(&(key.connector, key.generation)) {
            waiting.due_at = until;
            waiting.failures += 1;
        }
        Ok(())
    }

    async fn done(&self, key: RevocationKey) -> Result<(), StoreError> {
        self.kept().revocations.remove(&(key.connector, key.generation));
        Ok(())
    }
}

impl Changes for MemoryStore {
    fn follow(&self) -> ChangeStream {
        Box::pin(stream::unfold(self.changes.subscribe(), next))
    }
}

/// The next change for one who follows. When the store is gone, none comes any more.
async fn next(mut changes: Receiver<Noted>) -> Option<(Noted, Receiver<Noted>)> {
    let noted = match changes.recv().await {
        Ok(noted) => noted,
        Err(RecvError::Lagged(_)) => {
            changes = changes.resubscribe();
            Noted::Everything
        }
        Err(RecvError::Closed) => std::future::pending().await,
    };
    Some((noted, changes))
}

#[async_trait]
impl Registrations for MemoryStore {
    async fn reserve(&self, key: RegistrationKey, now: Timestamp, until: Timestamp) -> Result<Reservation, StoreError> {
        let mut kept = self.kept();
        match kept.registrations.get(&key) {
            Some(Slot::Kept(registration)) => return Ok(Reservation::Found(registration.clone())),
            Some(Slot::Reserved(until)) if *until > now => return Ok(Reservation::Busy),
            _ => {}
        }
        kept.registrations.insert(key, Slot::Reserved(until));
        Ok(Reservation::Yours)
    }

    async fn keep(&self, key: RegistrationKey, registration: Registration) -> Result<Registration, StoreError> {
        let mut kept = self.kept();
        if let Some(Slot::Kept(first)) = kept.registrations.get(&key) {
            return Ok(first.clone());
        }
        kept.registrations.insert(key, Slot::Kept(registration.clone()));
        Ok(registration)
    }

    async fn release(&self, key: RegistrationKey) -> Result<(), StoreError> {
        let mut kept = self.kept();
        if let Some(Slot::Reserved(_)) = kept.registrations.get(&key) {
            kept.registrations.remove(&key);
        }
        Ok(())
    }

    async fn forget(&self, key: RegistrationKey, client_id: String) -> Result<(), StoreError> {
        let mut kept = self.kept();
        let is_it = matches!(
            kept.registrations.get(&key),
            Some(Slot::Kept(registration)) if registration.client.credentials.id() == client_id
        );
        if is_it {
            kept.registrations.remove(&key);
        }
        Ok(())
    }
}

#[async_trait]
impl ApiTokens for MemoryStore {
    async fn insert(&self, bearer: &Secret, token: ApiToken) -> Result<(), StoreError> {
        let mut kept = self.kept();
        if kept.api_tokens.iter().any(|(other, kept)| other.matches(bearer) || kept.id == token.id) {
            return Err(StoreError::Inconsistent(Box::new(Duplicate)));
        }
        kept.api_tokens.push((bearer.clone(), token));
        kept.api_tokens.sort_by_key(|(_, token)| (token.created_at, token.id.as_uuid()));
        Ok(())
    }

    async fn find(&self, bearer: &Secret) -> Result<Option<ApiToken>, StoreError> {
        let kept = self.kept();
        let found = kept.api_tokens.iter().find(|(other, _)| other.matches(bearer));
        Ok(found.map(|(_, token)| token.clone()))
    }

    async fn list(&self) -> Result<Vec<ApiToken>, StoreError> {
        Ok(self.kept().api_tokens.iter().map(|(_, token)| token.clone()).collect())
    }

    async fn remove(&self, id: ApiTokenId) -> Result<bool, StoreError> {
        let mut kept = self.kept();
        let before = kept.api_tokens.len();
        kept.api_tokens.retain(|(_, token)| token.id != id);
        Ok(kept.api_tokens.len() < before)
    }
}
