//! The memory store holds to the contract of the port, so that tests which use it are worth something.

use connectors_testkit::MemoryStore;
use connectors_testkit::contract::Subject;

#[allow(clippy::unused_async, reason = "the suite makes its stores asynchronously")]
async fn store() -> Option<Subject> {
    Some(Subject::new(MemoryStore::new(), ()))
}

connectors_testkit::connectors_contract!(store);
