//! `/api/v1/connectors`: create, list, read, delete, connect, disconnect, presets.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_application::ports::{ConnectorPage, ListQuery};
use connectors_application::{ConnectRequest, CreateRequest, Error};
use connectors_domain::{Connector, ConnectorId};
use serde::Serialize;
use serde::de::IntoDeserializer;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::caller::{Caller, Read, Write};
use crate::json::{parse, read_body};
use crate::links::CONNECTORS;
use crate::problem::{BodyProblems, CallerProblems, NoConnector, Problem, ProblemDocument};
use crate::routes::Api;
use crate::wire::{
    ConnectDocument, ConnectorDocument, CreateDocument, ListParameters, PageDocument, PresetDocument, StateName,
};

/// The most connectors on a page.
const MAX_PAGE: u32 = 1000;

/// Register a server
///
/// The server is not contacted; connect does that.
#[utoipa::path(
    post, path = "/api/v1/connectors", tag = "connectors", operation_id = "create_connector",
    security((), ("bearer" = ["connectors:write"])),
    request_body = CreateDocument,
    responses(
        (status = 201, description = "The connector", body = ConnectorDocument),
        (status = 400, description = "Malformed JSON, or a URL that cannot be used", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "There is a connector for this URL", body = ProblemDocument, content_type = "application/problem+json"),
        BodyProblems,
        CallerProblems,
    ),
)]
pub(crate) async fn create(
    api: web::Data<Api>,
    caller: Caller<Write>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = read_body(&request, payload, api.config.api_body_limit, api.config.body_timeout).await?;
    let document: CreateDocument = parse(&request, &body)?;
    let create = CreateRequest {
        url: document.url,
        client_id: document.client_id,
        client_secret: document.client_secret,
        metadata: document.metadata,
        match_preset: document.match_preset,
        account: Some(caller.account),
    };
    let connector = api.service.create(caller.owner, create).await?;
    let location = format!("{CONNECTORS}/{}", connector.id);
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, location))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(ConnectorDocument::new(&connector, &api.links)))
}

/// List the connectors
///
/// Oldest first.
#[utoipa::path(
    get, path = "/api/v1/connectors", tag = "connectors", operation_id = "list_connectors",
    security((), ("bearer" = ["connectors:read"])),
    params(ListParameters),
    responses(
        (status = 200, description = "A page of connectors", body = PageDocument<ConnectorDocument>),
        (status = 422, description = "A parameter is wrong", body = ProblemDocument, content_type = "application/problem+json"),
        CallerProblems,
    ),
)]
pub(crate) async fn list(
    api: web::Data<Api>,
    caller: Caller<Read>,
    parameters: Result<web::Query<ListParameters>, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let found = api.service.list(caller.owner, query(parameters)?).await?;
    Ok(answer(&page(&found, |connector| ConnectorDocument::new(connector, &api.links))))
}

/// A page as a document.
pub(crate) fn page<T: ToSchema>(page: &ConnectorPage, document: impl Fn(&Connector) -> T) -> PageDocument<T> {
    PageDocument {
        items: page.items.iter().map(document).collect(),
        total_count: page.total,
        has_more: page.next.is_some(),
        next_page_token: page.next.map(|id| URL_SAFE_NO_PAD.encode(id.as_uuid().as_bytes())),
    }
}

/// Which connectors are asked for.
pub(crate) fn query(parameters: Result<web::Query<ListParameters>, actix_web::Error>) -> Result<ListQuery, Problem> {
    let parameters =
        parameters.map_err(|_| Problem::field("query", "a parameter stands there twice or is not valid UTF-8"))?;
    let limit = match parameters.limit.as_deref() {
        None => MAX_PAGE,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=MAX_PAGE).contains(limit))
            .ok_or_else(|| Problem::field("limit", "expected a number from 1 to 1000"))?,
    };
    let after = parameters
        .page_token
        .as_deref()
        .map(|token| {
            let bytes = URL_SAFE_NO_PAD.decode(token).ok();
            let uuid = bytes.and_then(|bytes| Uuid::from_slice(&bytes).ok());
            uuid.map(ConnectorId::from_uuid)
                .ok_or_else(|| Problem::field("page_token", "expected next_page_token of the page before"))
        })
        .transpose()?;
    let state = parameters
        .state
        .as_deref()
        .map(|text| {
            let named: Result<StateName, serde::de::value::Error> =
                serde::Deserialize::deserialize(text.into_deserializer());
            named
                .map(Into::into)
                .map_err(|_| Problem::field("state", "expected created, auth_required, connected or disconnected"))
        })
        .transpose()?;
    Ok(ListQuery { limit, after, state })
}

/// Read a connector
#[utoipa::path(
    get, path = "/api/v1/connectors/{id}", tag = "connectors", operation_id = "read_connector",
    security((), ("bearer" = ["connectors:read"])),
    params(("id" = Uuid, Path, description = "The connector")),
    responses(
        (status = 200, description = "The connector", body = ConnectorDocument),
        NoConnector,
        CallerProblems,
    ),
)]
pub(crate) async fn read(
    api: web::Data<Api>,
    caller: Caller<Read>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let connector = api.service.read(caller.owner, connector_id(&id)?).await?;
    Ok(shown(&api, &connector))
}

/// Delete a connector
///
/// All that is stored of it is gone.
#[utoipa::path(
    delete, path = "/api/v1/connectors/{id}", tag = "connectors", operation_id = "delete_connector",
    security((), ("bearer" = ["connectors:write"])),
    params(("id" = Uuid, Path, description = "The connector")),
    responses(
        (status = 204, description = "It is gone"),
        NoConnector,
        CallerProblems,
    ),
)]
pub(crate) async fn delete(
    api: web::Data<Api>,
    caller: Caller<Write>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    api.service.delete(caller.owner, connector_id(&id)?).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Connect a connector
///
/// Probes the server, with `access_token` if one is given. Works in every state. If it fails, the connector is
/// disconnected with the reason that the answer tells.
#[utoipa::path(
    post, path = "/api/v1/connectors/{id}/connect", tag = "connectors", operation_id = "connect_connector",
    security((), ("bearer" = ["connectors:write"])),
    params(("id" = Uuid, Path, description = "The connector")),
    request_body = Option<ConnectDocument>,
    responses(
        (status = 200, description = "The connector, connected or waiting for its user", body = ConnectorDocument),
        (status = 400, description = "Malformed JSON, or a redirect_url that is not allowed", body = ProblemDocument, content_type = "application/problem+json"),
        NoConnector,
        (status = 409, description = "The connector has changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
        BodyProblems,
        (status = 502, description = "The server answered wrongly", body = ProblemDocument, content_type = "application/problem+json"),
        CallerProblems,
        (status = 504, description = "The server could not be reached in time", body = ProblemDocument, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn connect(
    api: web::Data<Api>,
    caller: Caller<Write>,
    id: web::Path<String>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let id = connector_id(&id)?;
    let body = read_body(&request, payload, api.config.api_body_limit, api.config.body_timeout).await?;
    let document =
        if matches!(body.trim_ascii(), b"" | b"null") { ConnectDocument::default() } else { parse(&request, &body)? };
    let connect = ConnectRequest {
        redirect_url: document.redirect_url,
        access_token: document.access_token,
        account: Some(caller.account),
    };
    let connector = api.service.connect(caller.owner, id, connect).await?;
    Ok(shown(&api, &connector))
}

/// Disconnect a connector
///
/// What it was granted is dropped.
#[utoipa::path(
    post, path = "/api/v1/connectors/{id}/disconnect", tag = "connectors", operation_id = "disconnect_connector",
    security((), ("bearer" = ["connectors:write"])),
    params(("id" = Uuid, Path, description = "The connector")),
    responses(
        (status = 200, description = "The connector, disconnected", body = ConnectorDocument),
        (status = 400, description = "It was never connected", body = ProblemDocument, content_type = "application/problem+json"),
        NoConnector,
        (status = 409, description = "The connector has changed meanwhile", body = ProblemDocument, content_type = "application/problem+json"),
        CallerProblems,
    ),
)]
pub(crate) async fn disconnect(
    api: web::Data<Api>,
    caller: Caller<Write>,
    id: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let connector = api.service.disconnect(caller.owner, connector_id(&id)?).await?;
    Ok(shown(&api, &connector))
}

/// List the presets
///
/// The servers that the operator offers, without credentials.
#[utoipa::path(
    get, path = "/api/v1/connectors/presets", tag = "connectors", operation_id = "list_presets",
    security((), ("bearer" = ["connectors:read"])),
    responses(
        (status = 200, description = "All presets", body = PageDocument<PresetDocument>),
        CallerProblems,
    ),
)]
pub(crate) async fn presets(api: web::Data<Api>, _caller: Caller<Read>) -> HttpResponse {
    let items: Vec<_> = api.service.presets().iter().map(PresetDocument::from).collect();
    answer(&PageDocument { total_count: items.len() as u64, items, has_more: false, next_page_token: None })
}

/// The id in a path. What is no id is the id of no connector.
pub(crate) fn connector_id(text: &str) -> Result<ConnectorId, Problem> {
    Uuid::try_parse(text).map(ConnectorId::from_uuid).map_err(|_| Error::NotFound.into())
}

fn shown(api: &Api, connector: &Connector) -> HttpResponse {
    answer(&ConnectorDocument::new(connector, &api.links))
}

pub(crate) fn answer(document: &impl Serialize) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(document)
}
