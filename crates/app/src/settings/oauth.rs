//! Section `oauth`: this service as a client of authorization servers.

use std::time::Duration;

use connectors_domain::Secret;
use connectors_oauth::SigningKey;
use url::Url;

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// This service as a client of authorization servers.
#[derive(Debug, Clone)]
pub struct OAuthSettings {
    /// The URL of a client metadata document to use in place of the service's own.
    pub client_metadata_url: Option<Url>,
    /// Its name on consent pages.
    pub client_name: String,
    /// The key with which it proves who it is.
    pub signing_key: Option<SigningKey>,
    /// How long a user may take to consent.
    pub attempt_lifetime: Duration,
}

impl OAuthSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        Ok(Self {
            client_metadata_url: match values.text(&table::OAUTH_CLIENT_METADATA_URL)? {
                Some(text) => Some(text.read(|text| Url::parse(text).ok().filter(|url| url.scheme() == "https"))?),
                None => None,
            },
            client_name: values.required_text(&table::OAUTH_CLIENT_NAME)?.read(|name| {
                let shown = (1..=100).contains(&name.chars().count()) && !name.chars().any(char::is_control);
                shown.then(|| name.clone())
            })?,
            signing_key: match values.text(&table::OAUTH_SIGNING_KEY)? {
                Some(text) => Some(text.read(|pem| SigningKey::from_pem(&Secret::new(pem)).ok())?),
                None => None,
            },
            attempt_lifetime: values.seconds(&table::OAUTH_ATTEMPT_LIFETIME)?,
        })
    }
}
