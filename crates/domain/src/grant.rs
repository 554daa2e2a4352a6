//! The right to use a server: tokens, and where they come from.

use std::collections::BTreeSet;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use crate::{Authority, Secret};

/// The longest token that is accepted, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The most time before its end at which a token is renewed before use.
const MAX_LEAD: SignedDuration = SignedDuration::from_secs(60);

/// How long a token is used of which its server said that it has ended already.
const LIFELESS: SignedDuration = SignedDuration::from_secs(30);

/// Why a text is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it must be 1 to 16384 visible ASCII characters without spaces")]
pub struct TokenError;

macro_rules! token {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Secret);

        impl $name {
            /// Accepts 1 to 16384 visible ASCII characters: what may stand in a header or a form field as it is.
            pub fn new(text: String) -> Result<Self, TokenError> {
                let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
                if visible && (1..=MAX_TOKEN).contains(&text.len()) { Ok(Self(Secret::new(text))) } else { Err(TokenError) }
            }

            /// The token itself, for the one place that sends or seals it.
            pub fn expose(&self) -> &str {
                self.0.expose()
            }
        }
    };
}

token! {
    /// An access token (RFC 6749, section 1.4), sent as a bearer token (RFC 6750).
    AccessToken
}

token! {
    /// A refresh token (RFC 6749, section 1.5).
    RefreshToken
}

/// A set of scopes (RFC 6749, section 3.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scopes(BTreeSet<String>);

impl Scopes {
    /// Reads scopes parted by spaces.
    pub fn parse(text: &str) -> Self {
        Self(text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect())
    }

    /// These scopes and those of `other`.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).cloned().collect())
    }

    /// Whether all of `other` are among these.
    pub fn cover(&self, other: &Self) -> bool {
        self.0.is_superset(&other.0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scopes in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope)?;
        }
        Ok(())
    }
}

/// The right to use a server in a user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What is sent with every request.
    pub access_token: AccessToken,
    /// Where it comes from.
    pub source: GrantSource,
}

/// Where a grant comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it lives in one connector at a time, which is moved and not collected")]
pub enum GrantSource {
    /// The user handed the access token over; nothing is known of its life, and it cannot be renewed.
    Supplied,
    /// An authorization server issued it.
    Issued(IssuedGrant),
}

/// What an authorization server said of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedGrant {
    /// Who issued it: tokens are sent to nobody else for renewal or revocation.
    pub authority: Authority,
    /// What renews it.
    pub refresh_token: Option<RefreshToken>,
    /// When the access token was asked for: its life begins no earlier.
    pub obtained_at: Timestamp,
    /// When the access token ends; `None` where the server did not say.
    pub expires_at: Option<Timestamp>,
    /// What was granted.
    pub scopes: Scopes,
    /// Tells this grant from every other that its connector ever had: a refresh token is spent at most once in each
    /// generation. It is the revision that stored the grant first, and 0 ([`IssuedGrant::UNSTORED`]) until then.
    pub generation: u64,
    /// How many consents in a row led here because the server wanted wider ones.
    pub step_ups: u8,
}

impl IssuedGrant {
    /// The generation of a grant that no connector holds yet.
    pub const UNSTORED: u64 = 0;

    /// Whether it can be renewed without its user.
    pub const fn is_renewable(&self) -> bool {
        self.refresh_token.is_some()
    }

    /// From when on it is renewed before it is used: when fewer than 60 seconds remain, or fewer than a fifth of its life
    /// if that is less. `None` if it cannot be renewed, or nobody knows when it ends.
    pub fn stale_at(&self) -> Option<Timestamp> {
        let expires_at = self.expires_at.filter(|_| self.is_renewable())?;
        let life = expires_at.duration_since(self.obtained_at);
        // A server that hands out tokens without a life would be asked for another one at every call.
        let stale_at = if life.is_positive() {
            expires_at.checked_sub((life / 5).min(MAX_LEAD))
        } else {
            self.obtained_at.checked_add(LIFELESS)
        };
        stale_at.ok()
    }

    /// When it is renewed though nobody uses it: after 80 % of its life, less up to 10 % as `jitter` says (255 is most), so
    /// that grants which were made at once do not end at once. `None` as for [`IssuedGrant::stale_at`], and where the
    /// token has no life.
    pub fn renewal_due_at(&self, jitter: u8) -> Option<Timestamp> {
        let life = self.expires_at.filter(|_| self.is_renewable())?.duration_since(self.obtained_at);
        let part = life / 10 * 8 - life / 2550 * i32::from(jitter);
        if life.is_positive() { self.obtained_at.checked_add(part).ok() } else { None }
    }
}

impl Grant {
    /// A grant out of an access token that the user handed over.
    pub const fn supplied(access_token: AccessToken) -> Self {
        Self { access_token, source: GrantSource::Supplied }
    }

    /// What its authorization server said of it, if one issued it.
    pub const fn issued(&self) -> Option<&IssuedGrant> {
        match &self.source {
            GrantSource::Issued(issued) => Some(issued),
            GrantSource::Supplied => None,
        }
    }

    /// The grant, as the one that so many consents in a row have led to; see [`IssuedGrant::step_ups`].
    #[must_use]
    pub const fn after_step_ups(mut self, step_ups: u8) -> Self {
        if let Some(issued) = self.issued_mut() {
            issued.step_ups = step_ups;
        }
        self
    }

    /// As [`Grant::issued`], to be changed.
    pub(crate) const fn issued_mut(&mut self) -> Option<&mut IssuedGrant> {
        match &mut self.source {
            GrantSource::Issued(issued) => Some(issued),
            GrantSource::Supplied => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_visible_ascii_within_its_limit() {
        let accepted = |text: &str| AccessToken::new(text.to_owned()).is_ok();
        assert!(accepted("a"));
        assert!(accepted(&"~".repeat(16 * 1024)));
        assert!(!accepted(&"~".repeat(16 * 1024 + 1)));
        for text in ["", " ", "a b", "a\r\nx: y", "a\0", "é", "a\u{7f}"] {
            assert!(!accepted(text), "{text:?}");
        }
    }

    #[test]
    fn scopes_are_a_set() {
        let scopes = Scopes::parse(" read  write read ");
        assert_eq!(scopes.to_string(), "read write");
        assert!(Scopes::parse("  ").is_empty());
        let (held, wanted) = (Scopes::parse("a b"), Scopes::parse("b c"));
        assert_eq!(held.union(&wanted).to_string(), "a b c");
        assert!(held.cover(&Scopes::parse("b")) && held.cover(&Scopes::default()) && !held.cover(&wanted));
    }

    fn issued(life: Option<i64>, renewable: bool) -> IssuedGrant {
        let obtained_at = Timestamp::UNIX_EPOCH;
        IssuedGrant {
            authority: crate::Authority {
                issuer: crate::Issuer::new("https://as.example.com"),
                token_endpoint: "https://as.example.com/token".to_owned(),
                revocation_endpoint: None,
                resource: None,
                client: crate::OAuthClient {
                    credentials: crate::ClientCredentials::new("id".to_owned(), None).unwrap(),
                    authentication: crate::ClientAuthentication::None,
                    origin: crate::ClientOrigin::Given,
                },
            },
            refresh_token: renewable.then(|| RefreshToken::new("r".to_owned()).unwrap()),
            obtained_at,
            expires_at: life.map(|life| obtained_at + SignedDuration::from_secs(life)),
            scopes: Scopes::default(),
            generation: IssuedGrant::UNSTORED,
            step_ups: 0,
        }
    }

    #[test]
    fn a_token_is_renewed_before_its_end() {
        let stale = |life| issued(Some(life), true).stale_at().map(Timestamp::as_second);
        assert_eq!(stale(3600), Some(3540));
        assert_eq!(stale(300), Some(240));
        assert_eq!(stale(100), Some(80), "a fifth of its life, not the minute");
        assert_eq!(stale(5), Some(4));
        assert_eq!(stale(0), Some(30), "not at every call");
        assert_eq!(issued(None, true).stale_at(), None);
        assert_eq!(issued(Some(3600), false).stale_at(), None);
    }

    #[test]
    fn renewals_that_nobody_waits_for_are_spread() {
        let due = |life, jitter| issued(Some(life), true).renewal_due_at(jitter).map(Timestamp::as_second);
        assert_eq!(due(1000, 0), Some(800));
        assert_eq!(due(1000, 255), Some(700));
        assert!(matches!(due(1000, 128), Some(740..760)));
        assert_eq!(due(0, 0), None);
        assert_eq!(issued(None, true).renewal_due_at(0), None);
        assert_eq!(issued(Some(1000), false).renewal_due_at(0), None);
    }
}
