//! The session of a person in the console: a sealed cookie, so that nothing has to remember it.

use std::time::Duration;

use actix_web::HttpRequest;
use connectors_application::Denied;
use connectors_application::ports::{Seal, SealPurpose, SealerError};
use connectors_domain::{AccountName, OwnerId, Permissions, Principal, Secret};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cookies::Purpose;
use crate::links::Resource;
use crate::routes::Api;

/// With this header, and the value `1`, the console says that a call is its own. A page of another origin cannot send it
/// without asking first, and is told no: so a cookie alone never carries a call.
const CONSOLE_HEADER: &str = "x-connectors-console";

/// Who has signed in, and how.
#[derive(Debug)]
pub(crate) enum Session {
    /// By a login: who it was, as the identity provider said then.
    Person(Principal),
    /// With a token, which is asked each time, so that the session ends when the token does.
    Token(Secret),
}

/// What the cookie holds, sealed.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// When the session ends, in seconds since 1970.
    until: i64,
    #[serde(flatten)]
    holder: Holder,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Holder {
    Person { owner: Uuid, account: String, scopes: String },
    Token { token: String },
}

impl Session {
    /// The session in the cookie of a request. Whether the request may be carried out in its name is another question: see
    /// [`is_from_console`].
    pub(crate) fn read(api: &Api, request: &HttpRequest) -> Option<Self> {
        let sealed = api.cookies.read(request, Purpose::Session)?;
        let kept: Kept = open(api, SealPurpose::ConsoleSession, &sealed)?;
        if kept.until <= api.access.now().as_second() {
            return None;
        }
        match (kept.holder, api.login.is_some()) {
            (Holder::Person { owner, account, scopes }, true) => Some(Self::Person(Principal {
                owner: OwnerId::from_uuid(owner),
                account: AccountName::new(&account),
                permissions: Permissions::from_scopes(scopes.split(' ')),
            })),
            (Holder::Token { token }, false) => Some(Self::Token(Secret::new(token))),
            // The operator has changed the way in which people sign in.
            _ => None,
        }
    }

    /// A `Set-Cookie` field that holds the session; `Ok(None)` if it is more than browsers keep.
    pub(crate) fn write(&self, api: &Api) -> Result<Option<String>, SealerError> {
        let lifetime = api.config.session_lifetime;
        let until = later(api, lifetime);
        let holder = match self {
            Self::Person(principal) => Holder::Person {
                owner: principal.owner.as_uuid(),
                account: principal.account.as_str().to_owned(),
                scopes: principal.permissions.to_string(),
            },
            Self::Token(token) => Holder::Token { token: token.expose().to_owned() },
        };
        let sealed = seal(api, SealPurpose::ConsoleSession, &Kept { until, holder })?;
        Ok(api.cookies.set(Purpose::Session, &sealed, Some(lifetime)))
    }

    /// In whose name the session is.
    pub(crate) async fn principal(self, api: &Api) -> Result<Principal, Denied> {
        match self {
            Self::Person(principal) => Ok(principal),
            Self::Token(token) => api.access.authenticate(Some(&token), || api.links.resource(Resource::Service)).await,
        }
    }
}

/// Who has signed in with the browser that sends `request`; `None` if nobody has, or has no longer.
pub(crate) async fn signed_in(api: &Api, request: &HttpRequest) -> Result<Option<Principal>, Denied> {
    let Some(session) = Session::read(api, request) else { return Ok(None) };
    match session.principal(api).await {
        Ok(principal) => Ok(Some(principal)),
        Err(Denied::Unauthenticated) => Ok(None),
        Err(denied) => Err(denied),
    }
}

/// Whether the console itself says that it sends `request`.
pub(crate) fn is_from_console(request: &HttpRequest) -> bool {
    request.headers().get(CONSOLE_HEADER).is_some_and(|value| value == "1")
}

/// The instant `time` from now, in seconds since 1970.
pub(crate) fn later(api: &Api, time: Duration) -> i64 {
    api.access.now().as_second().saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Seals `document` for a browser. It opens at this installation only.
pub(crate) fn seal(api: &Api, purpose: SealPurpose, document: &impl Serialize) -> Result<String, SealerError> {
    let text = Secret::new(serde_json::to_string(document).map_err(|_| SealerError)?);
    api.sealer.seal(&bound(api, purpose), text.expose())
}

/// Opens what [`seal`] has sealed.
pub(crate) fn open<T: DeserializeOwned>(api: &Api, purpose: SealPurpose, sealed: &Secret) -> Option<T> {
    let text = api.sealer.open(&bound(api, purpose), sealed.expose())?;
    serde_json::from_str(text.expose()).ok()
}

fn bound(api: &Api, purpose: SealPurpose) -> Seal {
    Seal { purpose, bound_to: vec![api.links.base().to_owned()] }
}
