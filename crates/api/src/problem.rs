//! Problem documents (RFC 9457): the one form in which errors leave.
//!
//! A [`Problem`] is what a handler returns; `observe` turns it into a document once the request's id is known.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use connectors_application::{Conflict, Denied, Error};
use connectors_domain::DisconnectCode;
use serde::Serialize;
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

/// Seconds after which a call that met an unavailable database may be tried again, unless something else is known.
const RETRY_UNAVAILABLE: u32 = 2;

/// Seconds after which a call that met a limit may be tried again. What frees the limit is the caller's own doing, so
/// any number is a guess.
const RETRY_LIMIT: u32 = 60;

/// An error for a client.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    kind: Kind,
    detail: String,
    disconnect_code: Option<DisconnectCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    BadRequest,
    Unauthorized,
    HostRefused,
    OriginRefused,
    InsufficientScope,
    NotFound,
    SessionUnknown,
    NoSuchPath,
    MethodNotAllowed,
    Timeout,
    Duplicate,
    Changed,
    Unusable,
    TooLarge,
    MediaType,
    Unprocessable,
    Limit,
    Internal,
    BadGateway,
    Unavailable,
    GatewayTimeout,
    /// A server's own error status, whose explanation may not pass.
    Upstream(u16),
}

impl Kind {
    /// Status, name and title.
    const fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest => (400, "bad-request", "The request makes no sense"),
            Self::Unauthorized => (401, "unauthorized", "A credential is missing or not good"),
            Self::HostRefused => (403, "host-refused", "The host is not allowed"),
            Self::OriginRefused => (403, "origin-refused", "The origin is not allowed"),
            Self::InsufficientScope => (403, "insufficient-scope", "The credential does not allow this"),
            Self::NotFound => (404, "not-found", "There is no such connector"),
            Self::SessionUnknown => (404, "session-unknown", "There is no such session"),
            Self::NoSuchPath => (404, "no-such-path", "There is nothing at this path"),
            Self::MethodNotAllowed => (405, "method-not-allowed", "The method is not allowed here"),
            Self::Timeout => (408, "request-timeout", "The request did not arrive in time"),
            Self::Duplicate => (409, "duplicate", "There is a connector for this URL"),
            Self::Changed => (409, "changed", "The connector has changed meanwhile"),
            Self::Unusable => (409, "unusable", "The connector cannot be used now"),
            Self::TooLarge => (413, "too-large", "The body is too large"),
            Self::MediaType => (415, "media-type", "The media type is not supported"),
            Self::Unprocessable => (422, "unprocessable", "A field is wrong"),
            Self::Limit => (429, "limit", "A limit is reached"),
            Self::Internal => (500, "internal", "The service has met a fault"),
            Self::BadGateway => (502, "bad-gateway", "The server answered wrongly"),
            Self::Unavailable => (503, "unavailable", "The service cannot do this now"),
            Self::GatewayTimeout => (504, "gateway-timeout", "The server could not be reached in time"),
            Self::Upstream(status) => (status, "upstream", "The MCP server answered with an error"),
        }
    }
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), disconnect_code: None, headers: Vec::new() }
    }

    pub(crate) fn field(field: &str, message: impl fmt::Display) -> Self {
        Self::new(Kind::Unprocessable, format!("{field}: {message}."))
    }

    /// Adds headers to the response.
    pub(crate) fn with_headers(self, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self { headers, ..self }
    }

    /// Says after what time the call may be tried again.
    pub(crate) fn retry_after(self, time: Duration) -> Self {
        self.with_headers(vec![(header::RETRY_AFTER, HeaderValue::from(whole_seconds(time)))])
    }

    /// The response, for the request `id` on `path`.
    pub(crate) fn respond(&self, path: &str, id: &str) -> HttpResponse {
        let (status, name, title) = self.kind.parts();
        let document = ProblemDocument {
            kind: format!("urn:connectors:problem:{name}"),
            title: title.to_owned(),
            status,
            detail: self.detail.clone(),
            instance: path.to_owned(),
            request_id: id.to_owned(),
            disconnect_code: self.disconnect_code.map(|code| code.as_str().to_owned()),
        };
        let mut response = HttpResponse::build(self.status_code()).json(document);
        let headers = response.headers_mut();
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self.kind {
            Kind::Unavailable if !headers.contains_key(header::RETRY_AFTER) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_UNAVAILABLE));
            }
            Kind::Limit if !headers.contains_key(header::RETRY_AFTER) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_LIMIT));
            }
            // What is left of the body is not read: the connection cannot serve another request.
            Kind::TooLarge | Kind::Timeout => {
                response.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
            }
            _ => {}
        }
        response
    }
}

/// `time` as `Retry-After` tells it (RFC 9110, section 10.2.3): rounded up, so that nobody comes too early.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.kind.parts().0).unwrap_or(StatusCode::BAD_GATEWAY)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::NotFound => Self::new(Kind::NotFound, detail),
            Error::BadRequest(_) => Self::new(Kind::BadRequest, detail),
            Error::Unprocessable { field, message } => Self::field(field, message),
            Error::Conflict(Conflict::Duplicate) => Self::new(Kind::Duplicate, detail),
            Error::Conflict(Conflict::Changed) => Self::new(Kind::Changed, detail),
            Error::LimitReached(_) => Self::new(Kind::Limit, detail),
            Error::TooMany { retry_after, .. } => Self::new(Kind::Limit, detail).retry_after(retry_after),
            Error::ConnectFailed(reason) => {
                let kind = match reason.code() {
                    DisconnectCode::ServerUnreachable | DisconnectCode::ServerTimeout => Kind::GatewayTimeout,
                    _ => Kind::BadGateway,
                };
                Self { disconnect_code: Some(reason.code()), ..Self::new(kind, detail) }
            }
            Error::Unavailable(source) => {
                tracing::warn!(error = %Chain(&source), "the database cannot be used");
                Self::new(Kind::Unavailable, detail)
            }
            Error::Internal(source) => {
                tracing::error!(error = %Chain(source.as_ref()), "internal fault");
                Self::new(Kind::Internal, detail)
            }
        }
    }
}

/// What is told of a caller who is not let in. Whoever demands the credential adds the challenge.
impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let detail = denied.to_string();
        match denied {
            Denied::Unauthenticated => Self::new(Kind::Unauthorized, detail),
            Denied::Unavailable => Self::new(Kind::Unavailable, detail),
            Denied::TooManyRequests { retry_after } => Self::new(Kind::Limit, detail).retry_after(retry_after),
        }
    }
}

/// An error with its causes, in one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// An error (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument {
    /// Which kind of problem it is, as a URI that never changes.
    #[serde(rename = "type")]
    #[schema(example = "urn:connectors:problem:not-found")]
    kind: String,
    /// The kind in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// The path of the request.
    instance: String,
    /// Finds the request in the service's log.
    request_id: String,
    /// Of a connect that failed: why the connector is disconnected now.
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect_code: Option<String>,
}

/// Documents the answers that every call has which demands a permission.
pub(crate) struct CallerProblems;

impl IntoResponses for CallerProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(&[
            (401, "A credential is missing or not good; `WWW-Authenticate` says where one can be got"),
            (403, "The credential lacks the scope, or the origin is not allowed"),
            (429, "The user has reached a limit"),
            (503, "The database is away, or the credential cannot be checked now"),
        ])
    }
}

/// Documents the answers that every call has which takes a JSON body.
pub(crate) struct BodyProblems;

impl IntoResponses for BodyProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(&[(413, "The body is too large"), (415, "The body is not JSON"), (422, "A field is wrong")])
    }
}

/// Documents the answer of every call for one connector.
pub(crate) struct NoConnector;

impl IntoResponses for NoConnector {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        documented(&[(404, "There is no such connector")])
    }
}

fn documented(answers: &[(u16, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
    let content = Content::new(Some(schema));
    let response = |description: &str| {
        ResponseBuilder::new().description(description).content("application/problem+json", content.clone()).build()
    };
    answers.iter().map(|(status, description)| (status.to_string(), RefOr::T(response(description)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_come_back_too_early() {
        for (milliseconds, seconds) in [(0, 1), (1, 1), (999, 1), (1_000, 1), (1_001, 2), (59_500, 60)] {
            assert_eq!(whole_seconds(Duration::from_millis(milliseconds)), seconds, "{milliseconds}");
        }
    }
}
