//! `/.well-known/oauth-protected-resource`: which authorization servers give out the tokens that this service takes (RFC
//! 9728). There is one document for the service, and one for every `/mcp`, since MCP clients ask for tokens for just that.

use actix_web::{HttpResponse, web};
use connectors_domain::{ConnectorId, Permission};
use uuid::Uuid;

use crate::links::Resource;
use crate::problem::{Kind, Problem, ProblemDocument};
use crate::routes::Api;
use crate::wire::ResourceMetadataDocument;

/// What the service is called where a user consents.
const NAME: &str = "Connectors";

/// What the scopes are for users of the service; what is for administrators is not asked for unasked.
const SERVICE_SCOPES: &[Permission] = &[Permission::Read, Permission::Write, Permission::Proxy];

/// Who gives out tokens for this service
///
/// The protected resource metadata (RFC 9728).
#[utoipa::path(
    get, path = "/.well-known/oauth-protected-resource", tag = "oauth", operation_id = "resource_metadata",
    responses(
        (status = 200, description = "The document", body = ResourceMetadataDocument),
        (status = 404, description = "No credential is needed, so there is none", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn service(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    document(&api, Resource::Service, SERVICE_SCOPES)
}

/// Who gives out tokens for a connector's MCP server
///
/// The protected resource metadata (RFC 9728). Whether there is such a connector is not told.
#[utoipa::path(
    get, path = "/.well-known/oauth-protected-resource/api/v1/connectors/{id}/mcp", tag = "oauth",
    operation_id = "connector_resource_metadata",
    params(("id" = Uuid, Path, description = "The connector")),
    responses(
        (status = 200, description = "The document", body = ResourceMetadataDocument),
        (status = 404, description = "No credential is needed, so there is none; or this is no id", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn connector(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let id = Uuid::try_parse(&id).map_err(|_| none())?;
    document(&api, Resource::Connector(ConnectorId::from_uuid(id)), &[Permission::Proxy])
}

fn document(api: &Api, resource: Resource, scopes: &[Permission]) -> Result<HttpResponse, Problem> {
    if !api.access.is_closed() {
        return Err(none());
    }
    Ok(HttpResponse::Ok().json(ResourceMetadataDocument {
        resource: api.links.resource(resource),
        authorization_servers: api.config.authorization_servers.clone(),
        scopes_supported: scopes.iter().map(|scope| scope.as_str()).collect(),
        bearer_methods_supported: vec!["header"],
        resource_name: NAME,
    }))
}

fn none() -> Problem {
    Problem::new(Kind::NoSuchPath, "There are no protected resource metadata at this path.")
}
