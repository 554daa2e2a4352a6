//! Doors to this crate's parsers, for the fuzz targets. Only a build for fuzzing has them.

use connectors_application::ports::Registration;
use connectors_domain::{AuthorizationAttempt, Connector, Grant, Metadata, Secret, ServerFacts};

use crate::KeyRing;
use crate::document::{
    from_attempt, from_grant, from_metadata, from_registration, from_server, to_attempt, to_grant, to_metadata,
    to_registration, to_server,
};
use crate::row::Row;
use crate::seal::Place;
use crate::told::Told;

/// Seals a text for the row `row` of a table.
pub fn seal(keys: &KeyRing, row: &[&str], plain: &str) -> Option<Vec<u8>> {
    keys.seal(place(row), plain.into()).ok()
}

/// Opens what was sealed for the row `row` of the same table.
pub fn open(keys: &KeyRing, row: &[&str], sealed: &[u8]) -> Option<Secret> {
    keys.open(place(row), sealed).ok()
}

const fn place<'a>(row: &'a [&'a str]) -> Place<'a> {
    Place { table: "table", column: "column", row }
}

/// A stored document, and the same written anew.
pub type Document<T> = Option<(T, String)>;

/// A grant.
pub fn grant(text: &str) -> Document<Grant> {
    let grant = to_grant(&Secret::new(text)).ok()?;
    let again = from_grant(&grant).ok()?;
    Some((grant, String::from_utf8(again).ok()?))
}

/// An attempt.
pub fn attempt(text: &str) -> Document<AuthorizationAttempt> {
    let attempt = to_attempt(&Secret::new(text)).ok()?;
    let again = from_attempt(&attempt).ok()?;
    Some((attempt, String::from_utf8(again).ok()?))
}

/// A registration.
pub fn registration(text: &str) -> Document<Registration> {
    let registration = to_registration(&Secret::new(text)).ok()?;
    let again = from_registration(&registration).ok()?;
    Some((registration, String::from_utf8(again).ok()?))
}

/// What is known of a server.
pub fn server(text: &str) -> Document<ServerFacts> {
    let server = to_server(text).ok()?;
    let again = from_server(&server).ok()?;
    Some((server, again))
}

/// What a client remembers.
pub fn metadata(text: &str) -> Document<Metadata> {
    let metadata = to_metadata(text).ok()?;
    let again = from_metadata(&metadata).ok()?;
    Some((metadata, again))
}

/// The connector that is read after it was stored and its row was written into: columns and values. `None` where the row
/// makes no sense any more.
pub fn stored<'a>(
    connector: &Connector,
    damage: impl IntoIterator<Item = (&'a str, &'a str)>,
    keys: &KeyRing,
) -> Option<Connector> {
    let mut row = Row::new(connector, keys).ok()?;
    for (column, value) in damage {
        row.overwrite(column, value, keys);
    }
    row.into_connector(keys, &Told::default()).ok()
}
