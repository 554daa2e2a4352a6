//! Every setting there is: the one list behind parsing, the check for unknown keys, and the reference page.
//!
//! Times are seconds, whole or with a fraction; sizes are bytes. A default is written as the environment would give it.

/// A setting as operators know it.
#[derive(Debug)]
pub struct Setting {
    /// The table of the file that it stands in.
    pub section: &'static str,
    /// Its name in that table.
    pub key: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What holds where nobody says anything.
    pub default: Fallback,
    /// What it does, for operators.
    pub meaning: &'static str,
}

/// What the value of a setting may be.
#[derive(Debug)]
pub enum Kind {
    /// A text of the described form.
    Text(&'static str),
    /// `true` or `false`.
    Switch,
    /// A whole number within limits, both included.
    Count {
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// A time in seconds within limits, both included.
    Seconds {
        /// The shortest time.
        min: f64,
        /// The longest time.
        max: f64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of what is described; JSON in the environment.
    List(&'static str),
}

/// What holds where nobody says anything.
#[derive(Debug)]
pub enum Fallback {
    /// This value, as the environment would give it.
    Value(&'static str),
    /// No value, which means what is described here.
    Described(&'static str),
}

impl Setting {
    /// The name in the environment, such as `SERVER__LISTEN`.
    pub fn variable(&self) -> String {
        format!("{}__{}", self.section, self.key).to_ascii_uppercase()
    }

    /// The name in the file, such as `server.listen`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }
}

impl Kind {
    /// What is expected, as the end of "expected …".
    pub fn expected(&self) -> String {
        match self {
            Self::Text(form) => (*form).to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Count { min, max, unit } => format!("a whole number of {unit} from {min} to {max}"),
            Self::Seconds { min, max } => format!("a number of seconds from {min} to {max}"),
            Self::OneOf([word]) => format!("{word}, the only value that this release has"),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::List(entries) => format!("a list of {entries}"),
        }
    }
}

macro_rules! settings {
    ($($name:ident = $section:literal $key:literal, $kind:expr, $default:expr, $meaning:expr;)*) => {
        $(pub(super) const $name: Setting =
            Setting { section: $section, key: $key, kind: $kind, default: $default, meaning: $meaning };)*

        /// Every setting, in the order of the reference page.
        pub const SETTINGS: &[Setting] = &[$($name,)*];
    };
}

use Fallback::{Described, Value};
use Kind::{Count, List, OneOf, Seconds, Switch, Text};

settings! {
    SERVER_LISTEN = "server" "listen",
        Text("an IP address and a port, such as 127.0.0.1:8333 or [::1]:8333"),
        Value("127.0.0.1:8333"),
        "Address and port to listen on. Port 0 takes a free one and prints it. While `auth.mode` is `none`, only loopback addresses are accepted.";
    SERVER_PUBLIC_URL = "server" "public_url",
        Text("an http or https URL of nothing but scheme, host and port, such as https://connectors.example.com"),
        Described("`http://` and the address that is listened on"),
        "What browsers and authorization servers see. Links and callbacks are built from this alone.";
    SERVER_ALLOWED_HOSTS = "server" "allowed_hosts",
        List("host names or IP addresses, without port; IPv6 in brackets"),
        Value("[]"),
        "What the `Host` header of a request may be, beside the host of `server.public_url` and, while the service listens on loopback, `localhost`, `127.0.0.1` and `[::1]`. Other hosts are refused, so that no web page reaches the service through a name of its own.";
    SERVER_ALLOWED_ORIGINS = "server" "allowed_origins",
        List("origins such as https://app.example.com"),
        Value("[]"),
        "The browser origins whose pages may call the service, beside its own. They get CORS headers; requests that come from any other origin are refused.";
    SERVER_BODY_LIMIT = "server" "body_limit",
        Count { min: 1024, max: 1_073_741_824, unit: "bytes" },
        Value("8388608"),
        "The largest request body that is relayed to a server; above it, 413. A body is held in memory.";
    SERVER_API_BODY_LIMIT = "server" "api_body_limit",
        Count { min: 1024, max: 16_777_216, unit: "bytes" },
        Value("262144"),
        "The largest request body of every other call; above it, 413.";
    SERVER_WORKERS = "server" "workers",
        Count { min: 1, max: 256, unit: "threads" },
        Described("one for each core"),
        "Threads that serve requests.";
    SERVER_MAX_CONNECTIONS = "server" "max_connections",
        Count { min: 1, max: 1_000_000, unit: "connections" },
        Value("10000"),
        "Open connections of clients, for each worker. Above it, new connections wait.";
    SERVER_HEADER_TIMEOUT = "server" "header_timeout",
        Seconds { min: 0.1, max: 600.0 },
        Value("10"),
        "How long a client may take to send the head of a request.";
    SERVER_BODY_TIMEOUT = "server" "body_timeout",
        Seconds { min: 0.1, max: 3600.0 },
        Value("30"),
        "How long a client may take to send the body of a request.";
    SERVER_SHUTDOWN_TIMEOUT = "server" "shutdown_timeout",
        Seconds { min: 0.0, max: 600.0 },
        Value("10"),
        "How long requests that are under way may still take after SIGTERM or SIGINT. A second signal ends the service at once.";

    DATABASE_URL = "database" "url",
        Text("`sqlite:PATH`, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE`"),
        Value("sqlite:connectors.db"),
        "The database. A relative path is relative to the working directory; the file is made if there is none. MODE is `disable`, `prefer` (the default), `require` or `verify-full`; with the last, `sslrootcert=FILE` may name the authority to trust.";
    DATABASE_MIGRATE = "database" "migrate",
        Switch,
        Value("true"),
        "Whether the service brings the database up to date when it starts. If not, it refuses to start on one that is not; `connectors migrate` does it.";
    DATABASE_POOL_SIZE = "database" "pool_size",
        Count { min: 1, max: 1000, unit: "connections" },
        Value("8"),
        "Connections to the database; with SQLite, those that read, beside the one that writes.";
    DATABASE_ACQUIRE_TIMEOUT = "database" "acquire_timeout",
        Seconds { min: 0.1, max: 300.0 },
        Value("10"),
        "How long a call waits for a free connection; after it, 503.";
    DATABASE_CONNECT_TIMEOUT = "database" "connect_timeout",
        Seconds { min: 0.1, max: 300.0 },
        Value("5"),
        "How long a new connection to the database may take.";
    DATABASE_BUSY_TIMEOUT = "database" "busy_timeout",
        Seconds { min: 0.0, max: 300.0 },
        Value("5"),
        "With SQLite, how long a write waits while another program, such as a backup, holds the lock.";
    DATABASE_STATEMENT_TIMEOUT = "database" "statement_timeout",
        Seconds { min: 0.1, max: 300.0 },
        Value("10"),
        "With PostgreSQL, how long the statements of one call may take.";
    DATABASE_MIGRATION_WAIT = "database" "migration_wait",
        Seconds { min: 0.0, max: 3600.0 },
        Value("60"),
        "How long a start waits for another replica that is bringing the database up to date.";

    ENCRYPTION_KEYS = "encryption" "keys",
        List("objects {\"id\": TEXT, \"key\": 32 bytes in base64}, at least one, each id once"),
        Described("with SQLite a key file beside the database, made at the first start; with PostgreSQL there is no default"),
        "The keys that seal secrets in the database. The first seals, each of them opens.";

    AUTH_MODE = "auth" "mode",
        OneOf(&["none", "tokens", "oidc"]),
        Value("none"),
        "Who may call. `none`: everybody who reaches the listening address, as one local user; only loopback addresses can be listened on. `tokens`: bearers of the tokens that `connectors token new` makes. `oidc`: bearers of JWT access tokens of `auth.issuers`. In the last two, `server.public_url` is https, or on loopback.";
    AUTH_ISSUERS = "auth" "issuers",
        List("OpenID Connect issuers such as https://login.example.com, https unless they are on loopback"),
        Value("[]"),
        "With `oidc`, whose access tokens are accepted: each exactly as it stands in `iss`. Their keys are found by OpenID Connect Discovery; these hosts may be reached although `egress.allow` does not list them.";
    AUTH_AUDIENCES = "auth" "audiences",
        List("texts"),
        Described("`server.public_url`, with and without the slash at its end"),
        "With `oidc`, what `aud` of an access token must hold to be good for the whole service. A token whose `aud` is the URL of one connector's `/mcp` is good for that alone.";
    AUTH_ALGORITHMS = "auth" "algorithms",
        List("RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA"),
        Value(r#"["RS256","PS256","ES256","EdDSA"]"#),
        "With `oidc`, the signatures that are accepted. What a token says of itself is not asked.";
    AUTH_ADMIN_SCOPE = "auth" "admin_scope",
        Switch,
        Value("false"),
        "With `oidc`, whether the scope `connectors:admin` in an access token makes its bearer an administrator. A scope says what a client may do, not who its user is: switch it on only where the issuer gives this scope to administrators alone.";
    AUTH_CLIENT_ID = "auth" "client_id",
        Text("the client id of this service at the first of `auth.issuers`"),
        Described("none: nobody logs in to the console"),
        "With `oidc`, the client with which people log in to the console, by OpenID Connect. Its redirect URI is `/auth/callback` under `server.public_url`.";
    AUTH_CLIENT_SECRET = "auth" "client_secret",
        Text("the secret of `auth.client_id`"),
        Described("none, for a public client"),
        "The secret that belongs to it.";
    AUTH_SESSION_LIFETIME = "auth" "session_lifetime",
        Seconds { min: 60.0, max: 2_592_000.0 },
        Value("43200"),
        "How long a person stays logged in to the console.";

    LIMITS_WAITING = "limits" "waiting",
        Count { min: 0, max: 1_000_000, unit: "connectors" },
        Described("10; with `auth.mode` `none`, 0"),
        "How many connectors of a user may wait for consent at once; above it, 429. 0: any number.";
    LIMITS_CONNECTS = "limits" "connects",
        Count { min: 0, max: 1_000_000, unit: "connects" },
        Described("30; with `auth.mode` `none`, 0"),
        "How many connects a user may begin in a minute, at each process; above it, 429. 0: any number.";
    LIMITS_REQUESTS = "limits" "requests",
        Count { min: 0, max: 1_000_000, unit: "requests" },
        Described("100; with `auth.mode` `none`, 0"),
        "How many calls a user may make in a second, to `/mcp` and to the API together, at each process; above it, 429. 0: any number.";
    LIMITS_STREAMS = "limits" "streams",
        Count { min: 0, max: 1_000_000, unit: "streams" },
        Described("100; with `auth.mode` `none`, 0"),
        "How many streams of events a user may have open through `/mcp` at once, at each process; above it, a GET is answered 429. Answers to calls that are streams count, and are not refused. 0: any number.";

    EGRESS_ALLOW = "egress" "allow",
        List("`host`, `address` or `range`, each with an optional `:port` (`[address]:port` for IPv6) and an optional `http://` or `https://` before it"),
        Value("[]"),
        "Servers that may be reached although their addresses are not public, or over plain http. As long as the list is empty, `auth.mode` is `none` and `server.listen` is a loopback address, servers on loopback may be reached too; as soon as it has an entry, it is the whole truth.";
    EGRESS_ALLOW_LINK_LOCAL = "egress" "allow_link_local",
        Switch,
        Value("false"),
        "Whether `egress.allow` may open link-local addresses and the metadata services of clouds, which hand out the credentials of the machine.";
    EGRESS_CA_FILE = "egress" "ca_file",
        Text("the path of a file with certificates in PEM"),
        Described("none"),
        "Certificate authorities to trust beside those of the operating system.";
    EGRESS_CONNECT_TIMEOUT = "egress" "connect_timeout",
        Seconds { min: 0.1, max: 120.0 },
        Value("5"),
        "Name look-up, TCP and TLS towards a server, together.";
    EGRESS_HEADER_LIMIT = "egress" "header_limit",
        Count { min: 1024, max: 1_048_576, unit: "bytes" },
        Value("32768"),
        "Size of the header of a server's answer.";
    EGRESS_LOOKUPS = "egress" "lookups",
        Count { min: 1, max: 256, unit: "look-ups" },
        Value("128"),
        "Name look-ups under way at once. Each occupies a thread.";
    EGRESS_IDLE_CONNECTIONS = "egress" "idle_connections",
        Count { min: 0, max: 10_000, unit: "connections" },
        Value("64"),
        "Unused connections that are kept open for each server.";
    EGRESS_IDLE_TIMEOUT = "egress" "idle_timeout",
        Seconds { min: 0.1, max: 3600.0 },
        Value("30"),
        "How long an unused connection to a server is kept open.";

    CONNECTOR_PRESETS = "connector" "presets",
        List("objects {\"url\": URL} with optional \"client_id\", \"client_secret\", \"metadata\" and \"quirks\""),
        Described("Stripe, Box and GitHub, without credentials"),
        "Well-known servers that are offered to every user, with the OAuth client and the metadata that a connector towards them gets. `quirks` says where a server departs from the standards: \"authorize_parameters\" (object of texts), \"scope\", \"omit_resource\", \"trusted_issuer\", \"assume_pkce\". Without it, the quirks that this release knows of the server.";
    CONNECTOR_REDIRECT_ORIGINS = "connector" "redirect_origins",
        List("origins such as https://app.example.com, https unless they are loopback"),
        Described("every loopback origin"),
        "Where `redirect_url` may lead after consent.";
    CONNECTOR_PER_USER = "connector" "per_user",
        Count { min: 1, max: 1_000_000, unit: "connectors" },
        Value("500"),
        "How many connectors a user may have.";

    OAUTH_CLIENT_METADATA_URL = "oauth" "client_metadata_url",
        Text("an https URL"),
        Described("the service's own document, `/oauth/client.json` under `server.public_url`, if that is https; else none"),
        "The client id of this service at authorization servers that take client metadata documents: the URL of such a document.";
    OAUTH_CLIENT_NAME = "oauth" "client_name",
        Text("1 to 100 characters that can be shown"),
        Value("Connectors"),
        "The name of this service on the consent pages of authorization servers.";
    OAUTH_SIGNING_KEY = "oauth" "signing_key",
        Text("a P-256 key as PKCS#8 in PEM (`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`)"),
        Described("none"),
        "The key with which this service proves who it is at authorization servers that take `private_key_jwt` (RFC 7523). Its public half stands in the client metadata document. Without it, that way is never offered. Every replica needs the same one.";
    OAUTH_ATTEMPT_LIFETIME = "oauth" "attempt_lifetime",
        Seconds { min: 60.0, max: 3600.0 },
        Value("600"),
        "How long a user may take to consent.";

    RENEWAL_LEASE = "renewal" "lease",
        Seconds { min: 20.0, max: 600.0 },
        Value("30"),
        "How long one process may renew a connector's access while no other does. A process that dies in the middle holds it up for so long.";
    RENEWAL_WAIT = "renewal" "wait",
        Seconds { min: 1.0, max: 300.0 },
        Value("20"),
        "How long a call waits for access that has ended to be renewed; after it, 503. While the old access still works, it waits 2 s at the most, and then uses that.";
    RENEWAL_CONCURRENCY = "renewal" "concurrency",
        Count { min: 1, max: 1000, unit: "renewals" },
        Value("16"),
        "Renewals under way at once at one authorization server, for each process.";
    RENEWAL_RATE = "renewal" "rate",
        Count { min: 1, max: 10_000, unit: "renewals a second" },
        Value("50"),
        "Renewals begun in a second at one authorization server, for each process.";

    BACKGROUND_INTERVAL = "background" "interval",
        Seconds { min: 0.1, max: 60.0 },
        Value("1"),
        "How often the service looks for what it has to do by itself: access to renew, servers to ask, authorizations that nobody finished, grants to revoke. One look costs one query over an index, however many connectors there are.";
    BACKGROUND_HEALTH_INTERVAL = "background" "health_interval",
        Seconds { min: 0.0, max: 604_800.0 },
        Value("3600"),
        "How often the server of a connected connector is asked whether it is there, and what it speaks. 0: never. A server that does not answer stays connected.";

    RELAY_FIRST_BYTE_TIMEOUT = "relay" "first_byte_timeout",
        Seconds { min: 0.1, max: 3600.0 },
        Value("60"),
        "How long a server may take to begin its answer, connecting included.";
    RELAY_IDLE_TIMEOUT = "relay" "idle_timeout",
        Seconds { min: 0.1, max: 3600.0 },
        Value("60"),
        "How long a JSON answer may stand still.";
    RELAY_STREAM_IDLE_TIMEOUT = "relay" "stream_idle_timeout",
        Seconds { min: 1.0, max: 604_800.0 },
        Value("86400"),
        "How long an event stream of a server may be silent before it is closed.";
    RELAY_KEEP_ALIVE = "relay" "keep_alive",
        Seconds { min: 1.0, max: 600.0 },
        Value("15"),
        "After so much silence on an event stream, the client gets a comment, so that nothing between cuts the stream.";
    RELAY_CACHE_CAPACITY = "relay" "cache_capacity",
        Count { min: 1, max: 10_000_000, unit: "connectors" },
        Value("10000"),
        "Connectors that the relay keeps in memory, to serve calls without a look in the database.";
    RELAY_CACHE_TTL = "relay" "cache_ttl",
        Seconds { min: 0.0, max: 60.0 },
        Value("30"),
        "With PostgreSQL, how long the relay trusts what it keeps. Replicas tell each other of changes at once; only one that is cut off from the others may not notice a change for so long. With SQLite there are no replicas, and this has no effect.";

    PROBE_TIMEOUT = "probe" "timeout",
        Seconds { min: 0.1, max: 300.0 },
        Value("20"),
        "How long a connect may spend on finding out what the server speaks.";

    LOG_FILTER = "log" "filter",
        Text("a filter such as info, or info,connectors_mcp=debug"),
        Value("info"),
        "What is logged, to standard error: levels `error`, `warn`, `info`, `debug`, `trace`, also by module. Libraries log warnings and errors only, whatever the filter says: what they log below that may hold credentials.";
    LOG_FORMAT = "log" "format",
        OneOf(&["auto", "pretty", "json"]),
        Value("auto"),
        "How it is logged. `auto`: `pretty` on a terminal, else `json`.";
    LOG_AUDIT_FILE = "log" "audit_file",
        Text("the path of a file"),
        Described("none: the audit log is part of the log"),
        "Where the audit log goes, a JSON object a line, appended: who did what to which connector, and what came of it. Without it, its events stand in the log with target `audit`, whatever `log.filter` says. A file that cannot be written does not stop the service.";
}
