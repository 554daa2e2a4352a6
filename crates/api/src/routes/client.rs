//! `/oauth/client.json`: the client ID metadata document, by which authorization servers know this service.
//!
//! Its URL is the client id. It is the same for everybody and may be cached.

use actix_web::http::header;
use actix_web::{HttpResponse, web};

use crate::problem::{Kind, Problem};
use crate::routes::Api;

/// Who this service is as an OAuth client
///
/// The client ID metadata document (draft-ietf-oauth-client-id-metadata-document), where the public URL is https.
#[utoipa::path(
    get, path = "/oauth/client.json", tag = "oauth", operation_id = "client_metadata",
    responses(
        (status = 200, description = "The document", body = serde_json::Value, content_type = "application/json"),
        (status = 404, description = "The public URL is not https, so there is none", body = crate::problem::ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn document(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let document = api.config.client_metadata.as_ref().ok_or_else(|| {
        Problem::new(Kind::NoSuchPath, "There is no client metadata document, because the public URL is not https.")
    })?;
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "public, max-age=3600"))
        .content_type("application/json")
        .body(document.clone()))
}
