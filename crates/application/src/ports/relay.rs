//! One relayed request and its answer, with the lists of the headers that may pass.
//!
//! A request towards a server is built from nothing: only what these types can hold is sent, and only what they can
//! hold comes back. Names and values are the wire's; nothing here reads a body.

use std::borrow::Cow;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use connectors_domain::{AccessToken, ServerUrl};
use futures_core::Stream;
use thiserror::Error;

use super::AddressRefused;

/// The HTTP methods of an MCP endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayMethod {
    /// A message.
    Post,
    /// A stream of messages from the server (legacy era).
    Get,
    /// The end of a session (legacy era).
    Delete,
}

/// The server to which a request goes, and the credential that goes with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayTarget {
    /// The server.
    pub url: ServerUrl,
    /// What is sent as `Authorization: Bearer`.
    pub access_token: Option<AccessToken>,
}

/// A request for a server.
#[derive(Debug)]
pub struct RelayRequest {
    /// Where it goes.
    pub target: Arc<RelayTarget>,
    /// Its method.
    pub method: RelayMethod,
    /// Its headers.
    pub headers: RequestHeaders,
    /// Its body, whole.
    pub body: Bytes,
}

/// An answer whose body is still on its way.
#[derive(Debug)]
pub struct RelayResponse {
    /// The HTTP status, 200 to 299 or 400 to 599, never 401 or 407.
    pub status: u16,
    /// The headers that may pass.
    pub headers: ResponseHeaders,
    /// Of a 403: its `WWW-Authenticate` fields as they came, at most 8 of at most 4096 bytes each. They are never passed
    /// back.
    pub challenges: Vec<String>,
    /// The body.
    pub body: RelayBody,
}

/// The body of an answer.
pub enum RelayBody {
    /// There is none.
    Empty,
    /// The server sent one that may not pass, with an error status: the status is all that is told.
    Withheld,
    /// JSON, of `length` bytes where the server said so.
    Json {
        /// The length in bytes.
        length: Option<u64>,
        /// The bytes as they come.
        stream: ByteStream,
    },
    /// A stream of server-sent events.
    Events {
        /// The bytes as they come.
        stream: ByteStream,
    },
}

impl fmt::Debug for RelayBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Withheld => "Withheld",
            Self::Json { .. } => "Json",
            Self::Events { .. } => "Events",
        })
    }
}

/// Bytes as they come. It ends with an error if the server went away before the end; dropping it drops the request.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// A body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// The connection broke, or what came is no HTTP.
    #[error("the server's answer broke off")]
    Broken,
    /// Nothing came for too long.
    #[error("the server's answer stood still for too long")]
    TimedOut,
}

/// A request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RelayError {
    /// The service may not talk to the server's address.
    #[error(transparent)]
    AddressRefused(#[from] AddressRefused),
    /// No connection came about: name, network or TLS. The server has not seen the request. The text, which is this
    /// service's own, says what failed.
    #[error("the server cannot be reached: {0}")]
    Unreachable(&'static str),
    /// The answer did not begin in time.
    #[error("the server did not answer in time")]
    TimedOut,
    /// The server answered 401.
    #[error("the server does not take the credential")]
    Unauthorized {
        /// Its `WWW-Authenticate` fields as they came, at most 8 of at most 4096 bytes each. They are never passed back.
        challenges: Vec<String>,
    },
    /// The server answered with something that may not pass, or did not answer.
    #[error("the server {0}")]
    BadAnswer(BadAnswer),
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BadAnswer {
    /// It is a redirect. None is followed: it would lead to a server that nobody has registered.
    #[error("answered with a redirect, and redirects are not followed")]
    Redirect,
    /// Its status is none that MCP has.
    #[error("answered with an HTTP status that MCP does not have")]
    Status,
    /// Its content type is neither JSON nor an event stream.
    #[error("answered with another content type than JSON or an event stream")]
    ContentType,
    /// It is compressed, which nobody asked for.
    #[error("compressed its answer, which nobody had asked for")]
    Encoded,
    /// Its header is too large.
    #[error("answered with too large a header")]
    HeaderTooLarge,
    /// The connection ended without an answer, or what came is no HTTP.
    #[error("broke the connection off without an answer, or answered with something that is no HTTP")]
    NoHttp,
}

/// The header that holds the id of a session (MCP 2025-11-25, "Session Management").
const SESSION: &str = "mcp-session-id";

/// A request has more than one session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeveralSessions;

/// The headers of a request that are passed on. Anything else is left behind, above all the caller's `Authorization`,
/// cookies and forwarding headers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHeaders(Vec<(Cow<'static, str>, Bytes)>);

impl RequestHeaders {
    /// Takes the header if it may pass. `name` is in lower case, as HTTP libraries hand it over.
    pub fn offer(&mut self, name: &str, value: &[u8]) {
        let name: Cow<'static, str> = match name {
            "accept" => "accept".into(),
            "content-type" => "content-type".into(),
            "mcp-protocol-version" => "mcp-protocol-version".into(),
            "mcp-session-id" => "mcp-session-id".into(),
            "mcp-method" => "mcp-method".into(),
            "mcp-name" => "mcp-name".into(),
            "last-event-id" => "last-event-id".into(),
            "traceparent" => "traceparent".into(),
            "tracestate" => "tracestate".into(),
            "baggage" => "baggage".into(),
            _ if name.starts_with("mcp-param-") => name.to_owned().into(),
            _ => return,
        };
        self.0.push((name, Bytes::copy_from_slice(value)));
    }

    /// The session id, if there is one; an error if there are several.
    pub(crate) fn session(&self) -> Result<Option<&Bytes>, SeveralSessions> {
        let mut ids = self.0.iter().filter(|(name, _)| name == SESSION);
        let first = ids.next();
        if ids.next().is_some() { Err(SeveralSessions) } else { Ok(first.map(|(_, value)| value)) }
    }

    /// Puts another session id in place of the one that is there.
    pub(crate) fn set_session(&mut self, id: &[u8]) {
        for (_, value) in self.0.iter_mut().filter(|(name, _)| name == SESSION) {
            *value = Bytes::copy_from_slice(id);
        }
    }

    /// The headers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }
}

/// The headers of an answer that are passed back. Anything else is left behind, above all `WWW-Authenticate`, which
/// would send the client to the wrong authorization server, and whatever would act on this service's own origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHeaders(Vec<(&'static str, Bytes)>);

impl ResponseHeaders {
    /// Takes the header if it may pass. `name` is in lower case. The content type is not among them: it is told by
    /// [`RelayBody`], and passed back by [`ResponseHeaders::with_content_type`].
    pub fn offer(&mut self, name: &str, value: &[u8]) {
        let name = match name {
            "mcp-session-id" => "mcp-session-id",
            "mcp-protocol-version" => "mcp-protocol-version",
            "cache-control" => "cache-control",
            "retry-after" => "retry-after",
            "allow" => "allow",
            _ => return,
        };
        self.0.push((name, Bytes::copy_from_slice(value)));
    }

    /// Adds the content type, which the adapter has found to be JSON or an event stream.
    #[must_use]
    pub fn with_content_type(mut self, value: &[u8]) -> Self {
        self.0.push(("content-type", Bytes::copy_from_slice(value)));
        self
    }

    /// Puts what `replace` makes of the session id in its place; where it makes nothing, the header is left behind.
    pub(crate) fn replace_session(&mut self, replace: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        self.0.retain_mut(|(name, value)| {
            if *name != SESSION {
                return true;
            }
            let replaced = replace(value);
            let kept = replaced.is_some();
            *value = replaced.map(Bytes::from).unwrap_or_default();
            kept
        });
    }

    /// The headers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Bytes)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_listed_headers_only() {
        let mut headers = RequestHeaders::default();
        for name in [
            "accept",
            "content-type",
            "mcp-protocol-version",
            "mcp-session-id",
            "mcp-method",
            "mcp-name",
            "mcp-param-region",
            "last-event-id",
            "traceparent",
            "tracestate",
            "baggage",
        ] {
            headers.offer(name, b"v");
        }
        let passed = headers.iter().count();
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-user",
            "x_forwarded_user",
            "x-real-ip",
            "connection",
            "te",
            "upgrade",
            "host",
            "origin",
            "referer",
            "user-agent",
            "accept-encoding",
            "expect",
            "content-length",
            "transfer-encoding",
            "x-auth",
            "mcp",
            "mcp-",
            "mcp_session_id",
            "mcp-params-x",
            "x-mcp-param-y",
        ] {
            headers.offer(name, b"v");
        }
        assert_eq!((passed, headers.iter().count()), (11, 11));
    }

    #[test]
    fn an_answer_carries_listed_headers_only() {
        let mut headers = ResponseHeaders::default();
        for name in ["mcp-session-id", "mcp-protocol-version", "cache-control", "retry-after", "allow"] {
            headers.offer(name, b"v");
        }
        for name in [
            "set-cookie",
            "location",
            "clear-site-data",
            "access-control-allow-origin",
            "content-security-policy",
            "alt-svc",
            "refresh",
            "link",
            "service-worker-allowed",
            "www-authenticate",
            "content-encoding",
            "server",
            "connection",
            "transfer-encoding",
            "content-length",
            "strict-transport-security",
            "content-type",
        ] {
            headers.offer(name, b"v");
        }
        assert_eq!(headers.iter().count(), 5);
        assert_eq!(headers.with_content_type(b"application/json").iter().last().unwrap().0, "content-type");
    }
}
