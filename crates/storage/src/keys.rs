//! The keys that secrets are sealed with.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, RandomizedNonceKey};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use connectors_domain::Secret;
use thiserror::Error;

/// The longest id of a key, in bytes: its length stands in one byte before each sealed value.
const MAX_ID: usize = 64;

/// The length of a key, in bytes.
pub(crate) const KEY_LENGTH: usize = 32;

/// Keys by id. The first one seals; each of them opens what it has sealed.
///
/// To rotate a key where several replicas run, first add the new one behind the old one everywhere, then put it first
/// everywhere, and drop the old one when nothing is sealed with it any more: [`Store::reseal`](crate::Store::reseal) sees
/// to that, [`Store::keys_in_use`](crate::Store::keys_in_use) tells, and opening a store without a key that is needed is
/// refused. None of them knows of what clients hold ([`Sealer`](connectors_application::ports::Sealer)): that ends with its
/// key.
#[derive(Clone)]
pub struct KeyRing(Arc<[Key]>);

/// A key with its id. The id is public; it stands beside each sealed value.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) key: RandomizedNonceKey,
}

/// Why keys cannot be used. No text holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// There are none.
    #[error("there is no encryption key; give at least one")]
    Empty,
    /// An id that cannot be used.
    #[error("the id of encryption key {number} must be 1 to 64 letters, digits, dots, underscores or hyphens")]
    Id {
        /// Which one, counted from one.
        number: usize,
    },
    /// A key that cannot be used.
    #[error("encryption key {number}, {id:?}, is not 32 bytes in base64; `openssl rand -base64 32` makes one that is")]
    Key {
        /// Which one, counted from one.
        number: usize,
        /// Its id.
        id: String,
    },
    /// An id that another key has already.
    #[error("encryption key {number} has the id {id:?}, as an earlier one does")]
    Duplicate {
        /// Which one, counted from one.
        number: usize,
        /// Its id.
        id: String,
    },
    /// A key file that cannot be read or written.
    #[error("the key file {} {what}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what the operating system says.
        what: String,
    },
}

impl KeyRing {
    /// A ring of keys, each an id and 32 bytes in base64. The first one seals.
    pub fn new(keys: impl IntoIterator<Item = (String, Secret)>) -> Result<Self, KeyError> {
        let mut ids = HashSet::new();
        let mut ring = Vec::new();
        for (index, (id, text)) in keys.into_iter().enumerate() {
            let number = index + 1;
            if !is_id(&id) {
                return Err(KeyError::Id { number });
            }
            if !ids.insert(id.clone()) {
                return Err(KeyError::Duplicate { number, id });
            }
            let Some(key) = decode(&text) else { return Err(KeyError::Key { number, id }) };
            ring.push(Key { id, key });
        }
        if ring.is_empty() { Err(KeyError::Empty) } else { Ok(Self(ring.into())) }
    }

    /// The ids, that of the key that seals first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    /// The key that seals. A ring is never empty.
    pub(crate) fn newest(&self) -> &Key {
        &self.0[0]
    }

    /// The key `id`.
    pub(crate) fn find(&self, id: &[u8]) -> Option<&Key> {
        self.0.iter().find(|key| key.id.as_bytes() == id)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.ids().collect::<Vec<_>>()).finish()
    }
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn decode(text: &Secret) -> Option<RandomizedNonceKey> {
    let text = text.expose().trim();
    let bytes = STANDARD_PAD_INDIFFERENT.decode(text).or_else(|_| URL_SAFE_PAD_INDIFFERENT.decode(text)).ok()?;
    if bytes.len() != KEY_LENGTH {
        return None;
    }
    RandomizedNonceKey::new(&AES_256_GCM, &bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

    fn ring(keys: &[(&str, &str)]) -> Result<KeyRing, KeyError> {
        KeyRing::new(keys.iter().map(|(id, key)| ((*id).to_owned(), Secret::new(*key))))
    }

    #[test]
    fn keys_are_32_bytes_in_any_common_base64() {
        let url_safe = format!("{}8", "-_".repeat(21));
        for key in [KEY, KEY.trim_end_matches('='), &url_safe, &format!("{KEY}\n")] {
            assert!(ring(&[("a", key)]).is_ok(), "{key}");
        }
        for key in ["", "hunter2", "AAAA", &format!("{KEY}{KEY}"), &"A".repeat(32)] {
            assert_eq!(ring(&[("k1", KEY), ("k2", key)]).err(), Some(KeyError::Key { number: 2, id: "k2".into() }));
        }
    }

    #[test]
    fn ids_are_plain_and_unique() {
        assert_eq!(ring(&[]).err(), Some(KeyError::Empty));
        for id in ["", "a b", "é", &"a".repeat(65)] {
            assert_eq!(ring(&[(id, KEY)]).err(), Some(KeyError::Id { number: 1 }));
        }
        assert_eq!(ring(&[("a", KEY), ("a", KEY)]).err(), Some(KeyError::Duplicate { number: 2, id: "a".into() }));
        assert_eq!(ring(&[("b", KEY), ("a", KEY)]).unwrap().ids().collect::<Vec<_>>(), ["b", "a"]);
    }

    #[test]
    fn no_key_is_ever_printed() {
        let secret = "c2VjcmV0";
        let error = ring(&[("a", secret)]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret));
        assert_eq!(format!("{:?}", ring(&[("a", KEY)]).unwrap()), r#"KeyRing(["a"])"#);
    }
}
