//! The audit log: who did what to which connector, and what came of it.
//!
//! Its events have a target of their own, so that they can be kept apart from the rest of the log, and fixed names. Who
//! called stands in the span of the request, beside its id; what the service does by itself has none. No event holds a
//! secret.

use connectors_domain::{
    ApiToken, ApiTokenId, Change, ChangeKind, Connector, ConnectorId, GrantSource, OwnerId, Permission, Principal,
};

/// The target of the events of the audit log.
pub const TARGET: &str = "audit";

macro_rules! record {
    ($event:literal $(, $($fields:tt)*)?) => {
        tracing::info!(target: TARGET, event = $event $(, $($fields)*)?)
    };
}

/// A credential was refused. The reason is for the log alone.
pub fn refused_credential(reason: &'static str) {
    record!("credential.refused", outcome = "refused", reason);
}

/// A caller lacks a permission.
pub fn refused_permission(principal: &Principal, permission: Permission) {
    record!("permission.refused", owner = %principal.owner, outcome = "refused", scope = permission.as_str());
}

/// A request came from a place that may not call.
pub fn refused_origin(reason: &'static str) {
    record!("origin.refused", outcome = "refused", reason);
}

/// A limit of a user was reached.
pub fn refused_limit(owner: OwnerId, limit: &'static str) {
    record!("limit.reached", %owner, outcome = "refused", limit);
}

/// A person has logged in.
pub fn logged_in(principal: &Principal) {
    record!("login", owner = %principal.owner, outcome = "done");
}

/// A person has not been logged in.
pub fn login_refused(reason: &'static str) {
    record!("login", outcome = "refused", reason);
}

/// A person has logged out.
pub fn logged_out(principal: &Principal) {
    record!("logout", owner = %principal.owner, outcome = "done");
}

pub(crate) fn token_created(token: &ApiToken) {
    let owner = token.principal.owner;
    record!("token.created", token = %token.id, %owner, scope = %token.principal.permissions, outcome = "done");
}

pub(crate) fn token_revoked(id: ApiTokenId) {
    record!("token.revoked", token = %id, outcome = "done");
}

pub(crate) fn created(connector: &Connector) {
    // Path and query of a server's URL may be all that keeps others out of it.
    let server = connector.url.as_url().origin().ascii_serialization();
    record!("connector.created", connector = %connector.id, owner = %connector.owner, server, outcome = "done");
}

pub(crate) fn deleted(id: ConnectorId, owner: OwnerId) {
    record!("connector.deleted", connector = %id, %owner, outcome = "done");
}

/// What became of a grant that was given up.
pub(crate) fn revocation(id: ConnectorId, owner: OwnerId, issuer: Option<&str>, outcome: &'static str) {
    record!("grant.revocation", connector = %id, %owner, issuer, outcome);
}

/// A callback, or the visit of a start page, was refused.
pub(crate) fn refused_authorization(connector: &Connector, reason: &'static str) {
    let issuer = issuer(connector);
    record!("authorization.refused", connector = %connector.id, owner = %connector.owner, issuer, outcome = "refused", reason);
}

/// A connector has changed its state.
pub(crate) fn changed(connector: &Connector, change: &Change) {
    let (event, code) = match change.kind {
        ChangeKind::Connecting => ("connecting", None),
        ChangeKind::AuthorizationRequired => ("auth_required", None),
        ChangeKind::AuthorizationStarted => ("authorization_started", None),
        ChangeKind::Connected => ("connected", None),
        ChangeKind::WiderConsentRequired => ("wider_consent_required", None),
        ChangeKind::WiderConsentEnded => ("wider_consent_ended", None),
        ChangeKind::GrantRenewed => ("grant_renewed", None),
        ChangeKind::GrantEnded => ("grant_ended", None),
        ChangeKind::Disconnected(code) => ("disconnected", Some(code.as_str())),
        ChangeKind::Created => ("created", None),
    };
    let issuer = issuer(connector);
    record!(
        "connector.changed",
        connector = %change.connector,
        owner = %change.owner,
        issuer,
        change = event,
        disconnect_code = code,
        outcome = "done",
    );
}

/// The authorization server with which a connector has to do.
fn issuer(connector: &Connector) -> Option<&str> {
    let granted = connector.grant().and_then(|grant| match &grant.source {
        GrantSource::Issued(issued) => Some(&issued.authority),
        GrantSource::Supplied => None,
    });
    let authority = connector.attempt().map(|attempt| &attempt.authority).or(granted);
    authority.map(|authority| authority.issuer.as_str())
}
