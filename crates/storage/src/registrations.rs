//! The port of registrations: one row for each issuer and redirect URI, reserved while somebody registers.
//!
//! Every step is one statement that decides by itself whether it applies, so replicas need no other lock.

use async_trait::async_trait;
use connectors_application::ports::{Registration, RegistrationKey, Registrations, Reservation, StoreError};
use diesel::{BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl};
use diesel_async::RunQueryDsl;
use jiff::Timestamp;

use crate::Store;
use crate::document::{from_registration, to_registration};
use crate::pool::{read, write_one};
use crate::row::RowError;
use crate::schema::registrations;
use crate::seal::Place;

/// The row of `$key`. A macro, because the type of the query names the database.
macro_rules! of {
    ($key:expr) => {
        registrations::issuer
            .eq($key.issuer.as_str().to_owned())
            .and(registrations::redirect_uri.eq($key.redirect_uri.clone()))
    };
}

#[async_trait]
impl Registrations for Store {
    /// A registration that does not open counts as none, and is made anew.
    async fn reserve(&self, key: RegistrationKey, now: Timestamp, until: Timestamp) -> Result<Reservation, StoreError> {
        let (now, until) = (now.as_microsecond(), until.as_microsecond());
        if self.insert_reservation(&key, until).await? || self.take_over(&key, now, until).await? {
            return Ok(Reservation::Yours);
        }
        let Some(sealed) = self.sealed_client(&key).await? else { return Ok(Reservation::Busy) };
        if let Some(registration) = self.open_client(&key, &sealed) {
            return Ok(Reservation::Found(registration));
        }
        Ok(if self.replace_unreadable(&key, sealed, until).await? { Reservation::Yours } else { Reservation::Busy })
    }

    async fn keep(&self, key: RegistrationKey, registration: Registration) -> Result<Registration, StoreError> {
        let plain = from_registration(&registration).map_err(RowError::from)?;
        let sealed = self.keys.seal(place(&row(&key)), plain).map_err(RowError::from)?;
        let seal_key = self.keys.newest().id.clone();
        let client_id = registration.client.credentials.id().to_owned();
        let (pool, target) = (self.pool.clone(), key.clone());
        let kept = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::insert_into(registrations::table)
                    .values((
                        registrations::issuer.eq(target.issuer.as_str().to_owned()),
                        registrations::redirect_uri.eq(target.redirect_uri.clone()),
                    ))
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await
            })?;
            write_one!(&pool, |conn| {
                diesel::update(registrations::table)
                    .filter(of!(target).and(registrations::sealed_client.is_null()))
                    .set((
                        registrations::client_id.eq(Some(client_id)),
                        registrations::sealed_client.eq(Some(sealed)),
                        registrations::seal_key.eq(Some(seal_key)),
                        registrations::reserved_until.eq(None::<i64>),
                    ))
                    .execute(conn)
                    .await
            })
        });
        if kept.await? > 0 {
            return Ok(registration);
        }
        let sealed = self.sealed_client(&key).await?;
        Ok(sealed.and_then(|sealed| self.open_client(&key, &sealed)).unwrap_or(registration))
    }

    async fn release(&self, key: RegistrationKey) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let released = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::delete(registrations::table)
                    .filter(of!(key).and(registrations::sealed_client.is_null()))
                    .execute(conn)
                    .await
            })
        });
        released.await?;
        Ok(())
    }

    async fn forget(&self, key: RegistrationKey, client_id: String) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        let forgotten = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::delete(registrations::table)
                    .filter(of!(key).and(registrations::client_id.eq(client_id)))
                    .execute(conn)
                    .await
            })
        });
        forgotten.await?;
        Ok(())
    }
}

impl Store {
    async fn insert_reservation(&self, key: &RegistrationKey, until: i64) -> Result<bool, StoreError> {
        let (pool, key) = (self.pool.clone(), key.clone());
        let inserted = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::insert_into(registrations::table)
                    .values((
                        registrations::issuer.eq(key.issuer.as_str().to_owned()),
                        registrations::redirect_uri.eq(key.redirect_uri.clone()),
                        registrations::reserved_until.eq(Some(until)),
                    ))
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await
            })
        });
        Ok(inserted.await? > 0)
    }

    /// Takes over a reservation whose holder was not heard of again.
    async fn take_over(&self, key: &RegistrationKey, now: i64, until: i64) -> Result<bool, StoreError> {
        let (pool, key) = (self.pool.clone(), key.clone());
        let taken = self.unit(async move {
            write_one!(&pool, |conn| {
                let idle = registrations::reserved_until.is_null().or(registrations::reserved_until.le(now));
                diesel::update(registrations::table)
                    .filter(of!(key).and(registrations::sealed_client.is_null()).and(idle))
                    .set(registrations::reserved_until.eq(Some(until)))
                    .execute(conn)
                    .await
            })
        });
        Ok(taken.await? > 0)
    }

    async fn replace_unreadable(&self, key: &RegistrationKey, sealed: Vec<u8>, until: i64) -> Result<bool, StoreError> {
        let (pool, key) = (self.pool.clone(), key.clone());
        let replaced = self.unit(async move {
            write_one!(&pool, |conn| {
                diesel::update(registrations::table)
                    .filter(of!(key).and(registrations::sealed_client.eq(Some(sealed))))
                    .set((
                        registrations::client_id.eq(None::<String>),
                        registrations::sealed_client.eq(None::<Vec<u8>>),
                        registrations::seal_key.eq(None::<String>),
                        registrations::reserved_until.eq(Some(until)),
                    ))
                    .execute(conn)
                    .await
            })
        });
        Ok(replaced.await? > 0)
    }

    async fn sealed_client(&self, key: &RegistrationKey) -> Result<Option<Vec<u8>>, StoreError> {
        let (pool, key) = (self.pool.clone(), key.clone());
        let sealed = self.unit(async move {
            read!(&pool, |conn| {
                registrations::table
                    .filter(of!(key))
                    .select(registrations::sealed_client)
                    .first::<Option<Vec<u8>>>(conn)
                    .await
                    .optional()
            })
        });
        Ok(sealed.await?.flatten())
    }

    fn open_client(&self, key: &RegistrationKey, sealed: &[u8]) -> Option<Registration> {
        let opened = self.keys.open(place(&row(key)), sealed);
        let registration = opened
            .map_err(|error| error.to_string())
            .and_then(|text| to_registration(&text).map_err(|error| error.to_string()));
        registration
            .inspect_err(|error| tracing::error!(issuer = %key.issuer, error, "a stored registration cannot be opened"))
            .ok()
    }
}

fn row(key: &RegistrationKey) -> [&str; 2] {
    [key.issuer.as_str(), key.redirect_uri.as_str()]
}

pub(crate) const fn place<'a>(row: &'a [&'a str; 2]) -> Place<'a> {
    Place { table: "registrations", column: "sealed_client", row }
}
