//! Both databases hold to the contracts of the ports.

mod sqlite {
    use connectors_testkit::contract::Subject;

    use crate::common::Database;

    async fn store() -> Option<Subject> {
        let database = Database::sqlite();
        Some(Subject::new(database.open().await, database))
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

    mod registrations {
        connectors_testkit::registrations_contract!(super::store);
    }

    mod api_tokens {
        connectors_testkit::api_tokens_contract!(super::store);
    }
}

mod postgres {
    use connectors_testkit::contract::Subject;

    use crate::common::Database;

    async fn store() -> Option<Subject> {
        let database = Database::postgres().await?;
        Some(Subject::new(database.open().await, database))
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
}

mod keys {
    fn ring() -> connectors_storage::KeyRing {
        crate::common::ring(&["b", "a"])
    }

    connectors_testkit::sealer_contract!(ring);
}
