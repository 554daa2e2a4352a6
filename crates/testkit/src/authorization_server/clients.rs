//! Who the clients are: registration (RFC 7591, and its end by RFC 7592) and authentication at the token endpoint.

use std::time::{Duration, Instant, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use url::Url;

use super::{
    AuthMethod, assertions,
    form::{Form, Refusal, answer, is_absolute},
    state::State,
};
use crate::wire::{reply::Reply, request::Request};

/// A client that the server knows.
#[derive(Clone, Debug)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// How it authenticates; no other way is accepted.
    pub method: AuthMethod,
    /// Its secret, for [`AuthMethod::Basic`] and [`AuthMethod::Post`].
    pub secret: Option<String>,
    /// Its public keys (RFC 7517), for [`AuthMethod::PrivateKey`].
    pub jwks: Option<Value>,
    /// Where codes may be sent: compared as strings.
    pub redirect_uris: Vec<String>,
    /// Whether it may use refresh tokens.
    pub refresh: bool,
}

impl Client {
    /// A public client.
    pub fn public(id: impl Into<String>, redirect_uri: impl Into<String>) -> Self {
        let redirect_uris = vec![redirect_uri.into()];
        Self { id: id.into(), method: AuthMethod::None, secret: None, jwks: None, redirect_uris, refresh: true }
    }

    /// A client with a secret.
    pub fn confidential(
        id: impl Into<String>,
        secret: impl Into<String>,
        method: AuthMethod,
        redirect_uri: impl Into<String>,
    ) -> Self {
        Self { method, secret: Some(secret.into()), ..Self::public(id, redirect_uri) }
    }

    /// A client with keys.
    pub fn keyed(id: impl Into<String>, jwks: Value, redirect_uri: impl Into<String>) -> Self {
        Self { method: AuthMethod::PrivateKey, jwks: Some(jwks), ..Self::public(id, redirect_uri) }
    }
}

/// A client, and what came with its registration.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) client: Client,
    pub(super) secret_ends: Option<Instant>,
    management_token: Option<String>,
}

impl From<Client> for Registered {
    fn from(client: Client) -> Self {
        Self { client, secret_ends: None, management_token: None }
    }
}

pub(super) fn register(state: &mut State, endpoint: &str, request: &Request, document: Option<&Value>) -> Reply {
    if request.verb != "POST" {
        return Reply::text(405, "Method Not Allowed").header("allow", "POST");
    }
    match registered(state, endpoint, request, document) {
        Ok(body) => {
            state.counters.registrations += 1;
            answer(201, &body)
        }
        Err(refusal) => refusal.reply(),
    }
}

fn registered(
    state: &mut State,
    endpoint: &str,
    request: &Request,
    document: Option<&Value>,
) -> Result<Value, Refusal> {
    let invalid = |what: &str| Refusal::new("invalid_client_metadata", what);
    if !is_media_type(request, "application/json") {
        return Err(invalid("the Content-Type is not application/json"));
    }
    let document = document.and_then(Value::as_object).ok_or_else(|| invalid("no JSON object"))?;
    let text = |name: &str, default: &'static str| match document.get(name) {
        None => Ok(default.to_owned()),
        Some(value) => value.as_str().map(str::to_owned).ok_or_else(|| invalid(name)),
    };
    let texts = |name: &str, default: &[&str]| match document.get(name) {
        None => Ok(default.iter().map(|&text| text.to_owned()).collect()),
        Some(value) => value
            .as_array()
            .and_then(|all| all.iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>())
            .ok_or_else(|| invalid(name)),
    };
    let redirect_uris = texts("redirect_uris", &[])?;
    let kind = text("application_type", "")?;
    if redirect_uris.is_empty() || !redirect_uris.iter().all(|uri| is_redirect(uri, &kind)) {
        return Err(Refusal::new("invalid_redirect_uri", "redirect_uris"));
    }
    let method = AuthMethod::named(&text("token_endpoint_auth_method", "client_secret_basic")?)
        .filter(|method| state.settings.auth_methods.contains(method))
        .ok_or_else(|| invalid("token_endpoint_auth_method"))?;
    let grant_types = texts("grant_types", &["authorization_code"])?;
    let known = |grant: &String| matches!(grant.as_str(), "authorization_code" | "refresh_token");
    if !grant_types.iter().all(known) || !grant_types.iter().any(|grant| grant == "authorization_code") {
        return Err(invalid("grant_types"));
    }
    let response_types = texts("response_types", &["code"])?;
    if response_types != ["code"] {
        return Err(invalid("response_types"));
    }
    let jwks = document.get("jwks").filter(|_| method == AuthMethod::PrivateKey).cloned();
    let keyed = jwks.as_ref().and_then(|jwks| jwks["keys"].as_array()).is_some_and(|keys| !keys.is_empty());
    if method == AuthMethod::PrivateKey && !keyed {
        return Err(invalid("jwks"));
    }
    let id = state.unique("client");
    let secret = matches!(method, AuthMethod::Basic | AuthMethod::Post).then(|| state.unique("secret"));
    let management_token = state.unique("registration");
    let mut body = document.clone();
    let mut put = |name: &str, value: Value| body.insert(name.to_owned(), value);
    put("client_id", json!(id));
    put("client_id_issued_at", json!(seconds_since_1970(Duration::ZERO)));
    if let Some(secret) = &secret {
        put("client_secret", json!(secret));
        put("client_secret_expires_at", json!(state.settings.secret_lifetime.map_or(0, seconds_since_1970)));
    }
    put("redirect_uris", json!(redirect_uris));
    put("token_endpoint_auth_method", json!(method.name()));
    put("grant_types", json!(grant_types));
    put("response_types", json!(response_types));
    put("registration_access_token", json!(management_token));
    put("registration_client_uri", json!(format!("{endpoint}/{id}")));
    let secret_ends = state.settings.secret_lifetime.filter(|_| secret.is_some()).map(|life| Instant::now() + life);
    let refresh = grant_types.iter().any(|grant| grant == "refresh_token");
    let client = Client { id: id.clone(), method, secret, jwks, redirect_uris, refresh };
    let registered = Registered { client, secret_ends, management_token: Some(management_token) };
    state.clients.insert(id, registered);
    Ok(body.into())
}

/// Ends a registration; what the client was granted ends with it.
pub(super) fn deregister(state: &mut State, request: &Request, id: &str) -> Reply {
    if request.verb != "DELETE" {
        return Reply::text(405, "Method Not Allowed").header("allow", "DELETE");
    }
    let known = state.clients.get(id).and_then(|registered| registered.management_token.as_deref());
    if known.is_none() || known != request.bearer() {
        return answer(401, &json!({ "error": "invalid_token" })).header("www-authenticate", "Bearer");
    }
    state.clients.remove(id);
    state.revoke_grants_of(id);
    state.counters.deregistrations += 1;
    Reply::new(204)
}

/// Which client this is, as section 2.3 of RFC 6749 and its registration have it.
pub(super) fn authenticate(state: &mut State, issuer: &str, request: &Request, form: &Form) -> Result<Client, Refusal> {
    let header = request.header("authorization");
    let fail = |what: &str| Refusal { challenge: header.is_some(), ..Refusal::new("invalid_client", what) };
    if let Some(assertion) = form.get("client_assertion") {
        if header.is_some() || form.get("client_secret").is_some() {
            return Err(Refusal::new("invalid_request", "two ways to authenticate in one request"));
        }
        if form.get("client_assertion_type") != Some(assertions::TYPE) {
            return Err(Refusal::new("invalid_request", "client_assertion_type"));
        }
        let id = assertions::subject(assertion).ok_or_else(|| fail("the assertion is of nobody"))?;
        if form.get("client_id").is_some_and(|named| named != id) {
            return Err(Refusal::new("invalid_request", "two clients in one request"));
        }
        let client = state.clients.get(&id).ok_or_else(|| fail("unknown client"))?.client.clone();
        if client.method != AuthMethod::PrivateKey {
            return Err(fail("an assertion is not how this client authenticates"));
        }
        assertions::check(state, issuer, &client, assertion).map_err(fail)?;
        return Ok(client);
    }
    let (id, secret, method) = match (header, form.get("client_id"), form.get("client_secret")) {
        (Some(header), id, None) => {
            let (basic, secret) = read_basic(header).ok_or_else(|| fail("cannot read Authorization"))?;
            if id.is_some_and(|id| id != basic) {
                return Err(Refusal::new("invalid_request", "two clients in one request"));
            }
            (basic, Some(secret), AuthMethod::Basic)
        }
        (Some(_), _, Some(_)) => {
            return Err(Refusal::new("invalid_request", "two ways to authenticate in one request"));
        }
        (None, Some(id), Some(secret)) => (id.to_owned(), Some(secret.to_owned()), AuthMethod::Post),
        (None, Some(id), None) => (id.to_owned(), None, AuthMethod::None),
        (None, None, _) => return Err(fail("no client")),
    };
    let registered = state.clients.get(&id).ok_or_else(|| fail("unknown client"))?;
    if registered.client.method != method {
        return Err(fail(&format!("{} is not how this client authenticates", method.name())));
    }
    if registered.client.secret != secret {
        return Err(fail("wrong secret"));
    }
    if registered.secret_ends.is_some_and(|end| end <= Instant::now()) {
        return Err(fail("the secret has expired"));
    }
    Ok(registered.client.clone())
}

pub(crate) fn read_basic(header: &str) -> Option<(String, String)> {
    let (scheme, credentials) = header.split_once(' ')?;
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let plain = |encoded: &str| {
        let pair = format!("v={encoded}");
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    scheme.eq_ignore_ascii_case("basic").then_some((plain(id)?, plain(secret)?))
}

pub(super) fn is_media_type(request: &Request, wanted: &str) -> bool {
    let value = request.header("content-type").unwrap_or_default();
    value.split(';').next().is_some_and(|found| found.trim().eq_ignore_ascii_case(wanted))
}

/// `https` anywhere but on this machine for the web; this machine by `http`, or a scheme of its own, for native clients;
/// a client that does not say what it is may be either.
fn is_redirect(uri: &str, kind: &str) -> bool {
    let Some(url) = Url::parse(uri).ok().filter(|_| is_absolute(uri)) else { return false };
    let here = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let web = url.scheme() == "https" && !here;
    let native = if url.scheme() == "http" { here } else { url.scheme() != "https" && url.scheme().contains('.') };
    match kind {
        "web" => web,
        "native" => native || web,
        "" => url.scheme() == "https" || native,
        _ => false,
    }
}

#[expect(clippy::disallowed_methods, reason = "RFC 7591 has seconds since 1970, and no test decides them")]
pub(super) fn seconds_since_1970(from_now: Duration) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (now + from_now).as_secs()
}
