//! Small documents of issuers, fetched with limits.

use std::time::Duration;

use bytes::Bytes;
use connectors_egress::{Egress, EgressError, FetchLimits};
use http::header::ACCEPT;
use http::{HeaderValue, Method, Response, StatusCode};
use reqwest::Request;
use url::Url;

/// The largest document that is read, in bytes.
const MAX_DOCUMENT: usize = 1024 * 1024;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends small requests.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher(Egress);

impl Fetcher {
    pub(crate) const fn new(egress: Egress) -> Self {
        Self(egress)
    }

    /// Reads an address that an issuer names: a URL that may be called, as far as that is told without the network.
    pub(crate) fn address(&self, text: &str) -> Option<Url> {
        Url::parse(text).ok().filter(|url| self.0.admit(url).is_ok())
    }

    /// Asks for a document; `None` if there is none, and a redirect is none. What may pass is an error.
    pub(crate) async fn get(&self, url: Url) -> Result<Option<String>, &'static str> {
        let mut request = Request::new(Method::GET, url);
        request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
        let response = self.send(request).await.map_err(|error| match error {
            EgressError::Refused(_) => "this service may not call an address of the issuer: see `egress.allow`",
            EgressError::Unreachable { .. } | EgressError::Tls { .. } => "the issuer cannot be reached",
            EgressError::TimedOut(_) => "the issuer does not answer in time",
            EgressError::Protocol | EgressError::TooLarge { .. } | EgressError::Encoded => {
                "a document of the issuer cannot be read"
            }
        })?;
        match response.status() {
            StatusCode::OK => Ok(String::from_utf8(response.into_body().into()).ok()),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Err("the issuer has no answer now")
            }
            _ => Ok(None),
        }
    }

    /// Sends a request, and reads the answer whole.
    pub(crate) async fn send(&self, request: Request) -> Result<Response<Bytes>, EgressError> {
        self.0.fetch(request, FetchLimits { bytes: MAX_DOCUMENT, time: PATIENCE }).await
    }
}
