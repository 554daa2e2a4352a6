//! The JSON that stands in columns: what is sealed, and what is only looked at whole.
//!
//! A document may gain members, and readers skip those that they do not know, so that an older replica reads what a
//! newer one wrote. No error here repeats what was read, because most of it is secret.

use std::borrow::Cow;
use std::collections::BTreeMap;

use connectors_domain::{
    AccessToken, AuthorizationAttempt, Grant, GrantSource, IssuedGrant, Issuer, Metadata, ProtocolVersion,
    RedirectOrigins, RedirectUrl, RefreshToken, Scopes, Secret, ServerFacts, StateHash,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::Url;

/// The text is not the document that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a stored document makes no sense")]
pub(crate) struct DocumentError;

#[derive(Serialize, Deserialize)]
struct GrantDocument<'a> {
    #[serde(borrow)]
    access_token: Cow<'a, str>,
    /// `None` for a token that the user handed over.
    #[serde(borrow)]
    issued: Option<IssuedDocument<'a>>,
}

#[derive(Serialize, Deserialize)]
struct IssuedDocument<'a> {
    #[serde(borrow)]
    issuer: Cow<'a, str>,
    #[serde(borrow)]
    refresh_token: Option<Cow<'a, str>>,
    expires_at: Option<i64>,
    scopes: String,
    generation: u64,
}

#[derive(Serialize, Deserialize)]
struct AttemptDocument<'a> {
    /// Sealed with the rest, so that a hash which somebody writes into the plain column leads nowhere.
    state_hash: [u8; 32],
    #[serde(borrow)]
    verifier: Cow<'a, str>,
    #[serde(borrow)]
    issuer: Cow<'a, str>,
    #[serde(borrow)]
    authorization_url: Cow<'a, str>,
    #[serde(borrow)]
    redirect_uri: Cow<'a, str>,
    scopes: String,
    #[serde(borrow)]
    redirect_url: Option<Cow<'a, str>>,
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
struct ServerDocument {
    modern: Option<String>,
    legacy: Option<String>,
    name: Option<String>,
}

pub(crate) fn from_grant(grant: &Grant) -> Result<Vec<u8>, DocumentError> {
    let issued = match &grant.source {
        GrantSource::Supplied => None,
        GrantSource::Issued(issued) => Some(IssuedDocument {
            issuer: issued.issuer.as_str().into(),
            refresh_token: issued.refresh_token.as_ref().map(|token| token.expose().into()),
            expires_at: issued.expires_at.map(Timestamp::as_microsecond),
            scopes: issued.scopes.to_string(),
            generation: issued.generation,
        }),
    };
    write(&GrantDocument { access_token: grant.access_token.expose().into(), issued })
}

pub(crate) fn to_grant(text: &Secret) -> Result<Grant, DocumentError> {
    let document: GrantDocument<'_> = read(text.expose())?;
    let source = match document.issued {
        None => GrantSource::Supplied,
        Some(issued) => GrantSource::Issued(IssuedGrant {
            issuer: Issuer::new(issued.issuer),
            refresh_token: issued
                .refresh_token
                .map(|token| RefreshToken::new(token.into_owned()))
                .transpose()
                .map_err(|_| DocumentError)?,
            expires_at: issued.expires_at.map(time).transpose()?,
            scopes: Scopes::parse(&issued.scopes),
            generation: issued.generation,
        }),
    };
    let access_token = AccessToken::new(document.access_token.into_owned()).map_err(|_| DocumentError)?;
    Ok(Grant { access_token, source })
}

pub(crate) fn from_attempt(attempt: &AuthorizationAttempt) -> Result<Vec<u8>, DocumentError> {
    write(&AttemptDocument {
        state_hash: attempt.state_hash.0,
        verifier: attempt.verifier.expose().into(),
        issuer: attempt.issuer.as_str().into(),
        authorization_url: attempt.authorization_url.expose().into(),
        redirect_uri: attempt.redirect_uri.as_str().into(),
        scopes: attempt.scopes.to_string(),
        redirect_url: attempt.redirect_url.as_ref().map(|url| url.as_str().into()),
        expires_at: attempt.expires_at.as_microsecond(),
    })
}

pub(crate) fn to_attempt(text: &Secret) -> Result<AuthorizationAttempt, DocumentError> {
    let document: AttemptDocument<'_> = read(text.expose())?;
    Ok(AuthorizationAttempt {
        state_hash: StateHash(document.state_hash),
        verifier: Secret::new(document.verifier),
        issuer: Issuer::new(document.issuer),
        authorization_url: Secret::new(document.authorization_url),
        redirect_uri: document.redirect_uri.into_owned(),
        scopes: Scopes::parse(&document.scopes),
        redirect_url: document.redirect_url.as_deref().map(redirect_url).transpose()?,
        expires_at: time(document.expires_at)?,
    })
}

pub(crate) fn from_server(server: &ServerFacts) -> Result<String, DocumentError> {
    let version = |version: &Option<ProtocolVersion>| version.as_ref().map(|version| version.as_str().to_owned());
    let document =
        ServerDocument { modern: version(&server.modern), legacy: version(&server.legacy), name: server.name.clone() };
    serde_json::to_string(&document).map_err(|_| DocumentError)
}

pub(crate) fn to_server(text: &str) -> Result<ServerFacts, DocumentError> {
    let document: ServerDocument = read(text)?;
    let version =
        |text: Option<String>| text.map(|text| ProtocolVersion::parse(&text)).transpose().map_err(|_| DocumentError);
    Ok(ServerFacts { modern: version(document.modern)?, legacy: version(document.legacy)?, name: document.name })
}

pub(crate) fn from_metadata(metadata: &Metadata) -> Result<String, DocumentError> {
    serde_json::to_string(metadata.entries()).map_err(|_| DocumentError)
}

pub(crate) fn to_metadata(text: &str) -> Result<Metadata, DocumentError> {
    let entries: BTreeMap<String, String> = read(text)?;
    Metadata::new(entries).map_err(|_| DocumentError)
}

/// The instant that lies so many microseconds after 1970.
pub(crate) fn time(micros: i64) -> Result<Timestamp, DocumentError> {
    Timestamp::from_microsecond(micros).map_err(|_| DocumentError)
}

/// A redirect URL that was admitted when it was given. Its form is checked again here, its origin is not: which origins
/// are allowed may have changed since, and a flow that has begun ends as it began.
fn redirect_url(text: &str) -> Result<RedirectUrl, DocumentError> {
    let origin = Url::parse(text).map_err(|_| DocumentError)?.origin();
    RedirectOrigins::Listed(vec![origin]).admit(text).map_err(|_| DocumentError)
}

fn write(document: &impl Serialize) -> Result<Vec<u8>, DocumentError> {
    serde_json::to_vec(document).map_err(|_| DocumentError)
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, DocumentError> {
    serde_json::from_str(text).map_err(|_| DocumentError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_document_is_read() {
        let text = Secret::new(r#"{"access_token":"a","issued":null,"of_tomorrow":{}}"#);
        assert_eq!(to_grant(&text).unwrap(), Grant::supplied(AccessToken::new("a".into()).unwrap()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_without_being_repeated() {
        for text in ["", "{}", r#"{"access_token":7,"issued":null}"#, r#"{"access_token":"a b","issued":null}"#] {
            let error = to_grant(&Secret::new(text)).unwrap_err();
            assert_eq!(error.to_string(), "a stored document makes no sense");
        }
        assert!(to_metadata(r#"{"":""}"#).is_err());
        assert!(to_server(r#"{"modern":"x","legacy":null,"name":null}"#).is_err());
        assert!(time(i64::MAX).is_err());
    }
}
