//! Client assertions (RFC 7523, section 3): signed by a key that the client has registered, for this server alone, good for
//! a short time and once.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    clients::{Client, seconds_since_1970},
    state::State,
};

/// What an assertion is posted as.
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The longest time for which an assertion may be good, in seconds.
const LONGEST: u64 = 300;

/// The client that an assertion says it is of. Whether that is true is for [`check`].
pub(super) fn subject(assertion: &str) -> Option<String> {
    part(assertion, 1)?["sub"].as_str().map(str::to_owned)
}

/// Checks everything; what is wrong, if something is.
pub(super) fn check(state: &mut State, issuer: &str, client: &Client, assertion: &str) -> Result<(), &'static str> {
    let header = part(assertion, 0).ok_or("the assertion has no header")?;
    let claims = part(assertion, 1).ok_or("the assertion has no claims")?;
    if header["alg"] != "ES256" || header["typ"] != "client-authentication+jwt" {
        return Err("the assertion is of another algorithm or type");
    }
    if !is_signed(client, &header, assertion).unwrap_or_default() {
        return Err("the assertion is not signed with a key of the client");
    }
    if claims["iss"] != client.id.as_str() || claims["sub"] != client.id.as_str() {
        return Err("the assertion is of another client");
    }
    if claims["aud"] != issuer {
        return Err("the assertion is for another server");
    }
    let now = seconds_since_1970(std::time::Duration::ZERO);
    let time = |name: &str| claims[name].as_u64().ok_or("the assertion lacks a time");
    let (begins, ends) = (time("iat")?, time("exp")?);
    // Clocks differ a little.
    if ends <= now || begins > now + 10 || ends > begins + LONGEST {
        return Err("the assertion is not good now, or good for too long");
    }
    match claims["jti"].as_str() {
        Some(id) if !id.is_empty() && state.assertions.insert(id.to_owned()) => Ok(()),
        _ => Err("the assertion has no id, or was used before"),
    }
}

fn part(assertion: &str, number: usize) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(assertion.split('.').nth(number)?).ok()?).ok()
}

fn is_signed(client: &Client, header: &Value, assertion: &str) -> Option<bool> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let keys = client.jwks.as_ref()?["keys"].as_array()?;
    let key = keys.iter().find(|key| key["kid"].is_string() && key["kid"] == header["kid"])?;
    if key["kty"] != "EC" || key["crv"] != "P-256" {
        return None;
    }
    let mut point = vec![4];
    for coordinate in ["x", "y"] {
        point.extend(URL_SAFE_NO_PAD.decode(key[coordinate].as_str()?).ok()?);
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    Some(key.verify(signed.as_bytes(), &signature).is_ok())
}
