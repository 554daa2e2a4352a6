//! Where connectors are kept.

use std::error::Error as StdError;

use async_trait::async_trait;
use connectors_domain::{ClientState, Connector, ConnectorId, Grant, OwnerId, StateHash};
use thiserror::Error;

/// The repository of connectors.
///
/// One connector is one unit: no call spans two of them, and a change is stored whole or not at all. What must be
/// atomic is one method. A caller that goes away in the middle of a call leaves nothing half done.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait Connectors: Send + Sync + 'static {
    /// Stores a new connector, if its owner has no connector with the same [`ServerUrl::key`] yet and fewer than
    /// `limit` connectors. Both hold however many inserts run at once.
    ///
    /// [`ServerUrl::key`]: connectors_domain::ServerUrl::key
    async fn insert(&self, connector: Connector, limit: u32) -> Result<(), InsertError>;

    /// The connector `id` of `owner`.
    async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Option<Connector>, StoreError>;

    /// The connector `id`, whoever it belongs to.
    async fn find_any(&self, id: ConnectorId) -> Result<Option<Connector>, StoreError>;

    /// The connector that waits for the authorization whose `state` has this hash, whoever it belongs to.
    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError>;

    /// The connectors of `owner` in order of their ids, a page at a time.
    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError>;

    /// The connectors of all users in order of their ids, a page at a time.
    async fn list_any(&self, query: ListQuery) -> Result<ConnectorPage, StoreError>;

    /// How many connectors of `owner` wait for the user's consent ([`ClientState::AuthRequired`]).
    async fn count_waiting(&self, owner: OwnerId) -> Result<u64, StoreError>;

    /// Stores `connector` in place of the stored one, if that still has the revision from which this one was made, and
    /// returns it with the next revision. Only state, account, metadata, client, its issuer, `updated_at` and `due_at` may differ.
    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError>;

    /// As [`Connectors::update`], for a connector that has given up `grant`, which an authorization server issued: in the
    /// same write the grant is added to the [`Revocations`](super::Revocations), due now.
    async fn retire(&self, connector: Connector, grant: Grant) -> Result<Connector, UpdateError>;

    /// Removes the connector `id` of `owner`, also if what is stored of it makes no sense, and returns what was removed. If
    /// it had a grant that an authorization server issued, in use or for recovery, that is added to the
    /// [`Revocations`](super::Revocations) in the same write, due now.
    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError>;

    /// Whether the store can be used now: reachable, and its migrations done.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// Which connectors to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// At most so many, at least one.
    pub limit: u32,
    /// Only those after this id.
    pub after: Option<ConnectorId>,
    /// Only those in this state.
    pub state: Option<ClientState>,
}

/// A page of connectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorPage {
    /// The connectors of this page.
    pub items: Vec<Connector>,
    /// How many there are on all pages.
    pub total: u64,
    /// The id after which the next page begins; `None` on the last page.
    pub next: Option<ConnectorId>,
}

/// What [`Connectors::remove`] has removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// This connector.
    Connector(Box<Connector>),
    /// A connector of which nothing is known, because what was stored of it made no sense. The store has logged why.
    Inconsistent,
    /// Nothing: there was no such connector.
    Nothing,
}

impl From<Option<Connector>> for Removed {
    fn from(connector: Option<Connector>) -> Self {
        connector.map_or(Self::Nothing, |connector| Self::Connector(Box::new(connector)))
    }
}

/// The store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It cannot be used now; the same call may succeed later. Nothing was changed, or the change is whole.
    #[error("the database cannot be used now")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// What is stored makes no sense, or the store has a fault; trying again does not help.
    #[error("the stored data make no sense")]
    Inconsistent(#[source] Box<dyn StdError + Send + Sync>),
}

/// A new connector was not stored.
#[derive(Debug, Error)]
pub enum InsertError {
    /// The owner has a connector for that server already.
    #[error("the owner has a connector for this server")]
    Duplicate,
    /// The owner has as many connectors as the limit allows.
    #[error("the owner has as many connectors as allowed")]
    LimitReached,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A changed connector was not stored.
#[derive(Debug, Error)]
pub enum UpdateError {
    /// The stored connector has another revision, or is gone.
    #[error("the connector has changed meanwhile")]
    Conflict,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
