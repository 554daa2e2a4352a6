//! `/api/v1/admin/connectors`: what an administrator may do with the connectors of every user. Never use them, and never
//! learn where their users must go.

use actix_web::{HttpResponse, web};

use crate::caller::{Admin, Caller};
use crate::problem::{CallerProblems, NoConnector, Problem, ProblemDocument};
use crate::routes::Api;
use crate::routes::connectors::{answer, connector_id, page, query};
use crate::wire::{AdminConnectorDocument, ListParameters, PageDocument};

/// List the connectors of all users
///
/// Oldest first.
#[utoipa::path(
    get, path = "/api/v1/admin/connectors", tag = "admin", operation_id = "admin_list_connectors",
    params(ListParameters), security((), ("bearer" = ["connectors:admin"])),
    responses(
        (status = 200, description = "A page of connectors", body = PageDocument<AdminConnectorDocument>),
        (status = 422, description = "A parameter is wrong", body = ProblemDocument, content_type = "application/problem+json"),
        CallerProblems,
    ),
)]
pub(crate) async fn list(
    api: web::Data<Api>,
    _caller: Caller<Admin>,
    parameters: Result<web::Query<ListParameters>, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let found = api.service.list_any(query(parameters)?).await?;
    Ok(answer(&page(&found, AdminConnectorDocument::new)))
}

/// Read a connector of any user
#[utoipa::path(
    get, path = "/api/v1/admin/connectors/{id}", tag = "admin", operation_id = "admin_read_connector",
    params(("id" = uuid::Uuid, Path, description = "The connector")),
    security((), ("bearer" = ["connectors:admin"])),
    responses(
        (status = 200, description = "The connector", body = AdminConnectorDocument),
        CallerProblems,
        NoConnector,
    ),
)]
pub(crate) async fn read(
    api: web::Data<Api>,
    _caller: Caller<Admin>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let connector = api.service.read_any(connector_id(&id)?).await?;
    Ok(answer(&AdminConnectorDocument::new(&connector)))
}

/// Disconnect a connector of any user
///
/// What it was granted is dropped.
#[utoipa::path(
    post, path = "/api/v1/admin/connectors/{id}/disconnect", tag = "admin", operation_id = "admin_disconnect_connector",
    params(("id" = uuid::Uuid, Path, description = "The connector")),
    security((), ("bearer" = ["connectors:admin"])),
    responses(
        (status = 200, description = "The connector, disconnected", body = AdminConnectorDocument),
        (status = 400, description = "It was never connected", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "The connector has changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
        CallerProblems,
        NoConnector,
    ),
)]
pub(crate) async fn disconnect(
    api: web::Data<Api>,
    _caller: Caller<Admin>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let connector = api.service.disconnect_any(connector_id(&id)?).await?;
    Ok(answer(&AdminConnectorDocument::new(&connector)))
}

/// Delete a connector of any user
///
/// All that is stored of it is gone.
#[utoipa::path(
    delete, path = "/api/v1/admin/connectors/{id}", tag = "admin", operation_id = "admin_delete_connector",
    params(("id" = uuid::Uuid, Path, description = "The connector")),
    security((), ("bearer" = ["connectors:admin"])),
    responses(
        (status = 204, description = "It is gone"),
        CallerProblems,
        NoConnector,
    ),
)]
pub(crate) async fn delete(
    api: web::Data<Api>,
    _caller: Caller<Admin>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    api.service.delete_any(connector_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}
