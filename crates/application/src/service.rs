//! The service as a whole: its ports, its settings, and what several use cases share.

use std::sync::Arc;
use std::time::Duration;

use connectors_domain::{
    Connector, ConnectorId, ConnectorState, Event, OwnerId, Presets, RedirectOrigins, Revision, Secret, Transition,
    TransitionError,
};
use jiff::Timestamp;
use moka::sync::Cache;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Builder;

use crate::home::Home;
use crate::limits::{Limits, UserLimits};
use crate::ports::{
    Agenda, AuthorizationServer, Changes, Clock, Connectors, Entropy, McpServer, Renewals, Revocations, Sealer,
    UpdateError,
};
use crate::renew::{RenewalConfig, Renewing};
use crate::step_up::STEP_UP_PAUSE;
use crate::streams::Streams;
use crate::targets::Targets;
use crate::{Error, audit, schedule};

/// How many connectors are remembered for which a wider consent was asked lately.
const STEP_UPS: u64 = 10_000;

/// The ports that the use cases reach the world through.
#[derive(Clone)]
pub struct Ports {
    /// Where connectors are kept.
    pub connectors: Arc<dyn Connectors>,
    /// Who may renew a grant.
    pub renewals: Arc<dyn Renewals>,
    /// What is due.
    pub agenda: Arc<dyn Agenda>,
    /// What is to be revoked.
    pub revocations: Arc<dyn Revocations>,
    /// What other processes change.
    pub changes: Arc<dyn Changes>,
    /// The MCP servers.
    pub mcp: Arc<dyn McpServer>,
    /// The authorization servers before them.
    pub authorization: Arc<dyn AuthorizationServer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Seals what clients hold for the service.
    pub sealer: Arc<dyn Sealer>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
}

/// The settings of the use cases.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The servers that are offered to every user.
    pub presets: Presets,
    /// Where a user's browser may be sent after consent.
    pub redirect_origins: RedirectOrigins,
    /// How much each user may do.
    pub limits: UserLimits,
    /// How long a probe may take at the very most, the adapter's own limits included. A connect that has not
    /// ended by then has died with its process, and another one takes over.
    pub probe_deadline: Duration,
    /// How long a user may take to consent.
    pub attempt_lifetime: Duration,
    /// Whether there are users to tell apart: then consent is finished in the browser in which it was begun.
    pub bind_browsers: bool,
    /// When this process opened the store, if no other process can use it: a probe that began before then has died with
    /// the process that began it, however far its deadline is.
    pub alone_since: Option<Timestamp>,
    /// How many targets the relay keeps in memory.
    pub target_capacity: u64,
    /// How long the relay trusts a target in memory, where other processes may change connectors and tell so too late;
    /// `None` where this process is the only one.
    pub target_ttl: Option<Duration>,
    /// How grants are renewed.
    pub renewal: RenewalConfig,
    /// How often the server of a connector that nobody uses is asked whether it is there; `None` for never.
    pub health_interval: Option<Duration>,
}

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct ConnectorService {
    pub(crate) ports: Ports,
    pub(crate) config: Arc<ServiceConfig>,
    pub(crate) targets: Targets,
    pub(crate) streams: Streams,
    pub(crate) renewing: Renewing,
    pub(crate) limits: Arc<Limits>,
    home: Home,
    /// The connectors for which a wider consent was asked lately, each with the consent that it had.
    pub(crate) step_ups: Cache<(ConnectorId, Revision), ()>,
    /// Tells the work behind the scenes that there is something to do before its time.
    pub(crate) work: Arc<Notify>,
}

impl ConnectorService {
    /// The service over `ports`, at home on the runtime on which this is called.
    pub fn new(ports: Ports, config: ServiceConfig) -> Self {
        let targets = Targets::new(config.target_capacity, config.target_ttl);
        let config_limits = config.limits;
        let mut random = [0; 16];
        ports.entropy.fill(&mut random);
        let renewing = Renewing::new(config.renewal, Builder::from_random_bytes(random).into_uuid());
        Self {
            ports,
            config: Arc::new(config),
            targets,
            streams: Streams::default(),
            renewing,
            limits: Arc::new(Limits::new(config_limits)),
            home: Home::here(),
            step_ups: Cache::builder().max_capacity(STEP_UPS).time_to_live(STEP_UP_PAUSE).build(),
            work: Arc::new(Notify::new()),
        }
    }

    /// Whether the service can do its work now.
    pub async fn ready(&self) -> Result<(), Error> {
        Ok(self.ports.connectors.ready().await?)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }

    /// The instant after `time` from now.
    pub(crate) fn after(&self, time: Duration) -> Timestamp {
        schedule::after(self.now(), time)
    }

    /// A text that nobody can guess: 32 random bytes in hexadecimal.
    pub(crate) fn random_secret(&self) -> Secret {
        let mut random = [0; 32];
        self.ports.entropy.fill(&mut random);
        Secret::new(crate::hex(&random))
    }

    /// When `connector`, as it is now, is looked after the next time.
    pub(crate) fn next_due(&self, connector: &Connector) -> Option<Timestamp> {
        schedule::next(connector, self.config.health_interval, self.now())
    }

    /// Begins no renewal any more. What is under way goes on; [`ConnectorService::renewals_settled`] waits for it.
    pub fn stop(&self) {
        self.renewing.stop();
    }

    /// Whether other processes may use the store.
    pub(crate) fn shares_store(&self) -> bool {
        self.config.alone_since.is_none()
    }

    /// Waits until every renewal that is under way has come to its end and is stored.
    pub async fn renewals_settled(&self) {
        self.renewing.settled().await;
    }

    /// Begins a task that outlives its caller.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.home.spawn(work)
    }

    /// Carries `work` to its end even if the caller goes away: a change that is stored must also be known in memory.
    pub(crate) async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Error> {
        self.spawn(work).await.map_err(|error| Error::Internal(Box::new(error)))
    }

    /// Carries `work` on for as long as the caller waits; what it begins may be needed by others.
    pub(crate) async fn at_home<T>(&self, work: impl Future<Output = T>) -> T {
        self.home.within(work).await
    }

    pub(crate) async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Connector, Error> {
        self.ports.connectors.find(owner, id).await?.ok_or(Error::NotFound)
    }

    /// Lets `event` happen to `connector`, stores what comes of it, and tells whoever must know.
    pub(crate) async fn advance(&self, connector: Connector, event: Event) -> Result<Connector, AdvanceError> {
        let since = used_since(&connector);
        let given_up = matches!(event, Event::DisconnectRequested).then(|| connector.grant().cloned()).flatten();
        let Transition { mut connector, change } = connector.apply(event, self.now())?;
        connector.due_at = self.next_due(&connector);
        let ends = used_since(&connector) != since;
        let service = self.clone();
        let stored = self.to_the_end(async move {
            let (id, after) = (connector.id, connector.clone());
            let stored = match given_up.filter(|grant| grant.issued().is_some()) {
                Some(grant) => {
                    let stored = service.ports.connectors.retire(connector, grant).await;
                    service.work.notify_one();
                    stored
                }
                None => service.ports.connectors.update(connector).await,
            };
            // Also after a failure: a change whose outcome is unknown may have been stored.
            service.targets.forget(id).await;
            if stored.is_ok() {
                if ends {
                    service.streams.cut(id);
                }
                audit::changed(&after, &change);
            }
            stored
        });
        Ok(stored.await.map_err(AdvanceError::Failed)??)
    }
}

/// Since which revision a connector is used with the consent that it has: `None` where it is not connected.
pub(crate) const fn used_since(connector: &Connector) -> Option<Revision> {
    match &connector.state {
        ConnectorState::Connected(connected) => Some(connected.since),
        _ => None,
    }
}

/// A connector was not brought into its next state.
#[derive(Debug)]
pub(crate) enum AdvanceError {
    /// The event has no place in the state.
    Refused(TransitionError),
    /// Somebody else was quicker.
    Conflict,
    /// The store failed.
    Failed(Error),
}

impl From<TransitionError> for AdvanceError {
    fn from(error: TransitionError) -> Self {
        Self::Refused(error)
    }
}

impl From<UpdateError> for AdvanceError {
    fn from(error: UpdateError) -> Self {
        match error {
            UpdateError::Conflict => Self::Conflict,
            UpdateError::Store(error) => Self::Failed(error.into()),
        }
    }
}
