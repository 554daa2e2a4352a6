//! Faults at chosen moments, for tests of what a use case does when its store fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{
    Agenda, ApiTokens, ChangeStream, Changes, Claim, Claimed, ConnectorPage, Connectors, Due, DueRevocation,
    InsertError, ListQuery, Postponed, Registration, RegistrationKey, Registrations, Removed, RenewalKey, Renewals,
    Reservation, Revocation, RevocationKey, Revocations, StoreError, UpdateError,
};
use connectors_domain::{ApiToken, ApiTokenId, Connector, ConnectorId, Grant, OwnerId, Secret, StateHash};
use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

/// The methods of the store's ports that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`Connectors::insert`].
    Insert,
    /// [`Connectors::find`].
    Find,
    /// [`Connectors::find_any`].
    FindAny,
    /// [`Connectors::find_by_state`].
    FindByState,
    /// [`Connectors::list`].
    List,
    /// [`Connectors::list_any`].
    ListAny,
    /// [`Connectors::count_waiting`].
    CountWaiting,
    /// [`Connectors::update`].
    Update,
    /// [`Connectors::retire`].
    Retire,
    /// [`Connectors::remove`].
    Remove,
    /// [`Connectors::ready`].
    Ready,
    /// [`Renewals::claim`].
    Claim,
    /// [`Renewals::release`].
    Release,
    /// [`Agenda::take_due`].
    TakeDue,
    /// [`Agenda::postpone`].
    Postpone,
    /// [`Agenda::backlog`].
    Backlog,
    /// [`Revocations::add`].
    AddRevocation,
    /// [`Revocations::take_due`].
    TakeDueRevocations,
    /// [`Revocations::postpone`].
    PostponeRevocation,
    /// [`Revocations::done`].
    RevocationDone,
    /// [`Registrations::reserve`].
    Reserve,
    /// [`Registrations::keep`].
    Keep,
    /// [`Registrations::release`].
    ReleaseReservation,
    /// [`Registrations::forget`].
    Forget,
    /// [`ApiTokens::insert`].
    InsertApiToken,
    /// [`ApiTokens::find`].
    FindApiToken,
    /// [`ApiTokens::list`].
    ListApiTokens,
    /// [`ApiTokens::remove`].
    RemoveApiToken,
}

/// On which side of the work a fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing is done.
    Before,
    /// It is done, but the caller is told that it failed.
    After,
}

/// The store that [`Failing`] pretends to be cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a fault was injected")]
pub struct InjectedFault;

/// Passes calls on to another store, except those that a test has doomed: they are answered with
/// [`StoreError::Unavailable`]. Clones share what is doomed and counted.
#[derive(Debug, Clone, Default)]
pub struct Failing<S> {
    inner: S,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    /// How often each method was called.
    calls: HashMap<Method, usize>,
    /// The calls of a method that fail, counted from one.
    doomed: HashMap<(Method, usize), Moment>,
    /// The methods of which every call fails.
    down: HashMap<Method, Moment>,
}

impl<S> Failing<S> {
    /// Passes every call on to `inner`, for now.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// The store behind it.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    /// Dooms the `nth` call of `method` from now on; the next one is the first.
    pub fn fail(&self, method: Method, nth: usize, moment: Moment) {
        let mut plan = self.plan();
        let number = plan.calls.get(&method).copied().unwrap_or(0) + nth;
        plan.doomed.insert((method, number), moment);
    }

    /// Dooms every call of `method` until [`Failing::recover`].
    pub fn fail_always(&self, method: Method, moment: Moment) {
        self.plan().down.insert(method, moment);
    }

    /// Dooms nothing any more.
    pub fn recover(&self) {
        let mut plan = self.plan();
        plan.doomed.clear();
        plan.down.clear();
    }

    /// How often `method` was called.
    pub fn calls(&self, method: Method) -> usize {
        self.plan().calls.get(&method).copied().unwrap_or(0)
    }

    async fn call<T, E: From<StoreError>>(
        &self,
        method: Method,
        work: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        let fault = self.plan().count(method);
        match fault {
            None => return work.await,
            Some(Moment::Before) => {}
            Some(Moment::After) => drop(work.await?),
        }
        Err(StoreError::Unavailable(Box::new(InjectedFault)).into())
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Counts a call; says when it fails, if it does.
    fn count(&mut self, method: Method) -> Option<Moment> {
        let calls = self.calls.entry(method).or_default();
        *calls += 1;
        self.doomed.remove(&(method, *calls)).or_else(|| self.down.get(&method).copied())
    }
}

#[async_trait]
impl<S: Connectors> Connectors for Failing<S> {
    async fn insert(&self, connector: Connector, limit: u32) -> Result<(), InsertError> {
        self.call(Method::Insert, self.inner.insert(connector, limit)).await
    }

    async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        self.call(Method::Find, self.inner.find(owner, id)).await
    }

    async fn find_any(&self, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        self.call(Method::FindAny, self.inner.find_any(id)).await
    }

    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError> {
        self.call(Method::FindByState, self.inner.find_by_state(state)).await
    }

    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.call(Method::List, self.inner.list(owner, query)).await
    }

    async fn list_any(&self, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.call(Method::ListAny, self.inner.list_any(query)).await
    }

    async fn count_waiting(&self, owner: OwnerId) -> Result<u64, StoreError> {
        self.call(Method::CountWaiting, self.inner.count_waiting(owner)).await
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        self.call(Method::Update, self.inner.update(connector)).await
    }

    async fn retire(&self, connector: Connector, grant: Grant) -> Result<Connector, UpdateError> {
        self.call(Method::Retire, self.inner.retire(connector, grant)).await
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        self.call(Method::Remove, self.inner.remove(owner, id)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.call(Method::Ready, self.inner.ready()).await
    }
}

#[async_trait]
impl<S: Renewals> Renewals for Failing<S> {
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        self.call(Method::Claim, self.inner.claim(claim)).await
    }

    async fn release(&self, key: RenewalKey, holder: Uuid, unspent: bool) -> Result<(), StoreError> {
        self.call(Method::Release, self.inner.release(key, holder, unspent)).await
    }
}

#[async_trait]
impl<S: Agenda> Agenda for Failing<S> {
    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<Due>, StoreError> {
        self.call(Method::TakeDue, self.inner.take_due(limit, hold)).await
    }

    async fn postpone(&self, postponed: Postponed) -> Result<(), StoreError> {
        self.call(Method::Postpone, self.inner.postpone(postponed)).await
    }

    async fn backlog(&self) -> Result<u64, StoreError> {
        self.call(Method::Backlog, self.inner.backlog()).await
    }
}

#[async_trait]
impl<S: Revocations> Revocations for Failing<S> {
    async fn add(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.call(Method::AddRevocation, self.inner.add(revocation)).await
    }

    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<DueRevocation>, StoreError> {
        self.call(Method::TakeDueRevocations, self.inner.take_due(limit, hold)).await
    }

    async fn postpone(&self, key: RevocationKey, until: Timestamp) -> Result<(), StoreError> {
        self.call(Method::PostponeRevocation, self.inner.postpone(key, until)).await
    }

    async fn done(&self, key: RevocationKey) -> Result<(), StoreError> {
        self.call(Method::RevocationDone, self.inner.done(key)).await
    }
}

#[async_trait]
impl<S: Registrations> Registrations for Failing<S> {
    async fn reserve(&self, key: RegistrationKey, now: Timestamp, until: Timestamp) -> Result<Reservation, StoreError> {
        self.call(Method::Reserve, self.inner.reserve(key, now, until)).await
    }

    async fn keep(&self, key: RegistrationKey, registration: Registration) -> Result<Registration, StoreError> {
        self.call(Method::Keep, self.inner.keep(key, registration)).await
    }

    async fn release(&self, key: RegistrationKey) -> Result<(), StoreError> {
        self.call(Method::ReleaseReservation, self.inner.release(key)).await
    }

    async fn forget(&self, key: RegistrationKey, client_id: String) -> Result<(), StoreError> {
        self.call(Method::Forget, self.inner.forget(key, client_id)).await
    }
}

#[async_trait]
impl<S: ApiTokens> ApiTokens for Failing<S> {
    async fn insert(&self, bearer: &Secret, token: ApiToken) -> Result<(), StoreError> {
        self.call(Method::InsertApiToken, self.inner.insert(bearer, token)).await
    }

    async fn find(&self, bearer: &Secret) -> Result<Option<ApiToken>, StoreError> {
        self.call(Method::FindApiToken, self.inner.find(bearer)).await
    }

    async fn list(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.call(Method::ListApiTokens, self.inner.list()).await
    }

    async fn remove(&self, id: ApiTokenId) -> Result<bool, StoreError> {
        self.call(Method::RemoveApiToken, self.inner.remove(id)).await
    }
}

/// Whoever follows is told all the same: no fault of this kind has an answer.
impl<S: Changes> Changes for Failing<S> {
    fn follow(&self) -> ChangeStream {
        self.inner.follow()
    }
}

#[cfg(test)]
mod tests {
    use connectors_application::ports::{Connectors, InsertError};
    use connectors_domain::{Connector, ConnectorId, OwnerId, ServerUrl};
    use jiff::Timestamp;

    use super::{Failing, Method, Moment};
    use crate::MemoryStore;

    fn connector() -> Connector {
        let id = ConnectorId::new(Timestamp::UNIX_EPOCH, [0; 10]);
        let url = ServerUrl::parse("https://host.example").unwrap();
        Connector::new(id, OwnerId::local(), url, None, None, Timestamp::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn a_doomed_call_fails_before_or_after_it_is_done() {
        let store = Failing::new(MemoryStore::new());
        let connector = connector();
        store.fail(Method::Insert, 1, Moment::Before);
        store.fail(Method::Insert, 2, Moment::After);
        assert!(matches!(store.insert(connector.clone(), 1).await, Err(InsertError::Store(_))));
        assert!(store.inner().all().is_empty());
        assert!(matches!(store.insert(connector.clone(), 1).await, Err(InsertError::Store(_))));
        assert_eq!(store.inner().all(), std::slice::from_ref(&connector));
        assert!(matches!(store.insert(connector, 1).await, Err(InsertError::Duplicate)));
        assert_eq!(store.calls(Method::Insert), 3);
    }

    #[tokio::test]
    async fn a_method_that_is_down_comes_back() {
        let store = Failing::new(MemoryStore::new());
        store.fail_always(Method::Ready, Moment::Before);
        assert!(store.ready().await.is_err());
        assert!(store.ready().await.is_err());
        store.recover();
        assert!(store.ready().await.is_ok());
    }
}
