//! Sets of public keys (RFC 7517), and which of them a token was signed with.
//!
//! A key that is of no use here is left out, and so is one that proves nothing: too weak, symmetric, for another purpose,
//! or with its private half beside it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::algorithm::Algorithm;
use crate::json::{Member, object, text, texts};

/// How many keys of a set are kept, the first ones.
const MAX_KEYS: usize = 100;
/// The shortest and the longest RSA modulus in bits: what RFC 7518, section 3.3, demands, and what verifies quickly.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The longest RSA exponent in bytes.
const MAX_EXPONENT: usize = 4;

/// The points of small order on Curve25519's Edwards form, in all their encodings but for the sign. Under such a key
/// everybody can sign.
const SMALL_ORDER: [[u8; 32]; 7] = [
    small(0x00, 0x00, 0x00),
    small(0x01, 0x00, 0x00),
    small(0xec, 0xff, 0x7f),
    small(0xed, 0xff, 0x7f),
    small(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// What an algorithm needs a key to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyType {
    /// RSA with 2048 bits or more.
    Rsa,
    /// A point on P-256.
    P256,
    /// A point on P-384.
    P384,
    /// A point on Curve25519 in its Edwards form.
    Ed25519,
}

/// The usable keys of a set, of which there is at least one.
#[derive(Debug)]
pub(crate) struct KeySet(Vec<Key>);

/// A public key that signatures are verified with.
#[derive(Debug)]
pub(crate) struct Key {
    id: Option<String>,
    kind: KeyType,
    /// The only algorithm that it is for, where it says so.
    algorithm: Option<Algorithm>,
    verifying: DecodingKey,
    document: Box<RawValue>,
}

/// Why no key of a set is the one that a token was signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The set does not know it; a newer one may.
    Unknown,
    /// No set can make that good.
    Unfit(&'static str),
}

#[derive(Deserialize)]
struct SetWire<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct KeyWire<'a> {
    #[serde(borrow)]
    kty: Member<'a>,
    #[serde(borrow, rename = "use")]
    usage: Member<'a>,
    #[serde(borrow)]
    key_ops: Member<'a>,
    #[serde(borrow)]
    alg: Member<'a>,
    #[serde(borrow)]
    kid: Member<'a>,
    #[serde(borrow)]
    crv: Member<'a>,
    #[serde(borrow)]
    n: Member<'a>,
    #[serde(borrow)]
    e: Member<'a>,
    #[serde(borrow)]
    x: Member<'a>,
    #[serde(borrow)]
    y: Member<'a>,
    #[serde(borrow)]
    d: Member<'a>,
}

impl KeySet {
    /// Reads a set; `None` if it has no key that can be used.
    pub(crate) fn parse(body: &str) -> Option<Self> {
        let wire: SetWire<'_> = object(body)?;
        let keys: Vec<_> = wire.keys.into_iter().filter_map(Key::read).take(MAX_KEYS).collect();
        if keys.is_empty() { None } else { Some(Self(keys)) }
    }

    /// The key for a signature by `algorithm`. `id` is compared with the ids of the keys, and is used for nothing else.
    ///
    /// Without an id there must be one key only that fits: if each of several were tried, a set with many keys would cost
    /// as many verifications for each token.
    pub(crate) fn choose(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Key, NoKey> {
        let named = || self.0.iter().filter(|key| id.is_none() || key.id.as_deref() == id);
        let mut fitting = named().filter(|key| key.fits(algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err(NoKey::Unfit("several keys of its issuer fit")),
            (None, _) if id.is_some() && named().next().is_some() => {
                Err(NoKey::Unfit("the key that it names is not for its algorithm"))
            }
            (None, _) => Err(NoKey::Unknown),
        }
    }

    /// The keys as their issuer wrote them.
    pub(crate) fn documents(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.document.get())
    }
}

impl Key {
    /// Whether this key signed `message`. The signature is in base64url.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        let algorithm = algorithm.for_access_tokens();
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.verifying, algorithm).unwrap_or(false)
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.key_type() && self.algorithm.is_none_or(|only| only == algorithm)
    }

    fn read(document: &RawValue) -> Option<Self> {
        let wire: KeyWire<'_> = object(document.get())?;
        let algorithm = match wire.alg {
            Some(_) => Some(text(wire.alg)?.parse().ok()?),
            None => None,
        };
        let id = match wire.kid {
            Some(_) => Some(text(wire.kid)?),
            None => None,
        };
        // RFC 7517, sections 4.2 and 4.3. A key whose private half is published is everybody's.
        let for_signatures = wire.usage.is_none() || text(wire.usage)? == "sig";
        let for_verifying =
            wire.key_ops.is_none() || texts(wire.key_ops)?.iter().any(|operation| operation == "verify");
        if !for_signatures || !for_verifying || wire.d.is_some() {
            return None;
        }
        let (kind, verifying) = match (text(wire.kty)?.as_str(), text(wire.crv).as_deref()) {
            ("RSA", _) => (KeyType::Rsa, rsa(&bytes(wire.n)?, &bytes(wire.e)?)?),
            ("EC", Some("P-256")) => (KeyType::P256, point(32, &bytes(wire.x)?, &bytes(wire.y)?)?),
            ("EC", Some("P-384")) => (KeyType::P384, point(48, &bytes(wire.x)?, &bytes(wire.y)?)?),
            ("OKP", Some("Ed25519")) => (KeyType::Ed25519, edwards(&bytes(wire.x)?)?),
            _ => return None,
        };
        Some(Self { id, kind, algorithm, verifying, document: document.to_owned() })
    }
}

/// The little-endian number whose lowest, middle and highest bytes are these.
const fn small(low: u8, middle: u8, high: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    bytes[0] = low;
    bytes[31] = high;
    bytes
}

fn bytes(member: Member<'_>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text(member)?).ok()
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Option<DecodingKey> {
    let (modulus, exponent) = (without_zeros(modulus), without_zeros(exponent));
    let bits = modulus.len() * 8 - usize::try_from(modulus.first()?.leading_zeros()).ok()?;
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    let usable = MODULUS_BITS.contains(&bits)
        && odd(modulus)
        && odd(exponent)
        && exponent.len() <= MAX_EXPONENT
        // With an exponent of 1 a signature is its own message.
        && exponent != [1];
    usable.then(|| DecodingKey::from_rsa_raw_components(modulus, exponent))
}

/// Some issuers write the zero byte that keeps a number positive elsewhere (RFC 7518, section 6.3.1.1, tells not to).
fn without_zeros(number: &[u8]) -> &[u8] {
    number.get(number.iter().take_while(|byte| **byte == 0).count()..).unwrap_or_default()
}

/// Whether the point is on the curve is told when it verifies.
fn point(size: usize, x: &[u8], y: &[u8]) -> Option<DecodingKey> {
    let uncompressed = 0x04;
    (x.len() == size && y.len() == size).then(|| DecodingKey::from_ec_der(&[&[uncompressed], x, y].concat()))
}

fn edwards(encoded: &[u8]) -> Option<DecodingKey> {
    let mut unsigned: [u8; 32] = encoded.try_into().ok()?;
    unsigned[31] &= 0x7f;
    (!SMALL_ORDER.contains(&unsigned)).then(|| DecodingKey::from_ed_der(encoded))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn set(keys: &Value) -> Option<KeySet> {
        KeySet::parse(&json!({ "keys": keys }).to_string())
    }

    fn is_usable(key: &Value) -> bool {
        set(&json!([key])).is_some()
    }

    /// An RSA key whose modulus has so many bits.
    fn with_bits(bits: usize) -> Value {
        let mut modulus = vec![0xff; bits.div_ceil(8)];
        modulus[0] >>= (8 - bits % 8) % 8;
        json!({ "kty": "RSA", "n": encoded(&modulus), "e": "AQAB" })
    }

    #[test]
    fn an_rsa_key_is_neither_weak_nor_huge() {
        for (bits, usable) in
            [(512, false), (1024, false), (2047, false), (2048, true), (4096, true), (8192, true), (8193, false)]
        {
            assert_eq!(is_usable(&with_bits(bits)), usable, "{bits}");
        }
        for (exponent, usable) in [
            (&[1, 0, 1][..], true),
            (&[3], true),
            (&[0, 1, 0, 1], true),
            (&[1], false),
            (&[2], false),
            (&[0], false),
            (&[], false),
            (&[1, 0, 0, 0, 1], false),
        ] {
            let mut key = with_bits(2048);
            key["e"] = encoded(exponent).into();
            assert_eq!(is_usable(&key), usable, "{exponent:?}");
        }
        let mut even = vec![0xff; 256];
        even[255] = 0xfe;
        assert!(!is_usable(&json!({ "kty": "RSA", "n": encoded(&even), "e": "AQAB" })));
        let padded = [&[0][..], &[0xff; 256]].concat();
        assert!(is_usable(&json!({ "kty": "RSA", "n": encoded(&padded), "e": "AQAB" })));
        let weak = [&[0; 128][..], &[0xff; 128]].concat();
        assert!(!is_usable(&json!({ "kty": "RSA", "n": encoded(&weak), "e": "AQAB" })));
        for (n, e) in [("", "AQAB"), ("AA", "AQAB"), ("~", "AQAB")] {
            assert!(!is_usable(&json!({ "kty": "RSA", "n": n, "e": e })), "{n}");
        }
    }

    #[test]
    fn a_coordinate_has_the_length_of_its_curve() {
        for (curve, length, usable) in
            [("P-256", 32, true), ("P-256", 31, false), ("P-256", 48, false), ("P-384", 48, true), ("P-521", 66, false)]
        {
            let coordinate = encoded(&vec![7; length]);
            let key = json!({ "kty": "EC", "crv": curve, "x": coordinate, "y": coordinate });
            assert_eq!(is_usable(&key), usable, "{curve} {length}");
        }
        for (curve, length, usable) in [("Ed25519", 32, true), ("Ed25519", 31, false), ("X25519", 32, false)] {
            let key = json!({ "kty": "OKP", "crv": curve, "x": encoded(&vec![7; length]) });
            assert_eq!(is_usable(&key), usable, "{curve} {length}");
        }
    }

    #[test]
    fn everybody_can_sign_under_a_key_of_small_order_so_it_is_left_out() {
        for point in SMALL_ORDER {
            let mut negative = point;
            negative[31] |= 0x80;
            for encoding in [point, negative] {
                assert!(!is_usable(&json!({ "kty": "OKP", "crv": "Ed25519", "x": encoded(&encoding) })));
            }
        }
        // Without the private half: the neutral element for a nonce, and nothing beside it. What remains of the equation is
        // that the key, taken as often as the hash says, is the neutral element, and its order is at most 8.
        let signature = encoded(&[SMALL_ORDER[1], [0; 32]].concat());
        for canonical in [0, 1, 2, 5, 6] {
            let key = Key {
                id: None,
                kind: KeyType::Ed25519,
                algorithm: None,
                verifying: DecodingKey::from_ed_der(&SMALL_ORDER[canonical]),
                document: RawValue::from_string("{}".to_owned()).unwrap(),
            };
            let forged = (0..200).any(|message| key.verifies(Algorithm::EdDsa, &message.to_string(), &signature));
            assert!(forged, "{canonical}");
        }
    }

    #[test]
    fn the_other_keys_of_a_set_with_a_bad_one_are_kept() {
        let good = with_bits(2048);
        for bad in [json!(null), json!(1), json!({}), json!({ "kty": 1 }), json!({ "kty": "RSA", "kid": 1 })] {
            assert_eq!(set(&json!([bad, good])).unwrap().documents().count(), 1, "{bad}");
        }
        for (name, value) in [("use", json!("enc")), ("use", json!(1)), ("key_ops", json!([])), ("alg", json!("HS256"))]
        {
            let mut key = good.clone();
            key[name] = value;
            assert!(!is_usable(&key), "{key}");
        }
        let doubled = with_bits(2048).to_string().replacen('{', r#"{"kid":"a","kid":"b","#, 1);
        assert!(KeySet::parse(&format!(r#"{{"keys":[{doubled}]}}"#)).is_none());
    }

    #[test]
    fn two_keys_of_one_name_are_told_apart_by_what_they_are_for() {
        let coordinate = encoded(&[7; 32]);
        let mut keys = [
            with_bits(2048),
            json!({ "kty": "EC", "crv": "P-256", "x": coordinate, "y": coordinate }),
            with_bits(2048),
        ];
        for key in &mut keys {
            key["kid"] = "one".into();
        }
        keys[2]["alg"] = "PS512".into();
        let keys = set(&json!(keys)).unwrap();
        let chosen = |id, algorithm| keys.choose(id, algorithm).map(|key| key.kind);
        assert_eq!(chosen(Some("one"), Algorithm::Es256), Ok(KeyType::P256));
        assert_eq!(chosen(Some("one"), Algorithm::Rs256), Ok(KeyType::Rsa));
        assert_eq!(chosen(None, Algorithm::Rs256), Ok(KeyType::Rsa));
        assert!(matches!(chosen(Some("one"), Algorithm::Ps512), Err(NoKey::Unfit(_))));
        assert!(matches!(chosen(Some("one"), Algorithm::EdDsa), Err(NoKey::Unfit(_))));
        assert_eq!(chosen(Some("two"), Algorithm::Es256), Err(NoKey::Unknown));
        assert_eq!(chosen(None, Algorithm::EdDsa), Err(NoKey::Unknown));
    }
}
