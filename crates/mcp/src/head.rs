//! What probe and relay have in common: the credential in a request's head, and what an answer's head says of its body.

use connectors_domain::AccessToken;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TRANSFER_ENCODING, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// MCP has two content types.
pub(crate) const JSON: &str = "application/json";
pub(crate) const EVENTS: &str = "text/event-stream";

/// The kind of body that a head announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// JSON.
    Json,
    /// Server-sent events.
    Events,
    /// Nothing is said of it.
    Unsaid,
    /// One that MCP does not have, or several at once.
    Foreign,
    /// One in a coding that nobody asked for.
    Coded,
}

/// The token as the value of `Authorization` (RFC 6750, section 2.1). It fails for no token: they are visible ASCII.
pub(crate) fn bearer(token: &AccessToken) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    // Kept out of debug output, and out of the tables by which HTTP/2 compresses headers.
    value.set_sensitive(true);
    Some(value)
}

/// The `WWW-Authenticate` fields of a 401 or 403 as they came, within bounds: what a server says of who authorizes for it,
/// and what it wants.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<String> {
    const MOST: usize = 8;
    const LONGEST: usize = 4096;
    let fields = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    fields.filter(|field| field.len() <= LONGEST).take(MOST).map(str::to_owned).collect()
}

/// Judges the body by its head.
pub(crate) fn media(headers: &HeaderMap) -> Media {
    // Decoding would put a bomb into memory; passing it on would need the header that says so. A compressing transfer
    // coding is the same thing one layer below, and one that the HTTP library does not undo.
    if has_other_than(headers, CONTENT_ENCODING, "identity") || has_other_than(headers, TRANSFER_ENCODING, "chunked") {
        return Media::Coded;
    }
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let Some(first) = types.next() else { return Media::Unsaid };
    if types.next().is_some() {
        return Media::Foreign;
    }
    let essence = first.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(JSON.as_bytes()) {
        Media::Json
    } else if essence.eq_ignore_ascii_case(EVENTS.as_bytes()) {
        Media::Events
    } else {
        Media::Foreign
    }
}

fn has_other_than(headers: &HeaderMap, name: HeaderName, plain: &str) -> bool {
    let codings = |value: &HeaderValue| {
        let mut codings = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        codings.any(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(plain.as_bytes()))
    };
    headers.get_all(name).iter().any(codings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_kept_within_bounds() {
        let mut map = HeaderMap::new();
        assert!(challenges(&map).is_empty());
        for field in ["Basic", "Bearer scope=\"a b\"", &"x".repeat(4097), &"y".repeat(4096)] {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_str(field).unwrap());
        }
        assert_eq!(challenges(&map), ["Basic", "Bearer scope=\"a b\"", &"y".repeat(4096)]);
        for _ in 0..20 {
            map.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        assert_eq!(challenges(&map).len(), 8);
    }

    fn judge(headers: &[(&'static str, &str)]) -> Media {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        media(&map)
    }

    #[test]
    fn the_essence_of_the_content_type_counts() {
        for json in
            ["application/json", "Application/JSON", "application/json;charset=utf-8", " application/json ; a=b"]
        {
            assert_eq!(judge(&[("content-type", json)]), Media::Json, "{json}");
        }
        for events in ["text/event-stream", "text/event-stream;charset=UTF-8", "TEXT/EVENT-STREAM"] {
            assert_eq!(judge(&[("content-type", events)]), Media::Events, "{events}");
        }
        for foreign in [
            "",
            ";",
            "text/html",
            "application/jsonp",
            "application/json-rpc",
            "application/problem+json",
            "application/json, text/html",
            "text/html; application/json",
            "application/jsön",
        ] {
            assert_eq!(judge(&[("content-type", foreign)]), Media::Foreign, "{foreign}");
        }
        assert_eq!(judge(&[]), Media::Unsaid);
    }

    #[test]
    fn several_content_types_are_none() {
        assert_eq!(judge(&[("content-type", JSON), ("content-type", "text/html")]), Media::Foreign);
        assert_eq!(judge(&[("content-type", JSON), ("content-type", JSON)]), Media::Foreign);
    }

    #[test]
    fn a_coded_body_is_foreign() {
        for coding in ["gzip", "GZIP", "br", "identity, gzip", "x-unheard-of"] {
            assert_eq!(judge(&[("content-type", JSON), ("content-encoding", coding)]), Media::Coded, "{coding}");
        }
        for plain in ["", "identity", "Identity", "identity, identity"] {
            assert_eq!(judge(&[("content-type", JSON), ("content-encoding", plain)]), Media::Json, "{plain}");
        }
        assert_eq!(judge(&[("content-type", JSON), ("transfer-encoding", "gzip, chunked")]), Media::Coded);
        assert_eq!(judge(&[("content-type", JSON), ("transfer-encoding", "chunked")]), Media::Json);
    }

    #[test]
    fn a_credential_does_not_print() {
        let token = AccessToken::new("hunter2".to_owned()).unwrap();
        let value = bearer(&token).unwrap();
        assert_eq!(value, "Bearer hunter2");
        assert!(!format!("{value:?}").contains("hunter2"));
    }
}
