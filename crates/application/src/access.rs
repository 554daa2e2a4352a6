//! Who may call: a credential is turned into a [`Principal`], and each user gets so many calls in a second.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use connectors_domain::{OwnerId, Permission, Principal, Secret};
use jiff::Timestamp;
use moka::sync::Cache;
use thiserror::Error;

use crate::audit;
use crate::pace::Pace;
use crate::ports::{Audience, AuthenticateError, Authenticated, Authenticator, Clock};

/// How many credentials are remembered.
const REMEMBERED: u64 = 100_000;

/// For how long a credential that was found to be good is taken at its word. For so long after, a token that the operator
/// has taken back still works.
const MEMORY: Duration = Duration::from_secs(10);

/// The settings of [`Access`].
#[derive(Debug, Clone)]
pub struct AccessConfig {
    /// The audiences of tokens that are good for the whole service, compared character by character.
    pub audiences: Vec<String>,
    /// Whether a credential may make its bearer an administrator. Where whoever likes gets a token with whatever scope, none may.
    pub administrators: bool,
    /// How many calls each user may make in a second, at this process; `None` for any number.
    pub requests_per_second: Option<NonZeroU32>,
}

/// Knows callers by their credentials. Cheap to clone.
#[derive(Clone)]
pub struct Access {
    authenticator: Option<Arc<dyn Authenticator>>,
    clock: Arc<dyn Clock>,
    audiences: Arc<[String]>,
    administrators: bool,
    remembered: Cache<Presented, Arc<Authenticated>>,
    pace: Option<Arc<Pace>>,
}

/// A caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// There is no credential, or it is not good. Which, and why, is not told.
    #[error("A credential for this service is missing, or is not good.")]
    Unauthenticated,
    /// Whether the credential is good cannot be found out now.
    #[error("The credential cannot be checked now. Try again in a moment.")]
    Unavailable,
    /// The user has made as many calls as are allowed.
    #[error("You have made as many calls as this service allows one user in a second. Try again in a moment.")]
    TooManyRequests {
        /// After what time the next call is let in.
        retry_after: Duration,
    },
}

impl Access {
    /// Knows callers by `authenticator`; without one, everybody is the one local user.
    pub fn new(authenticator: Option<Arc<dyn Authenticator>>, clock: Arc<dyn Clock>, config: AccessConfig) -> Self {
        Self {
            authenticator,
            clock,
            audiences: config.audiences.into(),
            administrators: config.administrators,
            remembered: Cache::builder().max_capacity(REMEMBERED).time_to_live(MEMORY).build(),
            pace: config.requests_per_second.map(|quota| Arc::new(Pace::per_second(quota))),
        }
    }

    /// Whether callers are asked who they are.
    pub const fn is_closed(&self) -> bool {
        self.authenticator.is_some()
    }

    /// The time by which credentials begin and end.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The caller who presents `bearer`. `resource` is what the call is for, as an identifier (RFC 8707): a token may be
    /// good for that alone.
    pub async fn authenticate(
        &self,
        bearer: Option<&Secret>,
        resource: impl FnOnce() -> String,
    ) -> Result<Principal, Denied> {
        let Some(authenticator) = &self.authenticator else { return Ok(Principal::local()) };
        let Some(bearer) = bearer else { return Err(Denied::Unauthenticated) };
        let authenticated = self.known(authenticator.as_ref(), bearer).await?;
        if !self.is_meant_for(&authenticated.audience, resource) {
            audit::refused_credential("it is meant for another audience");
            return Err(Denied::Unauthenticated);
        }
        Ok(authenticated.principal.clone())
    }

    /// Counts a call of `owner`.
    pub fn admit(&self, owner: OwnerId) -> Result<(), Denied> {
        let Some(pace) = &self.pace else { return Ok(()) };
        pace.take(owner).map_err(|retry_after| Denied::TooManyRequests { retry_after })
    }

    async fn known(&self, authenticator: &dyn Authenticator, bearer: &Secret) -> Result<Arc<Authenticated>, Denied> {
        let known = self.remembered.get(bearer.expose());
        // What has ended meanwhile is judged anew.
        if let Some(known) = known.filter(|known| is_current(known.until, self.clock.now())) {
            return Ok(known);
        }
        match authenticator.authenticate(bearer).await {
            Ok(mut authenticated) => {
                if !self.administrators {
                    let principal = &mut authenticated.principal;
                    principal.permissions = principal.permissions.without(Permission::Admin);
                }
                if !is_current(authenticated.until, self.clock.now()) {
                    audit::refused_credential("it has expired");
                    return Err(Denied::Unauthenticated);
                }
                let authenticated = Arc::new(authenticated);
                self.remembered.insert(Presented(bearer.clone()), Arc::clone(&authenticated));
                Ok(authenticated)
            }
            Err(AuthenticateError::Invalid(reason)) => {
                audit::refused_credential(reason);
                Err(Denied::Unauthenticated)
            }
            Err(AuthenticateError::Unavailable(reason)) => {
                tracing::warn!(reason, "a credential cannot be checked now");
                Err(Denied::Unavailable)
            }
        }
    }

    fn is_meant_for(&self, audience: &Audience, resource: impl FnOnce() -> String) -> bool {
        match audience {
            Audience::Service => true,
            Audience::Resources(resources) => {
                resources.iter().any(|named| self.audiences.contains(named)) || resources.contains(&resource())
            }
        }
    }
}

fn is_current(until: Option<Timestamp>, now: Timestamp) -> bool {
    until.is_none_or(|until| now < until)
}

/// A credential by which its bearer is remembered. It is compared by a keyed hash first, so that time tells nothing of it.
#[derive(Clone, PartialEq, Eq)]
struct Presented(Secret);

impl Borrow<str> for Presented {
    fn borrow(&self) -> &str {
        self.0.expose()
    }
}

impl Hash for Presented {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.expose().hash(state);
    }
}
