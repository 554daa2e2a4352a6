//! `/api/v1/connectors/oauth/callback`: where a user's browser comes back after consent.

use actix_web::http::header;
use actix_web::{HttpResponse, HttpResponseBuilder};
use askama::Template;

use crate::problem::{Kind, Problem};

/// A page without script, style from elsewhere, or anything that a server wrote.
#[derive(Template)]
#[template(path = "callback.html")]
struct CallbackPage<'a> {
    title: &'a str,
    text: &'a str,
}

/// Finish an authorization
///
/// The browser is sent here by the authorization server. A state that is unknown changes nothing.
#[utoipa::path(
    get, path = "/api/v1/connectors/oauth/callback", tag = "oauth", operation_id = "oauth_callback",
    params(
        ("state" = Option<String>, Query, description = "The state that the authorization request carried"),
        ("code" = Option<String>, Query, description = "The authorization code"),
        ("iss" = Option<String>, Query, description = "The issuer (RFC 9207)"),
        ("error" = Option<String>, Query, description = "Why there is no code"),
        ("error_description" = Option<String>, Query, description = "The same in words"),
    ),
    responses((status = 400, description = "The authorization is unknown or over", body = String, content_type = "text/html")),
)]
pub(crate) async fn finish() -> Result<HttpResponse, Problem> {
    // No authorization is ever under way in this release, so every state is unknown.
    let page = CallbackPage {
        title: "This authorization is over",
        text: "It is unknown, was used already, or has expired. Go back and connect again.",
    };
    html(HttpResponse::BadRequest(), &page)
}

/// Look at the callback
///
/// What mail scanners and prefetching browsers do. It consumes nothing.
#[utoipa::path(
    head, path = "/api/v1/connectors/oauth/callback", tag = "oauth", operation_id = "look_at_oauth_callback",
    responses((status = 200, description = "Nothing was done")),
)]
pub(crate) async fn look() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).finish()
}

/// A page that may do nothing but show itself, and leaves no trace of the URL that led to it.
fn html(mut response: HttpResponseBuilder, page: &impl Template) -> Result<HttpResponse, Problem> {
    let text = page.render().map_err(|_| Problem::new(Kind::Internal, "The page could not be written."))?;
    Ok(response
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ))
        .content_type("text/html; charset=utf-8")
        .body(text))
}
