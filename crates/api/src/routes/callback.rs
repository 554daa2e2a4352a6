//! `/api/v1/connectors/oauth/callback`: where a user's browser comes back after consent.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use askama::Template;
use connectors_application::{CallbackOutcome, CallbackRequest};
use connectors_domain::{DisconnectCode, DisconnectReason, RedirectUrl};
use url::Url;
use url::form_urlencoded;

use crate::problem::{Kind, Problem, ProblemDocument};
use crate::routes::Api;

/// A page without script, style from elsewhere, or anything that a server wrote.
#[derive(Template)]
#[template(path = "callback.html")]
struct CallbackPage<'a> {
    good: bool,
    title: &'a str,
    text: &'a str,
}

/// Finish an authorization
///
/// The browser is sent here by the authorization server. A state that is unknown changes nothing, and a state is good
/// once. The answer is a page, or a redirect to the `redirect_url` that was given to connect.
#[utoipa::path(
    get, path = "/api/v1/connectors/oauth/callback", tag = "oauth", operation_id = "oauth_callback",
    params(
        ("state" = Option<String>, Query, description = "The state that the authorization request carried"),
        ("code" = Option<String>, Query, description = "The authorization code"),
        ("iss" = Option<String>, Query, description = "The issuer (RFC 9207)"),
        ("error" = Option<String>, Query, description = "Why there is no code"),
        ("error_description" = Option<String>, Query, description = "The same in words; never shown"),
    ),
    responses(
        (status = 200, description = "The connector is connected", body = String, content_type = "text/html"),
        (status = 204, description = "A prefetch, which consumes nothing"),
        (status = 303, description = "To redirect_url, with error and error_description added if it failed; or to the authorization server once more, if the MCP server wants a wider consent"),
        (status = 400, description = "The authorization is unknown, over or failed", body = String, content_type = "text/html"),
        (status = 503, description = "The database is away", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn finish(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if is_prefetch(&request) {
        return Ok(HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-store")).finish());
    }
    let Some(callback) = read(&request) else { return unknown() };
    match api.service.callback(callback).await? {
        CallbackOutcome::Unknown => unknown(),
        CallbackOutcome::WrongIssuer => failed(
            "This answer is not the one that was expected",
            "It did not come from the authorization server that was asked, so nothing in it was used. Go back and connect again.",
        ),
        CallbackOutcome::Further { authorization_url } => Ok(see_other(authorization_url.expose())),
        CallbackOutcome::Finished { redirect_url: None, failure: None } => {
            let (title, text) = ("Connected", "The connector is connected and ready for use.");
            html(HttpResponse::Ok(), &CallbackPage { good: true, title, text })
        }
        CallbackOutcome::Finished { redirect_url: None, failure: Some(reason) } => {
            failed("The connector is not connected", reason.message())
        }
        CallbackOutcome::Finished { redirect_url: Some(url), failure } => redirect(&url, failure.as_ref()),
    }
}

/// What the browser brought; `None` if it cannot belong to any authorization. No parameter may stand there twice
/// (RFC 6749, section 3.1).
fn read(request: &HttpRequest) -> Option<CallbackRequest> {
    let mut callback = CallbackRequest {
        issuer_key: request.match_info().get("issuer_key").map(str::to_owned),
        ..CallbackRequest::default()
    };
    let mut state = None;
    for (name, value) in form_urlencoded::parse(request.query_string().as_bytes()) {
        let place = match name.as_ref() {
            "state" => &mut state,
            "code" => &mut callback.code,
            "iss" => &mut callback.iss,
            "error" => &mut callback.error,
            _ => continue,
        };
        if place.replace(value.into_owned()).is_some() {
            return None;
        }
    }
    callback.state = state?;
    Some(callback)
}

/// Whether nobody asked for this page yet: a browser that looks ahead must not spend the code.
fn is_prefetch(request: &HttpRequest) -> bool {
    ["sec-purpose", "purpose", "x-moz"].iter().any(|name| {
        let value = request.headers().get(*name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains("prefetch"))
    })
}

fn unknown() -> Result<HttpResponse, Problem> {
    failed("This authorization is over", "It is unknown, was used already, or has expired. Go back and connect again.")
}

fn failed(title: &str, text: &str) -> Result<HttpResponse, Problem> {
    html(HttpResponse::BadRequest(), &CallbackPage { good: false, title, text })
}

/// Sends the browser on; on failure with `error` and `error_description` after the URL's own query.
fn redirect(url: &RedirectUrl, failure: Option<&DisconnectReason>) -> Result<HttpResponse, Problem> {
    let target = match failure {
        None => url.as_str().to_owned(),
        Some(reason) => {
            let mut target = Url::parse(url.as_str())
                .map_err(|_| Problem::new(Kind::Internal, "The redirect_url cannot be read any more."))?;
            let error = match reason.code() {
                DisconnectCode::AuthorizationRefused => "access_denied",
                _ => "server_error",
            };
            target.query_pairs_mut().append_pair("error", error).append_pair("error_description", reason.message());
            target.into()
        }
    };
    Ok(see_other(&target))
}

fn see_other(target: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, target))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .finish()
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
