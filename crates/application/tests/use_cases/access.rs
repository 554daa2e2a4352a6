//! Who may call: what becomes of credentials, good and bad, and how often each user may call.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connectors_application::ports::{
    Audience, AuthenticateError, Authenticated, Authenticator, Clock, MockAuthenticator,
};
use connectors_application::{Access, AccessConfig, ApiTokenService, Denied, Error, NewApiToken};
use connectors_domain::{AccountName, OwnerId, Permission, Permissions, Principal, Secret};
use connectors_testkit::{ManualClock, MemoryStore, SeededEntropy};
use jiff::{SignedDuration, Timestamp};

const PUBLIC: &str = "https://connectors.example.com";

fn alice() -> Principal {
    Principal {
        owner: OwnerId::derive("https://login.example.com", "alice"),
        account: AccountName::new("alice"),
        permissions: Permissions::own(),
    }
}

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_second(1_800_000_000).unwrap())
}

fn access(authenticator: MockAuthenticator, clock: &ManualClock) -> Access {
    let config = AccessConfig { administrators: true, audiences: vec![PUBLIC.to_owned()], requests_per_second: None };
    Access::new(Some(Arc::new(authenticator)), Arc::new(clock.clone()), config)
}

/// An authenticator that knows the token "good", and counts how often it is asked.
fn knows(audience: Audience, until: Option<Timestamp>) -> (MockAuthenticator, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let mut authenticator = MockAuthenticator::new();
    authenticator.expect_authenticate().returning(move |bearer| {
        counted.fetch_add(1, Ordering::SeqCst);
        match bearer.expose() {
            "good" => Ok(Authenticated { principal: alice(), audience: audience.clone(), until }),
            "later" => Err(AuthenticateError::Unavailable("nobody is there")),
            _ => Err(AuthenticateError::Invalid("it is unknown")),
        }
    });
    (authenticator, asked)
}

async fn present(access: &Access, bearer: &str) -> Result<Principal, Denied> {
    access.authenticate(Some(&Secret::new(bearer)), || format!("{PUBLIC}/one/mcp")).await
}

#[tokio::test]
async fn without_an_authenticator_everybody_is_the_local_user() {
    let config = AccessConfig { administrators: true, audiences: Vec::new(), requests_per_second: None };
    let access = Access::new(None, Arc::new(clock()), config);
    assert!(!access.is_closed());
    assert_eq!(access.authenticate(None, String::new).await, Ok(Principal::local()));
    assert_eq!(present(&access, "whatever").await, Ok(Principal::local()));
}

#[tokio::test]
async fn what_is_good_is_remembered_and_what_is_not_never() {
    let (authenticator, asked) = knows(Audience::Service, None);
    let access = access(authenticator, &clock());
    assert_eq!(access.authenticate(None, String::new).await, Err(Denied::Unauthenticated));
    for _ in 0..3 {
        assert_eq!(present(&access, "good").await, Ok(alice()));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    for _ in 0..3 {
        assert_eq!(present(&access, "goo").await, Err(Denied::Unauthenticated));
        assert_eq!(present(&access, "later").await, Err(Denied::Unavailable));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 7);
}

#[tokio::test]
async fn what_is_remembered_ends_with_the_credential() {
    let clock = clock();
    let end = clock.now() + SignedDuration::from_secs(5);
    let (authenticator, asked) = knows(Audience::Service, Some(end));
    let access = access(authenticator, &clock);
    assert_eq!(present(&access, "good").await, Ok(alice()));
    clock.advance(Duration::from_micros(4_999_999));
    assert_eq!(present(&access, "good").await, Ok(alice()));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    clock.advance(Duration::from_micros(1));
    for _ in 0..2 {
        assert_eq!(present(&access, "good").await, Err(Denied::Unauthenticated));
    }
}

#[tokio::test]
async fn a_token_is_good_for_what_it_is_meant_for() {
    for (audience, accepted) in [
        (vec![PUBLIC], true),
        (vec!["https://other.example.com", PUBLIC], true),
        (vec!["https://connectors.example.com/one/mcp"], true),
        (vec!["https://connectors.example.com/two/mcp"], false),
        (vec!["https://connectors.example.com/one"], false),
        (vec!["https://connectors.example.com/"], false),
        (vec!["HTTPS://connectors.example.com"], false),
        (vec!["https://connectors.example.com.evil.example"], false),
        (vec![""], false),
        (vec![], false),
    ] {
        let resources = Audience::Resources(audience.iter().map(|&text| text.to_owned()).collect());
        let access = access(knows(resources, None).0, &clock());
        for _ in 0..2 {
            assert_eq!(present(&access, "good").await.is_ok(), accepted, "{audience:?}");
        }
    }
}

#[tokio::test]
async fn nobody_becomes_an_administrator_by_a_scope_that_is_not_believed() {
    for (administrators, expected) in [(true, Permissions::all()), (false, Permissions::own())] {
        let mut authenticator = MockAuthenticator::new();
        authenticator.expect_authenticate().returning(|_| {
            let principal = Principal { permissions: Permissions::all(), ..alice() };
            Ok(Authenticated { principal, audience: Audience::Service, until: None })
        });
        let config = AccessConfig { audiences: Vec::new(), administrators, requests_per_second: None };
        let access = Access::new(Some(Arc::new(authenticator)), Arc::new(clock()), config);
        assert_eq!(present(&access, "good").await.unwrap().permissions, expected);
    }
}

#[tokio::test]
async fn one_user_s_calls_do_not_use_up_another_s() {
    let config = AccessConfig { administrators: true, audiences: Vec::new(), requests_per_second: NonZeroU32::new(5) };
    let access = Access::new(None, Arc::new(clock()), config);
    for _ in 0..5 {
        assert_eq!(access.admit(alice().owner), Ok(()));
    }
    let Err(Denied::TooManyRequests { retry_after }) = access.admit(alice().owner) else { panic!("a sixth call") };
    assert!(retry_after <= Duration::from_millis(200), "{retry_after:?}");
    assert_eq!(access.admit(OwnerId::local()), Ok(()));
}

fn tokens(clock: &ManualClock) -> ApiTokenService {
    let store = Arc::new(MemoryStore::with_clock(clock.clone()));
    ApiTokenService::new(store, Arc::new(clock.clone()), Arc::new(SeededEntropy::new(7)))
}

fn new(label: &str, lifetime: Option<Duration>) -> NewApiToken {
    NewApiToken { label: label.to_owned(), principal: alice(), lifetime }
}

#[tokio::test]
async fn an_api_token_is_good_until_it_ends_or_is_taken_back() {
    let clock = clock();
    let tokens = tokens(&clock);
    let (bearer, token) = tokens.create(new(" laptop ", Some(Duration::from_mins(1)))).await.unwrap();
    let (other, _) = tokens.create(new("laptop", None)).await.unwrap();
    assert_ne!(bearer, other);
    assert_eq!((bearer.expose().len(), token.label.as_str()), ("connectors_".len() + 64, "laptop"));

    let good = Authenticated { principal: alice(), audience: Audience::Service, until: token.expires_at };
    assert_eq!(tokens.authenticate(&bearer).await, Ok(good));
    let text = bearer.expose();
    for made_up in
        [&text[..text.len() - 1], &format!("{text}0"), &text.to_uppercase(), "connectors_", "", &token.id.to_string()]
    {
        assert!(
            matches!(tokens.authenticate(&Secret::new(made_up)).await, Err(AuthenticateError::Invalid(_))),
            "{made_up}"
        );
    }
    clock.advance(Duration::from_mins(1));
    assert!(matches!(tokens.authenticate(&bearer).await, Err(AuthenticateError::Invalid(_))));

    let listed = tokens.list().await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(tokens.authenticate(&other).await.is_ok());
    assert!(tokens.revoke(listed[1].id).await.unwrap());
    assert!(matches!(tokens.authenticate(&other).await, Err(AuthenticateError::Invalid(_))));
    assert!(!tokens.revoke(listed[1].id).await.unwrap());
}

#[tokio::test]
async fn an_api_token_has_a_label_and_allows_something() {
    let tokens = tokens(&clock());
    for label in ["", " ", "a\nb", &"x".repeat(101)] {
        assert!(
            matches!(tokens.create(new(label, None)).await, Err(Error::Unprocessable { field: "label", .. })),
            "{label:?}"
        );
    }
    tokens.create(new(&"x".repeat(100), None)).await.unwrap();
    let principal = Principal { permissions: Permissions::default(), ..alice() };
    let nothing = NewApiToken { principal, ..new("a", None) };
    assert!(matches!(tokens.create(nothing).await, Err(Error::Unprocessable { field: "scope", .. })));
    let principal = Principal { permissions: [Permission::Proxy].into_iter().collect(), ..alice() };
    let (bearer, _) = tokens.create(NewApiToken { principal: principal.clone(), ..new("a", None) }).await.unwrap();
    assert_eq!(tokens.authenticate(&bearer).await.unwrap().principal, principal);
}
