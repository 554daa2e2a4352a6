//! What an issuer says of itself: OpenID Connect Discovery 1.0, or else RFC 8414.

use openidconnect::AuthType;
use serde::Deserialize;
use url::Url;

use crate::document::Fetcher;
use crate::json::{Member, flag, object, text, texts};

const OPENID: &str = "/.well-known/openid-configuration";
const RFC_8414: &str = "/.well-known/oauth-authorization-server";

/// What is needed of an issuer. An address that this service may not call counts as absent.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// Where its keys are.
    pub(crate) jwks_uri: Url,
    /// Where people log in. It is their browsers that go there, so it need not be one that this service may call.
    pub(crate) authorization_endpoint: Option<Url>,
    /// Where codes are exchanged.
    pub(crate) token_endpoint: Option<Url>,
    /// How a client with a secret proves itself there; `None` if in no way that this service knows.
    pub(crate) with_secret: Option<AuthType>,
    /// Whether it promises to name itself in its answers (RFC 9207, section 3).
    pub(crate) names_itself: bool,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    issuer: Member<'a>,
    #[serde(borrow)]
    jwks_uri: Member<'a>,
    #[serde(borrow)]
    authorization_endpoint: Member<'a>,
    #[serde(borrow)]
    token_endpoint: Member<'a>,
    #[serde(borrow)]
    token_endpoint_auth_methods_supported: Member<'a>,
    #[serde(borrow)]
    authorization_response_iss_parameter_supported: Member<'a>,
}

/// Finds the metadata of an issuer. `issuer` in it must be identical to the configured spelling, or else one issuer could
/// speak for another (OpenID Connect Discovery 1.0, section 4.3; RFC 8414, section 3.3).
pub(crate) async fn find(fetcher: &Fetcher, issuer: &str, address: &Url) -> Result<Metadata, &'static str> {
    let mut problem = "the issuer publishes no metadata";
    for place in places(address) {
        if let Some(body) = fetcher.get(place).await? {
            match read(fetcher, &body, issuer) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => problem = error,
            }
        }
    }
    Err(problem)
}

/// The first has the path of the issuer before it, the second behind it.
fn places(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/');
    [format!("{path}{OPENID}"), format!("{RFC_8414}{path}")].map(|path| {
        let mut place = issuer.clone();
        place.set_path(&path);
        place
    })
}

fn read(fetcher: &Fetcher, body: &str, issuer: &str) -> Result<Metadata, &'static str> {
    let wire: Wire<'_> = object(body).ok_or("the issuer's metadata cannot be read")?;
    if text(wire.issuer).is_none_or(|named| named != issuer) {
        return Err("the issuer's metadata are those of another issuer");
    }
    let called = |member| text(member).and_then(|address| fetcher.address(&address));
    Ok(Metadata {
        jwks_uri: called(wire.jwks_uri).ok_or("the issuer names no address of its keys that may be called")?,
        authorization_endpoint: text(wire.authorization_endpoint).and_then(|address| visited(&address)),
        token_endpoint: called(wire.token_endpoint),
        with_secret: with_secret(texts(wire.token_endpoint_auth_methods_supported).as_deref()),
        names_itself: flag(wire.authorization_response_iss_parameter_supported),
    })
}

/// Reads an address to which a browser is sent.
fn visited(address: &str) -> Option<Url> {
    Url::parse(address).ok().filter(|url| matches!(url.scheme(), "https" | "http") && url.fragment().is_none())
}

/// HTTP Basic is the default (OpenID Connect Discovery 1.0, section 3).
fn with_secret(listed: Option<&[String]>) -> Option<AuthType> {
    let Some(names) = listed else { return Some(AuthType::BasicAuth) };
    let known = [("client_secret_basic", AuthType::BasicAuth), ("client_secret_post", AuthType::RequestBody)];
    known.into_iter().find(|(name, _)| names.iter().any(|listed| listed == name)).map(|(_, way)| way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_sought_at_the_places_that_are_specified() {
        for (issuer, expected) in [
            (
                "https://idp.example",
                [
                    "https://idp.example/.well-known/openid-configuration",
                    "https://idp.example/.well-known/oauth-authorization-server",
                ],
            ),
            (
                "https://idp.example/realms/one/",
                [
                    "https://idp.example/realms/one/.well-known/openid-configuration",
                    "https://idp.example/.well-known/oauth-authorization-server/realms/one",
                ],
            ),
        ] {
            assert_eq!(places(&Url::parse(issuer).unwrap()).map(String::from), expected);
        }
    }

    #[test]
    fn a_secret_is_sent_as_the_metadata_say() {
        let way = |names: &[&str]| with_secret(Some(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()));
        assert!(matches!(with_secret(None), Some(AuthType::BasicAuth)));
        assert!(matches!(way(&["client_secret_post", "client_secret_basic"]), Some(AuthType::BasicAuth)));
        assert!(matches!(way(&["private_key_jwt", "client_secret_post"]), Some(AuthType::RequestBody)));
        assert!(way(&["private_key_jwt"]).is_none());
    }
}
