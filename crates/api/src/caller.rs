//! Who calls, and whether they may. A handler that takes a [`Caller`] is reached in this order: the credential is good, it
//! allows the call, the user has calls left. Nothing else of the request, such as whether a connector exists, is looked at
//! before.

use std::marker::PhantomData;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use connectors_application::{Denied, audit};
use connectors_domain::{AccountName, ConnectorId, OwnerId, Permission, Principal};
use futures_util::future::LocalBoxFuture;
use uuid::Uuid;

use crate::challenge::Challenge;
use crate::credential::{Malformed, bearer, means_bearer};
use crate::links::Resource;
use crate::problem::{Kind, Problem};
use crate::routes::Api;
use crate::session::{Session, is_from_console};

/// What a handler demands of its callers.
pub(crate) trait Demand: 'static {
    const PERMISSION: Permission;
}

/// Demands `connectors:read`.
pub(crate) enum Read {}
/// Demands `connectors:write`.
pub(crate) enum Write {}
/// Demands `connectors:proxy`.
pub(crate) enum Proxy {}
/// Demands `connectors:admin`.
pub(crate) enum Admin {}

impl Demand for Read {
    const PERMISSION: Permission = Permission::Read;
}
impl Demand for Write {
    const PERMISSION: Permission = Permission::Write;
}
impl Demand for Proxy {
    const PERMISSION: Permission = Permission::Proxy;
}
impl Demand for Admin {
    const PERMISSION: Permission = Permission::Admin;
}

/// The user in whose name a request is carried out, who may do what `D` demands.
pub(crate) struct Caller<D> {
    pub(crate) owner: OwnerId,
    pub(crate) account: AccountName,
    demand: PhantomData<D>,
}

impl<D: Demand> FromRequest for Caller<D> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let Principal { owner, account, .. } = admit(&request, D::PERMISSION).await?;
            Ok(Self { owner, account, demand: PhantomData })
        })
    }
}

async fn admit(request: &HttpRequest, permission: Permission) -> Result<Principal, Problem> {
    let api = request
        .app_data::<web::Data<Api>>()
        .ok_or_else(|| Problem::new(Kind::Internal, "The service has been put together wrongly."))?;
    let challenge = Challenge { resource: resource(request, permission), permission: Some(permission) };
    let refuse = |denied| challenge.denied(&api.links, denied, means_bearer(request.headers()));
    let principal = authenticate(api, request, challenge.resource).await.map_err(refuse)?;
    record(&principal);
    // First, so that refusals are as seldom as everything else that a user may cause.
    api.access.admit(principal.owner).map_err(|denied| {
        audit::refused_limit(principal.owner, "requests");
        refuse(denied)
    })?;
    if !principal.permissions.contains(permission) {
        audit::refused_permission(&principal, permission);
        return Err(challenge.insufficient(&api.links));
    }
    Ok(principal)
}

/// The caller who sends `request`, by the token in it or by the session of the console.
pub(crate) async fn authenticate(api: &Api, request: &HttpRequest, resource: Resource) -> Result<Principal, Denied> {
    let token = match bearer(request.headers()) {
        // Nobody is asked, so nothing that is said matters.
        _ if !api.access.is_closed() => None,
        Ok(Some(token)) => Some(token),
        Ok(None) if is_from_console(request) => {
            return Session::read(api, request).ok_or(Denied::Unauthenticated)?.principal(api).await;
        }
        Ok(None) => None,
        Err(Malformed) => {
            audit::refused_credential("it is not one bearer token");
            None
        }
    };
    api.access.authenticate(token.as_ref(), || api.links.resource(resource)).await
}

/// Writes down in whose name the request is carried out, for every line of the log that comes of it.
pub(crate) fn record(principal: &Principal) {
    tracing::Span::current().record("owner", tracing::field::display(principal.owner));
}

/// What a call that takes `permission` is for. What is no id in a path leads to the metadata of the service: whether a
/// connector exists has no part in it.
fn resource(request: &HttpRequest, permission: Permission) -> Resource {
    let id = request.match_info().get("id").and_then(|id| Uuid::try_parse(id).ok());
    match (permission, id) {
        (Permission::Proxy, Some(id)) => Resource::Connector(ConnectorId::from_uuid(id)),
        _ => Resource::Service,
    }
}
