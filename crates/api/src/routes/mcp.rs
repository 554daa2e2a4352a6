//! `/api/v1/connectors/{id}/mcp`: the MCP server behind a connector, as a plain remote MCP server.

use actix_web::body::SizedStream;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use connectors_application::ports::{BadAnswer, RelayBody, RelayError, RelayMethod, RelayResponse, RequestHeaders};
use connectors_application::{RelayFailure, Unrenewed};
use connectors_domain::{Connector, ConnectorId, Lifecycle};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::caller::{Caller, Proxy};
use crate::event_stream::{Counted, EventStream};
use crate::json::read_body;
use crate::observe::Relayed;
use crate::problem::{CallerProblems, Kind, Problem, ProblemDocument, whole_seconds};
use crate::routes::Api;
use crate::routes::connectors::connector_id;

/// The JSON-RPC error code of a connector that cannot be used now. MCP asks that codes which it does not define lie
/// outside the range that JSON-RPC reserves (MCP 2026-07-28, "Error Codes").
const UNUSABLE: i32 = -31_001;

/// Send a message to the MCP server
///
/// Also GET for the stream of a session, and DELETE for its end, with servers of the revisions that have sessions.
#[utoipa::path(
    post, path = "/api/v1/connectors/{id}/mcp", tag = "mcp", operation_id = "relay",
    security((), ("bearer" = ["connectors:proxy"])),
    params(("id" = uuid::Uuid, Path, description = "The connector")),
    request_body(content = serde_json::Value, content_type = "application/json"),
    responses(
        (status = 200, description = "The server's answer, or a JSON-RPC error that says why the connector cannot be used", body = serde_json::Value, content_type = "application/json"),
        (status = 202, description = "The server took a notification or a response"),
        (status = 404, description = "There is no such connector, or the session is not known or over", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "The connector cannot be used now (GET, DELETE, notifications)", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 502, description = "The server answered wrongly", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 504, description = "The server could not be reached in time", body = ProblemDocument, content_type = "application/problem+json"),
        CallerProblems,
    ),
)]
pub(crate) async fn relay(
    api: web::Data<Api>,
    caller: Caller<Proxy>,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = connector_id(&id)?;
    let method = match *request.method() {
        Method::POST => RelayMethod::Post,
        Method::GET => RelayMethod::Get,
        _ => RelayMethod::Delete,
    };
    let body = read_body(&request, payload, api.config.relay_body_limit, api.config.body_timeout).await?;
    let mut headers = RequestHeaders::default();
    for (name, value) in request.headers() {
        headers.offer(name.as_str(), value.as_bytes());
    }
    match api.service.relay(caller.owner, id, method, headers, body.clone()).await {
        Ok(answer) => pass_back(&api, id, answer),
        Err(RelayFailure::Service(error)) => Err(error.into()),
        Err(RelayFailure::Server(error)) => {
            tracing::info!(connector = %id, %error, "not relayed");
            Err(server_problem(&error))
        }
        Err(RelayFailure::Unrenewed(error)) => Err(unrenewed(error)),
        Err(RelayFailure::UnknownSession) => Err(Problem::new(
            Kind::SessionUnknown,
            "The `Mcp-Session-Id` is not one that you were given here, or it is over. Begin a new session.",
        )),
        Err(RelayFailure::Unusable(connector) | RelayFailure::WiderConsent(connector)) => {
            unusable(&api, &connector, method, &body)
        }
    }
}

fn pass_back(api: &Api, id: ConnectorId, answer: RelayResponse) -> Result<HttpResponse, Problem> {
    let status =
        StatusCode::from_u16(answer.status).map_err(|_| server_problem(&RelayError::BadAnswer(BadAnswer::Status)))?;
    // Both sides hold the same rules for header values, so this keeps every header that came.
    let headers = answer.headers.iter().filter_map(|(name, value)| {
        HeaderValue::from_bytes(value).ok().map(|value| (HeaderName::from_static(name), value))
    });
    if matches!(answer.body, RelayBody::Withheld) {
        let detail = format!(
            "The MCP server answered with HTTP status {status}. Its own explanation is not MCP and is not passed on."
        );
        return Err(Problem::new(Kind::Upstream(answer.status), detail).with_headers(headers.collect()));
    }
    let mut response = HttpResponse::build(status);
    for header in headers {
        response.append_header(header);
    }
    let mut response = match answer.body {
        RelayBody::Empty | RelayBody::Withheld => response.finish(),
        RelayBody::Json { length, stream } => {
            let stream = Counted::new(stream, api.metrics.relayed_bodies.clone(), id);
            match length {
                Some(length) => response.body(SizedStream::new(length, stream)),
                None => response.streaming(stream),
            }
        }
        RelayBody::Events { stream } => {
            events(api, response, Counted::new(stream, api.metrics.relayed_bodies.clone(), id))
        }
    };
    response.extensions_mut().insert(Relayed);
    Ok(response)
}

fn events(api: &Api, mut response: HttpResponseBuilder, stream: Counted) -> HttpResponse {
    let mut stopping = api.stopping.clone();
    let stopping = async move {
        // An error means that the service is gone already.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    response
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(EventStream::new(stream, api.config.event_keep_alive, stopping))
}

fn server_problem(error: &RelayError) -> Problem {
    match error {
        RelayError::AddressRefused(refused) => Problem::new(Kind::BadGateway, refused.to_string()),
        RelayError::Unreachable(what) => {
            Problem::new(Kind::GatewayTimeout, format!("The MCP server cannot be reached: {what}. Try again later."))
        }
        RelayError::TimedOut => {
            Problem::new(Kind::GatewayTimeout, "The MCP server did not answer in time. Try again later.")
        }
        RelayError::Unauthorized { .. } => {
            Problem::new(Kind::BadGateway, "The MCP server does not take the credential.")
        }
        RelayError::BadAnswer(what) => {
            Problem::new(Kind::BadGateway, format!("The MCP server {what}. Tell whoever runs it."))
        }
    }
}

/// What is told of access that has ended and could not be renewed now.
fn unrenewed(error: Unrenewed) -> Problem {
    let seconds = whole_seconds(error.retry_after);
    let detail = format!(
        "The connector's access to the MCP server has ended and could not be renewed: {}. Try again in {seconds} s.",
        error.what
    );
    Problem::new(Kind::Unavailable, detail).retry_after(error.retry_after)
}

/// A JSON-RPC request, as far as its answer needs it.
#[derive(Deserialize)]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub(crate) id: &'a RawValue,
    #[serde(rename = "method")]
    _method: String,
}

/// The request in a body, if it is one with an id that an answer can carry. An array would do for serde, too.
pub(crate) fn request(body: &[u8]) -> Option<Request<'_>> {
    let body = body.trim_ascii().starts_with(b"{").then_some(body)?;
    let request: Request<'_> = serde_json::from_slice(body).ok()?;
    let id = request.id.get().as_bytes().first()?;
    (*id == b'"' || *id == b'-' || id.is_ascii_digit()).then_some(request)
}

#[derive(Serialize)]
struct Answer<'a> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    error: AnswerError<'a>,
}

#[derive(Serialize)]
struct AnswerError<'a> {
    code: i32,
    message: &'a str,
    data: AnswerData<'a>,
}

#[derive(Serialize)]
struct AnswerData<'a> {
    connector_id: String,
    lifecycle: &'static str,
    disconnect_code: Option<&'static str>,
    url: &'a str,
}

/// What is told of a connector that cannot be used, or not for this: which one, what happened, and where a person puts it
/// right.
fn unusable(api: &Api, connector: &Connector, method: RelayMethod, body: &Bytes) -> Result<HttpResponse, Problem> {
    let attempt = connector.attempt();
    let visit = api.links.consent(connector).unwrap_or_else(|| api.config.public_url.to_string());
    let what = match (attempt, connector.disconnect_reason()) {
        (Some(_), _) if connector.lifecycle() == Lifecycle::Connected => {
            "The server asks for a wider consent before it does this.".to_owned()
        }
        (Some(_), _) => "It waits for your consent.".to_owned(),
        (None, Some(reason)) => format!("It is disconnected: {}", reason.message()),
        (None, None) => "It has not been connected yet.".to_owned(),
    };
    let message =
        format!("The connector {} to {} cannot be used now. {what} Visit {visit}", connector.id, connector.url);
    let request = match method {
        RelayMethod::Post => request(body),
        RelayMethod::Get | RelayMethod::Delete => None,
    };
    // Only a request has an answer in JSON-RPC.
    let Some(request) = request else { return Err(Problem::new(Kind::Unusable, message)) };
    let data = AnswerData {
        connector_id: connector.id.to_string(),
        lifecycle: connector.lifecycle().as_str(),
        disconnect_code: connector.disconnect_reason().map(|reason| reason.code().as_str()),
        url: &visit,
    };
    let error = AnswerError { code: UNUSABLE, message: &message, data };
    let answer = Answer { jsonrpc: "2.0", id: request.id, error };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(answer))
}
