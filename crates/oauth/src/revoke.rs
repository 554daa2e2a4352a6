//! The end of a grant (RFC 7009): the refresh token first, which at most servers takes the rest along.

use bytes::Bytes;
use connectors_application::ports::RevokeError;
use connectors_domain::{Authority, Grant, GrantSource};
use http::Response;

use crate::answer::{Answer, Fault};
use crate::document::SendError;
use crate::form::{FormError, Forms};

/// What became of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is good for nothing any more, or never was.
    Ended,
    /// The server does not revoke tokens of its kind.
    Unsupported,
}

/// Revokes a grant, as far as its authorization server offers that. After trouble with the refresh token nothing else is
/// sent: all is to be tried again.
pub(crate) async fn revoke(forms: &Forms, grant: Grant) -> Result<(), RevokeError> {
    let GrantSource::Issued(issued) = &grant.source else { return Ok(()) };
    let Some(endpoint) = issued.authority.revocation_endpoint.as_deref() else { return Ok(()) };
    let end = |token, kind| end(forms, endpoint, &issued.authority, token, kind);
    let renewal = match &issued.refresh_token {
        Some(token) => Some(end(token.expose(), "refresh_token").await?),
        None => None,
    };
    let access = end(grant.access_token.expose(), "access_token").await?;
    match (renewal, access) {
        // Servers that issue self-contained access tokens cannot revoke them; they end soon by themselves.
        (Some(Outcome::Ended), _) | (None, Outcome::Ended) => Ok(()),
        (Some(Outcome::Unsupported), _) => Err(RevokeError("it does not revoke refresh tokens")),
        (None, Outcome::Unsupported) => Err(RevokeError("it does not revoke access tokens")),
    }
}

async fn end(
    forms: &Forms,
    endpoint: &str,
    authority: &Authority,
    token: &str,
    kind: &str,
) -> Result<Outcome, RevokeError> {
    read(&forms.post(endpoint, authority, &[("token", token), ("token_type_hint", kind)]).await?)
}

/// What an answer says of the token.
pub(crate) fn read(response: &Response<Bytes>) -> Result<Outcome, RevokeError> {
    match Answer::read(response.body()).as_ref().and_then(Answer::fault) {
        Some(Fault::Code(code)) => match code.as_str() {
            // Nothing is left to be revoked (RFC 7009, section 2.2 has that as a success).
            "invalid_token" | "invalid_grant" => Ok(Outcome::Ended),
            "unsupported_token_type" | "invalid_request" => Ok(Outcome::Unsupported),
            "invalid_client" | "unauthorized_client" => Err(RevokeError("it refuses this service as a client")),
            _ => Err(RevokeError("it answered with an error")),
        },
        Some(Fault::Unreadable) => Err(RevokeError("it answered with an error")),
        None if response.status().is_success() => Ok(Outcome::Ended),
        None if response.status().is_server_error() => Err(RevokeError("it is out of order")),
        None => Err(RevokeError("it answered with an error that says nothing")),
    }
}

impl From<FormError> for RevokeError {
    fn from(error: FormError) -> Self {
        Self(match error {
            FormError::Malformed => "its revocation endpoint is no address that can be used",
            FormError::NoKey => "this service has no key to prove itself with",
            FormError::Send(SendError::Refused(_)) => "this service may not call its revocation endpoint",
            FormError::Send(SendError::Unreachable) => "it cannot be reached",
            FormError::Send(SendError::TimedOut { .. }) => "it did not answer in time",
            FormError::Send(SendError::Garbled) => "the connection broke, or its answer cannot be read",
        })
    }
}
