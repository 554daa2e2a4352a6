//! The URLs that the service hands out. They are built from the public URL alone, never from a request's headers.

use connectors_domain::{Connector, ConnectorId, Secret};
use url::{Url, form_urlencoded};

/// Where connectors are.
pub(crate) const CONNECTORS: &str = "/api/v1/connectors";

/// Where a login begins.
pub(crate) const LOGIN: &str = "/auth/login";

/// Where the browser comes back to after it.
pub(crate) const LOGIN_CALLBACK: &str = "/auth/callback";

/// Where the metadata of what callers need a credential for are (RFC 9728, section 3).
pub(crate) const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Builds URLs under the public URL.
#[derive(Debug)]
pub(crate) struct Links {
    /// The public URL without a slash at its end.
    base: String,
}

/// Something for which callers need a credential, and for which a token may be made out (RFC 8707, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource {
    /// The service as a whole.
    Service,
    /// The MCP server behind one connector.
    Connector(ConnectorId),
}

impl Links {
    pub(crate) fn new(public_url: &Url) -> Self {
        Self { base: public_url.as_str().trim_end_matches('/').to_owned() }
    }

    /// The public URL, as the identifier of this installation.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// The URL of `path`, which begins with a slash.
    pub(crate) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The identifier of `resource`: the very URL at which it is.
    pub(crate) fn resource(&self, resource: Resource) -> String {
        self.to(&resource.path())
    }

    /// Where the metadata of `resource` are.
    pub(crate) fn metadata(&self, resource: Resource) -> String {
        format!("{}{METADATA}{}", self.base, resource.path())
    }

    /// Where the user of `connector` must go, if anywhere: to the page from which the authorization is begun, or, where
    /// there is one user only, straight to the authorization server.
    pub(crate) fn consent(&self, connector: &Connector) -> Option<String> {
        let attempt = connector.attempt()?;
        Some(match &attempt.start {
            Some(start) => self.to(&start_path(connector.id, &start.ticket)),
            None => attempt.authorization_url.expose().to_owned(),
        })
    }

    /// Where a login begins that ends at `path`.
    pub(crate) fn login(&self, path: &str) -> String {
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("return_to", path).finish();
        format!("{}{LOGIN}?{query}", self.base)
    }
}

/// The path and query of the page to which `ticket` belongs.
pub(crate) fn start_path(id: ConnectorId, ticket: &Secret) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("ticket", ticket.expose()).finish();
    format!("{CONNECTORS}/{id}/oauth/start?{query}")
}

impl Resource {
    fn path(self) -> String {
        match self {
            Self::Service => String::new(),
            Self::Connector(id) => format!("{CONNECTORS}/{id}/mcp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn urls_lie_under_the_public_url() {
        let id = ConnectorId::from_uuid(Uuid::from_u128(7));
        for public_url in ["https://c.example/base", "https://c.example/base/"] {
            let links = Links::new(&Url::parse(public_url).unwrap());
            assert_eq!(links.resource(Resource::Service), "https://c.example/base");
            let mcp = "/api/v1/connectors/00000000-0000-0000-0000-000000000007/mcp";
            assert_eq!(links.resource(Resource::Connector(id)), format!("https://c.example/base{mcp}"));
            assert_eq!(
                links.metadata(Resource::Connector(id)),
                format!("https://c.example/base/.well-known/oauth-protected-resource{mcp}")
            );
            assert_eq!(links.login("/a?b=c&d"), "https://c.example/base/auth/login?return_to=%2Fa%3Fb%3Dc%26d");
        }
    }
}
