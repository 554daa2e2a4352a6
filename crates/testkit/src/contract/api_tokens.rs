//! The contract of [`ApiTokens`](connectors_application::ports::ApiTokens). Each test begins with an empty store of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests fail by panics")]

use std::sync::Arc;

use connectors_application::ports::StoreError;
use connectors_domain::{AccountName, ApiToken, ApiTokenId, Permission, Permissions, Principal, Secret};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Subject;
use super::of::{connector, future, now, owner, past};

/// Makes a test of each part of the contract. `$make` names an async function that returns `Option<Subject>`; `None`
/// skips the test.
#[macro_export]
macro_rules! api_tokens_contract {
    ($make:path) => {
        $crate::contract_tests!(api_tokens, $make:
            a_token_is_found_by_its_bearer_alone,
            a_token_gives_what_it_was_made_with,
            a_token_that_has_ended_is_found_still,
            a_bearer_stands_for_one_token,
            tokens_are_listed_oldest_first,
            two_tokens_may_be_called_the_same,
            a_removed_token_is_gone,
            of_many_that_remove_a_token_one_has_done_it,
            an_owner_of_a_token_need_not_have_connectors,
        );
    };
}

/// Not by anything that is nearly it.
pub async fn a_token_is_found_by_its_bearer_alone(subject: &Subject) {
    let token = insert(subject, 1).await;
    insert(subject, 2).await;
    let bearer = bearer(1);
    assert_eq!(find(subject, bearer.expose()).await, Some(token));
    let text = bearer.expose();
    for index in 0..text.len() {
        let mut other = text.as_bytes().to_vec();
        other[index] ^= 1;
        assert_eq!(find(subject, std::str::from_utf8(&other).unwrap()).await, None, "character {index}");
    }
    let secret_part = text.strip_prefix(ApiToken::PREFIX).unwrap();
    let (short, long, capitals) = (&text[..text.len() - 1], format!("{text}0"), text.to_uppercase());
    for other in
        ["", ApiToken::PREFIX, secret_part, short, &long, &capitals, &format!(" {text}"), "%", "\0", "\u{fffd}"]
    {
        assert_eq!(find(subject, other).await, None, "{other:?}");
    }
}

/// Each set of permissions, and whatever label and account.
pub async fn a_token_gives_what_it_was_made_with(subject: &Subject) {
    let sets = (0..16_u32).map(|bits| -> Permissions {
        let all = Permission::ALL.into_iter().enumerate();
        all.filter(|(index, _)| bits & (1 << index) != 0).map(|(_, permission)| permission).collect()
    });
    for (number, permissions) in (1..).zip(sets) {
        let label = ["", "ci", "Ключ 🦀 \"'\\\n", &"x".repeat(1_000)][number as usize % 4].to_owned();
        let account = AccountName::new(["alice@example.com", "Алиса 🦀"][number as usize % 2]);
        let principal = Principal { owner: owner(number), account, permissions };
        let token = ApiToken { label, principal, ..token(number) };
        subject.api_tokens.insert(&bearer(number), token.clone()).await.unwrap();
        assert_eq!(find(subject, bearer(number).expose()).await, Some(token));
    }
}

/// Whoever asks says whether it has.
pub async fn a_token_that_has_ended_is_found_still(subject: &Subject) {
    for (number, expires_at) in [(1, Some(past(1))), (2, Some(future())), (3, None)] {
        let token = ApiToken { expires_at, ..token(number) };
        subject.api_tokens.insert(&bearer(number), token.clone()).await.unwrap();
        assert_eq!(find(subject, bearer(number).expose()).await, Some(token));
    }
    assert_eq!(subject.api_tokens.list().await.unwrap().len(), 3);
}

/// The one that came first.
pub async fn a_bearer_stands_for_one_token(subject: &Subject) {
    let first = insert(subject, 1).await;
    let again = subject.api_tokens.insert(&bearer(1), token(2)).await;
    assert!(matches!(again, Err(StoreError::Inconsistent(_))), "{again:?}");
    let same_id = subject.api_tokens.insert(&bearer(2), token(1)).await;
    assert!(matches!(same_id, Err(StoreError::Inconsistent(_))), "{same_id:?}");
    assert_eq!(subject.api_tokens.list().await.unwrap(), std::slice::from_ref(&first));
    assert_eq!(find(subject, bearer(1).expose()).await, Some(first));
    assert_eq!(find(subject, bearer(2).expose()).await, None);
}

/// Those of one moment in order of ids.
pub async fn tokens_are_listed_oldest_first(subject: &Subject) {
    assert_eq!(subject.api_tokens.list().await.unwrap(), []);
    let made = |number, age| ApiToken { created_at: past(age), ..token(number) };
    let all = [made(4, 1), made(3, 9), made(2, 5), made(0x9000_0000, 5), made(9, 5)];
    for (number, token) in (1..).zip(&all) {
        subject.api_tokens.insert(&bearer(number), token.clone()).await.unwrap();
    }
    let listed: Vec<_> = subject.api_tokens.list().await.unwrap().into_iter().map(|token| token.id).collect();
    assert_eq!(listed, [3_u32, 2, 9, 0x9000_0000, 4].map(id));
}

/// And removed one by one.
pub async fn two_tokens_may_be_called_the_same(subject: &Subject) {
    let (first, second) = (insert(subject, 1).await, insert(subject, 2).await);
    assert_eq!(first.label, second.label);
    assert_eq!(find(subject, bearer(2).expose()).await, Some(second.clone()));
    assert!(subject.api_tokens.remove(first.id).await.unwrap());
    assert_eq!(subject.api_tokens.list().await.unwrap(), [second]);
}

/// At once, and its bearer may not come back.
pub async fn a_removed_token_is_gone(subject: &Subject) {
    let (first, second) = (insert(subject, 1).await, insert(subject, 2).await);
    assert!(!subject.api_tokens.remove(id(9)).await.unwrap());
    assert!(subject.api_tokens.remove(first.id).await.unwrap());
    assert!(!subject.api_tokens.remove(first.id).await.unwrap());
    assert_eq!(find(subject, bearer(1).expose()).await, None);
    assert_eq!(find(subject, bearer(2).expose()).await, Some(second));
}

/// The others are told that there was none.
pub async fn of_many_that_remove_a_token_one_has_done_it(subject: &Subject) {
    let token = insert(subject, 1).await;
    let mut removals = JoinSet::new();
    for _ in 0..20 {
        let api_tokens = Arc::clone(&subject.api_tokens);
        removals.spawn(async move { api_tokens.remove(token.id).await.unwrap() });
    }
    assert_eq!(removals.join_all().await.into_iter().filter(|removed| *removed).count(), 1);
}

/// Nor does a token make one, or a connector of the owner's go with it.
pub async fn an_owner_of_a_token_need_not_have_connectors(subject: &Subject) {
    let token = insert(subject, 1).await;
    subject.store.insert(connector(1), 1).await.unwrap();
    assert!(subject.api_tokens.remove(token.id).await.unwrap());
    assert_eq!(subject.store.find_any(connector(1).id).await.unwrap(), Some(connector(1)));
}

fn id(number: u32) -> ApiTokenId {
    ApiTokenId::from_uuid(Uuid::from_u128(u128::from(number) << 96))
}

fn bearer(number: u32) -> Secret {
    ApiToken::bearer(&format!("{number:0>43}"))
}

/// A token of the first owner.
fn token(number: u32) -> ApiToken {
    let principal = Principal { owner: owner(1), account: AccountName::new("alice"), permissions: Permissions::own() };
    ApiToken { id: id(number), label: "ci".to_owned(), principal, created_at: now(), expires_at: Some(future()) }
}

async fn insert(subject: &Subject, number: u32) -> ApiToken {
    let token = token(number);
    subject.api_tokens.insert(&bearer(number), token.clone()).await.unwrap();
    token
}

async fn find(subject: &Subject, bearer: &str) -> Option<ApiToken> {
    subject.api_tokens.find(&Secret::new(bearer)).await.unwrap()
}
