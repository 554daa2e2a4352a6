//! What an authorization server says of itself (RFC 8414, OpenID Connect Discovery), checked.

use std::time::Duration;

use connectors_application::ports::PrepareError;
use connectors_domain::{ClientAuthentication, Issuer, Quirks, Scopes, ServerUrl};
use moka::future::Cache;
use serde::Deserialize;
use url::Url;

use crate::address::{address, on_origin};
use crate::document::{Fetcher, Found, Member, flag, text, texts};
use crate::key::ALGORITHM;
use crate::scope::{OFFLINE_ACCESS, scopes};

const RFC_8414: &str = "/.well-known/oauth-authorization-server";
const OPENID: &str = "/.well-known/openid-configuration";
/// How long validated metadata is used without being fetched anew.
const LIFETIME: Duration = Duration::from_mins(10);
/// How many authorization servers' metadata are kept.
const CAPACITY: u64 = 1000;

/// What is needed of an authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerMetadata {
    /// As the metadata spells it.
    pub(crate) issuer: Issuer,
    /// Where users go.
    pub(crate) authorization_endpoint: Url,
    /// Where codes are exchanged.
    pub(crate) token_endpoint: Url,
    /// Where tokens are revoked.
    pub(crate) revocation_endpoint: Option<Url>,
    /// Where clients register.
    pub(crate) registration_endpoint: Option<Url>,
    /// Whether it advertises PKCE with S256.
    pub(crate) pkce: bool,
    /// Whether it promises to name itself in its answers.
    pub(crate) names_itself: bool,
    /// Whether the URL of a metadata document is a client id to it.
    pub(crate) takes_metadata_documents: bool,
    /// The scopes that it lists.
    pub(crate) scopes: Scopes,
    /// How clients may prove themselves.
    pub(crate) authentication: AuthenticationMethods,
}

/// The ways of client authentication that a token endpoint takes, as far as this service knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AuthenticationMethods {
    /// These.
    Listed(Vec<ClientAuthentication>),
    /// The metadata lists none, which means HTTP Basic (RFC 8414, section 2), though servers forget to list others.
    Unlisted,
    /// There is no metadata.
    Unknown,
}

/// An authorization server to be asked for its metadata.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// The identifier out of which addresses are made.
    identifier: String,
    /// The spellings that its metadata may give as `issuer`.
    accepted: Vec<String>,
}

/// Finds metadata, and keeps for a while what it has found.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    fetcher: Fetcher,
    known: Cache<(String, Vec<String>), ServerMetadata>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    issuer: Member<'a>,
    #[serde(borrow)]
    authorization_endpoint: Member<'a>,
    #[serde(borrow)]
    token_endpoint: Member<'a>,
    #[serde(borrow)]
    revocation_endpoint: Member<'a>,
    #[serde(borrow)]
    registration_endpoint: Member<'a>,
    #[serde(borrow)]
    code_challenge_methods_supported: Member<'a>,
    #[serde(borrow)]
    authorization_response_iss_parameter_supported: Member<'a>,
    #[serde(borrow)]
    client_id_metadata_document_supported: Member<'a>,
    #[serde(borrow)]
    scopes_supported: Member<'a>,
    #[serde(borrow)]
    token_endpoint_auth_methods_supported: Member<'a>,
    #[serde(borrow)]
    token_endpoint_auth_signing_alg_values_supported: Member<'a>,
}

impl Candidate {
    /// An authorization server that resource metadata names. `issuer` must be identical to that name; a preset may trust
    /// one other spelling.
    pub(crate) fn named(identifier: &str, quirks: &Quirks) -> Self {
        Self::new(identifier.to_owned(), vec![identifier.to_owned()], quirks)
    }

    /// The origin of an MCP server that names none (MCP 2025-03-26). Nobody has spelled this identifier, so it may end
    /// with or without a slash.
    pub(crate) fn origin_of(server: &ServerUrl, quirks: &Quirks) -> Self {
        let origin = server.as_url().origin().ascii_serialization();
        let accepted = vec![origin.clone(), format!("{origin}/")];
        Self::new(origin, accepted, quirks)
    }

    fn new(identifier: String, mut accepted: Vec<String>, quirks: &Quirks) -> Self {
        accepted.extend(quirks.trusted_issuer.as_ref().map(|issuer| issuer.as_str().to_owned()));
        Self { identifier, accepted }
    }

    /// Whether this may turn out to be `issuer`.
    pub(crate) fn may_be(&self, issuer: &Issuer) -> bool {
        self.accepted.iter().any(|accepted| accepted == issuer.as_str())
    }
}

impl Directory {
    /// One that knows nothing yet.
    pub(crate) fn new(fetcher: Fetcher) -> Self {
        Self { fetcher, known: Cache::builder().max_capacity(CAPACITY).time_to_live(LIFETIME).build() }
    }

    /// The metadata of a candidate; `None` if it publishes none.
    pub(crate) async fn find(&self, candidate: &Candidate) -> Result<Option<ServerMetadata>, PrepareError> {
        let key = (candidate.identifier.clone(), candidate.accepted.clone());
        if let Some(metadata) = self.known.get(&key).await {
            return Ok(Some(metadata));
        }
        let mut problem = None;
        for place in places(&self.fetcher, &candidate.identifier)? {
            match self.fetcher.get(place).await? {
                Found::Document(body) => match read(&self.fetcher, &body, &candidate.accepted) {
                    Ok(Some(metadata)) => {
                        self.known.insert(key, metadata.clone()).await;
                        return Ok(Some(metadata));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        problem.get_or_insert(error);
                    }
                },
                Found::Nothing => {}
                Found::Failure => {
                    problem.get_or_insert(PrepareError::InvalidMetadata(
                        "the authorization server's metadata cannot be read",
                    ));
                }
            }
        }
        problem.map_or(Ok(None), Err)
    }
}

impl ServerMetadata {
    /// What MCP 2025-03-26 takes for granted of a server that publishes no metadata.
    pub(crate) fn assumed(server: &ServerUrl) -> Self {
        let server = server.as_url();
        Self {
            issuer: Issuer::new(server.origin().ascii_serialization()),
            authorization_endpoint: on_origin(server, "/authorize"),
            token_endpoint: on_origin(server, "/token"),
            revocation_endpoint: None,
            registration_endpoint: Some(on_origin(server, "/register")),
            // That revision demands PKCE of every server, and has no other place to say so.
            pkce: true,
            names_itself: false,
            takes_metadata_documents: false,
            scopes: Scopes::default(),
            authentication: AuthenticationMethods::Unknown,
        }
    }

    /// Whether nothing is published, and all this is taken for granted.
    pub(crate) fn is_assumed(&self) -> bool {
        self.authentication == AuthenticationMethods::Unknown
    }
}

/// The addresses at which metadata may stand, in the order that MCP specifies.
fn places(fetcher: &Fetcher, identifier: &str) -> Result<Vec<Url>, PrepareError> {
    let issuer = address(fetcher, identifier)
        .map_err(|error| error.or_invalid("the authorization server's identifier is no http or https URL"))?;
    let path = issuer.path().strip_suffix('/').unwrap_or(issuer.path());
    let mut paths = vec![format!("{RFC_8414}{path}"), format!("{OPENID}{path}")];
    if !path.is_empty() {
        paths.push(format!("{path}{OPENID}"));
    }
    Ok(paths.iter().map(|path| on_origin(&issuer, path)).collect())
}

/// `None` if the body is not metadata at all.
pub(crate) fn read(
    fetcher: &Fetcher,
    body: &[u8],
    accepted: &[String],
) -> Result<Option<ServerMetadata>, PrepareError> {
    let Ok(wire) = serde_json::from_slice::<Wire<'_>>(body) else { return Ok(None) };
    if wire.issuer.is_none() && wire.authorization_endpoint.is_none() {
        return Ok(None);
    }
    let issuer = text(wire.issuer)
        .filter(|issuer| accepted.contains(issuer))
        .ok_or(PrepareError::InvalidMetadata("issuer is not identical to the authorization server that was asked"))?;
    let endpoint = |member: Member<'_>, problem: &'static str| match text(member) {
        Some(text) => address(fetcher, &text).map_err(|error| error.or_invalid(problem)),
        None => Err(PrepareError::InvalidMetadata(problem)),
    };
    let registration_endpoint = match text(wire.registration_endpoint).filter(|text| !text.is_empty()) {
        Some(text) => Some(
            address(fetcher, &text)
                .map_err(|error| error.or_invalid("registration_endpoint is no http or https URL without fragment"))?,
        ),
        None => None,
    };
    // A server that lists no algorithms leaves open which it takes.
    let signatures = texts(wire.token_endpoint_auth_signing_alg_values_supported)
        .is_none_or(|names| names.is_empty() || names.iter().any(|name| name == ALGORITHM));
    Ok(Some(ServerMetadata {
        issuer: Issuer::new(issuer),
        authorization_endpoint: endpoint(
            wire.authorization_endpoint,
            "authorization_endpoint is no http or https URL without fragment",
        )?,
        token_endpoint: endpoint(wire.token_endpoint, "token_endpoint is no http or https URL without fragment")?,
        // One that cannot be used is as good as none: nothing is lost but a courtesy.
        revocation_endpoint: text(wire.revocation_endpoint).and_then(|text| address(fetcher, &text).ok()),
        registration_endpoint,
        pkce: texts(wire.code_challenge_methods_supported).unwrap_or_default().iter().any(|method| method == "S256"),
        names_itself: flag(wire.authorization_response_iss_parameter_supported),
        takes_metadata_documents: flag(wire.client_id_metadata_document_supported),
        scopes: listed_scopes(wire.scopes_supported),
        authentication: texts(wire.token_endpoint_auth_methods_supported)
            .filter(|methods| !methods.is_empty())
            .map_or(AuthenticationMethods::Unlisted, |methods| AuthenticationMethods::listed(&methods, signatures)),
    }))
}

/// The scopes that are listed. The one for refresh tokens is not lost in a list that is too long.
fn listed_scopes(member: Member<'_>) -> Scopes {
    let names = texts(member).unwrap_or_default();
    let offline = names.iter().find(|name| *name == OFFLINE_ACCESS);
    scopes(offline.into_iter().chain(&names).map(String::as_str))
}

impl AuthenticationMethods {
    /// Those among `names`. Assertions count only where the server takes the signatures of this service.
    fn listed(names: &[String], signatures: bool) -> Self {
        let usable = |method: &ClientAuthentication| signatures || *method != ClientAuthentication::PrivateKeyJwt;
        let listed = |method: &ClientAuthentication| names.iter().any(|name| name == wire_name(*method));
        Self::Listed(METHODS.into_iter().filter(|method| usable(method) && listed(method)).collect())
    }

    /// Whether a client may prove itself so.
    pub(crate) fn allow(&self, method: ClientAuthentication) -> bool {
        match self {
            Self::Listed(methods) => methods.contains(&method),
            // Nobody forgets to list that it verifies signatures.
            Self::Unlisted | Self::Unknown => method != ClientAuthentication::PrivateKeyJwt,
        }
    }

    /// The way for a client that has a secret.
    pub(crate) fn with_secret(&self) -> Option<ClientAuthentication> {
        [ClientAuthentication::SecretBasic, ClientAuthentication::SecretPost]
            .into_iter()
            .find(|method| self.allow(*method))
    }

    /// The way to ask for when registering. A public client has nothing that could be stolen or expire; a key of the
    /// service's own, if it has one, is for servers that take nothing else.
    pub(crate) fn to_register(&self, has_key: bool) -> Option<ClientAuthentication> {
        let usable = |method: &ClientAuthentication| has_key || *method != ClientAuthentication::PrivateKeyJwt;
        match self {
            Self::Listed(methods) => methods.iter().copied().find(usable),
            Self::Unlisted => Some(ClientAuthentication::SecretBasic),
            Self::Unknown => Some(ClientAuthentication::None),
        }
    }
}

/// All methods that this service knows, those first that it would rather use.
pub(crate) const METHODS: [ClientAuthentication; 4] = [
    ClientAuthentication::None,
    ClientAuthentication::SecretBasic,
    ClientAuthentication::SecretPost,
    ClientAuthentication::PrivateKeyJwt,
];

/// The name of a method in metadata and registrations (RFC 7591, section 2).
pub(crate) const fn wire_name(method: ClientAuthentication) -> &'static str {
    match method {
        ClientAuthentication::None => "none",
        ClientAuthentication::SecretBasic => "client_secret_basic",
        ClientAuthentication::SecretPost => "client_secret_post",
        ClientAuthentication::PrivateKeyJwt => "private_key_jwt",
    }
}
