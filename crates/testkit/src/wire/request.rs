//! What a client sent, kept as it came: every header in its order and spelling, every byte of the body.

use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// Number of the connection that carried it, from 0, in the order in which connections were accepted.
    pub connection: u64,
    /// The HTTP method.
    pub verb: String,
    /// The request target, with its query.
    pub target: String,
    /// Header names, spelled as they came, and values, in the order in which they came.
    pub headers: Vec<(String, Bytes)>,
    /// The request line and the headers, byte for byte.
    pub head: Bytes,
    /// The body, without its chunked framing.
    pub body: Bytes,
    /// The `method` of the JSON-RPC message in the body.
    pub rpc_method: Option<String>,
    /// When the head was complete.
    pub arrived: Instant,
}

impl Request {
    /// The request target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The value of a query parameter, as it came: not percent-decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The first value of a header, whatever the case of its name; `None` also where it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a header, whatever the case of its name.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &Bytes> {
        self.headers.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The header names in lower case, in their order.
    pub fn header_names(&self) -> Vec<String> {
        self.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect()
    }

    /// The token of an `Authorization: Bearer` header.
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether these bytes occur anywhere in the head or in the body: for canaries.
    pub fn contains(&self, needle: impl AsRef<[u8]>) -> bool {
        let needle = needle.as_ref();
        let within = |hay: &[u8]| needle.is_empty() || hay.windows(needle.len()).any(|window| window == needle);
        within(&self.head) || within(&self.body)
    }

    /// Whether an `Accept` header of this request names the media type, or any type at all.
    pub(crate) fn accepts(&self, media_type: &str) -> bool {
        self.header_values("accept")
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .filter_map(|part| part.split(';').next())
            .any(|part| part.trim().eq_ignore_ascii_case(media_type) || part.trim() == "*/*")
    }
}
