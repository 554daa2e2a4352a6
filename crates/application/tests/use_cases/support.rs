//! A service whose outside is under the test's hand.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{
    AuthorizationServer, Clock, ConnectorPage, Connectors, InsertError, ListQuery, McpServer, MockAuthorizationServer,
    MockMcpServer, PrepareError, Removed, StoreError, UpdateError,
};
use connectors_application::{
    ConnectorService, CreateRequest, IssuerLimits, Ports, RenewalConfig, ServiceConfig, UserLimits,
};
use connectors_domain::{
    Connector, ConnectorId, Grant, OwnerId, Presets, ProtocolVersion, RedirectOrigins, ServerFacts, StateHash,
};
use connectors_testkit::faults::Failing;
use connectors_testkit::{ManualClock, MemorySealer, MemoryStore, SeededEntropy};
use jiff::Timestamp;

pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const ATTEMPT_LIFETIME: Duration = Duration::from_mins(10);
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const HEALTH_INTERVAL: Duration = Duration::from_hours(1);

pub(crate) struct World {
    pub(crate) service: ConnectorService,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: ManualClock,
    pub(crate) owner: OwnerId,
    ports: Ports,
    config: ServiceConfig,
}

impl World {
    pub(crate) fn new(mcp: MockMcpServer) -> Self {
        Self::with(Arc::new(mcp))
    }

    pub(crate) fn with(mcp: Arc<dyn McpServer>) -> Self {
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        Self::over(mcp, Arc::new(not_offered()), Arc::new(store(&clock)), clock, None)
    }

    /// With an authorization server.
    pub(crate) fn authorized_by(mcp: MockMcpServer, authorization: MockAuthorizationServer) -> Self {
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        Self::over(Arc::new(mcp), Arc::new(authorization), Arc::new(store(&clock)), clock, None)
    }

    /// With a store that writes at once and says so late.
    pub(crate) fn slow(mcp: MockMcpServer) -> Self {
        let world = Self::new(MockMcpServer::new());
        let connectors = Arc::new(Slow(Arc::clone(&world.store)));
        Self::of(Arc::new(mcp), Arc::new(not_offered()), connectors, world.store, world.clock, None)
    }

    /// The same world, before a store that can be made to fail.
    pub(crate) fn failing(self) -> (Self, Failing<MemoryStore>) {
        let failing = Failing::new((*self.store).clone());
        let ports = Ports { connectors: Arc::new(failing.clone()), ..self.ports };
        let service = ConnectorService::new(ports.clone(), self.config.clone());
        (Self { service, ports, ..self }, failing)
    }

    /// Another process on the same store, with memory of its own.
    pub(crate) fn beside(&self, mcp: MockMcpServer) -> Self {
        Self::over(Arc::new(mcp), Arc::new(not_offered()), Arc::clone(&self.store), self.clock.clone(), None)
    }

    /// The only process on the same store, after the one before has died.
    pub(crate) fn restarted(&self, mcp: MockMcpServer) -> Self {
        Self::over(
            Arc::new(mcp),
            Arc::new(not_offered()),
            Arc::clone(&self.store),
            self.clock.clone(),
            Some(self.clock.now()),
        )
    }

    fn over(
        mcp: Arc<dyn McpServer>,
        authorization: Arc<dyn AuthorizationServer>,
        store: Arc<MemoryStore>,
        clock: ManualClock,
        alone_since: Option<Timestamp>,
    ) -> Self {
        Self::of(mcp, authorization, Arc::clone(&store) as Arc<dyn Connectors>, store, clock, alone_since)
    }

    fn of(
        mcp: Arc<dyn McpServer>,
        authorization: Arc<dyn AuthorizationServer>,
        connectors: Arc<dyn Connectors>,
        store: Arc<MemoryStore>,
        clock: ManualClock,
        alone_since: Option<Timestamp>,
    ) -> Self {
        let ports = Ports {
            connectors,
            renewals: store.clone(),
            agenda: store.clone(),
            revocations: store.clone(),
            changes: store.clone(),
            mcp,
            authorization,
            clock: Arc::new(clock.clone()),
            sealer: Arc::new(MemorySealer::default()),
            entropy: Arc::new(SeededEntropy::new(1)),
        };
        let config = ServiceConfig {
            presets: Presets::default(),
            redirect_origins: RedirectOrigins::Loopback,
            limits: UserLimits::of_connectors(10),
            bind_browsers: false,
            probe_deadline: PROBE_DEADLINE,
            attempt_lifetime: ATTEMPT_LIFETIME,
            alone_since,
            target_capacity: 100,
            target_ttl: None,
            renewal: RenewalConfig {
                lease: LEASE,
                wait: Duration::from_secs(20),
                issuers: IssuerLimits { concurrency: 16, per_second: NonZeroU32::MAX },
            },
            health_interval: Some(HEALTH_INTERVAL),
        };
        let service = ConnectorService::new(ports.clone(), config.clone());
        Self { service, store, clock, owner: OwnerId::local(), ports, config }
    }

    /// The same world after a start with other presets.
    pub(crate) fn offering(self, presets: Presets) -> Self {
        self.configured(|config| config.presets = presets)
    }

    /// The same world after a start with other settings.
    pub(crate) fn configured(mut self, change: impl FnOnce(&mut ServiceConfig)) -> Self {
        change(&mut self.config);
        let service = ConnectorService::new(self.ports.clone(), self.config.clone());
        Self { service, ..self }
    }

    pub(crate) async fn create(&self) -> Connector {
        let request = CreateRequest { url: "https://mcp.example.com/mcp".into(), ..CreateRequest::default() };
        self.service.create(self.owner, request).await.unwrap()
    }

    pub(crate) async fn create_with_client(&self, id: &str) -> Connector {
        let url = "https://mcp.example.com/mcp".into();
        let request = CreateRequest { url, client_id: Some(id.into()), ..CreateRequest::default() };
        self.service.create(self.owner, request).await.unwrap()
    }

    pub(crate) async fn stored(&self, connector: &Connector) -> Connector {
        self.store.find(self.owner, connector.id).await.unwrap().unwrap()
    }
}

/// A store whose clock is the test's.
fn store(clock: &ManualClock) -> MemoryStore {
    MemoryStore::with_clock(clock.clone())
}

/// How late a slow store says that it has written.
pub(crate) const SLOW: Duration = Duration::from_millis(100);

struct Slow(Arc<MemoryStore>);

#[async_trait]
impl Connectors for Slow {
    async fn insert(&self, connector: Connector, limit: u32) -> Result<(), InsertError> {
        self.0.insert(connector, limit).await
    }

    async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        self.0.find(owner, id).await
    }

    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError> {
        self.0.find_by_state(state).await
    }

    async fn find_any(&self, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        self.0.find_any(id).await
    }

    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.0.list(owner, query).await
    }

    async fn list_any(&self, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.0.list_any(query).await
    }

    async fn count_waiting(&self, owner: OwnerId) -> Result<u64, StoreError> {
        self.0.count_waiting(owner).await
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        let updated = self.0.update(connector).await;
        tokio::time::sleep(SLOW).await;
        updated
    }

    async fn retire(&self, connector: Connector, grant: Grant) -> Result<Connector, UpdateError> {
        let retired = self.0.retire(connector, grant).await;
        tokio::time::sleep(SLOW).await;
        retired
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        let removed = self.0.remove(owner, id).await;
        tokio::time::sleep(SLOW).await;
        removed
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.0.ready().await
    }
}

/// A port that talks to every address.
pub(crate) fn mcp() -> MockMcpServer {
    let mut mcp = MockMcpServer::new();
    mcp.expect_admit().returning(|_| Ok(()));
    mcp
}

pub(crate) fn facts() -> ServerFacts {
    ServerFacts { modern: ProtocolVersion::parse("2026-07-28").ok(), legacy: None, name: None }
}

/// No server names an authorization server.
pub(crate) fn not_offered() -> MockAuthorizationServer {
    let mut authorization = MockAuthorizationServer::new();
    authorization.expect_prepare().returning(|_| Err(PrepareError::NotOffered));
    authorization.expect_is_named_by().returning(|_| false);
    authorization
}
