//! The OAuth client that a connector may have been given.

use thiserror::Error;

use crate::Secret;

/// The longest client id and client secret that are accepted, in bytes.
const MAX_LENGTH: usize = 2048;

/// An OAuth client id with the secret that goes with it, if there is one (RFC 6749, section 2.3).
///
/// Id and secret always come from the same place: a preset's secret is never joined to a caller's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCredentials {
    id: String,
    secret: Option<Secret>,
}

/// Why a client id or secret is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ClientError {
    /// The id is empty, too long, or holds more than printable ASCII.
    #[error("it must be 1 to 2048 printable ASCII characters")]
    Id,
    /// The secret is empty, too long, or holds more than printable ASCII.
    #[error("it must be 1 to 2048 printable ASCII characters")]
    Secret,
    /// There is a secret, but no id that it could belong to.
    #[error("it was given without client_id; give both, or neither")]
    SecretWithoutId,
}

impl ClientError {
    /// The field that is wrong, as clients and operators call it.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Id => "client_id",
            Self::Secret | Self::SecretWithoutId => "client_secret",
        }
    }
}

impl ClientCredentials {
    /// The credentials made of `id` and `secret`, each of 1 to 2048 printable ASCII characters (RFC 6749, appendix A).
    pub fn new(id: String, secret: Option<String>) -> Result<Self, ClientError> {
        if !is_printable(&id) {
            return Err(ClientError::Id);
        }
        if secret.as_deref().is_some_and(|secret| !is_printable(secret)) {
            return Err(ClientError::Secret);
        }
        Ok(Self { id, secret: secret.map(Secret::new) })
    }

    /// As [`ClientCredentials::new`], of values that may be missing.
    pub fn from_parts(id: Option<String>, secret: Option<String>) -> Result<Option<Self>, ClientError> {
        match (id, secret) {
            (Some(id), secret) => Self::new(id, secret).map(Some),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(ClientError::SecretWithoutId),
        }
    }

    /// The client id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The client secret.
    pub const fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }
}

fn is_printable(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_printable_and_bounded() {
        let made = |id: &str, secret: Option<&str>| {
            ClientCredentials::from_parts(Some(id.to_owned()), secret.map(str::to_owned)).map(|_| ())
        };
        assert_eq!(made("a", None), Ok(()));
        assert_eq!(made(&"a".repeat(2048), Some("s p")), Ok(()));
        assert_eq!(made(&"a".repeat(2049), None), Err(ClientError::Id));
        assert_eq!(made("", None), Err(ClientError::Id));
        assert_eq!(made("a\0", None), Err(ClientError::Id));
        assert_eq!(made("a", Some("")), Err(ClientError::Secret));
        assert_eq!(made("a", Some("\r\n")), Err(ClientError::Secret));
    }

    #[test]
    fn a_secret_needs_an_id() {
        assert_eq!(ClientCredentials::from_parts(None, Some("s".into())), Err(ClientError::SecretWithoutId));
        assert_eq!(ClientCredentials::from_parts(None, None), Ok(None));
    }
}
