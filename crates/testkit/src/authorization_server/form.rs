//! Parameters of requests, and the two ways to refuse one.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::wire::reply::Reply;

/// Parameters by name, each there once and not empty.
#[derive(Debug, Default)]
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    /// Section 3.1 and 3.2 of RFC 6749: none twice, and an empty one is none. On failure the name that is there twice.
    pub(crate) fn parse(encoded: &[u8]) -> Result<Self, String> {
        let mut form = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(encoded) {
            if form.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(name.into_owned());
            }
        }
        form.retain(|_, value| !value.is_empty());
        Ok(Self(form))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// An error answer (section 5.2 of RFC 6749).
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: &'static str,
    pub(crate) description: String,
    /// Whether the client tried `Authorization`.
    pub(crate) challenge: bool,
}

impl Refusal {
    pub(crate) fn new(error: &'static str, description: impl Into<String>) -> Self {
        Self { error, description: description.into(), challenge: false }
    }

    pub(crate) fn reply(&self) -> Reply {
        let status = if self.error == "invalid_client" { 401 } else { 400 };
        let body = json!({ "error": self.error, "error_description": self.description });
        let reply = answer(status, &body);
        if self.challenge { reply.header("www-authenticate", "Basic realm=\"authorization server\"") } else { reply }
    }
}

/// JSON that nobody keeps (section 5.1 of RFC 6749).
pub(crate) fn answer(status: u16, body: &Value) -> Reply {
    Reply::json(body.to_string()).status(status).header("cache-control", "no-store").header("pragma", "no-cache")
}

/// Whether this is an absolute URI without a fragment.
pub(crate) fn is_absolute(uri: &str) -> bool {
    !uri.contains('#') && url::Url::parse(uri).is_ok()
}
