//! Sealing anew, under the ring's first key, what was sealed under another one: in the background, a batch at a time, so
//! that a key that has been replaced can be dropped.
//!
//! A row says under which key it is sealed, and an index finds the rows of a key. Each is written by itself, if it is still
//! as it was read, and keeps its revision: whoever changes it meanwhile wins, and nobody waits.

use std::collections::BTreeMap;

use connectors_application::ports::StoreError;
use diesel::sql_types::{BigInt, Nullable};
use diesel::{
    BoolExpressionMethods, ExpressionMethods, IntoSql, NullableExpressionMethods, QueryDsl, SelectableHelper,
};
use diesel_async::RunQueryDsl;

use crate::error::Fault;
use crate::pool::{Pool, read, write_one};
use crate::registrations::place;
use crate::revocations::{RevocationRow, of};
use crate::row::{RowError, Secrets};
use crate::schema::{connectors, registrations, revocations};
use crate::seal::ResealError;
use crate::{KeyRing, OpenError, Store};

/// Where a pass over all rows stands. The default is its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResealFrom {
    table: Table,
    /// The key whose rows are sealed anew; empty for rows that do not say.
    key: String,
    /// How many rows of that key were passed over, because they do not open.
    passed: i64,
}

/// What one batch has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resealed {
    /// How many rows are sealed under the first key now.
    pub sealed: u64,
    /// How many rows were left as they are, because something in them does not open.
    pub unreadable: u64,
    /// Where the next batch begins; `None` at the end of the pass.
    pub next: Option<ResealFrom>,
}

/// A key, and how many rows are sealed under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInUse {
    /// The key's id; `None` for rows that do not say. The first release wrote such; re-sealing finds them.
    pub id: Option<String>,
    /// How many connectors, registrations and revocations hold secrets that are sealed under it.
    pub rows: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Table {
    #[default]
    Connectors,
    Registrations,
    Revocations,
}

const TABLES: [Table; 3] = [Table::Connectors, Table::Registrations, Table::Revocations];

/// A row to be sealed anew.
enum Candidate {
    Connector(Secrets),
    Registration { row: [String; 2], sealed: Vec<u8> },
    Revocation(RevocationRow),
}

/// What came of a row.
enum Outcome {
    Sealed,
    Unreadable,
    /// Somebody else has changed it meanwhile.
    Overtaken,
}

/// Connectors that say under which key they are sealed. A macro, because the type of the query names the database.
macro_rules! known {
    () => {
        connectors::seal_key.is_not_null().and(connectors::noted_revision.eq(connectors::revision.nullable()))
    };
}

/// Connectors with secrets that do not say under which key they are sealed, in the words of the index.
macro_rules! unknown {
    () => {
        connectors::seal_key.is_null().or(connectors::noted_revision.ne(connectors::revision.nullable())).and(
            connectors::sealed_client_secret
                .is_not_null()
                .or(connectors::sealed_attempt.is_not_null())
                .or(connectors::sealed_grant.is_not_null()),
        )
    };
}

/// A batch of the connectors of a key.
macro_rules! of_key {
    ($key:expr, $passed:expr, $limit:expr) => {
        connectors::table
            .filter(known!().and(connectors::seal_key.eq($key)))
            .select(Secrets::as_select())
            .order(connectors::id)
            .offset($passed)
            .limit($limit)
    };
}

/// A batch of the connectors that do not say of which key they are.
macro_rules! of_no_key {
    ($passed:expr, $limit:expr) => {
        connectors::table
            .filter(unknown!())
            .select(Secrets::as_select())
            .order(connectors::id)
            .offset($passed)
            .limit($limit)
    };
}

/// The first key in use after `$key`.
macro_rules! first_key {
    ($table:ident, $key:expr) => {
        $table::table.filter($table::seal_key.gt($key)).select(diesel::dsl::min($table::seal_key))
    };
}

#[cfg(test)]
pub(crate) use {first_key, known, of_key, of_no_key, unknown};

impl Store {
    /// Seals up to `limit` rows anew that are sealed under another key than the ring's first. To go through all, begin with
    /// `ResealFrom::default()` and go on with what each batch says is next.
    ///
    /// The connectors' revisions stay, and nobody is told of it: nothing about them has changed.
    pub async fn reseal(&self, from: ResealFrom, limit: u32) -> Result<Resealed, StoreError> {
        let store = self.clone();
        Ok(self.unit(async move { store.batch(from, i64::from(limit.max(1))).await }).await?)
    }

    /// The keys under which something is sealed, in order of their ids, those rows first that do not say. A key that is not
    /// among them, while no row is without one, can be dropped from the ring.
    ///
    /// It counts all rows; it is for an operator who asks.
    pub async fn keys_in_use(&self) -> Result<Vec<KeyInUse>, StoreError> {
        let pool = self.pool.clone();
        let counts = self.unit(async move { counts(&pool).await }).await?;
        let in_use = counts.into_iter().map(|(id, rows)| KeyInUse { id, rows: u64::try_from(rows).unwrap_or(0) });
        Ok(in_use.collect())
    }

    async fn batch(&self, from: ResealFrom, limit: i64) -> Result<Resealed, Fault> {
        let mut from = from;
        let mut done = Resealed { sealed: 0, unreadable: 0, next: None };
        loop {
            let candidates = candidates(&self.pool, &from, limit).await?;
            if candidates.is_empty() {
                let Some(next) = following(&self.pool, from, &self.keys).await? else { return Ok(done) };
                from = next;
                continue;
            }
            for candidate in candidates {
                match self.renew(candidate).await? {
                    Outcome::Sealed => done.sealed += 1,
                    Outcome::Overtaken => {}
                    Outcome::Unreadable => {
                        done.unreadable += 1;
                        from.passed += 1;
                    }
                }
            }
            done.next = Some(from);
            return Ok(done);
        }
    }

    /// Seals a row anew, if it is still as it was read.
    async fn renew(&self, candidate: Candidate) -> Result<Outcome, Fault> {
        let (pool, key) = (&self.pool, self.keys.newest().id.as_str());
        let written = match candidate {
            Candidate::Connector(secrets) => {
                let Some(sealed) = secrets.resealed(&self.keys).map_err(unsealable)? else {
                    return Ok(Outcome::Unreadable);
                };
                write_one!(pool, |conn| {
                    diesel::update(connectors::table)
                        .filter(connectors::id.eq(&secrets.id).and(connectors::revision.eq(secrets.revision)))
                        .set((
                            sealed,
                            connectors::seal_key.eq(key),
                            connectors::noted_revision.eq(secrets.revision),
                            // What an older replica left behind says nothing, also from now on.
                            connectors::connected_since.eq(diesel::dsl::case_when(
                                connectors::noted_revision.eq(secrets.revision),
                                connectors::connected_since,
                            )
                            .otherwise(None::<i64>.into_sql::<Nullable<BigInt>>())),
                        ))
                        .execute(conn)
                        .await
                })?
            }
            Candidate::Registration { row: [issuer, redirect_uri], sealed } => {
                let Some(anew) = readable(self.keys.reseal(place(&[&issuer, &redirect_uri]), &sealed))? else {
                    return Ok(Outcome::Unreadable);
                };
                write_one!(pool, |conn| {
                    diesel::update(registrations::table)
                        .filter(registrations::issuer.eq(issuer).and(registrations::redirect_uri.eq(redirect_uri)))
                        .filter(registrations::sealed_client.eq(sealed))
                        .set((registrations::sealed_client.eq(anew), registrations::seal_key.eq(key)))
                        .execute(conn)
                        .await
                })?
            }
            Candidate::Revocation(row) => {
                let Some(anew) = readable(row.resealed(&self.keys))? else { return Ok(Outcome::Unreadable) };
                write_one!(pool, |conn| {
                    diesel::update(revocations::table)
                        .filter(of!(&row.connector, row.generation))
                        .filter(revocations::sealed_grant.eq(row.sealed_grant()))
                        .set((revocations::sealed_grant.eq(anew), revocations::seal_key.eq(key)))
                        .execute(conn)
                        .await
                })?
            }
        };
        Ok(if written > 0 { Outcome::Sealed } else { Outcome::Overtaken })
    }
}

/// `None` for what does not open.
fn readable(resealed: Result<Vec<u8>, ResealError>) -> Result<Option<Vec<u8>>, Fault> {
    match resealed {
        Ok(sealed) => Ok(Some(sealed)),
        Err(ResealError::Open(_)) => Ok(None),
        Err(ResealError::Seal(error)) => Err(unsealable(error)),
    }
}

fn unsealable(error: crate::seal::SealError) -> Fault {
    Fault::Row(RowError::Seal(error))
}

/// The next rows to be sealed anew.
async fn candidates(pool: &Pool, from: &ResealFrom, limit: i64) -> Result<Vec<Candidate>, Fault> {
    let (key, passed) = (from.key.as_str(), from.passed);
    Ok(match from.table {
        Table::Connectors => {
            let rows: Vec<Secrets> = if key.is_empty() {
                read!(pool, |conn| of_no_key!(passed, limit).load(conn).await)?
            } else {
                read!(pool, |conn| of_key!(key, passed, limit).load(conn).await)?
            };
            rows.into_iter().map(Candidate::Connector).collect()
        }
        Table::Registrations => {
            let rows: Vec<(String, String, Option<Vec<u8>>)> = read!(pool, |conn| {
                let mut query = registrations::table
                    .filter(registrations::sealed_client.is_not_null())
                    .select((registrations::issuer, registrations::redirect_uri, registrations::sealed_client))
                    .order((registrations::issuer, registrations::redirect_uri))
                    .offset(passed)
                    .limit(limit)
                    .into_boxed();
                query = if key.is_empty() {
                    query.filter(registrations::seal_key.is_null())
                } else {
                    query.filter(registrations::seal_key.eq(key))
                };
                query.load(conn).await
            })?;
            let candidate = |(issuer, redirect_uri, sealed): (String, String, Option<Vec<u8>>)| {
                Some(Candidate::Registration { row: [issuer, redirect_uri], sealed: sealed? })
            };
            rows.into_iter().filter_map(candidate).collect()
        }
        Table::Revocations => {
            let rows: Vec<RevocationRow> = read!(pool, |conn| {
                revocations::table
                    .filter(revocations::seal_key.eq(key))
                    .select(RevocationRow::as_select())
                    .order((revocations::connector, revocations::generation))
                    .offset(passed)
                    .limit(limit)
                    .load(conn)
                    .await
            })?;
            rows.into_iter().map(Candidate::Revocation).collect()
        }
    })
}

/// Where the pass goes on when the rows of a key are done: with the next key in the table, or the next table.
async fn following(pool: &Pool, from: ResealFrom, keys: &KeyRing) -> Result<Option<ResealFrom>, Fault> {
    let mut key = next_key(pool, from.table, &from.key).await?;
    if key.as_ref() == Some(&keys.newest().id) {
        key = next_key(pool, from.table, &keys.newest().id).await?;
    }
    if let Some(key) = key {
        return Ok(Some(ResealFrom { key, passed: 0, ..from }));
    }
    let table = TABLES.into_iter().skip_while(|table| *table != from.table).nth(1);
    Ok(table.map(|table| ResealFrom { table, ..ResealFrom::default() }))
}

/// The first key after `key` under which rows of the table are sealed.
async fn next_key(pool: &Pool, table: Table, key: &str) -> Result<Option<String>, Fault> {
    match table {
        Table::Connectors => read!(pool, |conn| first_key!(connectors, key).get_result(conn).await),
        Table::Registrations => read!(pool, |conn| first_key!(registrations, key).get_result(conn).await),
        Table::Revocations => read!(pool, |conn| first_key!(revocations, key).get_result(conn).await),
    }
}

/// How many rows each key has.
async fn counts(pool: &Pool) -> Result<BTreeMap<Option<String>, i64>, Fault> {
    let mut counts: Vec<(Option<String>, i64)> = read!(pool, |conn| {
        connectors::table
            .filter(known!())
            .group_by(connectors::seal_key)
            .select((connectors::seal_key, diesel::dsl::count_star()))
            .load(conn)
            .await
    })?;
    let unknown: i64 = read!(pool, |conn| connectors::table.filter(unknown!()).count().get_result(conn).await)?;
    counts.push((None, unknown));
    let registrations: Vec<(Option<String>, i64)> = read!(pool, |conn| {
        registrations::table
            .filter(registrations::sealed_client.is_not_null())
            .group_by(registrations::seal_key)
            .select((registrations::seal_key, diesel::dsl::count_star()))
            .load(conn)
            .await
    })?;
    counts.extend(registrations);
    let revocations: Vec<(Option<String>, i64)> = read!(pool, |conn| {
        revocations::table
            .group_by(revocations::seal_key)
            .select((revocations::seal_key.nullable(), diesel::dsl::count_star()))
            .load(conn)
            .await
    })?;
    counts.extend(revocations);
    let mut sums = BTreeMap::new();
    for (key, rows) in counts.into_iter().filter(|(_, rows)| *rows > 0) {
        *sums.entry(key).or_default() += rows;
    }
    Ok(sums)
}

/// Tells the log of keys under which rows are sealed and that are not in the ring: those rows do not open. The start goes
/// on; where the database knows more of such a key, it was refused before.
pub(crate) async fn tell_missing(pool: &Pool, keys: &KeyRing) -> Result<(), OpenError> {
    let mut missing = BTreeMap::new();
    for table in TABLES {
        let mut after = String::new();
        while let Some(key) = next_key(pool, table, &after).await? {
            if keys.find(key.as_bytes()).is_none() {
                *missing.entry(key.clone()).or_insert(0) += rows(pool, table, &key).await?;
            }
            after = key;
        }
    }
    for (key, rows) in missing {
        tracing::warn!(key, rows, "rows are sealed with an encryption key that is missing, and do not open without it");
    }
    Ok(())
}

/// How many rows of the table are sealed under a key.
async fn rows(pool: &Pool, table: Table, key: &str) -> Result<i64, Fault> {
    match table {
        Table::Connectors => read!(pool, |conn| {
            connectors::table.filter(known!().and(connectors::seal_key.eq(key))).count().get_result(conn).await
        }),
        Table::Registrations => read!(pool, |conn| {
            registrations::table.filter(registrations::seal_key.eq(key)).count().get_result(conn).await
        }),
        Table::Revocations => read!(pool, |conn| {
            revocations::table.filter(revocations::seal_key.eq(key)).count().get_result(conn).await
        }),
    }
}
