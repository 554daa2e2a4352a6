//! Tests of how the databases carry out the queries: over an index, whatever the number of connectors. The queries that
//! are explained here are the ones that the store runs.

use std::time::Duration;

use connectors_application::ports::{Agenda, Connectors, ListQuery};
use connectors_domain::{ClientState, OwnerId, Secret};
use diesel::sql_types::Text;
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, NullableExpressionMethods, QueryDsl, QueryableByName,
    SelectableHelper, debug_query, sql_query,
};
use diesel_async::{AsyncConnection, RunQueryDsl, SimpleAsyncConnection};

use crate::agenda::{backlog, take as take_due};
use crate::connectors::{any, page, total};
use crate::due::AmongDue;
use crate::pool::{read, write_one};
use crate::renewals::claim;
use crate::reseal::{first_key, known, of_key, of_no_key, unknown};
use crate::revocations::{RevocationRow, take as take_revocations};
use crate::row::{Row, Secrets};
use crate::schema::{connectors, revocations};
use crate::time::{after, from_now, now, now_once};
use crate::{DatabaseUrl, KeyRing, Limits, Store, StoreSettings};

const CONNECTORS: u32 = 10_000;

const CONNECTED: &str = ClientState::Connected.as_str();

const WAITING: &str = ClientState::AuthRequired.as_str();

const LONG: Duration = Duration::from_mins(10);

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
    let first =
        explain(debug_query::<Sqlite, _>(&page!(Some(&owner), None::<&str>, None::<&str>, 50)).to_string()).await;
    assert_eq!(first, "SEARCH connectors USING INDEX connectors_by_owner (owner=?)");
    let next = explain(debug_query::<Sqlite, _>(&page!(Some(&owner), None::<&str>, Some("0"), 50)).to_string()).await;
    assert_eq!(next, "SEARCH connectors USING INDEX connectors_by_owner (owner=? AND id>?)");
    let filtered =
        explain(debug_query::<Sqlite, _>(&page!(Some(&owner), Some(state), Some("0"), 50)).to_string()).await;
    assert_eq!(filtered, "SEARCH connectors USING INDEX connectors_by_state (owner=? AND client_state=? AND id>?)");
    let count = explain(debug_query::<Sqlite, _>(&total!(Some(&owner), Some(state))).to_string()).await;
    assert_eq!(count, "SEARCH connectors USING COVERING INDEX connectors_by_state (owner=? AND client_state=?)");

    let any = explain(debug_query::<Sqlite, _>(&any!("0")).to_string()).await;
    assert_eq!(any, "SEARCH connectors USING INDEX sqlite_autoindex_connectors_1 (id=?)");
    let everybody = None::<&str>;
    let first = explain(debug_query::<Sqlite, _>(&page!(everybody, None::<&str>, None::<&str>, 50)).to_string()).await;
    assert_eq!(first, "SCAN connectors USING INDEX sqlite_autoindex_connectors_1");
    let next = explain(debug_query::<Sqlite, _>(&page!(everybody, None::<&str>, Some("0"), 50)).to_string()).await;
    assert_eq!(next, "SEARCH connectors USING INDEX sqlite_autoindex_connectors_1 (id>?)");
    let filtered = explain(debug_query::<Sqlite, _>(&page!(everybody, Some(state), Some("0"), 50)).to_string()).await;
    assert_eq!(filtered, "SEARCH connectors USING INDEX connectors_by_client_state (client_state=? AND id>?)");
    let count = explain(debug_query::<Sqlite, _>(&total!(everybody, Some(state))).to_string()).await;
    assert_eq!(count, "SEARCH connectors USING COVERING INDEX connectors_by_client_state (client_state=?)");

    pages(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_finds_pages_over_an_index() {
    on_postgres("pages", postgres_pages).await;
}

/// Runs a test in a schema of its own, if there is a server.
async fn on_postgres<F: Future<Output = ()> + Send + 'static>(name: &str, test: fn(String) -> F) {
    // Whether a server must be there is for the tests in `tests/` to say.
    let Ok(server) = std::env::var("CONNECTORS_TEST_POSTGRES") else { return };
    let schema = format!("connectors_plans_{name}_{}", std::process::id());
    let separator = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{separator}options=-csearch_path%3D{schema}");
    let mut admin = diesel_async::AsyncPgConnection::establish(&server).await.unwrap();
    admin.batch_execute(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    let done = tokio::spawn(test(url)).await;
    admin.batch_execute(&format!("DROP SCHEMA {schema} CASCADE")).await.unwrap();
    done.unwrap();
}

async fn postgres_pages(url: String) {
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
        debug_query::<Pg, _>(&page!(Some(&owner), None::<&str>, None::<&str>, 50)).to_string(),
        debug_query::<Pg, _>(&page!(Some(&owner), None::<&str>, Some("0"), 50)).to_string(),
        debug_query::<Pg, _>(&page!(Some(&owner), Some(state), Some("0"), 50)).to_string(),
    ];
    for sql in queries {
        let plan = explain(sql).await;
        assert!(plan.contains("Index Scan") && !plan.contains("Seq Scan") && !plan.contains("Sort"), "{plan}");
    }
    pages(&store).await;

    // A state in which there are few, and those at the end of the order.
    let rare =
        format!("UPDATE connectors SET client_state = '{CONNECTED}' WHERE id LIKE 'other99%'; ANALYZE connectors");
    write_one!(&store.pool, |conn| conn.batch_execute(&rare).await).unwrap();
    let everybody = None::<&str>;
    let queries = [
        debug_query::<Pg, _>(&any!("0")).to_string(),
        debug_query::<Pg, _>(&page!(everybody, None::<&str>, None::<&str>, 50)).to_string(),
        debug_query::<Pg, _>(&page!(everybody, None::<&str>, Some("0"), 50)).to_string(),
        debug_query::<Pg, _>(&page!(everybody, Some(state), None::<&str>, 50)).to_string(),
        debug_query::<Pg, _>(&page!(everybody, Some(state), Some("0"), 50)).to_string(),
        debug_query::<Pg, _>(&page!(everybody, Some(CONNECTED), None::<&str>, 50)).to_string(),
        debug_query::<Pg, _>(&page!(everybody, Some(CONNECTED), Some("0"), 50)).to_string(),
        debug_query::<Pg, _>(&total!(Some(&owner), Some(WAITING))).to_string(),
    ];
    for sql in queries {
        let plan = analyze(&store, &sql).await;
        assert!(plan.contains("Index ") && !plan.contains("Seq Scan") && !plan.contains("Sort"), "{plan}");
        // A page and the one that shows whether there is another, and nothing that is read in vain.
        assert!(most(&plan, "actual rows=") <= 51 && most(&plan, "Removed by Filter: ") == 0, "{plan}");
        assert!(most(&plan, "shared hit=") + most(&plan, " read=") <= 200, "{plan}");
    }
}

/// The queries of background work, by name, as a database is asked them.
macro_rules! background {
    ($database:ty) => {{
        let (id, owner, holder) = ("00000007-0000-0000-0000-000000000000", OwnerId::local().to_string(), "me");
        [
            ("take", debug_query::<$database, _>(&take_due!(50, LONG)).to_string()),
            ("backlog", debug_query::<$database, _>(&backlog!()).to_string()),
            ("revoke", debug_query::<$database, _>(&take_revocations!(50, LONG)).to_string()),
            ("claim", debug_query::<$database, _>(&claim!(id, &owner, 1_i64, holder, LONG)).to_string()),
            ("key", debug_query::<$database, _>(&first_key!(connectors, "a")).to_string()),
            ("reseal", debug_query::<$database, _>(&of_key!("old", 10_i64, 20_i64)).to_string()),
            ("unknown", debug_query::<$database, _>(&of_no_key!(10_i64, 20_i64)).to_string()),
        ]
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_finds_background_work_over_an_index() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(DatabaseUrl::sqlite(directory.path().join("connectors.db"))).await;
    fill_background(
        &store,
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)",
        "printf('%08x-0000-0000-0000-000000000000', n)",
        "x'00'",
    )
    .await;
    let mut plans = Vec::new();
    for (name, sql) in background!(Sqlite) {
        let sql = literal(&sql, "?");
        let steps: Vec<SqliteStep> =
            write_one!(&store.pool, |conn| sql_query(format!("EXPLAIN QUERY PLAN {sql}")).load(conn).await).unwrap();
        let steps = steps.into_iter().map(|step| step.detail).filter(|step| !step.contains("SUBQUERY"));
        let steps: Vec<_> = steps.filter(|step| step != "SCAN CONSTANT ROW").collect();
        plans.push(format!("{name}: {}", steps.join("; ")));
    }
    assert_eq!(
        plans,
        [
            "take: SEARCH connectors USING INTEGER PRIMARY KEY (rowid=?); \
             SEARCH connectors USING COVERING INDEX connectors_by_due (due_at<?)",
            "backlog: SEARCH connectors USING COVERING INDEX connectors_by_due (due_at<?)",
            "revoke: SEARCH revocations USING INTEGER PRIMARY KEY (rowid=?); \
             SEARCH revocations USING COVERING INDEX revocations_by_due (due_at<?)",
            "claim: SEARCH connectors USING INDEX sqlite_autoindex_connectors_1 (id=?)",
            "key: SEARCH connectors USING COVERING INDEX connectors_by_key (seal_key>?)",
            "reseal: SEARCH connectors USING INDEX connectors_by_key (seal_key=?)",
            // An index of these rows alone.
            "unknown: SCAN connectors USING INDEX connectors_by_unknown_key",
        ]
    );
    finds_what_is_due(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_finds_background_work_over_an_index() {
    on_postgres("background", postgres_background).await;
}

async fn postgres_background(url: String) {
    let store = open(url.parse().unwrap()).await;
    fill_background(
        &store,
        "WITH numbers (n) AS (SELECT generate_series(1, 100000))",
        "lpad(to_hex(n), 8, '0') || '-0000-0000-0000-000000000000'",
        "'\\x00'::bytea",
    )
    .await;
    write_one!(&store.pool, |conn| conn.batch_execute("ANALYZE connectors; ANALYZE revocations").await).unwrap();
    for (name, sql) in background!(Pg) {
        let plan = analyze(&store, &sql).await;
        assert!(plan.contains(" using ") && !plan.contains("Seq Scan") && !plan.contains("Sort"), "{name}: {plan}");
        // What it touches follows from what is due, of which there are 100, and not from the 100,000 that there are.
        assert!(most(&plan, "actual rows=") <= 100, "{name}: {plan}");
        assert!(most(&plan, "shared hit=") + most(&plan, " read=") <= 3_000, "{name}: {plan}");
    }
    finds_what_is_due(&store).await;
}

/// How PostgreSQL has carried out a query that diesel prints.
async fn analyze(store: &Store, printed: &str) -> String {
    let sql = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF) {}", literal(printed, "$"));
    let steps: Vec<PostgresStep> = write_one!(&store.pool, |conn| sql_query(&sql).load(conn).await).unwrap();
    steps.into_iter().map(|step| step.detail).collect::<Vec<_>>().join("\n")
}

/// The greatest number that stands behind `mark` in a plan.
fn most(plan: &str, mark: &str) -> u64 {
    let numbers = plan.split(mark).skip(1).map(|rest| rest.split(|char: char| !char.is_ascii_digit()).next());
    numbers.filter_map(|number| number?.parse().ok()).max().unwrap_or(0)
}

async fn open(url: DatabaseUrl) -> Store {
    let keys = KeyRing::new([("a".to_owned(), Secret::new("A".repeat(43)))]).unwrap();
    // Filling a table takes longer than any statement of the store.
    let limits = Limits { statement_timeout: Duration::from_mins(2), ..Limits::default() };
    Store::open(StoreSettings { keys: Some(keys), limits, ..StoreSettings::new(url) }).await.unwrap()
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

/// Stores 100,000 connectors, of which 100 are due, 100 are sealed under an old key, and 100 do not say under which; and
/// as many revocations, of which 100 are due.
async fn fill_background(store: &Store, numbers: &str, id: &str, secret: &str) {
    let owner = OwnerId::local();
    let due = "CASE WHEN n % 1000 = 7 THEN n ELSE 9000000000000000 END";
    let key = "CASE n % 1000 WHEN 0 THEN 'old' WHEN 1 THEN NULL ELSE 'a' END";
    let sql = format!(
        "INSERT INTO owners VALUES ('{owner}');
         {numbers} INSERT INTO connectors
             (id, owner, url, url_key, state, client_state, revision, created_at, updated_at,
              due_at, grant_generation, sealed_grant, seal_key, noted_revision)
             SELECT {id}, '{owner}', 'https://host' || n, 'https://host' || n, 'created', 'created', 1, 0, 0,
                    {due}, 1, {secret}, {key}, 1 FROM numbers;
         {numbers} INSERT INTO revocations (connector, generation, owner, sealed_grant, seal_key, due_at)
             SELECT {id}, 1, '{owner}', {secret}, 'a', {due} FROM numbers"
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

/// Takes all that is due, in batches.
async fn finds_what_is_due(store: &Store) {
    write_one!(&store.pool, |conn| {
        diesel::update(connectors::table)
            .filter(connectors::due_at.lt(9_000_000_000_000_000))
            .set(connectors::due_at.eq(1))
            .execute(conn)
            .await
    })
    .unwrap();
    assert_eq!(store.backlog().await.unwrap(), 100);
    for left in [70, 40, 10, 0] {
        store.take_due(30, LONG).await.unwrap();
        assert_eq!(store.backlog().await.unwrap(), left);
    }
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
