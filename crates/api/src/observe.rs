//! What happens around every request: it gets an id, its errors become problem documents, and it is counted and logged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpResponse, web};
use tracing::Instrument;

use crate::connection::{Answered, Turns};
use crate::problem::{Kind, Problem};
use crate::routes::Api;

/// Gives out request ids: the process, and a number.
#[derive(Debug)]
pub(crate) struct RequestIds {
    instance: String,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(instance: [u8; 4]) -> Self {
        Self { instance: format!("{:08x}", u32::from_be_bytes(instance)), next: AtomicU64::new(1) }
    }

    fn next(&self) -> String {
        format!("{}-{}", self.instance, self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Marks a response that an MCP server gave: it is passed back as it is.
pub(crate) struct Relayed;

/// Wraps every request.
pub(crate) async fn observe<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(api) = request.app_data::<web::Data<Api>>().cloned() else {
        return next.call(request).await.map(ServiceResponse::map_into_boxed_body);
    };
    let answering = request.request().conn_data::<Turns>().map(Turns::answer);
    let started = Instant::now();
    let id = api.request_ids.next();
    // The query is left out: at the callback it holds an authorization code.
    let path = request.path().to_owned();
    let method = request.method().clone();
    // Who calls is written down as soon as it is known.
    let span = tracing::info_span!("request", id, %method, path, owner = tracing::field::Empty);

    let mut response = next.call(request).instrument(span.clone()).await?.map_into_boxed_body();
    if let Some(problem) = problem_of(&response) {
        let allow = response.headers().get(header::ALLOW).cloned();
        let mut document = problem.respond(&path, &id);
        if let Some(allow) = allow {
            document.headers_mut().insert(header::ALLOW, allow);
        }
        response = response.into_response(document);
    }
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

    let status = response.status();
    let pattern = response.request().match_pattern();
    api.metrics.answered(&method, pattern.as_deref().unwrap_or("none"), status.as_u16(), started.elapsed());
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| match status.as_u16() {
        500 | 503 => tracing::warn!(status = status.as_u16(), ms, "answered"),
        _ if path == "/healthz" || path == "/readyz" || path == "/metrics" => {
            tracing::debug!(status = status.as_u16(), ms, "answered");
        }
        _ => tracing::info!(status = status.as_u16(), ms, "answered"),
    });
    Ok(response.map_body(|_, body| Answered::new(body, answering).boxed()))
}

/// The problem that a response stands for: one that a handler returned, or the framework's own bare error.
fn problem_of(response: &ServiceResponse<BoxBody>) -> Option<Problem> {
    if let Some(error) = response.response().error() {
        if let Some(problem) = error.as_error::<Problem>() {
            return Some(problem.clone());
        }
        if response.status() == StatusCode::REQUEST_TIMEOUT {
            return Some(Problem::new(Kind::Timeout, "The request did not arrive in time."));
        }
        return Some(if response.status().is_server_error() {
            tracing::error!(%error, "the framework failed");
            Problem::new(Kind::Internal, "The service has met a fault of its own. The request id finds it in the log.")
        } else {
            Problem::new(Kind::BadRequest, "The request is not valid.")
        });
    }
    let bare = matches!(response.response().body().size(), BodySize::None | BodySize::Sized(0));
    let ours = !response.response().extensions().contains::<Relayed>();
    (ours && bare && response.status() == StatusCode::METHOD_NOT_ALLOWED).then(|| {
        Problem::new(Kind::MethodNotAllowed, "The path is right, the method is not. `Allow` lists those that are.")
    })
}

/// Answers whatever has no route.
pub(crate) async fn no_such_path() -> Result<HttpResponse, Problem> {
    Err(Problem::new(Kind::NoSuchPath, "There is nothing at this path. GET /docs shows what there is."))
}
