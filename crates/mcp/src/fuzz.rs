//! Doors to this crate's parsers, for the fuzz targets. Only a build for fuzzing has them.

use connectors_application::ports::{RelayError, RelayResponse};
use http::Response;
use reqwest::Body;

use crate::McpConfig;
pub use crate::probe::fuzz::{Said, answer};
use crate::relay;

/// What the relay passes back of an answer.
pub async fn relayed(answer: Response<impl Into<Body>>, config: &McpConfig) -> Result<RelayResponse, RelayError> {
    relay::answer(answer.into(), config).await
}
