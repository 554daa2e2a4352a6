//! What an issuer publishes about itself, and what the operator says about issuers.

use std::sync::Arc;

use connectors_application::ports::{AuthenticateError, Clock};
use connectors_egress::{Egress, Limits, Policy, Refusal};
use connectors_identity::{Algorithm, ConfigError, JwtAuthenticator, JwtConfig};
use connectors_testkit::ManualClock;
use connectors_testkit::identity_provider::{Endpoint, IdentityProvider};
use serde_json::json;

use crate::support::{AUDIENCE, World, authenticator, cold, egress, warm};

#[tokio::test]
async fn metadata_are_those_of_the_issuer_to_the_letter() {
    for change in ["/", "x", "?", "#"] {
        let world = cold().await;
        let other = format!("{}{change}", world.provider.issuer());
        world.provider.change(|settings| settings.metadata = [("issuer".to_owned(), Some(json!(other)))].into());
        let outcome = world.authenticate(&world.token()).await;
        assert!(matches!(outcome, Err(AuthenticateError::Unavailable(_))), "{change}: {outcome:?}");
        assert_eq!(world.key_fetches(), 0, "{change}");
    }
}

#[tokio::test]
async fn metadata_without_usable_keys_are_of_no_use() {
    for uri in [
        None,
        Some(json!(null)),
        Some(json!(7)),
        Some(json!("")),
        Some(json!("file:///etc/passwd")),
        Some(json!("http://192.0.2.1/jwks")),
        Some(json!("http://169.254.169.254/latest/meta-data")),
        Some(json!("https://user:password@idp.example/jwks")),
    ] {
        let world = cold().await;
        world.provider.change(|settings| settings.metadata = [("jwks_uri".to_owned(), uri.clone())].into());
        let outcome = world.authenticate(&world.token()).await;
        assert!(matches!(outcome, Err(AuthenticateError::Unavailable(_))), "{uri:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn metadata_are_found_where_rfc_8414_has_them() {
    let clock = ManualClock::default();
    let builder = IdentityProvider::builder().rfc_8414().issuer_path("/realms/one").clock(Arc::new(clock.clone()));
    let provider = builder.start().await.unwrap();
    let authenticator = authenticator(&clock, &[&provider]);
    let world = World { provider, authenticator, clock };
    world.authenticate(&world.token()).await.unwrap();
    assert_eq!(world.provider.requests_to(Endpoint::Metadata).len(), 2);
}

#[tokio::test]
async fn only_the_configured_algorithms_are_taken() {
    let world = warm().await;
    let config = JwtConfig { issuers: vec![world.provider.issuer().to_owned()], algorithms: vec![Algorithm::Es256] };
    let strict = JwtAuthenticator::new(&egress(), Arc::new(world.clock.clone()), config).unwrap();
    let world = World { authenticator: strict, ..world };
    let own = world.provider.keys();
    for key in own {
        assert_eq!(world.authenticate(&world.token_by(&key)).await.is_ok(), key.algorithm() == "ES256");
    }
    let pss = world.provider.key().token(&json!({ "alg": "PS256", "kid": "rsa" }), &world.provider.claims(AUDIENCE));
    assert!(world.authenticate(&pss).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_when_it_is_said() {
    let strict = Egress::new(&Policy::default(), &Limits::default(), None).unwrap();
    let made = |issuers: &[&str], algorithms: Vec<Algorithm>| {
        let issuers = issuers.iter().map(|&issuer| issuer.to_owned()).collect();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        JwtAuthenticator::new(&strict, clock, JwtConfig { issuers, algorithms }).map(|_| ())
    };
    let all = || Algorithm::ALL.to_vec();
    assert_eq!(made(&["https://idp.example/realms/one"], all()), Ok(()));
    assert_eq!(made(&[], all()), Err(ConfigError::NoIssuer));
    assert_eq!(made(&["https://idp.example"], Vec::new()), Err(ConfigError::NoAlgorithm));
    for issuer in [
        "",
        "idp.example",
        "https://",
        "https://idp.example/?a=b",
        "https://idp.example/?",
        "https://idp.example/#a",
        " https://idp.example",
        "https://idp.example\n",
        "https:\\\\idp.example",
    ] {
        assert_eq!(made(&["https://idp.example", issuer], all()), Err(ConfigError::Issuer), "{issuer:?}");
    }
    for (issuer, refusal) in [
        ("http://idp.example", Refusal::PlainHttp),
        ("https://127.0.0.1", Refusal::NotPublic),
        ("ftp://idp.example", Refusal::Scheme),
        ("https://user@idp.example", Refusal::Credentials),
    ] {
        assert_eq!(made(&[issuer], all()), Err(ConfigError::Refused(refusal)), "{issuer}");
    }
}
