//! The port: one method, one unit of work.

use async_trait::async_trait;
use connectors_application::ports::{
    ConnectorPage, Connectors, InsertError, ListQuery, Removed, Revocation, RevocationKey, StoreError, UpdateError,
};
use connectors_domain::{ClientState, Connector, ConnectorId, Grant, OwnerId, StateHash};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper};
use diesel_async::RunQueryDsl;

use crate::error::Fault;
use crate::pool::{read, transaction, write_one};
use crate::revocations::{RevocationRow, add};
use crate::row::{Content, Row, RowError};
use crate::schema::{connectors, owners};
use crate::{KeyRing, Store};

/// How long [`Connectors::ready`] takes at the most.
const READY_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);

/// The page after `$after` of the connectors of `$owner`, or of all owners, one more than `$limit` so that it shows whether
/// there are others. A macro, because the type of the query names the database.
macro_rules! page {
    ($owner:expr, $state:expr, $after:expr, $limit:expr) => {{
        let mut query = connectors::table.select(Row::as_select()).order(connectors::id).limit($limit + 1).into_boxed();
        if let Some(owner) = $owner {
            query = query.filter(connectors::owner.eq(owner));
        }
        if let Some(state) = $state {
            query = query.filter(connectors::client_state.eq(state));
        }
        if let Some(after) = $after {
            query = query.filter(connectors::id.gt(after));
        }
        query
    }};
}

/// How many connectors of `$owner`, or of all owners, there are on all pages.
macro_rules! total {
    ($owner:expr, $state:expr) => {{
        let mut query = connectors::table.count().into_boxed();
        if let Some(owner) = $owner {
            query = query.filter(connectors::owner.eq(owner));
        }
        if let Some(state) = $state {
            query = query.filter(connectors::client_state.eq(state));
        }
        query
    }};
}

/// The connector `$id`, whoever it belongs to.
macro_rules! any {
    ($id:expr) => {
        connectors::table.filter(connectors::id.eq($id)).select(Row::as_select())
    };
}

/// Writes a change over the revision from which it was made.
macro_rules! over {
    ($change:expr) => {
        diesel::update(connectors::table)
            .filter(connectors::id.eq($change.id))
            .filter(connectors::owner.eq($change.owner))
            .filter(connectors::revision.eq($change.over))
            .set($change.content)
    };
}

#[cfg(test)]
pub(crate) use {any, page, total};

/// A changed connector, and the row that it is to become.
struct Change {
    updated: Connector,
    id: String,
    owner: String,
    /// The revision from which it was made.
    over: i64,
    content: Content,
}

impl Change {
    fn new(connector: Connector, keys: &KeyRing) -> Result<Self, StoreError> {
        let over = connector.revision.number();
        let updated = Connector { revision: connector.revision.next(), ..connector };
        let content = Content::new(&updated, keys)?;
        Ok(Self { id: updated.id.to_string(), owner: updated.owner.to_string(), over, content, updated })
    }
}

/// The revocation of a grant that an authorization server issued to the connector.
fn revocation(connector: ConnectorId, owner: OwnerId, grant: Option<Grant>) -> Option<Revocation> {
    let grant = grant?;
    let key = RevocationKey { connector, generation: grant.issued()?.generation };
    Some(Revocation { key, owner, grant })
}

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

    async fn find_any(&self, id: ConnectorId) -> Result<Option<Connector>, StoreError> {
        let (id, pool) = (id.to_string(), self.pool.clone());
        let row = self.unit(async move { read!(&pool, |conn| any!(&id).first(conn).await.optional()) });
        Ok(row.await?.map(|row: Row| row.into_connector(&self.keys, &self.told)).transpose()?)
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

    /// What other calls change between page and `total` shows in one of them and not in the other. A row that makes no
    /// sense is left out and logged; it counts in `total`, and its page is shorter. The filter goes
    /// by what is stored: a connector whose secret does not open is found under its former state.
    async fn list(&self, owner: OwnerId, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.page(Some(owner), query).await
    }

    /// As [`Connectors::list`]. `total` is counted over an index, which takes longer the more connectors there are.
    async fn list_any(&self, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        self.page(None, query).await
    }

    async fn count_waiting(&self, owner: OwnerId) -> Result<u64, StoreError> {
        let (owner, pool) = (owner.to_string(), self.pool.clone());
        let state = Some(ClientState::AuthRequired.as_str());
        let count =
            self.unit(
                async move { read!(&pool, |conn| total!(Some(owner.as_str()), state).get_result::<i64>(conn).await) },
            );
        Ok(u64::try_from(count.await?).unwrap_or(0))
    }

    async fn update(&self, connector: Connector) -> Result<Connector, UpdateError> {
        let change = Change::new(connector, &self.keys)?;
        let (pool, updated) = (self.pool.clone(), change.updated.clone());
        let changed = self.unit(async move { write_one!(&pool, |conn| over!(change).execute(conn).await) });
        match changed.await.map_err(StoreError::from)? {
            0 => Err(UpdateError::Conflict),
            _ => Ok(updated),
        }
    }

    /// A grant that no authorization server issued is given up without more: there is nobody to tell.
    async fn retire(&self, connector: Connector, grant: Grant) -> Result<Connector, UpdateError> {
        let revocation = revocation(connector.id, connector.owner, Some(grant));
        let change = Change::new(connector, &self.keys)?;
        let revocation = revocation.map(|revocation| RevocationRow::new(&revocation, &self.keys));
        let revocation = revocation.transpose().map_err(StoreError::from)?;
        let (pool, updated) = (self.pool.clone(), change.updated.clone());
        let changed = self.unit(async move {
            transaction!(&pool, |conn| {
                let changed = over!(change).execute(conn).await?;
                if let Some(row) = revocation.as_ref().filter(|_| changed > 0) {
                    add!(row).execute(conn).await?;
                }
                Ok(changed)
            })
        });
        match changed.await.map_err(StoreError::from)? {
            0 => Err(UpdateError::Conflict),
            _ => Ok(updated),
        }
    }

    async fn remove(&self, owner: OwnerId, id: ConnectorId) -> Result<Removed, StoreError> {
        let (text, pool, store) = (id.to_string(), self.pool.clone(), self.clone());
        let row = self.unit(async move {
            transaction!(&pool, |conn| {
                let row: Option<Row> = diesel::delete(connectors::table)
                    .filter(connectors::id.eq(&text))
                    .filter(connectors::owner.eq(owner.to_string()))
                    .returning(Row::as_returning())
                    .get_result(conn)
                    .await
                    .optional()?;
                if let Some(revocation) = row.as_ref().and_then(|row| store.revocation_of(row, owner, id)) {
                    add!(&revocation).execute(conn).await?;
                }
                Ok(row)
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
    /// A page of the connectors of `owner`, or of all owners.
    async fn page(&self, owner: Option<OwnerId>, query: ListQuery) -> Result<ConnectorPage, StoreError> {
        let (owner, pool) = (owner.map(|owner| owner.to_string()), self.pool.clone());
        let state = query.state.map(ClientState::as_str);
        let after = query.after.map(|id| id.to_string());
        let limit = query.limit.max(1);
        let rows = self.unit(async move {
            read!(&pool, |conn| {
                async {
                    let total: i64 = total!(owner.as_deref(), state).get_result(conn).await?;
                    let rows: Vec<Row> =
                        page!(owner.as_deref(), state, after.as_deref(), i64::from(limit)).load(conn).await?;
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

    /// The connector of a row that makes sense; of any other the log is told, once.
    pub(crate) fn sensible(&self, row: Row) -> Option<Connector> {
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

    /// The revocation that a removed row leaves behind, whatever else of the row makes no sense. A grant that does not
    /// open is nobody's any more; its row is gone, so the log is told once.
    fn revocation_of(&self, row: &Row, owner: OwnerId, id: ConnectorId) -> Option<RevocationRow> {
        let grant = row.grant(&self.keys).map_err(RowError::from);
        let revocation = grant.map(|grant| revocation(id, owner, grant)).transpose()?;
        revocation
            .and_then(|revocation| RevocationRow::new(&revocation, &self.keys))
            .inspect_err(|error| tracing::error!(connector = %id, %error, "a removed grant will not be revoked"))
            .ok()
    }
}
