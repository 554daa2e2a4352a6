//! How much is asked of one authorization server at a time: a thousand grants that end in the same second are no reason to
//! fall upon whoever issued them.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use connectors_domain::Issuer;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one process asks of one authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerLimits {
    /// Renewals under way at once.
    pub concurrency: usize,
    /// Renewals begun in a second.
    pub per_second: NonZeroU32,
}

/// The limits of all authorization servers that something is asked of.
#[derive(Clone)]
pub(crate) struct Issuers {
    limits: IssuerLimits,
    asked: Arc<Mutex<HashMap<Issuer, Arc<Asked>>>>,
}

/// What is asked of one.
struct Asked {
    places: Arc<Semaphore>,
    rate: DefaultDirectRateLimiter,
}

/// A place among those who may ask at once. Dropping it lets the next one in.
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    asked: Arc<Asked>,
}

impl Place {
    /// Waits until something may be asked: at most for as long as the other places take to ask once.
    pub(crate) async fn turn(&self) {
        self.asked.rate.until_ready().await;
    }
}

impl Issuers {
    pub(crate) fn new(limits: IssuerLimits) -> Self {
        Self { limits, asked: Arc::default() }
    }

    /// Waits for a place at `issuer`.
    pub(crate) async fn place(&self, issuer: &Issuer) -> Place {
        let asked = self.entry(issuer);
        // It fails only when the semaphore is closed, which nobody does.
        let permit = Arc::clone(&asked.places).acquire_owned().await.ok();
        Place { _permit: permit, asked }
    }

    fn entry(&self, issuer: &Issuer) -> Arc<Asked> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = asked.get(issuer) {
            return Arc::clone(entry);
        }
        // Issuers come and go with the connectors; who is asked nothing needs no entry once its rate has recovered.
        asked.retain(|_, entry| Arc::strong_count(entry) > 1 || entry.rate.check().is_err());
        // No more at once than there are places: the limit holds in the first second, too, but for these.
        let places = u32::try_from(self.limits.concurrency).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        let quota = Quota::per_second(self.limits.per_second).allow_burst(places.min(self.limits.per_second));
        let entry = Arc::new(Asked {
            places: Arc::new(Semaphore::new(self.limits.concurrency)),
            rate: RateLimiter::direct(quota),
        });
        asked.insert(issuer.clone(), Arc::clone(&entry));
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;
    use tokio::pin;

    use super::*;

    fn issuers(concurrency: usize, per_second: u32) -> Issuers {
        Issuers::new(IssuerLimits { concurrency, per_second: NonZeroU32::new(per_second).unwrap() })
    }

    #[tokio::test]
    async fn one_server_is_asked_so_many_things_at_once() {
        let issuers = issuers(2, 1000);
        let (one, other) = (Issuer::new("https://one.example"), Issuer::new("https://other.example"));
        let places = [issuers.place(&one).await, issuers.place(&one).await];
        let third = issuers.place(&one);
        pin!(third);
        assert!(poll!(third.as_mut()).is_pending());
        drop(issuers.place(&other).await);
        drop(places);
        drop(third.await);
    }

    #[tokio::test]
    async fn one_server_is_asked_so_often_in_a_second() {
        let issuers = issuers(100, 10);
        let issuer = Issuer::new("https://one.example");
        let place = issuers.place(&issuer).await;
        for _ in 0..10 {
            place.turn().await;
        }
        let next = tokio::time::timeout(Duration::from_millis(20), place.turn()).await;
        assert!(next.is_err(), "the eleventh waits for its turn");
    }

    #[tokio::test]
    async fn an_issuer_that_is_asked_nothing_is_forgotten() {
        let issuers = issuers(2, 1_000_000);
        for number in 0..100 {
            drop(issuers.place(&Issuer::new(format!("https://{number}.example"))).await);
        }
        assert!(issuers.asked.lock().unwrap().len() < 10);
    }
}
