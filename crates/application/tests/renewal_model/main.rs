//! A model of replicas that share a store and renew one grant: whatever is slow, fails or dies, no refresh token is spent by
//! two at a time, none is spent twice without a reason that somebody can name, and no loss is silent.
//!
//! Time is tokio's, paused: a run of minutes takes a millisecond. A run is made from a seed; `CONNECTORS_MODEL_SEEDS` says
//! how many there are, and a failure names its own.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

mod authority;
mod chance;
mod mortal;
mod world;

use std::time::Duration;

use connectors_domain::{ConnectorState, DisconnectCode};

use crate::authority::Strictness;
use crate::chance::Chance;
use crate::world::World;

/// How many seeds are tried where nobody says.
const SEEDS: u64 = 500;

fn seeds() -> u64 {
    std::env::var("CONNECTORS_MODEL_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SEEDS)
}

/// What came of all runs.
#[derive(Debug, Default)]
struct Tally {
    refreshes: usize,
    crashes: usize,
    excused: usize,
    lost: usize,
}

#[test]
fn no_refresh_token_is_spent_by_two_and_no_loss_is_silent() {
    let mut tally = Tally::default();
    for seed in 0..seeds() {
        run(seed, &mut tally);
    }
    println!("{} seeds: {tally:?}", seeds());
    assert!(tally.refreshes > 0 && tally.crashes > 0 && tally.excused > 0, "the model met nothing: {tally:?}");
}

fn run(seed: u64, tally: &mut Tally) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut chance = Chance::new(seed);
        let strictness = if chance.one_in(3) { Strictness::Grace } else { Strictness::Strict };
        let world = World::new(seed, strictness).await;
        let crashes = world.live_through(&mut chance).await;
        world.settle().await;

        let stored = world.stored().await;
        let authority = world.authority.lock();
        assert_eq!(authority.violations, Vec::<String>::new(), "seed {seed}");
        tally.refreshes += authority.refreshes;
        tally.crashes += crashes;
        tally.excused += authority.excused;
        match &stored.state {
            ConnectorState::Connected(connected) => {
                assert!(!authority.revoked, "seed {seed}: the grant is revoked and nobody noticed");
                let held = connected.grant.as_ref().unwrap().issued().unwrap().refresh_token.as_ref().unwrap();
                assert!(authority.accepts(held.expose()), "seed {seed}: the stored refresh token is not the last one");
            }
            ConnectorState::Disconnected(disconnected) => {
                let code = disconnected.reason.code();
                assert!(authority.revoked, "seed {seed}: ended although the grant is good: {code}");
                // Only what was interrupted can be lost, and then it is called so.
                assert_eq!(code, DisconnectCode::RefreshOutcomeUnknown, "seed {seed}");
                assert_eq!(
                    authority.strictness,
                    Strictness::Strict,
                    "seed {seed}: a server with a grace loses nothing"
                );
                tally.lost += 1;
            }
            state => panic!("seed {seed}: {state:?}"),
        }
    });
}

#[test]
fn an_outage_longer_than_a_lease_loses_nothing() {
    for seed in 0..40 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let world = World::new(seed, Strictness::Strict).await;
            world.cut_off_in_the_middle().await;
            let stored = world.stored().await;
            let authority = world.authority.lock();
            assert_eq!((&authority.violations, authority.excused), (&Vec::new(), 0), "seed {seed}");
            assert!(matches!(stored.state, ConnectorState::Connected(_)), "seed {seed}: {:?}", stored.state);
        });
    }
}

/// How long one run lasts, in the model's time.
const LIFE: Duration = Duration::from_mins(8);
