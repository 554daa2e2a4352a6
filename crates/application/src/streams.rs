//! The streams of events that are open through connectors, so that they end with the right to use the server.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use connectors_domain::{ConnectorId, OwnerId, Revision};
use futures_core::Stream;
use tokio::sync::watch;

use crate::ports::{BodyError, ByteStream};

/// Who follows which connector.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<ConnectorId, Entry>>>);

/// The streams through one connector.
struct Entry {
    consent: Consent,
    /// When it is dropped, all that follow it end.
    sender: watch::Sender<()>,
}

/// The consent with which a connector's streams were opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Consent {
    /// To whom the connector belongs.
    pub(crate) owner: OwnerId,
    /// Since which revision it is used with that consent.
    pub(crate) since: Revision,
}

impl Streams {
    /// Lets `stream` end with an error as soon as the connector `id` is [cut](Streams::cut). Streams that were opened with
    /// another consent end at once.
    pub(crate) fn follow(&self, id: ConnectorId, consent: Consent, stream: ByteStream) -> ByteStream {
        let entry = || Entry { consent, sender: watch::channel(()).0 };
        let mut entries = self.lock();
        let followed = entries.entry(id).or_insert_with(entry);
        if followed.consent.since < consent.since {
            *followed = entry();
        }
        // One of a consent that is over ends before it begins.
        let receiver = if followed.consent == consent { followed.sender.subscribe() } else { watch::channel(()).1 };
        drop(entries);
        let mut followed = Followed { id, receiver, streams: self.clone() };
        let cut = async move {
            // Nothing is ever sent: it ends when the sender is dropped.
            while followed.receiver.changed().await.is_ok() {}
        };
        Box::pin(UntilCut { stream, cut: Box::pin(cut) })
    }

    /// Ends the streams through the connector `id`.
    pub(crate) fn cut(&self, id: ConnectorId) {
        self.lock().remove(&id);
    }

    /// The consent of the streams that are open through the connector `id`.
    pub(crate) fn open(&self, id: ConnectorId) -> Option<Consent> {
        self.lock().get(&id).map(|entry| entry.consent)
    }

    /// The connectors through which streams are open.
    pub(crate) fn connectors(&self) -> Vec<ConnectorId> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectorId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One stream's hold on its connector's entry; the last one takes the entry away.
struct Followed {
    id: ConnectorId,
    receiver: watch::Receiver<()>,
    streams: Streams,
}

impl Drop for Followed {
    fn drop(&mut self) {
        let mut entries = self.streams.lock();
        // An entry that was cut is gone already; the one in its place has followers of its own.
        if entries
            .get(&self.id)
            .is_some_and(|entry| entry.sender.receiver_count() <= 1 && self.receiver.has_changed().is_ok())
        {
            entries.remove(&self.id);
        }
    }
}

struct UntilCut {
    stream: ByteStream,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Stream for UntilCut {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // First, so that a stream that never pauses ends as well.
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Broken)));
        }
        self.stream.as_mut().poll_next(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, poll};
    use jiff::Timestamp;

    use super::*;

    fn id(number: u8) -> ConnectorId {
        ConnectorId::new(Timestamp::UNIX_EPOCH, [number; 10])
    }

    fn consent(revision: i64) -> Consent {
        Consent { owner: OwnerId::local(), since: Revision::from_number(revision) }
    }

    fn silent() -> ByteStream {
        Box::pin(futures_util::stream::pending())
    }

    #[tokio::test]
    async fn a_cut_ends_the_streams_of_one_connector() {
        let streams = Streams::default();
        let endless = Box::pin(futures_util::stream::repeat_with(|| Ok(Bytes::from_static(b"x"))));
        let mut followed = [streams.follow(id(1), consent(1), silent()), streams.follow(id(1), consent(1), endless)];
        let mut other = streams.follow(id(2), consent(1), silent());
        assert!(poll!(followed[0].next()).is_pending());
        assert!(followed[1].next().await.unwrap().is_ok());
        streams.cut(id(1));
        for stream in &mut followed {
            assert_eq!(stream.next().await, Some(Err(BodyError::Broken)));
        }
        assert!(poll!(other.next()).is_pending());
    }

    #[tokio::test]
    async fn another_consent_ends_the_streams_of_the_one_before() {
        let streams = Streams::default();
        let mut before = streams.follow(id(1), consent(1), silent());
        let mut after = streams.follow(id(1), consent(2), silent());
        assert_eq!(before.next().await, Some(Err(BodyError::Broken)));
        drop(before);
        assert!(poll!(after.next()).is_pending());
        let mut late = streams.follow(id(1), consent(1), silent());
        assert_eq!(late.next().await, Some(Err(BodyError::Broken)));
        drop(late);
        assert!(poll!(after.next()).is_pending());
        assert_eq!((streams.open(id(1)), streams.connectors()), (Some(consent(2)), vec![id(1)]));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_streams_that_have_ended() {
        let streams = Streams::default();
        let (first, second) =
            (streams.follow(id(1), consent(1), silent()), streams.follow(id(1), consent(1), silent()));
        drop(first);
        assert_eq!(streams.lock().len(), 1);
        streams.cut(id(1));
        let third = streams.follow(id(1), consent(1), silent());
        drop(second);
        assert_eq!(streams.lock().len(), 1, "the entry is the third stream's");
        drop(third);
        assert!(streams.lock().is_empty());
    }
}
