//! Problem documents (RFC 9457): the one form in which errors leave.
//!
//! A [`Problem`] is what a handler returns; `observe` turns it into a document once the request's id is known.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use connectors_application::{Conflict, Error};
use connectors_domain::DisconnectCode;
use serde::Serialize;
use utoipa::ToSchema;

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
    HostRefused,
    OriginRefused,
    NotFound,
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
            Self::HostRefused => (403, "host-refused", "The host is not allowed"),
            Self::OriginRefused => (403, "origin-refused", "The origin is not allowed"),
            Self::NotFound => (404, "not-found", "There is no such connector"),
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
            Kind::Limit => {
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
