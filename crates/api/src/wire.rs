//! The documents that clients send and receive, as published clients know them. No field of an answer can hold a secret
//! other than the URL that the user must visit.

use std::collections::BTreeMap;

use connectors_domain::{Connector, Metadata, Permission, Preset, Principal};
use serde::{Deserialize, Serialize};
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::links::Links;

/// A remote MCP server that the user has registered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connector)]
pub struct ConnectorDocument {
    /// Identifies the connector.
    pub id: Uuid,
    /// The MCP server.
    #[schema(format = "uri", example = "https://mcp.example.com/mcp")]
    pub url: String,
    /// The state as published clients know it.
    pub state: StateName,
    /// The state machine's own state.
    pub lifecycle: LifecycleName,
    /// Where the user must go: while `auth_required`, and while `connected` if the server asks for wider consent.
    pub auth_request: Option<AuthRequest>,
    /// Why it is disconnected, for a person. Only while `disconnected`.
    pub disconnect_reason: Option<String>,
    /// Why it is disconnected, for a program: one of a closed, documented list. Only while `disconnected`.
    pub disconnect_code: Option<String>,
    /// What clients remember of it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// When it was made (RFC 3339, UTC).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When its state last changed (RFC 3339, UTC).
    #[schema(format = DateTime)]
    pub updated_at: String,
    /// The user to whom it belongs.
    pub created_by: Uuid,
}

/// The states that published clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConnectorState)]
pub enum StateName {
    /// No connect has ended yet.
    Created,
    /// The user must visit a URL.
    AuthRequired,
    /// Ready for use.
    Connected,
    /// Not usable until somebody connects it.
    Disconnected,
}

/// The states of the state machine.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ConnectorLifecycle)]
pub enum LifecycleName {
    /// No connect has ended yet.
    Created,
    /// The server is being probed, or the user asked for consent.
    Connecting,
    /// Ready for use.
    Connected,
    /// Not usable until somebody connects it.
    Disconnected,
}

/// Where the user must go.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuthRequest {
    /// Always `code`.
    #[serde(rename = "type")]
    #[schema(example = "code")]
    pub kind: &'static str,
    /// The URL to open in the user's browser.
    #[schema(format = "uri")]
    pub authorization_endpoint: String,
}

/// A connector, as an administrator sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AdminConnector)]
pub struct AdminConnectorDocument {
    /// As its user sees it, but that `auth_request` is always null: it is for that user alone.
    #[serde(flatten)]
    pub connector: ConnectorDocument,
    /// What people call its user, where that is known.
    pub account: Option<String>,
}

/// A list, a page at a time.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub struct PageDocument<T: ToSchema> {
    /// The items of this page.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total_count: u64,
    /// Whether there is another page.
    pub has_more: bool,
    /// What to send as `page_token` for the next page.
    pub next_page_token: Option<String>,
}

/// A server that is offered to every user.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Preset)]
pub struct PresetDocument {
    /// The MCP server.
    #[schema(format = "uri")]
    pub url: String,
    /// What to show of it.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What it takes to register a server.
#[derive(Deserialize, ToSchema)]
#[schema(as = CreateConnector)]
pub struct CreateDocument {
    /// The MCP server: http or https, at most 2048 bytes, without user info or fragment.
    #[schema(format = "uri", max_length = 2048)]
    pub url: String,
    /// An OAuth client id for that server, 1 to 2048 printable ASCII characters.
    #[schema(min_length = 1, max_length = 2048, pattern = "^[ -~]+$")]
    pub client_id: Option<String>,
    /// The secret that belongs to `client_id`.
    #[schema(min_length = 1, max_length = 2048, pattern = "^[ -~]+$", write_only)]
    pub client_secret: Option<String>,
    /// What to remember of it.
    #[schema(schema_with = bounded_metadata)]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Whether a preset for that server may give what the request does not.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub match_preset: bool,
}

/// The limits of [`Metadata`], as a schema.
fn bounded_metadata() -> Schema {
    let text = |least, most| ObjectBuilder::new().schema_type(Type::String).min_length(least).max_length(Some(most));
    ObjectBuilder::new()
        .description(Some("At most 16 keys of 1 to 64 characters, values of at most 512 characters."))
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .property_names(Some(text(Some(1), 64)))
        .additional_properties(Some(text(None, 512)))
        .max_properties(Some(16))
        .into()
}

const fn yes() -> bool {
    true
}

/// What may be given to connect.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = ConnectConnector)]
pub struct ConnectDocument {
    /// Where the user's browser goes after consent. Its origin must be one that the operator allows.
    #[schema(format = "uri")]
    pub redirect_url: Option<String>,
    /// An access token to use as the credential: 1 to 16384 visible ASCII characters.
    #[schema(min_length = 1, max_length = 16384, pattern = "^[!-~]+$", write_only)]
    pub access_token: Option<String>,
}

/// What it takes to sign in where the operator hands out tokens.
#[derive(Deserialize, ToSchema)]
#[schema(as = SignIn)]
pub struct SignInDocument {
    /// The token.
    #[schema(write_only)]
    pub token: String,
}

/// Who has signed in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Session)]
pub struct SessionDocument {
    /// How people sign in here.
    pub authentication: AuthenticationName,
    /// What people call whoever has signed in. Not there if nobody has, or need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// What they may do. Not there if nobody has signed in, or need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<&'static str>>,
}

/// How people sign in.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Authentication)]
pub enum AuthenticationName {
    /// They need not.
    None,
    /// With a token that the operator has handed out.
    Token,
    /// At an identity provider, by OpenID Connect.
    Openid,
}

/// The metadata of something for which callers need a credential (RFC 9728, section 2).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ResourceMetadata)]
pub struct ResourceMetadataDocument {
    /// Its identifier: the URL at which it is.
    #[schema(format = "uri")]
    pub resource: String,
    /// The issuers of the tokens for it; none where the operator hands them out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_servers: Vec<String>,
    /// The scopes of those tokens.
    pub scopes_supported: Vec<&'static str>,
    /// How tokens are presented: in the `Authorization` header.
    pub bearer_methods_supported: Vec<&'static str>,
    /// Its name, for people.
    pub resource_name: &'static str,
}

/// Which connectors to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParameters {
    /// At most so many, 1 to 1000.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 1000)]
    pub limit: Option<String>,
    /// `next_page_token` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{21}[AQgw]$")]
    pub page_token: Option<String>,
    /// Only connectors in this state.
    #[param(value_type = Option<StateName>)]
    pub state: Option<String>,
}

impl ConnectorDocument {
    /// The document for the user to whom `connector` belongs.
    pub(crate) fn new(connector: &Connector, links: &Links) -> Self {
        let request = |url| AuthRequest { kind: "code", authorization_endpoint: url };
        Self { auth_request: links.consent(connector).map(request), ..Self::of_any(connector) }
    }

    /// The document without what only its user may know.
    fn of_any(connector: &Connector) -> Self {
        let reason = connector.disconnect_reason();
        Self {
            id: connector.id.as_uuid(),
            url: connector.url.as_str().to_owned(),
            state: connector.client_state().into(),
            lifecycle: connector.lifecycle().into(),
            auth_request: None,
            disconnect_reason: reason.map(|reason| reason.message().to_owned()),
            disconnect_code: reason.map(|reason| reason.code().as_str().to_owned()),
            metadata: connector.metadata.as_ref().map(entries),
            created_at: connector.created_at.to_string(),
            updated_at: connector.updated_at.to_string(),
            created_by: connector.owner.as_uuid(),
        }
    }
}

impl From<&Preset> for PresetDocument {
    fn from(preset: &Preset) -> Self {
        Self { url: preset.url.as_str().to_owned(), metadata: preset.metadata.as_ref().map(entries) }
    }
}

fn entries(metadata: &Metadata) -> BTreeMap<String, String> {
    metadata.entries().clone()
}

impl AdminConnectorDocument {
    /// The document for an administrator.
    pub(crate) fn new(connector: &Connector) -> Self {
        let account = connector.account.as_ref().map(|account| account.as_str().to_owned());
        Self { connector: ConnectorDocument::of_any(connector), account }
    }
}

impl SessionDocument {
    pub(crate) fn new(authentication: AuthenticationName, principal: Option<&Principal>) -> Self {
        let scopes = |principal: &Principal| principal.permissions.iter().map(Permission::as_str).collect();
        Self {
            authentication,
            account: principal.map(|principal| principal.account.as_str().to_owned()),
            scopes: principal.map(scopes),
        }
    }
}

impl From<connectors_domain::ClientState> for StateName {
    fn from(state: connectors_domain::ClientState) -> Self {
        use connectors_domain::ClientState;
        match state {
            ClientState::Created => Self::Created,
            ClientState::AuthRequired => Self::AuthRequired,
            ClientState::Connected => Self::Connected,
            ClientState::Disconnected => Self::Disconnected,
        }
    }
}

impl From<StateName> for connectors_domain::ClientState {
    fn from(state: StateName) -> Self {
        match state {
            StateName::Created => Self::Created,
            StateName::AuthRequired => Self::AuthRequired,
            StateName::Connected => Self::Connected,
            StateName::Disconnected => Self::Disconnected,
        }
    }
}

impl From<connectors_domain::Lifecycle> for LifecycleName {
    fn from(state: connectors_domain::Lifecycle) -> Self {
        use connectors_domain::Lifecycle;
        match state {
            Lifecycle::Created => Self::Created,
            Lifecycle::Connecting => Self::Connecting,
            Lifecycle::Connected => Self::Connected,
            Lifecycle::Disconnected => Self::Disconnected,
        }
    }
}
