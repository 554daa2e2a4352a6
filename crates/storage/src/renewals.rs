//! The port of renewals: a lease is a few columns of the connector's row, beside the revision.
//!
//! A lease is on the generation that is marked. Once the grant is of another generation, holder, time and mark mean
//! nothing, and nobody has to clear them.

use async_trait::async_trait;
use connectors_application::ports::{Claim, Claimed, RenewalKey, Renewals, StoreError};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, NullableExpressionMethods, OptionalExtension, QueryDsl,
    SelectableHelper,
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use crate::Store;
use crate::error::Fault;
use crate::pool::{Pool, read, write_one};
use crate::row::{Row, generation};
use crate::schema::connectors;
use crate::time::{after, now};

/// Gives the lease on `$generation` of the connector `$id` of `$owner` to `$holder`, if nobody else has it. A macro,
/// because the type of the query names the database.
macro_rules! claim {
    ($id:expr, $owner:expr, $generation:expr, $holder:expr, $lease:expr) => {
        diesel::update(connectors::table)
            .filter(connectors::id.eq($id))
            .filter(connectors::owner.eq($owner))
            .filter(connectors::grant_generation.eq($generation))
            .filter(
                connectors::renewal_marked
                    .is_null()
                    .or(connectors::renewal_marked.ne($generation))
                    .or(connectors::renewal_holder.is_null())
                    .or(connectors::renewal_holder.eq($holder))
                    .or(connectors::renewal_until.le(now().nullable())),
            )
            .set((
                connectors::renewal_holder.eq($holder),
                connectors::renewal_until.eq(after($lease)),
                // The mark that was there before; all that stands on the right is from before the update.
                connectors::renewal_interrupted.eq(diesel::dsl::case_when(
                    connectors::renewal_marked.eq($generation),
                    1_i64.into_sql::<diesel::sql_types::BigInt>(),
                )
                .otherwise(0_i64.into_sql::<diesel::sql_types::BigInt>())),
                connectors::renewal_marked.eq($generation),
            ))
            .returning((Row::as_returning(), connectors::renewal_interrupted))
    };
}

#[cfg(test)]
pub(crate) use claim;

#[async_trait]
impl Renewals for Store {
    /// One statement: whoever waits for another's finds the row as that one left it.
    async fn claim(&self, claim: Claim) -> Result<Claimed, StoreError> {
        let Claim { key, holder, lease } = claim;
        let (id, owner, generation) = columns(key);
        let (pool, me) = (self.pool.clone(), holder.to_string());
        let claimed = self.unit(async move {
            let claimed: Option<(Row, i64)> = write_one!(&pool, |conn| {
                claim!(&id, &owner, generation, &me, lease).get_result(conn).await.optional()
            })?;
            if claimed.is_some() {
                return Ok((claimed, generation));
            }
            let current: Option<Option<i64>> = read!(&pool, |conn| {
                connectors::table
                    .filter(connectors::id.eq(&id).and(connectors::owner.eq(&owner)))
                    .select(connectors::grant_generation)
                    .first(conn)
                    .await
                    .optional()
            })?;
            // No row, no grant, and no generation are all another generation.
            Ok((None, current.flatten().unwrap_or(-1)))
        });
        let (row, current) = claimed.await?;
        let Some((row, interrupted)) = row else {
            return Ok(if current == generation { Claimed::Busy } else { Claimed::Outdated });
        };
        let interrupted = interrupted != 0;
        match row.into_connector(&self.keys, &self.told) {
            Ok(connector) if connector.generation() == Some(key.generation) => {
                Ok(Claimed::Yours { connector: Box::new(connector), interrupted })
            }
            unusable => {
                // Nobody can renew what does not open.
                self.release(key, holder, !interrupted).await?;
                unusable?;
                Ok(Claimed::Outdated)
            }
        }
    }

    async fn release(&self, key: RenewalKey, holder: Uuid, unspent: bool) -> Result<(), StoreError> {
        let (id, owner, generation) = columns(key);
        let (pool, holder) = (self.pool.clone(), holder.to_string());
        let released = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::update(connectors::table)
                    .filter(connectors::id.eq(id))
                    .filter(connectors::owner.eq(owner))
                    .filter(connectors::renewal_holder.eq(holder))
                    .filter(connectors::renewal_marked.eq(generation))
                    .set((
                        connectors::renewal_holder.eq(None::<String>),
                        connectors::renewal_until.eq(None::<i64>),
                        connectors::renewal_marked.eq(if unspent { None } else { Some(generation) }),
                    ))
                    .execute(conn)
                    .await
            })
        });
        released.await?;
        Ok(())
    }
}

fn columns(key: RenewalKey) -> (String, String, i64) {
    (key.connector.to_string(), key.owner.to_string(), generation(key.generation))
}

/// Gives back all leases of a database that no other process uses: whoever had them is gone. Marks stay.
pub(crate) async fn clear(pool: &Pool) -> Result<(), Fault> {
    write_one!(pool, |conn| {
        diesel::update(connectors::table)
            .filter(connectors::renewal_holder.is_not_null())
            .set((connectors::renewal_holder.eq(None::<String>), connectors::renewal_until.eq(None::<i64>)))
            .execute(conn)
            .await
    })?;
    Ok(())
}
