//! Numbers that a test waits for, such as how many connections are open.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// A number that goes up and down and can be waited for.
#[derive(Clone, Debug)]
pub(crate) struct Gauge {
    what: &'static str,
    value: Arc<watch::Sender<usize>>,
}

/// Counts as one for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<watch::Sender<usize>>);

/// What was waited for did not come in time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotReached {
    /// What was counted.
    pub what: &'static str,
    /// The number that was waited for.
    pub wanted: usize,
    /// The number at the end.
    pub last: usize,
    /// For how long it was waited.
    pub waited: Duration,
}

impl fmt::Display for NotReached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, wanted, last, waited } = self;
        write!(formatter, "waited {waited:?} for {wanted} {what}, there were {last}")
    }
}

impl std::error::Error for NotReached {}

impl Gauge {
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, value: Arc::new(watch::Sender::new(0)) }
    }

    pub(crate) fn get(&self) -> usize {
        *self.value.borrow()
    }

    pub(crate) fn enter(&self) -> Counted {
        self.value.send_modify(|value| *value += 1);
        Counted(Arc::clone(&self.value))
    }

    pub(crate) fn add(&self) {
        self.value.send_modify(|value| *value += 1);
    }

    pub(crate) fn set(&self, to: usize) {
        self.value.send_replace(to);
    }

    /// Waits until `reached` holds for the number; answers how long it took.
    pub(crate) async fn wait(
        &self,
        wanted: usize,
        reached: impl Fn(usize) -> bool,
        limit: Duration,
    ) -> Result<Duration, NotReached> {
        let start = Instant::now();
        let mut receiver = self.value.subscribe();
        let outcome = tokio::time::timeout(limit, receiver.wait_for(|value| reached(*value))).await;
        match outcome {
            Ok(Ok(_)) => Ok(start.elapsed()),
            _ => Err(NotReached { what: self.what, wanted, last: self.get(), waited: start.elapsed() }),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|value| *value -= 1);
    }
}
