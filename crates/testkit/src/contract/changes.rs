//! The contract of [`Changes`](connectors_application::ports::Changes), for a store that several processes may use. Each
//! test begins with an empty store of its own.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "tests fail by panics")]

use std::time::Duration;

use connectors_application::ports::{ChangeStream, Claim, Noted, Postponed, RenewalKey};
use connectors_domain::ConnectorId;
use futures_util::StreamExt;
use uuid::Uuid;

use super::Subject;
use super::of::{LONG, PLENTY, connected, connector, due, given_up, issued, past, renewed};

/// Makes a test of each part of the contract. `$make` names an async function that returns `Option<Subject>`; `None`
/// skips the test.
#[macro_export]
macro_rules! changes_contract {
    ($make:path) => {
        $crate::contract_tests!(changes, $make:
            every_change_is_told_to_all_who_follow,
            leases_and_due_times_are_not_told,
            what_comes_to_nothing_is_not_told,
        );
    };
}

/// In the order in which they were made.
pub async fn every_change_is_told_to_all_who_follow(subject: &Subject) {
    let mut followers = [follow(subject).await, follow(subject).await];
    let (first, second) = (connector(1), connector(2));
    let (one, two) = (first.id, second.id);
    subject.store.insert(first.clone(), PLENTY).await.unwrap();
    let stored = subject.store.update(connected(first, Some(issued("first")))).await.unwrap();
    subject.store.insert(second, PLENTY).await.unwrap();
    let stored = subject.store.update(renewed(stored, "second")).await.unwrap();
    let grant = stored.grant().unwrap().clone();
    let stored = subject.store.retire(given_up(stored), grant).await.unwrap();
    subject.store.remove(stored.owner, one).await.unwrap();
    for changes in &mut followers {
        for expected in [one, one, two, one, one, one] {
            assert_eq!(next(changes).await, expected);
        }
    }
}

/// Only whoever keeps a copy of the connector is told, and that is still as it was.
pub async fn leases_and_due_times_are_not_told(subject: &Subject) {
    let first = due(connector(1), Some(past(1)));
    subject.store.insert(first.clone(), PLENTY).await.unwrap();
    let stored = subject.store.update(connected(first, Some(issued("first")))).await.unwrap();
    let mut changes = follow(subject).await;
    let key = RenewalKey { owner: stored.owner, connector: stored.id, generation: stored.generation().unwrap() };
    let holder = Uuid::from_u128(1);
    subject.renewals.claim(Claim { key, holder, lease: LONG }).await.unwrap();
    subject.renewals.release(key, holder, false).await.unwrap();
    subject.agenda.take_due(1, LONG).await.unwrap();
    let postponed =
        Postponed { owner: stored.owner, connector: stored.id, revision: stored.revision, until: None, failures: 1 };
    subject.agenda.postpone(postponed).await.unwrap();
    // Had they been told, it would be before this.
    let second = connector(2);
    subject.store.insert(second.clone(), PLENTY).await.unwrap();
    assert_eq!(next(&mut changes).await, second.id);
}

/// A change that was refused is none.
pub async fn what_comes_to_nothing_is_not_told(subject: &Subject) {
    let first = connector(1);
    subject.store.insert(first.clone(), PLENTY).await.unwrap();
    let stored = subject.store.update(connected(first.clone(), Some(issued("first")))).await.unwrap();
    let mut changes = follow(subject).await;
    subject.store.insert(first.clone(), PLENTY).await.unwrap_err();
    subject.store.insert(connector(3), 1).await.unwrap_err();
    subject.store.update(first.clone()).await.unwrap_err();
    let grant = stored.grant().unwrap().clone();
    subject.store.retire(first, grant).await.unwrap_err();
    let second = connector(2);
    subject.store.insert(second.clone(), PLENTY).await.unwrap();
    assert_eq!(next(&mut changes).await, second.id);
}

/// Follows, and waits until changes are heard of. What was told of by then is left out.
async fn follow(subject: &Subject) -> ChangeStream {
    let mut changes = subject.changes.follow();
    let sign = connector(900);
    let heard = async {
        loop {
            subject.store.insert(sign.clone(), PLENTY).await.unwrap();
            subject.store.remove(sign.owner, sign.id).await.unwrap();
            while let Ok(Some(noted)) = tokio::time::timeout(Duration::from_millis(200), changes.next()).await {
                if noted == Noted::Connector(sign.id) {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), heard).await.unwrap();
    changes
}

/// The next change that is not a sign of [`follow`].
async fn next(changes: &mut ChangeStream) -> ConnectorId {
    let next = async {
        loop {
            match changes.next().await.unwrap() {
                Noted::Connector(id) if id != connector(900).id => return id,
                Noted::Connector(_) | Noted::Everything => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), next).await.unwrap()
}
