//! The port of revocations: grants that were given up, sealed for this table.

use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{DueRevocation, Revocation, RevocationKey, Revocations, StoreError};
use connectors_domain::{ConnectorId, OwnerId};
use diesel::prelude::{Insertable, Queryable, Selectable};
use diesel::{BoolExpressionMethods, ExpressionMethods, SelectableHelper};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use crate::document::{from_grant, to_grant};
use crate::due::AmongDue;
use crate::pool::write_one;
use crate::row::{RowError, generation, uuid};
use crate::schema::revocations;
use crate::seal::{Place, ResealError};
use crate::time::from_now;
use crate::{KeyRing, Store};

/// A revocation as it is stored, but for the time at which it is due.
#[derive(Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = revocations)]
pub(crate) struct RevocationRow {
    pub(crate) connector: String,
    pub(crate) generation: i64,
    owner: String,
    sealed_grant: Vec<u8>,
    seal_key: String,
    failures: i64,
}

/// The row of `$connector` and `$generation`. A macro, because the type of the query names the database.
macro_rules! of {
    ($connector:expr, $generation:expr) => {
        revocations::connector.eq($connector).and(revocations::generation.eq($generation))
    };
}

/// Stores a row, due now, unless there is one of the same key.
macro_rules! add {
    ($row:expr) => {
        diesel::insert_into(crate::schema::revocations::table)
            .values(($row, crate::schema::revocations::due_at.eq(crate::time::now())))
            .on_conflict_do_nothing()
    };
}

/// Takes what is due.
macro_rules! take {
    ($limit:expr, $hold:expr) => {
        diesel::update(revocations::table)
            .filter(AmongDue { table: "revocations", limit: $limit })
            .set(revocations::due_at.eq(from_now($hold)))
            .returning(RevocationRow::as_returning())
    };
}

#[cfg(test)]
pub(crate) use take;
pub(crate) use {add, of};

impl RevocationRow {
    pub(crate) fn new(revocation: &Revocation, keys: &KeyRing) -> Result<Self, RowError> {
        let RevocationKey { connector, generation } = revocation.key;
        let mut row = Self {
            connector: connector.to_string(),
            generation: self::generation(generation),
            owner: revocation.owner.to_string(),
            sealed_grant: Vec::new(),
            seal_key: keys.newest().id.clone(),
            failures: 0,
        };
        let plain = from_grant(&revocation.grant)?;
        row.sealed_grant = row.place(|place| keys.seal(place, plain))?;
        Ok(row)
    }

    /// Does something with the place of the row's grant.
    fn place<T>(&self, work: impl FnOnce(Place<'_>) -> T) -> T {
        let row = [self.connector.as_str(), &self.generation.to_string(), &self.owner];
        work(Place { table: "revocations", column: "sealed_grant", row: &row })
    }

    /// The grant under the newest key.
    pub(crate) fn resealed(&self, keys: &KeyRing) -> Result<Vec<u8>, ResealError> {
        self.place(|place| keys.reseal(place, &self.sealed_grant))
    }

    /// The grant as it lies there.
    pub(crate) fn sealed_grant(&self) -> &[u8] {
        &self.sealed_grant
    }

    /// The revocation; the error says what is wrong with the row, and not what it holds.
    fn open(&self, keys: &KeyRing) -> Result<DueRevocation, String> {
        let grant = self.place(|place| keys.open(place, &self.sealed_grant)).map_err(|error| error.to_string())?;
        let told = |error: RowError| error.to_string();
        let key = RevocationKey {
            connector: ConnectorId::from_uuid(uuid(&self.connector, "connector").map_err(told)?),
            generation: u64::try_from(self.generation).map_err(|_| told(RowError::Column("generation")))?,
        };
        let owner = OwnerId::from_uuid(uuid(&self.owner, "owner").map_err(told)?);
        let grant = to_grant(&grant).map_err(|error| error.to_string())?;
        let failures = u32::try_from(self.failures).unwrap_or(u32::MAX);
        Ok(DueRevocation { revocation: Revocation { key, owner, grant }, failures })
    }
}

#[async_trait]
impl Revocations for Store {
    async fn add(&self, revocation: Revocation) -> Result<(), StoreError> {
        let row = RevocationRow::new(&revocation, &self.keys)?;
        let pool = self.pool.clone();
        let added = self.unit(async move { write_one!(&pool, |conn| add!(&row).execute(conn).await) });
        added.await?;
        Ok(())
    }

    /// What is taken are those that have been due the longest; among each other they come in any order.
    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<DueRevocation>, StoreError> {
        let pool = self.pool.clone();
        let rows = self.unit(async move {
            write_one!(&pool, |conn| take!(i64::from(limit), hold).load::<RevocationRow>(conn).await)
        });
        let mut due = Vec::new();
        for row in rows.await? {
            match row.open(&self.keys) {
                Ok(revocation) => due.push(revocation),
                Err(error) => {
                    let connector = &row.connector;
                    tracing::error!(connector, error, "a grant cannot be opened and will not be revoked");
                    // Should that fail, it comes up again.
                    let _ = self.forget_revocation(row.connector, row.generation).await;
                }
            }
        }
        Ok(due)
    }

    async fn postpone(&self, key: RevocationKey, until: Timestamp) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let postponed = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::update(revocations::table)
                    .filter(of!(key.connector.to_string(), generation(key.generation)))
                    .set((
                        revocations::due_at.eq(until.as_microsecond()),
                        revocations::failures.eq(revocations::failures + 1),
                    ))
                    .execute(conn)
                    .await
            })
        });
        postponed.await?;
        Ok(())
    }

    async fn done(&self, key: RevocationKey) -> Result<(), StoreError> {
        self.forget_revocation(key.connector.to_string(), generation(key.generation)).await
    }
}

impl Store {
    async fn forget_revocation(&self, connector: String, generation: i64) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let dropped = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::delete(revocations::table).filter(of!(connector, generation)).execute(conn).await
            })
        });
        dropped.await?;
        Ok(())
    }
}
