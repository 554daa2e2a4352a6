//! How much each user may do, so that no user does it at the cost of the others.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use connectors_domain::{ClientState, Connector, OwnerId};
use futures_core::Stream;

use crate::pace::Pace;
use crate::ports::{BodyError, ByteStream};
use crate::{ConnectorService, Error, audit};

/// How much each user may do. What is counted in the database holds for all processes together, the rest for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserLimits {
    /// Connectors, in the database.
    pub connectors: u32,
    /// Connectors that wait for the user's consent, in the database; `None` for any number.
    pub waiting: Option<NonZeroU32>,
    /// Connects begun in a minute; `None` for any number.
    pub connects_per_minute: Option<NonZeroU32>,
    /// Streams of events that may be open when another one is asked for by GET; `None` for any number. Answers to calls count as
    /// well, and are never refused.
    pub streams: Option<NonZeroU32>,
}

impl UserLimits {
    /// So many connectors, and as much of everything else as users like.
    pub const fn of_connectors(connectors: u32) -> Self {
        Self { connectors, waiting: None, connects_per_minute: None, streams: None }
    }
}

/// What users have done lately, and have open.
pub(crate) struct Limits {
    connects: Option<Pace>,
    streams: Arc<OpenStreams>,
}

/// The streams that each user has open.
struct OpenStreams {
    limit: Option<NonZeroU32>,
    open: Mutex<HashMap<OwnerId, u32>>,
}

/// One of the streams that a user may have open, until it is dropped.
pub(crate) struct StreamPlace {
    owner: OwnerId,
    streams: Arc<OpenStreams>,
}

impl Limits {
    pub(crate) fn new(limits: UserLimits) -> Self {
        Self {
            connects: limits.connects_per_minute.map(Pace::per_minute),
            streams: Arc::new(OpenStreams { limit: limits.streams, open: Mutex::default() }),
        }
    }

    /// Counts a connect of `owner`.
    pub(crate) fn connect(&self, owner: OwnerId) -> Result<(), Error> {
        let Some(connects) = &self.connects else { return Ok(()) };
        connects.take(owner).map_err(|retry_after| {
            audit::refused_limit(owner, "connects");
            let text = "You have begun as many connects as this service allows one user in a minute.";
            Error::TooMany { text: text.to_owned(), retry_after }
        })
    }

    /// A place for one more stream of `owner`.
    pub(crate) fn stream(&self, owner: OwnerId) -> Result<StreamPlace, Error> {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(owner).or_default();
        if self.streams.limit.is_some_and(|limit| *count >= limit.get()) {
            drop(open);
            audit::refused_limit(owner, "streams");
            let text = "You have as many streams open as this service allows one user. Close one that you do not need.";
            return Err(Error::TooMany { text: text.to_owned(), retry_after: RETRY_STREAM });
        }
        *count += 1;
        drop(open);
        Ok(StreamPlace { owner, streams: Arc::clone(&self.streams) })
    }

    /// A place for the answer to a call, which is a stream: it counts, however many there are.
    pub(crate) fn answer(&self, owner: OwnerId) -> StreamPlace {
        *self.streams.open.lock().unwrap_or_else(PoisonError::into_inner).entry(owner).or_default() += 1;
        StreamPlace { owner, streams: Arc::clone(&self.streams) }
    }
}

/// A stream that holds its place.
struct Held {
    stream: ByteStream,
    _place: StreamPlace,
}

impl StreamPlace {
    /// Keeps the place for as long as `stream` lives.
    pub(crate) fn held_by(self, stream: ByteStream) -> ByteStream {
        Box::pin(Held { stream, _place: self })
    }
}

impl Stream for Held {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(context)
    }
}

/// After what time a stream may be opened again. What frees a place is the caller's own doing, so any time is a guess.
const RETRY_STREAM: Duration = Duration::from_secs(10);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.owner);
            }
        }
    }
}

impl ConnectorService {
    /// Whether the user of `connector` may be asked for one more consent.
    pub(crate) async fn may_wait(&self, connector: &Connector) -> Result<(), Error> {
        let Some(limit) = self.config.limits.waiting else { return Ok(()) };
        // It waits already, or goes on serving whatever comes of the connect.
        if matches!(connector.client_state(), ClientState::AuthRequired | ClientState::Connected) {
            return Ok(());
        }
        if self.ports.connectors.count_waiting(connector.owner).await? < u64::from(limit.get()) {
            return Ok(());
        }
        audit::refused_limit(connector.owner, "waiting");
        Err(Error::LimitReached(
            "As many of your connectors wait for your consent as this service allows one user. Finish one, or disconnect \
             it, first."
                .to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn owner(number: u128) -> OwnerId {
        OwnerId::from_uuid(Uuid::from_u128(number))
    }

    #[test]
    fn a_user_has_so_many_streams_open_and_no_more() {
        let streams = NonZeroU32::new(2);
        let limits = Limits::new(UserLimits { streams, ..UserLimits::of_connectors(1) });
        let places = [limits.stream(owner(1)).unwrap(), limits.stream(owner(1)).unwrap()];
        assert!(matches!(limits.stream(owner(1)), Err(Error::TooMany { .. })));
        let other = limits.stream(owner(2)).unwrap();
        drop(places);
        drop(limits.stream(owner(1)).unwrap());
        drop(other);
        assert!(limits.streams.open.lock().unwrap().is_empty());
    }
}
