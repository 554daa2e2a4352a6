//! Access tokens that are JWTs (RFC 7519, RFC 9068), read as RFC 8725 advises: a pure function of token, keys and time.
//!
//! What is read is held to its exact type, and a token in which it stands twice is refused. What would change how the rest
//! is to be read (`crit`, `b64`, `zip`, `cty`, `enc`) is refused wherever it stands. What would lead to a key elsewhere
//! (`jku`, `jwk`, `x5u`, `x5c`) is not even read.
//!
//! **Access tokens and ID tokens.** Both may come from one issuer, and RFC 9068 tells them apart by `typ`, which many
//! issuers leave at `JWT`. So a token with a claim that belongs to ID tokens (`nonce`, `at_hash`, `c_hash`; OpenID Connect
//! Core 1.0, section 2) or to logout and other security event tokens (`events`; RFC 8417) is refused as well. That finds
//! mistakes; what an attacker cannot get around is the audience, which is a client in an ID token and a resource in an
//! access token, and which the use cases compare.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_domain::{AccountName, Permissions, Principal};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::algorithm::Algorithm;
use crate::json::{Member, object, present, text, texts};
use crate::keys::{KeySet, NoKey};
use crate::person;

/// The longest token, in bytes.
const MAX_LENGTH: usize = 16 * 1024;
/// How far apart the clocks of the issuer and of this machine may be.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);
/// The types of tokens that may be access tokens (RFC 9068, section 2.1; RFC 7519, section 5.1).
const TYPES: [&str; 3] = ["at+jwt", "application/at+jwt", "JWT"];

/// Why a token is not good; never any text out of it.
pub(crate) type Reason = &'static str;

/// A token in which everything is right, except that its signature is yet to be verified.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    /// Header and claims as they were signed.
    message: &'a str,
    signature: &'a str,
    claims: Claims,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claims {
    issuer: String,
    /// In whose name the bearer calls, and what it may do.
    pub(crate) principal: Principal,
    /// For whom the token is meant: at least one, none of them empty.
    pub(crate) audience: Vec<String>,
    /// Until when it is good: its end, and the leeway.
    pub(crate) until: Timestamp,
}

#[derive(Deserialize)]
struct HeaderWire<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    alg: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    kid: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    typ: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    crit: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    b64: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    zip: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    cty: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    enc: Member<'a>,
}

#[derive(Deserialize)]
struct ClaimsWire<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    iss: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    sub: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    aud: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    exp: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    nbf: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    iat: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    scope: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    scp: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    nonce: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    at_hash: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    c_hash: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    events: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    preferred_username: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    email: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    name: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    client_id: Member<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    azp: Member<'a>,
}

/// Reads a token, which is any text, and judges everything but its signature.
pub(crate) fn read<'a>(token: &'a str, algorithms: &[Algorithm], now: Timestamp) -> Result<Unverified<'a>, Reason> {
    if token.len() > MAX_LENGTH {
        return Err("it is too long");
    }
    let mut parts = token.split('.');
    let (Some(header), Some(claims), Some(signature), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("it is no JWT of three parts");
    };
    if signature.is_empty() {
        return Err("it is not signed");
    }
    if URL_SAFE_NO_PAD.decode(signature).is_err() {
        return Err("its signature is not in base64url");
    }
    let message = token.get(..header.len() + 1 + claims.len()).ok_or("it is no JWT of three parts")?;
    let header = decoded(header).ok_or("its header is no UTF-8 in base64url")?;
    let (algorithm, key_id) = read_header(&header, algorithms)?;
    let claims = decoded(claims).ok_or("its claims are no UTF-8 in base64url")?;
    let claims = read_claims(&claims, now)?;
    Ok(Unverified { algorithm, key_id, message, signature, claims })
}

impl Unverified<'_> {
    /// Who the token says has issued it: good for choosing the keys to verify it with, and for nothing else.
    pub(crate) fn issuer(&self) -> &str {
        &self.claims.issuer
    }

    /// What the token says, for those who only want to know what would be believed.
    #[cfg(fuzzing)]
    pub(crate) fn into_claims(self) -> Claims {
        self.claims
    }

    /// What the token says, if one of the keys of its issuer has signed it.
    pub(crate) fn verify(&self, keys: &KeySet) -> Result<&Claims, NoKey> {
        let key = keys.choose(self.key_id.as_deref(), self.algorithm)?;
        if key.verifies(self.algorithm, self.message, self.signature) {
            Ok(&self.claims)
        } else {
            Err(NoKey::Unfit("its signature is wrong"))
        }
    }
}

/// Base64url without padding, without white space, and with nothing in the bits that are left over: a token has one
/// spelling (RFC 7515, section 2).
fn decoded(part: &str) -> Option<String> {
    String::from_utf8(URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

fn read_header(header: &str, algorithms: &[Algorithm]) -> Result<(Algorithm, Option<String>), Reason> {
    let wire: HeaderWire<'_> = object(header).ok_or("its header is no object, or has a member twice")?;
    let extensions = [wire.crit, wire.b64, wire.zip, wire.cty, wire.enc];
    if extensions.iter().any(Option::is_some) {
        return Err("its header has an extension");
    }
    if wire.typ.is_some() {
        let name = text(wire.typ).ok_or("its type is no text")?;
        if !TYPES.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
            return Err("it is of another type");
        }
    }
    let key_id = match wire.kid {
        Some(_) => Some(text(wire.kid).ok_or("the name of its key is no text")?),
        None => None,
    };
    let algorithm = text(wire.alg).and_then(|name| name.parse().ok());
    let algorithm = algorithm.filter(|algorithm| algorithms.contains(algorithm));
    Ok((algorithm.ok_or("its algorithm is not one of those configured")?, key_id))
}

fn read_claims(claims: &str, now: Timestamp) -> Result<Claims, Reason> {
    let wire: ClaimsWire<'_> = object(claims).ok_or("its claims are no object, or have a member twice")?;
    if [wire.nonce, wire.at_hash, wire.c_hash, wire.events].iter().any(Option::is_some) {
        return Err("it is no access token");
    }
    let until = date(wire.exp)?.ok_or("it does not say when it ends")?;
    let early = "it is from the future";
    let until = until.saturating_add(LEEWAY).map_err(|_| "one of its times is no time")?;
    if until <= now {
        return Err("it has expired");
    }
    for begin in [date(wire.nbf)?, date(wire.iat)?].into_iter().flatten() {
        if begin.duration_since(now) > LEEWAY {
            return Err(early);
        }
    }
    let issuer = text(wire.iss).ok_or("it names no issuer")?;
    let subject = text(wire.sub).ok_or("it names no subject")?;
    let owner = person::owner(&issuer, &subject).ok_or("its subject is empty or too long")?;
    let audience =
        text_or_texts(wire.aud).filter(|names| !names.is_empty() && names.iter().all(|name| !name.is_empty()));
    let audience = audience.ok_or("it names no audience")?;
    let principal = Principal { owner, account: account(&wire, &subject), permissions: permissions(&wire)? };
    Ok(Claims { issuer, principal, audience, until })
}

/// A `NumericDate` (RFC 7519, section 2): seconds since 1970, possibly with a fraction, as a number. `None` where there is
/// no such member.
fn date(member: Member<'_>) -> Result<Option<Timestamp>, Reason> {
    let Some(value) = member else { return Ok(None) };
    let wrong = "one of its times is no time";
    // A number too large for the type is an error here, and one too large for a time below.
    let seconds: f64 = serde_json::from_str(value.get()).map_err(|_| wrong)?;
    let since_1970 = SignedDuration::try_from_secs_f64(seconds).map_err(|_| wrong)?;
    if since_1970.is_negative() {
        return Err(wrong);
    }
    Timestamp::UNIX_EPOCH.checked_add(since_1970).map(Some).map_err(|_| wrong)
}

fn text_or_texts(member: Member<'_>) -> Option<Vec<String>> {
    text(member).map(|one| vec![one]).or_else(|| texts(member))
}

/// Scopes stand in `scope` (RFC 9068, section 2.2.3), or, at some issuers, in `scp`.
fn permissions(wire: &ClaimsWire<'_>) -> Result<Permissions, Reason> {
    let wrong = "its scopes are no text";
    let scopes = match (wire.scope, wire.scp) {
        (None, None) => return Ok(Permissions::default()),
        (Some(_), _) => vec![text(wire.scope).ok_or(wrong)?],
        (None, Some(_)) => text_or_texts(wire.scp).ok_or(wrong)?,
    };
    Ok(Permissions::from_scopes(scopes.iter().flat_map(|scope| scope.split(' '))))
}

/// What people call the subject: a name if there is one, else the client, which is what a machine is known by.
fn account(wire: &ClaimsWire<'_>, subject: &str) -> AccountName {
    let names = [wire.preferred_username, wire.email, wire.name, wire.client_id, wire.azp];
    let name = names.into_iter().filter_map(text).find(|name| !name.trim().is_empty());
    AccountName::new(name.as_deref().unwrap_or(subject))
}
