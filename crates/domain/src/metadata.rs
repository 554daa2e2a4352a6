//! What a client wishes to remember of a connector.

use std::collections::BTreeMap;

use thiserror::Error;

const MAX_KEYS: usize = 16;
const MAX_KEY_CHARS: usize = 64;
const MAX_VALUE_CHARS: usize = 512;

/// Free text by key, for clients: at most 16 keys of 1 to 64 characters, values of at most 512 characters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(BTreeMap<String, String>);

/// Why a map is no [`Metadata`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// More than 16 keys.
    #[error("it has more than 16 keys")]
    Keys,
    /// A key that is empty or longer than 64 characters.
    #[error("one of its keys is empty or longer than 64 characters")]
    Key,
    /// A value longer than 512 characters.
    #[error("one of its values is longer than 512 characters")]
    Value,
}

impl Metadata {
    /// Checks the limits.
    pub fn new(entries: BTreeMap<String, String>) -> Result<Self, MetadataError> {
        if entries.len() > MAX_KEYS {
            return Err(MetadataError::Keys);
        }
        for (key, value) in &entries {
            if !(1..=MAX_KEY_CHARS).contains(&key.chars().count()) {
                return Err(MetadataError::Key);
            }
            if value.chars().count() > MAX_VALUE_CHARS {
                return Err(MetadataError::Value);
            }
        }
        Ok(Self(entries))
    }

    /// The entries, by key.
    pub const fn entries(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(keys: usize, key: usize, value: usize) -> Result<Metadata, MetadataError> {
        Metadata::new((0..keys).map(|n| (format!("{n:0>key$}"), "é".repeat(value))).collect())
    }

    #[test]
    fn every_limit_holds_at_its_edge() {
        assert!(metadata(0, 0, 0).is_ok());
        assert!(metadata(16, 64, 512).is_ok());
        assert_eq!(metadata(17, 64, 0), Err(MetadataError::Keys));
        assert_eq!(metadata(1, 65, 0), Err(MetadataError::Key));
        assert_eq!(metadata(1, 1, 513), Err(MetadataError::Value));
        assert_eq!(Metadata::new(BTreeMap::from([(String::new(), String::new())])), Err(MetadataError::Key));
    }
}
