//! Rows, and what they mean: the one place that knows which column holds what in which state.
//!
//! Secrets are sealed on the way in and opened on the way out. A secret that does not open makes its connector
//! disconnected, whatever the row says, and is never replaced by another. A grant beside it that opens is kept for
//! recovery.

use connectors_application::ports::StoreError;
use connectors_domain::{
    AuthorizationAttempt, Before, ClientCredentials, Connected, Connecting, Connector, ConnectorId, ConnectorState,
    DisconnectCode, DisconnectReason, Disconnected, Grant, GrantSource, Issuer, OwnerId, Revision, Secret, ServerUrl,
};
use diesel::prelude::{AsChangeset, Insertable, Queryable, Selectable};
use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

use crate::KeyRing;
use crate::document::{
    DocumentError, from_attempt, from_grant, from_metadata, from_server, time, to_attempt, to_grant, to_metadata,
    to_server,
};
use crate::schema::connectors;
use crate::seal::{Place, SealError, UnsealError};
use crate::told::Told;

/// A connector as it is stored.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = connectors)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) owner: String,
    url: String,
    url_key: String,
    created_at: i64,
    #[diesel(embed)]
    content: Content,
}

/// What an update changes of a row.
#[derive(Clone, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = connectors, treat_none_as_null = true)]
pub(crate) struct Content {
    client_id: Option<String>,
    client_issuer: Option<String>,
    sealed_client_secret: Option<Vec<u8>>,
    metadata: Option<String>,
    state: String,
    client_state: String,
    deadline: Option<i64>,
    attempt_state_hash: Option<Vec<u8>>,
    sealed_attempt: Option<Vec<u8>>,
    sealed_grant: Option<Vec<u8>>,
    grant_expires_at: Option<i64>,
    grant_generation: Option<i64>,
    server: Option<String>,
    disconnect_code: Option<String>,
    disconnect_reason: Option<String>,
    revision: i64,
    updated_at: i64,
}

/// A row makes no sense, or a connector cannot be made a row. No text holds what the row holds.
#[derive(Debug, Error)]
pub(crate) enum RowError {
    #[error("column {0} makes no sense")]
    Column(&'static str),
    #[error("column {0} is empty")]
    Empty(&'static str),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        Self::Inconsistent(Box::new(error))
    }
}

/// Why the parts of a row do not make a state.
enum Unusable {
    /// A secret does not open: the connector is disconnected.
    Sealed(&'static str, UnsealError),
    /// The row makes no sense.
    Row(RowError),
}

impl From<RowError> for Unusable {
    fn from(error: RowError) -> Self {
        Self::Row(error)
    }
}

impl From<DocumentError> for Unusable {
    fn from(error: DocumentError) -> Self {
        Self::Row(error.into())
    }
}

/// The ids of a row and the URL that its secrets are for, as texts: all that a sealed value is bound to beside its
/// column. None of them ever changes.
struct Binding<'a>([&'a str; 3]);

impl Binding<'_> {
    const fn place(&self, column: &'static str) -> Place<'_> {
        Place { table: "connectors", column, row: &self.0 }
    }
}

const CLIENT_SECRET: &str = "sealed_client_secret";
const ATTEMPT: &str = "sealed_attempt";
const GRANT: &str = "sealed_grant";

impl Row {
    /// The row of a connector.
    pub(crate) fn new(connector: &Connector, keys: &KeyRing) -> Result<Self, RowError> {
        Ok(Self {
            id: connector.id.to_string(),
            owner: connector.owner.to_string(),
            url: connector.url.as_str().to_owned(),
            url_key: connector.url.key(),
            created_at: connector.created_at.as_microsecond(),
            content: Content::new(connector, keys)?,
        })
    }

    /// The id alone, which a list needs also of a row that makes no sense.
    pub(crate) fn connector_id(&self) -> Option<ConnectorId> {
        Uuid::parse_str(&self.id).ok().map(ConnectorId::from_uuid)
    }

    /// The connector of a row. The log is told of a secret that does not open, once.
    pub(crate) fn into_connector(self, keys: &KeyRing, told: &Told) -> Result<Connector, RowError> {
        let binding = Binding([&self.id, &self.owner, &self.url]);
        let content = &self.content;
        let mut unreadable = None;

        let client = match content.client(&binding, keys) {
            Ok(client) => client,
            Err(Unusable::Row(error)) => return Err(error),
            Err(Unusable::Sealed(column, error)) => {
                unreadable = Some((column, error));
                // Without its secret the id is still the user's; the state below keeps it from being used.
                ClientCredentials::from_parts(content.client_id.clone(), None)
                    .map_err(|_| RowError::Column("client_id"))?
            }
        };
        let state = match content.state(&binding, keys) {
            Ok(state) => Some(state),
            Err(Unusable::Row(error)) => return Err(error),
            Err(Unusable::Sealed(column, error)) => {
                unreadable = Some((column, error));
                None
            }
        };
        let state = match (state, unreadable) {
            (Some(state), None) => state,
            (_, unreadable) => {
                if let Some((column, error)) = unreadable
                    && told.is_news(&self.id)
                {
                    tracing::error!(connector = self.id, column, %error, "a stored secret cannot be opened");
                }
                // The next update stores what is returned here, so what opens must be in it.
                let recovery = content.grant(&binding, keys).unwrap_or_default();
                ConnectorState::Disconnected(Disconnected { reason: unreadable_reason(), recovery })
            }
        };
        Ok(Connector {
            id: ConnectorId::from_uuid(uuid(&self.id, "id")?),
            owner: OwnerId::from_uuid(uuid(&self.owner, "owner")?),
            url: ServerUrl::parse(&self.url).map_err(|_| RowError::Column("url"))?,
            client,
            client_issuer: content.client_issuer.as_deref().map(Issuer::new),
            metadata: content.metadata.as_deref().map(to_metadata).transpose()?,
            state,
            created_at: time(self.created_at)?,
            updated_at: time(content.updated_at)?,
            revision: Revision::from_number(content.revision),
        })
    }
}

impl Content {
    /// What is stored of a connector beside what never changes.
    pub(crate) fn new(connector: &Connector, keys: &KeyRing) -> Result<Self, RowError> {
        let (id, owner) = (connector.id.to_string(), connector.owner.to_string());
        let binding = Binding([&id, &owner, connector.url.as_str()]);
        let seal = |column, plain| keys.seal(binding.place(column), plain);

        let client = connector.client.as_ref();
        let secret = client.and_then(ClientCredentials::secret);
        let attempt = connector.attempt();
        let grant = connector.grant();
        let issued = grant.and_then(|grant| match &grant.source {
            GrantSource::Issued(issued) => Some(issued),
            GrantSource::Supplied => None,
        });
        let reason = reason(&connector.state);
        Ok(Self {
            client_id: client.map(|client| client.id().to_owned()),
            client_issuer: connector.client_issuer.as_ref().map(|issuer| issuer.as_str().to_owned()),
            sealed_client_secret: secret
                .map(|secret| seal(CLIENT_SECRET, secret.expose().as_bytes().to_vec()))
                .transpose()?,
            metadata: connector.metadata.as_ref().map(from_metadata).transpose()?,
            state: connector.lifecycle().as_str().to_owned(),
            client_state: connector.client_state().as_str().to_owned(),
            deadline: deadline(&connector.state).map(Timestamp::as_microsecond),
            attempt_state_hash: attempt.map(|attempt| attempt.state_hash.0.to_vec()),
            sealed_attempt: attempt.map(|attempt| seal_document(from_attempt(attempt), ATTEMPT, seal)).transpose()?,
            sealed_grant: grant.map(|grant| seal_document(from_grant(grant), GRANT, seal)).transpose()?,
            grant_expires_at: issued.and_then(|issued| issued.expires_at).map(Timestamp::as_microsecond),
            grant_generation: issued.map(|issued| i64::try_from(issued.generation).unwrap_or(i64::MAX)),
            server: match &connector.state {
                ConnectorState::Connected(connected) => Some(from_server(&connected.server)?),
                _ => None,
            },
            disconnect_code: reason.map(|reason| reason.code().as_str().to_owned()),
            disconnect_reason: reason.map(|reason| reason.message().to_owned()),
            revision: connector.revision.number(),
            updated_at: connector.updated_at.as_microsecond(),
        })
    }

    fn client(&self, binding: &Binding<'_>, keys: &KeyRing) -> Result<Option<ClientCredentials>, Unusable> {
        let secret = open(keys, binding, CLIENT_SECRET, self.sealed_client_secret.as_deref())?;
        let secret = secret.map(|secret| secret.expose().to_owned());
        let client = ClientCredentials::from_parts(self.client_id.clone(), secret);
        Ok(client.map_err(|_| RowError::Column("client_id"))?)
    }

    fn state(&self, binding: &Binding<'_>, keys: &KeyRing) -> Result<ConnectorState, Unusable> {
        let attempt = self.attempt(binding, keys)?;
        let grant = self.grant(binding, keys)?;
        Ok(match self.state.as_str() {
            "created" => ConnectorState::Created,
            "connecting" => ConnectorState::Connecting(Connecting {
                attempt,
                deadline: time(self.deadline.ok_or(RowError::Empty("deadline"))?)?,
                before: match &self.disconnect_code {
                    Some(_) => Before::Disconnected(self.disconnected(grant)?),
                    None => Before::Created,
                },
            }),
            "connected" => ConnectorState::Connected(Connected {
                grant,
                server: to_server(self.server.as_deref().ok_or(RowError::Empty("server"))?)?,
                wider: attempt,
            }),
            "disconnected" => ConnectorState::Disconnected(self.disconnected(grant)?),
            _ => return Err(RowError::Column("state").into()),
        })
    }

    fn attempt(&self, binding: &Binding<'_>, keys: &KeyRing) -> Result<Option<AuthorizationAttempt>, Unusable> {
        let Some(text) = open(keys, binding, ATTEMPT, self.sealed_attempt.as_deref())? else { return Ok(None) };
        let attempt = to_attempt(&text)?;
        if self.attempt_state_hash.as_deref() == Some(attempt.state_hash.0.as_slice()) {
            Ok(Some(attempt))
        } else {
            Err(Unusable::Sealed("attempt_state_hash", UnsealError::Changed))
        }
    }

    /// The grant in use, or the one kept for recovery: no other state stores one.
    fn grant(&self, binding: &Binding<'_>, keys: &KeyRing) -> Result<Option<Grant>, Unusable> {
        let grant = open(keys, binding, GRANT, self.sealed_grant.as_deref())?;
        Ok(grant.as_ref().map(to_grant).transpose()?)
    }

    fn disconnected(&self, recovery: Option<Grant>) -> Result<Disconnected, RowError> {
        let code = self.disconnect_code.as_deref().ok_or(RowError::Empty("disconnect_code"))?;
        let code: DisconnectCode = code.parse().map_err(|_| RowError::Column("disconnect_code"))?;
        let message = self.disconnect_reason.as_deref().ok_or(RowError::Empty("disconnect_reason"))?;
        Ok(Disconnected { reason: DisconnectReason::new(code, message), recovery })
    }
}

/// What a person is told whose connector's secret does not open.
fn unreadable_reason() -> DisconnectReason {
    DisconnectReason::new(
        DisconnectCode::CredentialUnreadable,
        "The stored credential cannot be read any more. Connect again; if the connector has a client secret of its own, \
         delete it and create it anew.",
    )
}

/// The reason that is stored: of a connect that is under way, the one from before it.
const fn reason(state: &ConnectorState) -> Option<&DisconnectReason> {
    match state {
        ConnectorState::Disconnected(disconnected)
        | ConnectorState::Connecting(Connecting { before: Before::Disconnected(disconnected), .. }) => {
            Some(&disconnected.reason)
        }
        _ => None,
    }
}

/// When what is under way has failed.
fn deadline(state: &ConnectorState) -> Option<Timestamp> {
    match state {
        ConnectorState::Connecting(connecting) => Some(connecting.deadline),
        ConnectorState::Connected(connected) => connected.wider.as_ref().map(|attempt| attempt.expires_at),
        ConnectorState::Created | ConnectorState::Disconnected(_) => None,
    }
}

fn seal_document(
    document: Result<Vec<u8>, DocumentError>,
    column: &'static str,
    seal: impl Fn(&'static str, Vec<u8>) -> Result<Vec<u8>, SealError>,
) -> Result<Vec<u8>, RowError> {
    Ok(seal(column, document?)?)
}

fn open(
    keys: &KeyRing,
    binding: &Binding<'_>,
    column: &'static str,
    sealed: Option<&[u8]>,
) -> Result<Option<Secret>, Unusable> {
    sealed
        .map(|sealed| keys.open(binding.place(column), sealed))
        .transpose()
        .map_err(|error| Unusable::Sealed(column, error))
}

fn uuid(text: &str, column: &'static str) -> Result<Uuid, RowError> {
    Uuid::parse_str(text).map_err(|_| RowError::Column(column))
}
