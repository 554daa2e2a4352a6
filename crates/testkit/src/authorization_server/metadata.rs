//! What the server says about itself, and where.

use serde_json::{Map, Value, json};

use super::{
    AuthMethod, Document, Iss,
    state::{State, override_members},
};

/// The path of a document, for an issuer with this path.
pub(super) fn path(document: Document, issuer_path: &str) -> String {
    match document {
        Document::OAuth => format!("/.well-known/oauth-authorization-server{issuer_path}"),
        Document::OpenIdInserted => format!("/.well-known/openid-configuration{issuer_path}"),
        Document::OpenIdAppended => format!("{issuer_path}/.well-known/openid-configuration"),
    }
}

pub(super) fn document(state: &State, issuer: &str, document: Document) -> Value {
    let settings = &state.settings;
    let methods: Vec<_> = settings.auth_methods.iter().map(|method| method.name()).collect();
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("issuer", json!(issuer));
    put("authorization_endpoint", json!(format!("{issuer}/authorize")));
    put("token_endpoint", json!(format!("{issuer}/token")));
    put("revocation_endpoint", json!(format!("{issuer}/revoke")));
    if settings.registration {
        put("registration_endpoint", json!(format!("{issuer}/register")));
    }
    put("response_types_supported", json!(["code"]));
    put("response_modes_supported", json!(["query"]));
    put("grant_types_supported", json!(["authorization_code", "refresh_token"]));
    put("token_endpoint_auth_methods_supported", json!(methods));
    put("revocation_endpoint_auth_methods_supported", json!(methods));
    if settings.auth_methods.contains(&AuthMethod::PrivateKey) {
        put("token_endpoint_auth_signing_alg_values_supported", json!(["ES256"]));
        put("revocation_endpoint_auth_signing_alg_values_supported", json!(["ES256"]));
    }
    put("code_challenge_methods_supported", json!(["S256"]));
    put("authorization_response_iss_parameter_supported", json!(settings.iss != Iss::Missing));
    if !settings.scopes.is_empty() {
        put("scopes_supported", json!(settings.scopes));
    }
    if document != Document::OAuth {
        put("jwks_uri", json!(format!("{issuer}/jwks")));
        put("subject_types_supported", json!(["public"]));
        put("id_token_signing_alg_values_supported", json!(["RS256"]));
    }
    override_members(&mut members, &settings.metadata);
    members.into()
}
