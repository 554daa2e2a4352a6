//! Who asks an issuer for its keys, how often, and what goes on meanwhile.

use std::time::Duration;

use connectors_application::ports::AuthenticateError;
use connectors_testkit::identity_provider::{Behaviour, Endpoint, Hold, IdentityProvider, Key, KeyKind, Reply};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{AUDIENCE, SOON, World, authenticator, cold, is_invalid, provider, warm};

/// A little longer than the cool-down.
const COOLED: Duration = Duration::from_secs(11);
/// A little longer than keys are fresh.
const STALE: Duration = Duration::from_mins(6);

/// Waits until tokens of this key are judged otherwise than before.
async fn settled(world: &World, key: &Key, good: bool) {
    let deadline = std::time::Instant::now() + SOON;
    while world.authenticate(&world.token_by(key)).await.is_ok() != good {
        assert!(std::time::Instant::now() < deadline, "the keys do not change");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_thousand_unknown_keys_cause_one_fetch() {
    let world = warm().await;
    world.clock.advance(COOLED);
    let tokens: Vec<_> = (0..1_000).map(|number| world.token_naming(&format!("bogus-{number}"))).collect();
    let outcomes = join_all(tokens.iter().map(|token| world.authenticate(token))).await;
    for outcome in &outcomes {
        is_invalid(outcome, "an unknown key");
    }
    assert_eq!(world.key_fetches(), 2);
    assert_eq!(world.provider.requests_to(Endpoint::Metadata).len(), 2);

    let again = join_all(tokens.iter().map(|token| world.authenticate(token))).await;
    assert!(again.iter().all(Result::is_err));
    assert_eq!(world.key_fetches(), 2, "within the cool-down there is no other");
    world.authenticate(&world.token()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_key_is_refused_at_once_within_the_cool_down() {
    let world = warm().await;
    let outcome = world.authenticate(&world.token_naming("bogus")).now_or_never().expect("without waiting");
    is_invalid(&outcome, "an unknown key");
    assert_eq!(world.key_fetches(), 1);
}

#[tokio::test]
async fn the_cool_down_counts_from_before_the_fetch_and_whatever_comes_of_it() {
    let world = warm().await;
    world.provider.script(world.provider.on(Endpoint::Metadata, Behaviour::status(500)));
    world.clock.advance(COOLED);
    for number in 0..10 {
        is_invalid(&world.authenticate(&world.token_naming(&format!("bogus-{number}"))).await, "an unknown key");
    }
    assert_eq!(world.provider.requests_to(Endpoint::Metadata).len(), 2);
    assert_eq!(world.key_fetches(), 1);
}

#[tokio::test]
async fn the_first_callers_share_one_fetch() {
    let world = cold().await;
    let hold = Hold::new();
    world.provider.script(world.provider.on(Endpoint::Keys, Behaviour::held(&hold)));
    let token = world.token();
    let release = async {
        world.provider.wait_until_requests(2, SOON).await.unwrap();
        hold.release();
    };
    let (outcomes, ()) = tokio::join!(join_all((0..100).map(|_| world.authenticate(&token))), release);
    for outcome in outcomes {
        outcome.unwrap();
    }
    assert_eq!(world.key_fetches(), 1);
}

#[tokio::test]
async fn a_fetch_goes_on_when_its_caller_goes_away() {
    let world = cold().await;
    let hold = Hold::new();
    world.provider.script(world.provider.on(Endpoint::Keys, Behaviour::held(&hold)));
    let token = world.token();
    tokio::select! {
        outcome = world.authenticate(&token) => panic!("{outcome:?}"),
        arrived = world.provider.wait_until_requests(2, SOON) => { arrived.unwrap(); }
    }
    hold.release();
    world.authenticate(&token).await.unwrap();
    assert_eq!(world.key_fetches(), 1);
}

#[tokio::test]
async fn known_keys_outlive_an_issuer_that_is_down() {
    let world = warm().await;
    for behaviour in [Behaviour::close(), Behaviour::reset(), Behaviour::status(503), Behaviour::status(404)] {
        world.provider.script(vec![
            world.provider.on(Endpoint::Metadata, behaviour.clone()),
            world.provider.on(Endpoint::Keys, behaviour),
        ]);
        for _ in 0..3 {
            world.clock.advance(Duration::from_hours(24));
            world.authenticate(&world.token()).await.unwrap();
            is_invalid(&world.authenticate(&world.token_naming("bogus")).await, "an unknown key");
        }
    }
}

#[tokio::test]
async fn a_set_without_a_usable_key_replaces_nothing_and_cools_down_like_any() {
    let none = [
        json!({ "keys": [] }),
        json!({}),
        json!([]),
        json!({ "keys": {} }),
        json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0" }, { "kty": "RSA", "n": "AQAB", "e": "AQAB" }, null, 1] }),
    ]
    .map(|set| Behaviour::from(Reply::json(set.to_string())));
    let garbage = [
        Behaviour::garbage(),
        Behaviour::invalid_json(),
        Behaviour::html("<h1>Maintenance</h1>"),
        Behaviour::status(200),
        Behaviour::gzip(),
        Behaviour::redirect(302, "http://127.0.0.1:1/jwks"),
        Behaviour::oversized(2 << 20),
        Behaviour::endless_json(),
        Behaviour::deep_json(100_000),
        Behaviour::endless_sse(Duration::from_millis(10)),
        Behaviour::from(Reply::json(&b"{\"keys\":[\xff]}"[..])),
    ];
    let world = warm().await;
    let mut fetches = 1;
    for (number, behaviour) in none.into_iter().chain(garbage).enumerate() {
        world.provider.script(world.provider.on(Endpoint::Keys, behaviour.clone()));
        world.clock.advance(STALE);
        for _ in 0..10 {
            is_invalid(&world.authenticate(&world.token_naming("bogus")).await, "an unknown key");
            world.authenticate(&world.token()).await.unwrap_or_else(|error| panic!("{number} {behaviour:?}: {error}"));
        }
        fetches += 1;
        assert_eq!(world.key_fetches(), fetches, "{number} {behaviour:?}");
    }
}

#[tokio::test]
async fn rotation_is_picked_up_at_once_and_drops_the_old_key() {
    let world = warm().await;
    let (old, new) = (world.provider.key(), Key::new(KeyKind::P256, "new"));
    world.provider.change(|settings| settings.keys = vec![new.clone()]);
    is_invalid(&world.authenticate(&world.token_by(&new)).await, "within the cool-down");
    world.clock.advance(COOLED);
    world.authenticate(&world.token_by(&old)).await.unwrap();
    let tokens: Vec<_> = (0..20).map(|_| world.token_by(&new)).collect();
    for outcome in join_all(tokens.iter().map(|token| world.authenticate(token))).await {
        outcome.unwrap();
    }
    is_invalid(&world.authenticate(&world.token_by(&old)).await, "a key that was withdrawn");
    assert_eq!(world.key_fetches(), 2);
}

#[tokio::test]
async fn old_keys_are_fetched_anew_behind_the_back_of_the_caller() {
    let world = warm().await;
    let hold = Hold::new();
    world.provider.script(world.provider.on(Endpoint::Keys, Behaviour::held(&hold)));
    let old = world.provider.key();
    world.provider.change(|settings| settings.keys = vec![Key::new(KeyKind::P256, "new")]);
    world.clock.advance(Duration::from_secs(299));
    let outcome = world.authenticate(&world.token_by(&old)).now_or_never();
    outcome.expect("without waiting").unwrap();
    assert_eq!(world.key_fetches(), 1, "fresh keys are not fetched");

    world.clock.advance(Duration::from_secs(1));
    let outcome = world.authenticate(&world.token_by(&old)).now_or_never();
    outcome.expect("without waiting").unwrap();
    world.provider.wait_until_requests(4, SOON).await.unwrap();
    let outcome = world.authenticate(&world.token_by(&old)).now_or_never();
    outcome.expect("without waiting, while they are being fetched").unwrap();
    hold.release();
    settled(&world, &old, false).await;
    assert_eq!(world.key_fetches(), 2);
}

#[tokio::test]
async fn a_slow_issuer_holds_up_only_those_who_need_newer_keys() {
    let world = warm().await;
    let hold = Hold::new();
    world.provider.script(world.provider.on(Endpoint::Keys, Behaviour::held(&hold)));
    world.clock.advance(COOLED);
    let new = Key::new(KeyKind::Ed25519, "new");
    world.provider.change(|settings| settings.keys.push(new.clone()));
    let (token, known) = (world.token_by(&new), world.token());
    let waiting = world.authenticate(&token);
    let meanwhile = async {
        world.provider.wait_until_requests(4, SOON).await.unwrap();
        for _ in 0..100 {
            world.authenticate(&known).now_or_never().expect("without waiting").unwrap();
        }
        hold.release();
    };
    let (outcome, ()) = tokio::join!(waiting, meanwhile);
    outcome.unwrap();
}

/// Time is not the machine's here: it leaps to whatever is waited for.
#[tokio::test]
async fn nobody_waits_longer_than_five_seconds_for_keys() {
    let world = cold().await;
    world.provider.script(world.provider.on(Endpoint::Metadata, Behaviour::hang()));
    let token = world.token();
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let outcomes = join_all((0..10).map(|_| world.authenticate(&token))).await;
    assert!(began.elapsed() <= Duration::from_secs(6), "{:?}", began.elapsed());
    for outcome in outcomes {
        assert!(matches!(outcome, Err(AuthenticateError::Unavailable(_))), "{outcome:?}");
    }
    world.authenticator.warm().await;
    assert!(began.elapsed() <= Duration::from_secs(12), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_issuer_that_was_never_reached_makes_tokens_unknowable_and_not_invalid() {
    let world = cold().await;
    world.provider.script(world.provider.on(Endpoint::Keys, Behaviour::status(503)));
    world.authenticator.warm().await;
    let outcome = world.authenticate(&world.token()).await;
    assert!(matches!(outcome, Err(AuthenticateError::Unavailable(_))), "{outcome:?}");
    is_invalid(&world.authenticate("x.y.z").await, "what is no token is invalid all the same");
    assert_eq!(world.key_fetches(), 1, "within the cool-down nobody tries again");
    world.provider.behave();
    world.clock.advance(COOLED);
    world.authenticate(&world.token()).await.unwrap();
}

#[tokio::test]
async fn a_token_of_an_unknown_issuer_or_of_no_use_causes_no_fetch() {
    let world = cold().await;
    let stranger = provider(&world.clock).await;
    is_invalid(&world.authenticate(&stranger.issue(&stranger.claims(AUDIENCE))).await, "an unknown issuer");
    is_invalid(&world.authenticate(&world.token_with(|claims| claims["exp"] = json!(1))).await, "an expired token");
    is_invalid(&world.authenticate(&world.token_with(|claims| claims["nonce"] = json!("n"))).await, "an ID token");
    assert_eq!(world.provider.requests().len() + stranger.requests().len(), 0);
}

#[tokio::test]
async fn one_issuer_that_is_down_does_not_hold_up_another() {
    let world = cold().await;
    let other = provider(&world.clock).await;
    other.script(other.on(Endpoint::Metadata, Behaviour::hang()));
    let both = authenticator(&world.clock, &[&other, &world.provider]);
    let world = World { authenticator: both, ..world };
    let (token, known) = (other.issue(&other.claims(AUDIENCE)), world.token());
    tokio::select! {
        outcome = world.authenticate(&token) => panic!("{outcome:?}"),
        outcome = world.authenticate(&known) => { outcome.unwrap(); }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_stops_no_fetch() {
    let world = warm().await;
    let start = connectors_application::ports::Clock::now(&world.clock);
    world.clock.set(start - jiff::SignedDuration::from_hours(24));
    let new = Key::new(KeyKind::P384, "new");
    world.provider.change(|settings| settings.keys.push(new.clone()));
    world.authenticate(&world.token_by(&new)).await.unwrap();
}

#[tokio::test]
async fn no_more_than_a_hundred_keys_are_kept() {
    let builder = IdentityProvider::builder();
    let many: Vec<_> = (0..150).map(|number| Key::new(KeyKind::Ed25519, &format!("key-{number}"))).collect();
    let provider = many.iter().cloned().fold(builder, connectors_testkit::identity_provider::Builder::key);
    let clock = connectors_testkit::ManualClock::default();
    let provider = provider.clock(std::sync::Arc::new(clock.clone())).start().await.unwrap();
    let authenticator = authenticator(&clock, &[&provider]);
    let world = World { provider, authenticator, clock };
    for (number, good) in [(0, true), (99, true), (100, false), (149, false)] {
        assert_eq!(world.authenticate(&world.token_by(&many[number])).await.is_ok(), good, "{number}");
    }
}
