//! The port of the agenda: connectors by the time at which they are due.

use std::time::Duration;

use async_trait::async_trait;
use connectors_application::ports::{Agenda, Due, Postponed, StoreError};
use diesel::{ExpressionMethods, NullableExpressionMethods, QueryDsl, SelectableHelper};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use crate::Store;
use crate::due::AmongDue;
use crate::pool::{read, write_one};
use crate::row::Row;
use crate::schema::connectors;
use crate::time::{after, now_once};

/// Takes what is due. A macro, because the type of the query names the database.
macro_rules! take {
    ($limit:expr, $hold:expr) => {
        diesel::update(connectors::table)
            .filter(AmongDue { table: "connectors", limit: $limit })
            .set(connectors::due_at.eq(after($hold)))
            .returning(Row::as_returning())
    };
}

/// Counts what is due.
macro_rules! backlog {
    () => {
        connectors::table.filter(connectors::due_at.le(now_once().nullable())).count()
    };
}

#[cfg(test)]
pub(crate) use {backlog, take};

#[async_trait]
impl Agenda for Store {
    /// What is taken are those that have been due the longest; among each other they come in any order.
    async fn take_due(&self, limit: u32, hold: Duration) -> Result<Vec<Due>, StoreError> {
        let pool = self.pool.clone();
        let rows =
            self.unit(async move { write_one!(&pool, |conn| take!(i64::from(limit), hold).load::<Row>(conn).await) });
        let mut due = Vec::new();
        for row in rows.await? {
            let (id, revision, failures) = (row.id.clone(), row.revision(), row.due_failures());
            match self.sensible(row) {
                Some(connector) => due.push(Due { connector, failures }),
                // The others must not wait for it.
                None => self.put_off_for_good(id, revision).await,
            }
        }
        Ok(due)
    }

    async fn postpone(&self, postponed: Postponed) -> Result<(), StoreError> {
        let Postponed { owner, connector, revision, until, failures } = postponed;
        let (pool, until) = (self.pool.clone(), until.map(Timestamp::as_microsecond));
        let done = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::update(connectors::table)
                    .filter(connectors::id.eq(connector.to_string()))
                    .filter(connectors::owner.eq(owner.to_string()))
                    .filter(connectors::revision.eq(revision.number()))
                    .set((connectors::due_at.eq(until), connectors::due_failures.eq(i64::from(failures))))
                    .execute(conn)
                    .await
            })
        });
        done.await?;
        Ok(())
    }

    async fn backlog(&self) -> Result<u64, StoreError> {
        let pool = self.pool.clone();
        let count: i64 = self.unit(async move { read!(&pool, |conn| backlog!().get_result(conn).await) }).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }
}

impl Store {
    /// Takes a row that makes no sense off the agenda, until it is changed. Should that fail, it comes up again.
    async fn put_off_for_good(&self, id: String, revision: i64) {
        let pool = self.pool.clone();
        let done = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::update(connectors::table)
                    .filter(connectors::id.eq(id))
                    .filter(connectors::revision.eq(revision))
                    .set(connectors::due_at.eq(None::<i64>))
                    .execute(conn)
                    .await
            })
        });
        if let Err(error) = done.await {
            tracing::debug!(%error, "a row that makes no sense was not put off");
        }
    }
}
