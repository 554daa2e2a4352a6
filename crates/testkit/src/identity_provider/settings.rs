//! What the provider does by itself: every knob, with the value of an honest provider as its default.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::Key;
use crate::authorization_server::{Client, Iss};

/// How the provider behaves. It can be changed while it runs: see [`IdentityProvider::change`].
///
/// [`IdentityProvider::change`]: super::IdentityProvider::change
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// The keys that are published. The first one signs.
    pub keys: Vec<Key>,
    /// Members of the metadata that have another value, or with `None` are missing.
    pub metadata: BTreeMap<String, Option<Value>>,
    /// The one client of logins.
    pub client: Option<Client>,
    /// Who logs in.
    pub subject: String,
    /// The error with which the person refuses; without it, they consent at once.
    pub refusal: Option<String>,
    /// The `iss` parameter of authorization responses (RFC 9207).
    pub iss: Iss,
    /// Members of the claims of ID tokens that have another value, or with `None` are missing.
    pub id_token: BTreeMap<String, Option<Value>>,
    /// The same for their header. `alg` decides how they are signed.
    pub id_token_header: BTreeMap<String, Option<Value>>,
    /// The key that signs ID tokens, if not the first that is published.
    pub id_token_key: Option<Key>,
    /// Members of token responses that have another value, or with `None` are missing.
    pub token_members: BTreeMap<String, Option<Value>>,
    /// For how long tokens are good.
    pub token_lifetime: Duration,
}

impl Settings {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self {
            keys,
            metadata: BTreeMap::new(),
            client: None,
            subject: "alice".to_owned(),
            refusal: None,
            iss: Iss::Right,
            id_token: BTreeMap::new(),
            id_token_header: BTreeMap::new(),
            id_token_key: None,
            token_members: BTreeMap::new(),
            token_lifetime: Duration::from_mins(5),
        }
    }
}
