//! A connector and the states that it can be in.

use jiff::Timestamp;

use crate::{
    AccountName, AuthorizationAttempt, ClientCredentials, ConnectorId, DisconnectReason, Grant, Issuer, Metadata,
    OwnerId, Revision, ServerFacts, ServerUrl,
};

/// A remote MCP server that a user has registered.
///
/// Its state is changed by [`Connector::apply`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its id.
    pub id: ConnectorId,
    /// The user to whom it belongs; nobody else learns that it exists.
    pub owner: OwnerId,
    /// What people call that user; unknown of a connector that was made before users had names.
    pub account: Option<AccountName>,
    /// The server.
    pub url: ServerUrl,
    /// The OAuth client to use there, given by the user or by a preset.
    pub client: Option<ClientCredentials>,
    /// The authorization server at which that client was used first. It is used at no other.
    pub client_issuer: Option<Issuer>,
    /// What clients remember of it.
    pub metadata: Option<Metadata>,
    /// What state it is in.
    pub state: ConnectorState,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
    /// When the service looks after it by itself the next time; `None` if there is nothing to look after.
    pub due_at: Option<Timestamp>,
    /// The stored revision from which this value was read.
    pub revision: Revision,
}

/// The state of a connector, with the data that belong to that state and to no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectorState {
    /// Registered; no connect has ended yet.
    Created,
    /// A connect is under way.
    Connecting(Connecting),
    /// Ready for use.
    Connected(Connected),
    /// Not usable until somebody connects it.
    Disconnected(Disconnected),
}

/// A connect that is under way: the server is being probed, or the user is asked for consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connecting {
    /// What the user has to finish; `None` while the server is being probed.
    pub attempt: Option<AuthorizationAttempt>,
    /// When what is under way has failed if nothing was heard of it: then whoever probes has died.
    pub deadline: Timestamp,
    /// What it was before, and returns to if the probe is never heard of again.
    pub before: Before,
}

/// What a connector was before it was connected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it lives in one connector at a time, which is moved and not collected")]
pub enum Before {
    /// It had just been made.
    Created,
    /// It had been disconnected.
    Disconnected(Disconnected),
}

/// A connector that is ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// The right to use the server; `None` where the server asks for none.
    pub grant: Option<Grant>,
    /// What the probe learned of the server.
    pub server: ServerFacts,
    /// Since which revision it is used with what its user consented to or handed over; renewals do not change that.
    pub since: Revision,
    /// A wider consent that the server asks for. The grant goes on serving what it covers.
    pub wider: Option<AuthorizationAttempt>,
}

/// A connector that is not usable until somebody connects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnected {
    /// Why.
    pub reason: DisconnectReason,
    /// A grant that may still be good, for the next connect to try.
    pub recovery: Option<Grant>,
}

/// The state machine's four states, without their data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    /// [`ConnectorState::Created`].
    Created,
    /// [`ConnectorState::Connecting`].
    Connecting,
    /// [`ConnectorState::Connected`].
    Connected,
    /// [`ConnectorState::Disconnected`].
    Disconnected,
}

/// The four states that published clients know. They fail on any other, and none of them is "connecting".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientState {
    /// No connect has ended yet.
    Created,
    /// The user must visit a URL.
    AuthRequired,
    /// Ready for use.
    Connected,
    /// Not usable until somebody connects it.
    Disconnected,
}

impl Lifecycle {
    /// The name of the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
        }
    }
}

impl ClientState {
    /// The name of the state.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::AuthRequired => "auth_required",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
        }
    }
}

impl Connector {
    /// A new connector, in state [`ConnectorState::Created`].
    pub const fn new(
        id: ConnectorId,
        owner: OwnerId,
        url: ServerUrl,
        client: Option<ClientCredentials>,
        metadata: Option<Metadata>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            owner,
            account: None,
            url,
            client,
            client_issuer: None,
            metadata,
            state: ConnectorState::Created,
            created_at: now,
            updated_at: now,
            due_at: None,
            revision: Revision::FIRST,
        }
    }

    /// Which of the state machine's states it is in.
    pub const fn lifecycle(&self) -> Lifecycle {
        match self.state {
            ConnectorState::Created => Lifecycle::Created,
            ConnectorState::Connecting(_) => Lifecycle::Connecting,
            ConnectorState::Connected(_) => Lifecycle::Connected,
            ConnectorState::Disconnected(_) => Lifecycle::Disconnected,
        }
    }

    /// The state as published clients know it: while the server is being probed, a connector shows what it was before.
    pub const fn client_state(&self) -> ClientState {
        match &self.state {
            ConnectorState::Connecting(Connecting { attempt: Some(_), .. }) => ClientState::AuthRequired,
            ConnectorState::Created | ConnectorState::Connecting(Connecting { before: Before::Created, .. }) => {
                ClientState::Created
            }
            ConnectorState::Connecting(Connecting { before: Before::Disconnected(_), .. })
            | ConnectorState::Disconnected(_) => ClientState::Disconnected,
            ConnectorState::Connected(_) => ClientState::Connected,
        }
    }

    /// The authorization that waits for the user, be it the first or a wider one.
    pub const fn attempt(&self) -> Option<&AuthorizationAttempt> {
        match &self.state {
            ConnectorState::Connecting(connecting) => connecting.attempt.as_ref(),
            ConnectorState::Connected(connected) => connected.wider.as_ref(),
            ConnectorState::Created | ConnectorState::Disconnected(_) => None,
        }
    }

    /// Why it is disconnected, if clients see it so.
    pub const fn disconnect_reason(&self) -> Option<&DisconnectReason> {
        match &self.state {
            ConnectorState::Disconnected(disconnected)
            | ConnectorState::Connecting(Connecting {
                attempt: None,
                before: Before::Disconnected(disconnected),
                ..
            }) => Some(&disconnected.reason),
            _ => None,
        }
    }

    /// The grant with which a connect would try first: the one in use, or the one kept for recovery.
    pub const fn grant(&self) -> Option<&Grant> {
        match &self.state {
            ConnectorState::Connected(connected) => connected.grant.as_ref(),
            ConnectorState::Disconnected(disconnected)
            | ConnectorState::Connecting(Connecting { before: Before::Disconnected(disconnected), .. }) => {
                disconnected.recovery.as_ref()
            }
            ConnectorState::Created | ConnectorState::Connecting(_) => None,
        }
    }

    /// The generation of that grant, if an authorization server issued it.
    pub fn generation(&self) -> Option<u64> {
        Some(self.grant()?.issued()?.generation)
    }
}
