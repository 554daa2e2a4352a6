//! A PostgreSQL for tests and development: one that is there already, or a private one in `target/`.
//!
//! A private server is a cluster of its own, made with `initdb` out of the installed programs: it listens on a free port of
//! 127.0.0.1 alone, trusts whoever comes, and keeps nothing that is worth a disk flush.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use xshell::{Shell, cmd};

use super::machine::{install, is_root, may_install};
use super::process::{Process, Scratch, remove_directory, tail};
use super::service::free_port;
use super::workspace;

/// The user that a private server belongs to, in the database and, where this process is root, in the system.
const OWNER: &str = "postgres";
const DEFAULT_PORT: u16 = 5432;
const START_LIMIT: Duration = Duration::from_mins(1);
/// Settings of a private server beside its port: on 127.0.0.1 only, and quick rather than durable.
const SETTINGS: &str = "-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200 \
                        -c fsync=off -c synchronous_commit=off -c full_page_writes=off";

/// A server in which tests may make databases and schemas.
pub(crate) struct Server {
    pub(crate) url: String,
    /// Where it comes from, for a person.
    pub(crate) origin: &'static str,
    // In this order: the server ends before its files are removed.
    _private: Option<(Process, Scratch)>,
}

/// Finds a server, or starts one. The error says why there is none.
pub(crate) fn find_or_start(shell: &Shell) -> anyhow::Result<Server> {
    let found = |url, origin| Server { url, origin, _private: None };
    if let Some(url) = std::env::var("CONNECTORS_TEST_POSTGRES").ok().filter(|url| !url.is_empty()) {
        return Ok(found(url, "named by CONNECTORS_TEST_POSTGRES"));
    }
    if let Some(url) = Development::new()?.running() {
        return Ok(found(url, "started by `cargo xtask db start`"));
    }
    if let Some(user) = current_user().into_iter().chain([OWNER.to_owned()]).find(|user| usable(user, DEFAULT_PORT)) {
        return Ok(found(url(&user, DEFAULT_PORT), "found running on this machine"));
    }
    start(shell)
}

/// Starts a server that ends when the value is dropped.
pub(crate) fn start(shell: &Shell) -> anyhow::Result<Server> {
    let programs = match Programs::find(shell) {
        Some(programs) => programs,
        None if may_install() => {
            install(shell, "postgresql")?;
            Programs::find(shell).context("PostgreSQL has been installed, but there is no `initdb`")?
        }
        None => bail!("none is installed, and none on 127.0.0.1:{DEFAULT_PORT} lets this user in without a password"),
    };
    let (process, scratch, url) = start_private(&programs)?;
    Ok(Server { url, origin: "started for this run", _private: Some((process, scratch)) })
}

fn current_user() -> Option<String> {
    let named = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok();
    named.or_else(|| is_root().then(|| "root".to_owned()))
}

fn url(user: &str, port: u16) -> String {
    format!("postgres://{user}@127.0.0.1:{port}/postgres")
}

/// The installed server programs.
struct Programs(PathBuf);

impl Programs {
    fn find(shell: &Shell) -> Option<Self> {
        let told = cmd!(shell, "pg_config --bindir").quiet().ignore_stderr().read().ok().map(PathBuf::from);
        let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                Some((entry.as_ref().ok()?.file_name().to_str()?.parse::<u32>().ok()?, entry.ok()?.path()))
            })
            .collect();
        versions.sort_unstable();
        let newest_first = versions.into_iter().rev().map(|(_, path)| path.join("bin"));
        // `pg_config` may belong to a client library whose server is not installed.
        told.into_iter()
            .chain(newest_first)
            .find(|bin| ["initdb", "pg_ctl", "postgres"].iter().all(|program| bin.join(program).exists()))
            .map(Self)
    }

    /// A command that runs as `account`: these programs refuse to run as root.
    fn command(&self, program: &str, account: Option<Account>) -> Command {
        let mut command = Command::new(self.0.join(program));
        // Somewhere that every user can be in.
        command.current_dir("/");
        if let Some(Account { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Makes a cluster in `data`, which belongs to `account` already.
    fn make_cluster(&self, data: &Path, account: Option<Account>) -> anyhow::Result<()> {
        let output = self
            .command("initdb", account)
            .arg("-D")
            .arg(data)
            .args(["-U", OWNER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"])
            .output()
            .context("cannot run `initdb`")?;
        if !output.status.success() {
            bail!("`initdb` failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

/// A user of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// Whom the server runs as: `None` is the user who runs this process.
    fn for_server() -> anyhow::Result<Option<Self>> {
        if !is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("cannot read the list of users")?;
        [OWNER, "nobody"]
            .iter()
            .find_map(|name| Self::named(name, &accounts))
            .map(Some)
            .context("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")
    }

    /// Finds a user in the text of `/etc/passwd`.
    fn named(name: &str, accounts: &str) -> Option<Self> {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == name).then_some(())?;
            let mut numbers = fields.skip(1);
            Some(Self { uid: numbers.next()?.parse().ok()?, gid: numbers.next()?.parse().ok()? })
        })
    }
}

/// Makes a directory for a server that runs as `account`, in `target/` if that user can get there.
fn directory_for(account: Option<Account>, name: &str) -> anyhow::Result<PathBuf> {
    let target = workspace::target()?;
    fs::create_dir_all(&target)?;
    let Some(Account { uid, gid }) = account else { return Ok(target.join(name)) };
    let reachable = Command::new("test").arg("-x").arg(&target).uid(uid).gid(gid).current_dir("/").status();
    if reachable.is_ok_and(|status| status.success()) {
        return Ok(target.join(name));
    }
    // A checkout in a home directory that is closed to others.
    let checkout = workspace::root().display().to_string().replace('/', "-");
    Ok(std::env::temp_dir().join(format!("connectors{checkout}-{name}")))
}

fn start_private(programs: &Programs) -> anyhow::Result<(Process, Scratch, String)> {
    let account = Account::for_server()?;
    let scratch = Scratch::new(directory_for(account, &format!("postgres-test-{}", std::process::id()))?)?;
    let data = scratch.path().join("data");
    fs::create_dir(&data)?;
    give_to(&data, account)?;
    programs.make_cluster(&data, account)?;

    let port = free_port()?;
    let mut command = programs.command("postgres", account);
    command.arg("-D").arg(&data).args(["-p", &port.to_string()]);
    command.args(SETTINGS.split_whitespace().map(|word| word.replace('\'', "")));
    // INT: end without waiting for clients to leave.
    let log = scratch.path().join("log");
    let mut process = Process::start_ended_by("INT", "PostgreSQL", &mut command, &log)?;
    process.wait_until(START_LIMIT, "answer", || usable(OWNER, port).then_some(()))?;
    Ok((process, scratch, url(OWNER, port)))
}

fn give_to(path: &Path, account: Option<Account>) -> anyhow::Result<()> {
    if let Some(Account { uid, gid }) = account {
        chown(path, Some(uid), Some(gid)).with_context(|| format!("cannot give {} away", path.display()))?;
    }
    Ok(())
}

/// A database of its own on a server, which goes with this value.
pub(crate) struct Database {
    server: Server,
    user: String,
    pub(crate) port: u16,
    pub(crate) name: String,
}

/// The names of such databases begin so, and end with the process that made them.
const OWN: &str = "connectors_prove_";

impl Database {
    /// Makes one, and removes those that processes have left which are gone.
    pub(crate) fn create(shell: &Shell) -> anyhow::Result<Self> {
        let server = find_or_start(shell)?;
        let user_and_port = server.url.strip_prefix("postgres://").and_then(|rest| {
            let (user, rest) = rest.split_once("@127.0.0.1:")?;
            Some((user.to_owned(), rest.split('/').next()?.parse::<u16>().ok()?))
        });
        let (user, port) = user_and_port
            .with_context(|| format!("{} is not of the form postgres://USER@127.0.0.1:PORT/DATABASE", server.url))?;
        let name = format!("{OWN}{}", std::process::id());
        let database = Self { server, user, port, name };
        let others =
            database.on("postgres", &format!("SELECT datname FROM pg_database WHERE datname LIKE '{OWN}%'"))?;
        for other in others.iter().flatten() {
            let maker = other.trim_start_matches(OWN);
            if !Path::new("/proc").join(maker).exists() || *other == database.name {
                database.on("postgres", &format!("DROP DATABASE IF EXISTS {other} WITH (FORCE)"))?;
            }
        }
        database.on("postgres", &format!("CREATE DATABASE {}", database.name))?;
        Ok(database)
    }

    /// Its URL, with `port` for a way that leads to it.
    pub(crate) fn url(&self, port: u16) -> String {
        format!("postgres://{}@127.0.0.1:{port}/{}?sslmode=disable", self.user, self.name)
    }

    /// Runs statements in it, and returns the rows of all of them.
    pub(crate) fn query(&self, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        self.on(&self.name, sql)
    }

    /// The number that a statement answers with.
    pub(crate) fn number(&self, sql: &str) -> anyhow::Result<u64> {
        let rows = self.query(sql)?;
        let value = rows.first().and_then(|row| row.first()).with_context(|| format!("no answer to {sql}"))?;
        value.parse().with_context(|| format!("{value} is no number: {sql}"))
    }

    /// Ends every session in it.
    pub(crate) fn end_sessions(&self) -> anyhow::Result<()> {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ";
        self.on("postgres", &format!("{sql}'{}'", self.name)).map(drop)
    }

    /// Runs statements outside of it.
    pub(crate) fn outside(&self, sql: &str) -> anyhow::Result<()> {
        self.on("postgres", sql).map(drop)
    }

    fn on(&self, database: &str, sql: &str) -> anyhow::Result<Vec<Vec<String>>> {
        query(&self.user, self.port, database, sql, Duration::from_mins(5))
            .with_context(|| format!("PostgreSQL at {} ({}): {sql}", self.server.url, self.server.origin))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // If that fails, the next one is told to remove it.
        let _ = self.outside(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// The private server of a developer, which stays until it is stopped, and keeps its data.
pub(crate) struct Development {
    directory: PathBuf,
    account: Option<Account>,
}

impl Development {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let account = Account::for_server()?;
        Ok(Self { directory: directory_for(account, "postgres")?, account })
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Its URL, if it runs.
    pub(crate) fn running(&self) -> Option<String> {
        let port = port_of(&fs::read_to_string(self.data().join("postmaster.pid")).ok()?)?;
        // The file outlives a server that was killed.
        usable(OWNER, port).then(|| url(OWNER, port))
    }

    /// Starts it, if it does not run, and returns its URL.
    pub(crate) fn start(&self, shell: &Shell) -> anyhow::Result<String> {
        if let Some(url) = self.running() {
            return Ok(url);
        }
        let programs = Programs::find(shell).context(
            "PostgreSQL is not installed: install your system's package for its server, which is `postgresql` on Debian",
        )?;
        let data = self.data();
        if !data.join("PG_VERSION").exists() {
            // Also what an interrupted `initdb` has left.
            remove_directory(&self.directory)?;
            fs::create_dir_all(&data)?;
            give_to(&self.directory, self.account)?;
            give_to(&data, self.account)?;
            programs.make_cluster(&data, self.account)?;
        }
        let log = self.directory.join("log");
        let options = format!("-p {} {SETTINGS}", free_port()?);
        let status = programs
            .command("pg_ctl", self.account)
            .args(["start", "--silent", "--wait", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(&log)
            .args(["-o", &options])
            .status()?;
        if !status.success() {
            bail!("PostgreSQL did not start\n{}", tail(&log));
        }
        self.running().context("PostgreSQL has started, and does not answer")
    }

    /// Stops it, if it runs; whether it did.
    pub(crate) fn stop(&self, shell: &Shell) -> anyhow::Result<bool> {
        if self.running().is_none() {
            return Ok(false);
        }
        let programs =
            Programs::find(shell).context("PostgreSQL runs, but its programs are not to be found any more")?;
        let stop = ["stop", "--silent", "--wait", "--mode=fast", "-D"];
        let status = programs.command("pg_ctl", self.account).args(stop).arg(self.data()).status()?;
        if !status.success() {
            bail!("PostgreSQL did not stop: {} has its log", self.directory.join("log").display());
        }
        Ok(true)
    }
}

/// The port in a `postmaster.pid`, whose fourth line it is.
fn port_of(pid_file: &str) -> Option<u16> {
    pid_file.lines().nth(3)?.trim().parse().ok()
}

/// Whether a server on this port lets `user` in without a password, and the user may make databases and schemas.
fn usable(user: &str, port: u16) -> bool {
    let question = "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user";
    ask(user, port, question).is_ok_and(|answer| answer.as_deref() == Some("t"))
}

/// Asks one question with one value as its answer.
fn ask(user: &str, port: u16, question: &str) -> io::Result<Option<String>> {
    let rows = query(user, port, "postgres", question, Duration::from_secs(3))?;
    Ok(rows.into_iter().next_back().and_then(|row| row.into_iter().next()))
}

/// Runs statements, and returns the rows of all of them; a null is an empty text.
///
/// It is written out here because a client in the machine's packages may be missing, and one in Rust would be the largest
/// dependency of this program. Messages: PostgreSQL's manual, chapter "Frontend/Backend Protocol".
fn query(user: &str, port: u16, database: &str, sql: &str, limit: Duration) -> io::Result<Vec<Vec<String>>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
    stream.set_read_timeout(Some(limit))?;
    let start_up = [&[0, 3, 0, 0], format!("user\0{user}\0database\0{database}\0\0").as_bytes()].concat();
    stream.write_all(&[&length(&start_up), start_up.as_slice()].concat())?;

    let mut asked = false;
    let mut rows = Vec::new();
    loop {
        let (kind, body) = read_message(&mut stream)?;
        match kind {
            // Anything but "you are in" asks for a password.
            b'R' if body != [0; 4] => return Err(io::ErrorKind::PermissionDenied.into()),
            b'E' if asked => return Err(io::Error::other(message(&body))),
            b'E' => return Err(io::ErrorKind::PermissionDenied.into()),
            b'D' => rows.push(values(&body).ok_or(io::ErrorKind::InvalidData)?),
            b'Z' if asked => return Ok(rows),
            b'Z' => {
                let query = [sql.as_bytes(), b"\0"].concat();
                stream.write_all(&[b"Q", length(&query).as_slice(), &query].concat())?;
                asked = true;
            }
            _ => {}
        }
    }
}

/// The values of a row: their count, and of each its length, which is negative for a null, and itself.
fn values(body: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut values = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        values.push(String::from_utf8_lossy(after.get(..length)?).into_owned());
        rest = &after[length..];
    }
    Some(values)
}

/// What an error says: fields of a letter and a text each, of which `M` is for people.
fn message(body: &[u8]) -> String {
    let fields = body.split(|byte| *byte == 0).map(|field| String::from_utf8_lossy(field).into_owned());
    fields.filter_map(|field| field.strip_prefix('M').map(str::to_owned)).collect()
}

/// A message's length counts itself.
fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes()
}

fn read_message(stream: &mut impl io::Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = u64::from(u32::from_be_bytes(length));
    // Whatever else listens there may send anything.
    let limit = 64 * 1024;
    if !(4..limit).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Vec::new();
    stream.take(length - 4).read_to_end(&mut body)?;
    Ok((kind, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_in_the_list_of_users() {
        let accounts = "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65533:nobody:/:/bin/false\n";
        assert_eq!(Account::named("nobody", accounts), Some(Account { uid: 65534, gid: 65533 }));
        assert_eq!(Account::named("postgres", accounts), None);
    }

    #[test]
    fn the_port_of_a_running_server_is_read() {
        assert_eq!(port_of("4242\n/data\n1790000000\n54321\n\n127.0.0.1\n"), Some(54321));
        assert_eq!(port_of("4242\n"), None);
    }

    /// A server that says `greeting` to whoever connects.
    fn server(greeting: &'static [u8]) -> u16 {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(greeting).unwrap();
            let _ = stream.read(&mut [0; 1024]);
        });
        port
    }

    #[test]
    fn a_server_that_wants_a_password_is_not_usable() {
        assert!(!usable("postgres", server(b"R\0\0\0\x08\0\0\0\x03")));
    }

    #[test]
    fn something_else_on_the_port_is_not_usable() {
        assert!(!usable("postgres", server(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    }

    #[test]
    fn a_server_that_lets_in_and_says_yes_is_usable() {
        let welcome = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x0b\0\x01\0\0\0\x01tZ\0\0\0\x05I";
        assert!(usable("postgres", server(welcome)));
    }

    #[test]
    fn a_user_who_may_not_make_databases_is_of_no_use() {
        let welcome = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05ID\0\0\0\x0b\0\x01\0\0\0\x01fZ\0\0\0\x05I";
        assert!(!usable("postgres", server(welcome)));
    }
}
