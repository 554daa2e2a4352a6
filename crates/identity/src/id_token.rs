//! ID tokens (OpenID Connect Core 1.0, section 3.1.3.7), verified by the OpenID Connect library.
//!
//! Beyond what that does by itself: only the configured algorithms, only keys that would do for access tokens, a time of
//! issue that is not in the future, and `azp`, which the library leaves to its users.

use std::sync::Arc;

use chrono::DateTime;
use connectors_application::ports::Clock;
use connectors_domain::{AccountName, Permissions, Principal};
use openidconnect::core::{CoreIdToken, CoreIdTokenClaims, CoreIdTokenVerifier, CoreJsonWebKey};
use openidconnect::{ClaimsVerificationError, ClientId, IssuerUrl, JsonWebKeySet, Nonce, SignatureVerificationError};

use crate::algorithm::Algorithm;
use crate::keys::KeySet;
use crate::person;

/// How far apart the clocks of the provider and of this machine may be, in seconds.
const LEEWAY: i64 = 30;

/// What an ID token must be.
pub(crate) struct Expected {
    pub(crate) issuer: IssuerUrl,
    pub(crate) client_id: ClientId,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why an ID token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdTokenError {
    /// The keys do not have the one that it was signed with; newer ones may.
    UnknownKey,
    /// It is not good, for a reason that holds nothing of it.
    Refused(&'static str),
}

impl Expected {
    /// The person whom an ID token speaks for. `nonce` is that of the login which it answers.
    pub(crate) fn person(&self, token: &CoreIdToken, keys: &KeySet, nonce: &Nonce) -> Result<Principal, IdTokenError> {
        let now = self.clock.now().as_second();
        // A public client verifies no symmetric signature, whether this one has a secret or not.
        let verifier = CoreIdTokenVerifier::new_public_client(self.client_id.clone(), self.issuer.clone(), set(keys))
            .set_allowed_algs(self.algorithms.iter().map(|algorithm| algorithm.for_id_tokens()))
            .set_time_fn(move || DateTime::from_timestamp(now.saturating_sub(LEEWAY), 0).unwrap_or_default())
            .set_issue_time_verifier_fn(move |issued| {
                let early = issued.timestamp() > now.saturating_add(LEEWAY);
                if early { Err("it is from the future".to_owned()) } else { Ok(()) }
            });
        let claims = token.claims(&verifier, nonce).map_err(|error| reason(&error))?;
        if claims.authorized_party().is_some_and(|party| *party != self.client_id) {
            return Err(IdTokenError::Refused("the ID token was issued to another client"));
        }
        let subject = claims.subject().as_str();
        let owner = person::owner(&self.issuer, subject);
        let owner = owner.ok_or(IdTokenError::Refused("the subject of the ID token is empty or too long"))?;
        Ok(Principal { owner, account: account(claims), permissions: Permissions::own() })
    }
}

/// The keys that this crate would verify with, for the library to verify with.
fn set(keys: &KeySet) -> JsonWebKeySet<CoreJsonWebKey> {
    JsonWebKeySet::new(keys.documents().filter_map(|key| serde_json::from_str(key).ok()).collect())
}

/// The library's own texts quote the token.
fn reason(error: &ClaimsVerificationError) -> IdTokenError {
    use ClaimsVerificationError as Claims;
    use SignatureVerificationError as Signature;
    IdTokenError::Refused(match error {
        Claims::SignatureVerification(Signature::NoMatchingKey) => return IdTokenError::UnknownKey,
        Claims::SignatureVerification(Signature::DisallowedAlg(_) | Signature::NoSignature) => {
            "the algorithm of the ID token is not one of those configured"
        }
        Claims::SignatureVerification(_) => "the signature of the ID token is wrong",
        Claims::Expired(_) => "the ID token has expired, or is from the future",
        Claims::InvalidAudience(_) => "the ID token is for another client",
        Claims::InvalidIssuer(_) => "the ID token is of another issuer",
        Claims::InvalidNonce(_) => "the ID token answers another login",
        _ => "the ID token cannot be used",
    })
}

fn account(claims: &CoreIdTokenClaims) -> AccountName {
    let username = claims.preferred_username().map(|name| name.as_str());
    let email = claims.email().map(|email| email.as_str());
    // The name that is in no language in particular.
    let name = claims.name().and_then(|names| names.get(None)).map(|name| name.as_str());
    let known = [username, email, name].into_iter().flatten().find(|name| !name.trim().is_empty());
    AccountName::new(known.unwrap_or(claims.subject().as_str()))
}
