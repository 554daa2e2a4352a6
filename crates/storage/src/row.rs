//! Rows, and what they mean: the one place that knows which column holds what in which state.
//!
//! Secrets are sealed on the way in and opened on the way out. A secret that does not open makes its connector
//! disconnected, whatever the row says, and is never replaced by another. A grant beside it that opens is kept for
//! recovery.

#[cfg(fuzzing)]
mod fuzz;

use connectors_application::ports::StoreError;
use connectors_domain::{
    AccountName, AuthorizationAttempt, Before, ClientCredentials, Connected, Connecting, Connector, ConnectorId,
    ConnectorState, DisconnectCode, DisconnectReason, Disconnected, Grant, Issuer, OwnerId, Revision, Secret,
    ServerUrl,
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
use crate::seal::{Place, ResealError, SealError, UnsealError};
use crate::told::Told;

/// A connector as it is stored.
///
/// What is not there is written as such, and not left to the column's default, which is for older replicas.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = connectors, treat_none_as_default_value = false)]
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
#[diesel(table_name = connectors, treat_none_as_null = true, treat_none_as_default_value = false)]
pub(crate) struct Content {
    account: Option<String>,
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
    due_at: Option<i64>,
    due_failures: i64,
    connected_since: Option<i64>,
    seal_key: Option<String>,
    noted_revision: Option<i64>,
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
    #[error(transparent)]
    Grant(#[from] UnreadableGrant),
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

/// The grant of a row does not open, or makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the stored grant cannot be opened")]
pub(crate) struct UnreadableGrant;

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

    /// How often in a row the connector could not be helped.
    pub(crate) fn due_failures(&self) -> u32 {
        u32::try_from(self.content.due_failures).unwrap_or(0)
    }

    /// The revision.
    pub(crate) const fn revision(&self) -> i64 {
        self.content.revision
    }

    /// The grant, whatever else the row holds.
    pub(crate) fn grant(&self, keys: &KeyRing) -> Result<Option<Grant>, UnreadableGrant> {
        let binding = Binding([&self.id, &self.owner, &self.url]);
        self.content.grant(&binding, keys).map_err(|_| UnreadableGrant)
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
            account: content.account.as_deref().map(AccountName::new),
            url: ServerUrl::parse(&self.url).map_err(|_| RowError::Column("url"))?,
            client,
            client_issuer: content.client_issuer.as_deref().map(Issuer::new),
            metadata: content.metadata.as_deref().map(to_metadata).transpose()?,
            state,
            created_at: time(self.created_at)?,
            updated_at: time(content.updated_at)?,
            due_at: content.due_at.map(time).transpose()?,
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
        let issued = grant.and_then(Grant::issued);
        let sealed = secret.is_some() || attempt.is_some() || grant.is_some();
        let reason = reason(&connector.state);
        Ok(Self {
            account: connector.account.as_ref().map(|account| account.as_str().to_owned()),
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
            grant_generation: issued.map(|issued| generation(issued.generation)),
            server: match &connector.state {
                ConnectorState::Connected(connected) => Some(from_server(&connected.server)?),
                _ => None,
            },
            disconnect_code: reason.map(|reason| reason.code().as_str().to_owned()),
            disconnect_reason: reason.map(|reason| reason.message().to_owned()),
            revision: connector.revision.number(),
            updated_at: connector.updated_at.as_microsecond(),
            due_at: connector.due_at.map(Timestamp::as_microsecond),
            due_failures: 0,
            connected_since: match &connector.state {
                ConnectorState::Connected(connected) => Some(connected.since.number()),
                _ => None,
            },
            seal_key: sealed.then(|| keys.newest().id.clone()),
            noted_revision: Some(connector.revision.number()),
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
                since: self.since(),
                wider: attempt,
            }),
            "disconnected" => ConnectorState::Disconnected(self.disconnected(grant)?),
            _ => return Err(RowError::Column("state").into()),
        })
    }

    /// An older replica knows nothing of it, and leaves what it finds.
    fn since(&self) -> Revision {
        let noted = self.connected_since.filter(|_| self.noted_revision == Some(self.revision));
        Revision::from_number(noted.unwrap_or(self.revision))
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

/// The secrets of a row as they lie there, to be sealed anew.
#[derive(Queryable, Selectable)]
#[diesel(table_name = connectors)]
pub(crate) struct Secrets {
    pub(crate) id: String,
    owner: String,
    url: String,
    pub(crate) revision: i64,
    #[diesel(embed)]
    sealed: SealedColumns,
}

/// The columns that hold secrets.
#[expect(clippy::struct_field_names, reason = "they are the names of the columns")]
#[derive(Queryable, Selectable, AsChangeset)]
#[diesel(table_name = connectors, treat_none_as_null = true)]
pub(crate) struct SealedColumns {
    sealed_client_secret: Option<Vec<u8>>,
    sealed_attempt: Option<Vec<u8>>,
    sealed_grant: Option<Vec<u8>>,
}

impl Secrets {
    /// The same secrets under the newest key; `None` if one of them does not open.
    pub(crate) fn resealed(&self, keys: &KeyRing) -> Result<Option<SealedColumns>, SealError> {
        let binding = Binding([&self.id, &self.owner, &self.url]);
        let anew = |column, sealed: &Option<Vec<u8>>| {
            sealed.as_deref().map(|sealed| keys.reseal(binding.place(column), sealed)).transpose()
        };
        let SealedColumns { sealed_client_secret, sealed_attempt, sealed_grant } = &self.sealed;
        let columns = anew(CLIENT_SECRET, sealed_client_secret)
            .and_then(|secret| Ok((secret, anew(ATTEMPT, sealed_attempt)?, anew(GRANT, sealed_grant)?)));
        match columns {
            Ok((sealed_client_secret, sealed_attempt, sealed_grant)) => {
                Ok(Some(SealedColumns { sealed_client_secret, sealed_attempt, sealed_grant }))
            }
            Err(ResealError::Open(_)) => Ok(None),
            Err(ResealError::Seal(error)) => Err(error),
        }
    }
}

/// The number of a generation, as far as a column can hold it: the service counts revisions, which fit.
pub(crate) fn generation(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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

pub(crate) fn uuid(text: &str, column: &'static str) -> Result<Uuid, RowError> {
    Uuid::parse_str(text).map_err(|_| RowError::Column(column))
}
