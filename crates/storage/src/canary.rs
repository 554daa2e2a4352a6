//! Canaries: a known text sealed under each key that the database was ever written with. They tell a wrong or missing
//! key when the database is opened, instead of one connector after the other when it is used.

use diesel::{BoolExpressionMethods, ExpressionMethods, QueryDsl};
use diesel_async::RunQueryDsl;

use crate::error::Fault;
use crate::pool::{Pool, read, transaction, write_one};
use crate::schema::{connectors, sealing_keys, substr};
use crate::seal::{Place, header};
use crate::{KeyRing, OpenError};

const TEXT: &str = "canary";

/// Holds `keys` against the canaries, and leaves one for the key that will seal.
pub(crate) async fn check(pool: &Pool, keys: &KeyRing) -> Result<(), OpenError> {
    let canaries = read(pool).await?;
    let (here, gone): (Vec<_>, Vec<_>) = canaries.into_iter().partition(|(id, _)| keys.find(id.as_bytes()).is_some());
    for (id, canary) in &here {
        if !opens(keys, id, canary) {
            return Err(OpenError::WrongKey { id: id.clone() });
        }
    }
    for (id, _) in gone {
        retire(pool, id).await?;
    }
    let newest = &keys.newest().id;
    if here.iter().any(|(id, _)| id == newest) { Ok(()) } else { leave(pool, keys).await }
}

/// Makes sure that nothing in the database was sealed yet, or is sealed still.
pub(crate) async fn check_without_keys(pool: &Pool) -> Result<(), OpenError> {
    for (id, _) in read(pool).await? {
        retire(pool, id).await?;
    }
    Ok(())
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

/// Forgets a key that is gone, if nothing is sealed with it any more. This reads the whole table, once for each such
/// key.
async fn retire(pool: &Pool, id: String) -> Result<(), OpenError> {
    let header = header(&id);
    let length = i32::try_from(header.len()).unwrap_or(i32::MAX);
    let values: i64 = read!(pool, |conn| {
        connectors::table
            .filter(
                substr(connectors::sealed_client_secret, 1, length)
                    .eq(header.clone())
                    .or(substr(connectors::sealed_attempt, 1, length).eq(header.clone()))
                    .or(substr(connectors::sealed_grant, 1, length).eq(header)),
            )
            .count()
            .get_result(conn)
            .await
    })?;
    if values > 0 {
        return Err(OpenError::KeyMissing { id, values });
    }
    write_one!(pool, |conn| diesel::delete(sealing_keys::table.find(&id)).execute(conn).await)?;
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
