//! The port of what clients hold for the service: the envelope of `seal.rs` under the same ring of keys, in characters
//! that fit everywhere.
//!
//! Nothing seals such a text anew, and no canary asks for its key: it opens for as long as its key is in the ring. Who
//! takes a key out ends what was sealed under it, and whoever holds that begins anew.
//!
//! A key is good for 2³² random nonces (NIST SP 800-38D, section 8.3). At ten texts a second that is more than a decade.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_application::ports::{Seal, Sealer, SealerError};
use connectors_domain::Secret;

use crate::seal::Place;
use crate::{KeyRing, Store};

/// The most characters of a sealed text: anybody may send one, and most of what fits no header field was made up.
const MAX_CHARS: usize = 16 * 1024;

/// What stands for the table in the place of a text that is not in one. No table has this name, so that nothing which lies
/// in a column opens here, and nothing from here in a column.
const NO_TABLE: &str = "(outside)";

/// What `seal` is for and to what it is bound, as the place of a sealed value.
fn at<T>(seal: &Seal, work: impl FnOnce(Place<'_>) -> T) -> T {
    let bound_to: Vec<_> = seal.bound_to.iter().map(String::as_str).collect();
    work(Place { table: NO_TABLE, column: seal.purpose.as_str(), row: &bound_to })
}

impl Sealer for KeyRing {
    /// A text that would be longer than 16 KiB when sealed is refused.
    fn seal(&self, seal: &Seal, text: &str) -> Result<String, SealerError> {
        let sealed = at(seal, |place| Self::seal(self, place, text.as_bytes().to_vec())).map_err(|_| SealerError)?;
        let sealed = URL_SAFE_NO_PAD.encode(sealed);
        if sealed.len() <= MAX_CHARS { Ok(sealed) } else { Err(SealerError) }
    }

    /// There is one spelling of each sealed text: what differs from it in any character does not open.
    fn open(&self, seal: &Seal, sealed: &str) -> Option<Secret> {
        if sealed.len() > MAX_CHARS {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        at(seal, |place| Self::open(self, place, &sealed)).ok()
    }
}

/// With the keys of the store.
impl Sealer for Store {
    fn seal(&self, seal: &Seal, text: &str) -> Result<String, SealerError> {
        Sealer::seal(&self.keys, seal, text)
    }

    fn open(&self, seal: &Seal, sealed: &str) -> Option<Secret> {
        Sealer::open(&self.keys, seal, sealed)
    }
}

#[cfg(test)]
mod tests {
    use connectors_application::ports::SealPurpose;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::seal::header;

    fn ring(keys: &[(&str, u8)]) -> KeyRing {
        let encode = |byte: u8| base64::engine::general_purpose::STANDARD.encode([byte; 32]);
        KeyRing::new(keys.iter().map(|(id, byte)| ((*id).to_owned(), Secret::new(encode(*byte))))).unwrap()
    }

    fn seal(bound_to: &[&str]) -> Seal {
        Seal { purpose: SealPurpose::McpSession, bound_to: bound_to.iter().map(|part| (*part).to_owned()).collect() }
    }

    fn sealed(ring: &KeyRing, seal: &Seal, text: &str) -> String {
        Sealer::seal(ring, seal, text).unwrap()
    }

    fn opened(ring: &KeyRing, seal: &Seal, sealed: &str) -> Option<String> {
        Sealer::open(ring, seal, sealed).map(|text| text.expose().to_owned())
    }

    #[test]
    fn the_newest_key_seals_and_every_key_of_the_ring_opens() {
        let (seal, old, both) = (seal(&["owner"]), ring(&[("a", 1)]), ring(&[("b", 2), ("a", 1)]));
        let (before, after) = (sealed(&old, &seal, "text"), sealed(&both, &seal, "text"));
        assert_eq!(opened(&both, &seal, &before).as_deref(), Some("text"));
        assert_eq!(opened(&both, &seal, &after).as_deref(), Some("text"));
        let new = ring(&[("b", 2)]);
        assert_eq!(opened(&new, &seal, &after).as_deref(), Some("text"));
        assert_eq!(opened(&new, &seal, &before), None, "its key has left the ring");
        assert_eq!(opened(&ring(&[("b", 2), ("a", 3)]), &seal, &before), None, "its id belongs to another key");
    }

    #[test]
    fn nothing_out_of_a_column_opens_outside_and_nothing_from_outside_in_a_column() {
        let ring = ring(&[("a", 1)]);
        let outside = seal(&["id", "owner"]);
        let column = SealPurpose::McpSession.as_str();
        for table in ["connectors", "registrations", "revocations", "sealing_keys", "owners", "api_tokens", ""] {
            for column in ["sealed_grant", "canary", column] {
                let place = Place { table, column, row: &["id", "owner"] };
                let value = ring.seal(place, b"text".to_vec()).unwrap();
                assert_eq!(opened(&ring, &outside, &URL_SAFE_NO_PAD.encode(&value)), None, "{table} {column}");
                let value = URL_SAFE_NO_PAD.decode(sealed(&ring, &outside, "text")).unwrap();
                assert!(ring.open(place, &value).is_err(), "{table} {column}");
            }
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_neither_sealed_nor_opened() {
        let (ring, seal) = (ring(&[("a", 1)]), seal(&[]));
        let envelope = header("a").len() + 12 + 16;
        let longest = "x".repeat(MAX_CHARS / 4 * 3 - envelope);
        let sealed = sealed(&ring, &seal, &longest);
        assert_eq!(sealed.len(), MAX_CHARS);
        assert_eq!(opened(&ring, &seal, &sealed), Some(longest.clone()));
        assert_eq!(Sealer::seal(&ring, &seal, &format!("{longest}x")), Err(SealerError));
        // One that is as good as any, but for its length.
        let place = Place { table: NO_TABLE, column: seal.purpose.as_str(), row: &[] };
        let value = ring.seal(place, format!("{longest}x").into_bytes()).unwrap();
        assert_eq!(opened(&ring, &seal, &URL_SAFE_NO_PAD.encode(value)), None);
    }

    fn purpose() -> impl Strategy<Value = SealPurpose> {
        prop_oneof![Just(SealPurpose::McpSession), Just(SealPurpose::ConsoleSession), Just(SealPurpose::Login)]
    }

    /// Few and short parts, so that two lists are often of the same characters.
    fn any_seal() -> impl Strategy<Value = Seal> {
        (purpose(), vec("[ab]{0,2}", 0..4)).prop_map(|(purpose, bound_to)| Seal { purpose, bound_to })
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_with_an_equal_seal_alone(text in any::<String>(), one in any_seal(), other in any_seal()) {
            let ring = ring(&[("a", 1)]);
            let sealed = sealed(&ring, &one, &text);
            prop_assert_eq!(opened(&ring, &other, &sealed), (one == other).then(|| text.clone()));
            prop_assert_eq!(opened(&ring, &one, &sealed), Some(text));
        }

        #[test]
        fn nothing_that_was_changed_opens(at in any::<proptest::sample::Index>(), flip in 1_u8.., cut in any::<bool>()) {
            let (ring, seal) = (ring(&[("a", 1), ("b", 2)]), seal(&["owner"]));
            let mut value = URL_SAFE_NO_PAD.decode(sealed(&ring, &seal, "text")).unwrap();
            let at = at.index(value.len());
            if cut { value.truncate(at) } else { value[at] ^= flip }
            prop_assert_eq!(opened(&ring, &seal, &URL_SAFE_NO_PAD.encode(&value)), None);
        }

        #[test]
        fn nothing_that_was_made_up_opens(text in any::<String>(), bytes in vec(any::<u8>(), 0..80), known in any::<bool>()) {
            let (ring, seal) = (ring(&[("a", 1)]), seal(&[]));
            prop_assert_eq!(opened(&ring, &seal, &text), None);
            let value = if known { [header("a"), bytes].concat() } else { bytes };
            prop_assert_eq!(opened(&ring, &seal, &URL_SAFE_NO_PAD.encode(value)), None);
        }
    }
}
