//! `/api/v1/connectors/{id}/oauth/start`: the page from which a user sets out for an authorization server.
//!
//! It keeps one user's consent out of another user's connector (RFC 9700, section 4.7): it says whose connector it is, and
//! it leaves a secret in the browser without which the callback does nothing.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use connectors_application::{SetOut, StartPage};
use connectors_domain::{AccountName, ConnectorId, Principal, Secret};
use url::{Url, form_urlencoded};

use crate::caller::record;
use crate::cookies::{Cookies, Purpose};
use crate::json::read_body;
use crate::links::start_path;
use crate::page;
use crate::problem::{Kind, Problem, ProblemDocument};
use crate::routes::Api;
use crate::routes::connectors::connector_id;
use crate::session::signed_in;

/// The length of the secret that marks a browser: 32 bytes in hexadecimal.
const BROWSER_SECRET: usize = 64;

#[derive(Template)]
#[template(path = "start.html")]
struct StartTemplate<'a> {
    server: &'a str,
    server_host: &'a str,
    issuer_host: &'a str,
    account: Option<&'a str>,
    ticket: &'a str,
}

/// See whose connector an authorization is for
///
/// The page says which server is connected to whose account, and has a button to set out for the authorization server. It
/// changes nothing by being looked at.
#[utoipa::path(
    get, path = "/api/v1/connectors/{id}/oauth/start", tag = "oauth", operation_id = "oauth_start",
    params(
        ("id" = uuid::Uuid, Path, description = "The connector"),
        ("ticket" = Option<String>, Query, description = "What the connector's authorization_endpoint holds"),
    ),
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 303, description = "To the login, where people log in with a browser and nobody has"),
        (status = 400, description = "The authorization is unknown or over", body = String, content_type = "text/html"),
        (status = 403, description = "It belongs to another account than the one that has signed in here", body = String, content_type = "text/html"),
        (status = 503, description = "The database is away", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    api: web::Data<Api>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let Some((id, ticket)) = read(&id, request.query_string().as_bytes()) else { return unknown() };
    let start = match visit(&api, &request, id, &ticket).await? {
        Ok(start) => start,
        Err(answer) => return Ok(answer),
    };
    let server = start.server.as_url().authority();
    let issuer = Url::parse(&start.issuer).ok();
    page::form(&StartTemplate {
        server: start.server.as_str(),
        server_host: server,
        issuer_host: issuer.as_ref().map_or(start.issuer.as_str(), Url::authority),
        account: start.account.as_ref().map(AccountName::as_str),
        ticket: ticket.expose(),
    })
}

/// Look at the start of an authorization
///
/// What mail scanners do. It changes nothing.
#[utoipa::path(
    head, path = "/api/v1/connectors/{id}/oauth/start", tag = "oauth", operation_id = "look_at_oauth_start",
    params(("id" = uuid::Uuid, Path, description = "The connector")),
    responses((status = 200, description = "Nothing was done")),
)]
pub(crate) async fn look() -> HttpResponse {
    page::looked_at()
}

/// Set out for the authorization server
///
/// The form of the page. The first browser that sends it is the one in which the authorization can be finished; it gets a
/// cookie that it must bring back.
#[utoipa::path(
    post, path = "/api/v1/connectors/{id}/oauth/start", tag = "oauth", operation_id = "oauth_set_out",
    params(("id" = uuid::Uuid, Path, description = "The connector")),
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 303, description = "To the authorization server; or to the login, where people log in with a browser and nobody has"),
        (status = 400, description = "The authorization is unknown or over", body = String, content_type = "text/html"),
        (status = 403, description = "Another browser has set out before, it belongs to another account, or the form is not this service's own", body = String, content_type = "text/html"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "The database is away", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn set_out(
    api: web::Data<Api>,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    // A listed origin may call the API, but the user must have seen this service's own page.
    if !api.guard.is_of_own_page(request.headers()) {
        return Err(Problem::new(Kind::OriginRefused, "Only the page at this path may send its form."));
    }
    let body = read_body(&request, payload, api.config.api_body_limit, api.config.body_timeout).await?;
    let Some((id, ticket)) = read(&id, &body) else { return unknown() };
    if let Err(answer) = visit(&api, &request, id, &ticket).await? {
        return Ok(answer);
    }
    match api.service.set_out(id, &ticket, browser(api.cookies, &request)).await? {
        SetOut::Unknown => unknown(),
        SetOut::OtherBrowser => page::refused(
            StatusCode::FORBIDDEN,
            "This authorization was begun in another browser",
            "It can be finished there alone. To go on in this browser, disconnect the connector, connect it again, and follow the new link.",
        ),
        SetOut::On { authorization_url, browser } => {
            let cookie = api.cookies.set(Purpose::Browser, browser.expose(), None);
            Ok(page::see_other(authorization_url.expose(), cookie))
        }
    }
}

/// The connector and the ticket of a visit; `None` if they cannot belong to any authorization.
fn read(id: &str, pairs: &[u8]) -> Option<(ConnectorId, Secret)> {
    let mut tickets = form_urlencoded::parse(pairs).filter(|(name, _)| name == "ticket");
    let (_, ticket) = tickets.next()?;
    let id = connector_id(id).ok()?;
    tickets.next().is_none().then(|| (id, Secret::new(ticket)))
}

/// The start to which a visit belongs, or the answer where it leads nowhere.
async fn visit(
    api: &Api,
    request: &HttpRequest,
    id: ConnectorId,
    ticket: &Secret,
) -> Result<Result<StartPage, HttpResponse>, Problem> {
    // A browser that comes from elsewhere brings the cookie and nothing else. That is enough here: it can only make the
    // answer a refusal.
    let person = signed_in(api, request).await?;
    if let Some(person) = &person {
        record(person);
    } else if api.login.is_some() {
        return Ok(Err(page::see_other(&api.links.login(&start_path(id, ticket)), None)));
    }
    let Some(start) = api.service.start_page(id, ticket).await? else { return unknown().map(Err) };
    match person {
        Some(person) if person.owner != start.owner => other_account(&person).map(Err),
        _ => Ok(Ok(start)),
    }
}

fn other_account(person: &Principal) -> Result<HttpResponse, Problem> {
    let text = format!(
        "You are signed in as {}, and this authorization belongs to another account. If somebody sent you here, close this \
         page. If that account is yours as well, sign out in the console first.",
        person.account
    );
    page::refused(StatusCode::FORBIDDEN, "This belongs to another account", &text)
}

/// The status is the callback's for what it does not know: the link was good once, so the path is not wrong.
pub(crate) fn unknown() -> Result<HttpResponse, Problem> {
    page::refused(
        StatusCode::BAD_REQUEST,
        "This authorization is over",
        "It is unknown, was used already, or has expired. Go back and connect again.",
    )
}

/// The secret by which a browser is known, from an authorization before.
pub(crate) fn browser(cookies: Cookies, request: &HttpRequest) -> Option<Secret> {
    let secret = cookies.read(request, Purpose::Browser)?;
    let is_one = secret.expose().len() == BROWSER_SECRET && secret.expose().bytes().all(is_lower_hex);
    is_one.then_some(secret)
}

const fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
