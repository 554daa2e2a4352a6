//! The port: one method, one unit of work.

use async_trait::async_trait;
use connectors_application::ports::{
    ConnectorPage, Connectors, InsertError, ListQuery, Removed, StoreError, UpdateError,
};
use connectors_domain::{ClientState, Connector, ConnectorId, OwnerId, StateHash};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::RunQueryDsl;

use crate::Store;
use crate::error::Fault;
use crate::pool::{read, transaction, write_one};
use crate::row::{Content, Row};
use crate::schema::{connectors, owners};

/// How long [`Connectors::ready`] takes at the most.
const READY_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);

/// The page after `$after` of the connectors of `$owner`, one more than `$limit` so that it shows whether there are
/// others. A macro, because the type of the query names the database.
macro_rules! page {
    ($owner:expr, $state:expr, $after:expr, $limit:expr) => {{
        let mut query = connectors::table
            .filter(connectors::owner.eq($owner))
            .select(Row::as_select())
            .order(connectors::id)
            .limit($limit + 1)
            .into_boxed();
        if let Some(state) = $state {
            query = query.filter(connectors::client_state.eq(state));
        }
        if let Some(after) = $after {
            query = query.filter(connectors::id.gt(after));
        }
        query
    }};
}

/// How many connectors of `$owner` there are on all pages.
macro_rules! total {
    ($owner:expr, $state:expr) => {{
        let mut query = connectors::table.filter(connectors::owner.eq($owner)).count().into_boxed();
        if let Some(state) = $state {
            query = query.filter(connectors::client_state.eq(state));
        }
        query
    }};
}

#[cfg(test)]
pub(crate) use {page, total};

#[async_trait]
impl Connectors for Store {
    async fn insert(&self, connector: Connector, limit: u32) -> Result<(), InsertError> {
        let row = Row::new(&connector, &self.keys).map_err(StoreError::from)?;
        let pool = self.pool.clone();
        let done = self.unit(async move {
            transaction!(&pool, |conn| {
                // Whoever inserts for the same owner waits here until this transaction has ended. The row is written
                // also if it is there, for that is what locks it on PostgreSQL.
                diesel::insert_into(owners::table)
                    .values(owners::id.eq(&row.owner))
                    .on_conflict(owners::id)
                    .do_update()
                    .set(owners::id.eq(&row.owner))
                    .execute(conn)
                    .await?;
                // First the row, then the count: a duplicate is called one also when there is no room for it.
                diesel::insert_into(connectors::table).values(&row).execute(conn).await?;
                let count: i64 =
                    connectors::table.filter(connectors::owner.eq(&row.owner)).count().get_result(conn).await?;
                if count > i64::from(limit) { Err(Fault::LimitReached) } else { Ok(()) }
            })
        });
        done.await.map_err(|fault| match fault {
            Fault::LimitReached => InsertError::LimitReached,
            fault if fault.is_duplicate() => InsertError::Duplicate,
            fault => StoreError::from(fault).into(),
        })
    }

    async fn find(&self, owner: OwnerId, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        let (owner, id, pool) = (owner.to_string(), id.to_string(), self.pool.clone());
        let row = self.unit(async move {
            read!(&pool, |conn| {
                connectors::table
                    .filter(connectors::id.eq(id).and(connectors::owner.eq(owner)))
                    .select(Row::as_select())
                    .first(conn)
                    .await
                    .optional()
            })
        });
        Ok(row.await?.map(|row| row.into_connector(&self.keys, &self.told)).transpose()?)
    }

    async fn find_by_state(&self, state: StateHash) -> Result<Option<Connector>, StoreError> {
        let pool = self.pool.clone();
        let row = self.unit(async move {
            read!(&pool, |conn| {
                connectors::table
                    .filter(connectors::attempt_state_hash.eq(state.0.as_slice()))
                    .select(Row::as_select())
                    .first(conn)
                    .await
                    .optional()
            })
        });
        Ok(row.await?.map(|row: Row| row.into_connector(&self.keys, &self.told)).transpose()?)
    }

    /// The connectors of `owner` in order of their ids, a page at a time.
    ///
    /// What other calls change between page and `total` shows in one of them and not in the other. A row that makes no
    /// sense is left out and logged; it counts in `total`, and its page is shorter. The filter goes
    /// by what is stored: a connector whose secret does not open is found under its former state.
    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        let (owner, pool) = (owner.to_string(), self.pool.clone());
        let state = query.state.map(ClientState::as_str);
        let after = query.after.map(|id| id.to_string());
        let limit = query.limit.max(1);
        let rows = self.unit(async move {
            read!(&pool, |conn| {
                async {
                    let total: i64 = total!(owner.as_str(), state).get_result(conn).await?;
                    let rows: Vec<Row> =
                        page!(owner.as_str(), state, after.as_deref(), i64::from(limit)).load(conn).await?;
                    diesel::QueryResult::Ok((total, rows))
                }
                .await
            })
        });
        let (total, mut rows) = rows.await?;
        let more = rows.len() > usize::try_from(limit).unwrap_or(usize::MAX);
        if more {
            rows.pop();
        }
        // From the row, not the connector: a row that makes no sense must not end the list.
        let next = if more { rows.iter().rev().find_map(Row::connector_id) } else { None };
        let items = rows.into_iter().filter_map(|row| self.sensible(row)).collect();
        Ok(ConnectorPage { items, total: u64::try_from(total).unwrap_or(0), next })
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        let updated = Connector { revision: connector.revision.next(), ..connector };
        let content = Content::new(&updated, &self.keys).map_err(StoreError::from)?;
        let (owner, id, pool) = (updated.owner.to_string(), updated.id.to_string(), self.pool.clone());
        let revision = connector.revision.number();
        let changed = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::update(connectors::table)
                    .filter(connectors::id.eq(id))
                    .filter(connectors::owner.eq(owner))
                    .filter(connectors::revision.eq(revision))
                    .set(content)
                    .execute(conn)
                    .await
            })
        });
        match changed.await.map_err(StoreError::from)? {
            0 => Err(UpdateError::Conflict),
            _ => Ok(updated),
        }
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        let (owner, id, pool) = (owner.to_string(), id.to_string(), self.pool.clone());
        let row = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::delete(connectors::table)
                    .filter(connectors::id.eq(id))
                    .filter(connectors::owner.eq(owner))
                    .returning(Row::as_returning())
                    .get_result(conn)
                    .await
                    .optional()
            })
        });
        let Some(row) = row.await? else { return Ok(Removed::Nothing) };
        // A value, not an error: it is gone, and its owner can begin anew.
        Ok(self.sensible(row).map_or(Removed::Inconsistent, |connector| Removed::Connector(Box::new(connector))))
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let looked = self.unit(async move {
            read!(&pool, |conn| { connectors::table.select(connectors::revision).limit(1).load::<i64>(conn).await })
        });
        tokio::time::timeout(READY_LIMIT, looked).await.unwrap_or(Err(Fault::TimedOut))?;
        Ok(())
    }
}

impl Store {
    /// The connector of a row that makes sense; of any other the log is told, once.
    fn sensible(&self, row: Row) -> Option<Connector> {
        let id = row.id.clone();
        match row.into_connector(&self.keys, &self.told) {
            Ok(connector) => Some(connector),
            Err(error) => {
                if self.told.is_news(&id) {
                    tracing::error!(connector = id, %error, "a stored connector makes no sense");
                }
                None
            }
        }
    }
}
