//! Who may call the MCP endpoint. Not an authorization server: it only knows which tokens are good.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{reply::Reply, request::Request};

type Verifier = dyn Fn(&str) -> bool + Send + Sync;

/// Which requests to the MCP endpoint are let in; the others get 401.
#[derive(Clone)]
#[must_use]
pub struct Auth {
    required: bool,
    tokens: HashSet<String>,
    verifier: Option<Arc<Verifier>>,
    challenge: Option<String>,
    open_methods: Vec<String>,
    /// How many further requests are let in before every token that is good now is revoked.
    revoke_after: Option<u64>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { required, tokens, challenge, .. } = self;
        write!(formatter, "Auth {{ required: {required}, {} tokens, challenge: {challenge:?} }}", tokens.len())
    }
}

impl Auth {
    /// Everyone.
    pub fn none() -> Self {
        Self {
            required: false,
            tokens: HashSet::new(),
            verifier: None,
            challenge: Some("Bearer".to_owned()),
            open_methods: Vec::new(),
            revoke_after: None,
        }
    }

    /// Who brings this bearer token, or one that is accepted later. An empty string is no token: nobody, for now.
    pub fn bearer(token: impl Into<String>) -> Self {
        let token = token.into();
        let tokens = if token.is_empty() { HashSet::new() } else { HashSet::from([token]) };
        Self { required: true, tokens, ..Self::none() }
    }

    /// Who brings a token of which this holds: to ask an authorization server.
    pub fn verified_by(verifier: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { required: true, verifier: Some(Arc::new(verifier)), ..Self::none() }
    }

    /// `WWW-Authenticate` of the 401; without this, `Bearer`.
    pub fn challenge(self, challenge: impl Into<String>) -> Self {
        Self { challenge: Some(challenge.into()), ..self }
    }

    /// A 401 without `WWW-Authenticate`.
    pub fn no_challenge(self) -> Self {
        Self { challenge: None, ..self }
    }

    /// Messages with this JSON-RPC method need no token.
    pub fn open_method(mut self, method: impl Into<String>) -> Self {
        self.open_methods.push(method.into());
        self
    }

    /// After so many requests that were let in, every token that is good then is revoked.
    pub fn revoke_after(self, requests: u64) -> Self {
        Self { revoke_after: Some(requests), ..self }
    }
}

/// The rules in force.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Auth>);

impl Gate {
    pub(super) fn new(auth: Auth) -> Self {
        Self(Mutex::new(auth))
    }

    pub(super) fn replace(&self, auth: Auth) {
        *self.lock() = auth;
    }

    pub(super) fn accept(&self, token: &str) {
        let mut auth = self.lock();
        auth.required = true;
        auth.tokens.insert(token.to_owned());
    }

    pub(super) fn revoke(&self, token: &str) {
        self.lock().tokens.remove(token);
    }

    pub(super) fn revoke_all(&self) {
        self.lock().revoke_all();
    }

    pub(super) fn revoke_after(&self, requests: u64) {
        self.lock().revoke_after = Some(requests);
    }

    pub(super) fn open_method(&self, method: &str) {
        self.lock().open_methods.push(method.to_owned());
    }

    pub(super) fn challenge(&self, challenge: Option<String>) {
        self.lock().challenge = challenge;
    }

    /// The refusal, where the request is not let in.
    pub(super) fn check(&self, request: &Request) -> Result<(), Reply> {
        let mut auth = self.lock();
        let open = request.rpc_method.as_ref().is_some_and(|method| auth.open_methods.contains(method));
        if open {
            return Ok(());
        }
        if auth.revoke_after == Some(0) {
            auth.revoke_after = None;
            auth.revoke_all();
        }
        if auth.required {
            let good = |token: &str| {
                auth.tokens.contains(token) || auth.verifier.as_ref().is_some_and(|verifier| verifier(token))
            };
            if !request.bearer().is_some_and(good) {
                let reply = Reply::json(r#"{"error":"invalid_token"}"#).status(401);
                return Err(match &auth.challenge {
                    Some(challenge) => reply.header("www-authenticate", challenge),
                    None => reply,
                });
            }
        }
        if let Some(left) = &mut auth.revoke_after {
            *left -= 1;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Auth> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Auth {
    fn revoke_all(&mut self) {
        self.required = true;
        self.tokens.clear();
        self.verifier = None;
    }
}
