//! The memory store holds to the contracts of the ports, so that tests which use it are worth something.

use connectors_testkit::MemoryStore;
use connectors_testkit::contract::Subject;

#[allow(clippy::unused_async, reason = "the suites make their stores asynchronously")]
async fn store() -> Option<Subject> {
    Some(Subject::new(MemoryStore::new(), ()))
}

connectors_testkit::connectors_contract!(store);

mod renewals {
    connectors_testkit::renewals_contract!(super::store);
}

mod agenda {
    connectors_testkit::agenda_contract!(super::store);
}

mod revocations {
    connectors_testkit::revocations_contract!(super::store);
}

mod changes {
    connectors_testkit::changes_contract!(super::store);
}

mod registrations {
    connectors_testkit::registrations_contract!(super::store);
}

mod api_tokens {
    connectors_testkit::api_tokens_contract!(super::store);
}
