//! A question to a server that has answered a probe without a credential: does it list its tools just so?
//!
//! There are servers with an anonymous handshake, which talk of themselves to everybody and want a credential for
//! everything else. Only a 401 shows that: a server may have no tools, or may fail in its own ways.

use connectors_application::ports::ProbeError;
use connectors_domain::{ProtocolVersion, ServerFacts, ServerUrl};
use connectors_egress::Egress;
use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use super::{PROTOCOL_VERSION, Probe, SESSION_ID, message, modern_headers, times};
use crate::McpConfig;

const LIST: &str = "tools/list";

/// The challenges of a server that does not list its tools without a credential; `None` for every other server.
///
/// It takes as long as a probe at most, and leaves no more behind.
pub(crate) async fn tools_challenge(
    egress: &Egress,
    config: &McpConfig,
    url: &ServerUrl,
    server: ServerFacts,
) -> Option<Vec<String>> {
    let mut probe = Probe::new(egress, config, url, None, server);
    let (asking, farewell) = times(config);
    let outcome = probe.ask_for_tools(Instant::now() + asking).await;
    probe.end_sessions(farewell).await;
    match outcome {
        Err(ProbeError::Unauthorized { challenges }) => Some(challenges),
        Ok(()) | Err(_) => None,
    }
}

impl Probe<'_> {
    /// Asks in the modern era if the server speaks it, which takes one request and no session.
    async fn ask_for_tools(&mut self, until: Instant) -> Result<(), ProbeError> {
        if let Some(version) = self.facts.modern.clone() {
            let id = self.next_id();
            let question = message::modern(id, LIST, version.as_str(), self.config);
            let headers = header(&version).map(|version| modern_headers(version, LIST)).unwrap_or_default();
            self.ask(id, &question, headers, until).await?;
        } else if let Some(version) = self.facts.legacy.clone() {
            let id = self.next_id();
            let question = message::initialize(id, version.as_str(), self.config);
            self.ask(id, &question, HeaderMap::new(), until).await?;
            let headers: HeaderMap = [
                header(&version).map(|version| (PROTOCOL_VERSION, version)),
                self.sessions.last().map(|session| (SESSION_ID, session.clone())),
            ]
            .into_iter()
            .flatten()
            .collect();
            // It has no id, and no answer: this one is never met.
            let id = self.next_id();
            self.ask(id, &message::initialized(), headers.clone(), until).await?;
            let id = self.next_id();
            self.ask(id, &message::list_tools(id), headers, until).await?;
        }
        Ok(())
    }
}

fn header(version: &ProtocolVersion) -> Option<HeaderValue> {
    HeaderValue::try_from(version.as_str()).ok()
}
