//! Documents that servers publish: fetched with limits, and read member by member.
//!
//! A document is never turned into a tree: what is not asked for is skipped without being built, however deep it goes, and
//! a member counts as absent where it is `null`.

use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{AddressRefused, PrepareError};
use connectors_egress::{Egress, EgressError, FetchLimits, Refusal};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use reqwest::Request;
use serde_json::value::RawValue;
use url::Url;

/// The largest document that is read, in bytes.
const MAX_DOCUMENT: usize = 1024 * 1024;

/// What stands at an address.
#[derive(Debug)]
pub(crate) enum Found {
    /// Something that was served with status 200.
    Document(Bytes),
    /// Nothing.
    Nothing,
    /// Something that cannot be a document, or an error that may pass.
    Failure,
}

/// Fetches small documents and posts small requests.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    egress: Egress,
    time: Duration,
}

impl Fetcher {
    /// One that gives up on each request after `time`.
    pub(crate) const fn new(egress: Egress, time: Duration) -> Self {
        Self { egress, time }
    }

    /// Judges an address as far as that is possible without the network.
    pub(crate) fn admit(&self, url: &Url) -> Result<(), AddressRefused> {
        self.egress.admit(url).map_err(refused)
    }

    /// Asks for a document. A redirect is no document.
    pub(crate) async fn get(&self, url: Url) -> Result<Found, PrepareError> {
        let request = Request::new(Method::GET, url);
        let response = match self.send(request).await {
            Ok(response) => response,
            Err(SendError::Garbled) => return Ok(Found::Failure),
            Err(SendError::Refused(refused)) => return Err(refused.into()),
            Err(SendError::Unreachable) => return Err(PrepareError::Unreachable),
            Err(SendError::TimedOut { .. }) => return Err(PrepareError::TimedOut),
        };
        Ok(match response.status() {
            StatusCode::OK => Found::Document(response.into_body()),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => Found::Failure,
            _ => Found::Nothing,
        })
    }

    /// Posts a body of a content type.
    pub(crate) async fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        content_type: &'static str,
        body: String,
    ) -> Result<Response<Bytes>, SendError> {
        let mut request = Request::new(Method::POST, url);
        *request.headers_mut() = headers;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        *request.body_mut() = Some(body.into());
        self.send(request).await
    }

    async fn send(&self, mut request: Request) -> Result<Response<Bytes>, SendError> {
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let limits = FetchLimits { bytes: MAX_DOCUMENT, time: self.time };
        Ok(self.egress.fetch(request, limits).await?)
    }
}

/// Why there is no response that could be read.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The service may not talk to that address.
    Refused(AddressRefused),
    /// No connection came about.
    Unreachable,
    /// No answer came in time.
    TimedOut {
        /// Whether the server may have got the request.
        sent: bool,
    },
    /// It is no HTTP, too large, or compressed.
    Garbled,
}

impl From<EgressError> for SendError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Refused(refusal) => Self::Refused(refused(refusal)),
            EgressError::Unreachable { .. } | EgressError::Tls { .. } => Self::Unreachable,
            EgressError::TimedOut(_) => Self::TimedOut { sent: error.may_have_been_sent() },
            EgressError::Protocol | EgressError::TooLarge { .. } | EgressError::Encoded => Self::Garbled,
        }
    }
}

/// The texts of refusals name no resolved address, and say what an operator can do about it.
fn refused(refusal: Refusal) -> AddressRefused {
    AddressRefused(format!("This service may not call an address that authorization at this server needs: {refusal}."))
}

/// A member of a JSON object, unread.
pub(crate) type Member<'a> = Option<&'a RawValue>;

/// The text of a member; `None` also where it is something else.
pub(crate) fn text(member: Member<'_>) -> Option<String> {
    serde_json::from_str(member?.get()).ok()
}

/// The texts of a member; `None` also where it is anything but a list of texts.
pub(crate) fn texts(member: Member<'_>) -> Option<Vec<String>> {
    serde_json::from_str(member?.get()).ok()
}

/// Whether a member is `true`.
pub(crate) fn flag(member: Member<'_>) -> bool {
    member.is_some_and(|value| value.get() == "true")
}

/// The whole seconds of a member: a number, or a text of digits. What is too large is the largest number; `None` where it
/// is something else.
pub(crate) fn seconds(member: Member<'_>) -> Option<i64> {
    let value = member?.get();
    let text = text(member);
    let digits = text.as_deref().map_or(value, str::trim);
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let limit = if unsigned.len() < digits.len() { i64::MIN } else { i64::MAX };
        return Some(digits.parse().unwrap_or(limit));
    }
    // A number with a fraction or an exponent; the conversion cuts both what is behind the point and what is too large.
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    let whole = |number: f64| number as i64;
    if text.is_some() { None } else { serde_json::from_str::<f64>(value).ok().map(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_with_lenience() {
        for (json, expected) in [
            ("3600", Some(3600)),
            ("\"3600\"", Some(3600)),
            ("\" 3600 \"", Some(3600)),
            ("3600.9", Some(3600)),
            ("3.6e3", Some(3600)),
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("\"-1\"", Some(-1)),
            ("18446744073709551615", Some(i64::MAX)),
            ("1e300", Some(i64::MAX)),
            ("\"99999999999999999999\"", Some(i64::MAX)),
            ("-99999999999999999999", Some(i64::MIN)),
            ("1e999", None),
            ("\"3600abc\"", None),
            ("\"3600.0\"", None),
            ("\"\"", None),
            ("\"-\"", None),
            ("true", None),
            ("[3600]", None),
            ("{}", None),
        ] {
            let raw = RawValue::from_string(json.to_owned()).unwrap();
            assert_eq!(seconds(Some(&raw)), expected, "{json}");
        }
        assert_eq!(seconds(None), None);
    }
}
