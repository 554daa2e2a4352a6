//! HTML pages for people who come with a browser in the middle of something: without script, without anything from
//! elsewhere, and without a trace of the URL that led to them.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use askama::Template;

use crate::problem::{Kind, Problem};

/// A page that may do nothing but show itself.
const SHOWN_ONLY: &str =
    "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// A page whose form leads, by way of the service, to an authorization server. Chromium holds redirects after a form against
/// `form-action` too (W3C CSP Level 3, section 6.4.2), and where they lead to is the matter of whoever runs those servers,
/// so any web address has to be allowed.
const WITH_FORM: &str =
    "default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self' https: http:";

/// A page that says what came of something.
#[derive(Template)]
#[template(path = "outcome.html")]
struct Outcome<'a> {
    good: bool,
    title: &'a str,
    text: &'a str,
}

/// Says that something has come about.
pub(crate) fn done(title: &str, text: &str) -> Result<HttpResponse, Problem> {
    shown(StatusCode::OK, &Outcome { good: true, title, text })
}

/// Says that something has not come about.
pub(crate) fn refused(status: StatusCode, title: &str, text: &str) -> Result<HttpResponse, Problem> {
    shown(status, &Outcome { good: false, title, text })
}

fn shown(status: StatusCode, page: &impl Template) -> Result<HttpResponse, Problem> {
    html(HttpResponse::build(status), page, SHOWN_ONLY, "no-referrer")
}

/// A page with a form.
pub(crate) fn form(page: &impl Template) -> Result<HttpResponse, Problem> {
    // Under `no-referrer` browsers send `Origin: null` with a form, and the service could not tell its own page from
    // others (WHATWG Fetch, section 3.2). Other sites learn as little of the URL this way.
    html(HttpResponse::Ok(), page, WITH_FORM, "same-origin")
}

fn html(
    mut response: HttpResponseBuilder,
    page: &impl Template,
    policy: &'static str,
    referrer: &'static str,
) -> Result<HttpResponse, Problem> {
    let text = page.render().map_err(|_| Problem::new(Kind::Internal, "The page could not be written."))?;
    Ok(response
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, referrer))
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .content_type("text/html; charset=utf-8")
        .body(text))
}

/// Sends the browser on to `target`, and leaves `cookies` in it.
pub(crate) fn see_other(target: &str, cookies: impl IntoIterator<Item = String>) -> HttpResponse {
    let mut response = HttpResponse::SeeOther();
    for cookie in cookies {
        response.append_header((header::SET_COOKIE, cookie));
    }
    response
        .insert_header((header::LOCATION, target))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .finish()
}

/// Whether nobody asked for this page yet: a browser that looks ahead must not spend a code.
pub(crate) fn is_prefetch(request: &HttpRequest) -> bool {
    ["sec-purpose", "purpose", "x-moz"].iter().any(|name| {
        let value = request.headers().get(*name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains("prefetch"))
    })
}

/// What a prefetch gets.
pub(crate) fn nothing_yet() -> HttpResponse {
    HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-store")).finish()
}

/// What a HEAD request gets, as mail scanners send it: nothing is done.
pub(crate) fn looked_at() -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).finish()
}
