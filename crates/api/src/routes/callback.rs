//! `/api/v1/connectors/oauth/callback`: where a user's browser comes back after consent.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use connectors_application::{CallbackOutcome, CallbackRequest};
use connectors_domain::{DisconnectCode, DisconnectReason, RedirectUrl};
use url::Url;
use url::form_urlencoded;

use crate::cookies::Cookies;
use crate::page::{self, see_other};
use crate::problem::{Kind, Problem, ProblemDocument};
use crate::routes::Api;
use crate::routes::start::{browser, unknown};

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
        (status = 403, description = "It was begun in another browser, so nothing was done", body = String, content_type = "text/html"),
        (status = 503, description = "The database is away", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn finish(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if page::is_prefetch(&request) {
        return Ok(page::nothing_yet());
    }
    let Some(callback) = read(api.cookies, &request) else { return unknown() };
    match api.service.callback(callback).await? {
        CallbackOutcome::Unknown => unknown(),
        CallbackOutcome::WrongIssuer => failed(
            "This answer is not the one that was expected",
            "It did not come from the authorization server that was asked, so nothing in it was used. Go back and connect again.",
        ),
        // The user who began it may be somebody else: nobody is sent on.
        CallbackOutcome::OtherBrowser => page::refused(
            StatusCode::FORBIDDEN,
            "This authorization was begun in another browser",
            "So nothing was done with your consent. If you began it yourself, disconnect the connector, connect it again, and follow the new link and \
             consent in one and the same browser. If somebody sent you a link, tell the operator of this service.",
        ),
        CallbackOutcome::Further { authorization_url } => Ok(see_other(authorization_url.expose(), None)),
        CallbackOutcome::Finished { redirect_url: None, failure: None } => {
            page::done("Connected", "The connector is connected and ready for use.")
        }
        CallbackOutcome::Finished { redirect_url: None, failure: Some(reason) } => {
            failed("The connector is not connected", reason.message())
        }
        CallbackOutcome::Finished { redirect_url: Some(url), failure } => redirect(&url, failure.as_ref()),
    }
}

/// What the browser brought; `None` if it cannot belong to any authorization. No parameter may stand there twice
/// (RFC 6749, section 3.1).
pub(crate) fn read(cookies: Cookies, request: &HttpRequest) -> Option<CallbackRequest> {
    let mut callback = CallbackRequest {
        browser: browser(cookies, request),
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

fn failed(title: &str, text: &str) -> Result<HttpResponse, Problem> {
    page::refused(StatusCode::BAD_REQUEST, title, text)
}

/// Sends the browser on; on failure with `error` and `error_description` after the URL's own query.
pub(crate) fn redirect(url: &RedirectUrl, failure: Option<&DisconnectReason>) -> Result<HttpResponse, Problem> {
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
    Ok(see_other(&target, None))
}

/// Look at the callback
///
/// What mail scanners and prefetching browsers do. It consumes nothing.
#[utoipa::path(
    head, path = "/api/v1/connectors/oauth/callback", tag = "oauth", operation_id = "look_at_oauth_callback",
    responses((status = 200, description = "Nothing was done")),
)]
pub(crate) async fn look() -> HttpResponse {
    page::looked_at()
}
