//! A clock that stands still until a test moves it, and one that does not.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connectors_application::ports::Clock;
use jiff::{SignedDuration, Timestamp};

/// Shows the time that a test has set. Clones show the same time.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Timestamp>>);

impl ManualClock {
    /// A clock that shows `now`, cut to whole microseconds as the port promises.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(whole_micros(now))))
    }

    /// Moves the clock to `now`, forwards or backwards.
    pub fn set(&self, now: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = whole_micros(now);
    }

    /// Moves the clock forwards and returns what it shows then. It stops at the end of time.
    pub fn advance(&self, by: Duration) -> Timestamp {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        *now = whole_micros(now.saturating_add(by).unwrap_or(Timestamp::MAX));
        *now
    }
}

impl Default for ManualClock {
    /// A clock that shows 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::new(Timestamp::constant(1_767_225_600, 0))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the time of the machine, for stores in memory that stand for a database.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    fn now(&self) -> Timestamp {
        whole_micros(Timestamp::now())
    }
}

fn whole_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_only_when_told() {
        let clock = ManualClock::default();
        let start = clock.now();
        assert_eq!(start.to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(clock.clone().advance(Duration::from_millis(1_500)), clock.now());
        assert_eq!(clock.now().duration_since(start), SignedDuration::from_millis(1_500));
        clock.set(start);
        assert_eq!(clock.now(), start);
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), whole_micros(Timestamp::MAX));
    }

    #[test]
    fn it_shows_whole_microseconds() {
        let clock = ManualClock::new(Timestamp::constant(1, 1_999));
        assert_eq!(clock.now(), Timestamp::constant(1, 1_000));
        clock.advance(Duration::from_nanos(1));
        assert_eq!(clock.now(), Timestamp::constant(1, 1_000));
    }
}
