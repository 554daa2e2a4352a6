//! Rows that make no sense.

use connectors_application::ports::{ConnectorPage, Connectors, ListQuery, Removed, StoreError};

use crate::common::{Database, PLENTY, connected, created, on_both, owner};

on_both!(rows_that_make_no_sense_do_not_stop_the_list, a_row_that_makes_no_sense_can_be_removed);

const DAMAGES: [&str; 7] = [
    "url = 'x'",
    "metadata = '[]'",
    "state = 'odd'",
    "state = 'connecting', deadline = NULL",
    "server = NULL",
    "state = 'disconnected'",
    "updated_at = 9223372036854775807",
];

async fn rows_that_make_no_sense_do_not_stop_the_list(database: Database) {
    let store = database.open().await;
    for number in 1..=9 {
        let mut connector = connected(number);
        connector.client = None;
        // A secret that does not open would decide before the damage is seen.
        let connectors_domain::ConnectorState::Connected(state) = &mut connector.state else { unreachable!() };
        (state.grant, state.wider) = (None, None);
        store.insert(connector, PLENTY).await.unwrap();
    }
    for (index, damage) in DAMAGES.iter().enumerate() {
        let id = created(u32::try_from(index).unwrap() + 2).id;
        database.execute(&format!("UPDATE connectors SET {damage} WHERE id = '{id}'")).await;
        assert!(matches!(store.find(owner(), id).await, Err(StoreError::Inconsistent(_))), "{damage}");
    }
    let page = |after, limit| store.list(owner(), ListQuery { limit, after, state: None });
    let ids = |page: &ConnectorPage| page.items.iter().map(|connector| connector.id).collect::<Vec<_>>();
    let all = page(None, 20).await.unwrap();
    assert_eq!((ids(&all), all.total, all.next), (vec![created(1).id, created(9).id], 9, None));
    // A page of nothing but such rows is empty, and still says where the next begins.
    let second = page(Some(created(1).id), 4).await.unwrap();
    assert_eq!((ids(&second), second.total, second.next), (vec![], 9, Some(created(5).id)));
    let third = page(second.next, 4).await.unwrap();
    assert_eq!((ids(&third), third.next), (vec![created(9).id], None));
}

async fn a_row_that_makes_no_sense_can_be_removed(database: Database) {
    let store = database.open().await;
    store.insert(created(1), PLENTY).await.unwrap();
    database.execute("UPDATE connectors SET state = 'odd'").await;
    assert_eq!(store.remove(owner(), created(1).id).await.unwrap(), Removed::Inconsistent);
    assert_eq!(store.remove(owner(), created(1).id).await.unwrap(), Removed::Nothing);
    assert_eq!(store.find(owner(), created(1).id).await.unwrap(), None);
    store.insert(created(1), PLENTY).await.unwrap();
}
