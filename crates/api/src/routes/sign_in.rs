//! `/auth`: people sign in to the console, and out of it.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use connectors_application::ports::{LoginAnswer, LoginError, SealPurpose};
use connectors_application::{Denied, audit};
use connectors_domain::Secret;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::caller::{authenticate, record};
use crate::challenge::Challenge;
use crate::cookies::Purpose;
use crate::credential::is_token;
use crate::json::{parse, read_body};
use crate::links::{LOGIN_CALLBACK, Resource};
use crate::page;
use crate::problem::{BodyProblems, Kind, Problem, ProblemDocument};
use crate::routes::Api;
use crate::session::{Session, later, open, seal, signed_in};
use crate::wire::{AuthenticationName, SessionDocument, SignInDocument};

/// How long a person may take to log in.
const LOGIN_LIFETIME: Duration = Duration::from_mins(10);

/// The longest path to which a login leads, in bytes: it stands in a cookie.
const MAX_RETURN_TO: usize = 1024;

/// What is kept of a login in the browser, sealed.
#[derive(Serialize, Deserialize)]
struct Begun {
    state: String,
    nonce: String,
    verifier: String,
    return_to: String,
    /// When it is over, in seconds since 1970.
    until: i64,
}

/// Log in
///
/// Sends the browser to the identity provider.
#[utoipa::path(
    get, path = "/auth/login", tag = "sign-in", operation_id = "login",
    params(("return_to" = Option<String>, Query, description = "The path of this service at which the login ends")),
    responses(
        (status = 303, description = "To the identity provider"),
        (status = 404, description = "People do not log in with a browser here", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 502, description = "The identity provider cannot be used", body = String, content_type = "text/html"),
    ),
)]
pub(crate) async fn login(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let Some(login) = &api.login else { return Err(no_login()) };
    let begun = match login.begin(&api.links.to(LOGIN_CALLBACK)).await {
        Ok(begun) => begun,
        Err(error) => return not_logged_in(&error),
    };
    let kept = Begun {
        state: begun.state.expose().to_owned(),
        nonce: begun.nonce.expose().to_owned(),
        verifier: begun.verifier.expose().to_owned(),
        return_to: return_to(request.query_string()),
        until: later(&api, LOGIN_LIFETIME),
    };
    let sealed = seal(&api, SealPurpose::Login, &kept).map_err(internal)?;
    let cookie = api.cookies.set(Purpose::Login, &sealed, Some(LOGIN_LIFETIME));
    let cookie = cookie.ok_or_else(|| Problem::new(Kind::Internal, "The login is more than a browser keeps."))?;
    Ok(page::see_other(begun.authorization_url.expose(), [cookie]))
}

/// Finish a login
///
/// The browser is sent here by the identity provider.
#[utoipa::path(
    get, path = "/auth/callback", tag = "sign-in", operation_id = "login_callback",
    params(
        ("state" = Option<String>, Query, description = "The state that the authentication request carried"),
        ("code" = Option<String>, Query, description = "The authorization code"),
        ("iss" = Option<String>, Query, description = "The issuer (RFC 9207)"),
        ("error" = Option<String>, Query, description = "Why there is no code; never shown"),
    ),
    responses(
        (status = 204, description = "A prefetch, which consumes nothing"),
        (status = 303, description = "To where the login was begun"),
        (status = 400, description = "The login is unknown or over", body = String, content_type = "text/html"),
        (status = 403, description = "Nobody was logged in", body = String, content_type = "text/html"),
        (status = 404, description = "People do not log in with a browser here", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 502, description = "The identity provider cannot be used", body = String, content_type = "text/html"),
    ),
)]
pub(crate) async fn finish(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    if api.login.is_none() {
        return Err(no_login());
    }
    if page::is_prefetch(&request) {
        return Ok(page::nothing_yet());
    }
    let mut response = answer(&api, &request).await?;
    // Good once, whatever came of it.
    if let Ok(used) = header::HeaderValue::try_from(api.cookies.delete(Purpose::Login)) {
        response.headers_mut().append(header::SET_COOKIE, used);
    }
    Ok(response)
}

async fn answer(api: &Api, request: &HttpRequest) -> Result<HttpResponse, Problem> {
    let Some(login) = &api.login else { return Err(no_login()) };
    let Some(returned) = Returned::read(request.query_string()) else { return unknown("the answer is not one") };
    let Some(begun) = begun(api, request) else { return unknown("the browser holds no login that has begun") };
    if !Secret::new(begun.state).matches(&returned.state) {
        return unknown("the state is not the one of the login that has begun");
    }
    let Some(code) = returned.code else {
        return not_logged_in(&LoginError::Refused("the identity provider has sent no code"));
    };
    let answer = LoginAnswer {
        code,
        iss: returned.iss,
        nonce: Secret::new(begun.nonce),
        verifier: Secret::new(begun.verifier),
        redirect_uri: api.links.to(LOGIN_CALLBACK),
    };
    match login.finish(answer).await {
        Ok(principal) => {
            let cookie = signs_in(api, &Session::Person(principal.clone()))?;
            record(&principal);
            audit::logged_in(&principal);
            Ok(page::see_other(&api.links.to(&begun.return_to), [cookie]))
        }
        Err(error) => not_logged_in(&error),
    }
}

/// What the browser brought back.
struct Returned {
    state: Secret,
    /// None if an error came in its place.
    code: Option<Secret>,
    iss: Option<String>,
}

impl Returned {
    /// `None` if it cannot belong to any login. No parameter may stand there twice (RFC 6749, section 3.1).
    fn read(query: &str) -> Option<Self> {
        let (mut state, mut code, mut iss, mut error) = (None, None, None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "state" => &mut state,
                "code" => &mut code,
                "iss" => &mut iss,
                "error" => &mut error,
                _ => continue,
            };
            if place.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        let code = code.filter(|_| error.is_none()).map(Secret::new);
        Some(Self { state: Secret::new(state?), code, iss })
    }
}

/// The login that has begun in the browser, if it is not over.
fn begun(api: &Api, request: &HttpRequest) -> Option<Begun> {
    let sealed = api.cookies.read(request, Purpose::Login)?;
    let begun: Begun = open(api, SealPurpose::Login, &sealed)?;
    (api.access.now().as_second() < begun.until).then_some(begun)
}

/// Sign in with a token
///
/// Where the operator hands out tokens: the browser gets a cookie that stands for the token. It lasts as long as the token is
/// good, and no longer than the operator allows.
#[utoipa::path(
    post, path = "/auth/session", tag = "sign-in", operation_id = "sign_in",
    request_body = SignInDocument,
    responses(
        (status = 200, description = "Who has signed in", body = SessionDocument),
        (status = 400, description = "Malformed JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "The token is not good", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "Nobody signs in with a token here", body = ProblemDocument, content_type = "application/problem+json"),
        BodyProblems,
        (status = 503, description = "The token cannot be checked now", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn sign_in(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    if !api.access.is_closed() || api.login.is_some() {
        return Err(Problem::new(Kind::NoSuchPath, "Nobody signs in with a token here."));
    }
    let body = read_body(&request, payload, api.config.api_body_limit, api.config.body_timeout).await?;
    let SignInDocument { token } = parse(&request, &body)?;
    let refuse = |denied| {
        if denied == Denied::Unauthenticated {
            audit::login_refused("the token is not good");
        }
        Challenge { resource: Resource::Service, permission: None }.denied(&api.links, denied, true)
    };
    let token = Some(token).filter(|token| is_token(token)).map(Secret::new);
    let token = token.ok_or(Denied::Unauthenticated).map_err(refuse)?;
    let resource = || api.links.resource(Resource::Service);
    let principal = api.access.authenticate(Some(&token), resource).await.map_err(refuse)?;
    let cookie = signs_in(&api, &Session::Token(token))?;
    record(&principal);
    audit::logged_in(&principal);
    Ok(HttpResponse::Ok()
        .insert_header((header::SET_COOKIE, cookie))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(SessionDocument::new(authentication(&api), Some(&principal))))
}

/// See who has signed in
///
/// Also how people sign in here. It is answered whoever asks.
#[utoipa::path(
    get, path = "/auth/session", tag = "sign-in", operation_id = "read_session",
    security((), ("bearer" = [])),
    responses(
        (status = 200, description = "Who has signed in, if anybody", body = SessionDocument),
        (status = 503, description = "The credential cannot be checked now", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn session(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let principal = if api.access.is_closed() {
        match authenticate(&api, &request, Resource::Service).await {
            Ok(principal) => Some(principal),
            Err(Denied::Unauthenticated) => None,
            Err(denied) => return Err(denied.into()),
        }
    } else {
        None
    };
    let document = SessionDocument::new(authentication(&api), principal.as_ref());
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(document))
}

/// Sign out
///
/// Takes the cookie away.
#[utoipa::path(
    post, path = "/auth/logout", tag = "sign-in", operation_id = "sign_out",
    responses((status = 204, description = "Nobody is signed in with this browser")),
)]
pub(crate) async fn sign_out(api: web::Data<Api>, request: HttpRequest) -> HttpResponse {
    // Whoever it was, the cookie goes.
    if let Ok(Some(principal)) = signed_in(&api, &request).await {
        record(&principal);
        audit::logged_out(&principal);
    }
    HttpResponse::NoContent()
        .append_header((header::SET_COOKIE, api.cookies.delete(Purpose::Session)))
        // What this person has begun, the next one who uses the browser shall not finish.
        .append_header((header::SET_COOKIE, api.cookies.delete(Purpose::Browser)))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

fn authentication(api: &Api) -> AuthenticationName {
    match (api.access.is_closed(), &api.login) {
        (false, _) => AuthenticationName::None,
        (true, None) => AuthenticationName::Token,
        (true, Some(_)) => AuthenticationName::Openid,
    }
}

/// The cookie of a session that begins.
fn signs_in(api: &Api, session: &Session) -> Result<String, Problem> {
    let cookie = session.write(api).map_err(internal)?;
    cookie.ok_or_else(|| Problem::field("token", "is longer than what a browser keeps; use it with a program instead"))
}

fn no_login() -> Problem {
    Problem::new(Kind::NoSuchPath, "People do not log in with a browser here.")
}

fn unknown(reason: &'static str) -> Result<HttpResponse, Problem> {
    audit::login_refused(reason);
    page::refused(
        StatusCode::BAD_REQUEST,
        "This login is over",
        "It is unknown, was used already, or has taken too long. Open the console and sign in again.",
    )
}

fn not_logged_in(error: &LoginError) -> Result<HttpResponse, Problem> {
    match error {
        LoginError::Unavailable(reason) => {
            tracing::warn!(reason, "nobody can log in now");
            audit::login_refused("the identity provider cannot be used now");
            page::refused(
                StatusCode::BAD_GATEWAY,
                "You cannot be logged in now",
                "The identity provider cannot be reached, or does not answer as one. Try again in a moment; if it stays so, \
                 the operator finds the cause in the log.",
            )
        }
        LoginError::Refused(reason) => {
            audit::login_refused(reason);
            page::refused(
                StatusCode::FORBIDDEN,
                "You were not logged in",
                "The identity provider has refused, or what it said proves nothing. Open the console and sign in again.",
            )
        }
    }
}

fn internal(error: connectors_application::ports::SealerError) -> Problem {
    connectors_application::Error::Internal(Box::new(error)).into()
}

/// Where a login that was begun with `query` ends: at a path of this service, whatever somebody has put into a link.
fn return_to(query: &str) -> String {
    let mut named = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == "return_to");
    let path = named.next().map(|(_, path)| path.into_owned()).filter(|path| is_own_path(path));
    path.filter(|_| named.next().is_none()).unwrap_or_else(|| "/".to_owned())
}

/// Whether a browser that is sent to `path` stays here. Browsers take a backslash for a slash, leave tabs and line feeds
/// out, and read what follows two slashes as a host (WHATWG URL, section 4.4).
fn is_own_path(path: &str) -> bool {
    path.len() <= MAX_RETURN_TO
        && path.starts_with('/')
        && !path.contains("//")
        && path.chars().all(|char| char.is_ascii_graphic() && char != '\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_at_a_path_of_this_service() {
        let encoded =
            |path: &str| form_urlencoded::Serializer::new(String::new()).append_pair("return_to", path).finish();
        let longest = format!("/{}", "a".repeat(MAX_RETURN_TO - 1));
        for path in ["/", "/docs", "/#a", "/a/b?c=d&e=%2F%2Ff", "/a?u=https:/x", &longest] {
            assert_eq!(return_to(&encoded(path)), path);
        }
        let longer = format!("{longest}a");
        for path in [
            "",
            "docs",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/a//evil.example",
            "https://evil.example/",
            "https:evil.example",
            "http:/evil.example",
            "HTTPS://evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "@evil.example",
            ".evil.example",
            ":80/",
            " /",
            "/ /",
            "/\t/evil.example",
            "/\r\nset-cookie: a=b",
            "/\u{0}",
            "/\u{2028}",
            "/é",
            "\u{feff}/",
            &longer,
        ] {
            assert_eq!(return_to(&encoded(path)), "/", "{path:?}");
        }
        assert_eq!(return_to("return_to=/a&return_to=/b"), "/");
        assert_eq!(return_to("return_to=%2F%2Fevil.example"), "/");
        assert_eq!(return_to("return_to=/%5Cevil.example"), "/");
        assert_eq!(return_to(""), "/");
    }
}
