//! Renewing grants: one renewal for each generation, whatever asks for it and however many do.
//!
//! A renewal is a task of its own. Whoever wants the new grant waits for the task and may go away; the task goes on. It
//! claims the generation in the store, which marks that the refresh token is about to be spent, spends the token, and does
//! not end before what came of it is stored or has no place any more. Until then the new grant lives in the task, and is
//! used from there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use connectors_domain::{
    AccessToken, ClientOrigin, Connector, ConnectorId, DisconnectCode, DisconnectReason, Event, Grant, Issuer, OwnerId,
};
use moka::sync::Cache;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::issuers::{IssuerLimits, Issuers};
use crate::ports::{
    Claim, Claimed, RefreshError, RefreshRequest, RenewalKey, Revocation, RevocationKey, SpentToken, StoreError,
};
use crate::schedule::back_off;
use crate::service::AdvanceError;
use crate::targets::Target;
use crate::{ConnectorService, Error};

/// How often a lease that somebody else has is asked for again.
const POLL: Duration = Duration::from_millis(50);
/// How soon a write that failed is tried again for the first time, and at the latest.
const REWRITE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long a renewal that another process has begun is waited for once its lease is over: it may hold the new grant, and
/// writes it as soon as the store can be written to.
const HANDOVER: Duration = Duration::from_secs(5);
/// How often a grant that has no place is tried to be put down for revocation.
const BURIALS: usize = 10;
/// How long nobody asks again after a first failure that may pass.
const REST: Duration = Duration::from_secs(1);
/// The longest rest that this service takes by itself.
const LONGEST_REST: Duration = Duration::from_mins(1);
/// How many connectors' rests are remembered.
const RESTS: u64 = 10_000;
/// How long a caller waits whose token still works.
const PATIENCE: Duration = Duration::from_secs(2);

/// How grants are renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RenewalConfig {
    /// How long one process may renew a grant while no other does: longer than the request to the authorization server and
    /// the writes around it can take.
    pub lease: Duration,
    /// How long a caller waits for a renewal before it is told to come again.
    pub wait: Duration,
    /// What is asked of one authorization server.
    pub issuers: IssuerLimits,
}

/// What came of a renewal.
#[derive(Debug, Clone)]
pub(crate) enum Renewed {
    /// There is a new grant. The connector holds it, though it may not be stored yet.
    Fresh(Box<Connector>),
    /// There is nothing to renew any more: somebody else was quicker, or the connector has changed.
    Changed,
    /// No new grant now. The old one is kept.
    Failed(Unrenewed),
}

/// Why there is no new grant now, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unrenewed {
    /// What went wrong; the text is this service's own.
    pub what: &'static str,
    /// When to ask again.
    pub retry_after: Duration,
}

/// The renewals that this process has under way.
#[derive(Clone)]
pub(crate) struct Renewing {
    config: RenewalConfig,
    /// This process, to the store.
    holder: Uuid,
    issuers: Issuers,
    flights: Arc<Mutex<HashMap<ConnectorId, Flight>>>,
    rests: Cache<ConnectorId, Rest>,
    /// The authorization servers whose last answer was a failure that may pass.
    failing: Cache<Issuer, ()>,
    /// How many flights there are, for who waits until there is none.
    under_way: watch::Sender<usize>,
    /// No refresh token is spent any more: there may be no time to store what it brings.
    stopping: Arc<AtomicBool>,
}

/// A renewal that is under way.
struct Flight {
    owner: OwnerId,
    generation: u64,
    renewed: watch::Receiver<Option<Renewed>>,
}

/// The time after a failure in which nobody asks again.
#[derive(Clone, Copy)]
struct Rest {
    generation: u64,
    failures: u32,
    what: &'static str,
    until: Instant,
}

/// Why nothing is renewed any more.
const STOPPING: Unrenewed = Unrenewed { what: "the service is stopping", retry_after: REST };

impl Renewing {
    pub(crate) fn new(config: RenewalConfig, holder: Uuid) -> Self {
        Self {
            config,
            holder,
            issuers: Issuers::new(config.issuers),
            flights: Arc::default(),
            rests: Cache::builder().max_capacity(RESTS).time_to_live(Duration::from_hours(24)).build(),
            failing: Cache::builder().max_capacity(RESTS).time_to_live(LONGEST_REST).build(),
            under_way: watch::channel(0).0,
            stopping: Arc::default(),
        }
    }

    /// The target out of a grant that is new and not stored yet.
    pub(crate) fn unstored(&self, owner: OwnerId, id: ConnectorId) -> Option<Target> {
        let flights = self.lock();
        let flight = flights.get(&id).filter(|flight| flight.owner == owner)?;
        match &*flight.renewed.borrow() {
            Some(Renewed::Fresh(connector)) => Target::of(connector),
            _ => None,
        }
    }

    /// Lets no refresh token be spent from now on.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Waits until no renewal is under way.
    pub(crate) async fn settled(&self) {
        // It fails when there is no sender, and this is one.
        let _ = self.under_way.subscribe().wait_for(|flights| *flights == 0).await;
    }

    /// Whether an authorization server has failed lately.
    pub(crate) fn fails(&self, issuer: &Issuer) -> bool {
        self.failing.contains_key(issuer)
    }

    /// Why nobody asks again for now.
    fn resting(&self, key: RenewalKey) -> Option<Unrenewed> {
        let rest = self.rests.get(&key.connector).filter(|rest| rest.generation == key.generation)?;
        let left = rest.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
        Some(Unrenewed { what: rest.what, retry_after: left })
    }

    /// Remembers a failure, and tells when to ask again.
    fn rest(&self, key: RenewalKey, what: &'static str, wished: Option<Duration>) -> Unrenewed {
        let before = self.rests.get(&key.connector).filter(|rest| rest.generation == key.generation);
        let failures = before.map_or(0, |rest| rest.failures.saturating_add(1));
        let retry_after = back_off(REST, failures).min(LONGEST_REST).max(wished.unwrap_or_default());
        let until = Instant::now() + retry_after;
        self.rests.insert(key.connector, Rest { generation: key.generation, failures, what, until });
        Unrenewed { what, retry_after }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectorId, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectorService {
    /// Renews the generation `key`, or waits for who does. `living` if the token at hand still works: then the wait is
    /// short, and the renewal goes on behind it.
    pub(crate) async fn renew(&self, key: RenewalKey, living: bool) -> Renewed {
        let wait = if living { PATIENCE.min(self.renewing.config.wait) } else { self.renewing.config.wait };
        let late = Unrenewed { what: "it takes long to answer", retry_after: REST };
        timeout(wait, self.outcome(key)).await.unwrap_or(Renewed::Failed(late))
    }

    async fn outcome(&self, key: RenewalKey) -> Renewed {
        loop {
            let (generation, mut renewed) = match self.flight(key) {
                Ok(flight) => flight,
                Err(resting) => return Renewed::Failed(resting),
            };
            if generation == key.generation {
                let renewed = renewed.wait_for(Option::is_some).await.ok().and_then(|renewed| renewed.clone());
                // Without a word its task was cut off: the runtime is ending.
                return renewed.unwrap_or(Renewed::Failed(STOPPING));
            }
            // What brought this generation is not stored yet. Before that is done, nothing can come after it.
            while renewed.changed().await.is_ok() {}
        }
    }

    /// The renewal of the connector that is under way, with its generation, or a new one of `key`.
    fn flight(&self, key: RenewalKey) -> Result<(u64, watch::Receiver<Option<Renewed>>), Unrenewed> {
        let mut flights = self.renewing.lock();
        if let Some(flight) = flights.get(&key.connector) {
            return Ok((flight.generation, flight.renewed.clone()));
        }
        if let Some(resting) = self.renewing.resting(key) {
            return Err(resting);
        }
        let (tell, renewed) = watch::channel(None);
        flights
            .insert(key.connector, Flight { owner: key.owner, generation: key.generation, renewed: renewed.clone() });
        let landing = Landing { renewing: self.renewing.clone(), key };
        self.renewing.under_way.send_modify(|flights| *flights += 1);
        let service = self.clone();
        let task = async move {
            let outcome = service.renew_in_task(key, &tell).await;
            // Out of the map first: who comes now finds what is stored.
            drop(landing);
            tell.send_replace(Some(outcome));
        };
        self.spawn(task);
        Ok((key.generation, renewed))
    }

    async fn renew_in_task(&self, key: RenewalKey, tell: &watch::Sender<Option<Renewed>>) -> Renewed {
        match self.spend(key, tell).await {
            Ok(renewed) => renewed,
            Err(error) => {
                // Nothing was spent: the store is written to before that.
                tracing::warn!(connector = %key.connector, %error, "a grant was not renewed, because the store failed");
                Renewed::Failed(self.renewing.rest(key, "the database cannot be used now", None))
            }
        }
    }

    async fn spend(&self, key: RenewalKey, tell: &watch::Sender<Option<Renewed>>) -> Result<Renewed, StoreError> {
        let Some(connector) = self.ports.connectors.find(key.owner, key.connector).await? else {
            return Ok(Renewed::Changed);
        };
        let held = connector.grant().and_then(Grant::issued).filter(|held| held.generation == key.generation);
        let Some(issuer) = held.map(|held| held.authority.issuer.clone()) else { return Ok(Renewed::Changed) };
        // Whoever has the lease has it no longer than that; one more that came between is waited for as well.
        let until = Instant::now() + self.renewing.config.lease * 2;
        let (connector, interrupted, place) = loop {
            // Before the lease, so that no lease runs out in a queue.
            let place = self.renewing.issuers.place(&issuer).await;
            if self.renewing.is_stopping() {
                return Ok(Renewed::Failed(STOPPING));
            }
            match self.claim(key).await? {
                Claimed::Yours { connector, interrupted } => break (connector, interrupted, place),
                Claimed::Outdated => return Ok(Renewed::Changed),
                Claimed::Busy if Instant::now() < until => {
                    drop(place);
                    sleep(POLL).await;
                }
                Claimed::Busy => {
                    return Ok(Renewed::Failed(Unrenewed { what: "another replica is at it", retry_after: REST }));
                }
            }
        };
        let held = connector.grant().and_then(Grant::issued);
        let Some((mut request, held)) = held.and_then(|held| Some((RefreshRequest::of(held)?, held.clone()))) else {
            self.release(key, SpentToken::No, interrupted).await;
            return Ok(Renewed::Changed);
        };
        if interrupted {
            if self.shares_store() {
                sleep(HANDOVER).await;
                let current = self.ports.connectors.find(key.owner, key.connector).await?;
                if current.as_ref().and_then(Connector::generation) != Some(key.generation) {
                    return Ok(Renewed::Changed);
                }
            }
            tracing::warn!(connector = %key.connector, generation = key.generation, "a renewal that was interrupted is tried once more");
        }
        // No lease is used that has run out in a queue.
        if timeout(self.renewing.config.lease / 4, place.turn()).await.is_err() {
            self.release(key, SpentToken::No, interrupted).await;
            let what = "its authorization server is being asked for too many at once";
            return Ok(Renewed::Failed(Unrenewed { what, retry_after: REST }));
        }
        if self.renewing.is_stopping() {
            self.release(key, SpentToken::No, interrupted).await;
            return Ok(Renewed::Failed(STOPPING));
        }
        self.bring_up_to_date(&connector, &mut request.authority);
        let answer = self.ports.authorization.refresh(request).await;
        drop(place);
        match &answer {
            Err(RefreshError::Passing { .. }) => self.renewing.failing.insert(issuer, ()),
            _ => self.renewing.failing.invalidate(&issuer),
        }
        Ok(match answer {
            Ok(grant) => self.settle(key, *connector, grant.after_step_ups(held.step_ups), tell).await,
            Err(RefreshError::Passing { what, spent, retry_after }) => {
                tracing::warn!(connector = %key.connector, issuer = %held.authority.issuer, what, "a grant was not renewed");
                self.release(key, spent, interrupted).await;
                Renewed::Failed(self.renewing.rest(key, what, retry_after))
            }
            // It may not have been able to fetch this service's document.
            Err(RefreshError::ClientRefused) if held.authority.client.origin == ClientOrigin::MetadataDocument => {
                let what = "it does not take this service's client metadata document";
                self.release(key, SpentToken::No, interrupted).await;
                Renewed::Failed(self.renewing.rest(key, what, None))
            }
            Err(RefreshError::Refused) => self.end(key, *connector, interrupted, revoked(interrupted)).await,
            Err(RefreshError::ClientRefused) => {
                let reason = client_refused(held.authority.client.origin);
                self.end(key, *connector, interrupted, reason).await
            }
        })
    }

    async fn claim(&self, key: RenewalKey) -> Result<Claimed, StoreError> {
        let Renewing { config: RenewalConfig { lease, .. }, holder, .. } = self.renewing;
        self.ports.renewals.claim(Claim { key, holder, lease }).await
    }

    /// Gives the lease back. A refresh token that was not spent now may have been when it was `interrupted`.
    async fn release(&self, key: RenewalKey, spent: SpentToken, interrupted: bool) {
        let unspent = spent == SpentToken::No && !interrupted;
        let released = self.ports.renewals.release(key, self.renewing.holder, unspent).await;
        if let Err(error) = released {
            tracing::warn!(connector = %key.connector, %error, "a lease runs until its end, because the store failed");
        }
    }

    /// Stores the new grant. The old one is spent, so this does not give up while the store cannot be written to; the new
    /// grant is used meanwhile.
    async fn settle(
        &self,
        key: RenewalKey,
        connector: Connector,
        grant: Grant,
        tell: &watch::Sender<Option<Renewed>>,
    ) -> Renewed {
        let mut connector = connector;
        let mut pause = REWRITE.0;
        loop {
            let event = Event::GrantRenewed { of: key.generation, grant: grant.clone() };
            match self.advance(connector.clone(), event.clone()).await {
                Ok(stored) => {
                    self.renewing.rests.invalidate(&key.connector);
                    return Renewed::Fresh(Box::new(stored));
                }
                Err(AdvanceError::Refused(_)) => return self.superseded(key, connector, grant),
                Err(AdvanceError::Conflict) => match self.ports.connectors.find(key.owner, key.connector).await {
                    Ok(Some(current)) if holds(&current, &grant.access_token) => {
                        return Renewed::Fresh(Box::new(current));
                    }
                    Ok(Some(current)) => {
                        connector = current;
                        continue;
                    }
                    Ok(None) => {
                        self.revoke_later(key, grant);
                        return Renewed::Changed;
                    }
                    Err(error) => tracing::warn!(connector = %key.connector, %error, "the store cannot be read"),
                },
                Err(AdvanceError::Failed(error)) => {
                    tracing::error!(
                        connector = %key.connector, error = &error as &dyn std::error::Error,
                        "a renewed grant could not be stored; it is used from memory and written again"
                    );
                }
            }
            if tell.borrow().is_none()
                && let Ok(renewed) = connector.clone().apply(event, self.now())
            {
                tell.send_replace(Some(Renewed::Fresh(Box::new(renewed.connector))));
            }
            sleep(pause).await;
            pause = (pause * 2).min(REWRITE.1);
        }
    }

    /// The connector has no place for the new grant any more.
    fn superseded(&self, key: RenewalKey, current: Connector, grant: Grant) -> Renewed {
        if holds(&current, &grant.access_token) {
            return Renewed::Fresh(Box::new(current));
        }
        if current.grant().is_none() {
            // It was disconnected meanwhile, and what it gave up is no longer what is valid.
            self.revoke_later(key, grant);
        }
        Renewed::Changed
    }

    fn revoke_later(&self, key: RenewalKey, grant: Grant) {
        // The number that it would have had.
        let generation = key.generation.saturating_add(1);
        self.bury(Revocation { key: RevocationKey { connector: key.connector, generation }, owner: key.owner, grant });
    }

    /// Puts a grant that no connector has a place for down for revocation, in a task of its own.
    pub(crate) fn bury(&self, revocation: Revocation) {
        let service = self.clone();
        self.spawn(async move {
            let mut pause = REWRITE.0;
            for _ in 0..BURIALS {
                match service.ports.revocations.add(revocation.clone()).await {
                    Ok(()) => return service.work.notify_one(),
                    Err(error) => {
                        tracing::warn!(connector = %revocation.key.connector, %error, "a grant that nobody uses could not be put down for revocation");
                    }
                }
                sleep(pause).await;
                pause *= 2;
            }
        });
    }

    /// The authorization server has ended the grant: so it is, unless somebody else has got another one meanwhile.
    async fn end(&self, key: RenewalKey, connector: Connector, interrupted: bool, reason: DisconnectReason) -> Renewed {
        let mut connector = connector;
        loop {
            let event = Event::GrantEnded { of: key.generation, reason: reason.clone() };
            match self.advance(connector, event).await {
                Ok(_) | Err(AdvanceError::Refused(_)) => return Renewed::Changed,
                Err(AdvanceError::Conflict) => match self.find(key.owner, key.connector).await {
                    Ok(current) => connector = current,
                    Err(Error::NotFound) => return Renewed::Changed,
                    Err(error) => return self.unwritten(key, interrupted, &error).await,
                },
                Err(AdvanceError::Failed(error)) => return self.unwritten(key, interrupted, &error).await,
            }
        }
    }

    /// A refusal could not be stored: it will be heard again, and must then be called what it is now.
    async fn unwritten(&self, key: RenewalKey, interrupted: bool, error: &Error) -> Renewed {
        tracing::warn!(connector = %key.connector, error = error as &dyn std::error::Error, "that a grant has ended could not be stored");
        self.release(key, SpentToken::No, interrupted).await;
        Renewed::Failed(self.renewing.rest(key, "the database cannot be used now", None))
    }
}

/// Takes a flight off the list, also if its task is cut off.
struct Landing {
    renewing: Renewing,
    key: RenewalKey,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.renewing.lock();
        if flights.get(&self.key.connector).is_some_and(|flight| flight.generation == self.key.generation) {
            flights.remove(&self.key.connector);
        }
        drop(flights);
        self.renewing.under_way.send_modify(|flights| *flights = flights.saturating_sub(1));
    }
}

fn holds(connector: &Connector, token: &AccessToken) -> bool {
    connector.grant().is_some_and(|grant| grant.access_token == *token)
}

fn revoked(interrupted: bool) -> DisconnectReason {
    if interrupted {
        DisconnectReason::new(
            DisconnectCode::RefreshOutcomeUnknown,
            "A renewal of the access was interrupted and its outcome is unknown; the authorization server does not renew it \
             any more. Connect again.",
        )
    } else {
        DisconnectReason::new(
            DisconnectCode::AuthorizationRevoked,
            "The authorization server does not renew the access any more: it was revoked there, or has ended. Connect again.",
        )
    }
}

fn client_refused(origin: ClientOrigin) -> DisconnectReason {
    DisconnectReason::new(
        DisconnectCode::ClientRejected,
        match origin {
            ClientOrigin::Given => {
                "The authorization server does not accept this service as a client any more. Check client_id and \
                 client_secret."
            }
            ClientOrigin::MetadataDocument | ClientOrigin::Registered => {
                "The authorization server does not know this service as a client any more. Connect again, and the service \
                 registers anew."
            }
        },
    )
}
