//! Why the settings cannot be used.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The named file.
    File(PathBuf),
    /// The named environment variable.
    Environment(String),
}

/// The settings cannot be used. The text is for the operator; it never holds a value that could be a secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// The file cannot be read as settings.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A key of the file is no setting.
    #[error("{name} (file {}): there is no such setting; the nearest is {nearest}", path.display())]
    UnknownKey {
        /// The key, as `section.key`.
        name: String,
        /// The file.
        path: PathBuf,
        /// A setting that there is.
        nearest: String,
    },
    /// A variable of the environment begins like a setting and is none.
    #[error("{name} (environment variable): there is no such setting; the nearest is {nearest}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The variable of a setting that there is.
        nearest: String,
    },
    /// A value is not one that the setting may have.
    #[error("{setting} ({origin}): expected {expected}")]
    Invalid {
        /// The setting, as `section.key`.
        setting: String,
        /// Where the value comes from.
        origin: Origin,
        /// What is expected, and where the value differs.
        expected: String,
    },
    /// Each value is good, but together they are not safe, or incomplete.
    #[error("{0}")]
    Refused(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}
