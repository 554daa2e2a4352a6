//! The bodies that come back from MCP servers, on their way to the client.
//!
//! Bytes pass as they come. Streams of events get a comment after a while of silence, so that nothing on the way takes
//! them for dead, and end when the service stops.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{BodyError, ByteStream};
use connectors_domain::ConnectorId;
use futures_core::Stream;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, Sleep, sleep};

/// A comment of server-sent events: clients ignore it (WHATWG HTML, section 9.2.6).
const COMMENT: Bytes = Bytes::from_static(b":\n");

/// Counts a body as open while it lives, and logs it if it breaks off.
pub(crate) struct Counted {
    stream: ByteStream,
    open: Gauge,
    connector: ConnectorId,
}

impl Counted {
    pub(crate) fn new(stream: ByteStream, open: Gauge, connector: ConnectorId) -> Self {
        open.inc();
        Self { stream, open, connector }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl Stream for Counted {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.stream.as_mut().poll_next(context);
        if let Poll::Ready(Some(Err(error))) = &polled {
            tracing::info!(connector = %self.connector, %error, "an answer broke off");
        }
        polled
    }
}

/// A stream of server-sent events.
pub(crate) struct EventStream<S> {
    stream: Pin<Box<S>>,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    silence: Pin<Box<Sleep>>,
    keep_alive: Duration,
    /// Whether the last byte ended a line: only there may a comment stand. A lone carriage return does not count, for
    /// the line feed that belongs to it may be on its way.
    at_line_start: bool,
}

impl<S> EventStream<S> {
    /// `stopping` resolves when the service stops.
    pub(crate) fn new(stream: S, keep_alive: Duration, stopping: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            stream: Box::pin(stream),
            stopping: Box::pin(stopping),
            silence: Box::pin(sleep(keep_alive)),
            keep_alive,
            at_line_start: true,
        }
    }
}

impl<S: Stream<Item = Result<Bytes, BodyError>>> Stream for EventStream<S> {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        match this.stream.as_mut().poll_next(context) {
            Poll::Ready(Some(Ok(chunk))) => {
                if let Some(last) = chunk.last() {
                    this.at_line_start = *last == b'\n';
                }
                this.silence.as_mut().reset(Instant::now() + this.keep_alive);
                return Poll::Ready(Some(Ok(chunk)));
            }
            Poll::Ready(end) => return Poll::Ready(end),
            Poll::Pending => {}
        }
        if this.stopping.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(BodyError::Broken)));
        }
        while this.silence.as_mut().poll(context).is_ready() {
            this.silence.as_mut().reset(Instant::now() + this.keep_alive);
            if this.at_line_start {
                return Poll::Ready(Some(Ok(COMMENT)));
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::sync::mpsc;

    use super::*;

    fn events() -> (mpsc::UnboundedSender<Result<Bytes, BodyError>>, impl Stream<Item = Result<Bytes, BodyError>>) {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        (sender, futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_comment_breaks_the_silence_and_never_a_line() {
        let (sender, stream) = events();
        let mut stream = EventStream::new(stream, Duration::from_secs(15), std::future::pending());
        let start = Instant::now();
        assert_eq!(stream.next().await, Some(Ok(COMMENT)));
        assert_eq!(start.elapsed().as_secs(), 15);

        sender.send(Ok(Bytes::from_static(b"data: half a li"))).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "data: half a li");
        let silent = tokio::time::timeout(Duration::from_secs(100), stream.next()).await;
        assert!(silent.is_err());

        sender.send(Ok(Bytes::from_static(b"ne\r\n\r\n"))).unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap(), "ne\r\n\r\n");
        let start = Instant::now();
        assert_eq!(stream.next().await, Some(Ok(COMMENT)));
        assert_eq!(start.elapsed().as_secs(), 15);

        sender.send(Err(BodyError::Broken)).unwrap();
        assert_eq!(stream.next().await, Some(Err(BodyError::Broken)));
        drop(sender);
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_the_service_stops() {
        let (_sender, stream) = events();
        let stopping = tokio::time::sleep(Duration::from_secs(5));
        let mut stream = EventStream::new(stream, Duration::from_secs(15), stopping);
        assert_eq!(stream.next().await, Some(Err(BodyError::Broken)));
    }

    #[tokio::test]
    async fn open_bodies_are_counted() {
        let open = Gauge::default();
        let (_sender, stream) = events();
        let connector = ConnectorId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]);
        let counted = Counted::new(Box::pin(stream), open.clone(), connector);
        assert_eq!(open.get(), 1);
        drop(counted);
        assert_eq!(open.get(), 0);
    }
}
