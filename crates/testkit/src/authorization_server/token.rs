//! The token and revocation endpoints.

use std::time::Instant;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    Rotation,
    clients::{Client, authenticate, is_media_type},
    form::{Form, Refusal, answer},
    state::State,
};
use crate::wire::{reply::Reply, request::Request};

pub(super) fn token(state: &mut State, issuer: &str, request: &Request) -> Reply {
    match tokens(state, issuer, request) {
        Ok(body) => answer(200, &body),
        Err(refusal) => {
            state.counters.refusals += 1;
            refusal.reply()
        }
    }
}

fn tokens(state: &mut State, issuer: &str, request: &Request) -> Result<Value, Refusal> {
    let form = posted(request)?;
    match form.get("grant_type") {
        Some("authorization_code") => {
            state.counters.code_requests += 1;
            let client = authenticate(state, issuer, request, &form)?;
            let answer = exchange(state, &client, &form)?;
            state.counters.exchanges += 1;
            Ok(answer)
        }
        Some("refresh_token") => {
            state.counters.refresh_requests += 1;
            let client = authenticate(state, issuer, request, &form)?;
            let answer = refresh(state, &client, &form)?;
            state.counters.refreshes += 1;
            Ok(answer)
        }
        other => {
            state.counters.other_token_requests += 1;
            let error = if other.is_some() { "unsupported_grant_type" } else { "invalid_request" };
            Err(Refusal::new(error, "grant_type"))
        }
    }
}

/// Whatever is wrong with it, a code that its client has shown is spent.
fn exchange(state: &mut State, client: &Client, form: &Form) -> Result<Value, Refusal> {
    let invalid = |what: &str| Refusal::new("invalid_grant", what);
    let name = form.get("code").ok_or_else(|| Refusal::new("invalid_request", "code is missing"))?;
    let code = state.codes.get_mut(name).ok_or_else(|| invalid("unknown code"))?;
    let grant = &mut state.grants[code.grant];
    if grant.client_id != client.id {
        return Err(invalid("the code of another client"));
    }
    if std::mem::replace(&mut code.spent, true) {
        state.counters.code_reuses += 1;
        grant.revoked = true;
        return Err(invalid("the code was used before"));
    }
    if grant.revoked {
        return Err(invalid("the grant was revoked"));
    }
    if code.issued.elapsed() >= state.settings.code_lifetime {
        return Err(invalid("the code has expired"));
    }
    if form.get("redirect_uri") != Some(&code.redirect_uri) {
        return Err(invalid("another redirect_uri"));
    }
    match (&code.challenge, form.get("code_verifier")) {
        (None, None) => {}
        (Some(challenge), Some(verifier)) if is_verifier(verifier) && hashed(verifier) == *challenge => {}
        _ => return Err(invalid("code_verifier")),
    }
    check_resource(state.settings.resource, grant.resource.as_deref(), form)?;
    let (grant, scopes) = (code.grant, grant.scopes.clone());
    let refresh = state.refreshable(grant).then(|| state.new_refresh(grant));
    Ok(state.token_answer(grant, scopes, refresh))
}

fn refresh(state: &mut State, client: &Client, form: &Form) -> Result<Value, Refusal> {
    let invalid = |what: &str| Refusal::new("invalid_grant", what);
    if !client.refresh {
        return Err(Refusal::new("unauthorized_client", "the client is not registered for refresh_token"));
    }
    let name = form.get("refresh_token");
    let name = name.ok_or_else(|| Refusal::new("invalid_request", "refresh_token is missing"))?;
    let token = state.refresh.get_mut(name).ok_or_else(|| invalid("unknown refresh token"))?;
    let grant = &mut state.grants[token.grant];
    if grant.client_id != client.id {
        return Err(invalid("the refresh token of another client"));
    }
    let graced = token.spent.is_some();
    if token.spent.is_some_and(|spent| spent.elapsed() >= state.settings.grace) {
        state.counters.reuses += 1;
        grant.reuses += 1;
        grant.revoked = true;
        return Err(invalid("the refresh token was used before"));
    }
    if grant.revoked {
        return Err(invalid("the grant was revoked"));
    }
    check_resource(state.settings.resource, grant.resource.as_deref(), form)?;
    let scopes = match form.get("scope") {
        None => grant.scopes.clone(),
        Some(scope) => scope.split_whitespace().map(str::to_owned).collect(),
    };
    if !scopes.iter().all(|scope| grant.scopes.contains(scope)) {
        return Err(Refusal::new("invalid_scope", "wider than what was granted"));
    }
    grant.refreshes += 1;
    let grant = token.grant;
    let next = match state.settings.rotation {
        Rotation::Rotate => {
            token.spent.get_or_insert_with(Instant::now);
            Some(state.new_refresh(grant))
        }
        Rotation::Repeat => Some(name.to_owned()),
        Rotation::Keep | Rotation::Never => None,
    };
    state.counters.graced += u64::from(graced);
    Ok(state.token_answer(grant, scopes, next))
}

/// RFC 7009: a refresh token takes its grant along, and one that is unknown is revoked already.
pub(super) fn revoke(state: &mut State, issuer: &str, request: &Request) -> Reply {
    state.counters.revocation_requests += 1;
    match revoked(state, issuer, request) {
        Ok(()) => Reply::new(200),
        Err(refusal) => refusal.reply(),
    }
}

fn revoked(state: &mut State, issuer: &str, request: &Request) -> Result<(), Refusal> {
    let form = posted(request)?;
    let client = authenticate(state, issuer, request, &form)?;
    let name = form.get("token").ok_or_else(|| Refusal::new("invalid_request", "token is missing"))?;
    let refresh = state.refresh.get(name).map(|token| (token.grant, token.spent.is_none()));
    let access = state.access.get(name).map(|token| (token.grant, token.ends > Instant::now()));
    let Some((number, live)) = refresh.or(access) else { return Ok(()) };
    let grant = &mut state.grants[number];
    if grant.client_id != client.id {
        return Err(Refusal::new("unauthorized_client", "the token of another client"));
    }
    if refresh.is_none() && !state.settings.revoke_access_tokens {
        return Err(Refusal::new("unsupported_token_type", "access tokens cannot be revoked"));
    }
    state.counters.revocations += u64::from(live && !grant.revoked);
    if refresh.is_some() {
        grant.revoked = true;
    } else {
        state.access.remove(name);
    }
    Ok(())
}

pub(crate) fn posted(request: &Request) -> Result<Form, Refusal> {
    let invalid = |what: String| Refusal::new("invalid_request", what);
    if request.verb != "POST" {
        return Err(invalid("the method is not POST".to_owned()));
    }
    if !is_media_type(request, "application/x-www-form-urlencoded") {
        return Err(invalid("the Content-Type is not application/x-www-form-urlencoded".to_owned()));
    }
    Form::parse(&request.body).map_err(|name| invalid(format!("{name} is there twice")))
}

fn check_resource(required: bool, granted: Option<&str>, form: &Form) -> Result<(), Refusal> {
    match form.get("resource") {
        None if required => Err(Refusal::new("invalid_target", "resource is missing")),
        Some(resource) if Some(resource) != granted => Err(Refusal::new("invalid_target", "another resource")),
        _ => Ok(()),
    }
}

/// Section 4.1 of RFC 7636.
pub(crate) fn is_verifier(text: &str) -> bool {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    (43..=128).contains(&text.len()) && text.bytes().all(unreserved)
}

pub(crate) fn hashed(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}
