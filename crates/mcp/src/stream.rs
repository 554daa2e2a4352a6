//! A body on its way through, watched for standing still. Not a buffer: what comes is handed on at once, and nothing is
//! read that nobody has asked for.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::BodyError;
use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Hands on what `S` yields, and ends with an error where `S` does or nothing comes for `idle`.
///
/// Time counts only while somebody waits, so a slow reader is never taken for a slow server. After an error the stream is
/// over, and what it held of the connection is given up at once.
pub(crate) struct Watched<S> {
    /// `None` once the stream is over.
    source: Option<S>,
    idle: Option<Duration>,
    /// When the server's time is over; `None` while nobody waits for it.
    deadline: Option<Instant>,
    /// Made when it is first waited for: most bodies are there before that. It is not wound up anew for each chunk, but
    /// when it goes off too early.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(source: S, idle: Option<Duration>) -> Self {
        Self { source: Some(source), idle, deadline: None, alarm: None }
    }

    fn over(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.source = None;
        self.alarm = None;
        Poll::Ready(Some(Err(error)))
    }

    /// Whether nothing has come for too long. Otherwise the task is woken when that may be so.
    fn stands_still(&mut self, cx: &mut Context<'_>) -> bool {
        // An idle time beyond what an instant can hold is for ever.
        let Some(limit) = self.idle else { return false };
        let Some(deadline) = self.deadline.or_else(|| Instant::now().checked_add(limit)) else { return false };
        self.deadline = Some(deadline);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        while alarm.as_mut().poll(cx).is_ready() {
            if alarm.deadline() >= deadline {
                return true;
            }
            alarm.as_mut().reset(deadline);
        }
        false
    }
}

impl<S, E> Stream for Watched<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(source) = this.source.as_mut() else { return Poll::Ready(None) };
        match Pin::new(source).poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => {
                this.deadline = None;
                Poll::Ready(Some(Ok(bytes)))
            }
            Poll::Ready(Some(Err(_))) => this.over(BodyError::Broken),
            Poll::Ready(None) => {
                this.source = None;
                Poll::Ready(None)
            }
            Poll::Pending if this.stands_still(cx) => this.over(BodyError::TimedOut),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::StreamExt as _;
    use tokio::sync::mpsc;

    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    /// A body that the test sends.
    struct Fed(mpsc::UnboundedReceiver<Result<Bytes, ()>>, #[expect(dead_code, reason = "counts who lives")] Arc<()>);

    impl Stream for Fed {
        type Item = Result<Bytes, ()>;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.poll_recv(cx)
        }
    }

    fn watched(idle: Option<Duration>) -> (mpsc::UnboundedSender<Result<Bytes, ()>>, Watched<Fed>, Arc<()>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let alive = Arc::new(());
        (sender, Watched::new(Fed(receiver, Arc::clone(&alive)), idle), alive)
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_time_is_exact_and_starts_anew_with_each_chunk() {
        let (sender, mut body, _) = watched(Some(IDLE));
        for _ in 0..5 {
            let start = Instant::now();
            let almost = IDLE.checked_sub(Duration::from_millis(1)).unwrap();
            let sending = sender.clone();
            tokio::spawn(async move {
                tokio::time::sleep(almost).await;
                sending.send(Ok(Bytes::from_static(b"x"))).unwrap();
            });
            assert_eq!(body.next().await, Some(Ok(Bytes::from_static(b"x"))));
            assert_eq!(start.elapsed(), almost);
        }
        let start = Instant::now();
        assert_eq!(body.next().await, Some(Err(BodyError::TimedOut)));
        assert!((IDLE..IDLE + Duration::from_millis(2)).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert_eq!(body.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_is_not_a_slow_server() {
        let (sender, mut body, _) = watched(Some(IDLE));
        for _ in 0..3 {
            sender.send(Ok(Bytes::from_static(b"x"))).unwrap();
            assert!(body.next().await.unwrap().is_ok());
            assert!(futures_util::poll!(body.next()).is_pending());
            sender.send(Ok(Bytes::from_static(b"y"))).unwrap();
            tokio::time::sleep(IDLE * 3).await;
            assert!(body.next().await.unwrap().is_ok());
            tokio::time::sleep(IDLE * 3).await;
        }
        drop(sender);
        assert_eq!(body.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_silence_is_no_fault() {
        for idle in [None, Some(Duration::MAX)] {
            let (sender, mut body, _) = watched(idle);
            let year = Duration::from_hours(24 * 365);
            assert!(tokio::time::timeout(year, body.next()).await.is_err());
            sender.send(Ok(Bytes::from_static(b"x"))).unwrap();
            assert!(body.next().await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_ends_the_stream_and_gives_the_connection_up() {
        let (sender, mut body, alive) = watched(Some(IDLE));
        sender.send(Err(())).unwrap();
        assert_eq!(body.next().await, Some(Err(BodyError::Broken)));
        assert_eq!(Arc::strong_count(&alive), 1);
        assert_eq!(body.next().await, None);

        let (_sender, mut body, alive) = watched(Some(IDLE));
        assert_eq!(body.next().await, Some(Err(BodyError::TimedOut)));
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
