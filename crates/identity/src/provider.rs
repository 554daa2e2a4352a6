//! What is known of one issuer, and who fetches it when.
//!
//! - There is one fetch at a time. Whoever needs its outcome waits for it, for [`PATIENCE`] at most; it is a task of its
//!   own, so nobody who goes away ends it.
//! - From the beginning of one fetch to the beginning of the next, [`COOL_DOWN`] passes, whatever comes of it. So a flood of
//!   tokens with invented keys makes no flood of requests.
//! - What is known is used while a newer state is being fetched, and for as long as none can be had: an issuer that is
//!   down, slow or publishes nonsense locks nobody out whose key is known.
//! - What is older than [`FRESH`] is fetched anew behind the back of whoever uses it. A key that the issuer has withdrawn is
//!   gone then.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connectors_application::ports::Clock;
use connectors_egress::Egress;
use jiff::{SignedDuration, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use url::Url;

use crate::config::{self, ConfigError};
use crate::document::Fetcher;
use crate::keys::KeySet;
use crate::metadata::{self, Metadata};

/// How long what is known is used without being fetched anew.
const FRESH: SignedDuration = SignedDuration::from_mins(5);
/// How soon a fetch may follow another, from beginning to beginning.
const COOL_DOWN: SignedDuration = SignedDuration::from_secs(10);
/// How long a caller waits for a fetch.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a fetch may take in all.
const LIMIT: Duration = Duration::from_secs(30);

/// An issuer.
pub(crate) struct Provider {
    issuer: String,
    address: Url,
    fetcher: Fetcher,
    clock: Arc<dyn Clock>,
    /// The runtime on which this was made: fetches are begun there, and outlive the runtime of a caller.
    home: Option<Handle>,
    state: Mutex<State>,
}

/// An issuer at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) metadata: Metadata,
    pub(crate) keys: KeySet,
}

#[derive(Default)]
struct State {
    known: Option<(Arc<Snapshot>, Timestamp)>,
    /// When the last fetch began.
    tried_at: Option<Timestamp>,
    /// Closes when the last fetch ends, in whatever way.
    flight: Option<watch::Receiver<()>>,
}

impl Provider {
    /// An issuer of which nothing is known yet.
    pub(crate) fn new(egress: Egress, clock: Arc<dyn Clock>, issuer: String) -> Result<Arc<Self>, ConfigError> {
        let address = config::address(&egress, &issuer)?;
        let (fetcher, home) = (Fetcher::new(egress), Handle::try_current().ok());
        Ok(Arc::new(Self { issuer, address, fetcher, clock, home, state: Mutex::default() }))
    }

    /// The issuer as it is configured.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// What is known now, without waiting; what is not is being fetched if that may be.
    pub(crate) fn known(self: &Arc<Self>) -> Option<Arc<Snapshot>> {
        let mut state = self.lock();
        let now = self.clock.now();
        match &state.known {
            Some((_, at)) if is_within(FRESH, *at, now) => {}
            _ => drop(self.flight(&mut state, now)),
        }
        state.known.as_ref().map(|(snapshot, _)| Arc::clone(snapshot))
    }

    /// What is known, and if that is nothing, what a fetch brings.
    pub(crate) async fn get(self: &Arc<Self>) -> Option<Arc<Snapshot>> {
        match self.known() {
            Some(snapshot) => Some(snapshot),
            None => self.other_than(None).await,
        }
    }

    /// What is known, or a fetch brings, beyond `outdated`. `None`, and at once, if nothing newer may be had yet.
    pub(crate) async fn newer(self: &Arc<Self>, outdated: &Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        self.other_than(Some(outdated)).await
    }

    async fn other_than(self: &Arc<Self>, outdated: Option<&Arc<Snapshot>>) -> Option<Arc<Snapshot>> {
        let other = |state: &State| {
            let known = state.known.as_ref().map(|(snapshot, _)| snapshot);
            known.filter(|known| outdated.is_none_or(|outdated| !Arc::ptr_eq(known, outdated))).map(Arc::clone)
        };
        let mut flight = {
            let mut state = self.lock();
            if let Some(snapshot) = other(&state) {
                return Some(snapshot);
            }
            self.flight(&mut state, self.clock.now())?
        };
        // Nothing is ever sent: this ends when the sender is dropped, or with the patience.
        let _ = timeout(PATIENCE, flight.changed()).await;
        other(&self.lock())
    }

    /// The fetch that is under way, or one that begins now; `None` while the last one has only just been tried.
    fn flight(self: &Arc<Self>, state: &mut State, now: Timestamp) -> Option<watch::Receiver<()>> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return Some(flight.clone());
        }
        if state.tried_at.is_some_and(|at| is_within(COOL_DOWN, at, now)) {
            return None;
        }
        state.tried_at = Some(now);
        let (landed, flight) = watch::channel(());
        state.flight = Some(flight.clone());
        let provider = Arc::clone(self);
        let work = async move {
            provider.fetch(now).await;
            drop(landed);
        };
        match &self.home {
            Some(home) => drop(home.spawn(work)),
            None => drop(tokio::spawn(work)),
        }
        Some(flight)
    }

    async fn fetch(&self, began: Timestamp) {
        let fetched = timeout(LIMIT, self.snapshot()).await;
        match fetched.unwrap_or(Err("the issuer does not answer in time")) {
            Ok(snapshot) => self.lock().known = Some((Arc::new(snapshot), began)),
            Err(reason) => {
                let locked_out = self.lock().known.is_none();
                tracing::warn!(issuer = self.issuer, reason, locked_out, "the keys of an issuer could not be fetched");
            }
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, &'static str> {
        let metadata = metadata::find(&self.fetcher, &self.issuer, &self.address).await?;
        let body = self.fetcher.get(metadata.jwks_uri.clone()).await?;
        let keys = body.and_then(|body| KeySet::parse(&body)).ok_or("the issuer publishes no key that can be used")?;
        Ok(Snapshot { metadata, keys })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether no more than `span` has passed since `at`. A clock that was set back has shown nothing.
fn is_within(span: SignedDuration, at: Timestamp, now: Timestamp) -> bool {
    let passed = now.duration_since(at);
    !passed.is_negative() && passed < span
}
