//! The OpenAPI 3.1 document, generated from the handlers and wire types.

use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use crate::routes::{admin, callback, client, connectors, mcp, metadata, sign_in, start, system};

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
        start::show,
        start::look,
        start::set_out,
        callback::finish,
        callback::look,
        client::document,
        metadata::service,
        metadata::connector,
        sign_in::login,
        sign_in::finish,
        sign_in::sign_in,
        sign_in::session,
        sign_in::sign_out,
        admin::list,
        admin::read,
        admin::disconnect,
        admin::delete,
        system::healthz,
        system::readyz,
        system::metrics,
    ),
    tags(
        (name = "connectors", description = "Remote MCP servers that the user has registered"),
        (name = "mcp", description = "The MCP servers themselves"),
        (name = "oauth", description = "Where browsers set out for consent and come back, and what OAuth clients and servers read"),
        (name = "sign-in", description = "People who sign in to the console"),
        (name = "admin", description = "The connectors of every user, for administrators"),
        (name = "system", description = "For those who watch over the service"),
    ),
    modifiers(&Schemes),
)]
pub(crate) struct Document;

/// Adds the way in which programs say for whom they call. An operator can switch authentication off, so every call that
/// names it may do without.
struct Schemes;

impl Modify for Schemes {
    fn modify(&self, document: &mut OpenApiDocument) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token of the operator or of an authorization server, with the scopes that the call names. Where the operator has switched authentication off, none is needed."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

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
