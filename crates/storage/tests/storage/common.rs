//! Databases for one test, and connectors to put into them.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use base64::Engine;
use connectors_domain::{
    AccessToken, Authority, AuthorizationAttempt, ClientAuthentication, ClientCredentials, ClientOrigin, Connected,
    Connecting, Connector, ConnectorId, ConnectorState, DisconnectCode, Grant, GrantSource, IssuedGrant, Issuer,
    OAuthClient, OwnerId, RefreshToken, Scopes, Secret, ServerFacts, ServerUrl, Start, StateHash,
};
use connectors_storage::{DatabaseUrl, KeyRing, Store, StoreSettings};
use diesel::connection::SimpleConnection;
use diesel::sql_types::{Nullable, Text};
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection, sql_query};
use jiff::Timestamp;
use tempfile::TempDir;
use uuid::Uuid;

/// More connectors than any test makes.
pub(crate) const PLENTY: u32 = 100_000;

/// A database that vanishes when it is dropped.
pub(crate) enum Database {
    Sqlite(TempDir),
    Postgres(Schema),
}

/// A schema in the server that the environment names.
pub(crate) struct Schema {
    name: String,
    server: String,
}

/// Makes two tests of an async function that takes a [`Database`].
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    super::$test(crate::common::Database::sqlite()).await;
                }
            )*
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $test() {
                    if let Some(database) = crate::common::Database::postgres().await {
                        super::$test(database).await;
                    }
                }
            )*
        }
    };
}
pub(crate) use on_both;

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// `None` where there is no server.
    pub(crate) async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("CONNECTORS_TEST_POSTGRES") else {
            assert!(
                std::env::var("CONNECTORS_REQUIRE_POSTGRES").as_deref() != Ok("1"),
                "CONNECTORS_TEST_POSTGRES is not set, and CONNECTORS_REQUIRE_POSTGRES=1 demands it"
            );
            skipped(&NO_SERVER, "PostgreSQL tests need CONNECTORS_TEST_POSTGRES=postgres://USER@HOST/DATABASE");
            return None;
        };
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let name = format!("connectors_test_{:016x}", u64::from_be_bytes(random));
        run(&server, &format!("CREATE SCHEMA {name}")).await;
        Some(Self::Postgres(Schema { name, server }))
    }

    /// The file of a SQLite database.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite(directory) => directory.path().join("connectors.db"),
            Self::Postgres(_) => panic!("PostgreSQL has no file"),
        }
    }

    /// A URL under which another program finds the database.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(_) => format!("sqlite:{}", self.path().display()),
            Self::Postgres(schema) => schema.url(),
        }
    }

    /// Settings with the key `a`.
    pub(crate) fn settings(&self) -> StoreSettings {
        StoreSettings { keys: Some(ring(&["a"])), ..StoreSettings::new(self.url().parse::<DatabaseUrl>().unwrap()) }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(self.settings()).await.unwrap()
    }

    /// Runs statements past the store.
    pub(crate) async fn execute(&self, sql: &str) {
        match self {
            Self::Sqlite(_) => self.raw().batch_execute(sql).unwrap(),
            Self::Postgres(schema) => run(&schema.url(), sql).await,
        }
    }

    /// The first column, a text, of what a query finds past the store.
    pub(crate) async fn texts(&self, sql: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Line {
            #[diesel(sql_type = Nullable<Text>)]
            line: Option<String>,
        }
        match self {
            Self::Sqlite(_) => {
                let lines: Vec<Line> = sql_query(format!("SELECT ({sql}) AS line")).load(&mut self.raw()).unwrap();
                lines.into_iter().filter_map(|line| line.line).collect()
            }
            Self::Postgres(schema) => {
                let client = connect(&schema.url()).await;
                let rows = client.query(sql, &[]).await.unwrap();
                rows.iter().filter_map(|row| row.get(0)).collect()
            }
        }
    }

    /// A connection of another program to a SQLite database.
    pub(crate) fn raw(&self) -> SqliteConnection {
        SqliteConnection::establish(self.path().to_str().unwrap()).unwrap()
    }
}

/// All that lies in a database: the files of SQLite, or rows of PostgreSQL.
pub(crate) struct Stored {
    bytes: Vec<u8>,
    /// Whether bytes are written in hexadecimal there.
    hex: bool,
}

impl Stored {
    /// What lies there now, on PostgreSQL in these tables.
    pub(crate) async fn of(database: &Database, tables: &[&str]) -> Self {
        match database {
            Database::Sqlite(directory) => {
                let files = std::fs::read_dir(directory.path()).unwrap();
                let bytes = files.flat_map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
                Self { bytes, hex: false }
            }
            Database::Postgres(_) => {
                let mut lines = Vec::new();
                for table in tables {
                    lines.extend(database.texts(&format!("SELECT t::text FROM {table} t")).await);
                }
                Self { bytes: lines.concat().into_bytes(), hex: true }
            }
        }
    }

    /// Whether the text lies there, open.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.holds_bytes(text.as_bytes())
    }

    /// Whether the bytes lie there.
    pub(crate) fn holds_bytes(&self, bytes: &[u8]) -> bool {
        let mut forms = vec![bytes.to_vec()];
        if self.hex {
            forms.push(bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect());
        }
        forms.iter().any(|form| self.bytes.windows(form.len()).any(|window| window == form))
    }
}

impl Schema {
    fn url(&self) -> String {
        let separator = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{separator}options=-csearch_path%3D{}", self.server, self.name)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let (server, sql) = (self.server.clone(), format!("DROP SCHEMA {} CASCADE", self.name));
        // A thread of its own, because this one belongs to a runtime.
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run(&server, &sql));
        });
        let _ = dropped.join();
    }
}

static NO_SERVER: Once = Once::new();

/// Says once that tests were skipped, past the test harness, which keeps what passing tests print to itself.
pub(crate) fn skipped(once: &Once, reason: &str) {
    once.call_once(|| {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    });
}

/// A connection of another program to PostgreSQL.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn run(url: &str, sql: &str) {
    connect(url).await.batch_execute(sql).await.unwrap();
}

/// A ring of keys that follow from their ids. Of an id such as `a/2`, the key is another one and the id `a`.
pub(crate) fn ring(ids: &[&str]) -> KeyRing {
    let keys = ids.iter().map(|text| {
        let mut key = [7; 32];
        key[..text.len()].copy_from_slice(text.as_bytes());
        let id = text.split('/').next().unwrap();
        (id.to_owned(), Secret::new(base64::engine::general_purpose::STANDARD.encode(key)))
    });
    KeyRing::new(keys).unwrap()
}

pub(crate) fn owner() -> OwnerId {
    OwnerId::from_uuid(Uuid::from_u128(1))
}

pub(crate) fn now() -> Timestamp {
    Timestamp::constant(1_767_225_600, 0)
}

/// A connector in its first state.
pub(crate) fn created(number: u32) -> Connector {
    let id = ConnectorId::from_uuid(Uuid::from_u128(u128::from(number) << 96));
    let url = ServerUrl::parse(&format!("https://host{number}.example/mcp")).unwrap();
    Connector::new(id, owner(), url, None, None, now())
}

/// A connector with a grant, a client secret and an offer of wider consent. Each secret holds the word `canary`.
pub(crate) fn connected(number: u32) -> Connector {
    let (grant, wider) = (Some(grant(number)), Some(attempt(number)));
    let connected = Connected { grant, server: server(), since: connectors_domain::Revision::FIRST, wider };
    Connector { client: client(number), state: ConnectorState::Connected(connected), ..created(number) }
}

/// A connector that waits for its user, and has a grant for recovery.
pub(crate) fn awaiting(number: u32) -> Connector {
    let reason = connectors_domain::DisconnectReason::client_request();
    let before = connectors_domain::Disconnected { reason, recovery: Some(grant(number)) };
    let connecting = Connecting {
        attempt: Some(attempt(number)),
        deadline: now() + Duration::from_mins(1),
        before: connectors_domain::Before::Disconnected(before),
    };
    Connector { client: client(number), state: ConnectorState::Connecting(connecting), ..created(number) }
}

fn client(number: u32) -> Option<ClientCredentials> {
    ClientCredentials::from_parts(Some("id".into()), Some(format!("canary-client-{number}"))).unwrap()
}

pub(crate) fn grant(number: u32) -> Grant {
    Grant {
        access_token: AccessToken::new(format!("canary-access-{number}")).unwrap(),
        source: GrantSource::Issued(IssuedGrant {
            authority: authority(),
            refresh_token: Some(RefreshToken::new(format!("canary-refresh-{number}")).unwrap()),
            obtained_at: now(),
            expires_at: Some(now()),
            scopes: Scopes::parse("read"),
            generation: 3,
            step_ups: 0,
        }),
    }
}

fn authority() -> Authority {
    Authority {
        issuer: Issuer::new("https://as.example"),
        token_endpoint: "https://as.example/token".to_owned(),
        revocation_endpoint: None,
        resource: Some("https://mcp.example/mcp".to_owned()),
        client: OAuthClient {
            credentials: ClientCredentials::new("id".to_owned(), Some("canary-registered".to_owned())).unwrap(),
            authentication: ClientAuthentication::SecretPost,
            origin: ClientOrigin::Registered,
        },
    }
}

fn server() -> ServerFacts {
    ServerFacts { name: Some("server".into()), ..ServerFacts::default() }
}

fn attempt(number: u32) -> AuthorizationAttempt {
    let mut hash = [0; 32];
    hash[..4].copy_from_slice(&number.to_be_bytes());
    AuthorizationAttempt {
        state_hash: StateHash(hash),
        verifier: Secret::new(format!("canary-verifier-{number}")),
        authority: authority(),
        names_itself: true,
        authorization_url: Secret::new(format!("https://as.example/authorize?state=canary-state-{number}")),
        redirect_uri: "http://localhost/callback".to_owned(),
        scopes: Scopes::parse("read write"),
        step_ups: 0,
        redirect_url: None,
        start: Some(Start {
            ticket: Secret::new(format!("canary-ticket-{number}")),
            browser: Some(Secret::new(format!("canary-browser-{number}"))),
        }),
        expires_at: now() + Duration::from_mins(10),
    }
}

/// Why a connector is disconnected, if it is.
pub(crate) fn code(connector: &Connector) -> Option<DisconnectCode> {
    match &connector.state {
        ConnectorState::Disconnected(disconnected) => Some(disconnected.reason.code()),
        _ => None,
    }
}
