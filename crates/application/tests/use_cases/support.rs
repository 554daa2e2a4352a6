//! A service whose outside is under the test's hand.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{
    AuthorizationServer, Clock, ConnectorPage, Connectors, InsertError, ListQuery, McpServer, MockAuthorizationServer,
    MockMcpServer, PrepareError, Removed, StoreError, UpdateError,
};
use connectors_application::{ConnectorService, CreateRequest, Ports, ServiceConfig};
use connectors_domain::{
    Connector, ConnectorId, OwnerId, Presets, ProtocolVersion, RedirectOrigins, ServerFacts, StateHash,
};
use connectors_testkit::{ManualClock, MemoryStore, SeededEntropy};
use jiff::Timestamp;

pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const ATTEMPT_LIFETIME: Duration = Duration::from_mins(10);

pub(crate) struct World {
    pub(crate) service: ConnectorService,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: ManualClock,
    pub(crate) owner: OwnerId,
}

impl World {
    pub(crate) fn new(mcp: MockMcpServer) -> Self {
        Self::with(Arc::new(mcp))
    }

    pub(crate) fn with(mcp: Arc<dyn McpServer>) -> Self {
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        Self::over(mcp, Arc::new(not_offered()), Arc::new(MemoryStore::new()), clock, None)
    }

    /// With an authorization server.
    pub(crate) fn authorized_by(mcp: MockMcpServer, authorization: MockAuthorizationServer) -> Self {
        let clock = ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap());
        Self::over(Arc::new(mcp), Arc::new(authorization), Arc::new(MemoryStore::new()), clock, None)
    }

    /// With a store that writes at once and says so late.
    pub(crate) fn slow(mcp: MockMcpServer) -> Self {
        let world = Self::new(MockMcpServer::new());
        let connectors = Arc::new(Slow(Arc::clone(&world.store)));
        Self::of(Arc::new(mcp), Arc::new(not_offered()), connectors, world.store, world.clock, None)
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
            mcp,
            authorization,
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(1)),
        };
        let config = ServiceConfig {
            presets: Presets::default(),
            redirect_origins: RedirectOrigins::Loopback,
            connectors_per_user: 10,
            probe_deadline: PROBE_DEADLINE,
            attempt_lifetime: ATTEMPT_LIFETIME,
            alone_since,
            target_capacity: 100,
            target_ttl: None,
        };
        Self { service: ConnectorService::new(ports, config), store, clock, owner: OwnerId::local() }
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

    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.0.list(owner, query).await
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        let updated = self.0.update(connector).await;
        tokio::time::sleep(SLOW).await;
        updated
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
    authorization
}
