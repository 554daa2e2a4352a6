//! Who authorizes for an MCP server: its protected-resource metadata (RFC 9728).

use connectors_application::ports::PrepareError;
use connectors_domain::{Scopes, ServerUrl};
use serde::Deserialize;
use url::Url;

use crate::address::{address, on_origin};
use crate::challenge::BearerChallenge;
use crate::document::{Fetcher, Found, Member, text, texts};
use crate::scope::scopes;

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// How many authorization servers of a list are looked at.
const MAX_ISSUERS: usize = 4;
/// The longest identifier of a resource that is taken over, in bytes.
const MAX_RESOURCE: usize = 2048;

/// What an MCP server says of its authorization.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ProtectedResource {
    /// Its identifier, as its metadata spells it; without metadata its URL.
    pub(crate) resource: String,
    /// The authorization servers that it names, as it spells them. Empty if it names none: then it may be one itself.
    pub(crate) issuers: Vec<String>,
    /// The scopes that it has.
    pub(crate) scopes: Scopes,
}

/// What is read of the metadata (RFC 9728, section 2).
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    resource: Member<'a>,
    #[serde(borrow)]
    authorization_servers: Member<'a>,
    #[serde(borrow)]
    scopes_supported: Member<'a>,
}

/// Finds the metadata of a server: where its challenge says, else at the well-known place for its path, else at that for
/// its origin.
///
/// A document that is there and breaks the rules ends the search: another one is no substitute.
pub(crate) async fn find(
    fetcher: &Fetcher,
    server: &ServerUrl,
    challenge: Option<&BearerChallenge>,
) -> Result<ProtectedResource, PrepareError> {
    let server = server.as_url();
    let named = challenge.and_then(|challenge| challenge.resource_metadata.as_deref());
    let mut places = Vec::with_capacity(3);
    if let Some(named) = named {
        let named = address(fetcher, named)
            .map_err(|error| error.or_invalid("resource_metadata in the server's challenge is no http or https URL"))?;
        if named.origin() != server.origin() {
            return Err(PrepareError::InvalidMetadata(
                "resource_metadata in the server's challenge is on another origin",
            ));
        }
        places.push(named);
    }
    for place in well_known(server) {
        if !places.contains(&place) {
            places.push(place);
        }
    }

    let mut failed = false;
    for place in places {
        match fetcher.get(place).await? {
            Found::Document(body) => {
                if let Some(resource) = read(fetcher, &body, server)? {
                    return Ok(resource);
                }
            }
            Found::Nothing => {}
            Found::Failure => failed = true,
        }
    }
    if failed {
        return Err(PrepareError::InvalidMetadata("the server's resource metadata cannot be read"));
    }
    if named.is_some() {
        return Err(PrepareError::InvalidMetadata(
            "the resource metadata that the server's challenge names is not there",
        ));
    }
    Ok(ProtectedResource { resource: canonical(server), issuers: Vec::new(), scopes: Scopes::default() })
}

/// The places of RFC 9728, section 3.1, first for the path, then for the origin.
fn well_known(server: &Url) -> Vec<Url> {
    let path = server.path().strip_suffix('/').unwrap_or(server.path());
    let mut places = Vec::with_capacity(2);
    if !path.is_empty() {
        let mut place = on_origin(server, &format!("{WELL_KNOWN}{path}"));
        place.set_query(server.query());
        places.push(place);
    }
    places.push(on_origin(server, WELL_KNOWN));
    places
}

/// `None` if the body is not resource metadata at all, such as the page that a server has for everything.
pub(crate) fn read(fetcher: &Fetcher, body: &[u8], server: &Url) -> Result<Option<ProtectedResource>, PrepareError> {
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else { return Ok(None) };
    if wire.resource.is_none() && wire.authorization_servers.is_none() {
        return Ok(None);
    }
    let resource = text(wire.resource).filter(|resource| covers(resource, server)).ok_or(
        PrepareError::InvalidMetadata("resource in the server's metadata is not the server or a parent of it"),
    )?;
    let named = match wire.authorization_servers {
        None => Vec::new(),
        servers => texts(servers).ok_or(PrepareError::InvalidMetadata(
            "authorization_servers in the server's metadata is no list of texts",
        ))?,
    };
    let issuers = usable(fetcher, named)?;
    let scopes = scopes(texts(wire.scopes_supported).unwrap_or_default().iter().map(String::as_str));
    Ok(Some(ProtectedResource { resource, issuers, scopes }))
}

/// The issuers that can be asked. An error if there are some and none can.
fn usable(fetcher: &Fetcher, named: Vec<String>) -> Result<Vec<String>, PrepareError> {
    let mut first_error = None;
    let mut issuers = Vec::new();
    for issuer in named.into_iter().take(MAX_ISSUERS) {
        match address(fetcher, &issuer) {
            Ok(url) if url.query().is_none() => issuers.push(issuer),
            // An issuer has no query (RFC 8414, section 2).
            Ok(_) => {
                first_error.get_or_insert(PrepareError::InvalidMetadata(UNUSABLE));
            }
            Err(error) => {
                first_error.get_or_insert(error.or_invalid(UNUSABLE));
            }
        }
    }
    match first_error {
        Some(error) if issuers.is_empty() => Err(error),
        _ => Ok(issuers),
    }
}

const UNUSABLE: &str =
    "authorization_servers in the server's metadata names no http or https URL without query and fragment";

/// Whether a resource is the server or a parent of it: on its origin, with its path or one that ends at a boundary of it
/// (RFC 9728, section 3.3, widened to parents, for servers publish one document for all that is below).
fn covers(resource: &str, server: &Url) -> bool {
    let plain = resource.chars().all(|char| !char.is_control() && !char.is_whitespace() && char != '\\');
    if !plain || resource.len() > MAX_RESOURCE {
        return false;
    }
    let Ok(url) = Url::parse(resource) else { return false };
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let query = url.query().is_none() || url.query() == server.query();
    let parent = url.path().trim_end_matches('/');
    let below = server.path().strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    bare && query && url.origin() == server.origin() && below
}

/// The server's URL as a resource identifier: a bare origin without a slash (MCP, "Canonical Server URI").
fn canonical(server: &Url) -> String {
    let text = server.as_str();
    let bare = server.path() == "/" && server.query().is_none();
    if bare { text.trim_end_matches('/').to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_covers_what_is_below_it() {
        let server = Url::parse("https://mcp.example/team/mcp").unwrap();
        for resource in [
            "https://mcp.example/team/mcp",
            "https://mcp.example/team/mcp/",
            "HTTPS://MCP.example:443/team/mcp",
            "https://mcp.example/team",
            "https://mcp.example/team/",
            "https://mcp.example/",
            "https://mcp.example",
        ] {
            assert!(covers(resource, &server), "{resource}");
        }
        for resource in [
            "",
            "/team/mcp",
            "https://mcp.example/te",
            "https://mcp.example/team/mc",
            "https://mcp.example/team/mcp/below",
            "https://mcp.example/other",
            "https://mcp.example/team/mcp?x",
            "https://mcp.example/team/mcp#",
            "https://mcp.example/team/../other",
            "https://u@mcp.example/team/mcp",
            "https://mcp.example.evil/team/mcp",
            "https://mcp.example:8443/team/mcp",
            "http://mcp.example/team/mcp",
            "https://evil.example/team/mcp",
            "https://mcp.example\\@evil.example/",
            " https://mcp.example/",
            "https://mcp.example/team\n/mcp",
            "data:team/mcp",
        ] {
            assert!(!covers(resource, &server), "{resource:?}");
        }
    }

    #[test]
    fn a_query_is_part_of_the_resource() {
        let server = Url::parse("https://mcp.example/mcp?x=1").unwrap();
        assert!(covers("https://mcp.example/mcp?x=1", &server));
        assert!(covers("https://mcp.example/mcp", &server));
        assert!(!covers("https://mcp.example/mcp?x=2", &server));
    }

    #[test]
    fn the_well_known_places_stand_in_order() {
        let places =
            |server: &str| well_known(&Url::parse(server).unwrap()).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(places("https://a"), ["https://a/.well-known/oauth-protected-resource"]);
        for server in ["https://a/public/mcp", "https://a/public/mcp/"] {
            assert_eq!(
                places(server),
                [
                    "https://a/.well-known/oauth-protected-resource/public/mcp",
                    "https://a/.well-known/oauth-protected-resource"
                ]
            );
        }
    }

    #[test]
    fn the_canonical_form_of_an_origin_has_no_slash() {
        assert_eq!(canonical(&Url::parse("https://a").unwrap()), "https://a");
        assert_eq!(canonical(&Url::parse("https://a/mcp/").unwrap()), "https://a/mcp/");
    }
}
