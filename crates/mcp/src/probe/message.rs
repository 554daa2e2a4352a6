//! JSON-RPC as far as the probe needs it: its own requests, and the answers to them.
//!
//! Only the members that matter are looked into; the others are skipped without recursion, whatever is nested in them.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::McpConfig;

/// The revisions of the modern era that this service knows, latest first.
pub(super) const MODERN: [&str; 1] = ["2026-07-28"];
/// The revisions of the legacy era that this service knows, latest first. The first one has another transport, but many
/// servers agree to it over Streamable HTTP.
pub(super) const LEGACY: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// `HeaderMismatch` (MCP 2026-07-28, "Error Codes").
pub(super) const HEADER_MISMATCH: i64 = -32_020;
/// `MissingRequiredClientCapability`.
pub(super) const MISSING_CAPABILITY: i64 = -32_021;
/// `UnsupportedProtocolVersion`.
pub(super) const UNSUPPORTED_VERSION: i64 = -32_022;

/// A request of the modern era that has no parameters of its own (MCP 2026-07-28, "Overview", "_meta").
pub(super) fn modern(id: u64, method: &str, version: &str, config: &McpConfig) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "method": method,
        "params": { "_meta": {
            "io.modelcontextprotocol/protocolVersion": version,
            "io.modelcontextprotocol/clientInfo": client_info(config),
            "io.modelcontextprotocol/clientCapabilities": {},
        } },
    })
}

/// `initialize` (MCP 2025-11-25, "Lifecycle").
pub(super) fn initialize(id: u64, version: &str, config: &McpConfig) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": id,
        "method": "initialize",
        "params": { "protocolVersion": version, "capabilities": {}, "clientInfo": client_info(config) },
    })
}

/// `notifications/initialized`, with which a session begins to be of use.
pub(super) fn initialized() -> Value {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })
}

/// `tools/list` of the legacy era (MCP 2025-11-25, "Tools").
pub(super) fn list_tools(id: u64) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/list" })
}

fn client_info(config: &McpConfig) -> Value {
    json!({ "name": config.client_name, "version": config.client_version })
}

/// An answer to a request.
#[derive(Debug)]
pub(super) enum Message {
    /// Its result.
    Result(Box<RawValue>),
    /// Its refusal.
    Error(RpcError),
}

/// A JSON-RPC error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RpcError {
    /// Its code.
    pub(super) code: i64,
    /// The versions that the server says it supports, in `data.supported`.
    pub(super) supported: Vec<String>,
}

/// What `server/discover` tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Discovered {
    /// All versions that the server supports, of either era.
    pub(super) versions: Vec<String>,
    /// The name that it gives itself.
    pub(super) name: Option<String>,
}

/// What `initialize` tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Initialized {
    /// The version that the server wants to speak.
    pub(super) version: String,
    /// The name that it gives itself.
    pub(super) name: Option<String>,
}

impl Message {
    /// Reads the answer to the request `id`; `None` for anything else. An error may be without id: a server that could
    /// not read the request does not know it.
    pub(super) fn read(text: &[u8], id: u64) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(borrow)]
            jsonrpc: &'a RawValue,
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            #[serde(borrow)]
            method: Option<&'a RawValue>,
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Error<'a> {
            code: i64,
            #[serde(borrow)]
            data: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Data {
            supported: Vec<String>,
        }

        let envelope: Envelope<'_> = serde_json::from_slice(text).ok()?;
        let ours = envelope.id.is_some_and(|given| given.get() == id.to_string());
        if envelope.jsonrpc.get() != r#""2.0""# || envelope.method.is_some() {
            return None;
        }
        match (envelope.result, envelope.error) {
            (Some(result), None) if ours => Some(Self::Result(result.to_owned())),
            (None, Some(error)) if ours || envelope.id.is_none() => {
                let Error { code, data } = serde_json::from_str(error.get()).ok()?;
                let data: Option<Data> = data.and_then(|data| serde_json::from_str(data.get()).ok());
                Some(Self::Error(RpcError { code, supported: data.map(|data| data.supported).unwrap_or_default() }))
            }
            _ => None,
        }
    }
}

impl Discovered {
    pub(super) fn read(result: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Result<'a> {
            #[serde(rename = "resultType")]
            kind: Option<String>,
            supported_versions: Vec<String>,
            #[serde(borrow, rename = "_meta")]
            meta: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Meta<'a> {
            #[serde(borrow, rename = "io.modelcontextprotocol/serverInfo")]
            server: Option<&'a RawValue>,
        }

        let result: Result<'_> = serde_json::from_str(result.get()).ok()?;
        if result.kind.is_some_and(|kind| kind != "complete") {
            return None;
        }
        let meta: Option<Meta<'_>> = result.meta.and_then(|meta| serde_json::from_str(meta.get()).ok());
        Some(Self { versions: result.supported_versions, name: meta.and_then(|meta| name(meta.server)) })
    }
}

impl Initialized {
    pub(super) fn read(result: &RawValue) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Result<'a> {
            protocol_version: String,
            #[serde(borrow)]
            server_info: Option<&'a RawValue>,
        }

        let result: Result<'_> = serde_json::from_str(result.get()).ok()?;
        Some(Self { version: result.protocol_version, name: name(result.server_info) })
    }
}

/// The name in an `Implementation`. It is for display: a bad one is no reason to refuse a server.
fn name(server: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Implementation {
        name: String,
    }

    serde_json::from_str(server?.get()).ok().map(|server: Implementation| server.name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn result(text: &str) -> Option<String> {
        match Message::read(text.as_bytes(), 7)? {
            Message::Result(result) => Some(result.get().to_owned()),
            Message::Error(_) => None,
        }
    }

    fn error(text: &str) -> Option<RpcError> {
        match Message::read(text.as_bytes(), 7)? {
            Message::Result(_) => None,
            Message::Error(error) => Some(error),
        }
    }

    #[test]
    fn an_answer_has_the_id_of_its_request() {
        assert_eq!(result(r#"{"jsonrpc":"2.0","id":7,"result":{"a":1}}"#).as_deref(), Some(r#"{"a":1}"#));
        for other in [
            r#"{"jsonrpc":"2.0","id":8,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"result":{}}"#,
            r#"{"jsonrpc":"2.0","result":{}}"#,
            r#"{"jsonrpc":"1.0","id":7,"result":{}}"#,
            r#"{"id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"{"jsonrpc":"2.0","id":7,"id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{},"error":{"code":1,"message":""}}"#,
            r#"[{"jsonrpc":"2.0","id":7,"result":{}}]"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{"#,
            "null",
            "",
        ] {
            assert_eq!(result(other), None, "{other}");
        }
    }

    #[test]
    fn an_error_may_be_without_id_and_lists_versions() {
        let versions = error(
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":["2026-07-28"]}}}"#,
        );
        assert_eq!(versions, Some(RpcError { code: UNSUPPORTED_VERSION, supported: vec!["2026-07-28".to_owned()] }));
        for data in ["null", "1", "[]", r#"{"supported":"2026-07-28"}"#, r#"{"supported":[1]}"#] {
            let text = format!(r#"{{"jsonrpc":"2.0","error":{{"code":1,"message":"m","data":{data}}}}}"#);
            assert_eq!(error(&text), Some(RpcError { code: 1, supported: Vec::new() }), "{data}");
        }
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":8,"error":{"code":1,"message":"m"}}"#), None);
        assert_eq!(error(r#"{"jsonrpc":"2.0","id":7,"error":{"message":"m"}}"#), None);
    }

    #[test]
    fn what_is_nested_deep_is_skipped() {
        let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
        let text = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"protocolVersion":"v","x":{deep}}},"y":{deep}}}"#);
        let Some(Message::Result(result)) = Message::read(text.as_bytes(), 7) else { panic!("not read") };
        assert_eq!(Initialized::read(&result), Some(Initialized { version: "v".to_owned(), name: None }));
        assert_eq!(Discovered::read(&result), None);
        let text = format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"supportedVersions":{deep}}}}}"#);
        let Some(Message::Result(result)) = Message::read(text.as_bytes(), 7) else { panic!("not read") };
        assert_eq!(Discovered::read(&result), None);
        let text = format!(r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":1,"data":{deep}}}}}"#);
        assert_eq!(error(&text), Some(RpcError { code: 1, supported: Vec::new() }));
    }

    #[test]
    fn a_bad_name_is_no_name() {
        let discovered = |text: &str| Discovered::read(&RawValue::from_string(text.to_owned()).unwrap());
        let named = |info: &str| {
            let meta = format!(r#"{{"io.modelcontextprotocol/serverInfo":{info}}}"#);
            discovered(&format!(r#"{{"resultType":"complete","supportedVersions":["v"],"_meta":{meta}}}"#))
                .unwrap()
                .name
        };
        assert_eq!(named(r#"{"name":"n","version":"1"}"#).as_deref(), Some("n"));
        for info in ["null", "1", "{}", r#"{"name":1}"#] {
            assert_eq!(named(info), None, "{info}");
        }
        assert!(discovered(r#"{"supportedVersions":["v"],"_meta":1}"#).is_some());
        assert_eq!(discovered(r#"{"resultType":"input_required","supportedVersions":["v"]}"#), None);
        assert_eq!(discovered(r#"{"resultType":"complete"}"#), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::read(&bytes, 7);
        }
    }
}
