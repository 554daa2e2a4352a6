//! Section `auth`: who may call.

use std::time::Duration;

use connectors_domain::Secret;
use connectors_identity::Algorithm;
use serde_json::Value as Json;
use url::{Host, Url};

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// Who may call.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// How callers are known.
    pub mode: AuthMode,
    /// The OpenID Connect issuers whose access tokens are accepted, each as its tokens name it. In mode
    /// [`AuthMode::Oidc`] there is at least one, in the others none.
    pub issuers: Vec<String>,
    /// The audiences of tokens that are good for the whole service; `None` for the public URL.
    pub audiences: Option<Vec<String>>,
    /// The signature algorithms that are accepted.
    pub algorithms: Vec<Algorithm>,
    /// Whether an access token may make its bearer an administrator.
    pub admin_scope: bool,
    /// This service as a client of the first issuer, where people log in to the console.
    pub client: Option<LoginClient>,
    /// How long a person stays logged in to the console.
    pub session_lifetime: Duration,
}

/// How callers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Not at all: everybody who reaches the listening address is the one local user.
    None,
    /// By tokens that the operator makes.
    Tokens,
    /// By access tokens of OpenID Connect issuers.
    Oidc,
}

/// This service as a client of an identity provider.
#[derive(Debug, Clone)]
pub struct LoginClient {
    /// Its id there.
    pub id: String,
    /// The secret that belongs to it.
    pub secret: Option<Secret>,
}

impl AuthMode {
    /// The word by which it is set.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tokens => "tokens",
            Self::Oidc => "oidc",
        }
    }
}

impl AuthSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        let modes = [AuthMode::None, AuthMode::Tokens, AuthMode::Oidc];
        let mode = values
            .required_text(&table::AUTH_MODE)?
            .read(|word| modes.into_iter().find(|mode| mode.as_str() == word))?;
        let audiences = match values.list(&table::AUTH_AUDIENCES)? {
            Some(list) => {
                Some(list.parse_each(|entry| text(entry).ok_or_else(|| "it is no text, or empty".to_owned()))?)
            }
            None => None,
        };
        let id = match values.text(&table::AUTH_CLIENT_ID)? {
            Some(id) => Some(id.read(|id| is_shown(id).then(|| id.clone()))?),
            None => None,
        };
        let secret = match values.text(&table::AUTH_CLIENT_SECRET)? {
            Some(secret) => Some(secret.read(|secret| is_shown(secret).then(|| Secret::new(secret.clone())))?),
            None => None,
        };
        let settings = Self {
            mode,
            issuers: values.required_list(&table::AUTH_ISSUERS)?.parse_each(|entry| {
                text(entry).filter(|text| is_issuer(text)).ok_or_else(|| "it is no issuer".to_owned())
            })?,
            audiences,
            algorithms: values.required_list(&table::AUTH_ALGORITHMS)?.parse_each(|entry| {
                let name = entry.as_str().ok_or("it is no text")?;
                name.parse().map_err(|_| "it is not among them".to_owned())
            })?,
            admin_scope: values.switch(&table::AUTH_ADMIN_SCOPE)?,
            client: None,
            session_lifetime: values.seconds(&table::AUTH_SESSION_LIFETIME)?,
        };
        settings.with_client(id, secret)
    }

    /// Puts what belongs together together, and refuses what cannot be meant.
    fn with_client(self, id: Option<String>, secret: Option<Secret>) -> Result<Self, SettingsError> {
        let refused = |text: &str| Err(SettingsError::Refused(text.to_owned()));
        match self.mode {
            AuthMode::Oidc if self.issuers.is_empty() => refused(
                "auth.mode is oidc, and auth.issuers names no issuer; set AUTH__ISSUERS to a JSON list such as \
                 [\"https://login.example.com\"]",
            ),
            AuthMode::Oidc if self.algorithms.is_empty() => {
                refused("auth.algorithms is empty, so that no token could be accepted; leave it out for the default")
            }
            AuthMode::Oidc if self.audiences.as_ref().is_some_and(Vec::is_empty) => refused(
                "auth.audiences is empty, so that no token could be meant for this service; leave it out for the default",
            ),
            AuthMode::None | AuthMode::Tokens if !self.issuers.is_empty() || id.is_some() => refused(
                "auth.issuers and auth.client_id mean something only where auth.mode is oidc; set AUTH__MODE=oidc, or leave \
                 them out",
            ),
            _ => match (id, secret) {
                (None, Some(_)) => refused("auth.client_secret is set without auth.client_id, to which it belongs"),
                (None, None) => Ok(self),
                (Some(id), secret) => Ok(Self { client: Some(LoginClient { id, secret }), ..self }),
            },
        }
    }

    /// Whether callers are asked who they are.
    pub fn is_closed(&self) -> bool {
        self.mode != AuthMode::None
    }
}

/// Whether there is something to see, and nothing else.
fn is_shown(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

fn text(entry: &Json) -> Option<String> {
    entry.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// An issuer (OpenID Connect Core 1.0, section 2): an https URL without query or fragment; http on this machine only.
fn is_issuer(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let bare =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    bare && is_confidential(&url)
}

/// Whether nobody on the way reads what is sent there: https, or http that does not leave the machine.
pub(super) fn is_confidential(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}
