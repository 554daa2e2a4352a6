//! The era of `initialize` and sessions: Streamable HTTP of 2025-03-26 to 2025-11-25. Streams are not resumable.

use std::sync::{MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::{
    hub::Audience,
    protocol::{Era, INVALID_PARAMS, METHOD_NOT_FOUND, Message, Protocol, SERVER_ERROR, error, result, server_info},
    reply::Reply,
    request::Request,
    tools,
};

pub(super) fn post(protocol: &Protocol, request: &Request, message: &Message<'_>) -> Reply {
    if let Message::Request { id, method: "initialize", params } = message {
        let reply = initialize(protocol, id, params);
        if !protocol.sessions || reply.status != 200 {
            return reply;
        }
        let session = format!("session-{}-{}", protocol.port, protocol.next_number());
        let reply = reply.header("mcp-session-id", &session);
        open_sessions(protocol).insert(session);
        return reply;
    }
    if let Err(refusal) = check(protocol, request) {
        return refusal;
    }
    match message {
        Message::Request { id, method, params } => dispatch(protocol, id, method, params),
        Message::Notification | Message::Response => Reply::new(202),
    }
}

pub(super) fn get(protocol: &Protocol, request: &Request) -> Reply {
    if !request.accepts("text/event-stream") {
        let message = "Client must accept text/event-stream";
        return error(406, &Value::Null, SERVER_ERROR, message, &Value::Null);
    }
    check(protocol, request).err().unwrap_or_else(|| Reply::live(Audience::Session))
}

pub(super) fn delete(protocol: &Protocol, request: &Request) -> Reply {
    if let Err(refusal) = check(protocol, request) {
        return refusal;
    }
    open_sessions(protocol).remove(request.header("mcp-session-id").unwrap_or_default());
    Reply::new(200)
}

/// Answers a request within a session, whatever carried it.
pub(super) fn dispatch(protocol: &Protocol, id: &Value, method: &str, params: &Value) -> Reply {
    match method {
        "initialize" => initialize(protocol, id, params),
        "ping" | "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => result(id, &json!({})),
        "tools/list" => result(id, &json!({ "tools": tools::list() })),
        "tools/call" => tools::call(protocol, Era::Legacy, id, params),
        _ => error(200, id, METHOD_NOT_FOUND, "Method not found", &Value::Null),
    }
}

pub(super) fn forget_sessions(protocol: &Protocol) {
    open_sessions(protocol).clear();
}

fn initialize(protocol: &Protocol, id: &Value, params: &Value) -> Reply {
    let Some(asked) = params["protocolVersion"].as_str() else {
        return error(200, id, INVALID_PARAMS, "protocolVersion is missing", &Value::Null);
    };
    let mut spoken = protocol.versions_of(Era::Legacy);
    let latest = spoken.next();
    let version = if spoken.any(|version| version == asked) { asked } else { latest.map_or(asked, String::as_str) };
    let capabilities = json!({ "tools": { "listChanged": true }, "logging": {} });
    let answer = json!({ "protocolVersion": version, "capabilities": capabilities, "serverInfo": server_info() });
    result(id, &answer)
}

/// The session first, then the version, as the SDKs do: a modern request finds neither.
fn check(protocol: &Protocol, request: &Request) -> Result<(), Reply> {
    let refuse = |status, code, message: &str| Err(error(status, &Value::Null, code, message, &Value::Null));
    if protocol.sessions {
        match request.header("mcp-session-id") {
            None => return refuse(400, SERVER_ERROR, "Bad Request: Mcp-Session-Id header is required"),
            Some(session) if !open_sessions(protocol).contains(session) => {
                return refuse(404, -32001, "Session not found");
            }
            Some(_) => {}
        }
    }
    match request.header("mcp-protocol-version") {
        Some(version) if !protocol.versions_of(Era::Legacy).any(|spoken| spoken == version) => {
            refuse(400, SERVER_ERROR, "Bad Request: Unsupported protocol version")
        }
        _ => Ok(()),
    }
}

fn open_sessions(protocol: &Protocol) -> MutexGuard<'_, std::collections::HashSet<String>> {
    protocol.open_sessions.lock().unwrap_or_else(PoisonError::into_inner)
}
