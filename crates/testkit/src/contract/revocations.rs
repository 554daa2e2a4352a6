//! The contract of [`Revocations`](connectors_application::ports::Revocations), and of what puts grants there. Each test
//! begins with an empty store of its own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests fail by panics")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::{DueRevocation, Removed, Revocation, RevocationKey, UpdateError};
use connectors_domain::{AccessToken, Connector, Grant};
use tokio::task::JoinSet;

use super::Subject;
use super::of::{
    LONG, PLENTY, SHORT, connected, connector, failed, future, given_up, id, issued, owner, past, renewed,
};

/// Makes a test of each part of the contract. `$make` names an async function that returns `Option<Subject>`; `None`
/// skips the test.
#[macro_export]
macro_rules! revocations_contract {
    ($make:path) => {
        $crate::contract_tests!(revocations, $make:
            a_grant_that_is_retired_waits_for_its_revocation,
            a_grant_is_not_retired_over_another_revision,
            of_twenty_parallel_retirements_one_is_done,
            a_grant_outlives_its_removed_connector,
            a_grant_that_nobody_issued_is_not_revoked,
            one_generation_waits_once,
            what_is_due_is_taken_once_and_comes_up_again,
            of_many_at_once_no_two_take_the_same_grant,
            what_failed_waits_and_counts,
            what_is_done_is_dropped,
        );
    };
}

/// In the same write.
pub async fn a_grant_that_is_retired_waits_for_its_revocation(subject: &Subject) {
    let stored = stored(subject, 1).await;
    let (grant, changed) = (stored.grant().unwrap().clone(), given_up(stored.clone()));
    let retired = subject.store.retire(changed.clone(), grant.clone()).await.unwrap();
    assert_eq!(retired, Connector { revision: stored.revision.next(), ..changed });
    assert_eq!(subject.store.find(stored.owner, stored.id).await.unwrap(), Some(retired));
    assert_eq!(take(subject, 10, LONG).await, [waiting(&stored, grant, 0)]);
}

/// Nor is anything stored.
pub async fn a_grant_is_not_retired_over_another_revision(subject: &Subject) {
    let old = stored(subject, 1).await;
    let grant = old.grant().unwrap().clone();
    let stored = subject.store.update(renewed(old.clone(), "second")).await.unwrap();
    for changed in [
        given_up(old.clone()),
        Connector { owner: owner(2), ..given_up(stored.clone()) },
        Connector { id: id(9), ..given_up(stored.clone()) },
    ] {
        let retired = subject.store.retire(changed, grant.clone()).await;
        assert!(matches!(retired, Err(UpdateError::Conflict)), "{retired:?}");
    }
    assert_eq!(subject.store.find(stored.owner, stored.id).await.unwrap(), Some(stored));
    assert_eq!(take(subject, 10, LONG).await, []);
}

/// And its grant waits once.
pub async fn of_twenty_parallel_retirements_one_is_done(subject: &Subject) {
    let stored = stored(subject, 1).await;
    let grant = stored.grant().unwrap().clone();
    let mut retirements = JoinSet::new();
    for _ in 0..20 {
        let (store, changed, grant) = (Arc::clone(&subject.store), given_up(stored.clone()), grant.clone());
        retirements.spawn(async move { store.retire(changed, grant).await });
    }
    let mut done = 0;
    while let Some(retired) = retirements.join_next().await {
        match retired.unwrap() {
            Ok(_) => done += 1,
            Err(UpdateError::Conflict) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(take(subject, 10, LONG).await, [waiting(&stored, grant, 0)]);
}

/// Be it in use or kept for recovery.
pub async fn a_grant_outlives_its_removed_connector(subject: &Subject) {
    let used = stored(subject, 1).await;
    let kept = stored(subject, 2).await;
    let kept = subject.store.update(failed(kept)).await.unwrap();
    assert_eq!(subject.store.remove(owner(2), used.id).await.unwrap(), Removed::Nothing);
    assert_eq!(take(subject, 10, LONG).await, []);
    for connector in [&used, &kept] {
        let removed = subject.store.remove(connector.owner, connector.id).await.unwrap();
        assert_eq!(removed, Some(connector.clone()).into());
        let grant = connector.grant().unwrap().clone();
        assert_eq!(take(subject, 10, LONG).await, [waiting(connector, grant, 0)]);
    }
    assert_eq!(subject.store.remove(used.owner, used.id).await.unwrap(), Removed::Nothing);
    assert_eq!(take(subject, 10, LONG).await, []);
}

/// There is nobody to tell.
pub async fn a_grant_that_nobody_issued_is_not_revoked(subject: &Subject) {
    let supplied = Grant::supplied(AccessToken::new("supplied".to_owned()).unwrap());
    for (number, grant) in [(1, Some(supplied.clone())), (2, Some(supplied.clone())), (3, None)] {
        let connector = connector(number);
        subject.store.insert(connector.clone(), PLENTY).await.unwrap();
        subject.store.update(connected(connector, grant)).await.unwrap();
    }
    let first = subject.store.find(owner(1), id(1)).await.unwrap().unwrap();
    subject.store.retire(given_up(first), supplied).await.unwrap();
    for number in 1..=3 {
        subject.store.remove(owner(1), id(number)).await.unwrap();
    }
    assert_eq!(take(subject, 10, LONG).await, []);
}

/// The one that came first stays, with its count; another generation is another one.
pub async fn one_generation_waits_once(subject: &Subject) {
    let revocation = |generation, name| Revocation {
        key: RevocationKey { connector: id(1), generation },
        owner: owner(1),
        grant: issued(name),
    };
    let first = revocation(7, "first");
    subject.revocations.add(first.clone()).await.unwrap();
    subject.revocations.postpone(first.key, past(1)).await.unwrap();
    subject.revocations.add(revocation(7, "again")).await.unwrap();
    assert_eq!(take(subject, 10, LONG).await, [DueRevocation { revocation: first, failures: 1 }]);
    let second = revocation(8, "second");
    subject.revocations.add(second.clone()).await.unwrap();
    assert_eq!(take(subject, 10, LONG).await, [DueRevocation { revocation: second, failures: 0 }]);
}

/// Whoever took it may have died.
pub async fn what_is_due_is_taken_once_and_comes_up_again(subject: &Subject) {
    let all: Vec<_> = [3_u32, 1, 2].into_iter().map(revocation).collect();
    for (number, revocation) in (1..).zip(&all) {
        subject.revocations.add(revocation.clone()).await.unwrap();
        subject.revocations.postpone(revocation.key, past(number)).await.unwrap();
    }
    assert_eq!(take(subject, 0, LONG).await, []);
    // The longest due first.
    for revocation in all.iter().rev() {
        let due = take(subject, 1, SHORT).await;
        assert_eq!(due, [DueRevocation { revocation: revocation.clone(), failures: 1 }]);
    }
    assert_eq!(take(subject, 10, SHORT).await, []);
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
    assert_eq!(take(subject, 10, LONG).await.len(), 3);
}

/// Each is taken once, and none is left out.
pub async fn of_many_at_once_no_two_take_the_same_grant(subject: &Subject) {
    for number in 1..=40 {
        subject.revocations.add(revocation(number)).await.unwrap();
    }
    let mut takers = JoinSet::new();
    for _ in 0..8 {
        let revocations = Arc::clone(&subject.revocations);
        takers.spawn(async move {
            let (mut taken, mut empty) = (Vec::new(), 0);
            while empty < 3 {
                let due = revocations.take_due(5, LONG).await.unwrap();
                empty = if due.is_empty() { empty + 1 } else { 0 };
                taken.extend(due.into_iter().map(|due| due.revocation.key.connector));
            }
            taken
        });
    }
    let mut all = Vec::new();
    while let Some(taken) = takers.join_next().await {
        all.extend(taken.unwrap());
    }
    assert_eq!(all.len(), 40);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 40);
}

/// Until its time comes.
pub async fn what_failed_waits_and_counts(subject: &Subject) {
    let revocation = revocation(1);
    subject.revocations.add(revocation.clone()).await.unwrap();
    subject.revocations.postpone(revocation.key, future()).await.unwrap();
    assert_eq!(take(subject, 1, LONG).await, []);
    subject.revocations.postpone(revocation.key, past(1)).await.unwrap();
    // One that is not there is no fault.
    let strange = RevocationKey { generation: 99, ..revocation.key };
    subject.revocations.postpone(strange, past(1)).await.unwrap();
    assert_eq!(take(subject, 9, LONG).await, [DueRevocation { revocation, failures: 2 }]);
}

/// Once and for all.
pub async fn what_is_done_is_dropped(subject: &Subject) {
    let (first, second) = (revocation(1), revocation(2));
    for revocation in [&first, &second] {
        subject.revocations.add(revocation.clone()).await.unwrap();
    }
    for _ in 0..2 {
        // Not `subject.revocations.drop`, which would be that of the `Arc`.
        subject.revocations.done(first.key).await.unwrap();
    }
    let strange = RevocationKey { generation: 99, ..second.key };
    subject.revocations.done(strange).await.unwrap();
    assert_eq!(take(subject, 9, LONG).await, [DueRevocation { revocation: second, failures: 0 }]);
}

/// A connected one with a grant that an authorization server issued.
async fn stored(subject: &Subject, number: u32) -> Connector {
    let first = connector(number);
    subject.store.insert(first.clone(), PLENTY).await.unwrap();
    subject.store.update(connected(first, Some(issued("first")))).await.unwrap()
}

fn revocation(number: u32) -> Revocation {
    let key = RevocationKey { connector: id(number), generation: 7 };
    Revocation { key, owner: owner(1), grant: issued(&number.to_string()) }
}

/// The revocation that is expected of a connector's grant.
fn waiting(connector: &Connector, grant: Grant, failures: u32) -> DueRevocation {
    let key = RevocationKey { connector: connector.id, generation: grant.issued().unwrap().generation };
    DueRevocation { revocation: Revocation { key, owner: connector.owner, grant }, failures }
}

async fn take(subject: &Subject, limit: u32, hold: Duration) -> Vec<DueRevocation> {
    subject.revocations.take_due(limit, hold).await.unwrap()
}
