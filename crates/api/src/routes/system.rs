//! `/healthz`, `/readyz`, `/metrics`: for those who watch over the service.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use crate::problem::{Kind, Problem, ProblemDocument};
use crate::routes::Api;

/// Is the process alive
#[utoipa::path(
    get, path = "/healthz", tag = "system", operation_id = "healthz",
    responses((status = 200, description = "It is", body = String, content_type = "text/plain")),
)]
pub(crate) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).content_type("text/plain").body("ok\n")
}

/// Can it serve
///
/// The database is reachable, its migrations are done, and the service is not about to stop.
#[utoipa::path(
    get, path = "/readyz", tag = "system", operation_id = "readyz",
    responses(
        (status = 200, description = "It can", body = String, content_type = "text/plain"),
        (status = 503, description = "It cannot now", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn readyz(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    if *api.stopping.borrow() {
        return Err(Problem::new(Kind::Unavailable, "The service is stopping."));
    }
    api.service.ready().await?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).content_type("text/plain").body("ready\n"))
}

/// Counters for Prometheus
#[utoipa::path(
    get, path = "/metrics", tag = "system", operation_id = "metrics",
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text")),
)]
pub(crate) async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let text = api.metrics.text().map_err(|_| Problem::new(Kind::Internal, "The metrics could not be written."))?;
    Ok(HttpResponse::Ok().content_type("application/openmetrics-text; version=1.0.0; charset=utf-8").body(text))
}
