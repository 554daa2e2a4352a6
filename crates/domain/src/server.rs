//! What is known of the server behind a connector.

use std::fmt;

use thiserror::Error;

/// A revision of the MCP specification, such as `2026-07-28`. Revisions sort by date.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProtocolVersion(String);

/// The text is not a date in the form of MCP's revisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an MCP protocol version has the form YYYY-MM-DD")]
pub struct ProtocolVersionError;

impl ProtocolVersion {
    /// Accepts `YYYY-MM-DD` in digits; whether the day exists does not matter.
    pub fn parse(text: &str) -> Result<Self, ProtocolVersionError> {
        let form = text.len() == 10
            && text
                .bytes()
                .enumerate()
                .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
        if form { Ok(Self(text.to_owned())) } else { Err(ProtocolVersionError) }
    }

    /// The version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this revision is of the modern era: each request carries its own version, and there is no handshake
    /// (MCP 2026-07-28, "Versioning").
    pub fn is_modern(&self) -> bool {
        self.0.as_str() >= "2026-07-28"
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a probe has learned of a server. At least one era is known of every server that a connector is connected to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerFacts {
    /// The modern revision that the server speaks, if it is of that era.
    pub modern: Option<ProtocolVersion>,
    /// The legacy revision that the server agreed to in a handshake, if it is of that era.
    pub legacy: Option<ProtocolVersion>,
    /// The name that the server gives itself, at most 200 characters, control characters removed. Display only.
    pub name: Option<String>,
}

impl ServerFacts {
    /// The most characters that are kept of a server's name.
    pub const MAX_NAME_CHARS: usize = 200;

    /// Bounds and cleans a name that a server gives itself; `None` if nothing is left.
    pub fn clean_name(text: &str) -> Option<String> {
        let name: String = text.chars().filter(|char| !char.is_control()).take(Self::MAX_NAME_CHARS).collect();
        let name = name.trim();
        (!name.is_empty()).then(|| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_dates_and_know_their_era() {
        let modern = |text: &str| ProtocolVersion::parse(text).map(|version| version.is_modern());
        assert_eq!(modern("2024-11-05"), Ok(false));
        assert_eq!(modern("2025-11-25"), Ok(false));
        assert_eq!(modern("2026-07-28"), Ok(true));
        assert_eq!(modern("2027-01-01"), Ok(true));
        for text in ["", "2026-7-28", "2026-07-28 ", "DRAFT-2026", "2026_07_28", "２026-07-28"] {
            assert_eq!(modern(text), Err(ProtocolVersionError), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_bounded_and_clean() {
        assert_eq!(ServerFacts::clean_name(" a\u{0}\nb "), Some("ab".into()));
        assert_eq!(ServerFacts::clean_name(" \u{7} "), None);
        assert_eq!(ServerFacts::clean_name(&"é".repeat(300)).unwrap().chars().count(), 200);
    }
}
