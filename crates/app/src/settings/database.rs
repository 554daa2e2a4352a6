//! Sections `database` and `encryption`: where connectors are kept, and the keys that seal their secrets.

use connectors_domain::Secret;
use connectors_storage::{DatabaseUrl, KeyRing, Limits, Migrations};
use serde::Deserialize;

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// The database, its keys and its limits.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// Which database. It prints without its password.
    pub url: DatabaseUrl,
    /// The keys that seal secrets; `None` for the key file beside a SQLite database. They do not print.
    pub keys: Option<KeyRing>,
    /// What happens at the start to migrations that the database lacks.
    pub migrations: Migrations,
    /// Sizes and times.
    pub limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    key: String,
}

impl DatabaseSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        let migrate = values.switch(&table::DATABASE_MIGRATE)?;
        Ok(Self {
            url: values.required_text(&table::DATABASE_URL)?.parse(|text| text.parse::<DatabaseUrl>())?,
            keys: keys(values)?,
            migrations: if migrate { Migrations::Run } else { Migrations::Check },
            limits: Limits {
                connections: values.count(&table::DATABASE_POOL_SIZE)?,
                acquire_timeout: values.seconds(&table::DATABASE_ACQUIRE_TIMEOUT)?,
                connect_timeout: values.seconds(&table::DATABASE_CONNECT_TIMEOUT)?,
                busy_timeout: values.seconds(&table::DATABASE_BUSY_TIMEOUT)?,
                statement_timeout: values.seconds(&table::DATABASE_STATEMENT_TIMEOUT)?,
                migration_wait: values.seconds(&table::DATABASE_MIGRATION_WAIT)?,
            },
        })
    }
}

fn keys(values: &mut Values) -> Result<Option<KeyRing>, SettingsError> {
    let Some(list) = values.list(&table::ENCRYPTION_KEYS)? else { return Ok(None) };
    let ring = list.parse(|entries| {
        let entries = entries.iter().enumerate().map(|(n, entry)| {
            // What serde says of a wrong entry quotes it.
            let entry = Entry::deserialize(entry).map_err(|_| format!("entry {} is not of this form", n + 1))?;
            Ok((entry.id, Secret::new(entry.key)))
        });
        KeyRing::new(entries.collect::<Result<Vec<_>, String>>()?).map_err(|error| error.to_string())
    })?;
    Ok(Some(ring))
}
