//! A server on a free port, over a store in memory and a scripted MCP port.

use std::net::TcpListener;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use connectors_api::{ApiConfig, Server};
use connectors_application::ports::{
    AddressRefused, Connectors, McpServer, MockAuthorizationServer, MockMcpServer, PrepareError, ProbeError, RelayBody,
    RelayResponse, ResponseHeaders,
};
use connectors_application::{ConnectorService, IssuerLimits, Ports, RenewalConfig, ServiceConfig};
use connectors_domain::{
    ClientCredentials, Metadata, Preset, Presets, ProtocolVersion, Quirks, RedirectOrigins, ServerFacts, ServerUrl,
    StateHash,
};
use connectors_testkit::{ManualClock, MemoryStore, SeededEntropy};
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::oneshot;

pub(crate) struct TestServer {
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
}

/// What one call came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn config() -> ApiConfig {
    ApiConfig {
        public_url: "https://connectors.example.com/".parse().unwrap(),
        allowed_hosts: vec![],
        allowed_origins: vec!["https://inspector.example.com".into()],
        allow_loopback_hosts: true,
        api_body_limit: 64 * 1024,
        relay_body_limit: 256 * 1024,
        body_timeout: Duration::from_millis(500),
        head_timeout: Duration::from_millis(500),
        event_keep_alive: Duration::from_secs(15),
        workers: 1,
        max_connections_per_worker: 100,
        shutdown_timeout: Duration::from_secs(2),
        client_metadata: None,
        instance: [0, 0, 0, 1],
    }
}

/// An MCP port on which `https://up.example.com/…` is a modern server, `https://down.example.com/…` is unreachable,
/// `https://locked.example.com/…` wants the token `good`, and nothing else may be talked to.
pub(crate) fn mcp() -> MockMcpServer {
    let mut mcp = MockMcpServer::new();
    mcp.expect_admit().returning(|url| {
        if url.as_url().host_str().is_some_and(|host| host.ends_with(".example.com")) {
            Ok(())
        } else {
            Err(AddressRefused("The address is not public. The operator allows others in egress.allow.".into()))
        }
    });
    mcp.expect_probe().returning(|url, token| {
        let facts = ServerFacts { modern: ProtocolVersion::parse("2026-07-28").ok(), legacy: None, name: None };
        match url.as_url().host_str() {
            Some("up.example.com") => Ok(facts),
            Some("locked.example.com") if token.is_some_and(|token| token.expose() == "good") => Ok(facts),
            Some("locked.example.com") => Err(ProbeError::Unauthorized { challenges: vec![] }),
            Some("broken.example.com") => Err(ProbeError::Status(500)),
            _ => Err(ProbeError::Unreachable("it is away")),
        }
    });
    mcp.expect_relay().returning(|request| {
        let body = request.body.clone();
        let stream = futures_util::stream::iter([Ok(body)]);
        let mut headers = ResponseHeaders::default();
        headers.offer("mcp-session-id", b"s-1");
        Ok(RelayResponse {
            status: 200,
            headers: headers.with_content_type(b"application/json"),
            challenges: Vec::new(),
            body: RelayBody::Json { length: None, stream: Box::pin(stream) },
        })
    });
    mcp
}

pub(crate) fn service(connectors: Arc<dyn Connectors>, mcp: Arc<dyn McpServer>) -> ConnectorService {
    let client = ClientCredentials::new("preset-id".into(), Some("preset-secret".into())).unwrap();
    let metadata = Metadata::new([("name".to_owned(), "Preset".to_owned())].into()).unwrap();
    let preset = Preset {
        url: ServerUrl::parse("https://preset.example.com").unwrap(),
        client: Some(client),
        metadata: Some(metadata),
        quirks: Quirks::default(),
    };
    let mut authorization = MockAuthorizationServer::new();
    authorization.expect_prepare().returning(|_| Err(PrepareError::NotOffered));
    authorization.expect_is_named_by().returning(|_| false);
    authorization.expect_state_hash().returning(|_| StateHash([0; 32]));
    let beside = Arc::new(MemoryStore::new());
    let ports = Ports {
        connectors,
        renewals: beside.clone(),
        agenda: beside.clone(),
        revocations: beside.clone(),
        changes: beside,
        mcp,
        authorization: Arc::new(authorization),
        clock: Arc::new(ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap())),
        entropy: Arc::new(SeededEntropy::new(1)),
    };
    let config = ServiceConfig {
        presets: Presets::new(vec![preset]),
        redirect_origins: RedirectOrigins::Loopback,
        connectors_per_user: 5,
        probe_deadline: Duration::from_secs(30),
        attempt_lifetime: Duration::from_mins(10),
        alone_since: None,
        target_capacity: 100,
        target_ttl: None,
        renewal: RenewalConfig {
            lease: Duration::from_secs(30),
            wait: Duration::from_secs(20),
            issuers: IssuerLimits { concurrency: 16, per_second: NonZeroU32::MAX },
        },
        health_interval: None,
    };
    ConnectorService::new(ports, config)
}

pub(crate) fn start() -> TestServer {
    start_with(service(Arc::new(MemoryStore::new()), Arc::new(mcp())), config())
}

pub(crate) fn start_with(service: ConnectorService, config: ApiConfig) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server::new(listener, service, config).unwrap();
    let url = format!("http://{}", server.address());
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        server.run(async { drop(stopped.await) }).await.unwrap();
    });
    TestServer { url, client: connectors_testkit::http::client(), stop: Some(stop) }
}

impl TestServer {
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.unwrap(),
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().unwrap(), format!("{}{path}", self.url))
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    pub(crate) async fn create(&self, url: &str) -> String {
        let answer = self.call("POST", "/api/v1/connectors", Some(serde_json::json!({ "url": url }))).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).unwrap();
        }
    }
}
