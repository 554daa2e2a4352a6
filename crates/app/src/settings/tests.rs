//! What operators can rely on: every rule of the settings, and every limit at its edge.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use connectors_domain::{RedirectOrigins, Secret, ServerUrl};

use super::*;

const SECRET: &str = "hunter2-hunter2";

fn key(byte: u8) -> String {
    base64::engine::general_purpose::STANDARD.encode([byte; 32])
}

/// Loads from a file with this text, and these variables.
fn load_both(file: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connectors.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let loaded = Settings::load(&SettingsFile::Given(path.clone()), environment);
    // The directory has another name each time; in errors it is left out.
    loaded.map_err(|error| strip(error, &path))
}

fn strip(error: SettingsError, path: &Path) -> SettingsError {
    let name = PathBuf::from("connectors.toml");
    match error {
        SettingsError::File { path: at, problem } if at == path => SettingsError::File { path: name, problem },
        SettingsError::UnknownKey { name: key, nearest, .. } => {
            SettingsError::UnknownKey { name: key, path: name, nearest }
        }
        SettingsError::Invalid { setting, origin: Origin::File(_), expected } => {
            SettingsError::Invalid { setting, origin: Origin::File(name), expected }
        }
        other => other,
    }
}

fn load(environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    load_both("", environment)
}

fn load_file(text: &str) -> Result<Settings, SettingsError> {
    load_both(text, &[])
}

fn error(loaded: Result<Settings, SettingsError>) -> String {
    loaded.unwrap_err().to_string()
}

#[test]
fn without_a_word_the_defaults_hold() {
    let settings = load(&[]).unwrap();
    assert_eq!(settings.server.listen.to_string(), "127.0.0.1:8333");
    assert_eq!(settings.server.public_url, None);
    assert_eq!(settings.server.body_limit, 8 * 1024 * 1024);
    assert_eq!(settings.server.shutdown_timeout, Duration::from_secs(10));
    assert_eq!(settings.server.workers, None);
    assert_eq!(settings.database.url.to_string(), "sqlite:connectors.db");
    assert!(settings.database.keys.is_none());
    assert_eq!(settings.auth.mode, AuthMode::None);
    let none = LimitSettings { waiting: None, connects: None, requests: None, streams: None };
    assert_eq!(settings.limits, none, "one user needs no protection from others");
    assert!(settings.egress.allow.is_empty() && !settings.egress.allow_link_local);
    assert_eq!(settings.connector.redirect_origins, RedirectOrigins::Loopback);
    assert_eq!(settings.connector.per_user, 500);
    assert_eq!(settings.relay.first_byte_timeout, Duration::from_mins(1));
    assert_eq!(settings.relay.keep_alive, Duration::from_secs(15));
    assert_eq!(settings.relay.cache_ttl, Duration::from_secs(30));
    assert_eq!((settings.renewal.lease, settings.renewal.wait), (Duration::from_secs(30), Duration::from_secs(20)));
    assert_eq!(settings.background.health_interval, Some(Duration::from_hours(1)));
    assert_eq!(settings.log.format, LogFormat::Auto);
    let presets: Vec<_> = settings.connector.presets.iter().collect();
    let urls: Vec<_> = presets.iter().map(|preset| preset.url.as_str()).collect();
    assert_eq!(urls, ["https://mcp.stripe.com/", "https://mcp.box.com/", "https://api.githubcopilot.com/mcp"]);
    for preset in presets {
        assert_eq!(preset.client, None);
        let metadata = preset.metadata.as_ref().unwrap().entries();
        assert!(metadata.contains_key("name") && metadata.contains_key("description"));
    }
}

#[test]
fn every_setting_of_the_table_is_read_and_is_unlike_the_others() {
    let environment = [("SERVER__PUBLIC_URL", "https://a.example"), ("EGRESS__CA_FILE", "ca.pem")];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let mut values = layers::collect(&SettingsFile::IfPresent("/nowhere/connectors.toml".into()), environment).unwrap();
    Settings::take(&mut values).unwrap();
    assert_eq!(values.left(), Vec::<String>::new());

    let mut paths: Vec<_> = SETTINGS.iter().map(Setting::path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), SETTINGS.len());
    // The page shows each section once.
    let mut sections: Vec<_> = SETTINGS.iter().map(|setting| setting.section).collect();
    sections.dedup();
    let shown = sections.len();
    sections.sort_unstable();
    sections.dedup();
    assert_eq!(sections.len(), shown);
}

/// A value that is refused for each setting whose values the table does not describe wholly.
#[test]
fn no_setting_of_the_table_is_left_unread() {
    for setting in SETTINGS {
        let value = match setting.kind {
            // Longer than any list of words, no number, no JSON, no URL.
            Kind::Text(_) if ["ca_file", "audit_file"].contains(&setting.key) => "",
            _ => "\u{1}",
        };
        let told = error(load(&[(&setting.variable(), value)]));
        let begin = format!("{} (environment variable {}): expected ", setting.path(), setting.variable());
        assert!(told.starts_with(&begin), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "[server]\nlisten = '127.0.0.1:1'\nbody_limit = 2048\nallowed_hosts = ['a.example', 'b.example']\n";
    let environment = [("SERVER__LISTEN", "127.0.0.1:2"), ("SERVER__ALLOWED_HOSTS", r#"["c.example"]"#)];
    let settings = load_both(file, &environment).unwrap();
    assert_eq!(settings.server.listen.port(), 2);
    assert_eq!(settings.server.body_limit, 2048);
    assert_eq!(settings.server.allowed_hosts, ["c.example"]);
    assert_eq!(settings.server.api_body_limit, 262_144);
}

#[test]
fn the_file_may_say_everything() {
    let settings = load_file(&format!(
        "
        [server]
        listen = '[::1]:0'
        public_url = 'https://connectors.example.com'
        allowed_origins = ['http://localhost:6274', 'HTTPS://App.example.com:443/']
        workers = 3
        shutdown_timeout = 0.5
        [database]
        url = 'postgres://u:{SECRET}@db.example:6543/connectors'
        [encryption]
        keys = [{{ id = '2', key = '{}' }}, {{ id = '1', key = '{}' }}]
        [egress]
        allow = ['10.20.0.0/16:443', 'mcp.corp.example']
        allow_link_local = true
        [connector]
        redirect_origins = ['https://app.example.com']
        [[connector.presets]]
        url = 'https://mcp.example.com/mcp'
        client_id = 'id'
        client_secret = '{SECRET}'
        metadata = {{ name = 'Example' }}
        [log]
        filter = 'warn,connectors_mcp=debug'
        format = 'json'
        ",
        key(2),
        key(1)
    ))
    .unwrap();
    assert_eq!(settings.server.public_url.as_ref().unwrap().as_str(), "https://connectors.example.com/");
    assert_eq!(settings.server.allowed_origins, ["http://localhost:6274", "https://app.example.com"]);
    assert_eq!((settings.server.workers, settings.server.shutdown_timeout), (Some(3), Duration::from_millis(500)));
    assert_eq!(settings.database.url.to_string(), "postgres://u@db.example:6543/connectors");
    assert_eq!(settings.database.keys.as_ref().unwrap().ids().collect::<Vec<_>>(), ["2", "1"]);
    assert_eq!(settings.egress.allow.len(), 2);
    assert!(settings.egress.allow_link_local);
    let preset = settings.connector.presets.find(&ServerUrl::parse("https://mcp.example.com/mcp").unwrap()).unwrap();
    assert_eq!(preset.client.as_ref().unwrap().secret().unwrap().expose(), SECRET);
    assert_eq!(settings.log.format, LogFormat::Json);

    let printed = format!("{settings:?}");
    for secret in [SECRET, &key(1), &key(2), "[1, 1,"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

#[test]
fn every_limit_holds_at_its_edge() {
    for setting in SETTINGS {
        let (good, bad) = match setting.kind {
            Kind::Count { min, max, .. } => (
                vec![min.to_string(), max.to_string()],
                vec![
                    (i128::from(min) - 1).to_string(),
                    (max + 1).to_string(),
                    "1.5".into(),
                    String::new(),
                    u64::MAX.to_string(),
                ],
            ),
            Kind::Seconds { min, max } => (
                vec![min.to_string(), max.to_string()],
                vec![(min - 0.001).to_string(), (max + 0.001).to_string(), "NaN".into(), "inf".into(), "10s".into()],
            ),
            Kind::OneOf(words) => (words.iter().map(ToString::to_string).collect(), vec!["NONE".into()]),
            Kind::Switch => (vec!["true".into(), "false".into()], vec!["yes".into(), "1".into()]),
            Kind::Text(_) | Kind::List(_) => continue,
        };
        for value in good {
            let variable = setting.variable();
            let mut environment = vec![(variable.as_str(), value.as_str())];
            // This word is nothing without another setting.
            environment.extend((value == "oidc").then_some(ISSUERS));
            assert!(load(&environment).is_ok(), "{variable}={value}");
        }
        for value in bad {
            let told = error(load(&[(&setting.variable(), &value)]));
            assert!(told.contains(&setting.path()) && told.ends_with(&setting.kind.expected()), "{told}");
        }
    }
}

#[test]
fn numbers_in_the_file_are_numbers() {
    assert!(load_file("[server]\nshutdown_timeout = 3").is_ok());
    assert!(load_file("[server]\nshutdown_timeout = 0.25").is_ok());
    for line in
        ["body_limit = '2048'", "body_limit = 2048.0", "body_limit = -1", "shutdown_timeout = '3'", "listen = 1"]
    {
        let told = error(load_file(&format!("[server]\n{line}")));
        assert!(told.contains("(file connectors.toml): expected "), "{told}");
    }
    assert!(load_file("[egress]\nallow_link_local = 'true'").is_err());
    assert!(load_file("[egress]\nallow = [1]").is_err());
    assert!(load_file("[[connector.presets]]\nurl = 'https://a.example'\nmetadata = { a = 1 }").is_err());
}

#[test]
fn a_key_that_is_no_setting_is_refused_with_the_nearest() {
    for (file, expected) in [
        (
            "[server]\nlisten_on = 'x'",
            "server.listen_on (file connectors.toml): there is no such setting; the nearest is server.listen",
        ),
        (
            "[sever]\nlisten = 'x'",
            "sever.listen (file connectors.toml): there is no such setting; the nearest is server.listen",
        ),
        ("listen = 'x'", "listen (file connectors.toml): there is no such setting; the nearest is server.listen"),
        ("server = 'x'", "server (file connectors.toml): there is no such setting; the nearest is "),
        (
            "[relay.cache]\nttl = 1",
            "relay.cache (file connectors.toml): there is no such setting; the nearest is relay.cache_ttl",
        ),
        ("[webhooks]\n", "webhooks (file connectors.toml): there is no such setting; the nearest is "),
        (
            "[Server]\nlisten = 'x'",
            "Server.listen (file connectors.toml): there is no such setting; the nearest is server.listen",
        ),
    ] {
        let told = error(load_file(file));
        assert!(told.starts_with(expected), "{told}");
    }
}

#[test]
fn a_variable_that_looks_like_a_setting_and_is_none_is_refused() {
    for (name, nearest) in [
        ("SERVER__LISEN", "SERVER__LISTEN"),
        ("server__listen", "SERVER__LISTEN"),
        ("DATABASE__", "DATABASE__URL"),
        ("CONNECTOR__PRESETS__0", "CONNECTOR__PRESETS"),
        ("LOG__", "LOG__FILTER"),
    ] {
        let told = error(load(&[(name, SECRET)]));
        assert_eq!(told, format!("{name} (environment variable): there is no such setting; the nearest is {nearest}"));
    }
    assert!(
        load(&[("SERVER_LISTEN", "x"), ("OTHER__LISTEN", "x"), ("PATH", "x"), ("__X", "x"), ("MYSERVER__LISTEN", "x")])
            .is_ok()
    );
}

#[cfg(unix)]
#[test]
fn a_value_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = OsString::from_vec(vec![0xff]);
    let nowhere = SettingsFile::IfPresent("/nowhere/connectors.toml".into());
    assert!(Settings::load(&nowhere, [("LOG__FILTER".into(), bytes.clone())]).is_err());
    assert!(Settings::load(&nowhere, [("OTHER".into(), bytes.clone()), (bytes.clone(), bytes)]).is_ok());
}

#[test]
fn a_file_that_is_named_must_exist_and_be_toml() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("other.toml");
    assert!(Settings::load(&SettingsFile::IfPresent(missing.clone()), []).is_ok());
    assert!(error(Settings::load(&SettingsFile::Given(missing), [])).ends_with("there is no such file"));
    assert!(error(Settings::load(&SettingsFile::Given(directory.path().to_owned()), [])).contains("cannot be read"));

    let told = error(load_file(&format!("[database]\nurl = {SECRET}")));
    assert_eq!(told, "connectors.toml: it is not valid TOML at line 2, column 7");
    let told = error(load_file("[server]\nbody_limit = 99999999999999999999999"));
    assert!(told.starts_with("connectors.toml: it is not valid TOML, or a number"), "{told}");
    let large = directory.path().join("large.toml");
    std::fs::write(&large, "#".repeat(1024 * 1024)).unwrap();
    assert!(Settings::load(&SettingsFile::Given(large.clone()), []).is_ok());
    std::fs::write(&large, "#".repeat(1024 * 1024 + 1)).unwrap();
    assert!(error(Settings::load(&SettingsFile::Given(large.clone()), [])).ends_with("it is larger than 1 MiB"));
    std::fs::write(&large, [0xff]).unwrap();
    assert!(error(Settings::load(&SettingsFile::Given(large), [])).ends_with("it is not UTF-8"));
}

#[test]
fn while_nobody_is_asked_who_they_are_only_loopback_is_listened_on() {
    for listen in ["127.0.0.1:0", "127.1.2.3:1", "[::1]:8333", "[::ffff:127.0.0.1]:8333"] {
        assert!(load(&[("SERVER__LISTEN", listen)]).is_ok(), "{listen}");
    }
    for listen in ["0.0.0.0:8333", "[::]:8333", "192.0.2.1:8333", "[::ffff:10.0.0.1]:8333"] {
        let told = error(load(&[("SERVER__LISTEN", listen)]));
        assert!(told.contains(&format!("server.listen is {listen}")), "{told}");
        assert_eq!(
            told.lines().skip(1).collect::<Vec<_>>(),
            ["  SERVER__LISTEN=127.0.0.1:8333", "  AUTH__MODE=tokens"]
        );
    }
    for listen in ["localhost:8333", "127.0.0.1", ":8333", "8333", "127.0.0.1:65536", " 127.0.0.1:1"] {
        assert!(error(load(&[("SERVER__LISTEN", listen)])).contains("expected an IP address and a port"), "{listen}");
    }
}

const ISSUERS: (&str, &str) = ("AUTH__ISSUERS", r#"["https://login.example.com/realms/one"]"#);

#[test]
fn callers_are_asked_who_they_are_by_tokens_or_by_an_issuer() {
    let tokens = load(&[("AUTH__MODE", "tokens")]).unwrap();
    assert!(tokens.auth.is_closed() && !tokens.reaches_loopback());
    let limits = tokens.limits;
    let number = |limit: Option<NonZeroU32>| limit.map(NonZeroU32::get);
    assert_eq!(
        [limits.waiting, limits.connects, limits.requests, limits.streams].map(number),
        [10, 30, 100, 100].map(Some)
    );
    let unlimited = load(&[("AUTH__MODE", "tokens"), ("LIMITS__REQUESTS", "0")]).unwrap();
    assert_eq!(unlimited.limits.requests, None);
    let limited = load(&[("LIMITS__STREAMS", "7")]).unwrap();
    assert_eq!(number(limited.limits.streams), Some(7));

    let oidc = load(&[("AUTH__MODE", "oidc"), ISSUERS, ("AUTH__CLIENT_ID", "console"), ("AUTH__CLIENT_SECRET", "s-1")]);
    let auth = oidc.unwrap().auth;
    assert_eq!((auth.issuers, auth.audiences), (vec!["https://login.example.com/realms/one".to_owned()], None));
    assert_eq!(auth.algorithms.len(), 4);
    let client = auth.client.unwrap();
    assert_eq!((client.id.as_str(), client.secret.as_ref().map(Secret::expose)), ("console", Some("s-1")));
    assert!(!format!("{client:?}").contains("s-1"));
}

#[test]
fn what_cannot_be_meant_of_who_may_call_is_refused() {
    for (environment, told) in [
        (vec![("AUTH__MODE", "oidc")], "auth.issuers names no issuer"),
        (
            vec![("AUTH__MODE", "password")],
            "auth.mode (environment variable AUTH__MODE): expected one of none, tokens, oidc",
        ),
        (vec![ISSUERS], "only where auth.mode is oidc"),
        (vec![("AUTH__MODE", "tokens"), ("AUTH__CLIENT_ID", "a")], "only where auth.mode is oidc"),
        (vec![("AUTH__MODE", "oidc"), ISSUERS, ("AUTH__CLIENT_SECRET", "s-1")], "without auth.client_id"),
        (vec![("AUTH__MODE", "oidc"), ISSUERS, ("AUTH__ALGORITHMS", "[]")], "auth.algorithms is empty"),
        (vec![("AUTH__MODE", "oidc"), ISSUERS, ("AUTH__AUDIENCES", "[]")], "auth.audiences is empty"),
        (vec![("AUTH__MODE", "oidc"), ISSUERS, ("AUTH__AUDIENCES", r#"[""]"#)], "auth.audiences"),
        (vec![("AUTH__MODE", "oidc"), ISSUERS, ("AUTH__ALGORITHMS", r#"["HS256"]"#)], "auth.algorithms"),
        (vec![("AUTH__MODE", "oidc"), ISSUERS, ("AUTH__ALGORITHMS", r#"["none"]"#)], "auth.algorithms"),
        (vec![("AUTH__MODE", "oidc"), ("AUTH__ISSUERS", r#"["http://login.example.com"]"#)], "auth.issuers"),
        (vec![("AUTH__MODE", "oidc"), ("AUTH__ISSUERS", r#"["https://login.example.com/?x"]"#)], "auth.issuers"),
        (vec![("AUTH__MODE", "oidc"), ("AUTH__ISSUERS", r#"["login.example.com"]"#)], "auth.issuers"),
    ] {
        let error = error(load(&environment));
        assert!(error.contains(told) && !error.contains("s-1"), "{environment:?}: {error}");
    }
}

#[test]
fn with_callers_to_tell_apart_browsers_come_by_https_or_stay_on_this_machine() {
    let load = |listen: &str, public: Option<&str>| {
        let mut environment = vec![("AUTH__MODE", "tokens"), ("SERVER__LISTEN", listen)];
        environment.extend(public.map(|url| ("SERVER__PUBLIC_URL", url)));
        load(&environment)
    };
    for (listen, public) in [
        ("127.0.0.1:8333", None),
        ("0.0.0.0:8333", Some("https://connectors.example.com")),
        ("0.0.0.0:8333", Some("http://localhost:8333")),
        ("127.0.0.1:8333", Some("http://[::1]:8333")),
    ] {
        assert!(load(listen, public).is_ok(), "{listen} {public:?}");
    }
    for (listen, public) in [
        ("0.0.0.0:8333", None),
        ("127.0.0.1:8333", Some("http://connectors.example.com")),
        ("[::]:8333", Some("http://192.0.2.1")),
        ("[::]:8333", Some("http://localhost.example.com")),
    ] {
        let error = error(load(listen, public));
        assert!(error.contains("server.public_url is not https"), "{listen} {public:?}: {error}");
    }
}

#[test]
fn loopback_is_reached_until_the_operator_says_what_may_be() {
    assert!(load(&[]).unwrap().reaches_loopback());
    assert!(!load(&[("EGRESS__ALLOW", r#"["10.0.0.0/8"]"#)]).unwrap().reaches_loopback());
    assert!(!load(&[("AUTH__MODE", "tokens")]).unwrap().reaches_loopback());
}

#[test]
fn the_public_url_is_the_address_unless_it_is_set() {
    let bound = |text: &str| text.parse().unwrap();
    let settings = load(&[("SERVER__LISTEN", "127.0.0.1:0")]).unwrap();
    assert_eq!(settings.public_url(bound("127.0.0.1:4711")).unwrap().as_str(), "http://127.0.0.1:4711/");
    assert_eq!(settings.public_url(bound("[::1]:80")).unwrap().as_str(), "http://[::1]/");
    let settings = load(&[("SERVER__PUBLIC_URL", "https://a.example:8443/")]).unwrap();
    assert_eq!(settings.public_url(bound("127.0.0.1:1")).unwrap().as_str(), "https://a.example:8443/");
    for url in [
        "https://a.example/x",
        "https://a.example/?x",
        "https://a.example/#",
        "https://u@a.example/",
        "a.example",
        "ftp://a.example",
    ] {
        assert!(load(&[("SERVER__PUBLIC_URL", url)]).is_err(), "{url}");
    }
}

#[test]
fn hosts_and_origins_are_read_as_they_will_be_compared() {
    let hosts = r#"["Connectors.Example", "[::1]", "10.0.0.1", "bücher.example"]"#;
    let settings = load(&[("SERVER__ALLOWED_HOSTS", hosts)]).unwrap();
    assert_eq!(settings.server.allowed_hosts, ["connectors.example", "[::1]", "10.0.0.1", "xn--bcher-kva.example"]);
    for list in [
        r#"["*.example"]"#,
        r#"["a.example:80"]"#,
        r#"["::1"]"#,
        r#"[""]"#,
        r#"["http://a.example"]"#,
        "a.example",
        r#"{"a":1}"#,
    ] {
        assert!(load(&[("SERVER__ALLOWED_HOSTS", list)]).is_err(), "{list}");
    }
    for list in [r#"["*"]"#, r#"["null"]"#, r#"["a.example"]"#, r#"["https://a.example/x"]"#, r#"["file:///"]"#] {
        assert!(load(&[("SERVER__ALLOWED_ORIGINS", list)]).is_err(), "{list}");
        assert!(load(&[("CONNECTOR__REDIRECT_ORIGINS", list)]).is_err(), "{list}");
    }
    let told = error(load(&[("SERVER__ALLOWED_ORIGINS", r#"["https://a.example", "b"]"#)]));
    assert!(told.ends_with(", as JSON; entry 2: it is no http or https origin"), "{told}");
    assert!(load(&[("CONNECTOR__REDIRECT_ORIGINS", r#"["http://app.example.com"]"#)]).is_err());
}

#[test]
fn the_database_is_a_file_or_a_server() {
    let url = |url: &str| {
        load(&[("DATABASE__URL", url), ("ENCRYPTION__KEYS", &keys("1", &key(1)))])
            .map(|settings| settings.database.url.to_string())
    };
    assert_eq!(url("sqlite:/var/lib/connectors/c.db").unwrap(), "sqlite:/var/lib/connectors/c.db");
    assert_eq!(url("postgresql://db.example/c").unwrap(), "postgres://db.example/c");
    for text in ["", "sqlite:", "sqlite::memory:", "c.db", "mysql://u:hunter2-hunter2@h/d", "postgres:///d"] {
        let told = error(load(&[("DATABASE__URL", text)]));
        assert!(
            told.starts_with("database.url (environment variable DATABASE__URL): expected `sqlite:PATH`"),
            "{told}"
        );
        assert!(!told.contains(SECRET), "{told}");
    }
}

fn keys(id: &str, key: &str) -> String {
    serde_json::json!([{ "id": id, "key": key }]).to_string()
}

#[test]
fn postgresql_wants_keys() {
    let url = ("DATABASE__URL", "postgres://u:hunter2-hunter2@db.example/c");
    let told = error(load(&[url]));
    assert!(told.contains("ENCRYPTION__KEYS") && !told.contains(SECRET), "{told}");
    let settings = load(&[url, ("ENCRYPTION__KEYS", &keys("1", &key(1)))]).unwrap();
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[test]
fn keys_are_32_bytes_with_ids_of_their_own() {
    assert!(load(&[("ENCRYPTION__KEYS", &keys(&"a".repeat(64), &key(1)))]).is_ok());
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    for list in [
        "[]".to_owned(),
        keys("", &key(1)),
        keys(&"a".repeat(65), &key(1)),
        keys("a b", &key(1)),
        keys("1", &encode(&[7; 31])),
        keys("1", &encode(&[7; 33])),
        keys("1", SECRET),
        format!(r#"[{{"id":"1","key":"{0}"}},{{"id":"1","key":"{0}"}}]"#, key(1)),
        format!(r#"[{{"id":"1","key":"{0}","{SECRET}":1}}]"#, key(1)),
        format!(r#"["{SECRET}"]"#),
        format!("[\"{SECRET}"),
        SECRET.to_owned(),
    ] {
        let told = error(load(&[("ENCRYPTION__KEYS", &list)]));
        assert!(told.starts_with("encryption.keys (environment variable ENCRYPTION__KEYS): expected a list"), "{told}");
        assert!(!told.contains(SECRET) && !told.contains(&key(1)) && told.lines().count() == 1, "{told}");
    }
}

#[test]
fn a_preset_has_the_url_of_a_server() {
    for spelling in connectors_testkit::spellings::table(9) {
        let presets = serde_json::json!([{ "url": spelling }]).to_string();
        let loaded = load(&[("CONNECTOR__PRESETS", &presets)]);
        assert_eq!(loaded.is_ok(), ServerUrl::parse(&spelling).is_ok(), "{spelling:?}");
    }
}

#[test]
fn presets_are_checked_one_by_one() {
    assert!(load(&[("CONNECTOR__PRESETS", "[]")]).unwrap().connector.presets.is_empty());
    for (entry, expected) in [
        (serde_json::json!({ "url": "ftp://a.example" }), "entry 2: url: its scheme is not http or https"),
        (serde_json::json!({ "url": format!("https://u:{SECRET}@a.example") }), "entry 2: url: it holds a user name"),
        (
            serde_json::json!({ "url": "https://a.example", "client_secret": SECRET }),
            "entry 2: client_secret: it was given without client_id",
        ),
        (serde_json::json!({ "url": "https://a.example", "client_id": "" }), "entry 2: client_id: it must be"),
        (
            serde_json::json!({ "url": "https://a.example", "metadata": { "": "x" } }),
            "entry 2: metadata: one of its keys is empty",
        ),
        (serde_json::json!({ "url": "https://a.example", "secret": SECRET }), "entry 2: it is not of this form"),
        (serde_json::json!({ "metadata": {} }), "entry 2: it is not of this form"),
        (serde_json::json!(SECRET), "entry 2: it is not of this form"),
    ] {
        let list = serde_json::json!([{ "url": "https://b.example" }, entry]).to_string();
        let told = error(load(&[("CONNECTOR__PRESETS", &list)]));
        assert!(told.contains(expected) && !told.contains(SECRET), "{told}");
    }
}

#[test]
fn rules_of_the_way_out_are_checked_one_by_one() {
    let told = error(load(&[("EGRESS__ALLOW", r#"["10.0.0.0/8", "http://u:hunter2-hunter2@a.example"]"#)]));
    assert!(told.ends_with("entry 2: it is none of these") && !told.contains(SECRET), "{told}");
    assert!(load(&[("EGRESS__ALLOW", r#"["[::1]:9101", "https://mcp.corp.example:8443", "127.0.0.1"]"#)]).is_ok());
}

#[test]
fn a_misspelled_level_is_refused() {
    for filter in ["info", "INFO", "warn,connectors_mcp=debug", "off", "connectors_api::routes=trace, error"] {
        assert!(load(&[("LOG__FILTER", filter)]).is_ok(), "{filter}");
    }
    for filter in ["", "inffo", "connectors_mcp", "connectors_mcp=loud", "=debug", "info,", "[span]=debug=x"] {
        assert!(load(&[("LOG__FILTER", filter)]).is_err(), "{filter}");
    }
}

#[test]
fn the_reference_page_shows_every_setting() {
    let page = reference();
    for setting in SETTINGS {
        assert!(page.contains(&format!("| `{}` | `{}` |", setting.key, setting.variable())), "{}", setting.path());
    }
    let committed = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/settings.md"));
    assert_eq!(committed.unwrap(), page, "`connectors settings > docs/reference/settings.md` writes it anew");
}
