//! Keys of others, keys that are told in the token, and keys that no issuer should publish.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectors_testkit::identity_provider::{Behaviour, Endpoint, Key};
use serde_json::{Value, json};

use super::{Forge, Table};
use crate::support::{World, encoded};

pub(super) fn keys(forge: &Forge) -> Table {
    let mut table = Table::new();
    let mut add = |name: &str, token: String| table.push((name.to_owned(), token));
    let stranger = forge.attacker.key();
    let by_stranger = |header: Value| stranger.token(&header, &forge.claims);
    let header_with = |name: &str, value: Value| {
        let mut header = forge.header();
        header[name] = value;
        header
    };
    add("a stranger's key", by_stranger(forge.header()));
    add("the key of another issuer", forge.other.key().token(&forge.header(), &forge.claims));
    let mut claims = forge.claims.clone();
    claims["iss"] = forge.other.issuer().into();
    add("the issuer of another key", forge.rsa.token(&forge.header(), &claims));
    for (name, url) in [("jku", forge.attacker.jwks_uri()), ("x5u", forge.attacker.jwks_uri())] {
        add(&format!("{name} of an attacker"), by_stranger(header_with(name, url.clone().into())));
        let mut header = header_with(name, url.into());
        header["kid"] = "attacker".into();
        add(&format!("{name} of an attacker, and an unknown kid"), by_stranger(header));
    }
    add("the attacker's jwk", by_stranger(header_with("jwk", stranger.jwk())));
    let mut only = json!({ "alg": "RS256", "jwk": stranger.jwk() });
    add("the attacker's jwk, and no kid", by_stranger(only.take()));
    add("the attacker's x5c", by_stranger(header_with("x5c", json!([STANDARD.encode(stranger.public_der())]))));
    for kid in [
        "../../dev/null",
        "/dev/null",
        "file:///dev/null",
        "rsa\u{0}",
        "RSA",
        " rsa",
        "rsa' OR '1'='1",
        "rsa; DROP TABLE keys",
        "${jndi:ldap://127.0.0.1/a}",
        "",
        "*",
        "0",
    ] {
        add(&format!("kid {kid:?}"), forge.with_header("kid", kid));
    }
    add("kid that is a URL", forge.with_header("kid", forge.attacker.jwks_uri()));
    add("kid of 8,000 characters", forge.with_header("kid", "k".repeat(8_000)));
    for value in [json!(0), json!(null), json!(["rsa"]), json!({ "kid": "rsa" }), json!(true)] {
        add(&format!("kid {value}"), forge.with_header("kid", value));
    }
    for kid in ["enc", "sign", "ps256", "oaep", "private", "one"] {
        add(&format!("the published key {kid:?}"), forge.with_header("kid", kid));
    }
    add("a key on another curve", forge.p256.token(&json!({ "alg": "ES256", "kid": "wrong-curve" }), &forge.claims));
    let message = |header: &Value| format!("{}.{}", encoded(header.to_string()), encoded(forge.claims.to_string()));
    let symmetric = message(&json!({ "alg": "HS256", "kid": "oct" }));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"secret"), symmetric.as_bytes());
    add("a published symmetric key", format!("{symmetric}.{}", encoded(tag)));
    let low = message(&json!({ "alg": "EdDSA", "kid": "identity" }));
    add("a published key of small order", format!("{low}.{}", encoded([identity(), [0; 32]].concat())));
    let low = message(&json!({ "alg": "EdDSA", "kid": "ed25519" }));
    add("an EdDSA signature of the identity", format!("{low}.{}", encoded([identity(), [0; 32]].concat())));
    add("an EdDSA signature of zeros", format!("{low}.{}", encoded([0; 64])));
    for (alg, kid, length) in [("ES256", "p256", 64), ("ES384", "p384", 96)] {
        let message = message(&json!({ "alg": alg, "kid": kid }));
        for (name, byte) in [("zeros", 0), ("ones", 255)] {
            add(&format!("{alg} with r and s of {name}"), format!("{message}.{}", encoded(vec![byte; length])));
        }
    }
    let message = message(&json!({ "alg": "ES256", "kid": "p256" }));
    let fixed = forge.p256.sign("ES256", message.as_bytes());
    add("an ES256 signature in DER", format!("{message}.{}", encoded(der(&fixed))));
    add("an ES256 signature and a byte", format!("{message}.{}", encoded([&fixed[..], &[0]].concat())));
    table
}

/// Keys that no issuer should publish, beside the good ones.
pub(super) fn publish_bad_keys(world: &World, forge: &Forge) {
    let named = |key: &Key, id: &str, member: &str, value: Value| {
        let mut jwk = key.jwk();
        jwk["kid"] = id.into();
        jwk.as_object_mut().unwrap().remove("use");
        jwk[member] = value;
        jwk
    };
    let bad = [
        named(&forge.rsa, "enc", "use", json!("enc")),
        named(&forge.rsa, "sign", "key_ops", json!(["sign"])),
        named(&forge.rsa, "ps256", "alg", json!("PS256")),
        named(&forge.rsa, "oaep", "alg", json!("RSA-OAEP")),
        named(&forge.rsa, "private", "d", json!("AQAB")),
        named(&forge.p256, "wrong-curve", "crv", json!("P-384")),
        json!({ "kty": "oct", "kid": "oct", "k": encoded("secret") }),
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "identity", "x": encoded(identity()) }),
        json!({ "kty": "RSA", "kid": "one", "n": forge.rsa.jwk()["n"], "e": encoded([1]) }),
    ];
    world.provider.script(world.provider.on(
        Endpoint::Keys,
        Behaviour::alter(move |reply| {
            reply.edit_json(|set| set["keys"].as_array_mut().unwrap().extend(bad.iter().cloned()))
        }),
    ));
}

/// The neutral element of the group in its encoding. As a key it verifies the signature of the same and zero, of everything.
fn identity() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
}

/// `Ecdsa-Sig-Value` (RFC 3279) of a signature as JWTs have it.
fn der(fixed: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let digits: Vec<_> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = if digits[0] >= 0x80 { vec![0] } else { Vec::new() };
        let body = [sign, digits].concat();
        [vec![2, u8::try_from(body.len()).unwrap()], body].concat()
    };
    let (r, s) = fixed.split_at(fixed.len() / 2);
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, u8::try_from(body.len()).unwrap()], body].concat()
}
