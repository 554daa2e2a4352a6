//! Time and chance as the machine has them: the adapters of the two smallest ports.

use connectors_application::ports::{Clock, Entropy};
use jiff::Timestamp;

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the port through which everybody else takes the time")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        // Cut to what every store can keep, so that what is read back equals what was stored.
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }
}

/// The random generator of the cryptographic library, which the operating system seeds.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        // A service without randomness must not go on, and no caller could do anything about it.
        assert!(aws_lc_rs::rand::fill(buffer).is_ok(), "the operating system gives no randomness");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_shows_whole_microseconds() {
        let now = SystemClock.now();
        assert_eq!(now.subsec_nanosecond() % 1000, 0);
        assert!(now.as_second() > 1_700_000_000);
    }

    #[test]
    fn chance_does_not_repeat_itself() {
        let (mut one, mut other) = ([0; 16], [0; 16]);
        SystemEntropy.fill(&mut one);
        SystemEntropy.fill(&mut other);
        assert_ne!(one, other);
    }
}
