//! What the server does by itself: every knob, with the value of a strict and honest server as its default.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

/// How the server behaves. The default is strict and honest.
///
/// It can be changed while the server runs: see [`AuthorizationServer::change`](super::AuthorizationServer::change).
#[derive(Clone, Debug)]
#[non_exhaustive]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Settings {
    /// Which metadata documents exist; none of them makes a server that has to be guessed.
    pub documents: Vec<Document>,
    /// Members of the metadata that have another value, or with `None` are missing. The server itself does not listen to
    /// them.
    pub metadata: BTreeMap<String, Option<Value>>,
    /// Whether clients can register.
    pub registration: bool,
    /// How clients may authenticate, and so what can be registered. Keys are for those who ask for them: see
    /// [`AuthMethod::PrivateKey`].
    pub auth_methods: Vec<AuthMethod>,
    /// For how long a registered secret is good; `None` is for ever.
    pub secret_lifetime: Option<Duration>,
    /// What the person at the browser does.
    pub consent: Consent,
    /// The `iss` parameter of authorization responses (RFC 9207).
    pub iss: Iss,
    /// Whether authorization requests need PKCE with S256. Where they do not, a challenge that is there still counts.
    pub pkce: bool,
    /// Whether authorization, code and refresh requests need `resource` (RFC 8707).
    pub resource: bool,
    /// The resources that tokens can be had for; empty is any.
    pub resources: Vec<String>,
    /// The scopes there are; empty is any, and none are published.
    pub scopes: Vec<String>,
    /// What becomes of refresh tokens.
    pub rotation: Rotation,
    /// Whether refresh tokens are for those only who asked for the scope `offline_access`.
    pub offline_access: bool,
    /// A parameter of the authorization request without which there is no refresh token, as `access_type=offline` at
    /// Google.
    pub offline_parameter: Option<(String, String)>,
    /// Whether access tokens can be revoked; where they cannot, that is an `unsupported_token_type`.
    pub revoke_access_tokens: bool,
    /// For how long a spent refresh token is still good, so that a lost answer can be asked for again.
    pub grace: Duration,
    /// For how long a code is good.
    pub code_lifetime: Duration,
    /// For how long an access token is good, whatever the answer says.
    pub token_lifetime: Duration,
    /// What the answer says about that.
    pub expires_in: ExpiresIn,
    /// `token_type` of the answer.
    pub token_type: String,
    /// Members of answers with tokens that have another value, or with `None` are missing. What the server knows is not
    /// changed by them.
    pub token_members: BTreeMap<String, Option<Value>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            documents: vec![Document::OAuth, Document::OpenIdInserted, Document::OpenIdAppended],
            metadata: BTreeMap::new(),
            registration: true,
            auth_methods: vec![AuthMethod::None, AuthMethod::Basic, AuthMethod::Post],
            secret_lifetime: None,
            consent: Consent::Grant,
            iss: Iss::Right,
            pkce: true,
            resource: true,
            resources: Vec::new(),
            scopes: Vec::new(),
            rotation: Rotation::Rotate,
            offline_access: false,
            offline_parameter: None,
            revoke_access_tokens: true,
            grace: Duration::ZERO,
            code_lifetime: Duration::from_mins(1),
            token_lifetime: Duration::from_hours(1),
            expires_in: ExpiresIn::Exact,
            token_type: "Bearer".to_owned(),
            token_members: BTreeMap::new(),
        }
    }
}

/// A metadata document; for an issuer without a path the last two are one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Document {
    /// RFC 8414: `/.well-known/oauth-authorization-server`, and then the path of the issuer.
    OAuth,
    /// `/.well-known/openid-configuration`, and then the path of the issuer.
    OpenIdInserted,
    /// The path of the issuer, and then `/.well-known/openid-configuration`, as in OpenID Connect Discovery.
    OpenIdAppended,
}

/// How a client shows at the token endpoint who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthMethod {
    /// `none`: `client_id` in the body, and no secret.
    None,
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// `private_key_jwt`: an assertion (RFC 7523) with ES256, its issuer as the only audience, good once.
    PrivateKey,
}

impl AuthMethod {
    /// Its name in metadata.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Basic => "client_secret_basic",
            Self::Post => "client_secret_post",
            Self::PrivateKey => "private_key_jwt",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::None, Self::Basic, Self::Post, Self::PrivateKey].into_iter().find(|method| method.name() == name)
    }
}

/// What the person at the browser does with an authorization request that is in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Consent {
    /// Consents at once.
    Grant,
    /// Refuses at once, with this error and this description.
    Refuse(String, String),
    /// Thinks: the browser waits for [`approve`](super::AuthorizationServer::approve) or
    /// [`refuse`](super::AuthorizationServer::refuse).
    Ask,
}

/// The `iss` parameter of authorization responses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Iss {
    /// The issuer.
    Right,
    /// None, and the metadata does not promise one.
    Missing,
    /// This one.
    Wrong(String),
}

/// What becomes of refresh tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rotation {
    /// Each is good once, and its use answers with the next. Showing a spent one ends the grant.
    Rotate,
    /// The first stays good, and answers to refreshes have none.
    Keep,
    /// The first stays good, and answers to refreshes repeat it.
    Repeat,
    /// There are none.
    Never,
}

/// `expires_in` in answers with tokens.
#[derive(Clone, Debug, PartialEq)]
pub enum ExpiresIn {
    /// The lifetime in seconds, as a number.
    Exact,
    /// The same in a string.
    Text,
    /// The same with a fraction: half a second less.
    Float,
    /// Left out.
    Missing,
    /// This.
    Other(Value),
}

impl ExpiresIn {
    pub(super) fn value(&self, lifetime: Duration) -> Option<Value> {
        match self {
            Self::Exact => Some(lifetime.as_secs().into()),
            Self::Text => Some(lifetime.as_secs().to_string().into()),
            Self::Float => Some((lifetime.as_secs_f64() - 0.5).into()),
            Self::Missing => None,
            Self::Other(value) => Some(value.clone()),
        }
    }
}
