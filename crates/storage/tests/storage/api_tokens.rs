//! API tokens, beyond the contract: of the token itself nothing lies anywhere, and damage stays where it is.

use std::error::Error;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use connectors_application::ports::{ApiTokens, StoreError};
use connectors_domain::{AccountName, ApiToken, ApiTokenId, OwnerId, Permissions, Principal, Secret};
use uuid::Uuid;

use crate::common::{Database, Stored, now, on_both};

on_both!(
    a_token_lies_nowhere_but_its_hash,
    a_row_that_makes_no_sense_ends_nothing_but_its_token,
    no_error_holds_a_token,
    a_scope_that_is_not_known_gives_nothing,
    tokens_outlive_the_process,
);

/// The part of a bearer token that nobody knows.
const SECRET: &str = "lynx-qZ7u3K1xW9pT5mB8rY2vC6nD4sF0gH";

fn bearer(number: u32) -> Secret {
    ApiToken::bearer(&format!("{SECRET}{number:04}"))
}

fn token(number: u32) -> ApiToken {
    let principal = Principal {
        owner: OwnerId::from_uuid(Uuid::from_u128(7)),
        account: AccountName::new("alice@example.com"),
        permissions: Permissions::own(),
    };
    ApiToken {
        id: ApiTokenId::from_uuid(Uuid::from_u128(u128::from(number) << 96)),
        label: format!("label-{number}"),
        principal,
        created_at: now() + Duration::from_secs(u64::from(number)),
        expires_at: None,
    }
}

async fn a_token_lies_nowhere_but_its_hash(database: Database) {
    let store = database.open().await;
    store.insert(&bearer(1), token(1)).await.unwrap();
    store.insert(&bearer(2), token(2)).await.unwrap();
    assert_eq!(store.find(&bearer(1)).await.unwrap(), Some(token(1)));
    store.find(&bearer(3)).await.unwrap();
    // What was removed leaves traces too.
    assert!(store.remove(token(2).id).await.unwrap());
    let stored = Stored::of(&database, &["api_tokens", "owners", "sealing_keys"]).await;
    assert!(stored.holds("label-1") && stored.holds("alice@example.com"), "the search finds what lies open");
    assert!(stored.holds_bytes(digest(&SHA256, bearer(1).expose().as_bytes()).as_ref()));
    let beginning = format!("{}lynx", ApiToken::PREFIX);
    for part in [SECRET, &beginning, "qZ7u3K1xW9", "F0gH0001", "F0gH0002"] {
        assert!(!stored.holds(part), "{part}");
    }
}

async fn a_row_that_makes_no_sense_ends_nothing_but_its_token(database: Database) {
    let store = database.open().await;
    for number in 1..=4 {
        store.insert(&bearer(number), token(number)).await.unwrap();
    }
    let (second, third) = (token(2).id, token(3).id);
    database.execute(&format!("UPDATE api_tokens SET owner = 'odd' WHERE id = '{second}'")).await;
    database.execute(&format!("UPDATE api_tokens SET expires_at = 9223372036854775807 WHERE id = '{third}'")).await;
    assert_eq!(store.list().await.unwrap(), [token(1), token(4)]);
    for number in [2, 3] {
        let found = store.find(&bearer(number)).await;
        assert!(matches!(found, Err(StoreError::Inconsistent(_))), "{found:?}");
        assert!(store.remove(token(number).id).await.unwrap());
        assert_eq!(store.find(&bearer(number)).await.unwrap(), None);
    }
}

async fn no_error_holds_a_token(database: Database) {
    let store = database.open().await;
    store.insert(&bearer(1), token(1)).await.unwrap();
    let duplicate = store.insert(&bearer(1), token(2)).await.unwrap_err();
    database.execute("UPDATE api_tokens SET owner = 'odd'").await;
    let damaged = store.find(&bearer(1)).await.unwrap_err();
    database.execute("DROP TABLE api_tokens").await;
    let gone = [store.find(&bearer(1)).await.unwrap_err(), store.insert(&bearer(1), token(1)).await.unwrap_err()];
    for error in [duplicate, damaged].into_iter().chain(gone) {
        let mut told = format!("{error:?}");
        let mut cause: Option<&dyn Error> = Some(&error);
        while let Some(error) = cause {
            told += &error.to_string();
            cause = error.source();
        }
        assert!(!told.contains("lynx"), "{told}");
    }
}

/// One that a newer release has made, or somebody else.
async fn a_scope_that_is_not_known_gives_nothing(database: Database) {
    let store = database.open().await;
    store.insert(&bearer(1), token(1)).await.unwrap();
    for (scopes, permissions) in [
        ("connectors:audit connectors:own openid", Permissions::default()),
        ("", Permissions::default()),
        ("connectors:audit connectors:read connectors:write  connectors:proxy", Permissions::own()),
    ] {
        database.execute(&format!("UPDATE api_tokens SET permissions = '{scopes}'")).await;
        let found = store.find(&bearer(1)).await.unwrap().unwrap();
        assert_eq!(found.principal.permissions, permissions, "{scopes:?}");
    }
}

async fn tokens_outlive_the_process(database: Database) {
    let store = database.open().await;
    store.insert(&bearer(1), token(1)).await.unwrap();
    drop(store);
    let store = database.open().await;
    assert_eq!(store.find(&bearer(1)).await.unwrap(), Some(token(1)));
    assert_eq!(store.list().await.unwrap(), [token(1)]);
}
