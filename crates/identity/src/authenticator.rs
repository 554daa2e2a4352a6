//! Bearer tokens that are JWTs.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use connectors_application::ports::{Audience, AuthenticateError, Authenticated, Authenticator, Clock};
use connectors_domain::Secret;
use connectors_egress::Egress;
use futures_util::future::join_all;

use crate::algorithm::Algorithm;
use crate::config::{ConfigError, JwtConfig};
use crate::keys::NoKey;
use crate::provider::Provider;
use crate::token;

/// Takes access tokens of the configured issuers (RFC 9068) that their published keys verify.
///
/// Clocks may be 30 s apart. A token may have 16 KiB. Who is meant by it is for the caller to judge, by
/// [`Authenticated::audience`].
///
/// An issuer is asked for its keys at most once in 10 s, and keys that are older than 5 minutes are fetched anew in the
/// background. Known keys are used as long as no newer ones can be had. A caller waits up to 5 s for keys: the first ones of
/// an issuer, and newer ones for a token whose key is not among those known.
pub struct JwtAuthenticator {
    providers: Vec<Arc<Provider>>,
    algorithms: Vec<Algorithm>,
    clock: Arc<dyn Clock>,
}

impl JwtAuthenticator {
    /// One that knows no keys yet. Fetches are begun on the runtime on which this is called.
    pub fn new(egress: &Egress, clock: Arc<dyn Clock>, config: JwtConfig) -> Result<Self, ConfigError> {
        let JwtConfig { issuers, algorithms } = config;
        if issuers.is_empty() {
            return Err(ConfigError::NoIssuer);
        }
        if algorithms.is_empty() {
            return Err(ConfigError::NoAlgorithm);
        }
        let providers = issuers.into_iter().map(|issuer| Provider::new(egress.clone(), Arc::clone(&clock), issuer));
        Ok(Self { providers: providers.collect::<Result<_, _>>()?, algorithms, clock })
    }

    /// Fetches the keys of all issuers, and waits for 5 s at most. What fails is logged, and made up for later.
    pub async fn warm(&self) {
        join_all(self.providers.iter().map(Provider::get)).await;
    }
}

#[async_trait]
impl Authenticator for JwtAuthenticator {
    async fn authenticate(&self, bearer: &Secret) -> Result<Authenticated, AuthenticateError> {
        let invalid = AuthenticateError::Invalid;
        let token = token::read(bearer.expose(), &self.algorithms, self.clock.now()).map_err(invalid)?;
        let provider = self.providers.iter().find(|provider| provider.issuer() == token.issuer());
        let provider = provider.ok_or(invalid("its issuer is not one of those configured"))?;
        let known = provider.get().await;
        let known = known.ok_or(AuthenticateError::Unavailable("the keys of its issuer could not be fetched yet"))?;
        let claims = match token.verify(&known.keys) {
            Err(NoKey::Unknown) => match provider.newer(&known).await {
                Some(newer) => token.verify(&newer.keys).cloned(),
                None => Err(NoKey::Unknown),
            },
            judged => judged.cloned(),
        };
        let claims = claims.map_err(|error| match error {
            NoKey::Unknown => invalid("its issuer has no such key"),
            NoKey::Unfit(reason) => invalid(reason),
        })?;
        Ok(Authenticated {
            principal: claims.principal,
            audience: Audience::Resources(claims.audience),
            until: Some(claims.until),
        })
    }
}

impl fmt::Debug for JwtAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.providers.iter().map(|provider| provider.issuer()).collect();
        f.debug_struct("JwtAuthenticator")
            .field("issuers", &issuers)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}
