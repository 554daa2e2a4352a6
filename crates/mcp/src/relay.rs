//! The relay: one request goes to a server, and its answer comes back as it comes.
//!
//! The request is built from nothing, so whatever is not put in here is not sent. The answer is judged by its head alone;
//! its body is never read here, only watched. There is one way for every method, hence one place in which the credential
//! is added.

use std::time::Duration;

use connectors_application::ports::{
    BadAnswer, RelayBody, RelayError, RelayMethod, RelayRequest, RelayResponse, ResponseHeaders,
};
use connectors_egress::{Egress, EgressError};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{Request, Response};

use crate::McpConfig;
use crate::client::relay_error;
use crate::head::{EVENTS, JSON, Media, bearer, challenges, media};
use crate::stream::Watched;

/// Sends the request once, and returns with the head of the answer.
///
/// Below this, a request is repeated only where no byte of it was written, or HTTP/2 said that it was not processed.
pub(crate) async fn relay(
    egress: &Egress,
    config: &McpConfig,
    request: RelayRequest,
) -> Result<RelayResponse, RelayError> {
    answer(egress.send(upstream(request)?).await.map_err(|error| relay_error(&error))?, config).await
}

/// Judges an answer by its head.
pub(crate) async fn answer(response: Response, config: &McpConfig) -> Result<RelayResponse, RelayError> {
    let status = response.status();
    match status.as_u16() {
        401 => return Err(RelayError::Unauthorized { challenges: challenges(response.headers()) }),
        // A redirect is not followed, and would mean another server to the client than to this service. 407 is about a
        // proxy that nobody asked. Of 101 and of what is no status at all, nothing can be passed on.
        200..=299 | 400..=406 | 408..=599 => {}
        300..=399 => return Err(RelayError::BadAnswer(BadAnswer::Redirect)),
        _ => return Err(RelayError::BadAnswer(BadAnswer::Status)),
    }
    let mut headers = ResponseHeaders::default();
    for (name, value) in response.headers() {
        headers.offer(name.as_str(), value.as_bytes());
    }
    // Which scopes it wants: what only the use cases may know.
    let challenges = if status == StatusCode::FORBIDDEN { challenges(response.headers()) } else { Vec::new() };
    let body = body(status, response, config).await?;
    // Said anew, without the parameters: both types are UTF-8 whatever a charset says (RFC 8259, section 8.1; HTML,
    // "Server-sent events"), and some clients take the last of several types that a comma joins.
    let headers = match body {
        RelayBody::Json { .. } => headers.with_content_type(JSON.as_bytes()),
        RelayBody::Events { .. } => headers.with_content_type(EVENTS.as_bytes()),
        RelayBody::Empty | RelayBody::Withheld => headers,
    };
    Ok(RelayResponse { status: status.as_u16(), headers, challenges, body })
}

fn upstream(request: RelayRequest) -> Result<Request, RelayError> {
    let (method, body) = match request.method {
        RelayMethod::Post => (Method::POST, Some(request.body)),
        RelayMethod::Get => (Method::GET, None),
        RelayMethod::Delete => (Method::DELETE, None),
    };
    let mut upstream = Request::new(method, request.target.url.as_url().clone());
    *upstream.body_mut() = body.map(Into::into);
    let headers = upstream.headers_mut();
    for (name, value) in request.headers.iter() {
        // What HTTP cannot carry has not come by HTTP.
        let Some(name) = header_name(name) else { continue };
        let Ok(value) = HeaderValue::from_maybe_shared(value.clone()) else { continue };
        headers.append(name, value);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(token) = &request.target.access_token {
        headers
            .insert(AUTHORIZATION, bearer(token).ok_or_else(|| RelayError::Unauthorized { challenges: Vec::new() })?);
    }
    Ok(upstream)
}

/// The name as the HTTP library has it, without an allocation for those that are known.
fn header_name(name: &str) -> Option<HeaderName> {
    Some(match name {
        "accept" => ACCEPT,
        "content-type" => CONTENT_TYPE,
        "mcp-protocol-version" => HeaderName::from_static("mcp-protocol-version"),
        "mcp-session-id" => HeaderName::from_static("mcp-session-id"),
        "mcp-method" => HeaderName::from_static("mcp-method"),
        "mcp-name" => HeaderName::from_static("mcp-name"),
        "last-event-id" => HeaderName::from_static("last-event-id"),
        "traceparent" => HeaderName::from_static("traceparent"),
        "tracestate" => HeaderName::from_static("tracestate"),
        "baggage" => HeaderName::from_static("baggage"),
        other => return HeaderName::from_bytes(other.as_bytes()).ok(),
    })
}

/// What becomes of the body. One that may not pass is left out where the status says that the request has failed anyway:
/// a 404 in plain text still has to tell a client that its session is over.
async fn body(status: StatusCode, response: Response, config: &McpConfig) -> Result<RelayBody, RelayError> {
    let length = response.content_length();
    match media(response.headers()) {
        _ if status == StatusCode::NO_CONTENT => Ok(RelayBody::Empty),
        Media::Events => {
            let stream = Box::pin(Watched::new(response.bytes_stream(), config.stream_idle_timeout));
            Ok(RelayBody::Events { stream })
        }
        _ if length == Some(0) => Ok(RelayBody::Empty),
        Media::Json => {
            let stream = Box::pin(Watched::new(response.bytes_stream(), Some(config.body_idle_timeout)));
            Ok(RelayBody::Json { length, stream })
        }
        // It has no body (MCP 2026-07-28, "Streamable HTTP", "Sending Messages"); some servers write a word all the same.
        _ if status == StatusCode::ACCEPTED => Ok(RelayBody::Empty),
        // An empty body of unknown length, as servers in Node.js send it.
        Media::Unsaid if is_empty(response, config.body_idle_timeout).await? => Ok(RelayBody::Empty),
        Media::Unsaid | Media::Foreign | Media::Coded if status.is_client_error() || status.is_server_error() => {
            Ok(RelayBody::Withheld)
        }
        Media::Unsaid | Media::Foreign => Err(RelayError::BadAnswer(BadAnswer::ContentType)),
        Media::Coded => Err(RelayError::BadAnswer(BadAnswer::Encoded)),
    }
}

/// Waits for the first byte or the end.
async fn is_empty(mut response: Response, patience: Duration) -> Result<bool, RelayError> {
    match tokio::time::timeout(patience, response.chunk()).await {
        Ok(Ok(chunk)) => Ok(chunk.is_none()),
        Ok(Err(error)) => Err(relay_error(&EgressError::from(error))),
        Err(_) => Err(RelayError::TimedOut),
    }
}
