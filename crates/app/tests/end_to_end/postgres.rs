//! A place of its own in the PostgreSQL server that `CONNECTORS_TEST_POSTGRES` names, and statements past the service.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Once;

use url::Url;

/// A schema that vanishes when it is dropped.
pub(crate) struct Schema {
    name: String,
    server: Url,
}

impl Schema {
    /// `None` where there is no server.
    pub(crate) fn create() -> Option<Self> {
        static SKIPPED: Once = Once::new();
        let Ok(server) = std::env::var("CONNECTORS_TEST_POSTGRES") else {
            assert!(
                std::env::var("CONNECTORS_REQUIRE_POSTGRES").as_deref() != Ok("1"),
                "CONNECTORS_TEST_POSTGRES is not set, and CONNECTORS_REQUIRE_POSTGRES=1 demands it"
            );
            SKIPPED.call_once(|| {
                let reason = "PostgreSQL tests need CONNECTORS_TEST_POSTGRES=postgres://USER@HOST/DATABASE";
                // Past the test harness, which keeps what passing tests print to itself.
                let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
            });
            return None;
        };
        let mut random = [0; 8];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let name = format!("connectors_app_{:016x}", u64::from_be_bytes(random));
        let schema = Self { name, server: server.parse().unwrap() };
        query(&schema.server, &format!("CREATE SCHEMA {}", schema.name));
        Some(schema)
    }

    /// `database.url` of a service.
    pub(crate) fn url(&self) -> String {
        let mut url = self.server.clone();
        let search_path = format!("options=-csearch_path%3D{}", self.name);
        let query = url.query().map_or(search_path.clone(), |query| format!("{query}&{search_path}"));
        url.set_query(Some(&query));
        url.into()
    }

    /// Runs statements past the service.
    pub(crate) fn execute(&self, sql: &str) {
        query(&self.server, &format!("SET search_path = {}; {sql}", self.name));
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        query(&self.server, &format!("DROP SCHEMA {} CASCADE", self.name));
    }
}

/// Runs statements on a connection of their own: the simple query of the protocol, at a server that asks for no password.
/// The packages that know more of it belong to the storage crate.
fn query(server: &Url, sql: &str) {
    let address = (server.host_str().unwrap(), server.port().unwrap_or(5432));
    let mut stream = TcpStream::connect(address).unwrap();
    let database = server.path().trim_start_matches('/');
    let parameters = format!("user\0{}\0database\0{database}\0\0", server.username());
    send(&mut stream, &[], &[&196_608_u32.to_be_bytes(), parameters.as_bytes()].concat());
    until_ready(&mut stream);
    send(&mut stream, b"Q", format!("{sql}\0").as_bytes());
    until_ready(&mut stream);
}

fn send(stream: &mut TcpStream, kind: &[u8], body: &[u8]) {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    stream.write_all(&[kind, &length, body].concat()).unwrap();
}

fn until_ready(stream: &mut TcpStream) {
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        match head[0] {
            b'Z' => return,
            b'R' => assert_eq!(body, [0; 4], "the server asks for a password"),
            b'E' => panic!("{}", String::from_utf8_lossy(&body)),
            _ => {}
        }
    }
}
