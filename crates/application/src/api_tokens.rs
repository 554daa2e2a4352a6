//! API tokens: who bears one is known by it, and the operator makes and takes them back.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use connectors_domain::{ApiToken, ApiTokenId, Permissions, Principal, Secret};

use crate::ports::{ApiTokens, Audience, AuthenticateError, Authenticated, Authenticator, Clock, Entropy, StoreError};
use crate::{Error, audit, schedule};

/// The most characters of a label.
const MAX_LABEL: usize = 100;

/// What a token is made with.
#[derive(Debug, Clone)]
pub struct NewApiToken {
    /// What the operator calls it, 1 to 100 characters.
    pub label: String,
    /// What it gives.
    pub principal: Principal,
    /// After what time it ends; `None` for never.
    pub lifetime: Option<Duration>,
}

/// The API tokens of an installation. Cheap to clone.
#[derive(Clone)]
pub struct ApiTokenService {
    tokens: Arc<dyn ApiTokens>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl ApiTokenService {
    /// The tokens in `tokens`.
    pub const fn new(tokens: Arc<dyn ApiTokens>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { tokens, clock, entropy }
    }

    /// Makes a token. The bearer token is returned here and never again: only a hash of it is kept.
    pub async fn create(&self, new: NewApiToken) -> Result<(Secret, ApiToken), Error> {
        let label = new.label.trim();
        if label.is_empty() || label.chars().count() > MAX_LABEL || label.chars().any(char::is_control) {
            let message = format!("expected 1 to {MAX_LABEL} characters that can be shown");
            return Err(Error::Unprocessable { field: "label", message });
        }
        if new.principal.permissions == Permissions::default() {
            let message = "expected at least one scope of this service".to_owned();
            return Err(Error::Unprocessable { field: "scope", message });
        }
        let (mut secret, mut random) = ([0; 32], [0; 10]);
        self.entropy.fill(&mut secret);
        self.entropy.fill(&mut random);
        let now = self.clock.now();
        let token = ApiToken {
            id: ApiTokenId::new(now, random),
            label: label.to_owned(),
            principal: new.principal,
            created_at: now,
            expires_at: new.lifetime.map(|lifetime| schedule::after(now, lifetime)),
        };
        let bearer = ApiToken::bearer(&crate::hex(&secret));
        self.tokens.insert(&bearer, token.clone()).await?;
        audit::token_created(&token);
        Ok((bearer, token))
    }

    /// Every token, oldest first.
    pub async fn list(&self) -> Result<Vec<ApiToken>, Error> {
        Ok(self.tokens.list().await?)
    }

    /// Takes a token back; whether there was one. A running service may accept it for ten seconds more.
    pub async fn revoke(&self, id: ApiTokenId) -> Result<bool, Error> {
        let removed = self.tokens.remove(id).await?;
        if removed {
            audit::token_revoked(id);
        }
        Ok(removed)
    }
}

#[async_trait]
impl Authenticator for ApiTokenService {
    async fn authenticate(&self, bearer: &Secret) -> Result<Authenticated, AuthenticateError> {
        // What cannot be one is not looked up.
        if !bearer.expose().starts_with(ApiToken::PREFIX) {
            return Err(AuthenticateError::Invalid("it is no token of this service"));
        }
        let found = self.tokens.find(bearer).await.map_err(|error| match error {
            StoreError::Unavailable(_) => AuthenticateError::Unavailable("the database cannot be used now"),
            StoreError::Inconsistent(_) => AuthenticateError::Unavailable("the stored token makes no sense"),
        })?;
        let token = found.ok_or(AuthenticateError::Invalid("it is unknown"))?;
        if token.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(AuthenticateError::Invalid("it has expired"));
        }
        Ok(Authenticated { principal: token.principal, audience: Audience::Service, until: token.expires_at })
    }
}
