//! Keys that sign JWTs, and the tokens that they sign: also such as nobody honest would.

use std::sync::{Arc, OnceLock};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
        RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

/// The kinds of keys that issuers have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    /// RSA with 2048 bits.
    Rsa,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// Ed25519.
    Ed25519,
}

/// A key that signs JWTs. Clones are the same key.
#[derive(Clone, Debug)]
pub struct Key {
    id: String,
    kind: KeyKind,
    pair: Pair,
}

#[derive(Clone, Debug)]
enum Pair {
    Rsa(&'static RsaKeyPair),
    Ecdsa(Arc<EcdsaKeyPair>),
    Ed25519(Arc<Ed25519KeyPair>),
}

/// RSA keys take long to make, so a process has two of them.
static RSA: [OnceLock<RsaKeyPair>; 2] = [OnceLock::new(), OnceLock::new()];

#[expect(clippy::expect_used, reason = "a test stops where its own premises fail")]
impl Key {
    /// A key, whose `kid` is `id`. All of [`KeyKind::Rsa`] share one pair, the others have one each.
    ///
    /// # Panics
    ///
    /// If the machine has no randomness.
    pub fn new(kind: KeyKind, id: &str) -> Self {
        Self::from_pool(kind, id, 0)
    }

    /// A key of somebody else, whatever it is named: all of [`KeyKind::Rsa`] share another pair than those of
    /// [`Self::new`].
    ///
    /// # Panics
    ///
    /// If the machine has no randomness.
    pub fn of_somebody_else(kind: KeyKind, id: &str) -> Self {
        Self::from_pool(kind, id, 1)
    }

    fn from_pool(kind: KeyKind, id: &str, number: usize) -> Self {
        let ecdsa = |algorithm| Arc::new(EcdsaKeyPair::generate(algorithm).expect("an ECDSA key"));
        let pair = match kind {
            KeyKind::Rsa => Pair::Rsa(RSA[number].get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("RSA"))),
            KeyKind::P256 => Pair::Ecdsa(ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING)),
            KeyKind::P384 => Pair::Ecdsa(ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING)),
            KeyKind::Ed25519 => Pair::Ed25519(Arc::new(Ed25519KeyPair::generate().expect("an Ed25519 key"))),
        };
        Self { id: id.to_owned(), kind, pair }
    }

    /// `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What kind it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The algorithm that it signs with unless another is asked for.
    pub fn algorithm(&self) -> &'static str {
        match self.kind {
            KeyKind::Rsa => "RS256",
            KeyKind::P256 => "ES256",
            KeyKind::P384 => "ES384",
            KeyKind::Ed25519 => "EdDSA",
        }
    }

    /// The public half (RFC 7517), for signatures by whatever algorithm the kind allows.
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": encode(&n), "e": encode(&e) })
            }
            Pair::Ecdsa(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if self.kind == KeyKind::P256 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) })
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public half as `SubjectPublicKeyInfo` (RFC 5280) in DER.
    ///
    /// # Panics
    ///
    /// If the key cannot be encoded.
    pub fn public_der(&self) -> Vec<u8> {
        let der: Result<PublicKeyX509Der<'_>, _> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der(),
            Pair::Ecdsa(pair) => pair.public_key().as_der(),
            Pair::Ed25519(pair) => pair.public_key().as_der(),
        };
        der.expect("the public key in DER").as_ref().to_vec()
    }

    /// The same in PEM.
    pub fn public_pem(&self) -> String {
        let body = STANDARD.encode(self.public_der());
        let lines: Vec<_> = (0..body.len()).step_by(64).map(|at| &body[at..body.len().min(at + 64)]).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// A signature. An RSA key signs by the algorithm of this name, and with RS256 where it does not know it; the others
    /// know one algorithm only.
    ///
    /// # Panics
    ///
    /// If signing fails.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    _ => &RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).expect("an RSA signature");
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).expect("an ECDSA signature").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A JWT, signed by the algorithm that its header names; one by `none` has an empty signature.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        let algorithm = header["alg"].as_str().unwrap_or_default();
        self.token_of(algorithm, header.to_string(), claims.to_string())
    }

    /// The same of anything, whatever it says.
    pub fn token_of(&self, algorithm: &str, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = if algorithm == "none" { Vec::new() } else { self.sign(algorithm, message.as_bytes()) };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
