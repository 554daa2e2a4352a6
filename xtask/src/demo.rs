//! `cargo xtask demo`: the service and a sample MCP server, shown at work step by step, and left running.
//!
//! What it shows as a curl command is what it sends; curl itself is not needed.

use clap::Args;
use serde_json::{Value, json};

use crate::support::peers::{Peers, Server};
use crate::support::process::Scratch;
use crate::support::service::{Service, is_free};
use crate::support::{binary, workspace};

/// The service's own default port.
const PORT: u16 = 8333;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Ends after showing the way, instead of staying up
    #[arg(long)]
    once: bool,
    /// Runs an optimised build of the service
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let peers = Peers::node()?;
    eprintln!("Building the service (some minutes the first time).");
    let connectors = binary::build(arguments.release)?;

    let folder = Scratch::new(workspace::target()?.join("demo"))?;
    let (_server, server_url) = peers.start(Server::Everything, &folder.path().join("server.log"))?;
    // Another service, or another demo, may be running.
    let port = if is_free(PORT) { PORT } else { 0 };
    let mut service = Service::start(&connectors, folder.path(), port, &folder.path().join("service.log"))?;
    println!("\nThe service runs at {}, and a sample MCP server (server-everything) at {server_url}.", service.url);

    let id = connect(&service, &server_url)?;
    let mcp_url = service.mcp_url(&id);
    use_as_client(&service, &mcp_url)?;
    print_what_next(&service, &mcp_url);
    if arguments.once {
        return Ok(());
    }
    println!("\nEverything stays up until Ctrl-C, and is gone then.");
    service.wait()
}

fn connect(service: &Service, server_url: &str) -> anyhow::Result<String> {
    step("Create a connector for the server");
    let body = json!({ "url": server_url, "metadata": { "name": "Sample" } });
    show(&format!("{}/api/v1/connectors", service.url), "", &body);
    let created = service.post("/api/v1/connectors", Some(&body))?;
    print_json(&created);
    let id = created["id"].as_str().unwrap_or_default().to_owned();

    step("Connect it: the service finds out what the server speaks, and whether it asks for a login");
    println!("$ curl -X POST {}/api/v1/connectors/{id}/connect", service.url);
    let connected = service.post(&format!("/api/v1/connectors/{id}/connect"), None)?;
    print_json(&json!({ "id": connected["id"], "state": connected["state"], "lifecycle": connected["lifecycle"] }));
    Ok(id)
}

/// What any MCP client does at the connector's URL.
fn use_as_client(service: &Service, mcp_url: &str) -> anyhow::Result<()> {
    step("From here on the connector is an MCP server. A client says hello");
    let hello = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "demo", "version": "1.0.0" },
        },
    });
    println!("# -i, because the session id is in a header of the answer");
    show(mcp_url, "-i ", &hello);
    let (head, answer) = service.rpc(mcp_url, &[], &hello)?;
    let session = head.headers().get("mcp-session-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    println!("mcp-session-id: {session}");
    print_json(&answer["result"]["serverInfo"]);
    let headers = [("mcp-session-id", session.as_str()), ("mcp-protocol-version", "2025-06-18")];
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let flags = headers.map(|(name, value)| format!("-H '{name}: {value}' ")).concat();
    show(mcp_url, &flags, &ready);
    service.rpc(mcp_url, &headers, &ready)?;

    step("It lists the tools");
    let list = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    show(mcp_url, &flags, &list);
    let (_, answer) = service.rpc(mcp_url, &headers, &list)?;
    for tool in answer["result"]["tools"].as_array().into_iter().flatten() {
        println!("  {}", tool["name"].as_str().unwrap_or_default());
    }

    step("And calls one");
    let arguments = json!({ "message": "hello through a connector" });
    let call = json!({
        "jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": { "name": "echo", "arguments": arguments },
    });
    show(mcp_url, &flags, &call);
    let (_, answer) = service.rpc(mcp_url, &headers, &call)?;
    print_json(&answer["result"]);
    Ok(())
}

fn print_what_next(service: &Service, mcp_url: &str) {
    step("Now it is yours");
    println!("The console:                  {}/", service.url);
    println!("The API, described:           {}/docs", service.url);
    println!("The URL for any MCP client:   {mcp_url}");
    println!("In `.mcp.json` of a project, for Claude Code and clients that read the same form:");
    print_json(&json!({ "mcpServers": { "sample": { "type": "http", "url": mcp_url } } }));
    println!("With the MCP Inspector, which needs Node.js 22.19 or later:");
    println!("$ npx @modelcontextprotocol/inspector --cli {mcp_url} --transport http --method tools/list");
}

fn step(title: &str) {
    println!("\n== {title}");
}

/// Prints the command that sends `body`.
fn show(url: &str, flags: &str, body: &Value) {
    let accept = if url.ends_with("/mcp") { "-H 'accept: application/json, text/event-stream' " } else { "" };
    println!("$ curl {flags}{accept}-H 'content-type: application/json' {url} \\\n    -d '{body}'");
}

fn print_json(value: &Value) {
    println!("{value:#}");
}
