//! A service whose outside is under the test's hand.

use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::{Clock, Connectors, McpServer, MockMcpServer};
use connectors_application::{ConnectorService, CreateRequest, Ports, ServiceConfig};
use connectors_domain::{Connector, OwnerId, Presets, ProtocolVersion, RedirectOrigins, ServerFacts};
use connectors_testkit::{ManualClock, MemoryStore, SeededEntropy};
use jiff::Timestamp;

pub(crate) const PROBE_DEADLINE: Duration = Duration::from_secs(30);

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
        Self::over(mcp, Arc::new(MemoryStore::new()), clock, None)
    }

    /// Another process on the same store, with memory of its own.
    pub(crate) fn beside(&self, mcp: MockMcpServer) -> Self {
        Self::over(Arc::new(mcp), Arc::clone(&self.store), self.clock.clone(), None)
    }

    /// The only process on the same store, after the one before has died.
    pub(crate) fn restarted(&self, mcp: MockMcpServer) -> Self {
        Self::over(Arc::new(mcp), Arc::clone(&self.store), self.clock.clone(), Some(self.clock.now()))
    }

    fn over(
        mcp: Arc<dyn McpServer>,
        store: Arc<MemoryStore>,
        clock: ManualClock,
        alone_since: Option<Timestamp>,
    ) -> Self {
        let ports = Ports {
            connectors: Arc::clone(&store) as Arc<dyn Connectors>,
            mcp,
            clock: Arc::new(clock.clone()),
            entropy: Arc::new(SeededEntropy::new(1)),
        };
        let config = ServiceConfig {
            presets: Presets::default(),
            redirect_origins: RedirectOrigins::Loopback,
            connectors_per_user: 10,
            probe_deadline: PROBE_DEADLINE,
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

    pub(crate) async fn stored(&self, connector: &Connector) -> Connector {
        self.store.find(self.owner, connector.id).await.unwrap().unwrap()
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
