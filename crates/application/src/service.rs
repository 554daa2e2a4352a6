//! The service as a whole: its ports, its settings, and what several use cases share.

use std::sync::Arc;
use std::time::Duration;

use connectors_domain::{
    Change, ChangeKind, Connector, ConnectorId, ConnectorState, Event, Grant, OwnerId, Presets, RedirectOrigins,
    Transition, TransitionError,
};
use jiff::Timestamp;
use tracing::Instrument;

use crate::Error;
use crate::ports::{AuthorizationServer, Clock, Connectors, Entropy, McpServer, UpdateError};
use crate::streams::Streams;
use crate::targets::Targets;

/// The ports that the use cases reach the world through.
#[derive(Clone)]
pub struct Ports {
    /// Where connectors are kept.
    pub connectors: Arc<dyn Connectors>,
    /// The MCP servers.
    pub mcp: Arc<dyn McpServer>,
    /// The authorization servers before them.
    pub authorization: Arc<dyn AuthorizationServer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
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
    /// How many connectors a user may have.
    pub connectors_per_user: u32,
    /// How long a probe may take at the very most, the adapter's own limits included. A connect that has not
    /// ended by then has died with its process, and another one takes over.
    pub probe_deadline: Duration,
    /// How long a user may take to consent.
    pub attempt_lifetime: Duration,
    /// When this process opened the store, if no other process can use it: a probe that began before then has died with
    /// the process that began it, however far its deadline is.
    pub alone_since: Option<Timestamp>,
    /// How many targets the relay keeps in memory.
    pub target_capacity: u64,
    /// How long the relay trusts a target in memory, where other processes may change connectors; `None` where this
    /// process is the only one.
    pub target_ttl: Option<Duration>,
}

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct ConnectorService {
    pub(crate) ports: Ports,
    pub(crate) config: Arc<ServiceConfig>,
    pub(crate) targets: Targets,
    pub(crate) streams: Streams,
}

impl ConnectorService {
    /// The service over `ports`.
    pub fn new(ports: Ports, config: ServiceConfig) -> Self {
        let targets = Targets::new(config.target_capacity, config.target_ttl);
        Self { ports, config: Arc::new(config), targets, streams: Streams::default() }
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
        self.now().saturating_add(time).unwrap_or(Timestamp::MAX)
    }

    pub(crate) async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Connector, Error> {
        self.ports.connectors.find(owner, id).await?.ok_or(Error::NotFound)
    }

    /// Lets `event` happen to `connector`, stores what comes of it, and tells whoever must know.
    pub(crate) async fn advance(&self, connector: Connector, event: Event) -> Result<Connector, AdvanceError> {
        let right = right_of_use(&connector).cloned();
        let Transition { connector, change } = connector.apply(event, self.now())?;
        let ends = right_of_use(&connector).cloned() != right;
        let service = self.clone();
        let stored = to_the_end(async move {
            let id = connector.id;
            let stored = service.ports.connectors.update(connector).await;
            // Also after a failure: a change whose outcome is unknown may have been stored.
            service.targets.forget(id).await;
            if stored.is_ok() {
                if ends {
                    service.streams.cut(id);
                }
                announce(&change);
            }
            stored
        });
        Ok(stored.await.map_err(AdvanceError::Failed)??)
    }
}

/// What a connected connector is used with: `None` where it is not connected.
fn right_of_use(connector: &Connector) -> Option<&Option<Grant>> {
    match &connector.state {
        ConnectorState::Connected(connected) => Some(&connected.grant),
        _ => None,
    }
}

/// Carries `work` to its end even if the caller goes away: a change that is stored must also be known in memory.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
    tokio::spawn(work.in_current_span()).await.map_err(|error| Error::Internal(Box::new(error)))
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

/// Says what happened, in the words that clients and the documentation use.
fn announce(change: &Change) {
    let (event, code) = match change.kind {
        ChangeKind::Connecting => ("connecting", None),
        ChangeKind::AuthorizationRequired => ("auth_required", None),
        ChangeKind::Connected => ("connected", None),
        ChangeKind::WiderConsentRequired => ("wider_consent_required", None),
        ChangeKind::WiderConsentEnded => ("wider_consent_ended", None),
        ChangeKind::GrantRenewed => ("grant_renewed", None),
        ChangeKind::Disconnected(code) => ("disconnected", Some(code.as_str())),
        ChangeKind::Created => ("created", None),
    };
    tracing::info!(
        connector = %change.connector,
        owner = %change.owner,
        change = event,
        disconnect_code = code,
        "connector changed"
    );
}
