//! The way of the OpenID Connect library to the token endpoint: through the guarded client.

use std::pin::Pin;

use connectors_egress::EgressError;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::Request;
use thiserror::Error;

use crate::document::Fetcher;

/// An HTTP client for the library, with the limits of [`Fetcher`].
#[derive(Debug, Clone)]
pub(crate) struct TokenEndpoint(pub(crate) Fetcher);

/// There is no answer that could be read. It holds nothing of the request, which has secrets in it.
#[derive(Debug, Error)]
pub(crate) enum TokenEndpointError {
    #[error("the library makes no request")]
    Request,
    #[error("the token endpoint has no answer now")]
    Failing,
    #[error(transparent)]
    Egress(#[from] EgressError),
}

impl<'c> AsyncHttpClient<'c> for TokenEndpoint {
    type Error = TokenEndpointError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Self::Error>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let request = Request::try_from(request).map_err(|_| TokenEndpointError::Request)?;
            let response = self.0.send(request).await?;
            // The library would take the page of a proxy for a malformed error of the provider.
            if response.status().is_server_error() || response.status() == http::StatusCode::TOO_MANY_REQUESTS {
                return Err(TokenEndpointError::Failing);
            }
            Ok(response.map(Vec::from))
        })
    }
}
