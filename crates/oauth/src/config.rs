//! Who the service is, towards authorization servers.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_domain::Issuer;
use serde_json::{Value, json};
use url::{Host, Url};

use crate::key::{ALGORITHM, SigningKey};

/// Where browsers come back to, under the public URL.
const CALLBACK: &str = "/api/v1/connectors/oauth/callback";

/// Who the service is, and how long it waits.
#[derive(Debug, Clone)]
pub struct OAuthConfig {
    /// The URL under which users' browsers reach the service.
    pub public_url: Url,
    /// Where the service publishes [`client_metadata_document`], if authorization servers can fetch it there.
    pub client_metadata_url: Option<String>,
    /// The name that consent pages show.
    pub client_name: String,
    /// The key with which the service proves itself where an authorization server takes that (`private_key_jwt`).
    pub signing_key: Option<SigningKey>,
    /// How long one request to a server may take.
    pub request_timeout: Duration,
    /// How long making an authorization request may take in all.
    pub prepare_timeout: Duration,
    /// How long a registration is reserved for whoever makes it. Longer than `request_timeout` twice, for it takes up to
    /// two requests.
    pub registration_lease: Duration,
}

impl OAuthConfig {
    /// A configuration with the usual times.
    pub fn new(public_url: Url, client_metadata_url: Option<String>, client_name: String) -> Self {
        Self {
            public_url,
            client_metadata_url,
            client_name,
            signing_key: None,
            request_timeout: Duration::from_secs(10),
            prepare_timeout: Duration::from_secs(45),
            registration_lease: Duration::from_secs(30),
        }
    }

    /// The redirect URI of clients that somebody else has registered, and of the metadata document: one for all
    /// authorization servers, since it must be known before they are.
    pub(crate) fn redirect_uri(&self) -> String {
        format!("{}{CALLBACK}", self.public_url.as_str().trim_end_matches('/'))
    }

    /// The redirect URI that the service registers at one authorization server: a response that comes from another one
    /// comes to another path (RFC 9700, section 4.4.2.2).
    pub(crate) fn redirect_uri_for(&self, issuer: &Issuer) -> String {
        format!("{}/{}", self.redirect_uri(), issuer_key(issuer))
    }

    /// What OpenID Connect calls the kind of client that has such redirect URIs.
    pub(crate) fn application_type(&self) -> &'static str {
        let loopback = match self.public_url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if loopback && self.public_url.scheme() == "http" { "native" } else { "web" }
    }
}

/// A short name for an authorization server, to be used in a path: 16 characters that follow from its spelling.
pub fn issuer_key(issuer: &Issuer) -> String {
    let hash = digest(&SHA256, issuer.as_str().as_bytes());
    URL_SAFE_NO_PAD.encode(hash.as_ref().get(..12).unwrap_or_default())
}

/// The client ID metadata document of the service (draft-ietf-oauth-client-id-metadata-document), to be published at
/// `client_metadata_url`; `None` without that URL. With a signing key it has the public half of that.
pub fn client_metadata_document(config: &OAuthConfig) -> Option<Value> {
    let client_id = config.client_metadata_url.as_deref()?;
    let mut document = json!({
        "client_id": client_id,
        "client_name": config.client_name,
        "client_uri": config.public_url.as_str(),
        "redirect_uris": [config.redirect_uri()],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        "application_type": config.application_type(),
    });
    if let Some(key) = &config.signing_key {
        document["token_endpoint_auth_method"] = "private_key_jwt".into();
        document["token_endpoint_auth_signing_alg"] = ALGORITHM.into();
        document["jwks"] = key.public_set();
    }
    Some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(public_url: &str) -> OAuthConfig {
        let metadata = Some("https://c.example/client.json".to_owned());
        OAuthConfig::new(Url::parse(public_url).unwrap(), metadata, "Connectors".to_owned())
    }

    #[test]
    fn redirect_uris_lie_under_the_public_url() {
        for public_url in ["https://c.example/base", "https://c.example/base/"] {
            let config = config(public_url);
            assert_eq!(config.redirect_uri(), "https://c.example/base/api/v1/connectors/oauth/callback");
        }
        let issuer = Issuer::new("https://as.example");
        let key = issuer_key(&issuer);
        assert_eq!(key.len(), 16);
        assert_ne!(key, issuer_key(&Issuer::new("https://as.example/")));
        assert_eq!(
            config("https://c.example").redirect_uri_for(&issuer),
            format!("https://c.example/api/v1/connectors/oauth/callback/{key}")
        );
    }

    #[test]
    fn a_local_service_is_a_native_application() {
        for (public_url, kind) in [
            ("http://localhost:8080", "native"),
            ("http://127.0.0.1:8080", "native"),
            ("http://[::1]:8080", "native"),
            ("https://localhost", "web"),
            ("https://c.example", "web"),
            ("http://localhost.example", "web"),
        ] {
            assert_eq!(config(public_url).application_type(), kind, "{public_url}");
        }
    }

    #[test]
    fn the_metadata_document_names_itself() {
        let document = client_metadata_document(&config("https://c.example")).unwrap();
        assert_eq!(document["client_id"], "https://c.example/client.json");
        assert_eq!(document["redirect_uris"], json!(["https://c.example/api/v1/connectors/oauth/callback"]));
        assert_eq!(document["token_endpoint_auth_method"], "none");
        assert!(document.get("jwks").is_none());
    }

    #[test]
    fn the_metadata_document_has_the_public_key() {
        let key = SigningKey::from_pem(&crate::key::tests::pem()).unwrap();
        let document =
            client_metadata_document(&OAuthConfig { signing_key: Some(key), ..config("https://c.example") }).unwrap();
        assert_eq!(document["token_endpoint_auth_method"], "private_key_jwt");
        assert_eq!(document["token_endpoint_auth_signing_alg"], "ES256");
        assert_eq!(document["jwks"]["keys"][0]["crv"], "P-256");
        assert!(document["jwks"]["keys"][0].get("d").is_none());
    }
}
