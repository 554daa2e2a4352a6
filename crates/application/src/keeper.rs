//! What the service does by itself: it renews grants, sees whether servers are there, brings back connectors whose server was
//! away, ends what has outlived its time, and revokes what was given up.
//!
//! All of it is driven by what is due in the store. A connector that is taken is put off in the same write, so replicas
//! share the work without knowing of each other, and one that dies leaves nothing undone for long.

use std::sync::Arc;
use std::time::Duration;

use connectors_domain::{Connected, Connector, ConnectorState, Event, Grant, IssuedGrant, Issuer, ServerFacts};
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::time::timeout;

use crate::connect::HeldError;
use crate::ports::{Due, DueRevocation, Postponed, ProbeError, StoreError};
use crate::schedule::{self, back_off, next_recovery};
use crate::service::AdvanceError;
use crate::targets::Target;
use crate::{ConnectorService, Error, audit};

/// How long what was taken is kept from others: longer than it may take, so that nothing is done twice at the same time.
const HOLD: Duration = Duration::from_mins(10);
/// How many are taken at once.
const BATCH: u32 = 128;
/// How many are looked after at once. Most of them wait for others.
const IN_HAND: usize = 1024;
/// How many connectors of one authorization server are in hand at once, and how many while that server fails.
const IN_HAND_OF_ONE: u32 = 512;
const IN_HAND_OF_FAILING: u32 = 4;
/// How long after a first failure a renewal, a revocation or a look at a server is tried again.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// How often in a row a server may refuse a fresh token that nobody uses before its user is asked, and when it is asked
/// again for the first time.
const REFUSALS: u32 = 3;
const REFUSED_RETRY: Duration = Duration::from_mins(10);
/// How long a connector waits whose authorization server has enough to do, at least; at most twice as long.
const QUEUE: Duration = Duration::from_secs(10);
/// The longest time between two looks at a store that fails.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long one revocation may take.
const REVOCATION: Duration = Duration::from_secs(45);
/// How long a revocation that was taken is kept from others. Short: nobody but this brings it about, and one that was cut
/// off should not wait for long. To revoke something twice does no harm.
const REVOCATION_HOLD: Duration = Duration::from_mins(1);
const _: () = assert!(REVOCATION.as_secs() < REVOCATION_HOLD.as_secs() && REVOCATION_HOLD.as_secs() <= HOLD.as_secs());
/// How often a revocation is tried. With the pauses between, that is more than a day.
const REVOCATIONS: u32 = 30;

/// How the work behind the scenes goes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeeperConfig {
    /// How often it looks for what is due.
    pub interval: Duration,
}

/// The work behind the scenes.
pub struct Keeper {
    service: ConnectorService,
    config: KeeperConfig,
    places: Arc<Semaphore>,
    of_one: moka::sync::Cache<Issuer, Arc<Semaphore>>,
}

impl Keeper {
    /// The work that belongs to `service`.
    pub fn new(service: ConnectorService, config: KeeperConfig) -> Self {
        let of_one = moka::sync::Cache::builder().max_capacity(10_000).time_to_idle(HOLD).build();
        Self { service, config, places: Arc::new(Semaphore::new(IN_HAND)), of_one }
    }

    /// Works for as long as it is awaited. What is begun goes on: each piece of work is a task of its own.
    pub async fn run(&self) {
        let mut failures = 0;
        loop {
            let connectors = self.connectors().await;
            let revocations = self.revocations().await;
            let pause = match (connectors, revocations) {
                (Ok(connectors), Ok(revocations)) if connectors.max(revocations) >= BATCH as usize => continue,
                (Ok(_), Ok(_)) => {
                    if failures > 0 {
                        tracing::info!("what is due can be found again");
                    }
                    failures = 0;
                    self.config.interval
                }
                (Err(error), _) | (_, Err(error)) => {
                    // Once for each outage: what cannot be found does not change by being said again.
                    if failures == 0 {
                        tracing::warn!(%error, "what is due cannot be found now");
                    }
                    failures += 1;
                    back_off(self.config.interval, failures).min(LONGEST_PAUSE)
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.service.work.notified() => {}
            }
        }
    }

    /// Begins to look after the connectors that are due, and tells how many there were.
    async fn connectors(&self) -> Result<usize, StoreError> {
        let room = u32::try_from(self.places.available_permits()).unwrap_or(BATCH).min(BATCH);
        if room == 0 {
            return Ok(0);
        }
        let due = self.service.ports.agenda.take_due(room, HOLD).await?;
        let count = due.len();
        for due in due {
            self.begin(due).await;
        }
        Ok(count)
    }

    async fn begin(&self, due: Due) {
        // There is room for every one that was taken.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
        let service = self.service.clone();
        let Ok(turn) = self.turn(&due.connector) else {
            let mut random = [0];
            service.ports.entropy.fill(&mut random);
            let until = schedule::after(service.now(), QUEUE + QUEUE / 255 * u32::from(random[0]));
            tokio::spawn(async move { service.put_off(&due.connector, Some(until), due.failures).await });
            return;
        };
        tokio::spawn(async move {
            let id = due.connector.id;
            if let Err(error) = service.attend(due).await {
                tracing::warn!(connector = %id, error = &error as &dyn std::error::Error, "a connector could not be looked after");
            }
            drop((place, turn));
        });
    }

    /// The right to ask the authorization server of `connector`, where it has one. It fails if enough others have it, which
    /// keeps one server that is away from holding up all the rest.
    fn turn(&self, connector: &Connector) -> Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        let Some(held) = connector.grant().and_then(Grant::issued) else { return Ok(None) };
        let issuer = &held.authority.issuer;
        let of_one = self.of_one.get_with_by_ref(issuer, || Arc::new(Semaphore::new(IN_HAND_OF_ONE as usize)));
        let share = if self.service.renewing.fails(issuer) { IN_HAND_OF_ONE / IN_HAND_OF_FAILING } else { 1 };
        of_one.try_acquire_many_owned(share).map(Some)
    }

    /// Begins to revoke what is due, and tells how much there was.
    async fn revocations(&self) -> Result<usize, StoreError> {
        let room = u32::try_from(self.places.available_permits()).unwrap_or(BATCH).min(BATCH);
        if room == 0 {
            return Ok(0);
        }
        let due = self.service.ports.revocations.take_due(room, REVOCATION_HOLD).await?;
        let count = due.len();
        for due in due {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { break };
            let service = self.service.clone();
            tokio::spawn(async move {
                let id = due.revocation.key.connector;
                if let Err(error) = service.revoke(due).await {
                    tracing::warn!(connector = %id, %error, "what came of a revocation could not be stored");
                }
                drop(place);
            });
        }
        Ok(count)
    }
}

impl ConnectorService {
    /// Does for a connector what is due.
    pub(crate) async fn attend(&self, due: Due) -> Result<(), Error> {
        let Due { connector, failures } = due;
        // The store's time, by which the connector was due; this process's clock may be another.
        let taken_at = connector.due_at.and_then(|due_at| due_at.checked_sub(HOLD).ok());
        let now = taken_at.unwrap_or_else(|| self.now());
        let lapsed = match &connector.state {
            ConnectorState::Created => return self.put_off(&connector, None, 0).await,
            ConnectorState::Connecting(connecting) => connecting.deadline <= now,
            ConnectorState::Connected(connected) => {
                connected.wider.as_ref().is_some_and(|attempt| attempt.expires_at <= now)
            }
            ConnectorState::Disconnected(_) => false,
        };
        if lapsed {
            return match self.advance(connector, Event::Lapsed).await {
                Ok(_) | Err(AdvanceError::Conflict) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        match &connector.state {
            ConnectorState::Connected(connected) => {
                if schedule::renewal(&connector, connected).is_some_and(|due_at| due_at <= now) {
                    self.renew_when_due(connector, failures, now).await
                } else {
                    self.see_whether_it_is_there(connector, failures, now).await
                }
            }
            ConnectorState::Disconnected(disconnected) if schedule::recovers(disconnected) => {
                self.recover(connector, failures, now).await
            }
            _ => {
                let until = schedule::next(&connector, self.config.health_interval, now);
                self.put_off(&connector, until, 0).await
            }
        }
    }

    async fn renew_when_due(&self, connector: Connector, failures: u32, now: Timestamp) -> Result<(), Error> {
        match self.renew_held(&connector, false).await? {
            // It was stored with the time at which it is due again.
            Ok(_) => Ok(()),
            Err(unrenewed) => {
                let pause = back_off(FIRST_RETRY, failures).max(unrenewed.retry_after);
                self.put_off(&connector, Some(schedule::after(now, pause)), failures.saturating_add(1)).await
            }
        }
    }

    /// Asks the server of a connected connector. A server that is away is asked again later, and the connector stays as it
    /// is; only a token that is refused although it is fresh ends the connection.
    async fn see_whether_it_is_there(&self, connector: Connector, failures: u32, now: Timestamp) -> Result<(), Error> {
        let before = Target::of(&connector);
        let (connector, outcome) = self.ask_with_grant(connector).await?;
        let Some(target) = Target::of(&connector) else { return Ok(()) };
        match outcome {
            Ok(server) => self.is_there(connector, server, now).await,
            Err(HeldError::Probe(ProbeError::Unauthorized { challenges })) => {
                let renewed = before.is_some_and(|before| before.relay.access_token != target.relay.access_token);
                if renewed && failures >= REFUSALS {
                    // What became of it stands in the connector.
                    let _ = self.rejected(connector.owner, connector.id, &target, challenges).await;
                    return Ok(());
                }
                // It may be out of order, and the next call finds out, with a user who can be told.
                let until = schedule::after(now, back_off(REFUSED_RETRY, failures));
                self.put_off(&connector, Some(until), failures.saturating_add(1)).await
            }
            Err(HeldError::Probe(_) | HeldError::Unrenewed { .. }) => {
                if failures == 0 {
                    tracing::info!(connector = %connector.id, "the server of a connector is away; it is asked again");
                }
                let until = schedule::after(now, back_off(FIRST_RETRY, failures));
                self.put_off(&connector, Some(until), failures.saturating_add(1)).await
            }
        }
    }

    async fn is_there(&self, connector: Connector, server: ServerFacts, now: Timestamp) -> Result<(), Error> {
        match &connector.state {
            // What the server speaks is learned anew, unless that would take an offer from the user.
            ConnectorState::Connected(Connected { grant, server: known, wider: None, .. }) if *known != server => {
                let event = Event::Established { grant: grant.clone(), server };
                match self.advance(connector, event).await {
                    Ok(_) | Err(AdvanceError::Conflict) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            _ => {
                let until = schedule::next(&connector, self.config.health_interval, now);
                self.put_off(&connector, until, 0).await
            }
        }
    }

    /// Asks the server of a connector that was disconnected because the server was away, and connects it if the server is
    /// back. Nobody sees a try that came to nothing.
    async fn recover(&self, connector: Connector, failures: u32, now: Timestamp) -> Result<(), Error> {
        let had_grant = connector.grant().is_some();
        let (connector, outcome) = self.ask_with_grant(connector).await?;
        // Its user may have disconnected it meanwhile, or its grant may have ended: then nothing is done for it.
        let recovers = match &connector.state {
            ConnectorState::Disconnected(disconnected) => {
                schedule::recovers(disconnected) && disconnected.recovery.is_some() == had_grant
            }
            _ => false,
        };
        match outcome {
            _ if !recovers => Ok(()),
            Ok(server) => {
                let grant = connector.grant().cloned();
                let deadline = self.after(self.config.probe_deadline);
                let begun = self.advance(connector, Event::ConnectStarted { deadline }).await;
                let done = match begun {
                    Ok(connector) => self.advance(connector, Event::Established { grant, server }).await,
                    Err(error) => Err(error),
                };
                match done {
                    Ok(_) | Err(AdvanceError::Conflict) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            // Only its user can help.
            Err(HeldError::Probe(
                ProbeError::Unauthorized { .. } | ProbeError::Forbidden { .. } | ProbeError::AddressRefused(_),
            )) => self.put_off(&connector, None, 0).await,
            Err(_) => {
                let until = next_recovery(&connector, failures, now);
                self.put_off(&connector, until, failures.saturating_add(1)).await
            }
        }
    }

    async fn put_off(&self, connector: &Connector, until: Option<Timestamp>, failures: u32) -> Result<(), Error> {
        let postponed = Postponed {
            owner: connector.owner,
            connector: connector.id,
            revision: connector.revision,
            until,
            failures,
        };
        Ok(self.ports.agenda.postpone(postponed).await?)
    }

    /// Revokes what was given up, and puts it off where that fails.
    pub(crate) async fn revoke(&self, due: DueRevocation) -> Result<(), StoreError> {
        let DueRevocation { revocation, failures } = due;
        let key = revocation.key;
        let owner = revocation.owner;
        let issuer = revocation.grant.issued().map(|issued: &IssuedGrant| issued.authority.issuer.clone());
        let revoking = self.ports.authorization.revoke(revocation.grant);
        let failure = match timeout(REVOCATION, revoking).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.0),
            Err(_) => Some("it did not answer in time"),
        };
        let (connector, issuer) = (key.connector, issuer.as_ref().map(Issuer::as_str));
        let audit = |outcome| audit::revocation(connector, owner, issuer, outcome);
        match failure {
            None => {
                audit("done");
                self.ports.revocations.done(key).await
            }
            Some(what) if failures + 1 >= REVOCATIONS => {
                tracing::warn!(%connector, issuer, what, "a grant that was given up could not be revoked, and nobody tries any more");
                audit("given_up");
                self.ports.revocations.done(key).await
            }
            Some(what) => {
                tracing::info!(%connector, issuer, what, failures, "a grant that was given up could not be revoked yet");
                audit("failed");
                let until = schedule::after(self.now(), back_off(FIRST_RETRY, failures));
                self.ports.revocations.postpone(key, until).await
            }
        }
    }
}
