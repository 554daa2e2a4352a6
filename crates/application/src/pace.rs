//! How often each user may do something.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use connectors_domain::OwnerId;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// After so many turns, users who have had none lately are forgotten.
const SWEEP: u32 = 1024;

/// Turns for each user, at an even pace with some in advance.
pub(crate) struct Pace {
    limiter: DefaultKeyedRateLimiter<OwnerId>,
    clock: DefaultClock,
    turns: AtomicU32,
}

impl Pace {
    /// So many turns a second, and as many in advance.
    pub(crate) fn per_second(turns: NonZeroU32) -> Self {
        Self::new(Quota::per_second(turns))
    }

    /// So many turns a minute, and as many in advance.
    pub(crate) fn per_minute(turns: NonZeroU32) -> Self {
        Self::new(Quota::per_minute(turns))
    }

    fn new(quota: Quota) -> Self {
        let clock = DefaultClock::default();
        Self { limiter: RateLimiter::keyed(quota), clock, turns: AtomicU32::new(0) }
    }

    /// Takes a turn, or says after what time there is one.
    pub(crate) fn take(&self, owner: OwnerId) -> Result<(), Duration> {
        if self.turns.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(&owner).map_err(|until| until.wait_time_from(self.clock.now()))
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
    fn one_user_s_turns_are_not_another_s() {
        let pace = Pace::per_minute(NonZeroU32::new(3).unwrap());
        for _ in 0..3 {
            assert_eq!(pace.take(owner(1)), Ok(()));
        }
        let wait = pace.take(owner(1)).unwrap_err();
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        assert_eq!(pace.take(owner(2)), Ok(()));
    }

    #[test]
    fn users_who_stay_away_are_forgotten() {
        let pace = Pace::per_second(NonZeroU32::new(1_000_000).unwrap());
        for number in 0..u128::from(4 * SWEEP) {
            pace.take(owner(number)).unwrap();
        }
        assert!(pace.limiter.len() <= SWEEP as usize, "{}", pace.limiter.len());
    }
}
