//! Short forms.

use std::time::Duration;

use connectors_domain::{AccessToken, ServerUrl};
use connectors_egress::{Egress, Limits, Policy};
use connectors_mcp::{McpClient, McpConfig};
use connectors_testkit::mcp_server::{Eras, McpServer};

/// Far more than anything takes that is expected to come.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) fn config() -> McpConfig {
    McpConfig {
        probe_timeout: LONG,
        body_idle_timeout: LONG,
        stream_idle_timeout: Some(LONG),
        client_name: "connectors".to_owned(),
        client_version: "1.2.3".to_owned(),
    }
}

pub(crate) fn client_with(limits: &Limits, config: McpConfig) -> McpClient {
    let policy = Policy { loopback: true, ..Policy::default() };
    McpClient::new(Egress::new(&policy, limits, None).unwrap(), config)
}

pub(crate) fn client() -> McpClient {
    client_with(&Limits::default(), config())
}

pub(crate) async fn server(eras: Eras) -> McpServer {
    McpServer::builder().eras(eras).start().await.unwrap()
}

pub(crate) fn url(server: &McpServer) -> ServerUrl {
    ServerUrl::parse(&server.url()).unwrap()
}

pub(crate) fn token(text: &str) -> AccessToken {
    AccessToken::new(text.to_owned()).unwrap()
}
