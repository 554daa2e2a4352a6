//! An authorization that waits for its user.

use jiff::Timestamp;

use crate::{Authority, RedirectUrl, Scopes, Secret};

/// How an attempt is bound to its user's browser, so that nobody else's consent ends up in the user's connector (RFC 6749,
/// section 10.12).
///
/// The user sets out from a page of the service, not from the authorization server, and that page leaves a secret in the
/// browser, which must be there when the browser comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// What the address of the page holds that nobody can guess.
    pub ticket: Secret,
    /// The secret of the browser that set out; `None` before one has.
    pub browser: Option<Secret>,
}

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
    /// The page from which the user sets out, where users must be told apart.
    pub start: Option<Start>,
    /// When the attempt ends unfinished.
    pub expires_at: Timestamp,
}

impl AuthorizationAttempt {
    /// Whether `browser` may finish the attempt: it is the one that set out, or the attempt is bound to none.
    pub fn is_bound_to(&self, browser: Option<&Secret>) -> bool {
        match &self.start {
            None => true,
            Some(Start { browser: Some(bound), .. }) => browser.is_some_and(|browser| bound.matches(browser)),
            Some(Start { browser: None, .. }) => false,
        }
    }
}
