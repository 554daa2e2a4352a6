//! The answer of a token endpoint (RFC 6749, sections 5.1 and 5.2), to a code and to a refresh token.
//!
//! It is so small that it is written out: what a library for it adds is strictness where servers are lax, and errors that
//! carry what a server sent.

use connectors_domain::{AccessToken, Authority, Grant, GrantSource, IssuedGrant, RefreshToken, Scopes};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::document::{Member, seconds, text, texts};
use crate::scope::scopes;

/// The longest life that an access token is believed to have.
const MAX_LIFE: i64 = 365 * 24 * 60 * 60;

/// An answer, unread.
#[derive(Deserialize)]
pub(crate) struct Answer<'a> {
    #[serde(borrow)]
    error: Member<'a>,
    #[serde(borrow)]
    access_token: Member<'a>,
    #[serde(borrow)]
    token_type: Member<'a>,
    #[serde(borrow)]
    expires_in: Member<'a>,
    #[serde(borrow)]
    refresh_token: Member<'a>,
    #[serde(borrow)]
    scope: Member<'a>,
}

/// An error in an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One that has a code.
    Code(String),
    /// One that is anything but a text.
    Unreadable,
}

/// What was held or asked for before the answer: what counts where it says nothing.
pub(crate) struct Before {
    /// Who answers.
    pub(crate) authority: Authority,
    /// The refresh token that was spent.
    pub(crate) refresh_token: Option<RefreshToken>,
    /// The scopes.
    pub(crate) scopes: Scopes,
    /// A time before the request was sent: the token's life is not overestimated.
    pub(crate) asked_at: Timestamp,
}

impl<'a> Answer<'a> {
    /// `None` if the body is no such answer at all.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// The error in it. It counts before everything else, status included: some come with 200, and `invalid_grant` with
    /// 401.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match text(Some(self.error?)) {
            Some(code) if code.is_empty() => None,
            Some(code) => Some(Fault::Code(code)),
            None => Some(Fault::Unreadable),
        }
    }

    /// Whether there is an access token in it, good or bad.
    pub(crate) fn has_token(&self) -> bool {
        self.access_token.is_some()
    }

    /// The grant in it, if all that it needs is there and can be used.
    pub(crate) fn grant(&self, before: Before) -> Option<Grant> {
        if !text(self.token_type)?.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let access_token = AccessToken::new(text(self.access_token)?).ok()?;
        let refresh_token = match self.refresh_token {
            None => before.refresh_token,
            member => match text(member)? {
                empty if empty.is_empty() => before.refresh_token,
                token => Some(RefreshToken::new(token).ok()?),
            },
        };
        let issued = IssuedGrant {
            authority: before.authority,
            refresh_token,
            obtained_at: before.asked_at,
            expires_at: seconds(self.expires_in).map(|life| end(before.asked_at, life)),
            scopes: granted(self.scope, before.scopes),
            generation: IssuedGrant::UNSTORED,
            step_ups: 0,
        };
        Some(Grant { access_token, source: GrantSource::Issued(issued) })
    }
}

/// The scopes that were granted: `asked` unless the answer names some.
///
/// GitHub parts them by commas, which may stand within a scope elsewhere. So a comma parts them only where all its parts
/// were asked for.
fn granted(member: Member<'_>, asked: Scopes) -> Scopes {
    let said = text(member).map(|scope| vec![scope]).or_else(|| texts(member)).unwrap_or_default();
    let named = scopes(said.iter().map(String::as_str));
    if named.is_empty() {
        return asked;
    }
    let parts = scopes(said.iter().flat_map(|scope| scope.split(',')));
    if asked.cover(&parts) { parts } else { named }
}

/// When a token ends: now if it has no life, and within a year in any case.
fn end(now: Timestamp, life: i64) -> Timestamp {
    let life = SignedDuration::from_secs(life.clamp(0, MAX_LIFE));
    now.saturating_add(life).unwrap_or(Timestamp::MAX)
}
