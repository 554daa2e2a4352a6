//! Secrets are sealed wherever they lie, and open only where they belong.

use connectors_application::ports::{Connectors, ListQuery, Removed};
use connectors_domain::{ClientCredentials, Connector, DisconnectCode, Event, OwnerId, ServerFacts};
use connectors_storage::Store;
use uuid::Uuid;

use crate::common::{Database, PLENTY, Stored, awaiting, code, connected, created, grant, now, on_both, owner};

on_both!(
    no_secret_lies_open,
    secrets_of_two_connectors_do_not_change_places,
    a_secret_does_not_open_in_another_column,
    a_secret_does_not_open_for_another_owner,
    a_secret_does_not_go_to_another_server,
    an_attempt_is_not_found_under_another_hash,
    a_damaged_secret_stops_nothing_but_its_connector,
    what_does_not_open_can_be_replaced,
    a_grant_outlives_a_secret_beside_it_that_does_not_open,
);

const UNREADABLE: Option<DisconnectCode> = Some(DisconnectCode::CredentialUnreadable);

async fn no_secret_lies_open(database: Database) {
    let store = database.open().await;
    store.insert(connected(1), PLENTY).await.unwrap();
    store.insert(awaiting(2), PLENTY).await.unwrap();
    // A state that has given its place to another leaves traces too.
    let third = connected(3);
    store.insert(third.clone(), PLENTY).await.unwrap();
    store.update(third.apply(Event::DisconnectRequested, now()).unwrap().connector).await.unwrap();
    // And so does one whose grant waits for its revocation.
    store.insert(connected(4), PLENTY).await.unwrap();
    store.remove(owner(), connected(4).id).await.unwrap();

    let stored = Stored::of(&database, &["connectors", "owners", "sealing_keys", "revocations"]).await;
    let holds = |word: &str| stored.holds(word);
    assert!(holds("https://host1.example/mcp"), "the search finds what lies open");
    for secret in ["access", "refresh", "client", "verifier", "state", "ticket", "browser"] {
        assert!(!holds(&format!("canary-{secret}")), "{secret}");
    }
}

async fn secrets_of_two_connectors_do_not_change_places(database: Database) {
    for column in ["sealed_grant", "sealed_client_secret"] {
        let store = filled(&database).await;
        database
            .execute(&format!(
                "CREATE TABLE moved AS SELECT id, {column} FROM connectors;
                 UPDATE connectors SET {column} = (SELECT {column} FROM moved WHERE moved.id = \
                     (SELECT max(id) FROM connectors c WHERE c.id <> connectors.id AND c.id < '00000003'))
                 WHERE id < '00000003';
                 DROP TABLE moved"
            ))
            .await;
        assert_eq!(codes(&store).await, [UNREADABLE, UNREADABLE, None], "{column}");
        emptied(&store).await;
    }
}

async fn a_secret_does_not_open_in_another_column(database: Database) {
    let store = filled(&database).await;
    database.execute("UPDATE connectors SET sealed_client_secret = sealed_grant WHERE id < '00000002'").await;
    database.execute("UPDATE connectors SET sealed_grant = sealed_attempt WHERE id > '00000003'").await;
    assert_eq!(codes(&store).await, [UNREADABLE, None, UNREADABLE]);
}

async fn a_secret_does_not_open_for_another_owner(database: Database) {
    let store = filled(&database).await;
    let thief = OwnerId::from_uuid(Uuid::from_u128(2));
    store.insert(Connector { owner: thief, ..created(9) }, PLENTY).await.unwrap();
    database.execute(&format!("UPDATE connectors SET owner = '{thief}' WHERE id < '00000002'")).await;
    let stolen = store.find(thief, connected(1).id).await.unwrap().unwrap();
    assert_eq!(code(&stolen), UNREADABLE);
    assert!(!format!("{stolen:?}").contains("canary"));
}

async fn a_secret_does_not_go_to_another_server(database: Database) {
    let store = filled(&database).await;
    database.execute("UPDATE connectors SET url = 'https://thief.example/' WHERE id < '00000002'").await;
    assert_eq!(codes(&store).await, [UNREADABLE, None, None]);
}

async fn an_attempt_is_not_found_under_another_hash(database: Database) {
    let store = filled(&database).await;
    database
        .execute(
            "UPDATE connectors SET attempt_state_hash = NULL WHERE id < '00000002';
             UPDATE connectors SET attempt_state_hash = sealed_grant WHERE id > '00000003'",
        )
        .await;
    assert_eq!(codes(&store).await, [UNREADABLE, None, UNREADABLE]);
}

async fn a_damaged_secret_stops_nothing_but_its_connector(database: Database) {
    let store = filled(&database).await;
    database
        .execute(
            "UPDATE connectors SET sealed_grant = substr(sealed_grant, 1, 20) WHERE id < '00000002';
             UPDATE connectors SET sealed_client_secret = substr(sealed_grant, 1, 0) WHERE id > '00000003'",
        )
        .await;
    assert_eq!(codes(&store).await, [UNREADABLE, None, UNREADABLE]);
    let removed = store.remove(owner(), connected(1).id).await.unwrap();
    let Removed::Connector(damaged) = removed else { panic!("{removed:?}") };
    assert_eq!(code(&damaged), UNREADABLE);
    assert_eq!(codes(&store).await, [None, UNREADABLE]);
}

async fn what_does_not_open_can_be_replaced(database: Database) {
    let store = filled(&database).await;
    database.execute("UPDATE connectors SET sealed_grant = substr(sealed_grant, 1, 20) WHERE id < '00000002'").await;
    let damaged = store.find(owner(), connected(1).id).await.unwrap().unwrap();
    let connecting = damaged.apply(Event::ConnectStarted { deadline: now() }, now()).unwrap().connector;
    let connecting = store.update(connecting).await.unwrap();
    let event = Event::Established { grant: Some(grant(7)), server: ServerFacts::default() };
    let connected = store.update(connecting.apply(event, now()).unwrap().connector).await.unwrap();
    assert_eq!(store.find(owner(), connected.id).await.unwrap(), Some(connected));
}

async fn a_grant_outlives_a_secret_beside_it_that_does_not_open(database: Database) {
    for column in ["sealed_client_secret", "sealed_attempt"] {
        let store = filled(&database).await;
        database.execute(&format!("UPDATE connectors SET {column} = substr({column}, 1, 20)")).await;
        assert_eq!(codes(&store).await, [UNREADABLE; 3]);
        for number in 1..=3 {
            let damaged = store.find(owner(), created(number).id).await.unwrap().unwrap();
            assert_eq!(damaged.grant(), Some(&grant(number)), "{column}");
            assert_eq!(damaged.client.as_ref().map(ClientCredentials::id), Some("id"));

            // It is there for the next connect, also once that is stored.
            let connecting = damaged.apply(Event::ConnectStarted { deadline: now() }, now()).unwrap().connector;
            let connecting = store.update(connecting).await.unwrap();
            assert_eq!(store.find(owner(), connecting.id).await.unwrap().as_ref(), Some(&connecting));
            assert_eq!(connecting.grant(), Some(&grant(number)));
            let event = Event::Established { grant: connecting.grant().cloned(), server: ServerFacts::default() };
            let connected = store.update(connecting.apply(event, now()).unwrap().connector).await.unwrap();
            assert_eq!(store.find(owner(), connected.id).await.unwrap(), Some(connected));
        }
        emptied(&store).await;
    }
}

async fn filled(database: &Database) -> Store {
    let store = database.open().await;
    for connector in [connected(1), connected(2), awaiting(3)] {
        store.insert(connector, PLENTY).await.unwrap();
    }
    assert_eq!(codes(&store).await, [None, None, None]);
    store
}

async fn emptied(store: &Store) {
    for number in 1..=3 {
        store.remove(owner(), created(number).id).await.unwrap();
    }
}

/// Why each connector is disconnected, as the list and as each find has it.
async fn codes(store: &Store) -> Vec<Option<DisconnectCode>> {
    let query = ListQuery { limit: 10, after: None, state: None };
    let listed = store.list(owner(), query).await.unwrap().items;
    for connector in &listed {
        let found = store.find(owner(), connector.id).await.unwrap();
        assert_eq!(found.as_ref(), Some(connector));
        if code(connector) == UNREADABLE {
            let number = u32::try_from(connector.id.as_uuid().as_u128() >> 96).unwrap();
            assert!(connector.grant().is_none_or(|own| *own == grant(number)));
            assert_eq!(connector.attempt(), None);
        }
    }
    listed.iter().map(code).collect()
}
