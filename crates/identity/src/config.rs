//! What the operator says about issuers.

use connectors_domain::Secret;
use connectors_egress::{Egress, Refusal};
use thiserror::Error;
use url::Url;

use crate::algorithm::Algorithm;

/// Whose access tokens are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// The issuers, each spelt exactly as in its tokens (RFC 9068, section 4): https URLs without query and fragment, or
    /// http where the policy of the way out lets it.
    pub issuers: Vec<String>,
    /// The algorithms that tokens may be signed with (RFC 8725, section 3.1).
    pub algorithms: Vec<Algorithm>,
}

/// Where people log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginConfig {
    /// The identity provider, spelt as in its ID tokens; the same rules hold as for [`JwtConfig::issuers`].
    pub issuer: String,
    /// The id under which this service is registered there.
    pub client_id: String,
    /// Its secret, if it has one. How it is sent is up to the provider: HTTP Basic, or else in the body.
    pub client_secret: Option<Secret>,
    /// The algorithms that ID tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
}

/// What the operator says cannot be meant so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Nobody's tokens would be taken.
    #[error("at least one issuer is needed")]
    NoIssuer,
    /// No token would be taken.
    #[error("at least one algorithm is needed")]
    NoAlgorithm,
    /// This service would have no name at the identity provider.
    #[error("a client id is needed")]
    NoClientId,
    /// An issuer is no URL, or one that cannot be an issuer.
    #[error("an issuer is an https URL without query and fragment, such as https://idp.example/realms/one")]
    Issuer,
    /// An issuer cannot be called.
    #[error("this service may not call the issuer: {0}")]
    Refused(Refusal),
}

/// Reads an issuer as an address.
pub(crate) fn address(egress: &Egress, issuer: &str) -> Result<Url, ConfigError> {
    // The parser strips some of these silently, and the address would not be what tokens are compared with.
    let plain = issuer.chars().all(|char| !char.is_control() && !char.is_whitespace() && char != '\\');
    let url = Url::parse(issuer).ok().filter(|url| plain && url.query().is_none() && url.fragment().is_none());
    let url = url.ok_or(ConfigError::Issuer)?;
    egress.admit(&url).map_err(ConfigError::Refused)?;
    Ok(url)
}
