//! Section `connector`: what users may do, and what they are offered.

use std::collections::BTreeMap;

use connectors_domain::{ClientCredentials, Issuer, Metadata, Preset, Presets, Quirks, RedirectOrigins, ServerUrl};
use serde::Deserialize;
use serde_json::Value as Json;

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// What users may do, and what they are offered.
#[derive(Debug, Clone)]
pub struct ConnectorSettings {
    /// The servers that are offered to every user.
    pub presets: Presets,
    /// Where a user's browser may be sent after consent.
    pub redirect_origins: RedirectOrigins,
    /// How many connectors a user may have.
    pub per_user: u32,
}

/// The presets where the operator lists none.
const BUILT_IN: [(&str, &str, &str); 3] = [
    ("https://mcp.stripe.com", "Stripe", "Payments, customers, subscriptions and invoices"),
    ("https://mcp.box.com", "Box", "Search, read and question the files of a Box account"),
    ("https://api.githubcopilot.com/mcp", "GitHub", "Repositories, code, issues and pull requests"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
    /// Those that the server is known for, unless it is said here.
    quirks: Option<QuirksEntry>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct QuirksEntry {
    authorize_parameters: BTreeMap<String, String>,
    scope: Option<String>,
    omit_resource: bool,
    trusted_issuer: Option<String>,
    assume_pkce: bool,
}

impl From<QuirksEntry> for Quirks {
    fn from(entry: QuirksEntry) -> Self {
        Self {
            authorize_parameters: entry.authorize_parameters.into_iter().collect(),
            scope: entry.scope,
            omit_resource: entry.omit_resource,
            trusted_issuer: entry.trusted_issuer.map(Issuer::new),
            assume_pkce: entry.assume_pkce,
        }
    }
}

impl ConnectorSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        let presets = match values.list(&table::CONNECTOR_PRESETS)? {
            Some(list) => list.parse_each(read_preset)?,
            None => BUILT_IN.into_iter().filter_map(built_in).collect(),
        };
        let redirect_origins = match values.list(&table::CONNECTOR_REDIRECT_ORIGINS)? {
            Some(list) => RedirectOrigins::Listed(list.parse_each(|entry| {
                let text = entry.as_str().ok_or("it is no text")?;
                RedirectOrigins::parse_origin(text).map_err(|_| "it is no such origin".to_owned())
            })?),
            None => RedirectOrigins::Loopback,
        };
        Ok(Self {
            presets: Presets::new(presets),
            redirect_origins,
            per_user: values.count(&table::CONNECTOR_PER_USER)?,
        })
    }
}

fn read_preset(entry: &Json) -> Result<Preset, String> {
    let entry = Entry::deserialize(entry).map_err(|_| "it is not of this form")?;
    let url = ServerUrl::parse(&entry.url).map_err(|error| format!("url: {error}"))?;
    Ok(Preset {
        client: ClientCredentials::from_parts(entry.client_id, entry.client_secret)
            .map_err(|error| format!("{}: {error}", error.field()))?,
        metadata: entry.metadata.map(Metadata::new).transpose().map_err(|error| format!("metadata: {error}"))?,
        quirks: entry.quirks.map_or_else(|| Quirks::known_of(&url), Quirks::from),
        url,
    })
}

fn built_in((url, name, description): (&str, &str, &str)) -> Option<Preset> {
    let metadata = [("name", name), ("description", description)].map(|(key, text)| (key.to_owned(), text.to_owned()));
    let metadata = Metadata::new(BTreeMap::from(metadata)).ok();
    ServerUrl::parse(url).ok().map(|url| Preset { quirks: Quirks::known_of(&url), url, client: None, metadata })
}
