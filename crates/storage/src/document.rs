//! The JSON that stands in columns: what is sealed, and what is only looked at whole.
//!
//! A document may gain members, and readers skip those that they do not know, so that an older replica reads what a
//! newer one wrote. No error here repeats what was read, because most of it is secret.

use std::borrow::Cow;
use std::collections::BTreeMap;

use connectors_application::ports::Registration;
use connectors_domain::{
    AccessToken, Authority, AuthorizationAttempt, ClientAuthentication, ClientCredentials, ClientOrigin, Grant,
    GrantSource, IssuedGrant, Issuer, Metadata, OAuthClient, ProtocolVersion, RedirectOrigins, RedirectUrl,
    RefreshToken, Scopes, Secret, ServerFacts, Start, StateHash,
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
struct AuthorityDocument<'a> {
    #[serde(borrow)]
    issuer: Cow<'a, str>,
    #[serde(borrow)]
    token_endpoint: Cow<'a, str>,
    #[serde(borrow)]
    revocation_endpoint: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource: Option<Cow<'a, str>>,
    #[serde(borrow)]
    client: ClientDocument<'a>,
}

#[derive(Serialize, Deserialize)]
struct ClientDocument<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    secret: Option<Cow<'a, str>>,
    authentication: AuthenticationName,
    origin: OriginName,
    /// Of a registration: when the secret ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum AuthenticationName {
    None,
    ClientSecretBasic,
    ClientSecretPost,
    PrivateKeyJwt,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OriginName {
    Given,
    MetadataDocument,
    Registered,
}

#[derive(Serialize, Deserialize)]
struct IssuedDocument<'a> {
    #[serde(borrow)]
    authority: AuthorityDocument<'a>,
    #[serde(borrow)]
    refresh_token: Option<Cow<'a, str>>,
    /// Unknown of a grant that the first release stored: then its life counts from 1970.
    #[serde(default)]
    obtained_at: i64,
    expires_at: Option<i64>,
    scopes: String,
    generation: u64,
    #[serde(default)]
    step_ups: u8,
}

#[derive(Serialize, Deserialize)]
struct AttemptDocument<'a> {
    /// Sealed with the rest, so that a hash which somebody writes into the plain column leads nowhere.
    state_hash: [u8; 32],
    #[serde(borrow)]
    verifier: Cow<'a, str>,
    #[serde(borrow)]
    authority: AuthorityDocument<'a>,
    names_itself: bool,
    #[serde(borrow)]
    authorization_url: Cow<'a, str>,
    #[serde(borrow)]
    redirect_uri: Cow<'a, str>,
    scopes: String,
    #[serde(default)]
    step_ups: u8,
    #[serde(borrow)]
    redirect_url: Option<Cow<'a, str>>,
    /// Unknown of an attempt that an older release stored.
    #[serde(borrow, default)]
    start: Option<StartDocument<'a>>,
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
struct StartDocument<'a> {
    #[serde(borrow)]
    ticket: Cow<'a, str>,
    #[serde(borrow)]
    browser: Option<Cow<'a, str>>,
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
            authority: from_authority(&issued.authority),
            refresh_token: issued.refresh_token.as_ref().map(|token| token.expose().into()),
            obtained_at: issued.obtained_at.as_microsecond(),
            expires_at: issued.expires_at.map(Timestamp::as_microsecond),
            scopes: issued.scopes.to_string(),
            generation: issued.generation,
            step_ups: issued.step_ups,
        }),
    };
    write(&GrantDocument { access_token: grant.access_token.expose().into(), issued })
}

pub(crate) fn to_grant(text: &Secret) -> Result<Grant, DocumentError> {
    let document: GrantDocument<'_> = read(text.expose())?;
    let source = match document.issued {
        None => GrantSource::Supplied,
        Some(issued) => GrantSource::Issued(IssuedGrant {
            authority: to_authority(issued.authority)?,
            refresh_token: issued
                .refresh_token
                .map(|token| RefreshToken::new(token.into_owned()))
                .transpose()
                .map_err(|_| DocumentError)?,
            obtained_at: time(issued.obtained_at)?,
            expires_at: issued.expires_at.map(time).transpose()?,
            scopes: Scopes::parse(&issued.scopes),
            generation: issued.generation,
            step_ups: issued.step_ups,
        }),
    };
    let access_token = AccessToken::new(document.access_token.into_owned()).map_err(|_| DocumentError)?;
    Ok(Grant { access_token, source })
}

fn from_authority(authority: &Authority) -> AuthorityDocument<'_> {
    AuthorityDocument {
        issuer: authority.issuer.as_str().into(),
        token_endpoint: authority.token_endpoint.as_str().into(),
        revocation_endpoint: authority.revocation_endpoint.as_deref().map(Into::into),
        resource: authority.resource.as_deref().map(Into::into),
        client: from_client(&authority.client, None),
    }
}

fn to_authority(document: AuthorityDocument<'_>) -> Result<Authority, DocumentError> {
    Ok(Authority {
        issuer: Issuer::new(document.issuer),
        token_endpoint: document.token_endpoint.into_owned(),
        revocation_endpoint: document.revocation_endpoint.map(Cow::into_owned),
        resource: document.resource.map(Cow::into_owned),
        client: to_client(document.client)?.client,
    })
}

fn from_client(client: &OAuthClient, expires_at: Option<Timestamp>) -> ClientDocument<'_> {
    ClientDocument {
        id: client.credentials.id().into(),
        secret: client.credentials.secret().map(|secret| secret.expose().into()),
        authentication: match client.authentication {
            ClientAuthentication::None => AuthenticationName::None,
            ClientAuthentication::SecretBasic => AuthenticationName::ClientSecretBasic,
            ClientAuthentication::SecretPost => AuthenticationName::ClientSecretPost,
            ClientAuthentication::PrivateKeyJwt => AuthenticationName::PrivateKeyJwt,
        },
        origin: match client.origin {
            ClientOrigin::Given => OriginName::Given,
            ClientOrigin::MetadataDocument => OriginName::MetadataDocument,
            ClientOrigin::Registered => OriginName::Registered,
        },
        expires_at: expires_at.map(Timestamp::as_microsecond),
    }
}

fn to_client(document: ClientDocument<'_>) -> Result<Registration, DocumentError> {
    let credentials = ClientCredentials::new(document.id.into_owned(), document.secret.map(Cow::into_owned));
    let client = OAuthClient {
        credentials: credentials.map_err(|_| DocumentError)?,
        authentication: match document.authentication {
            AuthenticationName::None => ClientAuthentication::None,
            AuthenticationName::ClientSecretBasic => ClientAuthentication::SecretBasic,
            AuthenticationName::ClientSecretPost => ClientAuthentication::SecretPost,
            AuthenticationName::PrivateKeyJwt => ClientAuthentication::PrivateKeyJwt,
        },
        origin: match document.origin {
            OriginName::Given => ClientOrigin::Given,
            OriginName::MetadataDocument => ClientOrigin::MetadataDocument,
            OriginName::Registered => ClientOrigin::Registered,
        },
    };
    Ok(Registration { client, expires_at: document.expires_at.map(time).transpose()? })
}

pub(crate) fn from_registration(registration: &Registration) -> Result<Vec<u8>, DocumentError> {
    write(&from_client(&registration.client, registration.expires_at))
}

pub(crate) fn to_registration(text: &Secret) -> Result<Registration, DocumentError> {
    to_client(read(text.expose())?)
}

pub(crate) fn from_attempt(attempt: &AuthorizationAttempt) -> Result<Vec<u8>, DocumentError> {
    write(&AttemptDocument {
        state_hash: attempt.state_hash.0,
        verifier: attempt.verifier.expose().into(),
        authority: from_authority(&attempt.authority),
        names_itself: attempt.names_itself,
        authorization_url: attempt.authorization_url.expose().into(),
        redirect_uri: attempt.redirect_uri.as_str().into(),
        scopes: attempt.scopes.to_string(),
        step_ups: attempt.step_ups,
        redirect_url: attempt.redirect_url.as_ref().map(|url| url.as_str().into()),
        start: attempt.start.as_ref().map(|start| StartDocument {
            ticket: start.ticket.expose().into(),
            browser: start.browser.as_ref().map(|browser| browser.expose().into()),
        }),
        expires_at: attempt.expires_at.as_microsecond(),
    })
}

pub(crate) fn to_attempt(text: &Secret) -> Result<AuthorizationAttempt, DocumentError> {
    let document: AttemptDocument<'_> = read(text.expose())?;
    Ok(AuthorizationAttempt {
        state_hash: StateHash(document.state_hash),
        verifier: Secret::new(document.verifier),
        authority: to_authority(document.authority)?,
        names_itself: document.names_itself,
        authorization_url: Secret::new(document.authorization_url),
        redirect_uri: document.redirect_uri.into_owned(),
        scopes: Scopes::parse(&document.scopes),
        step_ups: document.step_ups,
        redirect_url: document.redirect_url.as_deref().map(redirect_url).transpose()?,
        start: document
            .start
            .map(|start| Start { ticket: Secret::new(start.ticket), browser: start.browser.map(Secret::new) }),
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

    /// What the first release wrote.
    #[test]
    fn an_older_document_is_read() {
        let client = r#"{"id":"i","secret":null,"authentication":"none","origin":"given"}"#;
        let authority = format!(
            r#"{{"issuer":"https://as","token_endpoint":"https://as/t","revocation_endpoint":null,"resource":null,"client":{client}}}"#
        );
        let grant = format!(
            r#"{{"access_token":"a","issued":{{"authority":{authority},"refresh_token":"r","expires_at":1,"scopes":"s","generation":7}}}}"#
        );
        let grant = to_grant(&Secret::new(grant)).unwrap();
        let issued = grant.issued().unwrap();
        assert_eq!((issued.obtained_at, issued.step_ups, issued.generation), (Timestamp::UNIX_EPOCH, 0, 7));
        let hash = serde_json::to_string(&[0_u8; 32]).unwrap();
        let attempt = format!(
            r#"{{"state_hash":{hash},"verifier":"v","authority":{authority},"names_itself":true,"authorization_url":"u","redirect_uri":"r","scopes":"s","redirect_url":null,"expires_at":1}}"#
        );
        let attempt = to_attempt(&Secret::new(attempt)).unwrap();
        assert_eq!((attempt.step_ups, attempt.start), (0, None));
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
