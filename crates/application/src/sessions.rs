//! Sessions of MCP servers, in the hands of clients: sealed, and bound to the user and the connector, so that an id that
//! somebody else has got hold of is worth nothing (MCP 2025-11-25, "Security Best Practices", session hijacking).

use connectors_domain::{ConnectorId, OwnerId, Secret};

use crate::ports::{RequestHeaders, ResponseHeaders, Seal, SealPurpose, Sealer};

/// The session of a request, as the client knows it and as the server does.
pub(crate) struct Session {
    client: Vec<u8>,
    server: Secret,
}

/// A session id that was not given out for this user and this connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForeignSession;

/// What the ids of a connector's sessions are bound to.
fn seal(owner: OwnerId, id: ConnectorId) -> Seal {
    Seal { purpose: SealPurpose::McpSession, bound_to: vec![owner.to_string(), id.to_string()] }
}

/// Puts the server's own session id into `headers`, in place of the one that the client was given.
pub(crate) fn open(
    sealer: &dyn Sealer,
    owner: OwnerId,
    id: ConnectorId,
    headers: &mut RequestHeaders,
) -> Result<Option<Session>, ForeignSession> {
    let Some(given) = headers.session().map_err(|_| ForeignSession)? else { return Ok(None) };
    let client = given.to_vec();
    let text = std::str::from_utf8(&client).map_err(|_| ForeignSession)?;
    let server = sealer.open(&seal(owner, id), text).ok_or(ForeignSession)?;
    headers.set_session(server.expose().as_bytes());
    Ok(Some(Session { client, server }))
}

/// Puts an id that is good for this user and this connector into `headers`, in place of the server's. A session that the
/// client knows keeps the id by which it does.
pub(crate) fn close(
    sealer: &dyn Sealer,
    owner: OwnerId,
    id: ConnectorId,
    known: Option<&Session>,
    headers: &mut ResponseHeaders,
) {
    headers.replace_session(|server| {
        if let Some(known) = known.filter(|known| known.server.expose().as_bytes() == server) {
            return Some(known.client.clone());
        }
        // What is no text is no session id, and what cannot be sealed is not given out.
        let server = std::str::from_utf8(server).ok()?;
        sealer.seal(&seal(owner, id), server).ok().map(String::into_bytes)
    });
}
