//! The authorization request (RFC 6749, section 4.1.1), with PKCE (RFC 7636) and the resource (RFC 8707).

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_application::ports::{Entropy, Prepared};
use connectors_domain::{Authority, Quirks, Scopes, Secret, StateHash};

use crate::identity::Identity;
use crate::metadata::ServerMetadata;
use crate::resource::ProtectedResource;
use crate::scope::{OFFLINE_ACCESS, scopes};

/// What a preset cannot change: what ties the answer to the request.
const OWN: [&str; 6] =
    ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"];

/// The scopes to ask for: those that are held, with those of the challenge, else those of the resource. Where there are
/// some, and the authorization server knows the one for refresh tokens, that is added; alone it would stand in place of the
/// server's own choice. A preset may replace all this but what is held.
pub(crate) fn scopes_to_ask(
    held: &Scopes,
    challenged: Option<&str>,
    resource: &ProtectedResource,
    server: &ServerMetadata,
    quirks: &Quirks,
) -> Scopes {
    if let Some(scope) = &quirks.scope {
        return held.union(&Scopes::parse(scope));
    }
    let challenged = scopes(challenged);
    let chosen = held.union(if challenged.is_empty() { &resource.scopes } else { &challenged });
    let offline =
        (!chosen.is_empty() && server.scopes.iter().any(|scope| scope == OFFLINE_ACCESS)).then_some(OFFLINE_ACCESS);
    scopes(offline.into_iter().chain(chosen.iter()))
}

/// Makes the request.
pub(crate) fn request(
    entropy: &dyn Entropy,
    server: ServerMetadata,
    resource: ProtectedResource,
    identity: Identity,
    asked: Scopes,
    quirks: &Quirks,
) -> Prepared {
    let state = random(entropy);
    let verifier = random(entropy);
    let resource = (!quirks.omit_resource).then_some(resource.resource);

    let mut parameters = vec![
        ("response_type", "code".to_owned()),
        ("client_id", identity.client.credentials.id().to_owned()),
        ("redirect_uri", identity.redirect_uri.clone()),
        ("state", state.clone()),
        ("code_challenge", URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()))),
        ("code_challenge_method", "S256".to_owned()),
    ];
    if !asked.is_empty() {
        parameters.push(("scope", asked.to_string()));
    }
    parameters.extend(resource.clone().map(|resource| ("resource", resource)));
    if asked.iter().any(|scope| scope == OFFLINE_ACCESS) {
        // OpenID Connect Core, section 11: without it the scope counts for nothing.
        parameters.push(("prompt", "consent".to_owned()));
    }
    let extra = || quirks.authorize_parameters.iter().filter(|(name, _)| !OWN.contains(&name.as_str()));
    parameters.retain(|(name, _)| !extra().any(|(other, _)| other == name));

    let mut url = server.authorization_endpoint;
    url.query_pairs_mut().extend_pairs(&parameters).extend_pairs(extra());

    Prepared {
        authority: Authority {
            issuer: server.issuer,
            token_endpoint: server.token_endpoint.into(),
            revocation_endpoint: server.revocation_endpoint.map(Into::into),
            resource,
            client: identity.client,
        },
        names_itself: server.names_itself,
        authorization_url: Secret::new(url),
        state_hash: state_hash(&state),
        verifier: Secret::new(verifier),
        redirect_uri: identity.redirect_uri,
        scopes: asked,
    }
}

/// The SHA-256 of a state, as it stands in the URL.
pub(crate) fn state_hash(state: &str) -> StateHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, state.as_bytes()).as_ref());
    StateHash(hash)
}

/// 256 random bits in 43 characters: enough for a state and for a code verifier (RFC 7636, section 4.1).
pub(crate) fn random(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 32];
    entropy.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}
