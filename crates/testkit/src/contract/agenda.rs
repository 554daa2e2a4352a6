//! The contract of [`Agenda`](connectors_application::ports::Agenda). Each test begins with an empty store of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests fail by panics")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::Postponed;
use connectors_domain::{Connector, ConnectorId};
use jiff::Timestamp;
use tokio::task::JoinSet;

use super::Subject;
use super::of::{LONG, PLENTY, SHORT, connector, due, future, id, owner, past};

/// Makes a test of each part of the contract. `$make` names an async function that returns `Option<Subject>`; `None`
/// skips the test.
#[macro_export]
macro_rules! agenda_contract {
    ($make:path) => {
        $crate::contract_tests!(agenda, $make:
            what_is_due_is_taken_and_nothing_else,
            the_longest_due_is_taken_first,
            what_is_taken_comes_up_again_after_a_while,
            of_many_at_once_no_two_take_the_same,
            what_is_put_off_waits_and_counts,
            only_what_was_looked_after_is_put_off,
            an_update_begins_the_count_anew,
            taking_and_putting_off_change_no_revision,
            the_backlog_is_what_nobody_has_taken,
        );
    };
}

/// By the store's clock.
pub async fn what_is_due_is_taken_and_nothing_else(subject: &Subject) {
    for (number, due_at) in [(1, Some(past(1))), (2, None), (3, Some(future())), (4, Some(Timestamp::UNIX_EPOCH))] {
        store(subject, number, due_at).await;
    }
    let mut taken = take(subject, 10, LONG).await;
    taken.sort();
    assert_eq!(taken, [(id(1), 0), (id(4), 0)]);
    assert_eq!(take(subject, 10, LONG).await, []);
}

/// And never more than were asked for.
pub async fn the_longest_due_is_taken_first(subject: &Subject) {
    for number in [3, 1, 5, 2, 4] {
        store(subject, number, Some(past(number))).await;
    }
    for number in [5, 4] {
        assert_eq!(take(subject, 1, LONG).await, [(id(number), 0)]);
    }
    let mut taken = take(subject, 2, LONG).await;
    taken.sort();
    assert_eq!(taken, [(id(2), 0), (id(3), 0)]);
    assert_eq!(take(subject, 0, LONG).await, []);
    assert_eq!(take(subject, 2, LONG).await, [(id(1), 0)]);
}

/// Whoever took it may have died.
pub async fn what_is_taken_comes_up_again_after_a_while(subject: &Subject) {
    store(subject, 1, Some(past(1))).await;
    assert_eq!(take(subject, 10, SHORT).await, [(id(1), 0)]);
    assert_eq!(take(subject, 10, SHORT).await, []);
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
    assert_eq!(take(subject, 10, LONG).await, [(id(1), 0)]);
}

/// Each is taken once, and none is left out.
pub async fn of_many_at_once_no_two_take_the_same(subject: &Subject) {
    const ALL: u32 = 60;
    for number in 1..=ALL {
        store(subject, number, Some(past(number))).await;
    }
    let mut takers = JoinSet::new();
    for _ in 0..8 {
        let agenda = Arc::clone(&subject.agenda);
        takers.spawn(async move {
            let mut taken = Vec::new();
            let mut empty = 0;
            // Rows that another one is taking are passed over, so that a round may find none.
            while empty < 3 {
                let due = agenda.take_due(5, LONG).await.unwrap();
                assert!(due.len() <= 5);
                empty = if due.is_empty() { empty + 1 } else { 0 };
                taken.extend(due.into_iter().map(|due| due.connector.id));
            }
            taken
        });
    }
    let mut counts = BTreeMap::<ConnectorId, u32>::new();
    while let Some(taken) = takers.join_next().await {
        for id in taken.unwrap() {
            *counts.entry(id).or_default() += 1;
        }
    }
    assert_eq!(counts.len(), ALL as usize);
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
}

/// Until its time comes, or for as long as nothing happens to it.
pub async fn what_is_put_off_waits_and_counts(subject: &Subject) {
    let stored = store(subject, 1, Some(past(1))).await;
    assert_eq!(take(subject, 1, LONG).await, [(id(1), 0)]);
    postpone(subject, &stored, Some(future()), 1).await;
    assert_eq!(take(subject, 1, LONG).await, []);
    postpone(subject, &stored, Some(past(2)), 2).await;
    assert_eq!(take(subject, 1, LONG).await, [(id(1), 2)]);
    postpone(subject, &stored, None, 7).await;
    assert_eq!(take(subject, 1, LONG).await, []);
    let found = subject.store.find(stored.owner, stored.id).await.unwrap().unwrap();
    assert_eq!(found.due_at, None);
}

/// Whoever changed it meanwhile has said when it is due.
pub async fn only_what_was_looked_after_is_put_off(subject: &Subject) {
    let old = store(subject, 1, Some(past(1))).await;
    let stored = subject.store.update(due(old.clone(), Some(past(3)))).await.unwrap();
    postpone(subject, &old, None, 5).await;
    postpone(subject, &Connector { owner: owner(2), ..stored.clone() }, None, 5).await;
    postpone(subject, &Connector { id: id(2), ..stored.clone() }, None, 5).await;
    assert_eq!(subject.store.find(stored.owner, stored.id).await.unwrap(), Some(stored));
    assert_eq!(take(subject, 1, LONG).await, [(id(1), 0)]);
}

/// What has changed may be helped now.
pub async fn an_update_begins_the_count_anew(subject: &Subject) {
    let stored = store(subject, 1, Some(past(1))).await;
    postpone(subject, &stored, Some(past(1)), 3).await;
    subject.store.update(stored).await.unwrap();
    assert_eq!(take(subject, 1, LONG).await, [(id(1), 0)]);
}

/// Whoever read it before may store over it.
pub async fn taking_and_putting_off_change_no_revision(subject: &Subject) {
    let stored = store(subject, 1, Some(past(1))).await;
    let taken = subject.agenda.take_due(1, LONG).await.unwrap().pop().unwrap().connector;
    assert!(taken.due_at > stored.due_at);
    assert_eq!(Connector { due_at: stored.due_at, ..taken }, stored);
    postpone(subject, &stored, None, 1).await;
    let stored = subject.store.update(stored).await.unwrap();
    assert_eq!(subject.store.find(stored.owner, stored.id).await.unwrap(), Some(stored));
}

/// What somebody has taken is in hand.
pub async fn the_backlog_is_what_nobody_has_taken(subject: &Subject) {
    let backlog = async || subject.agenda.backlog().await.unwrap();
    assert_eq!(backlog().await, 0);
    for (number, due_at) in [(1, Some(past(1))), (2, Some(past(2))), (3, Some(future())), (4, None)] {
        store(subject, number, due_at).await;
    }
    assert_eq!(backlog().await, 2);
    take(subject, 1, LONG).await;
    assert_eq!(backlog().await, 1);
    take(subject, 9, LONG).await;
    assert_eq!(backlog().await, 0);
}

async fn store(subject: &Subject, number: u32, due_at: Option<Timestamp>) -> Connector {
    let connector = due(connector(number), due_at);
    subject.store.insert(connector.clone(), PLENTY).await.unwrap();
    connector
}

/// Takes what is due: which, and how often in a row each could not be helped.
async fn take(subject: &Subject, limit: u32, hold: Duration) -> Vec<(ConnectorId, u32)> {
    let due = subject.agenda.take_due(limit, hold).await.unwrap();
    due.into_iter().map(|due| (due.connector.id, due.failures)).collect()
}

async fn postpone(subject: &Subject, connector: &Connector, until: Option<Timestamp>, failures: u32) {
    let Connector { owner, id, revision, .. } = connector;
    let postponed = Postponed { owner: *owner, connector: *id, revision: *revision, until, failures };
    subject.agenda.postpone(postponed).await.unwrap();
}
