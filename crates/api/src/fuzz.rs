//! Doors to this crate's parsers, for the fuzz targets. Only a build for fuzzing has them.

use actix_web::http::Uri;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::test::TestRequest;
use actix_web::web::Query;
use connectors_application::CallbackRequest;
use connectors_application::ports::ListQuery;
use connectors_domain::{DisconnectReason, RedirectUrl};
use serde::de::DeserializeOwned;
use url::Url;

use crate::config::ApiConfig;
use crate::cookies::Cookies;
use crate::credential;
use crate::guard::Guard;
use crate::json;
use crate::routes::{callback, connectors, mcp};
use crate::wire::ListParameters;

/// A document in a body of JSON, or what the client is told.
pub fn document<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let request = TestRequest::default().insert_header((header::CONTENT_TYPE, "application/json")).to_http_request();
    json::parse(&request, body).map_err(|problem| problem.to_string())
}

/// The id of the JSON-RPC request in a body, as it stands there.
pub fn request_id(body: &[u8]) -> Option<&str> {
    mcp::request(body).map(|request| request.id.get())
}

/// What a query asks of the list, or what the client is told.
pub fn list(query: &str) -> Result<ListQuery, String> {
    let parameters = Query::<ListParameters>::from_query(query).map_err(Into::into);
    connectors::query(parameters).map_err(|problem| problem.to_string())
}

/// What a browser brings back to a path with a query.
pub fn callback(target: &str) -> Option<CallbackRequest> {
    // The request that is made for tests wants a target that HTTP can carry.
    target.parse::<Uri>().ok()?;
    let service = Url::parse("https://connectors.example").ok()?;
    callback::read(Cookies::new(&service), &TestRequest::with_uri(target).to_http_request())
}

/// Where a browser is sent in the end.
pub fn location(url: &RedirectUrl, failure: Option<&DisconnectReason>) -> Option<String> {
    let response = callback::redirect(url, failure).ok()?;
    Some(response.headers().get(header::LOCATION)?.to_str().ok()?.to_owned())
}

/// The bearer token of a request whose `Authorization` field holds `value`.
pub fn bearer(value: &str) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(value).ok()?);
    Some(credential::bearer(&headers).ok()??.expose().to_owned())
}

/// Whether a request with these headers is let in.
pub fn admits<'a>(config: &ApiConfig, headers: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> bool {
    let header =
        |(name, value): (&str, &[u8])| Some((HeaderName::try_from(name).ok()?, HeaderValue::from_bytes(value).ok()?));
    let mut map = HeaderMap::new();
    headers.into_iter().filter_map(header).for_each(|(name, value)| map.append(name, value));
    Guard::new(config).check(&map).is_ok()
}
