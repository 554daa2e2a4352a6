//! Both databases hold to the contract of the port.

mod sqlite {
    use connectors_testkit::contract::Subject;

    use crate::common::Database;

    async fn store() -> Option<Subject> {
        let database = Database::sqlite();
        Some(Subject::new(database.open().await, database))
    }

    connectors_testkit::connectors_contract!(store);
}

mod postgres {
    use connectors_testkit::contract::Subject;

    use crate::common::Database;

    async fn store() -> Option<Subject> {
        let database = Database::postgres().await?;
        Some(Subject::new(database.open().await, database))
    }

    connectors_testkit::connectors_contract!(store);
}
