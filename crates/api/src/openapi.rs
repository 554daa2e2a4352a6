//! The OpenAPI 3.1 document, generated from the handlers and wire types.

use utoipa::OpenApi;

use crate::routes::{callback, client, connectors, mcp, system};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Connectors",
        description = "Registers remote MCP servers as connectors, keeps the credentials for them, and serves each at a URL of its own as a plain remote MCP server.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        connectors::create,
        connectors::list,
        connectors::presets,
        connectors::read,
        connectors::delete,
        connectors::connect,
        connectors::disconnect,
        mcp::relay,
        callback::finish,
        callback::look,
        client::document,
        system::healthz,
        system::readyz,
        system::metrics,
    ),
    tags(
        (name = "connectors", description = "Remote MCP servers that the user has registered"),
        (name = "mcp", description = "The MCP servers themselves"),
        (name = "oauth", description = "Where browsers come back after consent"),
        (name = "system", description = "For those who watch over the service"),
    ),
)]
pub(crate) struct Document;

/// The OpenAPI document as JSON, indented, with a line feed at its end.
///
/// # Errors
///
/// If the document cannot be written as JSON: a fault of this crate.
pub fn openapi_json() -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(&Document::openapi())?;
    text.push('\n');
    Ok(text)
}
