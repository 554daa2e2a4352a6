//! Algorithms that are none, symmetric, swapped, or not those of the key.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::{Forge, Table};
use crate::support::encoded;

pub(super) fn algorithms(forge: &Forge) -> Table {
    let mut table = Table::new();
    let mut add = |name: String, token: String| table.push((name, token));
    for name in ["none", "None", "NONE", "nOnE", "none ", ""] {
        let mut header = forge.header();
        header["alg"] = name.into();
        let unsigned = format!("{}.{}.", encoded(header.to_string()), encoded(forge.claims.to_string()));
        add(format!("alg {name:?} without a signature"), unsigned.clone());
        add(format!("alg {name:?} with some signature"), format!("{unsigned}AAAA"));
        add(format!("alg {name:?} with a right signature"), forge.with_header("alg", name));
    }
    for key in [&forge.rsa, &forge.p256] {
        let jwk = key.jwk();
        let text = |member: &str| jwk[member].as_str().unwrap_or_default().to_owned();
        let secrets: [(&str, Vec<u8>); 8] = [
            ("PEM", key.public_pem().into_bytes()),
            ("PEM without the last line break", key.public_pem().trim_end().to_owned().into_bytes()),
            ("DER", key.public_der()),
            ("DER in base64", STANDARD.encode(key.public_der()).into_bytes()),
            ("the JWK", jwk.to_string().into_bytes()),
            ("n", text("n").into_bytes()),
            ("x", text("x").into_bytes()),
            ("nothing", Vec::new()),
        ];
        for (name, secret) in secrets {
            for (alg, algorithm) in
                [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
            {
                let header = json!({ "alg": alg, "kid": key.id() });
                let message = format!("{}.{}", encoded(header.to_string()), encoded(forge.claims.to_string()));
                let tag = hmac::sign(&hmac::Key::new(algorithm, &secret), message.as_bytes());
                add(format!("{alg} with {name} of {} for a secret", key.id()), format!("{message}.{}", encoded(tag)));
            }
        }
    }
    for (claimed, signed) in [("PS256", "RS256"), ("RS256", "PS256"), ("RS384", "RS256"), ("RS256", "RS512")] {
        let header = json!({ "alg": claimed, "kid": "rsa" }).to_string();
        let token = forge.rsa.token_of(signed, header, forge.claims.to_string());
        add(format!("{signed} that calls itself {claimed}"), token);
    }
    for (claimed, key) in [
        ("ES256", &forge.p384),
        ("ES384", &forge.p256),
        ("EdDSA", &forge.p256),
        ("ES256", &forge.ed25519),
        ("RS256", &forge.p256),
        ("ES256", &forge.rsa),
        ("ES512", &forge.p256),
        ("ES256K", &forge.p256),
        ("Ed25519", &forge.ed25519),
        ("rs256", &forge.rsa),
        ("RS256\u{0}", &forge.rsa),
    ] {
        add(
            format!("{claimed:?} with the key {}", key.id()),
            key.token(&json!({ "alg": claimed, "kid": key.id() }), &forge.claims),
        );
    }
    for value in [json!(null), json!(256), json!(["RS256"]), json!({ "RS256": true })] {
        add(format!("alg {value}"), forge.with_header("alg", value));
    }
    add(
        "no alg".to_owned(),
        forge.rsa.token_of("RS256", json!({ "kid": "rsa" }).to_string(), forge.claims.to_string()),
    );
    table
}
