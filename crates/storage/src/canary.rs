//! Canaries: a known text sealed under each key that the database was ever written with. They tell a wrong or missing
//! key when the database is opened, instead of one connector after the other when it is used.

use diesel::{BoolExpressionMethods, ExpressionMethods, NullableExpressionMethods, QueryDsl};
use diesel_async::RunQueryDsl;

use crate::error::Fault;
use crate::pool::{Pool, read, transaction, write_one};
use crate::schema::{connectors, registrations, revocations, sealing_keys, substr};
use crate::seal::{Place, header};
use crate::{KeyRing, OpenError};

const TEXT: &str = "canary";

/// What [`verify`] has found of the keys that the database was written with.
pub(crate) struct Verified {
    /// The ids of those that are there.
    here: Vec<String>,
    /// The ids of those that are gone, and that nothing needs any more.
    gone: Vec<String>,
}

/// Holds `keys` against the canaries and changes nothing. Without keys, nothing may be sealed.
pub(crate) async fn verify(pool: &Pool, keys: Option<&KeyRing>) -> Result<Verified, OpenError> {
    let mut verified = Verified { here: Vec::new(), gone: Vec::new() };
    let mut gone = Vec::new();
    for (id, canary) in read(pool).await? {
        match keys.filter(|keys| keys.find(id.as_bytes()).is_some()) {
            Some(keys) if opens(keys, &id, &canary) => verified.here.push(id),
            Some(_) => return Err(OpenError::WrongKey { id }),
            None => gone.push(id),
        }
    }
    // Only now, because it takes long: a wrong key is told first.
    for id in gone {
        unneeded(pool, &id).await?;
        verified.gone.push(id);
    }
    Ok(verified)
}

/// Holds `keys` against the canaries, forgets the keys that are gone and not needed, and leaves a canary for the key that
/// will seal.
pub(crate) async fn settle(pool: &Pool, keys: &KeyRing) -> Result<(), OpenError> {
    let verified = verify(pool, Some(keys)).await?;
    for id in verified.gone {
        forget(pool, &id).await?;
    }
    if verified.here.contains(&keys.newest().id) { Ok(()) } else { leave(pool, keys).await }
}

/// All canaries, with the ids of their keys.
async fn read(pool: &Pool) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    read!(pool, |conn| {
        sealing_keys::table.select((sealing_keys::id, sealing_keys::canary)).order(sealing_keys::id).load(conn).await
    })
}

fn opens(keys: &KeyRing, id: &str, canary: &[u8]) -> bool {
    keys.open(place(&[id]), canary).is_ok_and(|text| text.expose() == TEXT)
}

/// Makes sure that nothing is sealed with a key that is gone. This reads the whole table, once for each such key.
async fn unneeded(pool: &Pool, id: &str) -> Result<(), OpenError> {
    let header = header(id);
    let length = i32::try_from(header.len()).unwrap_or(i32::MAX);
    let values: i64 = read!(pool, |conn| {
        connectors::table
            .filter(
                substr(connectors::sealed_client_secret, 1, length)
                    .eq(header.clone())
                    .or(substr(connectors::sealed_attempt, 1, length).eq(header.clone()))
                    .or(substr(connectors::sealed_grant, 1, length).eq(header.clone())),
            )
            .count()
            .get_result(conn)
            .await
    })?;
    let clients: i64 = read!(pool, |conn| {
        registrations::table
            .filter(substr(registrations::sealed_client, 1, length).eq(header.clone()))
            .count()
            .get_result(conn)
            .await
    })?;
    let grants: i64 = read!(pool, |conn| {
        revocations::table
            .filter(substr(revocations::sealed_grant.nullable(), 1, length).eq(header))
            .count()
            .get_result(conn)
            .await
    })?;
    let values = values + clients + grants;
    if values > 0 { Err(OpenError::KeyMissing { id: id.to_owned(), values }) } else { Ok(()) }
}

/// Forgets a key that is gone.
async fn forget(pool: &Pool, id: &str) -> Result<(), OpenError> {
    write_one!(pool, |conn| diesel::delete(sealing_keys::table.find(id)).execute(conn).await)?;
    tracing::info!(key = id, "nothing is sealed with this encryption key any more");
    Ok(())
}

/// Leaves a canary for the newest key.
async fn leave(pool: &Pool, keys: &KeyRing) -> Result<(), OpenError> {
    let id = &keys.newest().id;
    let canary =
        keys.seal(place(&[id]), TEXT.as_bytes().to_vec()).map_err(|error| OpenError::Unusable(Box::new(error)))?;
    let stored: Vec<u8> = transaction!(pool, |conn| {
        diesel::insert_into(sealing_keys::table)
            .values((sealing_keys::id.eq(id), sealing_keys::canary.eq(&canary)))
            .on_conflict_do_nothing()
            .execute(conn)
            .await?;
        Ok(sealing_keys::table.find(id).select(sealing_keys::canary).first(conn).await?)
    })?;
    // Another replica may have been quicker, with another key of the same id.
    if opens(keys, id, &stored) { Ok(()) } else { Err(OpenError::WrongKey { id: id.clone() }) }
}

fn place<'a>(row: &'a [&'a str]) -> Place<'a> {
    Place { table: "sealing_keys", column: "canary", row }
}
