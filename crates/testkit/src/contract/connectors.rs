//! The contract of [`Connectors`]. Each test begins with an empty store of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests fail by panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::{ConnectorPage, Connectors, InsertError, ListQuery, Removed, UpdateError};
use connectors_domain::{
    AccessToken, AccountName, Authority, AuthorizationAttempt, ClientAuthentication, ClientCredentials, ClientOrigin,
    ClientState, Connector, ConnectorId, ConnectorState, DisconnectReason, Event, Grant, Issuer, Metadata, OAuthClient,
    OwnerId, Scopes, Secret, ServerFacts, ServerUrl, Start, StateHash,
};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::arbitrary;

type Store = Arc<dyn Connectors>;

/// More connectors than any of these tests makes.
const PLENTY: u32 = 1_000;

/// Makes a test of each part of the contract. `$make` names an async function that returns `Option<Subject>`; `None`
/// skips the test.
#[macro_export]
macro_rules! connectors_contract {
    ($make:path) => {
        $crate::connectors_contract!(@tests $make:
            an_inserted_connector_is_found,
            nobody_else_finds_or_changes_it,
            whoever_may_see_all_finds_it_by_its_id,
            another_spelling_of_a_url_is_a_duplicate,
            two_owners_may_have_the_same_url,
            the_limit_holds_at_its_edge,
            a_duplicate_is_called_one_when_there_is_no_room_either,
            what_is_removed_makes_room,
            of_fifty_parallel_inserts_of_one_url_one_is_stored,
            parallel_inserts_never_exceed_the_limit,
            an_update_is_stored_with_the_next_revision,
            an_update_of_an_old_revision_is_refused,
            an_update_of_what_is_gone_is_refused,
            of_twenty_parallel_updates_one_wins,
            an_update_empties_what_is_no_longer_there,
            a_user_may_be_called_otherwise_later,
            an_attempt_knows_the_browser_that_set_out,
            a_list_is_in_order_of_ids,
            a_list_comes_in_pages,
            a_list_of_nothing_is_empty,
            a_list_is_filtered_by_what_clients_see,
            a_list_of_all_owners_is_in_order_of_ids,
            a_list_of_all_owners_is_filtered_and_comes_in_pages,
            what_waits_for_its_user_is_counted,
            removing_returns_what_was_removed,
            every_connector_comes_back_as_it_was,
            the_largest_connector_comes_back_as_it_was,
            a_caller_that_goes_away_leaves_nothing_half_done,
            it_is_ready,
        );
    };
    (@tests $make:path: $($test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                if let Some(subject) = $make().await {
                    $crate::contract::connectors::$test(subject.store.clone()).await;
                }
            }
        )*
    };
}

/// What was inserted is found as it was.
pub async fn an_inserted_connector_is_found(store: Store) {
    let connector = connector(1, 1);
    assert_eq!(find(&store, &connector).await, None);
    store.insert(connector.clone(), PLENTY).await.unwrap();
    assert_eq!(find(&store, &connector).await, Some(connector));
}

/// Another owner's connector is as if it were not there.
pub async fn nobody_else_finds_or_changes_it(store: Store) {
    let mine = connector(1, 1);
    store.insert(mine.clone(), PLENTY).await.unwrap();
    let stranger = owner(2);
    assert_eq!(store.find(stranger, mine.id).await.unwrap(), None);
    assert_eq!(list(&store, stranger, None, None, 10).await, page(&[], 0, None));
    assert_eq!(store.remove(stranger, mine.id).await.unwrap(), Removed::Nothing);
    let theirs = Connector { owner: stranger, ..mine.clone() };
    assert!(matches!(store.update(theirs).await, Err(UpdateError::Conflict)));
    assert_eq!(find(&store, &mine).await, Some(mine));
}

/// As it is, and no other.
pub async fn whoever_may_see_all_finds_it_by_its_id(store: Store) {
    let all = [connector(1, 1), connected(connector(2, 2))];
    for connector in &all {
        assert_eq!(store.find_any(connector.id).await.unwrap(), None);
        store.insert(connector.clone(), PLENTY).await.unwrap();
    }
    for connector in &all {
        assert_eq!(store.find_any(connector.id).await.unwrap().as_ref(), Some(connector));
    }
    store.remove(owner(2), all[1].id).await.unwrap();
    assert_eq!(store.find_any(all[1].id).await.unwrap(), None);
    assert_eq!(store.find_any(other(all[0].id)).await.unwrap(), None);
}

/// Whatever the spelling, an owner has one connector for a server.
pub async fn another_spelling_of_a_url_is_a_duplicate(store: Store) {
    let url = |text| ServerUrl::parse(text).unwrap();
    let first = Connector { url: url("HTTPS://Host.example:443/mcp/"), ..connector(1, 1) };
    let second = Connector { url: url("https://host.example/mcp"), ..connector(1, 2) };
    store.insert(first.clone(), PLENTY).await.unwrap();
    assert!(matches!(store.insert(second.clone(), PLENTY).await, Err(InsertError::Duplicate)));
    assert_eq!(find(&store, &second).await, None);
    assert_eq!(find(&store, &first).await, Some(first));
}

/// Owners do not know of each other.
pub async fn two_owners_may_have_the_same_url(store: Store) {
    let mine = connector(1, 1);
    let theirs = Connector { url: mine.url.clone(), ..connector(2, 2) };
    store.insert(mine, PLENTY).await.unwrap();
    store.insert(theirs, PLENTY).await.unwrap();
}

/// So many as the limit says, and not one more; other owners do not count.
pub async fn the_limit_holds_at_its_edge(store: Store) {
    assert!(matches!(store.insert(connector(1, 1), 0).await, Err(InsertError::LimitReached)));
    store.insert(connector(2, 9), 1).await.unwrap();
    store.insert(connector(1, 1), 2).await.unwrap();
    store.insert(connector(1, 2), 2).await.unwrap();
    assert!(matches!(store.insert(connector(1, 3), 2).await, Err(InsertError::LimitReached)));
    assert!(matches!(store.insert(connector(1, 3), 1).await, Err(InsertError::LimitReached)));
    assert_eq!(list(&store, owner(1), None, None, 10).await.total, 2);
    store.insert(connector(1, 3), 3).await.unwrap();
}

/// Who has a connector for the server already is not told to delete another.
pub async fn a_duplicate_is_called_one_when_there_is_no_room_either(store: Store) {
    store.insert(connector(1, 1), 1).await.unwrap();
    let again = Connector { id: id(2), ..connector(1, 1) };
    assert!(matches!(store.insert(again, 1).await, Err(InsertError::Duplicate)));
}

/// Room and URL are free again.
pub async fn what_is_removed_makes_room(store: Store) {
    let first = connector(1, 1);
    store.insert(first.clone(), 1).await.unwrap();
    store.remove(first.owner, first.id).await.unwrap();
    let again = Connector { id: id(2), ..first };
    store.insert(again, 1).await.unwrap();
}

/// One is stored, the others are told that it is there.
pub async fn of_fifty_parallel_inserts_of_one_url_one_is_stored(store: Store) {
    let url = connector(1, 1).url;
    let inserts = (1..=50).map(|number| Connector { url: url.clone(), ..connector(1, number) });
    let (stored, duplicates, full) = insert_all(&store, inserts, PLENTY).await;
    assert_eq!((stored, duplicates, full), (1, 49, 0));
    assert_eq!(list(&store, owner(1), None, None, 100).await.total, 1);
}

/// The limit is exact, whatever runs at once.
pub async fn parallel_inserts_never_exceed_the_limit(store: Store) {
    let inserts = (1..=40).map(|number| connector(1 + number % 2, number));
    let (stored, duplicates, full) = insert_all(&store, inserts, 7).await;
    assert_eq!((stored, duplicates, full), (14, 0, 26));
    for number in 1..=2 {
        assert_eq!(list(&store, owner(number), None, None, 100).await.total, 7);
    }
}

/// The answer is what is stored then.
pub async fn an_update_is_stored_with_the_next_revision(store: Store) {
    let first = connector(1, 1);
    let neighbour = connector(1, 2);
    store.insert(first.clone(), PLENTY).await.unwrap();
    store.insert(neighbour.clone(), PLENTY).await.unwrap();
    let changed = connecting(first.clone());
    let stored = store.update(changed.clone()).await.unwrap();
    assert_eq!(stored, Connector { revision: first.revision.next(), ..changed });
    assert_eq!(find(&store, &first).await, Some(stored));
    assert_eq!(find(&store, &neighbour).await, Some(neighbour));
}

/// Compare-and-swap: a change is stored over the revision from which it was made, or not at all.
pub async fn an_update_of_an_old_revision_is_refused(store: Store) {
    let first = connector(1, 1);
    store.insert(first.clone(), PLENTY).await.unwrap();
    let second = store.update(connecting(first.clone())).await.unwrap();
    let stale = Connector { metadata: None, ..first.clone() };
    assert!(matches!(store.update(stale).await, Err(UpdateError::Conflict)));
    let early = Connector { revision: second.revision.next(), ..first.clone() };
    assert!(matches!(store.update(early).await, Err(UpdateError::Conflict)));
    assert_eq!(find(&store, &first).await, Some(second));
}

/// An update never brings back what was removed.
pub async fn an_update_of_what_is_gone_is_refused(store: Store) {
    let first = connector(1, 1);
    assert!(matches!(store.update(first.clone()).await, Err(UpdateError::Conflict)));
    store.insert(first.clone(), PLENTY).await.unwrap();
    store.remove(first.owner, first.id).await.unwrap();
    assert!(matches!(store.update(first.clone()).await, Err(UpdateError::Conflict)));
    assert_eq!(find(&store, &first).await, None);
}

/// The others are told of the conflict, and the winner's change is what is stored.
pub async fn of_twenty_parallel_updates_one_wins(store: Store) {
    let first = connector(1, 1);
    store.insert(first.clone(), PLENTY).await.unwrap();
    let mut updates = JoinSet::new();
    for number in 0..20 {
        let (store, changed) = (Arc::clone(&store), Connector { metadata: note(number), ..first.clone() });
        updates.spawn(async move { store.update(changed).await });
    }
    let mut winners = Vec::new();
    while let Some(update) = updates.join_next().await {
        match update.unwrap() {
            Ok(stored) => winners.push(stored),
            Err(UpdateError::Conflict) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(find(&store, &first).await, winners.pop());
}

/// What a state has no more is gone from the store as well.
pub async fn an_update_empties_what_is_no_longer_there(store: Store) {
    let full = Connector {
        client: ClientCredentials::from_parts(Some("id".into()), Some("secret".into())).unwrap(),
        metadata: note(1),
        ..connected(connector(1, 1))
    };
    store.insert(full.clone(), PLENTY).await.unwrap();
    let empty = Connector { client: None, metadata: None, state: ConnectorState::Created, ..full };
    let stored = store.update(empty).await.unwrap();
    assert_eq!(find(&store, &stored).await, Some(stored));
}

/// Or nothing is known of it any more.
pub async fn a_user_may_be_called_otherwise_later(store: Store) {
    let called = |name| Some(AccountName::new(name));
    let mut stored = Connector { account: called("alice@example.com"), ..connector(1, 1) };
    store.insert(stored.clone(), PLENTY).await.unwrap();
    assert_eq!(find(&store, &stored).await.as_ref(), Some(&stored));
    // A change of anything else leaves it.
    stored = store.update(connecting(stored)).await.unwrap();
    assert_eq!(find(&store, &stored).await.unwrap().account, called("alice@example.com"));
    for account in [called("Алиса 🦀 \"'\\"), None, called("alice")] {
        stored = store.update(Connector { account, ..stored }).await.unwrap();
        assert_eq!(find(&store, &stored).await.as_ref(), Some(&stored));
    }
}

/// From the page that nobody has opened yet to the browser that comes back, be it for the first consent or a wider one.
pub async fn an_attempt_knows_the_browser_that_set_out(store: Store) {
    let (browser, stranger) = (Secret::new("browser"), Secret::new("stranger"));
    let started = with_start(awaiting(connector(1, 1)));
    let attempt = started.attempt().unwrap().clone();
    let wider = connected(connector(1, 2)).apply(Event::WiderConsentRequired { attempt: with_hash(attempt) }, now());
    for started in [started, wider.unwrap().connector] {
        store.insert(started.clone(), PLENTY).await.unwrap();
        let found = find(&store, &started).await.unwrap();
        assert_eq!(found, started);
        assert!(!found.attempt().unwrap().is_bound_to(Some(&browser)));

        let bound = found.apply(Event::BrowserBound { browser: browser.clone() }, now()).unwrap().connector;
        let bound = store.update(bound).await.unwrap();
        let found = store.find_by_state(started.attempt().unwrap().state_hash).await.unwrap().unwrap();
        assert_eq!(found, bound);
        let attempt = found.attempt().unwrap();
        assert!(attempt.is_bound_to(Some(&browser)) && !attempt.is_bound_to(Some(&stranger)));
        assert!(attempt.start.as_ref().unwrap().ticket.matches(&Secret::new("ticket")));
    }
}

/// Whatever the order in which they came.
pub async fn a_list_is_in_order_of_ids(store: Store) {
    let numbers = [5_u32, 0x9000_0000, 1, 0xa000_0000, 0x0f00_0000, 10, 9];
    let mut expected: Vec<_> = numbers.map(|number| connector(1, number)).into();
    for connector in &expected {
        store.insert(connector.clone(), PLENTY).await.unwrap();
    }
    expected.sort_by_key(|connector| connector.id);
    assert_eq!(list(&store, owner(1), None, None, 100).await, page(&expected, 7, None));
}

/// Each page says where the next begins, and the last one says nothing.
pub async fn a_list_comes_in_pages(store: Store) {
    let all: Vec<_> = (1..=5).map(|number| connector(1, number)).collect();
    for connector in &all {
        store.insert(connector.clone(), PLENTY).await.unwrap();
        store
            .insert(Connector { owner: owner(2), id: other(connector.id), ..connector.clone() }, PLENTY)
            .await
            .unwrap();
    }
    let from = |after, limit| list(&store, owner(1), None, after, limit);
    assert_eq!(from(None, 2).await, page(&all[..2], 5, Some(all[1].id)));
    assert_eq!(from(Some(all[1].id), 2).await, page(&all[2..4], 5, Some(all[3].id)));
    assert_eq!(from(Some(all[3].id), 2).await, page(&all[4..], 5, None));
    assert_eq!(from(None, 5).await, page(&all, 5, None));
    assert_eq!(from(None, 4).await, page(&all[..4], 5, Some(all[3].id)));
    assert_eq!(from(Some(all[4].id), 2).await, page(&[], 5, None));
    // The one after which a page begins may be gone meanwhile.
    store.remove(owner(1), all[1].id).await.unwrap();
    assert_eq!(from(Some(all[1].id), 2).await, page(&all[2..4], 4, Some(all[3].id)));
}

/// No error, no page.
pub async fn a_list_of_nothing_is_empty(store: Store) {
    assert_eq!(list(&store, owner(1), None, None, 1).await, page(&[], 0, None));
    assert_eq!(list(&store, owner(1), Some(ClientState::Connected), Some(id(1)), 1).await, page(&[], 0, None));
}

/// A filter goes by the state that clients see, and `total` with it.
pub async fn a_list_is_filtered_by_what_clients_see(store: Store) {
    let state = |number: u32| match number % 6 {
        0 => connector(1, number),
        1 => connecting(connector(1, number)),
        2 => awaiting(connector(1, number)),
        3 => connected(connector(1, number)),
        4 => disconnected(connector(1, number)),
        _ => connecting(disconnected(connector(1, number))),
    };
    let all: Vec<_> = (1..=18).map(state).collect();
    for connector in &all {
        store.insert(connector.clone(), PLENTY).await.unwrap();
    }
    for (state, total) in [
        (ClientState::Created, 6),
        (ClientState::AuthRequired, 3),
        (ClientState::Connected, 3),
        (ClientState::Disconnected, 6),
    ] {
        let expected: Vec<_> = all.iter().filter(|connector| connector.client_state() == state).cloned().collect();
        let found = list(&store, owner(1), Some(state), None, 100).await;
        assert_eq!(found, page(&expected, total, None), "{state:?}");
        let second = list(&store, owner(1), Some(state), Some(expected[0].id), 1).await;
        assert_eq!(second, page(&expected[1..2], total, Some(expected[1].id)), "{state:?}");
    }
    // The filter follows a change of state.
    let changed = store.update(connected(all[5].clone())).await.unwrap();
    let found = list(&store, owner(1), Some(ClientState::Connected), None, 100).await;
    assert_eq!(found.total, 4);
    assert!(found.items.contains(&changed));
}

/// Whoever they belong to, and whatever the order in which they came.
pub async fn a_list_of_all_owners_is_in_order_of_ids(store: Store) {
    assert_eq!(list_any(&store, None, None, 100).await, page(&[], 0, None));
    let numbers = [(3, 5_u32), (1, 0x9000_0000), (2, 1), (1, 0xa000_0000), (3, 0x0f00_0000), (1, 10), (2, 9)];
    let mut expected: Vec<_> = numbers.map(|(owner, number)| connector(owner, number)).into();
    for connector in &expected {
        store.insert(connector.clone(), PLENTY).await.unwrap();
    }
    expected.sort_by_key(|connector| connector.id);
    assert_eq!(list_any(&store, None, None, 100).await, page(&expected, 7, None));
}

/// Over the borders between owners.
pub async fn a_list_of_all_owners_is_filtered_and_comes_in_pages(store: Store) {
    let state = |number: u32| match number % 3 {
        0 => connector(1 + number % 2, number),
        1 => awaiting(connector(1 + number % 2, number)),
        _ => connected(connector(1 + number % 2, number)),
    };
    let all: Vec<_> = (1..=12).map(state).collect();
    for connector in &all {
        store.insert(connector.clone(), PLENTY).await.unwrap();
    }
    assert_eq!(list_any(&store, None, None, 5).await, page(&all[..5], 12, Some(all[4].id)));
    assert_eq!(list_any(&store, None, Some(all[4].id), 5).await, page(&all[5..10], 12, Some(all[9].id)));
    assert_eq!(list_any(&store, None, Some(all[9].id), 5).await, page(&all[10..], 12, None));
    assert_eq!(list_any(&store, None, None, 12).await, page(&all, 12, None));
    assert_eq!(list_any(&store, None, Some(all[11].id), 5).await, page(&[], 12, None));
    for state in [ClientState::Created, ClientState::AuthRequired, ClientState::Connected] {
        let of: Vec<_> = all.iter().filter(|connector| connector.client_state() == state).cloned().collect();
        assert_eq!(list_any(&store, Some(state), None, 3).await, page(&of[..3], 4, Some(of[2].id)), "{state:?}");
        assert_eq!(list_any(&store, Some(state), Some(of[2].id), 3).await, page(&of[3..], 4, None), "{state:?}");
    }
    assert_eq!(list_any(&store, Some(ClientState::Disconnected), None, 3).await, page(&[], 0, None));
}

/// Of one owner; a probe waits for nobody, nor does the offer of a wider consent.
pub async fn what_waits_for_its_user_is_counted(store: Store) {
    let counts = async || [store.count_waiting(owner(1)).await.unwrap(), store.count_waiting(owner(2)).await.unwrap()];
    assert_eq!(counts().await, [0, 0]);
    let wider = connected(connector(1, 5));
    let attempt = with_hash(awaiting(connector(1, 5)).attempt().unwrap().clone());
    let wider = wider.apply(Event::WiderConsentRequired { attempt }, now()).unwrap().connector;
    let waiting = awaiting(connector(1, 3));
    for connector in [connector(1, 1), awaiting(connector(1, 2)), waiting.clone(), connecting(connector(1, 4)), wider] {
        store.insert(connector, PLENTY).await.unwrap();
    }
    store.insert(awaiting(connector(2, 6)), PLENTY).await.unwrap();
    assert_eq!(counts().await, [2, 1]);
    let ended = waiting.apply(Event::DisconnectRequested, now()).unwrap().connector;
    store.update(ended).await.unwrap();
    assert_eq!(counts().await, [1, 1]);
    store.remove(owner(1), id(2)).await.unwrap();
    assert_eq!(counts().await, [0, 1]);
}

/// Once.
pub async fn removing_returns_what_was_removed(store: Store) {
    let connector = connected(connector(1, 1));
    store.insert(connector.clone(), PLENTY).await.unwrap();
    assert_eq!(store.remove(connector.owner, connector.id).await.unwrap(), Some(connector.clone()).into());
    assert_eq!(store.remove(connector.owner, connector.id).await.unwrap(), Removed::Nothing);
    assert_eq!(find(&store, &connector).await, None);
}

/// Every state with every optional field, inserted, updated, listed and removed.
pub async fn every_connector_comes_back_as_it_was(store: Store) {
    let runtime = tokio::runtime::Handle::current();
    let check = move || {
        let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
        let cases = (arbitrary::connector(), arbitrary::connector());
        let case = |(first, second)| runtime.block_on(round_trip(&store, first, second));
        runner.run(&cases, case).map_err(|error| error.to_string())
    };
    // Values this large go through more frames than a thread of tokio's has room for in a debug build.
    let thread = std::thread::Builder::new().stack_size(16 * 1024 * 1024).spawn(check).unwrap();
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap().unwrap();
}

async fn round_trip(store: &Store, first: Connector, second: Connector) -> Result<(), TestCaseError> {
    store.insert(first.clone(), PLENTY).await.unwrap();
    prop_assert_eq!(find(store, &first).await, Some(first.clone()));
    let changed = Connector {
        account: second.account,
        state: second.state,
        client: second.client,
        metadata: second.metadata,
        updated_at: second.updated_at,
        due_at: second.due_at,
        ..first.clone()
    };
    let stored = store.update(changed.clone()).await.unwrap();
    prop_assert_eq!(&stored, &Connector { revision: first.revision.next(), ..changed });
    let listed = list(store, first.owner, Some(stored.client_state()), None, 1).await;
    prop_assert_eq!(listed, page(std::slice::from_ref(&stored), 1, None));
    prop_assert_eq!(store.remove(first.owner, first.id).await.unwrap(), Some(stored).into());
    Ok(())
}

/// Everything as long as it may be, in characters that take four bytes where there is a choice.
pub async fn the_largest_connector_comes_back_as_it_was(store: Store) {
    let entries = (0..16).map(|number| (format!("{number:🦀>64}"), "🦀".repeat(512)));
    let token = |byte: &str| AccessToken::new(byte.repeat(16 * 1024)).unwrap();
    let url = format!("https://host.example/{}", "x".repeat(2048 - "https://host.example/".len()));
    let largest = Connector {
        url: ServerUrl::parse(&url).unwrap(),
        client: ClientCredentials::from_parts(Some("i".repeat(2048)), Some("\\".repeat(2048))).unwrap(),
        metadata: Some(Metadata::new(entries.collect()).unwrap()),
        ..connector(1, 1)
    };
    let event = Event::Established { grant: Some(Grant::supplied(token("\""))), server: ServerFacts::default() };
    let largest = connecting(largest).apply(event, now()).unwrap().connector;
    store.insert(largest.clone(), PLENTY).await.unwrap();
    assert_eq!(find(&store, &largest).await, Some(largest));
}

/// Calls are dropped at many points of their way. Each then has happened or has not, and the store goes on.
pub async fn a_caller_that_goes_away_leaves_nothing_half_done(store: Store) {
    for number in 1..=60 {
        let connector = connector(1, number);
        // From not even begun to most likely done.
        let patience = Duration::from_micros(u64::from(number) * 50 - 50);
        let _ = tokio::time::timeout(patience, store.insert(connector.clone(), PLENTY)).await;
        match store.insert(connector.clone(), PLENTY).await {
            Ok(()) | Err(InsertError::Duplicate) => {}
            Err(error) => panic!("{error:?}"),
        }
        let stored = find(&store, &connector).await;
        assert_eq!(stored.as_ref(), Some(&connector));

        let changed = Connector { metadata: note(number), ..connected(connector.clone()) };
        let _ = tokio::time::timeout(patience, store.update(changed.clone())).await;
        let after = Connector { revision: connector.revision.next(), ..changed.clone() };
        match store.update(changed).await {
            Ok(stored) => assert_eq!(stored, after),
            Err(UpdateError::Conflict) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert_eq!(find(&store, &connector).await, Some(after));
    }
    assert_eq!(list(&store, owner(1), None, None, 1).await.total, 60);
}

/// A store that was just opened can be used.
pub async fn it_is_ready(store: Store) {
    store.ready().await.unwrap();
}

/// Inserts all at once and counts those stored, those that are duplicates, and those for which there was no room.
async fn insert_all(store: &Store, all: impl Iterator<Item = Connector>, limit: u32) -> (u32, u32, u32) {
    let mut inserts = JoinSet::new();
    for connector in all {
        let store = Arc::clone(store);
        inserts.spawn(async move { store.insert(connector, limit).await });
    }
    let mut counts = (0, 0, 0);
    while let Some(insert) = inserts.join_next().await {
        match insert.unwrap() {
            Ok(()) => counts.0 += 1,
            Err(InsertError::Duplicate) => counts.1 += 1,
            Err(InsertError::LimitReached) => counts.2 += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    counts
}

async fn find(store: &Store, connector: &Connector) -> Option<Connector> {
    store.find(connector.owner, connector.id).await.unwrap()
}

async fn list(
    store: &Store,
    owner: OwnerId,
    state: Option<ClientState>,
    after: Option<ConnectorId>,
    limit: u32,
) -> ConnectorPage {
    store.list(owner, ListQuery { limit, after, state }).await.unwrap()
}

async fn list_any(store: &Store, state: Option<ClientState>, after: Option<ConnectorId>, limit: u32) -> ConnectorPage {
    store.list_any(ListQuery { limit, after, state }).await.unwrap()
}

fn page(items: &[Connector], total: u64, next: Option<ConnectorId>) -> ConnectorPage {
    ConnectorPage { items: items.to_vec(), total, next }
}

fn owner(number: u32) -> OwnerId {
    OwnerId::from_uuid(Uuid::from_u128(u128::from(number)))
}

fn id(number: u32) -> ConnectorId {
    ConnectorId::from_uuid(Uuid::from_u128(u128::from(number) << 96))
}

/// An id that no other of these tests' connectors has.
fn other(id: ConnectorId) -> ConnectorId {
    ConnectorId::from_uuid(Uuid::from_u128(id.as_uuid().as_u128() + 1))
}

fn now() -> Timestamp {
    Timestamp::constant(1_767_225_600, 123_456_000)
}

fn connector(of: u32, number: u32) -> Connector {
    let url = ServerUrl::parse(&format!("https://host{number}.example/mcp")).unwrap();
    Connector::new(id(number), owner(of), url, None, None, now())
}

fn connecting(connector: Connector) -> Connector {
    let deadline = now() + Duration::from_secs(30);
    connector.apply(Event::ConnectStarted { deadline }, now()).unwrap().connector
}

fn connected(connector: Connector) -> Connector {
    let connecting = match connector.state {
        ConnectorState::Connecting(_) => connector,
        _ => connecting(connector),
    };
    let grant = Some(Grant::supplied(AccessToken::new("token".to_owned()).unwrap()));
    let event = Event::Established { grant, server: ServerFacts::default() };
    connecting.apply(event, now()).unwrap().connector
}

fn awaiting(connector: Connector) -> Connector {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(connector.id.as_uuid().as_bytes());
    let attempt = AuthorizationAttempt {
        state_hash: StateHash(hash),
        verifier: Secret::new("verifier"),
        authority: Authority {
            issuer: Issuer::new("https://as.example"),
            token_endpoint: "https://as.example/token".to_owned(),
            revocation_endpoint: None,
            resource: Some("https://mcp.example/mcp".to_owned()),
            client: OAuthClient {
                credentials: ClientCredentials::new("id".to_owned(), None).unwrap(),
                authentication: ClientAuthentication::None,
                origin: ClientOrigin::Registered,
            },
        },
        names_itself: true,
        authorization_url: Secret::new("https://as.example/authorize?state=s"),
        redirect_uri: "http://localhost/callback".to_owned(),
        scopes: Scopes::parse("read"),
        step_ups: 0,
        redirect_url: None,
        start: None,
        expires_at: now() + Duration::from_mins(10),
    };
    connecting(connector).apply(Event::AuthorizationRequired { attempt }, now()).unwrap().connector
}

/// The connector whose user sets out from a page of the service.
fn with_start(mut connector: Connector) -> Connector {
    if let ConnectorState::Connecting(connecting) = &mut connector.state
        && let Some(attempt) = &mut connecting.attempt
    {
        attempt.start = Some(Start { ticket: Secret::new("ticket"), browser: None });
    }
    connector
}

/// The attempt with a state that no other of these tests' connectors has.
fn with_hash(attempt: AuthorizationAttempt) -> AuthorizationAttempt {
    AuthorizationAttempt { state_hash: StateHash([0xff; 32]), ..attempt }
}

fn disconnected(connector: Connector) -> Connector {
    let recovery = Some(Grant::supplied(AccessToken::new("recovery".to_owned()).unwrap()));
    let event = Event::Failed { reason: DisconnectReason::client_request(), recovery };
    connecting(connector).apply(event, now()).unwrap().connector
}

fn note(number: u32) -> Option<Metadata> {
    Metadata::new(BTreeMap::from([("note".to_owned(), number.to_string())])).ok()
}
