//! Every place in which an MCP server, or who registers one, can name an address, with every spelling of an address that
//! must not be reached. The policy is that of a network: nothing that is not public is open, but for the server of the
//! test itself.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests, too")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{
    BadAnswer, McpServer as _, ProbeError, RelayBody, RelayError, RelayMethod, RelayRequest, RelayTarget,
    RequestHeaders,
};
use connectors_domain::{AccessToken, ServerFacts, ServerUrl};
use connectors_egress::{Egress, Limits, Policy};
use connectors_mcp::{McpClient, McpConfig};
use connectors_testkit::mcp_server::{Behaviour, Eras, McpServer, Reply, Rule};
use connectors_testkit::spellings::{Canary, table};
use futures_util::StreamExt as _;

/// Far more than anything takes that is expected to come.
const LONG: Duration = Duration::from_secs(20);
const METHODS: [RelayMethod; 3] = [RelayMethod::Post, RelayMethod::Get, RelayMethod::Delete];
/// The statuses of redirects, those included that nobody should follow.
const REDIRECTS: [u16; 8] = [300, 301, 302, 303, 305, 306, 307, 308];

/// A hostile server, the listener that it would like to be reached, and the client.
struct Scene {
    server: McpServer,
    canary: Canary,
    client: McpClient,
}

impl Scene {
    async fn set(eras: Eras) -> Self {
        let server = McpServer::builder().eras(eras).start().await.unwrap();
        let canary = Canary::start().await.unwrap();
        let allow = vec![server.address().to_string().parse().unwrap()];
        let policy = Policy { allow, ..Policy::default() };
        let config = McpConfig {
            probe_timeout: LONG,
            body_idle_timeout: LONG,
            stream_idle_timeout: Some(LONG),
            client_name: "connectors".to_owned(),
            client_version: "1.2.3".to_owned(),
        };
        let client = McpClient::new(Egress::new(&policy, &Limits::default(), None).unwrap(), config);
        Self { server, canary, client }
    }

    /// Every spelling, with a number of its own.
    fn spellings(&self) -> impl Iterator<Item = (usize, String)> + use<> {
        table(self.canary.port()).into_iter().enumerate()
    }

    fn url(&self) -> ServerUrl {
        ServerUrl::parse(&self.server.url()).unwrap()
    }

    /// Answers every request on a path of its own with this.
    fn answering(&self, number: usize, reply: Reply) -> ServerUrl {
        self.server.route(format!("/s{number}"), reply);
        ServerUrl::parse(&format!("{}/s{number}", self.server.origin())).unwrap()
    }

    async fn relay(&self, url: &ServerUrl, method: RelayMethod) -> Result<RelayBody, RelayError> {
        let access_token = Some(AccessToken::new("CANARY".to_owned()).unwrap());
        let target = Arc::new(RelayTarget { url: url.clone(), access_token });
        let body = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        let request = RelayRequest { target, method, headers: RequestHeaders::default(), body };
        self.client.relay(request).await.map(|response| response.body)
    }

    async fn nothing_was_reached(&self) {
        assert_eq!(self.canary.connections().await.unwrap(), 0);
    }
}

fn redirect(number: usize, to: &str) -> Reply {
    Reply::text(REDIRECTS[number % REDIRECTS.len()], "moved").header("location", to)
}

/// A failure that tells of no connection and of no waiting.
fn is_clear(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Status(300..=399) | ProbeError::NotMcp)
}

#[tokio::test]
async fn no_connector_leads_inside_even_if_its_url_was_accepted_before() {
    let scene = Scene::set(Eras::Dual).await;
    let mut readable = 0;
    for (_, spelling) in scene.spellings() {
        let Ok(url) = ServerUrl::parse(&spelling) else { continue };
        readable += 1;
        assert!(scene.client.admit(&url).is_err(), "{spelling:?}");
        let probed = scene.client.probe(url.clone(), None).await;
        assert!(matches!(probed, Err(ProbeError::AddressRefused(_))), "{spelling:?}: {probed:?}");
        assert_eq!(scene.client.tools_challenge(url.clone(), ServerFacts::default()).await, None);
        for method in METHODS {
            match scene.relay(&url, method).await {
                Err(RelayError::AddressRefused(_)) => {}
                other => panic!("{spelling:?}: {other:?}"),
            }
        }
    }
    assert!(readable >= 150, "{readable}");
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn no_redirect_of_a_probe_is_followed() {
    let scene = Scene::set(Eras::Dual).await;
    for (number, spelling) in scene.spellings() {
        let url = scene.answering(number, redirect(number, &spelling));
        match scene.client.probe(url, Some(AccessToken::new("CANARY".to_owned()).unwrap())).await {
            Err(error) if is_clear(&error) => {}
            other => panic!("{spelling:?}: {other:?}"),
        }
    }
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn no_redirect_of_a_call_is_followed() {
    let scene = Scene::set(Eras::Dual).await;
    let mut asked = 0;
    for (number, spelling) in scene.spellings() {
        let url = scene.answering(number, redirect(number, &spelling));
        for method in METHODS {
            match scene.relay(&url, method).await {
                Err(RelayError::BadAnswer(BadAnswer::Redirect)) => {}
                // What no header field can hold has torn the answer to pieces.
                Err(RelayError::BadAnswer(BadAnswer::NoHttp)) if spelling.contains(['\n', '\0']) => {}
                other => panic!("{spelling:?}: {other:?}"),
            }
            asked += 1;
        }
    }
    // Once each: the credential went to the server alone.
    assert_eq!(scene.server.request_count(), asked);
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn no_redirect_is_followed_where_the_outcome_does_not_matter() {
    let scene = Scene::set(Eras::Legacy).await;
    let facts = scene.client.probe(scene.url(), None).await.unwrap();
    for (number, spelling) in scene.spellings() {
        // The end of a session.
        scene.server.script(Rule::new(redirect(number, &spelling)).on_verb("DELETE"));
        assert!(scene.client.probe(scene.url(), None).await.is_ok(), "{spelling:?}");
        // The question for tools.
        scene.server.script(Rule::new(redirect(number, &spelling)).on_method("tools/list"));
        assert_eq!(scene.client.tools_challenge(scene.url(), facts.clone()).await, None, "{spelling:?}");
    }
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn what_an_answer_names_besides_is_not_asked_for() {
    let scene = Scene::set(Eras::Modern).await;
    for (number, spelling) in scene.spellings() {
        // Where a server of HTTP+SSE wants its messages.
        let line = spelling.replace(['\r', '\n'], " ");
        let stream = Reply::stream([format!("event: endpoint\ndata: {line}\n\n")]);
        let url = scene.answering(number, stream);
        match scene.client.probe(url.clone(), None).await {
            Err(error) if is_clear(&error) => {}
            other => panic!("{spelling:?}: {other:?}"),
        }
        match scene.relay(&url, RelayMethod::Get).await {
            Ok(RelayBody::Events { mut stream }) => while stream.next().await.is_some() {},
            other => panic!("{spelling:?}: {other:?}"),
        }
        // Where a server of HTTP wants its clients; this one is a good server otherwise.
        let fields = ["location", "content-location", "refresh", "link", "alt-svc", "x-accel-redirect"];
        let value = spelling.clone();
        scene.server.script(Behaviour::alter(move |reply| {
            fields.iter().fold(reply.status(201), |reply, name| reply.header(name, &value))
        }));
        match scene.client.probe(scene.url(), None).await {
            Ok(_) => {}
            Err(ProbeError::NotMcp) if spelling.contains(['\n', '\0']) => {}
            other => panic!("{spelling:?}: {other:?}"),
        }
        scene.server.behave();
    }
    scene.nothing_was_reached().await;
}
