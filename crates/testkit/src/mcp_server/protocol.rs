//! What an MCP endpoint answers: which era a request belongs to, and JSON-RPC around the answers of [`super::legacy`] and
//! [`super::modern`]. Every request is answered by a [`Reply`]; nothing here writes.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};

use super::{http_sse, hub::Hub, legacy, modern, reply::Reply, request::Request};

/// The version of the modern era.
pub const MODERN_VERSION: &str = "2026-07-28";
/// The versions of the legacy era that use Streamable HTTP, latest first.
pub const LEGACY_VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

pub(super) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub(super) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(super) const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

pub(super) const PARSE_ERROR: i64 = -32700;
pub(super) const INVALID_REQUEST: i64 = -32600;
pub(super) const METHOD_NOT_FOUND: i64 = -32601;
pub(super) const INVALID_PARAMS: i64 = -32602;
pub(super) const HEADER_MISMATCH: i64 = -32020;
pub(super) const UNSUPPORTED_VERSION: i64 = -32022;
/// What servers of the legacy era use for whatever has no code of its own.
pub(super) const SERVER_ERROR: i64 = -32000;

/// Which protocol versions the server speaks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Eras {
    /// [`LEGACY_VERSIONS`], with `initialize`.
    Legacy,
    /// [`MODERN_VERSION`] alone.
    Modern,
    /// Both on one URL.
    Dual,
    /// These versions, latest first; those before 2026 are of the legacy era. They need not exist.
    Versions(Vec<String>),
    /// HTTP+SSE of 2024-11-05: a GET stream that names the path for messages, and answers on that stream.
    HttpSse,
}

impl Eras {
    fn versions(&self) -> Vec<String> {
        let legacy = LEGACY_VERSIONS.map(str::to_owned);
        match self {
            Self::Legacy => legacy.to_vec(),
            Self::Modern => vec![MODERN_VERSION.to_owned()],
            Self::Dual => std::iter::once(MODERN_VERSION.to_owned()).chain(legacy).collect(),
            Self::Versions(versions) => versions.clone(),
            Self::HttpSse => vec!["2024-11-05".to_owned()],
        }
    }
}

/// Which of the two a message belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Era {
    Legacy,
    Modern,
}

/// The endpoint and its state.
#[derive(Debug)]
pub(super) struct Protocol {
    pub(super) versions: Vec<String>,
    pub(super) http_sse: bool,
    pub(super) sessions: bool,
    pub(super) get_stream: bool,
    pub(super) port: u16,
    pub(super) hub: Arc<Hub>,
    /// Calls of the tool `count`.
    pub(super) counter: AtomicU64,
    pub(super) open_sessions: Mutex<HashSet<String>>,
    serial: AtomicU64,
}

/// A JSON-RPC message from the client.
pub(super) enum Message<'a> {
    Request { id: &'a Value, method: &'a str, params: &'a Value },
    Notification,
    Response,
}

impl Protocol {
    pub(super) fn new(eras: &Eras, sessions: bool, get_stream: bool, port: u16) -> Self {
        Self {
            versions: eras.versions(),
            http_sse: *eras == Eras::HttpSse,
            sessions,
            get_stream,
            port,
            hub: Arc::new(Hub::new()),
            counter: AtomicU64::new(0),
            open_sessions: Mutex::default(),
            serial: AtomicU64::new(1),
        }
    }

    pub(super) fn versions_of(&self, era: Era) -> impl Iterator<Item = &String> {
        self.versions.iter().filter(move |version| era_of(version) == era)
    }

    pub(super) fn speaks(&self, era: Era) -> bool {
        self.versions_of(era).next().is_some()
    }

    pub(super) fn next_number(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// Answers a request to the MCP endpoint; `rpc` is its body as JSON.
    pub(super) fn answer(&self, request: &Request, rpc: Option<&Value>) -> Reply {
        if self.http_sse {
            return http_sse::open(self, request);
        }
        let legacy = self.speaks(Era::Legacy);
        match request.verb.as_str() {
            "POST" => self.post(request, rpc),
            "GET" if legacy && self.get_stream => legacy::get(self, request),
            "DELETE" if legacy && self.sessions => legacy::delete(self, request),
            _ => {
                let offered = [("POST", true), ("GET", legacy && self.get_stream), ("DELETE", legacy && self.sessions)];
                let allowed: Vec<_> = offered.iter().filter(|(_, offered)| *offered).map(|(verb, _)| *verb).collect();
                Reply::text(405, "Method Not Allowed").header("allow", allowed.join(", "))
            }
        }
    }

    fn post(&self, request: &Request, rpc: Option<&Value>) -> Reply {
        let media_type = request.header("content-type").and_then(|value| value.split(';').next()).unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case("application/json") {
            return error(415, &Value::Null, SERVER_ERROR, "Content-Type must be application/json", &Value::Null);
        }
        if !(request.accepts("application/json") && request.accepts("text/event-stream")) {
            let message = "Client must accept both application/json and text/event-stream";
            return error(406, &Value::Null, SERVER_ERROR, message, &Value::Null);
        }
        let (rpc, message) = match read(rpc) {
            Ok(read) => read,
            Err(reply) => return reply,
        };
        match self.era(request, rpc) {
            Era::Legacy => legacy::post(self, request, &message),
            Era::Modern => modern::post(self, request, &message),
        }
    }

    /// A server of one era takes everything for its own. One of both goes by the way in which the client opens.
    fn era(&self, request: &Request, rpc: &Value) -> Era {
        if !self.speaks(Era::Legacy) {
            return Era::Modern;
        }
        if !self.speaks(Era::Modern) || rpc["method"] == "initialize" {
            return Era::Legacy;
        }
        if rpc["params"]["_meta"].get(META_VERSION).is_some() {
            return Era::Modern;
        }
        request.header("mcp-protocol-version").map_or(Era::Legacy, era_of)
    }
}

/// Versions are dates.
fn era_of(version: &str) -> Era {
    if version < "2026" { Era::Legacy } else { Era::Modern }
}

/// Reads the body of a POST; what is no JSON-RPC message is refused in the same way in both eras.
pub(super) fn read(rpc: Option<&Value>) -> Result<(&Value, Message<'_>), Reply> {
    let Some(rpc) = rpc else {
        return Err(error(400, &Value::Null, PARSE_ERROR, "Parse error", &Value::Null));
    };
    let message = match (rpc.get("method").and_then(Value::as_str), rpc.get("id")) {
        (Some(method), Some(id)) => Message::Request { id, method, params: &rpc["params"] },
        (Some(_), None) => Message::Notification,
        (None, _) if rpc.get("result").is_some() || rpc.get("error").is_some() => Message::Response,
        (None, _) => return Err(error(400, &Value::Null, INVALID_REQUEST, "Invalid request", &Value::Null)),
    };
    Ok((rpc, message))
}

pub(super) fn result(id: &Value, result: &Value) -> Reply {
    Reply::json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

/// A JSON-RPC error; `data` may be null.
pub(super) fn error(status: u16, id: &Value, code: i64, message: &str, data: &Value) -> Reply {
    let mut error = json!({ "code": code, "message": message });
    if !data.is_null() {
        error["data"] = data.clone();
    }
    Reply::json(json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string()).status(status)
}

pub(super) fn server_info() -> Value {
    json!({ "name": "testkit", "version": "1.0.0" })
}
