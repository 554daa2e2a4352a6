//! The two ends of a login: the browser's at the authorization endpoint, and the client's at the token endpoint.

use serde_json::{Map, Value, json};

use super::{Shared, State};
use crate::{
    authorization_server::{
        AuthMethod, Client, Iss,
        clients::read_basic,
        form::{Form, Refusal, answer},
        state::override_members,
        token::{hashed, is_verifier, posted},
    },
    wire::{reply::Reply, request::Request},
};

/// A code that was not exchanged yet.
#[derive(Debug)]
pub(super) struct Code {
    redirect_uri: String,
    challenge: String,
    nonce: Option<String>,
}

/// Sends the browser back with a code, or with the error of the settings.
pub(super) fn authorize(state: &mut State, issuer: &str, request: &Request) -> Reply {
    let (_, query) = request.target.split_once('?').unwrap_or_default();
    match authorized(state, issuer, query) {
        Ok(location) => Reply::new(302).header("location", location).header("cache-control", "no-store"),
        Err(what) => Reply::html(format!("<h1>{what}</h1>")).status(400),
    }
}

fn authorized(state: &mut State, issuer: &str, query: &str) -> Result<String, &'static str> {
    let form = Form::parse(query.as_bytes()).map_err(|_| "A parameter is there twice")?;
    let client = state.settings.client.as_ref().filter(|client| form.get("client_id") == Some(&client.id));
    let client = client.ok_or("Unknown client")?;
    let redirect_uri = form.get("redirect_uri").filter(|uri| client.redirect_uris.iter().any(|known| known == uri));
    let redirect_uri = redirect_uri.ok_or("Unknown redirect_uri")?.to_owned();
    if form.get("response_type") != Some("code") || form.get("code_challenge_method") != Some("S256") {
        return Err("Neither code nor PKCE");
    }
    if !form.get("scope").unwrap_or_default().split(' ').any(|scope| scope == "openid") {
        return Err("Not OpenID Connect");
    }
    let mut answer = url::form_urlencoded::Serializer::new(String::new());
    if let Some(error) = &state.settings.refusal {
        answer.append_pair("error", error);
    } else {
        state.issued += 1;
        let code = format!("code-{}-{}", state.issued, form.get("state").unwrap_or_default().len());
        answer.append_pair("code", &code);
        let challenge = form.get("code_challenge").unwrap_or_default().to_owned();
        let nonce = form.get("nonce").map(str::to_owned);
        state.codes.insert(code, Code { redirect_uri: redirect_uri.clone(), challenge, nonce });
    }
    answer.extend_pairs(form.get("state").map(|state| ("state", state)));
    answer.extend_pairs(match &state.settings.iss {
        Iss::Right => Some(("iss", issuer)),
        Iss::Missing => None,
        Iss::Wrong(other) => Some(("iss", other.as_str())),
    });
    Ok(format!("{redirect_uri}?{}", answer.finish()))
}

/// Exchanges a code for an access token and an ID token. A code is good once.
pub(super) fn exchange(shared: &Shared, state: &mut State, request: &Request) -> Reply {
    match exchanged(shared, state, request) {
        Ok(body) => answer(200, &body),
        Err(refusal) => refusal.reply(),
    }
}

fn exchanged(shared: &Shared, state: &mut State, request: &Request) -> Result<Value, Refusal> {
    let form = posted(request)?;
    let client = state.settings.client.clone().filter(|client| is_authentic(client, request, &form));
    let client = client.ok_or_else(|| Refusal::new("invalid_client", "unknown, or by another way"))?;
    if form.get("grant_type") != Some("authorization_code") {
        return Err(Refusal::new("unsupported_grant_type", "grant_type"));
    }
    let invalid = |what: &str| Refusal::new("invalid_grant", what);
    let code = form.get("code").and_then(|code| state.codes.remove(code));
    let code = code.ok_or_else(|| invalid("unknown code"))?;
    if form.get("redirect_uri") != Some(&code.redirect_uri) {
        return Err(invalid("another redirect_uri"));
    }
    if !form.get("code_verifier").is_some_and(|verifier| is_verifier(verifier) && hashed(verifier) == code.challenge) {
        return Err(invalid("code_verifier"));
    }
    let access_token = state.issue(&shared.claims(state, &client.id));
    let id_token = id_token(shared, state, &client.id, code.nonce);
    let mut body = Map::new();
    body.insert("access_token".to_owned(), json!(access_token));
    body.insert("token_type".to_owned(), json!("Bearer"));
    body.insert("expires_in".to_owned(), json!(state.settings.token_lifetime.as_secs()));
    body.insert("id_token".to_owned(), json!(id_token));
    override_members(&mut body, &state.settings.token_members);
    Ok(body.into())
}

fn id_token(shared: &Shared, state: &State, client_id: &str, nonce: Option<String>) -> String {
    let settings = &state.settings;
    let key = settings.id_token_key.as_ref().unwrap_or(&settings.keys[0]);
    let (begins, ends) = shared.times(state);
    let mut claims = Map::new();
    for (name, value) in [
        ("iss", json!(shared.issuer)),
        ("sub", json!(settings.subject)),
        ("aud", json!(client_id)),
        ("iat", json!(begins)),
        ("exp", json!(ends)),
        ("preferred_username", json!(settings.subject)),
    ] {
        claims.insert(name.to_owned(), value);
    }
    claims.extend(nonce.map(|nonce| ("nonce".to_owned(), json!(nonce))));
    override_members(&mut claims, &settings.id_token);
    let mut header = Map::new();
    header.insert("alg".to_owned(), json!(key.algorithm()));
    header.insert("kid".to_owned(), json!(key.id()));
    override_members(&mut header, &settings.id_token_header);
    key.token(&header.into(), &claims.into())
}

fn is_authentic(client: &Client, request: &Request, form: &Form) -> bool {
    let in_header = request.header("authorization").map(read_basic);
    let in_body = (form.get("client_id"), form.get("client_secret"));
    match (client.method, in_header, in_body) {
        (AuthMethod::Basic, Some(Some((id, secret))), (None, None)) => {
            id == client.id && Some(&secret) == client.secret.as_ref()
        }
        (AuthMethod::Post, None, (Some(id), Some(secret))) => {
            id == client.id && Some(secret) == client.secret.as_deref()
        }
        (AuthMethod::None, None, (Some(id), None)) => id == client.id,
        _ => false,
    }
}
