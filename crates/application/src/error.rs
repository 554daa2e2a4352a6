//! What can go wrong in a use case, told apart by what the caller can do about it.

use std::time::Duration;

use connectors_domain::DisconnectReason;
use thiserror::Error;

use crate::ports::{InsertError, StoreError, UpdateError};

/// A use case did not do what it was asked. The texts are for callers: they say what is wrong and what to do.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no such connector, or it is another user's.
    #[error("There is no such connector.")]
    NotFound,
    /// The request makes no sense as it is.
    #[error("{0}")]
    BadRequest(String),
    /// A field is out of bounds.
    #[error("{field}: {message}")]
    Unprocessable {
        /// The field, as it is called on the wire.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Something else stands in the way.
    #[error("{0}")]
    Conflict(Conflict),
    /// A limit is reached.
    #[error("{0}")]
    LimitReached(String),
    /// A limit is reached that frees itself with time.
    #[error("{text} Try again later.")]
    TooMany {
        /// Which limit.
        text: String,
        /// After what time the call may be tried again.
        retry_after: Duration,
    },
    /// The connector could not be connected, and is disconnected now for this reason.
    #[error("{}", .0.message())]
    ConnectFailed(DisconnectReason),
    /// The store cannot be used now.
    #[error(
        "The database cannot be used now. Try again in a moment; if it stays so, the operator finds the cause in the log."
    )]
    Unavailable(#[source] StoreError),
    /// A fault of the service.
    #[error("The service has met a fault of its own. The request id finds it in the log.")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Conflict {
    /// The user has a connector for that server.
    #[error("You already have a connector for this URL. Use that one, or delete it first.")]
    Duplicate,
    /// Somebody else changed the connector at the same time.
    #[error("The connector was changed by another request at the same time. Read it and try again.")]
    Changed,
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => Self::Unavailable(error),
            StoreError::Inconsistent(_) => Self::Internal(Box::new(error)),
        }
    }
}

impl From<InsertError> for Error {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::Duplicate => Self::Conflict(Conflict::Duplicate),
            InsertError::LimitReached => Self::LimitReached(
                "You have as many connectors as this service allows one user. Delete one that you do not need."
                    .to_owned(),
            ),
            InsertError::Store(error) => error.into(),
        }
    }
}

impl From<UpdateError> for Error {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Conflict => Self::Conflict(Conflict::Changed),
            UpdateError::Store(error) => error.into(),
        }
    }
}
