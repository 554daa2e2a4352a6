//! Changes that other processes make.

use std::pin::Pin;

use connectors_domain::ConnectorId;
use futures_core::Stream;

/// What the processes that share a store tell each other.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Changes: Send + Sync + 'static {
    /// The changes that other processes make from now on; those of this process may be among them. It never ends. A store
    /// that no other process can use tells nothing.
    fn follow(&self) -> ChangeStream;
}

/// Changes as they come.
pub type ChangeStream = Pin<Box<dyn Stream<Item = Noted> + Send>>;

/// What was noted of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// This connector was changed or removed.
    Connector(ConnectorId),
    /// Changes may have been missed: any connector may have changed.
    Everything,
}
