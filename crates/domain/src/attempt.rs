//! An authorization that waits for its user.

use jiff::Timestamp;

use crate::{Authority, RedirectUrl, Scopes, Secret};

/// The SHA-256 of an OAuth `state`: enough to find the attempt to which a callback belongs, useless to a thief.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateHash(pub [u8; 32]);

/// One pass through an authorization server's consent, from the moment it is offered until the browser comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationAttempt {
    /// Finds the attempt when the browser comes back.
    pub state_hash: StateHash,
    /// The PKCE code verifier (RFC 7636, section 4.1).
    pub verifier: Secret,
    /// Who must answer, and where the code is exchanged.
    pub authority: Authority,
    /// Whether the authorization server promises to name itself in its answer (RFC 9207, section 2.3).
    pub names_itself: bool,
    /// Where the user must go. It holds the `state`, which only the user may know.
    pub authorization_url: Secret,
    /// The redirect URI that was sent, to be repeated at the token endpoint.
    pub redirect_uri: String,
    /// What was asked for.
    pub scopes: Scopes,
    /// How many consents in a row, this one included, are asked for because the server wanted wider ones.
    pub step_ups: u8,
    /// Where the user's browser goes in the end, if not to a page of the service.
    pub redirect_url: Option<RedirectUrl>,
    /// When the attempt ends unfinished.
    pub expires_at: Timestamp,
}
