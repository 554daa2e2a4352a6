//! Faults at chosen moments, for tests of what a use case does when its store fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use connectors_application::ports::{
    ConnectorPage, Connectors, InsertError, ListQuery, Removed, StoreError, UpdateError,
};
use connectors_domain::{Connector, ConnectorId, OwnerId, StateHash};
use thiserror::Error;

/// The methods of [`Connectors`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`Connectors::insert`].
    Insert,
    /// [`Connectors::find`].
    Find,
    /// [`Connectors::find_by_state`].
    FindByState,
    /// [`Connectors::list`].
    List,
    /// [`Connectors::update`].
    Update,
    /// [`Connectors::remove`].
    Remove,
    /// [`Connectors::ready`].
    Ready,
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

    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError> {
        self.call(Method::FindByState, self.inner.find_by_state(state)).await
    }

    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.call(Method::List, self.inner.list(owner, query)).await
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        self.call(Method::Update, self.inner.update(connector)).await
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        self.call(Method::Remove, self.inner.remove(owner, id)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.call(Method::Ready, self.inner.ready()).await
    }
}

#[cfg(test)]
mod tests {
    use connectors_domain::ServerUrl;
    use jiff::Timestamp;

    use super::*;
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
