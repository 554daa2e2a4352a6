//! The built-in tools: something to call, with an effect to count, a stream to follow and a result too large to collect.

use std::{sync::atomic::Ordering, time::Duration};

use serde_json::{Value, json};

use super::{
    modern,
    protocol::{Era, INVALID_PARAMS, Protocol, error, result},
    reply::{Reply, SseStyle, event},
};

/// The tool list, the same in both eras.
pub(super) fn list() -> Value {
    let tool = |name: &str, description: &str, properties: Value, required: Value| {
        let schema = json!({ "type": "object", "properties": properties, "required": required });
        json!({ "name": name, "description": description, "inputSchema": schema })
    };
    let number = json!({ "type": "number" });
    let integer = json!({ "type": "integer", "minimum": 0 });
    json!([
        tool(
            "echo",
            "Returns the text.",
            json!({ "text": { "type": "string" }, "region": { "type": "string", "x-mcp-header": "Region" } }),
            json!(["text"]),
        ),
        tool("add", "Returns a + b.", json!({ "a": number, "b": number }), json!(["a", "b"])),
        tool(
            "slow",
            "Reports progress in so many steps, on an event stream.",
            json!({ "steps": integer, "interval_ms": integer }),
            json!(["steps"]),
        ),
        tool(
            "big",
            "Returns a text of so many bytes; on an event stream, if asked.",
            json!({ "bytes": integer, "sse": { "type": "boolean" } }),
            json!(["bytes"]),
        ),
        tool("count", "Counts its calls and returns the number.", json!({}), json!([])),
    ])
}

/// The arguments of a tool that are mirrored into headers, and the headers.
pub(super) fn mirrored(tool: &Value) -> &'static [(&'static str, &'static str)] {
    if tool == "echo" { &[("region", "mcp-param-region")] } else { &[] }
}

pub(super) fn call(protocol: &Protocol, era: Era, id: &Value, params: &Value) -> Reply {
    let arguments = &params["arguments"];
    let text = |text: &str| result(id, &finished(era, text));
    match params["name"].as_str() {
        Some("echo") => text(arguments["text"].as_str().unwrap_or_default()),
        Some("add") => match (arguments["a"].as_f64(), arguments["b"].as_f64()) {
            (Some(a), Some(b)) => text(&(a + b).to_string()),
            _ => error(200, id, INVALID_PARAMS, "a and b must be numbers", &Value::Null),
        },
        Some("slow") => slow(era, id, params),
        Some("big") => big(era, id, arguments),
        Some("count") => text(&(protocol.counter.fetch_add(1, Ordering::SeqCst) + 1).to_string()),
        _ => error(200, id, INVALID_PARAMS, "Unknown tool", &Value::Null),
    }
}

fn finished(era: Era, text: &str) -> Value {
    let result = json!({ "content": [{ "type": "text", "text": text }] });
    match era {
        Era::Legacy => result,
        Era::Modern => modern::complete(result),
    }
}

/// Without a progress token the steps are comments, since notifications need one.
fn slow(era: Era, id: &Value, params: &Value) -> Reply {
    let arguments = &params["arguments"];
    let steps = arguments["steps"].as_u64().unwrap_or(3);
    let interval = Duration::from_millis(arguments["interval_ms"].as_u64().unwrap_or(10));
    let token = params["_meta"].get("progressToken");
    let progress = |step| match token {
        None => format!(": step {step} of {steps}\n\n"),
        Some(token) => {
            let params = json!({ "progressToken": token, "progress": step, "total": steps });
            let message = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            event(SseStyle::Plain, &message)
        }
    };
    let last = json!({ "jsonrpc": "2.0", "id": id, "result": finished(era, &format!("{steps} steps")) });
    let pieces = (1..=steps).map(progress).chain([event(SseStyle::Plain, &last)]);
    Reply::stream(pieces).pace(interval)
}

fn big(era: Era, id: &Value, arguments: &Value) -> Reply {
    let bytes = arguments["bytes"].as_u64().unwrap_or_default();
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":""#);
    let tail = match era {
        Era::Legacy => r#""}]}}"#,
        Era::Modern => r#""}],"resultType":"complete"}}"#,
    };
    if arguments["sse"] == true {
        Reply::long("text/event-stream", format!("event: message\ndata: {head}"), bytes, format!("{tail}\n\n"))
    } else {
        Reply::long("application/json", head, bytes, tail)
    }
}
