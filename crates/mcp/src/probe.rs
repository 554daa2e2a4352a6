//! The probe: finds out what a server speaks.
//!
//! It asks as a modern client (`server/discover`) and, unless that told already, as a legacy one (`initialize`), as MCP
//! 2026-07-28 has it under "Backward Compatibility" of *Streamable HTTP*. Both are asked, since a server may speak both
//! eras. What it leaves undone:
//!
//! - `notifications/initialized` is not sent: the session ends at once, and until that notification the server begins
//!   nothing of its own (MCP 2025-11-25, "Lifecycle").
//! - A stream that the server closes before the answer is not resumed, and HTTP+SSE of 2024-11-05 is not tried.
//!
//! A 401 to either question is the outcome, even if the other was answered. The credential belongs into every request
//! (MCP, "Authorization"), so a server that wants one for `initialize` wants one for calls, and that it talks of itself
//! to everybody does not show that a credential is good. Any other failure counts only if nothing was learned.

mod body;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod message;
mod tools;

use std::time::Duration;

use connectors_application::ports::ProbeError;
use connectors_domain::{AccessToken, ProtocolVersion, ServerFacts, ServerUrl};
use connectors_egress::Egress;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Request, Url};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use self::message::{Discovered, Initialized, Message};
pub(crate) use self::tools::tools_challenge;
use crate::McpConfig;
use crate::client::probe_error;
use crate::head::{Media, bearer, challenges, media};

/// The most time that is kept for ending sessions.
const FAREWELL: Duration = Duration::from_secs(2);

const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// Asks the server at `url`, and ends what sessions came of it, in the time that `config` allows.
///
/// A session stays behind only if the future is dropped, or the server does not let it be ended.
pub(crate) async fn probe(
    egress: &Egress,
    config: &McpConfig,
    url: &ServerUrl,
    credential: Option<&AccessToken>,
) -> Result<ServerFacts, ProbeError> {
    let credential = credential
        .map(|token| bearer(token).ok_or_else(|| ProbeError::Unauthorized { challenges: Vec::new() }))
        .transpose()?;
    let mut probe = Probe::new(egress, config, url, credential, ServerFacts::default());
    let (asking, farewell) = times(config);
    let outcome = probe.ask_all(Instant::now(), asking).await;
    probe.end_sessions(farewell).await;
    outcome.map(|()| probe.facts)
}

/// How long a probe may ask, and how long it may then take to end its sessions.
fn times(config: &McpConfig) -> (Duration, Duration) {
    let farewell = (config.probe_timeout / 5).min(FAREWELL);
    (config.probe_timeout.saturating_sub(farewell), farewell)
}

/// A conversation with one server.
struct Probe<'a> {
    egress: &'a Egress,
    config: &'a McpConfig,
    url: &'a Url,
    credential: Option<HeaderValue>,
    /// What was learned so far.
    facts: ServerFacts,
    /// The sessions that the server has begun.
    sessions: Vec<HeaderValue>,
    /// How many questions were asked.
    asked: u64,
}

/// What came of a question.
struct Answer {
    status: StatusCode,
    /// `None` if the answer is not MCP.
    message: Option<Message>,
}

impl<'a> Probe<'a> {
    fn new(
        egress: &'a Egress,
        config: &'a McpConfig,
        url: &'a ServerUrl,
        credential: Option<HeaderValue>,
        facts: ServerFacts,
    ) -> Self {
        Self { egress, config, url: url.as_url(), credential, facts, sessions: Vec::new(), asked: 0 }
    }

    async fn ask_all(&mut self, start: Instant, time: Duration) -> Result<(), ProbeError> {
        // Half of the time: a legacy server may keep silent about a question that it does not know.
        let first = self.discover(start + time / 2).await.err();
        if let Some(ProbeError::AddressRefused(_) | ProbeError::Unreachable(_) | ProbeError::Unauthorized { .. }) =
            first
        {
            return first.map_or(Ok(()), Err);
        }
        if self.facts.legacy.is_some() {
            return Ok(());
        }
        match (first, self.initialize(start + time).await) {
            (_, Err(refused @ ProbeError::Unauthorized { .. })) => Err(refused),
            (None, _) | (_, Ok(())) => Ok(()),
            (Some(first), Err(second)) => Err(more_telling(first, second)),
        }
    }

    /// Asks as a modern client; once more if the server names versions that it supports.
    async fn discover(&mut self, until: Instant) -> Result<(), ProbeError> {
        let mut version = message::MODERN[0];
        for last in [false, true] {
            let id = self.next_id();
            let question = message::modern(id, "server/discover", version, self.config);
            let headers = modern_headers(HeaderValue::from_static(version), "server/discover");
            let Answer { status, message } = self.ask(id, &question, headers, until).await?;
            let error = match message {
                Some(Message::Result(result)) if status.is_success() => {
                    let discovered = Discovered::read(&result).ok_or(ProbeError::NotMcp)?;
                    return self.learn(&discovered.versions, discovered.name.as_deref());
                }
                Some(Message::Error(error)) => error,
                _ => return Err(failure(status)),
            };
            match error.code {
                message::UNSUPPORTED_VERSION => match newest(&message::MODERN, &error.supported) {
                    Some(supported) if !last => version = supported,
                    _ => return Err(ProbeError::UnsupportedVersion),
                },
                // What only a modern server says, and one that did not object to the version.
                message::HEADER_MISMATCH | message::MISSING_CAPABILITY => {
                    return self.learn(&[version.to_owned()], None);
                }
                _ => return Err(failure(status)),
            }
        }
        Err(ProbeError::UnsupportedVersion)
    }

    /// Asks as a legacy client; once more if the server refuses the version and names others.
    async fn initialize(&mut self, until: Instant) -> Result<(), ProbeError> {
        let mut version = message::LEGACY[0];
        for last in [false, true] {
            let id = self.next_id();
            let question = message::initialize(id, version, self.config);
            let Answer { status, message } = self.ask(id, &question, HeaderMap::new(), until).await?;
            let error = match message {
                Some(Message::Result(result)) if status.is_success() => {
                    let Initialized { version, name } = Initialized::read(&result).ok_or(ProbeError::NotMcp)?;
                    if !message::LEGACY.contains(&version.as_str()) {
                        return Err(ProbeError::UnsupportedVersion);
                    }
                    return self.learn(&[version], name.as_deref());
                }
                Some(Message::Error(error)) => error,
                _ => return Err(failure(status)),
            };
            // The error of the legacy era has no code of its own (MCP 2025-11-25, "Lifecycle", "Error Handling").
            match newest(&message::LEGACY, &error.supported) {
                Some(supported) if !last && supported != version => version = supported,
                _ if error.code == message::UNSUPPORTED_VERSION => return self.learn(&error.supported, None),
                _ if !error.supported.is_empty() => return Err(ProbeError::UnsupportedVersion),
                _ => return Err(failure(status)),
            }
        }
        Err(ProbeError::UnsupportedVersion)
    }

    /// Takes in the newest version of each era that both sides know.
    fn learn(&mut self, versions: &[String], name: Option<&str>) -> Result<(), ProbeError> {
        let newest =
            |known: &[&'static str]| newest(known, versions).and_then(|version| ProtocolVersion::parse(version).ok());
        let (modern, legacy) = (newest(&message::MODERN), newest(&message::LEGACY));
        if modern.is_none() && legacy.is_none() {
            return Err(ProbeError::UnsupportedVersion);
        }
        self.facts.modern = self.facts.modern.take().or(modern);
        self.facts.legacy = self.facts.legacy.take().or(legacy);
        self.facts.name = self.facts.name.take().or_else(|| name.and_then(ServerFacts::clean_name));
        Ok(())
    }

    fn next_id(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Posts a question, and reads the answer as far as its status asks for it.
    async fn ask(
        &mut self,
        id: u64,
        question: &Value,
        headers: HeaderMap,
        until: Instant,
    ) -> Result<Answer, ProbeError> {
        timeout_at(until, self.exchange(id, question, headers)).await.unwrap_or(Err(ProbeError::TimedOut))
    }

    async fn exchange(&mut self, id: u64, question: &Value, headers: HeaderMap) -> Result<Answer, ProbeError> {
        let mut request = self.request(Method::POST, headers);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        *request.body_mut() = Some(question.to_string().into());
        let mut response = self.egress.send(request).await.map_err(|error| probe_error(&error))?;

        let status = response.status();
        // Whatever becomes of the body, the session is there.
        if let Some(session) = response.headers_mut().remove(SESSION_ID).filter(|_| status.is_success()) {
            self.sessions.push(session);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(ProbeError::Unauthorized { challenges: challenges(response.headers()) });
        }
        if status == StatusCode::FORBIDDEN {
            let challenges = challenges(response.headers());
            if !challenges.is_empty() {
                return Err(ProbeError::Forbidden { challenges });
            }
        }
        let message = match media(response.headers()) {
            _ if !(status.is_success() || status.is_client_error()) => None,
            Media::Json => body::json(response.bytes_stream(), id).await,
            Media::Events => body::events(response.bytes_stream(), id).await,
            Media::Unsaid | Media::Foreign | Media::Coded => None,
        };
        Ok(Answer { status, message })
    }

    /// Ends the sessions as a client should (MCP 2025-11-25, "Session Management"). Servers may refuse, and what they say
    /// changes nothing.
    async fn end_sessions(&mut self, time: Duration) {
        let until = Instant::now() + time;
        for session in std::mem::take(&mut self.sessions) {
            let mut headers = HeaderMap::new();
            headers.insert(SESSION_ID, session);
            let version = self.facts.legacy.as_ref().and_then(|version| HeaderValue::try_from(version.as_str()).ok());
            headers.extend(version.map(|version| (PROTOCOL_VERSION, version)));
            let _ = timeout_at(until, self.egress.send(self.request(Method::DELETE, headers))).await;
        }
    }

    /// A request with the credential: there is one way for every method.
    fn request(&self, method: Method, headers: HeaderMap) -> Request {
        let mut request = Request::new(method, self.url.clone());
        *request.headers_mut() = headers;
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(credential) = &self.credential {
            request.headers_mut().insert(AUTHORIZATION, credential.clone());
        }
        request
    }
}

/// What every request of the modern era has in its head (MCP 2026-07-28, "Streamable HTTP", "Standard Request Headers").
fn modern_headers(version: HeaderValue, method: &'static str) -> HeaderMap {
    let method = (HeaderName::from_static("mcp-method"), HeaderValue::from_static(method));
    HeaderMap::from_iter([(PROTOCOL_VERSION, version), method])
}

/// What to make of an answer that tells nothing of an era.
fn failure(status: StatusCode) -> ProbeError {
    match status {
        // What a wrong path, and a server of HTTP+SSE, answers.
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => ProbeError::NotMcp,
        status if status.is_success() => ProbeError::NotMcp,
        status => ProbeError::Status(status.as_u16()),
    }
}

/// The newest of the `known` versions that is offered.
fn newest(known: &[&'static str], offered: &[String]) -> Option<&'static str> {
    known.iter().copied().find(|known| offered.iter().any(|offered| offered == known))
}

/// Which of two failures to tell: that of `initialize`, which more servers know, unless it says less. A plain client error
/// says nothing if it answers a question that the server need not know.
fn more_telling(discover: ProbeError, initialize: ProbeError) -> ProbeError {
    use ProbeError::{Forbidden, NotMcp, Status, TimedOut, UnsupportedVersion};
    match (&discover, &initialize) {
        (UnsupportedVersion | Forbidden { .. }, _) | (TimedOut | Status(300..=399 | 403 | 429 | 500..), NotMcp) => {
            discover
        }
        _ => initialize,
    }
}
