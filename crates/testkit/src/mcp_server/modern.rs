//! The era without handshake and sessions: Streamable HTTP of 2026-07-28, with its headers checked against the body.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    hub::Audience,
    protocol::{
        Era, HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, META_CAPABILITIES, META_SERVER, META_VERSION,
        METHOD_NOT_FOUND, Message, Protocol, UNSUPPORTED_VERSION, error, result, server_info,
    },
    reply::Reply,
    request::Request,
    tools,
};

pub(super) fn post(protocol: &Protocol, request: &Request, message: &Message<'_>) -> Reply {
    match message {
        Message::Request { id, method, params } => {
            check(protocol, request, id, method, params).err().unwrap_or_else(|| dispatch(protocol, id, method, params))
        }
        Message::Notification => Reply::new(202),
        Message::Response => error(400, &Value::Null, INVALID_REQUEST, "Clients must not send responses", &Value::Null),
    }
}

/// Adds to a result what every result of this era carries.
pub(super) fn complete(mut result: Value) -> Value {
    result["resultType"] = "complete".into();
    result["_meta"][META_SERVER] = server_info();
    result
}

fn dispatch(protocol: &Protocol, id: &Value, method: &str, params: &Value) -> Reply {
    match method {
        "server/discover" => {
            let capabilities = json!({ "tools": { "listChanged": true } });
            let answer = json!({ "supportedVersions": protocol.versions, "capabilities": capabilities });
            result(id, &complete(cacheable(answer)))
        }
        "tools/list" => result(id, &complete(cacheable(json!({ "tools": tools::list() })))),
        "tools/call" => tools::call(protocol, Era::Modern, id, params),
        "subscriptions/listen" => {
            let filter = if params["notifications"].is_object() { params["notifications"].clone() } else { json!({}) };
            Reply::live(Audience::Subscription { id: id.clone(), filter })
        }
        _ => error(404, id, METHOD_NOT_FOUND, "Method not found", &Value::Null),
    }
}

fn cacheable(mut result: Value) -> Value {
    result["ttlMs"] = 0.into();
    result["cacheScope"] = "private".into();
    result
}

fn check(protocol: &Protocol, request: &Request, id: &Value, method: &str, params: &Value) -> Result<(), Reply> {
    let mismatch = |what: &str| Err(error(400, id, HEADER_MISMATCH, &format!("Header mismatch: {what}"), &Value::Null));
    if method == "initialize" {
        return unsupported(protocol, id, &params["protocolVersion"]);
    }
    let Some(version) = request.header("mcp-protocol-version") else {
        return mismatch("MCP-Protocol-Version is missing");
    };
    let meta = &params["_meta"];
    if !meta[META_VERSION].is_string() || !meta[META_CAPABILITIES].is_object() {
        return Err(error(400, id, INVALID_PARAMS, "_meta lacks a required field", &Value::Null));
    }
    if meta[META_VERSION] != *version {
        return mismatch("MCP-Protocol-Version is not that of the body");
    }
    if !protocol.versions_of(Era::Modern).any(|spoken| spoken == version) {
        return unsupported(protocol, id, &meta[META_VERSION]);
    }
    if request.header("mcp-method") != Some(method) {
        return mismatch("Mcp-Method is missing or not that of the body");
    }
    let name = match method {
        "tools/call" | "prompts/get" => &params["name"],
        "resources/read" => &params["uri"],
        _ => return Ok(()),
    };
    if name.as_str().is_none() || decoded(request, "mcp-name").as_deref() != name.as_str() {
        return mismatch("Mcp-Name is missing or not that of the body");
    }
    if method == "tools/call" {
        for (argument, header) in tools::mirrored(name) {
            let value = match &params["arguments"][argument] {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            if decoded(request, header) != value {
                return mismatch(&format!("{header} is missing or not that of the body"));
            }
        }
    }
    Ok(())
}

fn unsupported(protocol: &Protocol, id: &Value, requested: &Value) -> Result<(), Reply> {
    let data = json!({ "supported": protocol.versions, "requested": requested });
    Err(error(400, id, UNSUPPORTED_VERSION, "Unsupported protocol version", &data))
}

/// The value of a header that may be in the `=?base64?…?=` form.
fn decoded(request: &Request, name: &str) -> Option<String> {
    let value = request.header(name)?;
    match value.strip_prefix("=?base64?").and_then(|value| value.strip_suffix("?=")) {
        Some(encoded) => BASE64_STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok()),
        None => Some(value.to_owned()),
    }
}
