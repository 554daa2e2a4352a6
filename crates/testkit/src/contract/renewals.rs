//! The contract of [`Renewals`](connectors_application::ports::Renewals). Each test begins with an empty store of its
//! own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "tests fail by panics")]

use std::sync::Arc;
use std::time::Duration;

use connectors_application::ports::{Claim, Claimed, RenewalKey};
use connectors_domain::{Connector, Grant};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Subject;
use super::of::{LONG, PLENTY, SHORT, connected, connector, failed, given_up, id, issued, owner, renewed};

/// Makes a test of each part of the contract. `$make` names an async function that returns `Option<Subject>`; `None`
/// skips the test.
#[macro_export]
macro_rules! renewals_contract {
    ($make:path) => {
        $crate::contract_tests!(renewals, $make:
            of_fifty_parallel_claims_one_is_given,
            a_lease_is_over_when_its_time_is,
            of_fifty_parallel_claims_over_the_end_of_a_lease_one_is_given,
            a_holder_has_its_own_lease_again,
            a_claim_of_another_generation_is_outdated,
            a_lease_on_an_old_generation_keeps_nobody_waiting,
            a_mark_on_an_old_generation_interrupts_nothing,
            nobody_gives_back_what_another_one_has,
            a_mark_outlives_its_lease_unless_the_token_is_unspent,
            a_claim_changes_nothing_of_the_connector,
            an_update_leaves_the_lease_on_its_generation,
            a_grant_that_is_kept_for_recovery_can_be_claimed,
            claims_of_two_connectors_are_two,
        );
    };
}

/// One renews, the others are told to wait.
pub async fn of_fifty_parallel_claims_one_is_given(subject: &Subject) {
    let stored = stored(subject, 1).await;
    let (winners, busy) = claim_all(subject, &stored, 50).await;
    assert_eq!((winners.len(), busy), (1, 49));
    let (holder, interrupted) = winners[0];
    assert!(!interrupted);
    // It is that one's indeed.
    assert_eq!(claim(subject, &stored, other(holder), LONG).await, Claimed::Busy);
}

/// By the store's clock, and not before. Who comes after knows that there was one.
pub async fn a_lease_is_over_when_its_time_is(subject: &Subject) {
    let stored = stored(subject, 1).await;
    assert_eq!(claim(subject, &stored, holder(1), SHORT).await, yours(&stored, false));
    assert_eq!(claim(subject, &stored, holder(2), LONG).await, Claimed::Busy);
    over().await;
    assert_eq!(claim(subject, &stored, holder(2), LONG).await, yours(&stored, true));
    // The first one is late.
    assert_eq!(claim(subject, &stored, holder(1), LONG).await, Claimed::Busy);
}

/// Nobody gets it with another.
pub async fn of_fifty_parallel_claims_over_the_end_of_a_lease_one_is_given(subject: &Subject) {
    let stored = stored(subject, 1).await;
    claim(subject, &stored, holder(0), SHORT).await;
    let end = tokio::time::Instant::now() + SHORT + Duration::from_secs(5);
    let mut winners = Vec::new();
    while winners.is_empty() && tokio::time::Instant::now() < end {
        let (round, busy) = claim_all(subject, &stored, 50).await;
        assert_eq!(round.len() + busy, 50);
        winners.extend(round);
    }
    assert_eq!(winners.len(), 1);
    assert!(winners[0].1, "it was interrupted");
}

/// A process that lost sight of its renewal need not wait for itself; it may have spent the token.
pub async fn a_holder_has_its_own_lease_again(subject: &Subject) {
    let stored = stored(subject, 1).await;
    assert_eq!(claim(subject, &stored, holder(1), SHORT).await, yours(&stored, false));
    assert_eq!(claim(subject, &stored, holder(1), LONG).await, yours(&stored, true));
    over().await;
    assert_eq!(claim(subject, &stored, holder(2), LONG).await, Claimed::Busy, "the second lease counts");
}

/// Whatever has become of the grant.
pub async fn a_claim_of_another_generation_is_outdated(subject: &Subject) {
    let first = stored(subject, 1).await;
    let strange = |key| Claim { key, holder: holder(1), lease: LONG };
    for key in [
        RenewalKey { owner: owner(2), ..key(&first) },
        RenewalKey { connector: id(9), ..key(&first) },
        RenewalKey { generation: 99, ..key(&first) },
    ] {
        assert_eq!(subject.renewals.claim(strange(key)).await.unwrap(), Claimed::Outdated);
    }
    let second = subject.store.update(renewed(first.clone(), "second")).await.unwrap();
    assert_ne!(first.generation(), second.generation());
    assert_eq!(claim(subject, &first, holder(1), LONG).await, Claimed::Outdated);
    let third = subject.store.update(given_up(second.clone())).await.unwrap();
    assert_eq!(claim(subject, &second, holder(1), LONG).await, Claimed::Outdated);
    subject.store.remove(third.owner, third.id).await.unwrap();
    assert_eq!(claim(subject, &second, holder(1), LONG).await, Claimed::Outdated);

    // A token that the user handed over is of no generation, and neither is none.
    let grant = Grant::supplied(first.grant().unwrap().access_token.clone());
    for (number, grant) in [(2, Some(grant)), (3, None)] {
        let stored = connected(connector(number), grant);
        subject.store.insert(stored.clone(), PLENTY).await.unwrap();
        let key = RenewalKey { owner: stored.owner, connector: stored.id, generation: 0 };
        assert_eq!(subject.renewals.claim(strange(key)).await.unwrap(), Claimed::Outdated);
    }
}

/// The one who renewed may never have given it back.
pub async fn a_lease_on_an_old_generation_keeps_nobody_waiting(subject: &Subject) {
    let first = stored(subject, 1).await;
    claim(subject, &first, holder(1), LONG).await;
    let second = subject.store.update(renewed(first.clone(), "second")).await.unwrap();
    assert_eq!(claim(subject, &second, holder(2), LONG).await, yours(&second, false));
    // Who had the old one gives back nothing of the new one.
    subject.renewals.release(key(&first), holder(1), true).await.unwrap();
    subject.renewals.release(key(&second), holder(1), true).await.unwrap();
    assert_eq!(claim(subject, &second, holder(1), LONG).await, Claimed::Busy);
}

/// Nobody is told of an interruption that is over.
pub async fn a_mark_on_an_old_generation_interrupts_nothing(subject: &Subject) {
    let first = stored(subject, 1).await;
    claim(subject, &first, holder(1), LONG).await;
    let second = subject.store.update(renewed(first.clone(), "second")).await.unwrap();
    // Given back late, and told of as spent.
    subject.renewals.release(key(&first), holder(1), false).await.unwrap();
    assert_eq!(claim(subject, &second, holder(1), LONG).await, yours(&second, false));
}

/// Only the holder does.
pub async fn nobody_gives_back_what_another_one_has(subject: &Subject) {
    let stored = stored(subject, 1).await;
    claim(subject, &stored, holder(1), LONG).await;
    for unspent in [false, true] {
        subject.renewals.release(key(&stored), holder(2), unspent).await.unwrap();
        let strange = RenewalKey { owner: owner(2), ..key(&stored) };
        subject.renewals.release(strange, holder(1), unspent).await.unwrap();
        let strange = RenewalKey { generation: 99, ..key(&stored) };
        subject.renewals.release(strange, holder(1), unspent).await.unwrap();
    }
    assert_eq!(claim(subject, &stored, holder(2), LONG).await, Claimed::Busy);
    // Nor is the mark taken away.
    subject.renewals.release(key(&stored), holder(1), false).await.unwrap();
    assert_eq!(claim(subject, &stored, holder(2), LONG).await, yours(&stored, true));
}

/// Who comes next knows whether the token may have been spent.
pub async fn a_mark_outlives_its_lease_unless_the_token_is_unspent(subject: &Subject) {
    let stored = stored(subject, 1).await;
    claim(subject, &stored, holder(1), LONG).await;
    subject.renewals.release(key(&stored), holder(1), true).await.unwrap();
    assert_eq!(claim(subject, &stored, holder(2), LONG).await, yours(&stored, false));
    subject.renewals.release(key(&stored), holder(2), false).await.unwrap();
    assert_eq!(claim(subject, &stored, holder(1), LONG).await, yours(&stored, true));
    // Twice is as good as once.
    subject.renewals.release(key(&stored), holder(1), false).await.unwrap();
    subject.renewals.release(key(&stored), holder(1), true).await.unwrap();
    assert_eq!(claim(subject, &stored, holder(1), LONG).await, yours(&stored, true));
}

/// Whoever read it before may store over it.
pub async fn a_claim_changes_nothing_of_the_connector(subject: &Subject) {
    let stored = stored(subject, 1).await;
    claim(subject, &stored, holder(1), LONG).await;
    assert_eq!(subject.store.find(stored.owner, stored.id).await.unwrap().as_ref(), Some(&stored));
    subject.renewals.release(key(&stored), holder(1), false).await.unwrap();
    assert_eq!(subject.store.find(stored.owner, stored.id).await.unwrap().as_ref(), Some(&stored));
    subject.store.update(stored).await.unwrap();
}

/// A change beside the grant is no end of its renewal.
pub async fn an_update_leaves_the_lease_on_its_generation(subject: &Subject) {
    let stored = stored(subject, 1).await;
    claim(subject, &stored, holder(1), LONG).await;
    let changed = subject.store.update(failed(stored)).await.unwrap();
    assert_eq!(claim(subject, &changed, holder(2), LONG).await, Claimed::Busy);
    subject.renewals.release(key(&changed), holder(1), false).await.unwrap();
    assert_eq!(claim(subject, &changed, holder(2), LONG).await, yours(&changed, true));
}

/// A connect tries with it first.
pub async fn a_grant_that_is_kept_for_recovery_can_be_claimed(subject: &Subject) {
    let stored = stored(subject, 1).await;
    let stored = subject.store.update(failed(stored)).await.unwrap();
    assert_eq!(claim(subject, &stored, holder(1), LONG).await, yours(&stored, false));
}

/// Connectors do not know of each other.
pub async fn claims_of_two_connectors_are_two(subject: &Subject) {
    let (first, second) = (stored(subject, 1).await, stored(subject, 2).await);
    assert_eq!(claim(subject, &first, holder(1), LONG).await, yours(&first, false));
    assert_eq!(claim(subject, &second, holder(2), LONG).await, yours(&second, false));
    subject.renewals.release(key(&second), holder(1), true).await.unwrap();
    assert_eq!(claim(subject, &second, holder(1), LONG).await, Claimed::Busy);
}

/// A connected one with a grant that can be renewed.
async fn stored(subject: &Subject, number: u32) -> Connector {
    let first = connector(number);
    subject.store.insert(first.clone(), PLENTY).await.unwrap();
    subject.store.update(connected(first, Some(issued("first")))).await.unwrap()
}

fn key(connector: &Connector) -> RenewalKey {
    RenewalKey { owner: connector.owner, connector: connector.id, generation: connector.generation().unwrap() }
}

fn holder(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn other(holder: Uuid) -> Uuid {
    Uuid::from_u128(holder.as_u128() + 1_000)
}

fn yours(connector: &Connector, interrupted: bool) -> Claimed {
    Claimed::Yours { connector: Box::new(connector.clone()), interrupted }
}

async fn claim(subject: &Subject, connector: &Connector, holder: Uuid, lease: Duration) -> Claimed {
    subject.renewals.claim(Claim { key: key(connector), holder, lease }).await.unwrap()
}

/// Waits until a short lease is over.
async fn over() {
    tokio::time::sleep(SHORT + Duration::from_millis(100)).await;
}

/// So many holders claim at once. Those who got it, each with whether it was interrupted, and how many have to wait.
async fn claim_all(subject: &Subject, connector: &Connector, count: u128) -> (Vec<(Uuid, bool)>, usize) {
    let mut claims = JoinSet::new();
    for number in 1..=count {
        let renewals = Arc::clone(&subject.renewals);
        let claim = Claim { key: key(connector), holder: holder(number), lease: LONG };
        claims.spawn(async move { (claim.holder, renewals.claim(claim).await.unwrap()) });
    }
    let (mut winners, mut busy) = (Vec::new(), 0);
    while let Some(claim) = claims.join_next().await {
        match claim.unwrap() {
            (holder, Claimed::Yours { interrupted, .. }) => winners.push((holder, interrupted)),
            (_, Claimed::Busy) => busy += 1,
            (_, Claimed::Outdated) => panic!("the generation is there"),
        }
    }
    (winners, busy)
}
