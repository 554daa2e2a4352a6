//! The port's adapter, and the flow through the steps.
//!
//! When nothing tells of an authorization server — no resource metadata, and no server metadata on the MCP server's
//! origin — the server may still be one of MCP 2025-03-26, whose endpoints have default places. That it is one shows only
//! in use: so it is taken for one if it registers the service at `/register`, or if a client was given, and otherwise
//! offers no authorization. It is not even tried where the server's challenges all name schemes other than Bearer. Errors
//! that may pass never lead there.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use connectors_application::ports::{
    AuthorizationServer, Clock, Entropy, ExchangeError, ExchangeRequest, PrepareError, PrepareRequest, Prepared,
    RefreshError, RefreshRequest, Registrations, RevokeError,
};
use connectors_domain::{Authority, ClientOrigin, Grant, Scopes, ServerUrl, StateHash};
use connectors_egress::Egress;
use tokio::time::timeout;

use crate::authorize;
use crate::challenge::{Challenges, demanded};
use crate::config::OAuthConfig;
use crate::document::Fetcher;
use crate::form::Forms;
use crate::identity::identify;
use crate::metadata::{Candidate, Directory, ServerMetadata};
use crate::registration::Registrar;
use crate::resource::{self, ProtectedResource};
use crate::{refresh, revoke, token};

/// The OAuth client of MCP (2026-07-28, "Authorization"; servers of 2025-03-26 included).
///
/// Clones share connections and what was learnt about authorization servers.
#[derive(Clone)]
pub struct AuthorizationClient {
    fetcher: Fetcher,
    directory: Directory,
    registrar: Registrar,
    forms: Forms,
    entropy: Arc<dyn Entropy>,
    config: Arc<OAuthConfig>,
}

impl AuthorizationClient {
    /// A client whose every request leaves through `egress`, and that keeps its registrations in `registrations`.
    pub fn new(
        egress: Egress,
        registrations: Arc<dyn Registrations>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        config: OAuthConfig,
    ) -> Self {
        let fetcher = Fetcher::new(egress, config.request_timeout);
        Self {
            directory: Directory::new(fetcher.clone()),
            registrar: Registrar::new(fetcher.clone(), registrations, Arc::clone(&clock)),
            forms: Forms::new(fetcher.clone(), clock, Arc::clone(&entropy), config.signing_key.clone()),
            fetcher,
            entropy,
            config: Arc::new(config),
        }
    }

    async fn flow(&self, request: PrepareRequest) -> Result<Prepared, PrepareError> {
        let challenges = Challenges::read(&request.challenges);
        let resource = resource::find(&self.fetcher, &request.url, challenges.bearer.as_ref()).await?;
        let server = self.server(&request, &resource, &challenges).await?;
        let wanted = challenges.bearer.as_ref().and_then(|bearer| bearer.scope.as_deref());
        let scopes = authorize::scopes_to_ask(&request.held, wanted, &resource, &server, &request.quirks);
        let identity =
            identify(&self.config, &self.registrar, &server, request.client, request.bound_to.as_ref(), &scopes)
                .await?;
        Ok(authorize::request(self.entropy.as_ref(), server, resource, identity, scopes, &request.quirks))
    }

    /// Forgets a client that was refused, if the service had registered it.
    async fn forget(&self, authority: Authority, redirect_uri: String) {
        if authority.client.origin == ClientOrigin::Registered {
            let client_id = authority.client.credentials.id().to_owned();
            self.registrar.forget(authority.issuer, redirect_uri, client_id).await;
        }
    }

    /// The authorization server to use: the first that the resource names and that can be used, with the one at which the
    /// given client is known before all others. A resource that names none may be one itself.
    async fn server(
        &self,
        request: &PrepareRequest,
        resource: &ProtectedResource,
        challenges: &Challenges,
    ) -> Result<ServerMetadata, PrepareError> {
        let quirks = &request.quirks;
        if resource.issuers.is_empty() {
            let found = self.directory.find(&Candidate::origin_of(&request.url, quirks)).await?;
            return match found {
                Some(server) => with_pkce(server, quirks.assume_pkce),
                // A server that publishes nothing is believed to have the endpoints of MCP 2025-03-26 until registration
                // there fails, unless it said that it wants something else.
                None if challenges.only_others => Err(PrepareError::NotOffered),
                None => Ok(ServerMetadata::assumed(&request.url)),
            };
        }
        let mut candidates: Vec<_> = resource.issuers.iter().map(|issuer| Candidate::named(issuer, quirks)).collect();
        if let Some(bound) = request.bound_to.as_ref().filter(|_| request.client.is_some()) {
            candidates.sort_by_key(|candidate| !candidate.may_be(bound));
        }
        let mut first_problem = None;
        for candidate in &candidates {
            let problem = match self.directory.find(candidate).await {
                Ok(Some(server)) => match with_pkce(server, quirks.assume_pkce) {
                    Ok(server) => return Ok(server),
                    Err(problem) => problem,
                },
                Ok(None) => PrepareError::InvalidMetadata("the authorization server publishes no metadata"),
                // What may pass is no reason to become a client elsewhere.
                Err(error @ (PrepareError::Unreachable | PrepareError::TimedOut)) => return Err(error),
                Err(problem) => problem,
            };
            first_problem.get_or_insert(problem);
        }
        Err(first_problem.unwrap_or(PrepareError::NotOffered))
    }
}

#[async_trait]
impl AuthorizationServer for AuthorizationClient {
    async fn is_named_by(&self, url: ServerUrl) -> bool {
        let found = timeout(self.config.request_timeout, resource::find(&self.fetcher, &url, None)).await;
        matches!(found, Ok(Ok(resource)) if !resource.issuers.is_empty())
    }

    async fn prepare(&self, request: PrepareRequest) -> Result<Prepared, PrepareError> {
        timeout(self.config.prepare_timeout, self.flow(request)).await.unwrap_or(Err(PrepareError::TimedOut))
    }

    fn state_hash(&self, state: &str) -> StateHash {
        authorize::state_hash(state)
    }

    async fn exchange(&self, request: ExchangeRequest) -> Result<Grant, ExchangeError> {
        let authority = request.authority.clone();
        let redirect_uri = request.redirect_uri.clone();
        let exchanged = token::exchange(&self.forms, request).await;
        if exchanged == Err(ExchangeError::ClientRefused) {
            self.forget(authority, redirect_uri).await;
        }
        exchanged
    }

    async fn refresh(&self, request: RefreshRequest) -> Result<Grant, RefreshError> {
        let authority = request.authority.clone();
        let refreshed = refresh::refresh(&self.forms, request).await;
        if refreshed == Err(RefreshError::ClientRefused) {
            // The grant does not know it, but there is only one that the service registers there.
            let redirect_uri = self.config.redirect_uri_for(&authority.issuer);
            self.forget(authority, redirect_uri).await;
        }
        refreshed
    }

    async fn revoke(&self, grant: Grant) -> Result<(), RevokeError> {
        revoke::revoke(&self.forms, grant).await
    }

    fn demanded_scopes(&self, challenges: &[String]) -> Option<Scopes> {
        demanded(challenges)
    }
}

impl fmt::Debug for AuthorizationClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationClient").field("config", &self.config).finish_non_exhaustive()
    }
}

fn with_pkce(server: ServerMetadata, assumed: bool) -> Result<ServerMetadata, PrepareError> {
    if server.pkce || assumed { Ok(server) } else { Err(PrepareError::PkceUnsupported) }
}
