//! The port of API tokens: of a token itself only its hash is stored, and it is found by that.
//!
//! A token is 32 random bytes, so its hash needs neither salt nor stretching: nobody comes from the one to the other by
//! trying. What an index compares is a hash too, and how long it takes tells nothing of any token.

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use connectors_application::ports::{ApiTokens, StoreError};
use connectors_domain::{AccountName, ApiToken, ApiTokenId, OwnerId, Permissions, Principal, Secret};
use diesel::prelude::{Insertable, Queryable, Selectable};
use diesel::{ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use crate::Store;
use crate::document::time;
use crate::pool::{read, write_one};
use crate::row::{RowError, uuid};
use crate::schema::api_tokens;

/// A token as it is stored, but for the hash.
#[derive(Queryable, Selectable, Insertable)]
#[diesel(table_name = api_tokens)]
struct TokenRow {
    id: String,
    label: String,
    owner: String,
    account: String,
    permissions: String,
    created_at: i64,
    expires_at: Option<i64>,
}

impl TokenRow {
    fn new(token: ApiToken) -> Self {
        Self {
            id: token.id.to_string(),
            label: token.label,
            owner: token.principal.owner.to_string(),
            account: token.principal.account.as_str().to_owned(),
            permissions: token.principal.permissions.to_string(),
            created_at: token.created_at.as_microsecond(),
            expires_at: token.expires_at.map(Timestamp::as_microsecond),
        }
    }

    /// The token of a row. A scope that this release does not know gives nothing.
    fn into_token(self) -> Result<ApiToken, RowError> {
        Ok(ApiToken {
            id: ApiTokenId::from_uuid(uuid(&self.id, "id")?),
            label: self.label,
            principal: Principal {
                owner: OwnerId::from_uuid(uuid(&self.owner, "owner")?),
                account: AccountName::new(&self.account),
                permissions: Permissions::from_scopes(self.permissions.split(' ')),
            },
            created_at: time(self.created_at)?,
            expires_at: self.expires_at.map(time).transpose()?,
        })
    }
}

/// What is stored of a token: the SHA-256 of all of it.
fn hash(bearer: &Secret) -> Vec<u8> {
    digest(&SHA256, bearer.expose().as_bytes()).as_ref().to_vec()
}

#[async_trait]
impl ApiTokens for Store {
    async fn insert(&self, bearer: &Secret, token: ApiToken) -> Result<(), StoreError> {
        let (hash, row, pool) = (hash(bearer), TokenRow::new(token), self.pool.clone());
        let inserted = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::insert_into(api_tokens::table).values((row, api_tokens::hash.eq(hash))).execute(conn).await
            })
        });
        inserted.await?;
        Ok(())
    }

    async fn find(&self, bearer: &Secret) -> Result<Option<ApiToken>, StoreError> {
        let (hash, pool) = (hash(bearer), self.pool.clone());
        let row: Option<TokenRow> = self
            .unit(async move {
                read!(&pool, |conn| {
                    api_tokens::table
                        .filter(api_tokens::hash.eq(hash))
                        .select(TokenRow::as_select())
                        .first(conn)
                        .await
                        .optional()
                })
            })
            .await?;
        Ok(row.map(TokenRow::into_token).transpose()?)
    }

    /// A row that makes no sense is left out and logged; it can be removed like any other.
    async fn list(&self) -> Result<Vec<ApiToken>, StoreError> {
        let pool = self.pool.clone();
        let rows: Vec<TokenRow> = self
            .unit(async move {
                read!(&pool, |conn| {
                    api_tokens::table
                        .select(TokenRow::as_select())
                        .order((api_tokens::created_at, api_tokens::id))
                        .load(conn)
                        .await
                })
            })
            .await?;
        let sensible = |row: TokenRow| {
            let id = row.id.clone();
            let error = match row.into_token() {
                Ok(token) => return Some(token),
                Err(error) => error,
            };
            if self.told.is_news(&id) {
                tracing::error!(api_token = id, %error, "a stored API token makes no sense");
            }
            None
        };
        Ok(rows.into_iter().filter_map(sensible).collect())
    }

    async fn remove(&self, id: ApiTokenId) -> Result<bool, StoreError> {
        let pool = self.pool.clone();
        let removed = self.unit(async move {
            write_one!(&pool, |conn| diesel::delete(api_tokens::table.find(id.to_string())).execute(conn).await)
        });
        Ok(removed.await? > 0)
    }
}
