//! Registrations, beyond the contract: sealed, and with the key that they need.

use std::time::Duration;

use connectors_application::ports::{Registration, RegistrationKey, Registrations, Reservation};
use connectors_domain::{ClientAuthentication, ClientCredentials, ClientOrigin, Issuer, OAuthClient};
use connectors_storage::{OpenError, Store, StoreSettings};
use jiff::Timestamp;

use crate::common::{Database, now, on_both, ring};

const MINUTE: Duration = Duration::from_mins(1);

on_both!(a_secret_lies_sealed_in_its_own_row_only, a_key_that_a_registration_needs_is_not_forgotten,);

fn key(issuer: &str) -> RegistrationKey {
    RegistrationKey { issuer: Issuer::new(issuer), redirect_uri: "http://127.0.0.1/callback".to_owned() }
}

fn registration(id: &str) -> Registration {
    let credentials = ClientCredentials::new(id.to_owned(), Some(format!("canary-secret-{id}"))).unwrap();
    let client = OAuthClient {
        credentials,
        authentication: ClientAuthentication::SecretBasic,
        origin: ClientOrigin::Registered,
    };
    Registration { client, expires_at: Some(now()) }
}

fn later(minutes: u32) -> Timestamp {
    now() + MINUTE * minutes
}

async fn a_secret_lies_sealed_in_its_own_row_only(database: Database) {
    let store = database.open().await;
    store.keep(key("https://a"), registration("one")).await.unwrap();
    store.keep(key("https://b"), registration("two")).await.unwrap();
    let stored = match &database {
        Database::Sqlite(_) => "SELECT lower(hex(sealed_client)) FROM registrations",
        Database::Postgres(_) => "SELECT encode(sealed_client, 'hex') FROM registrations",
    };
    let canary = "63616e617279"; // "canary" in hexadecimal
    assert!(database.texts(stored).await.iter().all(|text| !text.is_empty() && !text.contains(canary)));
    // Moved to another issuer's row it does not open: it counts as none, and is made anew.
    database
        .execute(
            "UPDATE registrations SET sealed_client = (SELECT sealed_client FROM registrations WHERE issuer = 'https://a') \
             WHERE issuer = 'https://b'",
        )
        .await;
    assert_eq!(store.reserve(key("https://b"), now(), later(1)).await.unwrap(), Reservation::Yours);
    assert_eq!(store.reserve(key("https://b"), now(), later(1)).await.unwrap(), Reservation::Busy);
    let found = store.reserve(key("https://a"), now(), later(1)).await.unwrap();
    assert_eq!(found, Reservation::Found(registration("one")));
}

async fn a_key_that_a_registration_needs_is_not_forgotten(database: Database) {
    let open = async |keys: &[&str]| Store::open(StoreSettings { keys: Some(ring(keys)), ..database.settings() }).await;
    let store = open(&["a"]).await.unwrap();
    store.keep(key("https://as"), registration("one")).await.unwrap();
    drop(store);
    assert!(matches!(open(&["b"]).await, Err(OpenError::KeyMissing { id, values: 1 }) if id == "a"));
    let store = open(&["b", "a"]).await.unwrap();
    let found = store.reserve(key("https://as"), now(), later(1)).await.unwrap();
    assert_eq!(found, Reservation::Found(registration("one")));
}
