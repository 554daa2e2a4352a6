//! Doors to this crate's parsers, for the fuzz targets. Only a build for fuzzing has them.

use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{
    ExchangeError, ExchangeRequest, RefreshError, RefreshRequest, Registration, RevokeError,
};
use connectors_domain::{ClientAuthentication, Grant, Issuer, Scopes, ServerUrl};
use connectors_egress::Egress;
use http::{HeaderMap, Response};
use jiff::Timestamp;
use url::Url;

use crate::answer::Before;
use crate::challenge::{self, Challenges};
use crate::document::Fetcher;
use crate::metadata::{self, AuthenticationMethods};
use crate::{address, refresh, registration, resource, revoke, token};

/// What a Bearer challenge names: metadata and scope.
pub type Bearer = (Option<String>, Option<String>);

/// The Bearer challenge of a 401, and whether there are others only.
pub fn challenges(fields: &[String]) -> (Option<Bearer>, bool) {
    let read = Challenges::read(fields);
    (read.bearer.map(|bearer| (bearer.resource_metadata, bearer.scope)), read.only_others)
}

/// The scopes that a 403 asks for.
pub fn demanded(fields: &[String]) -> Option<Scopes> {
    challenge::demanded(fields)
}

/// An address that metadata or a challenge names.
pub fn address(egress: &Egress, text: &str) -> Option<Url> {
    address::address(&fetcher(egress), text).ok()
}

/// Resource, authorization servers and scopes in protected-resource metadata.
pub fn resource(egress: &Egress, body: &[u8], server: &ServerUrl) -> Option<(String, Vec<String>, Scopes)> {
    let read = resource::read(&fetcher(egress), body, server.as_url()).ok()??;
    Some((read.resource, read.issuers, read.scopes))
}

/// Issuer, endpoints and scopes in the metadata of an authorization server.
pub fn metadata(egress: &Egress, body: &[u8], accepted: &[String]) -> Option<(Issuer, Vec<Url>, Scopes)> {
    let read = metadata::read(&fetcher(egress), body, accepted).ok()??;
    let endpoints = [read.authorization_endpoint, read.token_endpoint].into_iter();
    let endpoints = endpoints.chain(read.revocation_endpoint).chain(read.registration_endpoint);
    Some((read.issuer, endpoints.collect(), read.scopes))
}

/// The client that comes of a registration at a server that takes the `offered` methods.
pub fn registration(
    body: &[u8],
    asked: ClientAuthentication,
    offered: &[ClientAuthentication],
) -> Option<Registration> {
    registration::read(body, asked, &AuthenticationMethods::Listed(offered.to_vec()))
}

/// The grant in the answer to a code.
pub fn exchanged(
    response: &Response<Bytes>,
    request: ExchangeRequest,
    asked_at: Timestamp,
) -> Result<Grant, ExchangeError> {
    let ExchangeRequest { authority, scopes, .. } = request;
    token::read(response, Before { authority, refresh_token: None, scopes, asked_at })
}

/// The grant in the answer to a refresh token.
pub fn refreshed(
    response: &Response<Bytes>,
    request: RefreshRequest,
    asked_at: Timestamp,
) -> Result<Grant, RefreshError> {
    let RefreshRequest { authority, refresh_token, scopes } = request;
    refresh::read(response, Before { authority, refresh_token: Some(refresh_token), scopes, asked_at })
}

/// How long a server wants to be left alone.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    refresh::retry_after(headers, now)
}

/// Whether a token has ended, or else its kind is never revoked.
pub fn revoked(response: &Response<Bytes>) -> Result<bool, RevokeError> {
    revoke::read(response).map(|outcome| outcome == revoke::Outcome::Ended)
}

/// It is asked what it admits; nothing is fetched.
fn fetcher(egress: &Egress) -> Fetcher {
    Fetcher::new(egress.clone(), Duration::ZERO)
}
