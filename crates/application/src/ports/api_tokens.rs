//! The bearer tokens that the operator makes.

use async_trait::async_trait;
use connectors_domain::{ApiToken, ApiTokenId, Secret};

use super::StoreError;

/// Where API tokens are kept. Of the token itself only a hash is: who reads the store can call nobody.
#[cfg_attr(feature = "mocks", mockall::automock)]
#[async_trait]
pub trait ApiTokens: Send + Sync + 'static {
    /// Stores a token that `bearer` stands for.
    async fn insert(&self, bearer: &Secret, token: ApiToken) -> Result<(), StoreError>;

    /// The token that `bearer` stands for, also if it has ended.
    async fn find(&self, bearer: &Secret) -> Result<Option<ApiToken>, StoreError>;

    /// Every token, oldest first.
    async fn list(&self) -> Result<Vec<ApiToken>, StoreError>;

    /// Removes the token `id`; whether there was one.
    async fn remove(&self, id: ApiTokenId) -> Result<bool, StoreError>;
}
