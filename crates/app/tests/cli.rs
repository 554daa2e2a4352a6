//! The program as operators run it: what it prints, what it leaves on the disk, and how it ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where its own premises fail")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Far above what anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// The program in an empty environment, with `directory` to work in.
fn connectors(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_connectors"));
    command.current_dir(directory).env_clear().stdin(Stdio::null());
    command
}

fn run(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    connectors(directory).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A running service; killed when it is dropped.
struct Service {
    child: Child,
    output: BufReader<ChildStdout>,
    /// What it listens on, such as `127.0.0.1:40123`.
    address: String,
}

impl Service {
    fn start(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut child = connectors(directory)
            .env("SERVER__LISTEN", "127.0.0.1:0")
            .env("SERVER__WORKERS", "1")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        Self { address: address.trim_end().to_owned(), child, output }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// Waits for the end; tells how it came, and what was printed since the first line.
    fn wait(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        (status, rest)
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_and_version_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let help = run(directory.path(), &["--help"], &[]);
    assert!(help.status.success());
    for word in ["serve", "migrate", "openapi", "check", "healthcheck", "--config", "Exit status:"] {
        assert!(text(&help.stdout).contains(word), "{word}");
    }
    assert!(!text(&help.stdout).contains("codes"));
    let version = run(directory.path(), &["--version"], &[]);
    assert_eq!(text(&version.stdout), format!("connectors {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(directory.path(), &["unknown"], &[]).status.code(), Some(2));
}

#[test]
fn documents_are_printed_without_settings() {
    let directory = tempfile::tempdir().unwrap();
    // Settings that would be refused do not matter here.
    let broken = [("SERVER__LISTEN", "nowhere")];
    let openapi = run(directory.path(), &["openapi"], &broken);
    let document: serde_json::Value = serde_json::from_slice(&openapi.stdout).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert!(text(&run(directory.path(), &["settings"], &broken).stdout).starts_with("# Settings\n"));
    assert!(text(&run(directory.path(), &["codes"], &broken).stdout).starts_with("# Disconnect codes\n"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn wrong_settings_are_one_line_and_status_2() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("bad.toml"), "[server]\nlisten_on = 'x'\n").unwrap();
    for (arguments, environment, expected) in [
        (
            &["serve"][..],
            &[("SERVER__BODY_LIMIT", "8MB")][..],
            "server.body_limit (environment variable SERVER__BODY_LIMIT): expected a whole number of bytes from 1024 to 1073741824",
        ),
        (
            &[],
            &[("SERVER__LISEN", "x")],
            "SERVER__LISEN (environment variable): there is no such setting; the nearest is SERVER__LISTEN",
        ),
        (
            &["--config", "bad.toml"],
            &[],
            "server.listen_on (file bad.toml): there is no such setting; the nearest is server.listen",
        ),
        (&["check", "--config", "none.toml"], &[], "none.toml: there is no such file"),
        (
            &["migrate"],
            &[("LOG__FILTER", "loud")],
            "log.filter (environment variable LOG__FILTER): expected a filter such as info, or info,connectors_mcp=debug",
        ),
        (
            &["healthcheck"],
            &[("AUTH__MODE", "password")],
            "auth.mode (environment variable AUTH__MODE): expected one of none, tokens, oidc",
        ),
    ] {
        let output = run(directory.path(), arguments, environment);
        assert_eq!(text(&output.stderr), format!("connectors: {expected}\n"));
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing was made");
}

#[test]
fn other_machines_are_not_served_without_authentication() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &[], &[("SERVER__LISTEN", "0.0.0.0:0")]);
    assert_eq!(output.status.code(), Some(2));
    let told: Vec<_> = text(&output.stderr).lines().collect();
    assert!(told[0].contains("server.listen is 0.0.0.0:0") && told[0].contains("auth.mode is none"), "{told:?}");
    assert_eq!(told[1..], ["  SERVER__LISTEN=127.0.0.1:0", "  AUTH__MODE=tokens"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn the_first_start_makes_what_it_needs_and_sigterm_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    for signal in ["TERM", "INT"] {
        let service = Service::start(directory.path(), &[]);
        assert!(service.get("/healthz").starts_with("HTTP/1.1 200"));
        assert!(service.get("/readyz").starts_with("HTTP/1.1 200"));
        assert!(service.get("/api/v1/connectors").contains("\"total_count\":0"));
        assert!(directory.path().join("connectors.db").is_file());
        let key = directory.path().join("connectors.key");
        assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);

        let begun = Instant::now();
        service.signal(signal);
        let (status, rest) = service.wait();
        assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn requests_that_do_not_end_are_cut_off_at_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &[("SERVER__SHUTDOWN_TIMEOUT", "1.5")]);
    let mut stream = TcpStream::connect(&service.address).unwrap();
    // The body never comes.
    write!(stream, "POST /api/v1/connectors HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{", service.address).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    service.signal("TERM");
    let (status, _) = service.wait();
    assert_eq!(status.code(), Some(0));
    assert!((1000..8000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &[("SERVER__SHUTDOWN_TIMEOUT", "600")]);
    let mut stream = TcpStream::connect(&service.address).unwrap();
    write!(stream, "POST /api/v1/connectors HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{{", service.address).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    service.signal("TERM");
    // Two equal signals that come at once are one.
    std::thread::sleep(Duration::from_millis(300));
    service.signal("TERM");
    assert_eq!(service.wait().0.code(), Some(1));
}

#[test]
fn an_address_that_is_taken_is_told_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = run(directory.path(), &[], &[("SERVER__LISTEN", &listen)]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.starts_with(&format!("connectors: server.listen: {listen} cannot be listened on: ")), "{told}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_second_service_on_one_database_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _service = Service::start(directory.path(), &[]);
    let output = run(directory.path(), &[], &[("SERVER__LISTEN", "127.0.0.1:0")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("in use by another process"), "{}", text(&output.stderr));
}

#[test]
fn the_healthcheck_tells_whether_the_service_lives() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &[]);
    let listen = service.address.clone();
    let check = || run(directory.path(), &["healthcheck"], &[("SERVER__LISTEN", &listen)]);
    assert_eq!(check().status.code(), Some(0));
    drop(service);
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with(&format!("connectors: nothing answers at {listen}: ")));
}

#[test]
fn migrate_and_check_go_together() {
    let directory = tempfile::tempdir().unwrap();
    let check = || run(directory.path(), &["check"], &[]);

    let before = check();
    assert!(before.status.success());
    assert!(text(&before.stdout).ends_with("ok: database (there is none yet; the first start makes it)\n"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "checking makes nothing");

    let migrated = run(directory.path(), &["migrate"], &[]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    assert!(text(&migrated.stdout).lines().all(|line| line.starts_with("migrated ")));
    assert_eq!(text(&run(directory.path(), &["migrate"], &[]).stdout), "the database is up to date\n");

    let told = |output: &Output| {
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).strip_prefix("ok: settings\nok: way out\n").unwrap().to_owned()
    };
    let first = "ok: database and migrations (there is no key file yet; the first start makes it)\n";
    assert_eq!(told(&check()), first);
    let service = Service::start(directory.path(), &[]);
    assert_eq!(check().status.code(), Some(1), "it is in use");
    service.signal("TERM");
    service.wait();
    assert_eq!(told(&check()), "ok: database, migrations and keys\n");
}

#[test]
fn checking_leaves_every_file_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let check = |expected: Option<i32>| {
        let files = || {
            let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
            files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<std::collections::BTreeMap<_, _>>()
        };
        let before = files();
        let output = run(directory.path(), &["check"], &[]);
        assert_eq!(output.status.code(), expected, "{}", text(&output.stderr));
        assert!(files() == before);
    };
    check(Some(0));
    assert!(run(directory.path(), &["migrate"], &[]).status.success());
    check(Some(0));
    let service = Service::start(directory.path(), &[]);
    service.signal("TERM");
    service.wait();
    check(Some(0));
    std::fs::remove_file(directory.path().join("connectors.key")).unwrap();
    check(Some(0));
    // A crash.
    let mut service = Service::start(directory.path(), &[]);
    service.child.kill().unwrap();
    service.child.wait().unwrap();
    assert!(directory.path().join("connectors.db-wal").exists());
    check(Some(0));
    std::fs::write(directory.path().join("connectors.key"), "").unwrap();
    check(Some(1));
}

#[test]
fn check_fails_where_a_start_could_make_no_database() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(directory.path(), &["check"], &[("DATABASE__URL", "sqlite:none/connectors.db")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("its directory does not exist"), "{}", text(&output.stderr));
}

#[test]
fn check_finds_a_database_that_is_not_up_to_date_and_a_key_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("connectors.db"), "").unwrap();
    let output = run(directory.path(), &["check"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("run `connectors migrate` first"), "{}", text(&output.stderr));

    let keys = |byte| {
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [byte; 32]);
        serde_json::json!([{ "id": "1", "key": key }]).to_string()
    };
    assert!(run(directory.path(), &["migrate"], &[]).status.success());
    assert!(run(directory.path(), &["check"], &[("ENCRYPTION__KEYS", &keys(1))]).status.success());
    let service = Service::start(directory.path(), &[("ENCRYPTION__KEYS", &keys(1))]);
    service.signal("TERM");
    service.wait();
    let output = run(directory.path(), &["check"], &[("ENCRYPTION__KEYS", &keys(2))]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr).lines().last().unwrap();
    assert!(told.starts_with("connectors: the encryption key \"1\" is not the key"), "{told}");
}
