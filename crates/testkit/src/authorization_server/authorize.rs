//! The authorization endpoint: checks the request as the specifications say, and sends the browser back.

#![expect(clippy::result_large_err, reason = "a refusal is a whole reply, and made once for a request")]

use std::time::Instant;

use url::Url;

use super::{
    Consent, Iss,
    form::{Form, is_absolute},
    state::{Code, Grant, State},
};
use crate::wire::{reply::Reply, request::Request};

/// An authorization request that is in order.
#[derive(Debug)]
pub(super) struct Authorization {
    client_id: String,
    back: Back,
    challenge: Option<String>,
    resource: Option<String>,
    scopes: Vec<String>,
    offline: bool,
}

/// Where the browser is sent back to.
#[derive(Debug)]
struct Back {
    redirect_uri: String,
    state: Option<String>,
}

pub(super) enum Outcome {
    Reply(Reply),
    Ask(Authorization),
}

pub(super) fn authorize(state: &mut State, issuer: &str, request: &Request) -> Outcome {
    if request.verb != "GET" {
        return Outcome::Reply(Reply::text(405, "Method Not Allowed").header("allow", "GET"));
    }
    let authorization = match read(state, issuer, request) {
        Ok(authorization) => authorization,
        Err(reply) => return Outcome::Reply(reply),
    };
    state.counters.authorizations += 1;
    match state.settings.consent.clone() {
        Consent::Grant => Outcome::Reply(authorization.grant(state, issuer)),
        Consent::Refuse(error, description) => {
            Outcome::Reply(authorization.back.refuse(state, issuer, &error, &description))
        }
        Consent::Ask => Outcome::Ask(authorization),
    }
}

/// Errors before the redirect URI is known to be the client's are shown and not sent (section 4.1.2.1 of RFC 6749).
fn read(state: &State, issuer: &str, request: &Request) -> Result<Authorization, Reply> {
    let page = |what: &str| Reply::html(format!("<h1>{what}</h1>")).status(400);
    let (_, query) = request.target.split_once('?').unwrap_or_default();
    let form = Form::parse(query.as_bytes()).map_err(|_| page("A parameter is there twice"))?;
    let client_id = form.get("client_id").ok_or_else(|| page("client_id is missing"))?;
    let client = state.clients.get(client_id).ok_or_else(|| page("Unknown client"))?;
    let redirect_uri = form.get("redirect_uri").ok_or_else(|| page("redirect_uri is missing"))?;
    if !client.client.redirect_uris.iter().any(|known| known == redirect_uri) {
        return Err(page("Unknown redirect_uri"));
    }
    let back = Back { redirect_uri: redirect_uri.to_owned(), state: form.get("state").map(str::to_owned) };
    let refuse = |error: &str, description: &str| Err(back.refuse(state, issuer, error, description));
    match form.get("response_type") {
        Some("code") => {}
        Some(_) => return refuse("unsupported_response_type", "response_type is not code"),
        None => return refuse("invalid_request", "response_type is missing"),
    }
    match (form.get("code_challenge"), form.get("code_challenge_method")) {
        (None, None) if !state.settings.pkce => {}
        (None, _) => return refuse("invalid_request", "code_challenge is missing"),
        (Some(challenge), Some("S256")) if is_challenge(challenge) => {}
        (Some(_), Some("S256")) => return refuse("invalid_request", "code_challenge is no SHA-256"),
        (Some(_), _) => return refuse("invalid_request", "code_challenge_method is not S256"),
    }
    match form.get("resource") {
        None if state.settings.resource => return refuse("invalid_target", "resource is missing"),
        Some(resource) if !is_absolute(resource) => return refuse("invalid_target", "resource is no absolute URI"),
        Some(resource) if !any_or_one_of(&state.settings.resources, resource) => {
            return refuse("invalid_target", "unknown resource");
        }
        _ => {}
    }
    let scopes: Vec<String> = form.get("scope").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    if !scopes.iter().all(|scope| any_or_one_of(&state.settings.scopes, scope)) {
        return refuse("invalid_scope", "unknown scope");
    }
    let owned = |name: &str| form.get(name).map(str::to_owned);
    let (challenge, resource) = (owned("code_challenge"), owned("resource"));
    let wanted = state.settings.offline_parameter.as_ref();
    let offline = wanted.is_none_or(|(name, value)| form.get(name) == Some(value));
    Ok(Authorization { client_id: client_id.to_owned(), back, challenge, resource, scopes, offline })
}

impl Authorization {
    /// Sends the browser back with a code.
    pub(super) fn grant(&self, state: &mut State, issuer: &str) -> Reply {
        let (client_id, resource) = (self.client_id.clone(), self.resource.clone());
        let grant = Grant { offline: self.offline, ..Grant::new(client_id, resource, self.scopes.clone()) };
        state.grants.push(grant);
        let grant = state.grants.len() - 1;
        let code = state.unique("code");
        let (redirect_uri, challenge) = (self.back.redirect_uri.clone(), self.challenge.clone());
        let entry = Code { grant, redirect_uri, challenge, issued: Instant::now(), spent: false };
        state.codes.insert(code.clone(), entry);
        self.back.redirect(state, issuer, &[("code", &code)])
    }

    /// Sends the browser back with an error.
    pub(super) fn refuse(&self, state: &State, issuer: &str, error: &str, description: &str) -> Reply {
        self.back.refuse(state, issuer, error, description)
    }
}

impl Back {
    fn refuse(&self, state: &State, issuer: &str, error: &str, description: &str) -> Reply {
        self.redirect(state, issuer, &[("error", error), ("error_description", description)])
    }

    fn redirect(&self, state: &State, issuer: &str, parameters: &[(&str, &str)]) -> Reply {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(parameters);
        query.extend_pairs(self.state.as_ref().map(|state| ("state", state)));
        query.extend_pairs(match &state.settings.iss {
            Iss::Right => Some(("iss", issuer)),
            Iss::Missing => None,
            Iss::Wrong(other) => Some(("iss", other.as_str())),
        });
        let uri = &self.redirect_uri;
        let has_query = Url::parse(uri).is_ok_and(|uri| uri.query().is_some());
        let joint = if has_query { '&' } else { '?' };
        Reply::new(302)
            .header("location", format!("{uri}{joint}{}", query.finish()))
            .header("cache-control", "no-store")
            .header("referrer-policy", "no-referrer")
    }
}

fn any_or_one_of(known: &[String], asked: &str) -> bool {
    known.is_empty() || known.iter().any(|one| one == asked)
}

/// 32 bytes in base64url (section 4.2 of RFC 7636).
fn is_challenge(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}
