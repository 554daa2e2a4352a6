//! Who the service is at an authorization server: the client that was given, else its metadata document, else a
//! registration of its own.
//!
//! A metadata document is one for all servers, and names one way of authentication. With a signing key it names that: so
//! the document is used where the server lists `private_key_jwt`. A server that does not would find a client that it cannot
//! authenticate. There the service registers itself instead, and only where it cannot do that either does it present the
//! document as a public client, in the hope that the server takes PKCE for enough.

use connectors_application::ports::PrepareError;
use connectors_domain::{ClientAuthentication, ClientCredentials, ClientOrigin, Issuer, OAuthClient, Scopes};

use crate::config::OAuthConfig;
use crate::metadata::ServerMetadata;
use crate::registration::Registrar;

/// The service as a client, and where its users come back to.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) client: OAuthClient,
    pub(crate) redirect_uri: String,
}

/// Decides who the service is at `server`. `scopes` are those that it is going to ask for.
pub(crate) async fn identify(
    config: &OAuthConfig,
    registrar: &Registrar,
    server: &ServerMetadata,
    given: Option<ClientCredentials>,
    bound_to: Option<&Issuer>,
    scopes: &Scopes,
) -> Result<Identity, PrepareError> {
    if let Some(credentials) = given {
        if bound_to.is_some_and(|issuer| *issuer != server.issuer) {
            return Err(PrepareError::ClientBoundElsewhere);
        }
        let client = as_given(config, credentials, server)?;
        return Ok(Identity { client, redirect_uri: config.redirect_uri() });
    }
    let keyed = config.signing_key.is_some() && server.authentication.allow(ClientAuthentication::PrivateKeyJwt);
    let document_fits = keyed || config.signing_key.is_none() || server.registration_endpoint.is_none();
    let takes_document = server.takes_metadata_documents && document_fits;
    if let Some(url) = config.client_metadata_url.clone().filter(|_| takes_document) {
        let credentials = ClientCredentials::new(url, None)
            .map_err(|_| PrepareError::InvalidMetadata("this service's own client_metadata_url is no client id"))?;
        let authentication = if keyed { ClientAuthentication::PrivateKeyJwt } else { ClientAuthentication::None };
        let client = OAuthClient { credentials, authentication, origin: ClientOrigin::MetadataDocument };
        return Ok(Identity { client, redirect_uri: config.redirect_uri() });
    }
    let Some(endpoint) = &server.registration_endpoint else { return Err(PrepareError::ClientRequired) };
    let redirect_uri = config.redirect_uri_for(&server.issuer);
    match registrar.client(config, server, endpoint, &redirect_uri, scopes).await {
        Ok(client) => Ok(Identity { client, redirect_uri }),
        // Nothing but an assumption spoke of an authorization server, and it has proved wrong.
        Err(PrepareError::RegistrationFailed) if server.is_assumed() => Err(PrepareError::NotOffered),
        Err(error) => Err(error),
    }
}

fn as_given(
    config: &OAuthConfig,
    credentials: ClientCredentials,
    server: &ServerMetadata,
) -> Result<OAuthClient, PrepareError> {
    let methods = &server.authentication;
    let authentication = if credentials.secret().is_some() {
        methods.with_secret().ok_or(PrepareError::InvalidMetadata(
            "the authorization server takes client secrets in no way that this service knows",
        ))?
    } else if config.signing_key.is_some()
        && methods.allow(ClientAuthentication::PrivateKeyJwt)
        && !methods.allow(ClientAuthentication::None)
    {
        // Whoever registered the client there gave the server the key that this service publishes.
        ClientAuthentication::PrivateKeyJwt
    } else {
        ClientAuthentication::None
    };
    Ok(OAuthClient { credentials, authentication, origin: ClientOrigin::Given })
}
