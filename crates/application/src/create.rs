//! Registering an MCP server.

use std::collections::BTreeMap;

use connectors_domain::{
    AccountName, ClientCredentials, ClientError, Connector, ConnectorId, Metadata, OwnerId, ServerUrl, UrlError,
};

use crate::{ConnectorService, Error, audit};

/// What a user gives to register a server.
#[derive(Debug, Clone, Default)]
pub struct CreateRequest {
    /// The server's URL.
    pub url: String,
    /// An OAuth client id for that server.
    pub client_id: Option<String>,
    /// The secret that belongs to it.
    pub client_secret: Option<String>,
    /// What the client wishes to remember.
    pub metadata: Option<BTreeMap<String, String>>,
    /// What people call the user.
    pub account: Option<AccountName>,
    /// Whether a preset for that server may give what the request does not.
    pub match_preset: bool,
}

impl ConnectorService {
    /// Registers a server for `owner`. The server is not contacted.
    pub async fn create(&self, owner: OwnerId, request: CreateRequest) -> Result<Connector, Error> {
        let url = ServerUrl::parse(&request.url).map_err(bad_url)?;
        let given = ClientCredentials::from_parts(request.client_id, request.client_secret).map_err(bad_client)?;
        let metadata = request
            .metadata
            .map(Metadata::new)
            .transpose()
            .map_err(|error| Error::Unprocessable { field: "metadata", message: error.to_string() })?;
        self.ports.mcp.admit(&url).map_err(|refused| Error::BadRequest(refused.to_string()))?;

        let preset = if request.match_preset { self.config.presets.find(&url) } else { None };
        // The request's credentials are taken whole or not at all: a preset's secret is never joined to another id.
        let client = given.or_else(|| preset.and_then(|preset| preset.client.clone()));
        let metadata = metadata.or_else(|| preset.and_then(|preset| preset.metadata.clone()));

        let now = self.now();
        let mut random = [0; 10];
        self.ports.entropy.fill(&mut random);
        let mut connector = Connector::new(ConnectorId::new(now, random), owner, url, client, metadata, now);
        connector.account = request.account;
        self.ports.connectors.insert(connector.clone(), self.config.limits.connectors).await?;
        audit::created(&connector);
        Ok(connector)
    }
}

fn bad_url(error: UrlError) -> Error {
    match error {
        UrlError::Scheme | UrlError::UserInfo | UrlError::Fragment => Error::BadRequest(format!("url: {error}.")),
        UrlError::Syntax | UrlError::TooLong => Error::Unprocessable { field: "url", message: error.to_string() },
    }
}

fn bad_client(error: ClientError) -> Error {
    match error {
        ClientError::SecretWithoutId => Error::BadRequest(format!("{}: {error}.", error.field())),
        ClientError::Id | ClientError::Secret => {
            Error::Unprocessable { field: error.field(), message: error.to_string() }
        }
    }
}
