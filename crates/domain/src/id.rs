//! Typed identifiers: a connector's id is never mistaken for a user's.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

/// The namespace under which the ids of users are derived from issuer and subject; a fixed random value.
const OWNER_NAMESPACE: Uuid = Uuid::from_u128(0x5b1f_8f2e_6f0a_4c3b_9d51_7a2e_c04d_11e6);

/// Identifies a connector. Ids that the service gives sort by the time at which they were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectorId(Uuid);

impl ConnectorId {
    /// A new id, a UUID of version 7 (RFC 9562, section 5.7): the milliseconds of `now`, then `random`.
    ///
    /// Times before 1970 count as 1970.
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The id that `uuid` is.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as a UUID.
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ConnectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Identifies the user to whom a connector belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(Uuid);

impl OwnerId {
    /// The stable id of the user whom `issuer` knows as `subject`: a UUID of version 5 (RFC 9562, section 5.5) over both,
    /// with the issuer's length before it so that no two pairs run together.
    pub fn derive(issuer: &str, subject: &str) -> Self {
        let name = format!("{}:{issuer}{subject}", issuer.len());
        Self(Uuid::new_v5(&OWNER_NAMESPACE, name.as_bytes()))
    }

    /// The one local user of a service that runs without authentication.
    pub fn local() -> Self {
        Self::derive("urn:connectors:local", "local")
    }

    /// The id that `uuid` is.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as a UUID.
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the stored changes of a connector. A change is stored only over the revision from which it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// The revision of a connector that has just been made.
    pub const FIRST: Self = Self(1);

    /// The revision numbered `number`.
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The revision that follows this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number of this revision.
    pub const fn number(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connector_ids_sort_by_the_time_they_were_made() {
        let early = ConnectorId::new(Timestamp::from_millisecond(1_000).unwrap(), [0xff; 10]);
        let late = ConnectorId::new(Timestamp::from_millisecond(1_001).unwrap(), [0; 10]);
        assert!(early < late);
        assert!(early.to_string() < late.to_string());
        assert_eq!(early.as_uuid().get_version_num(), 7);
    }

    #[test]
    fn owners_are_stable_and_distinct() {
        assert_eq!(OwnerId::derive("https://a", "b"), OwnerId::derive("https://a", "b"));
        assert_ne!(OwnerId::derive("https://a", "b"), OwnerId::derive("https://", "ab"));
        assert_eq!(OwnerId::local().to_string(), "450795bb-5dbd-550e-97ff-a41db5934e50");
    }
}
