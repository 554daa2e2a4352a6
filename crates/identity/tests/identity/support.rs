//! Short forms.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_application::ports::{AuthenticateError, Authenticated, Authenticator as _};
use connectors_domain::Secret;
use connectors_egress::{Egress, Limits, Policy};
use connectors_identity::{Algorithm, JwtAuthenticator, JwtConfig};
use connectors_testkit::ManualClock;
use connectors_testkit::identity_provider::{Endpoint, IdentityProvider, Key, KeyKind};
use serde_json::{Value, json};

/// For whom the tokens are.
pub(crate) const AUDIENCE: &str = "https://connectors.example/api/v1";
/// How long something may take that is under way.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A provider with keys of every kind, somebody who takes its tokens, and the time that both go by.
pub(crate) struct World {
    pub(crate) provider: IdentityProvider,
    pub(crate) authenticator: JwtAuthenticator,
    pub(crate) clock: ManualClock,
}

pub(crate) fn egress() -> Egress {
    let policy = Policy { loopback: true, ..Policy::default() };
    Egress::new(&policy, &Limits::default(), None).unwrap()
}

/// Keys of every kind, each named after its kind.
pub(crate) fn keys() -> Vec<Key> {
    [("rsa", KeyKind::Rsa), ("p256", KeyKind::P256), ("p384", KeyKind::P384), ("ed25519", KeyKind::Ed25519)]
        .map(|(name, kind)| Key::new(kind, name))
        .into()
}

pub(crate) async fn provider(clock: &ManualClock) -> IdentityProvider {
    let builder = IdentityProvider::builder().clock(Arc::new(clock.clone())).issuer_path("/realms/one");
    keys().into_iter().fold(builder, connectors_testkit::identity_provider::Builder::key).start().await.unwrap()
}

pub(crate) fn authenticator(clock: &ManualClock, issuers: &[&IdentityProvider]) -> JwtAuthenticator {
    let issuers = issuers.iter().map(|provider| provider.issuer().to_owned()).collect();
    let config = JwtConfig { issuers, algorithms: Algorithm::ALL.into() };
    JwtAuthenticator::new(&egress(), Arc::new(clock.clone()), config).unwrap()
}

/// A world in which nothing has been fetched yet.
pub(crate) async fn cold() -> World {
    let clock = ManualClock::default();
    let provider = provider(&clock).await;
    let authenticator = authenticator(&clock, &[&provider]);
    World { provider, authenticator, clock }
}

/// A world in which the keys are known.
pub(crate) async fn warm() -> World {
    let world = cold().await;
    world.authenticator.warm().await;
    assert_eq!(world.key_fetches(), 1);
    world
}

impl World {
    pub(crate) async fn authenticate(&self, token: &str) -> Result<Authenticated, AuthenticateError> {
        self.authenticator.authenticate(&Secret::new(token)).await
    }

    /// A good token, issued now.
    pub(crate) fn token(&self) -> String {
        self.provider.issue(&self.provider.claims(AUDIENCE))
    }

    /// A token that is good but for its claims.
    pub(crate) fn token_with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.provider.claims(AUDIENCE);
        change(&mut claims);
        self.provider.issue(&claims)
    }

    /// A token that is good if `key` is one of the provider's.
    pub(crate) fn token_by(&self, key: &Key) -> String {
        key.token(&json!({ "alg": key.algorithm(), "kid": key.id() }), &self.provider.claims(AUDIENCE))
    }

    /// A token that is good but that no key of that name is known.
    pub(crate) fn token_naming(&self, kid: &str) -> String {
        let key = self.provider.key();
        key.token(&json!({ "alg": key.algorithm(), "kid": kid }), &self.provider.claims(AUDIENCE))
    }

    /// How often the set of keys was asked for.
    pub(crate) fn key_fetches(&self) -> usize {
        self.provider.requests_to(Endpoint::Keys).len()
    }
}

pub(crate) fn encoded(part: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(part)
}

#[track_caller]
pub(crate) fn is_invalid(outcome: &Result<Authenticated, AuthenticateError>, what: &str) {
    assert!(matches!(outcome, Err(AuthenticateError::Invalid(_))), "{what}: {outcome:?}");
}
