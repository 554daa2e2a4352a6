//! TLS towards PostgreSQL.
//!
//! What certificates prove is tested on a server that `CONNECTORS_TEST_POSTGRES_TLS` names, by a URL without parameters
//! whose host is `localhost`, the only name in the server's certificate. It must take connections by TLS only, and its certificate must come from
//! the authority in the PEM file `CONNECTORS_TEST_POSTGRES_CA`, which the machine does not trust.

use std::sync::Once;

use connectors_application::ports::Connectors;
use connectors_storage::{OpenError, Store, StoreSettings};

use crate::common::{Database, connect, ring, skipped};

async fn open(url: &str) -> Result<Store, OpenError> {
    let settings = StoreSettings::new(url.parse().unwrap());
    Store::open(StoreSettings { keys: Some(ring(&["a"])), ..settings }).await
}

/// Whether the store's own connection, of the given name, goes by TLS.
async fn is_secret(database: &Database, mode: &str) -> bool {
    let name = format!("connectors-test-{mode}-{}", std::process::id());
    let store = open(&format!("{}&sslmode={mode}&application_name={name}", database.url())).await.unwrap();
    store.ready().await.unwrap();
    let question =
        "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
    connect(&database.url()).await.query_one(question, &[&name]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_used_as_the_url_says() {
    let Some(database) = Database::postgres().await else { return };
    let offered: String = connect(&database.url()).await.query_one("SHOW ssl", &[]).await.unwrap().get(0);
    assert!(!is_secret(&database, "disable").await);
    let preferred = is_secret(&database, "prefer").await;
    assert_eq!(preferred, offered == "on");
    let required = open(&format!("{}&sslmode=require", database.url())).await;
    assert_eq!(required.is_ok(), offered == "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_proves_a_name_where_it_must() {
    let variable = |name| std::env::var(name).ok();
    let (Some(server), Some(root)) =
        (variable("CONNECTORS_TEST_POSTGRES_TLS"), variable("CONNECTORS_TEST_POSTGRES_CA"))
    else {
        skipped(
            &Once::new(),
            "certificates of PostgreSQL need CONNECTORS_TEST_POSTGRES_TLS and CONNECTORS_TEST_POSTGRES_CA",
        );
        return;
    };
    for parameters in ["", "?sslmode=prefer", "?sslmode=require", &format!("?sslmode=verify-full&sslrootcert={root}")] {
        open(&format!("{server}{parameters}")).await.unwrap().ready().await.unwrap();
    }
    let other_name = server.replace("localhost", "127.0.0.1");
    for (url, reason) in [
        (format!("{server}?sslmode=disable"), "pg_hba.conf"),
        (format!("{server}?sslmode=verify-full"), "UnknownIssuer"),
        (format!("{other_name}?sslmode=verify-full&sslrootcert={root}"), "not valid for name"),
    ] {
        let error = open(&url).await.unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(matches!(error, OpenError::Connect { .. }), "{error:?}");
        assert!(cause.contains(reason), "{url}: {cause}");
    }
    let error = open(&format!("{server}?sslmode=verify-full&sslrootcert=/nowhere.pem")).await.unwrap_err();
    assert!(matches!(error, OpenError::Tls(_)), "{error:?}");
}
