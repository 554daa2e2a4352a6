//! Doors to this crate's parsers, for the fuzz targets. Only a build for fuzzing has them.

use connectors_domain::Principal;
use jiff::Timestamp;

use crate::Algorithm;
use crate::keys::KeySet;
use crate::token;

/// A token as far as it can be judged without its signature: for whom it speaks, for whom it is meant, and until when; or why
/// it is not good.
pub fn unverified(text: &str, now: Timestamp) -> Result<(Principal, Vec<String>, Timestamp), &'static str> {
    let claims = token::read(text, &Algorithm::ALL, now)?.into_claims();
    Ok((claims.principal, claims.audience, claims.until))
}

/// Whether a token is good by a set of keys.
pub fn verifies(text: &str, keys: &str, now: Timestamp) -> bool {
    let Some(keys) = KeySet::parse(keys) else { return false };
    token::read(text, &Algorithm::ALL, now).is_ok_and(|token| token.verify(&keys).is_ok())
}

/// How many keys of a set can be used.
pub fn keys(text: &str) -> usize {
    KeySet::parse(text).map_or(0, |keys| keys.documents().count())
}
