//! Well-known servers that the operator offers.

use crate::{ClientCredentials, Issuer, Metadata, ServerUrl};

/// A server that is offered to every user, with what a connector towards it gets when the user gives nothing of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    /// The server.
    pub url: ServerUrl,
    /// The OAuth client to use there.
    pub client: Option<ClientCredentials>,
    /// What clients show of it.
    pub metadata: Option<Metadata>,
    /// Where the server departs from the standards.
    pub quirks: Quirks,
}

/// Where a known server departs from the standards. An operator may say so in a preset; a user never can.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quirks {
    /// Parameters to add to the authorization request, such as `access_type=offline`.
    pub authorize_parameters: Vec<(String, String)>,
    /// The scope to ask for, in place of what server and metadata say.
    pub scope: Option<String>,
    /// Leave out the `resource` parameter (RFC 8707).
    pub omit_resource: bool,
    /// An issuer to accept although the metadata that names it was found under another spelling.
    pub trusted_issuer: Option<Issuer>,
    /// Use PKCE with S256 although the metadata does not advertise it.
    pub assume_pkce: bool,
}

impl Quirks {
    /// What is known of the server at `url`, whoever offers it: the departures of the servers that the product offers by
    /// itself. None for every other server.
    pub fn known_of(url: &ServerUrl) -> Self {
        // Its resource metadata names `https://api.box.com/`, whose metadata spells itself without the slash.
        let is_box = ServerUrl::parse("https://mcp.box.com").is_ok_and(|known| known.key() == url.key());
        Self { trusted_issuer: is_box.then(|| Issuer::new("https://api.box.com")), ..Self::default() }
    }
}

/// The presets of an installation, in the operator's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presets(Vec<Preset>);

impl Presets {
    /// The given presets.
    pub const fn new(presets: Vec<Preset>) -> Self {
        Self(presets)
    }

    /// The preset for the server at `url`, in whichever spelling; the first of several.
    pub fn find(&self, url: &ServerUrl) -> Option<&Preset> {
        let key = url.key();
        self.0.iter().find(|preset| preset.url.key() == key)
    }

    /// All presets.
    pub fn iter(&self) -> std::slice::Iter<'_, Preset> {
        self.0.iter()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Presets {
    type Item = &'a Preset;
    type IntoIter = std::slice::Iter<'a, Preset>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn departures_of_offered_servers_are_known() {
        let known = |url: &str| Quirks::known_of(&ServerUrl::parse(url).unwrap());
        for url in ["https://mcp.box.com", "https://MCP.box.com/"] {
            assert_eq!(known(url).trusted_issuer, Some(Issuer::new("https://api.box.com")), "{url}");
            assert!(!known(url).assume_pkce && !known(url).omit_resource, "{url}");
        }
        for url in ["https://mcp.stripe.com", "https://api.githubcopilot.com/mcp", "https://mcp.box.com/other"] {
            assert_eq!(known(url), Quirks::default(), "{url}");
        }
    }

    #[test]
    fn a_preset_is_found_in_any_spelling_of_its_url() {
        let preset = |url: &str| Preset {
            url: ServerUrl::parse(url).unwrap(),
            client: None,
            metadata: None,
            quirks: Quirks::default(),
        };
        let presets = Presets::new(vec![preset("https://mcp.stripe.com"), preset("https://example.com/mcp/")]);
        let found = |url: &str| presets.find(&ServerUrl::parse(url).unwrap()).map(|preset| preset.url.as_str());
        assert_eq!(found("https://MCP.stripe.com/"), Some("https://mcp.stripe.com/"));
        assert_eq!(found("https://example.com/mcp"), Some("https://example.com/mcp/"));
        assert_eq!(found("https://example.com/"), None);
    }
}
