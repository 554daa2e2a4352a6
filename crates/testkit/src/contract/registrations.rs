//! The contract of [`Registrations`](connectors_application::ports::Registrations). Each test begins with an empty store
//! of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests fail by panics")]

use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::{Registration, RegistrationKey, Reservation};
use connectors_domain::{ClientAuthentication, ClientCredentials, ClientOrigin, Issuer, OAuthClient};
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::Subject;
use super::of::now;

const MINUTE: Duration = Duration::from_mins(1);

/// Makes a test of each part of the contract. `$make` names an async function that returns `Option<Subject>`; `None`
/// skips the test.
#[macro_export]
macro_rules! registrations_contract {
    ($make:path) => {
        $crate::contract_tests!(registrations, $make:
            one_of_many_registers_and_all_share_it,
            another_issuer_or_redirect_uri_is_another_registration,
            a_reservation_ends_with_its_time_or_is_given_up,
            what_was_kept_first_stays,
            a_registration_is_forgotten_by_its_client_id,
        );
    };
}

/// The others wait, and find it.
pub async fn one_of_many_registers_and_all_share_it(subject: &Subject) {
    let mut reservations = JoinSet::new();
    for _ in 0..50 {
        let registrations = Arc::clone(&subject.registrations);
        reservations.spawn(async move { registrations.reserve(key("https://as"), now(), later(1)).await.unwrap() });
    }
    let mut yours = 0;
    while let Some(reservation) = reservations.join_next().await {
        match reservation.unwrap() {
            Reservation::Yours => yours += 1,
            Reservation::Busy => {}
            Reservation::Found(_) => panic!("nobody has registered yet"),
        }
    }
    assert_eq!(yours, 1);
    keep(subject, "https://as", "one").await;
    assert_eq!(reserve(subject, "https://as", now()).await, Reservation::Found(registration("one")));
}

/// Even if it differs by a slash.
pub async fn another_issuer_or_redirect_uri_is_another_registration(subject: &Subject) {
    keep(subject, "https://as", "one").await;
    assert_eq!(reserve(subject, "https://as/", now()).await, Reservation::Yours);
    let other = RegistrationKey { redirect_uri: "http://127.0.0.1/other".to_owned(), ..key("https://as") };
    let reserved = subject.registrations.reserve(other, now(), later(1)).await.unwrap();
    assert_eq!(reserved, Reservation::Yours);
}

/// Not before; and what is there is not given up.
pub async fn a_reservation_ends_with_its_time_or_is_given_up(subject: &Subject) {
    assert_eq!(reserve(subject, "https://as", now()).await, Reservation::Yours);
    assert_eq!(reserve(subject, "https://as", later(1) - Duration::from_micros(1)).await, Reservation::Busy);
    assert_eq!(reserve(subject, "https://as", later(1)).await, Reservation::Yours);
    subject.registrations.release(key("https://as")).await.unwrap();
    assert_eq!(reserve(subject, "https://as", now()).await, Reservation::Yours);
    keep(subject, "https://as", "one").await;
    subject.registrations.release(key("https://as")).await.unwrap();
    assert_eq!(reserve(subject, "https://as", later(9)).await, Reservation::Found(registration("one")));
}

/// Also without a reservation: its holder was slower than its time.
pub async fn what_was_kept_first_stays(subject: &Subject) {
    assert_eq!(keep(subject, "https://as", "one").await, registration("one"));
    assert_eq!(keep(subject, "https://as", "two").await, registration("one"));
}

/// Another one's stays.
pub async fn a_registration_is_forgotten_by_its_client_id(subject: &Subject) {
    keep(subject, "https://as", "one").await;
    subject.registrations.forget(key("https://as"), "another".to_owned()).await.unwrap();
    assert_eq!(reserve(subject, "https://as", now()).await, Reservation::Found(registration("one")));
    subject.registrations.forget(key("https://as"), "one".to_owned()).await.unwrap();
    assert_eq!(reserve(subject, "https://as", now()).await, Reservation::Yours);
}

fn key(issuer: &str) -> RegistrationKey {
    RegistrationKey { issuer: Issuer::new(issuer), redirect_uri: "http://127.0.0.1/callback".to_owned() }
}

fn registration(id: &str) -> Registration {
    let client = OAuthClient {
        credentials: ClientCredentials::new(id.to_owned(), Some(format!("secret-{id}"))).unwrap(),
        authentication: ClientAuthentication::SecretBasic,
        origin: ClientOrigin::Registered,
    };
    Registration { client, expires_at: Some(now()) }
}

fn later(minutes: u32) -> Timestamp {
    now() + MINUTE * minutes
}

/// Reserves at a time, for a minute.
async fn reserve(subject: &Subject, issuer: &str, at: Timestamp) -> Reservation {
    subject.registrations.reserve(key(issuer), at, at + MINUTE).await.unwrap()
}

async fn keep(subject: &Subject, issuer: &str, id: &str) -> Registration {
    subject.registrations.keep(key(issuer), registration(id)).await.unwrap()
}
