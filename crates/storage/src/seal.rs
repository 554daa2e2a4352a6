//! Sealing: AES-256-GCM under a key of the ring, bound to the place where the value stands.
//!
//! A sealed value is `version ‖ length of the key's id ‖ key's id ‖ nonce ‖ ciphertext ‖ tag`, the first two of one byte
//! each. The place goes into the additional data, so that a value which somebody moves to another row, column or owner,
//! or whose row is pointed at another server, does not open.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use connectors_domain::Secret;
use thiserror::Error;

use crate::KeyRing;

/// The version of the envelope, and of what goes into the additional data.
const VERSION: u8 = 1;

/// Where a sealed value stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The table.
    pub(crate) table: &'a str,
    /// The column.
    pub(crate) column: &'a str,
    /// What tells the row from others, and whatever else of it must not change under the value.
    pub(crate) row: &'a [&'a str],
}

/// A value could not be sealed: the random source or the cipher failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a secret could not be sealed")]
pub(crate) struct SealError;

/// A sealed value could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum UnsealError {
    /// It is no sealed value of a known version.
    #[error("the value is not a sealed one")]
    Form,
    /// The key is not there.
    #[error("the value is sealed with the key {0:?}, which is missing")]
    KeyMissing(String),
    /// It was sealed elsewhere, with another key of that id, or was changed.
    #[error("the value was changed, or moved from another place")]
    Changed,
}

/// A sealed value could not be sealed anew.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ResealError {
    #[error(transparent)]
    Open(#[from] UnsealError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KeyRing {
    /// Seals `plain` for `place` under the newest key. The plain text is overwritten.
    pub(crate) fn seal(&self, place: Place<'_>, mut plain: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let key = self.newest();
        let nonce = key.key.seal_in_place_append_tag(Aad::from(place.bytes()), &mut plain).map_err(|_| SealError)?;
        let mut sealed = header(&key.id);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.append(&mut plain);
        Ok(sealed)
    }

    /// Opens what was sealed for `place`.
    pub(crate) fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, UnsealError> {
        let [VERSION, length, rest @ ..] = sealed else { return Err(UnsealError::Form) };
        let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(UnsealError::Form)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(UnsealError::Form)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::Form)?;
        let key = self.find(id).ok_or_else(|| UnsealError::KeyMissing(String::from_utf8_lossy(id).into_owned()))?;

        let mut buffer = sealed.to_vec();
        let length = key
            .key
            .open_in_place(nonce, Aad::from(place.bytes()), &mut buffer)
            .map_err(|_| UnsealError::Changed)?
            .len();
        buffer.truncate(length);
        // The buffer itself becomes the secret, which wipes it in the end.
        String::from_utf8(buffer).map(Secret::new).map_err(|_| UnsealError::Form)
    }

    /// Seals for the same place, under the newest key, what any key has sealed.
    pub(crate) fn reseal(&self, place: Place<'_>, sealed: &[u8]) -> Result<Vec<u8>, ResealError> {
        Ok(self.seal(place, self.open(place, sealed)?.expose().as_bytes().to_vec())?)
    }
}

/// What every value begins with that is sealed under the key `id`.
pub(crate) fn header(id: &str) -> Vec<u8> {
    // Ids have at most 64 bytes.
    let length = u8::try_from(id.len()).unwrap_or(u8::MAX);
    [&[VERSION, length], id.as_bytes()].concat()
}

impl Place<'_> {
    /// The place as additional data: each part after its length, so that no two places have the same bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for part in [self.table, self.column].iter().chain(self.row) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLACE: Place<'static> = Place { table: "t", column: "c", row: &["id", "owner"] };

    fn ring(keys: &[(&str, u8)]) -> KeyRing {
        use base64::Engine;
        let encode = |byte: u8| base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        KeyRing::new(keys.iter().map(|(id, byte)| ((*id).to_owned(), Secret::new(encode(*byte))))).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.seal(PLACE, b"hunter2".to_vec()).unwrap();
        assert_eq!(ring.open(PLACE, &sealed).unwrap().expose(), "hunter2");
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        for place in [
            Place { table: "u", ..PLACE },
            Place { column: "d", ..PLACE },
            Place { row: &["id", "other"], ..PLACE },
            Place { row: &["other", "owner"], ..PLACE },
            Place { row: &["idowner"], ..PLACE },
            Place { row: &["ido", "wner"], ..PLACE },
            Place { row: &["id", "owner", ""], ..PLACE },
        ] {
            assert_eq!(ring.open(place, &sealed), Err(UnsealError::Changed), "{place:?}");
        }
    }

    #[test]
    fn the_newest_key_seals_and_every_key_opens() {
        let old = ring(&[("a", 1)]);
        let rotated = ring(&[("b", 2), ("a", 1)]);
        let before = old.seal(PLACE, b"x".to_vec()).unwrap();
        assert_eq!(rotated.open(PLACE, &before).unwrap().expose(), "x");
        let after = rotated.seal(PLACE, b"x".to_vec()).unwrap();
        assert_eq!(old.open(PLACE, &after), Err(UnsealError::KeyMissing("b".into())));
        assert_eq!(ring(&[("b", 2)]).open(PLACE, &after).unwrap().expose(), "x");
        assert_eq!(ring(&[("b", 3)]).open(PLACE, &after), Err(UnsealError::Changed));
    }

    #[test]
    fn equal_secrets_do_not_look_equal() {
        let ring = ring(&[("a", 1)]);
        assert_ne!(ring.seal(PLACE, b"x".to_vec()), ring.seal(PLACE, b"x".to_vec()));
    }

    proptest! {
        #[test]
        fn nothing_that_was_changed_opens(at in any::<proptest::sample::Index>(), flip in 1_u8..) {
            let ring = ring(&[("a", 1)]);
            let mut sealed = ring.seal(PLACE, b"hunter2".to_vec()).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= flip;
            prop_assert!(ring.open(PLACE, &sealed).is_err());
            prop_assert!(ring.open(PLACE, &sealed[..at]).is_err());
        }

        #[test]
        fn nothing_that_was_made_up_opens(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(ring(&[("a", 1)]).open(PLACE, &bytes).is_err());
        }
    }
}
