//! Tests of how the databases carry out the queries: over an index, whatever the number of connectors. The queries that
//! are explained here are the ones that the store runs.

use connectors_application::ports::{Connectors, ListQuery};
use connectors_domain::{ClientState, OwnerId, Secret};
use diesel::sql_types::Text;
use diesel::{ExpressionMethods, QueryDsl, QueryableByName, SelectableHelper, debug_query, sql_query};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::connectors::{page, total};
use crate::pool::{read, write_one};
use crate::row::Row;
use crate::schema::connectors;
use crate::{DatabaseUrl, KeyRing, Store, StoreSettings};

const CONNECTORS: u32 = 10_000;

type Sqlite = diesel::sqlite::Sqlite;
type Pg = diesel::pg::Pg;

#[derive(QueryableByName)]
struct SqliteStep {
    #[diesel(sql_type = Text)]
    detail: String,
}

#[derive(QueryableByName)]
struct PostgresStep {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    detail: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_finds_pages_over_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(DatabaseUrl::sqlite(directory.path().join("connectors.db"))).await;
    fill(
        &store,
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000)",
        "printf('%08x-0000-0000-0000-000000000000', n)",
    )
    .await;
    let (owner, state) = (OwnerId::local().to_string(), ClientState::Created.as_str());
    let explain = async |sql: String| {
        let sql = literal(&sql, "?");
        let steps: Vec<SqliteStep> =
            read!(&store.pool, |conn| sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(conn).await).unwrap();
        steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ")
    };
    let first = explain(debug_query::<Sqlite, _>(&page!(&owner, None::<&str>, None::<&str>, 50)).to_string()).await;
    assert_eq!(first, "SEARCH connectors USING INDEX connectors_by_owner (owner=?)");
    let next = explain(debug_query::<Sqlite, _>(&page!(&owner, None::<&str>, Some("0"), 50)).to_string()).await;
    assert_eq!(next, "SEARCH connectors USING INDEX connectors_by_owner (owner=? AND id>?)");
    let filtered = explain(debug_query::<Sqlite, _>(&page!(&owner, Some(state), Some("0"), 50)).to_string()).await;
    assert_eq!(filtered, "SEARCH connectors USING INDEX connectors_by_state (owner=? AND client_state=? AND id>?)");
    let count = explain(debug_query::<Sqlite, _>(&total!(&owner, Some(state))).to_string()).await;
    assert_eq!(count, "SEARCH connectors USING COVERING INDEX connectors_by_state (owner=? AND client_state=?)");

    pages(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_finds_pages_over_an_index() {
    // Whether a server must be there is for the tests in `tests/` to say.
    let Ok(server) = std::env::var("CONNECTORS_TEST_POSTGRES") else { return };
    let schema = format!("connectors_plans_{}", std::process::id());
    let separator = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{separator}options=-csearch_path%3D{schema}");
    let mut admin = diesel_async::AsyncPgConnection::establish(&server).await.unwrap();
    admin.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    let done = tokio::spawn(postgres_plans(url)).await;
    admin.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
    done.unwrap();
}

async fn postgres_plans(url: String) {
    let store = open(url.parse().unwrap()).await;
    fill(
        &store,
        "WITH numbers (n) AS (SELECT generate_series(1, 10000))",
        "lpad(to_hex(n), 8, '0') || '-0000-0000-0000-000000000000'",
    )
    .await;
    write_one!(&store.pool, |conn| conn.batch_execute("ANALYZE connectors").await).unwrap();
    let (owner, state) = (OwnerId::local().to_string(), ClientState::Created.as_str());
    let explain = async |sql: String| {
        let sql = literal(&sql, "$");
        let steps: Vec<PostgresStep> =
            read!(&store.pool, |conn| sql_query(format!("EXPLAIN (COSTS OFF) {sql}")).load(conn).await).unwrap();
        steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("; ")
    };
    let queries = [
        debug_query::<Pg, _>(&page!(&owner, None::<&str>, None::<&str>, 50)).to_string(),
        debug_query::<Pg, _>(&page!(&owner, None::<&str>, Some("0"), 50)).to_string(),
        debug_query::<Pg, _>(&page!(&owner, Some(state), Some("0"), 50)).to_string(),
    ];
    for sql in queries {
        let plan = explain(sql).await;
        assert!(plan.contains("Index Scan") && !plan.contains("Seq Scan") && !plan.contains("Sort"), "{plan}");
    }

    pages(&store).await;
}

async fn open(url: DatabaseUrl) -> Store {
    let keys = KeyRing::new([("a".to_owned(), Secret::new("A".repeat(43)))]).unwrap();
    Store::open(StoreSettings { keys: Some(keys), ..StoreSettings::new(url) }).await.unwrap()
}

/// Stores many connectors of one owner, and as many of others.
async fn fill(store: &Store, numbers: &str, id: &str) {
    let owner = OwnerId::local();
    let row = "'https://host' || n, 'https://host' || n, 'created', 'created', 1, 0, 0 FROM numbers";
    let columns = "(id, owner, url, url_key, state, client_state, revision, created_at, updated_at)";
    let sql = format!(
        "INSERT INTO owners VALUES ('{owner}');
         {numbers} INSERT INTO owners SELECT 'other' || n FROM numbers;
         {numbers} INSERT INTO connectors {columns} SELECT {id}, '{owner}', {row};
         {numbers} INSERT INTO connectors {columns} SELECT 'other' || n, 'other' || n, {row}"
    );
    write_one!(&store.pool, |conn| conn.batch_execute(&sql).await).unwrap();
}

/// Walks through all pages.
async fn pages(store: &Store) {
    let (mut after, mut seen) = (None, 0);
    loop {
        let query = ListQuery { limit: 1_000, after, state: Some(ClientState::Created) };
        let page = store.list(OwnerId::local(), query).await.unwrap();
        assert_eq!(page.total, u64::from(CONNECTORS));
        assert!(page.items.is_sorted_by_key(|connector| connector.id));
        assert!(page.items.iter().map(|connector| connector.id).next() > after);
        seen += page.items.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, CONNECTORS as usize);
}

/// The query that diesel prints, with its parameters in their places.
fn literal(printed: &str, mark: &str) -> String {
    let (mut sql, binds) = printed.split_once(" -- binds: [").map(|(sql, binds)| (sql.to_owned(), binds)).unwrap();
    for (index, bind) in binds.trim_end_matches(']').split(", ").enumerate() {
        let mark = if mark == "$" { format!("${}", index + 1) } else { mark.to_owned() };
        sql = sql.replacen(&mark, &bind.replace('"', "'"), 1);
    }
    sql
}
