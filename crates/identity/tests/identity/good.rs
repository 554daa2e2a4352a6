//! Tokens that are good, and what they say.

use connectors_application::ports::{Audience, Authenticated};
use connectors_domain::{OwnerId, Permission, Permissions};
use connectors_identity::Algorithm;
use connectors_testkit::identity_provider::{IdentityProvider, Key};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::{AUDIENCE, World, authenticator, cold, keys, warm};

async fn read(world: &World, change: impl FnOnce(&mut Value)) -> Authenticated {
    world.authenticate(&world.token_with(change)).await.unwrap()
}

fn remove(claims: &mut Value, name: &str) {
    claims.as_object_mut().unwrap().remove(name);
}

#[tokio::test]
async fn a_token_says_who_calls_what_they_may_and_for_whom_it_is() {
    let world = warm().await;
    let authenticated = world.authenticate(&world.token()).await.unwrap();
    assert_eq!(authenticated.principal.owner, OwnerId::derive(world.provider.issuer(), "alice"));
    assert_eq!(authenticated.principal.permissions, Permissions::own());
    assert_eq!(authenticated.principal.account.as_str(), "client");
    assert_eq!(authenticated.audience, Audience::Resources(vec![AUDIENCE.to_owned()]));
    let until = authenticated.until.unwrap();
    assert_eq!(
        until.duration_since(jiff::Timestamp::UNIX_EPOCH).as_secs(),
        1_767_225_600 + 300 + 30,
        "the leeway is part of it"
    );
}

#[tokio::test]
async fn every_algorithm_is_taken_from_a_key_of_its_kind() {
    let world = warm().await;
    for algorithm in Algorithm::ALL.map(Algorithm::as_str) {
        let kid = match algorithm {
            "ES256" => "p256",
            "ES384" => "p384",
            "EdDSA" => "ed25519",
            _ => "rsa",
        };
        let key = provider_key(&world.provider, kid);
        for typ in [None, Some("JWT"), Some("jwt"), Some("at+jwt"), Some("AT+JWT"), Some("application/at+jwt")] {
            let mut header = json!({ "alg": algorithm, "kid": kid });
            if let Some(typ) = typ {
                header["typ"] = typ.into();
            }
            let token = key.token(&header, &world.provider.claims(AUDIENCE));
            world.authenticate(&token).await.unwrap_or_else(|error| panic!("{algorithm}, {typ:?}: {error}"));
        }
    }
    assert_eq!(world.key_fetches(), 1);
}

fn provider_key(provider: &IdentityProvider, id: &str) -> Key {
    provider.keys().into_iter().find(|key| key.id() == id).unwrap()
}

#[tokio::test]
async fn a_token_needs_no_key_id_where_one_key_fits() {
    let world = warm().await;
    let key = provider_key(&world.provider, "p384");
    let token = key.token(&json!({ "alg": "ES384" }), &world.provider.claims(AUDIENCE));
    world.authenticate(&token).await.unwrap();

    world.provider.change(|settings| settings.keys.extend(keys()));
    world.clock.advance(std::time::Duration::from_mins(6));
    let token = key.token(&json!({ "alg": "ES384" }), &world.provider.claims(AUDIENCE));
    // The keys are fetched behind its back, so this one is judged by the old ones.
    world.authenticate(&token).await.unwrap();
    world.provider.wait_until_requests(4, crate::support::SOON).await.unwrap();
    while world.authenticate(&token).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.authenticate(&token).await.unwrap_err().to_string(), "several keys of its issuer fit");
}

#[tokio::test]
async fn scopes_are_read_in_all_their_spellings() {
    let world = warm().await;
    let read_only: Permissions = [Permission::Read].into_iter().collect();
    for (scope, scp, expected) in [
        (json!("connectors:read"), Value::Null, read_only),
        (json!("connectors:read"), json!("connectors:admin"), read_only),
        (Value::Null, json!("connectors:read other"), read_only),
        (Value::Null, json!(["connectors:read", "connectors:write connectors:proxy"]), Permissions::own()),
        (Value::Null, Value::Null, Permissions::default()),
        (json!(""), Value::Null, Permissions::default()),
        (json!("connectors:read\u{a0}connectors:admin connectors"), Value::Null, Permissions::default()),
    ] {
        let authenticated = read(&world, |claims| {
            remove(claims, "scope");
            for (name, value) in [("scope", &scope), ("scp", &scp)] {
                if !value.is_null() {
                    claims[name] = value.clone();
                }
            }
        })
        .await;
        assert_eq!(authenticated.principal.permissions, expected, "{scope} {scp}");
    }
}

#[tokio::test]
async fn an_account_is_named_by_the_first_claim_that_has_a_name() {
    let world = warm().await;
    // From the last resort to the first choice.
    let claims = [
        ("sub", "alice"),
        ("azp", "client-2"),
        ("client_id", "client-1"),
        ("name", "Alice A."),
        ("email", "a@example.com"),
        ("preferred_username", "ali"),
    ];
    for count in 1..=claims.len() {
        let authenticated = read(&world, |token| {
            remove(token, "client_id");
            for (name, value) in &claims[..count] {
                token[*name] = json!(value);
            }
        })
        .await;
        assert_eq!(authenticated.principal.account.as_str(), claims[count - 1].1);
    }
    let odd = read(&world, |claims| {
        claims["preferred_username"] = json!(" ");
        claims["email"] = json!(["a@example.com"]);
    })
    .await;
    assert_eq!(odd.principal.account.as_str(), "client");
}

#[tokio::test]
async fn an_audience_is_passed_on_as_it_stands() {
    let world = warm().await;
    let audience = ["https://connectors.example/", "https://CONNECTORS.example", "client"];
    let authenticated = read(&world, |claims| claims["aud"] = json!(audience)).await;
    assert_eq!(authenticated.audience, Audience::Resources(audience.map(str::to_owned).into()));
}

#[tokio::test]
async fn clocks_may_be_thirty_seconds_apart() {
    let world = warm().await;
    let now = 1_767_225_600;
    for (name, seconds, good) in [
        ("exp", json!(now - 29), true),
        ("exp", json!(now - 30), false),
        ("exp", json!(f64::from(now) - 29.5), true),
        ("nbf", json!(now + 30), true),
        ("nbf", json!(now + 31), false),
        ("iat", json!(now + 30), true),
        ("iat", json!(f64::from(now) + 30.5), false),
    ] {
        let token = world.token_with(|claims| claims[name] = seconds.clone());
        assert_eq!(world.authenticate(&token).await.is_ok(), good, "{name} {seconds}");
    }
    let fraction = read(&world, |claims| claims["exp"] = json!(f64::from(now) + 1.5)).await;
    let passed = fraction.until.unwrap().duration_since(jiff::Timestamp::from_second(now.into()).unwrap());
    assert_eq!(passed, SignedDuration::from_millis(31_500));
}

#[tokio::test]
async fn a_token_ends_with_its_time() {
    let world = warm().await;
    let token = world.token();
    world.authenticate(&token).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(329));
    world.authenticate(&token).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.authenticate(&token).await.unwrap_err().to_string(), "it has expired");
}

#[tokio::test]
async fn several_issuers_are_told_apart() {
    let world = cold().await;
    let other = IdentityProvider::builder().rfc_8414().issuer_path("/tenant").start().await.unwrap();
    let both = authenticator(&world.clock, &[&world.provider, &other]);
    both.warm().await;
    let world = World { authenticator: both, ..world };
    let ours = world.authenticate(&world.token()).await.unwrap();
    let mut claims = world.provider.claims(AUDIENCE);
    claims["iss"] = other.issuer().into();
    let theirs = world.authenticate(&other.issue(&claims)).await.unwrap();
    assert_ne!(ours.principal.owner, theirs.principal.owner);
}
