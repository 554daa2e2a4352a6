//! A process that is killed in the middle of its work leaves whole rows behind, and its lock to the next.

use std::process::{Command, Stdio};
use std::time::Duration;

use connectors_application::ports::{Connectors, ListQuery};
use connectors_domain::{Connector, Event};
use connectors_storage::{DatabaseUrl, OpenError, Store, StoreSettings};

use crate::common::{Database, PLENTY, connected, created, now, owner, ring};

const DATABASE: &str = "CONNECTORS_TEST_CRASH_DATABASE";

/// Not a test of its own: what the killed process runs.
#[tokio::test(flavor = "multi_thread")]
async fn writes_until_it_is_killed() {
    let Ok(path) = std::env::var(DATABASE) else { return };
    let settings = StoreSettings { keys: Some(ring(&["a"])), ..StoreSettings::new(DatabaseUrl::sqlite(path)) };
    let store = Store::open(settings).await.unwrap();
    let first = store.list(owner(), ListQuery { limit: 1, after: None, state: None }).await.unwrap().total;
    for number in u32::try_from(first).unwrap() + 1.. {
        store.insert(connected(number), PLENTY).await.unwrap();
        // Done means done: whatever is printed must be there afterwards.
        println!("stored {number}");
        let changed = connected(number).apply(Event::DisconnectRequested, now()).unwrap().connector;
        store.update(changed).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_whole_rows_and_no_lock() {
    let database = Database::sqlite();
    let mut before = 0;
    for round in 0..4_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::writes_until_it_is_killed", "--nocapture", "--test-threads=1"])
            .env(DATABASE, database.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        // The first row is stored, so the child serves.
        let stored = |line: String| line.rsplit_once("stored ").and_then(|(_, number)| number.parse::<u64>().ok());
        let first = lines.by_ref().find_map(|line| stored(line.unwrap())).unwrap();
        assert_eq!(first, before + 1);
        assert!(matches!(Store::open(database.settings()).await, Err(OpenError::InUse { .. })));
        tokio::time::sleep(Duration::from_millis(50 + 37 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let last = lines.map_while(Result::ok).filter_map(stored).last().unwrap_or(first);

        let store = database.open().await;
        let all = store.list(owner(), ListQuery { limit: 10_000, after: None, state: None }).await.unwrap();
        assert!(all.total == last || all.total == last + 1, "{} rows, {last} of them acknowledged", all.total);
        assert_eq!(all.items.len() as u64, all.total);
        for (number, connector) in (1..).zip(&all.items) {
            let connected = connected(number);
            let disconnected = connected.clone().apply(Event::DisconnectRequested, now()).unwrap().connector;
            let disconnected = Connector { revision: connected.revision.next(), ..disconnected };
            assert!(*connector == connected || *connector == disconnected, "{connector:?}");
        }
        assert_eq!(store.find(owner(), created(0).id).await.unwrap(), None);
        before = all.total;
        drop(store);
    }
}
