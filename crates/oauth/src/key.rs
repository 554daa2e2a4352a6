//! Client assertions (RFC 7523, sections 2.2 and 3; OpenID Connect Core, section 9): the service proves who it is with a
//! key that never leaves it.
//!
//! They follow the revision of RFC 7523 that is under way: the issuer is the only audience, so that no other server can
//! use what it was shown, and the type says what they are for.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use connectors_domain::{Issuer, Secret};
use jiff::Timestamp;
use serde_json::{Value, json};
use thiserror::Error;

/// The algorithm's name in metadata and in assertions (RFC 7518, section 3.1).
pub(crate) const ALGORITHM: &str = "ES256";
/// What an assertion is posted as.
pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good, in seconds.
const LIFE: i64 = 60;

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it must be a P-256 key as PKCS#8 in PEM, which begins with BEGIN PRIVATE KEY")]
pub struct SigningKeyError;

/// The key with which the service signs client assertions: ECDSA on P-256 with SHA-256. Clones share it.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    pair: EcdsaKeyPair,
    x: String,
    y: String,
    /// The key's thumbprint (RFC 7638).
    id: String,
}

impl SigningKey {
    /// Reads a key as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` writes it.
    pub fn from_pem(pem: &Secret) -> Result<Self, SigningKeyError> {
        let (_, rest) = pem.expose().split_once("-----BEGIN PRIVATE KEY-----").ok_or(SigningKeyError)?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----").ok_or(SigningKeyError)?;
        let packed = Secret::new(body.split_ascii_whitespace().collect::<String>());
        let der = STANDARD.decode(packed.expose()).map_err(|_| SigningKeyError)?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| SigningKeyError)?;
        // An uncompressed point: one byte that says so, and the coordinates.
        let (Some(x), Some(y)) = (pair.public_key().as_ref().get(1..33), pair.public_key().as_ref().get(33..65)) else {
            return Err(SigningKeyError);
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        Ok(Self(Arc::new(Inner { pair, x, y, id })))
    }

    /// The public half as a set of keys (RFC 7517), for metadata documents and registrations.
    pub(crate) fn public_set(&self) -> Value {
        let Inner { x, y, id, .. } = &*self.0;
        json!({
            "keys": [
                { "kty": "EC", "crv": "P-256", "x": x, "y": y, "use": "sig", "alg": ALGORITHM, "kid": id },
            ],
        })
    }

    /// An assertion that the service is the client `client_id`, for one authorization server and a minute. `id` must be
    /// another one each time. `None` if signing fails.
    pub(crate) fn assertion(&self, client_id: &str, audience: &Issuer, now: Timestamp, id: &str) -> Option<Secret> {
        let header = json!({ "alg": ALGORITHM, "kid": self.0.id, "typ": "client-authentication+jwt" });
        let now = now.as_second();
        let claims = json!({
            "iss": client_id,
            "sub": client_id,
            "aud": audience.as_str(),
            "jti": id,
            "iat": now,
            "exp": now.saturating_add(LIFE),
        });
        let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.0.pair.sign(&SystemRandom::new(), signed.as_bytes()).ok()?;
        Some(Secret::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.0.id).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaSigningAlgorithm};

    use super::*;

    fn pem_of(algorithm: &'static EcdsaSigningAlgorithm) -> String {
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(document))
    }

    /// A key that nobody else has.
    pub(crate) fn pem() -> Secret {
        Secret::new(pem_of(&ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    #[test]
    fn a_key_is_read_from_pem() {
        let pem = pem();
        let set = SigningKey::from_pem(&pem).unwrap().public_set();
        assert_eq!(set["keys"][0]["kid"].as_str().unwrap().len(), 43);
        assert!(set["keys"][0].get("d").is_none());
        let windows = pem.expose().replace('\n', "\r\n");
        assert_eq!(SigningKey::from_pem(&Secret::new(windows)).unwrap().public_set(), set);
    }

    #[test]
    fn anything_else_is_refused() {
        let begin = "-----BEGIN PRIVATE KEY-----";
        for text in [
            String::new(),
            begin.to_owned(),
            format!("{begin}\n-----END PRIVATE KEY-----"),
            format!("{begin}\nAAAA\n-----END PRIVATE KEY-----"),
            format!("{begin}\n~\n-----END PRIVATE KEY-----"),
            pem().expose().replace("PRIVATE", "EC PRIVATE"),
            pem_of(&ECDSA_P384_SHA384_FIXED_SIGNING),
        ] {
            assert_eq!(SigningKey::from_pem(&Secret::new(text.clone())).err(), Some(SigningKeyError), "{text}");
        }
    }
}
