//! Sealing anew under the first key, so that another one can be dropped.

use connectors_application::ports::{
    Connectors, Registration, RegistrationKey, Registrations, Reservation, Revocation, RevocationKey, Revocations,
};
use connectors_domain::{ClientAuthentication, ClientCredentials, ClientOrigin, Event, Issuer, OAuthClient};
use connectors_storage::{KeyInUse, OpenError, ResealFrom, Resealed, Store, StoreSettings};

use crate::common::{Database, PLENTY, awaiting, connected, created, grant, now, on_both, owner, ring};

on_both!(
    everything_is_sealed_anew_and_the_old_key_can_go,
    what_does_not_open_is_left_and_counted,
    what_is_changed_meanwhile_wins,
    rows_that_do_not_say_their_key_are_found,
    rows_of_a_key_that_nobody_has_do_not_stop_the_start,
);

async fn open(database: &Database, keys: &[&str]) -> Store {
    Store::open(StoreSettings { keys: Some(ring(keys)), ..database.settings() }).await.unwrap()
}

/// Goes through all, in batches of two; returns how many were sealed, and how many do not open.
async fn reseal(store: &Store) -> (u64, u64) {
    let (mut from, mut sums) = (ResealFrom::default(), (0, 0));
    loop {
        let Resealed { sealed, unreadable, next } = store.reseal(from, 2).await.unwrap();
        assert!(sealed + unreadable <= 2);
        sums = (sums.0 + sealed, sums.1 + unreadable);
        let Some(next) = next else { return sums };
        from = next;
    }
}

async fn in_use(store: &Store) -> Vec<(Option<String>, u64)> {
    let in_use = store.keys_in_use().await.unwrap();
    in_use.into_iter().map(|KeyInUse { id, rows }| (id, rows)).collect()
}

fn key(id: &str, rows: u64) -> (Option<String>, u64) {
    (Some(id.to_owned()), rows)
}

fn registered() -> (RegistrationKey, Registration) {
    let key = RegistrationKey { issuer: Issuer::new("https://as"), redirect_uri: "http://localhost/cb".to_owned() };
    let client = OAuthClient {
        credentials: ClientCredentials::new("id".to_owned(), Some("secret".to_owned())).unwrap(),
        authentication: ClientAuthentication::SecretBasic,
        origin: ClientOrigin::Registered,
    };
    (key, Registration { client, expires_at: None })
}

fn revocation(number: u32) -> Revocation {
    let key = RevocationKey { connector: created(number).id, generation: 3 };
    Revocation { key, owner: owner(), grant: grant(number) }
}

/// Five connectors, of which one has no secret; a registration; three revocations.
async fn fill(store: &Store) {
    for connector in [connected(1), awaiting(2), created(3), connected(4), connected(5)] {
        store.insert(connector, PLENTY).await.unwrap();
    }
    let (key, registration) = registered();
    store.keep(key, registration).await.unwrap();
    for number in 6..=8 {
        store.add(revocation(number)).await.unwrap();
    }
}

async fn everything_is_sealed_anew_and_the_old_key_can_go(database: Database) {
    let store = open(&database, &["m"]).await;
    fill(&store).await;
    assert_eq!(in_use(&store).await, [key("m", 8)]);
    assert_eq!(reseal(&store).await, (0, 0));
    drop(store);

    // Whether the new id comes before or after the old one.
    for (old, new) in [("m", "z"), ("z", "a")] {
        let store = open(&database, &[new, old]).await;
        assert_eq!(in_use(&store).await, [key(old, 8)]);
        assert_eq!(reseal(&store).await, (8, 0));
        assert_eq!(in_use(&store).await, [key(new, 8)]);
        assert_eq!(reseal(&store).await, (0, 0));
    }
    let store = open(&database, &["a"]).await;
    for connector in [connected(1), awaiting(2), created(3), connected(4), connected(5)] {
        assert_eq!(store.find(owner(), connector.id).await.unwrap(), Some(connector), "not even its revision");
    }
    let (key, registration) = registered();
    assert_eq!(store.reserve(key, now(), now()).await.unwrap(), Reservation::Found(registration));
    let due = store.take_due(10, std::time::Duration::from_mins(1)).await.unwrap();
    assert_eq!(due.len(), 3);
    assert!(due.iter().all(|due| due.revocation.key.generation == 3 && due.failures == 0));
}

async fn what_does_not_open_is_left_and_counted(database: Database) {
    let store = open(&database, &["a"]).await;
    fill(&store).await;
    drop(store);
    let damaged = created(1).id;
    database
        .execute(&format!(
            "UPDATE connectors SET sealed_grant = substr(sealed_grant, 1, 20) WHERE id <= '{damaged}';
             UPDATE revocations SET generation = 9 WHERE connector > '00000006z'"
        ))
        .await;
    let store = open(&database, &["b", "a"]).await;
    assert_eq!(reseal(&store).await, (5, 3));
    assert_eq!(in_use(&store).await, [key("a", 3), key("b", 5)]);
    assert_eq!(reseal(&store).await, (0, 3));
}

async fn what_is_changed_meanwhile_wins(database: Database) {
    let store = open(&database, &["a"]).await;
    for number in 1..=40 {
        store.insert(connected(number), PLENTY).await.unwrap();
    }
    drop(store);
    let store = open(&database, &["b", "a"]).await;
    let updates = async {
        for number in 1..=40 {
            let changed = connected(number).apply(Event::Lapsed, now() + std::time::Duration::from_hours(1)).unwrap();
            store.update(changed.connector).await.unwrap();
        }
    };
    let reseals = async {
        for _ in 0..5 {
            reseal(&store).await;
        }
    };
    tokio::join!(updates, reseals);
    assert_eq!(in_use(&store).await, [key("b", 40)]);
    for number in 1..=40 {
        let found = store.find(owner(), connected(number).id).await.unwrap().unwrap();
        assert_eq!((found.revision, found.attempt()), (connected(number).revision.next(), None));
        assert_eq!(found.grant(), Some(&grant(number)));
    }
}

async fn rows_that_do_not_say_their_key_are_found(database: Database) {
    let store = open(&database, &["a"]).await;
    fill(&store).await;
    drop(store);
    // As the release before wrote them: it knows nothing of these columns.
    let (first, second) = (created(1).id, created(2).id);
    database
        .execute(&format!(
            "UPDATE connectors SET seal_key = NULL, noted_revision = NULL WHERE id <= '{second}';
             UPDATE connectors SET seal_key = 'b' WHERE id = '{first}';
             UPDATE registrations SET seal_key = NULL"
        ))
        .await;
    // And as it leaves what this one wrote.
    database
        .execute(&format!("UPDATE connectors SET noted_revision = 0, connected_since = 5 WHERE id = '{first}'"))
        .await;
    let store = open(&database, &["b", "a"]).await;
    assert_eq!(in_use(&store).await, [(None, 3), key("a", 5)]);
    assert_eq!(reseal(&store).await, (8, 0));
    assert_eq!(in_use(&store).await, [key("b", 8)]);
    drop(store);
    let store = open(&database, &["b"]).await;
    assert_eq!(store.find(owner(), first).await.unwrap(), Some(connected(1)));
}

async fn rows_of_a_key_that_nobody_has_do_not_stop_the_start(database: Database) {
    let store = open(&database, &["a"]).await;
    fill(&store).await;
    drop(store);
    let missing = Store::open(StoreSettings { keys: Some(ring(&["b"])), ..database.settings() }).await.unwrap_err();
    assert!(matches!(&missing, OpenError::KeyMissing { id, values: 8 } if id == "a"), "{missing:?}");
    // A database that somebody has tampered with: it does not know of the key, and the rows fail one by one.
    database.execute("DELETE FROM sealing_keys").await;
    let store = open(&database, &["b"]).await;
    assert_eq!(in_use(&store).await, [key("a", 8)]);
    assert_eq!(reseal(&store).await, (0, 8));
}
