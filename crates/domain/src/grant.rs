//! The right to use a server: tokens, and where they come from.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use thiserror::Error;

use crate::{Authority, Secret};

/// The longest token that is accepted, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

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
    /// When the access token ends; `None` where the server did not say.
    pub expires_at: Option<Timestamp>,
    /// What was granted.
    pub scopes: Scopes,
    /// Counts renewals: a refresh token is spent at most once in each generation.
    pub generation: u64,
}

impl Grant {
    /// A grant out of an access token that the user handed over.
    pub const fn supplied(access_token: AccessToken) -> Self {
        Self { access_token, source: GrantSource::Supplied }
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
    }
}
