//! An authorization server, as far as a grant is bound to it.

use std::fmt;

use crate::ClientCredentials;

/// The identifier of an authorization server, exactly as its metadata spells it (RFC 8414, section 2): it is compared
/// as text and never normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Issuer(String);

impl Issuer {
    /// The issuer that spells itself `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The issuer's own spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a client proves itself at the token endpoint (RFC 7591, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// It does not: a public client.
    None,
    /// HTTP Basic.
    SecretBasic,
    /// The secret in the body.
    SecretPost,
    /// A signed assertion (RFC 7523, section 2.2): `private_key_jwt`. The key is the service's own and stands in no
    /// credentials.
    PrivateKeyJwt,
}

/// How the service came to be a client of an authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientOrigin {
    /// The user or a preset gave a client id.
    Given,
    /// Its client id is the URL of its metadata document.
    MetadataDocument,
    /// It has registered itself (RFC 7591).
    Registered,
}

/// The service as a client of one authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OAuthClient {
    /// Id and secret. They are sent to the authorization server of their [`Authority`] and to no other.
    pub credentials: ClientCredentials,
    /// How it proves itself.
    pub authentication: ClientAuthentication,
    /// How it came to be.
    pub origin: ClientOrigin,
}

/// An authorization server and the service as its client. Everything that belongs to a grant — its exchange, renewal and
/// revocation — goes to these endpoints and to no others, whatever metadata says later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The authorization server, as its validated metadata spells it.
    pub issuer: Issuer,
    /// Where codes and refresh tokens are exchanged.
    pub token_endpoint: String,
    /// Where tokens are revoked (RFC 7009), if that is offered.
    pub revocation_endpoint: Option<String>,
    /// The resource for which tokens are asked (RFC 8707), exactly as the server's metadata spells it.
    pub resource: Option<String>,
    /// The service as its client.
    pub client: OAuthClient,
}
