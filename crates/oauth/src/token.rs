//! The token request and its answer (RFC 6749, sections 4.1.3, 5.1 and 5.2).
//!
//! Both are so small that they are written out: what a library for them adds is strictness where servers are lax, and
//! errors that carry what a server sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use connectors_application::ports::{ExchangeError, ExchangeRequest};
use connectors_domain::{
    AccessToken, Authority, ClientAuthentication, Grant, GrantSource, IssuedGrant, OAuthClient, RefreshToken, Scopes,
};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::address::{AddressError, address};
use crate::document::{Fetcher, Member, SendError, seconds, text, texts};
use crate::scope::scopes;

/// The longest life that an access token is believed to have.
const MAX_LIFE: i64 = 365 * 24 * 60 * 60;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    error: Member<'a>,
    #[serde(borrow)]
    access_token: Member<'a>,
    #[serde(borrow)]
    token_type: Member<'a>,
    #[serde(borrow)]
    expires_in: Member<'a>,
    #[serde(borrow)]
    refresh_token: Member<'a>,
    #[serde(borrow)]
    scope: Member<'a>,
}

/// Exchanges a code. `now` is a time before the request is sent: the token's life is not overestimated.
pub(crate) async fn exchange(
    fetcher: &Fetcher,
    now: Timestamp,
    request: ExchangeRequest,
) -> Result<Grant, ExchangeError> {
    let ExchangeRequest { authority, code, verifier, redirect_uri, scopes } = request;
    let parameters = [
        ("grant_type", "authorization_code"),
        ("code", code.expose()),
        ("redirect_uri", redirect_uri.as_str()),
        ("code_verifier", verifier.expose()),
    ];
    let response = send(fetcher, &authority, &parameters).await?;
    read(&response, authority, scopes, now)
}

async fn send(
    fetcher: &Fetcher,
    authority: &Authority,
    parameters: &[(&str, &str)],
) -> Result<Response<Bytes>, ExchangeError> {
    let endpoint = address(fetcher, &authority.token_endpoint).map_err(|error| match error {
        AddressError::Malformed => ExchangeError::InvalidResponse,
        AddressError::Refused(refused) => refused.into(),
    })?;
    let (headers, body) = message(authority, parameters)?;
    let sent = fetcher.post(endpoint, headers, "application/x-www-form-urlencoded", body).await;
    sent.map_err(|error| match error {
        SendError::Refused(refused) => refused.into(),
        SendError::Unreachable => ExchangeError::Unreachable,
        SendError::TimedOut => ExchangeError::TimedOut,
        SendError::Garbled => ExchangeError::InvalidResponse,
    })
}

/// The header fields and the form of a token request: how the client proves itself decides both.
fn message(authority: &Authority, parameters: &[(&str, &str)]) -> Result<(HeaderMap, String), ExchangeError> {
    let client = &authority.client;
    let mut form = Serializer::new(String::new());
    form.extend_pairs(parameters);
    // Also beside HTTP Basic: there are servers that look nowhere else for it.
    form.append_pair("client_id", client.credentials.id());
    if let Some(resource) = &authority.resource {
        form.append_pair("resource", resource);
    }
    let mut headers = HeaderMap::new();
    match (client.authentication, client.credentials.secret()) {
        (ClientAuthentication::SecretPost, Some(secret)) => {
            form.append_pair("client_secret", secret.expose());
        }
        (ClientAuthentication::SecretBasic, Some(secret)) => {
            headers.insert(AUTHORIZATION, basic(client, secret.expose())?);
        }
        (ClientAuthentication::None, _) | (_, None) => {}
    }
    Ok((headers, form.finish()))
}

/// HTTP Basic with id and secret encoded as in a form (RFC 6749, section 2.3.1).
fn basic(client: &OAuthClient, secret: &str) -> Result<HeaderValue, ExchangeError> {
    let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let credentials = STANDARD.encode(format!("{}:{}", encoded(client.credentials.id()), encoded(secret)));
    let mut value =
        HeaderValue::try_from(format!("Basic {credentials}")).map_err(|_| ExchangeError::InvalidResponse)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads an answer. An error in it counts before everything else, status included: some come with 200, and
/// `invalid_grant` with 401.
fn read(
    response: &Response<Bytes>,
    authority: Authority,
    asked: Scopes,
    now: Timestamp,
) -> Result<Grant, ExchangeError> {
    let status = response.status();
    let answer = serde_json::from_slice::<Answer<'_>>(response.body()).ok();
    if let Some(error) = answer.as_ref().and_then(|answer| answer.error) {
        return Err(match text(Some(error)).as_deref() {
            Some("invalid_client" | "unauthorized_client") => ExchangeError::ClientRefused,
            Some("server_error" | "temporarily_unavailable") => ExchangeError::InvalidResponse,
            None if status == StatusCode::UNAUTHORIZED => ExchangeError::ClientRefused,
            _ => ExchangeError::Refused,
        });
    }
    match status {
        StatusCode::UNAUTHORIZED => return Err(ExchangeError::ClientRefused),
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => return Err(ExchangeError::Refused),
        status if !status.is_success() => return Err(ExchangeError::InvalidResponse),
        _ => {}
    }
    let answer = answer.ok_or(ExchangeError::InvalidResponse)?;
    grant(&answer, authority, asked, now).ok_or(ExchangeError::InvalidResponse)
}

fn grant(answer: &Answer<'_>, authority: Authority, asked: Scopes, now: Timestamp) -> Option<Grant> {
    if !text(answer.token_type)?.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let access_token = AccessToken::new(text(answer.access_token)?).ok()?;
    let refresh_token = match answer.refresh_token {
        None => None,
        member => match text(member)? {
            empty if empty.is_empty() => None,
            token => Some(RefreshToken::new(token).ok()?),
        },
    };
    let said = text(answer.scope).map(|scope| vec![scope]).or_else(|| texts(answer.scope)).unwrap_or_default();
    let granted = scopes(said.iter().map(String::as_str));
    let issued = IssuedGrant {
        authority,
        refresh_token,
        expires_at: seconds(answer.expires_in).map(|life| end(now, life)),
        scopes: if granted.is_empty() { asked } else { granted },
        generation: 0,
    };
    Some(Grant { access_token, source: GrantSource::Issued(issued) })
}

/// When a token ends: now if it has no life, and within a year in any case.
fn end(now: Timestamp, life: i64) -> Timestamp {
    let life = SignedDuration::from_secs(life.clamp(0, MAX_LIFE));
    now.saturating_add(life).unwrap_or(Timestamp::MAX)
}
