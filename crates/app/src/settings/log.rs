//! Section `log`: what is logged, and how.

use std::path::PathBuf;

use tracing_subscriber::filter::{LevelFilter, Targets};

use super::error::SettingsError;
use super::table;
use super::values::Values;

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct LogSettings {
    /// What is logged.
    pub filter: Targets,
    /// How.
    pub format: LogFormat,
    /// Where the audit log goes; `None` for the log itself.
    pub audit_file: Option<PathBuf>,
}

/// How is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, else for programs.
    Auto,
    /// For people.
    Pretty,
    /// For programs: a JSON object a line.
    Json,
}

impl LogSettings {
    pub(super) fn take(values: &mut Values) -> Result<Self, SettingsError> {
        Ok(Self {
            filter: values.required_text(&table::LOG_FILTER)?.read(|text| filter(text))?,
            format: values.required_text(&table::LOG_FORMAT)?.read(|text| match text.as_str() {
                "auto" => Some(LogFormat::Auto),
                "pretty" => Some(LogFormat::Pretty),
                "json" => Some(LogFormat::Json),
                _ => None,
            })?,
            audit_file: match values.text(&table::LOG_AUDIT_FILE)? {
                Some(path) => Some(path.read(|path| (!path.is_empty()).then(|| path.into()))?),
                None => None,
            },
        })
    }
}

/// Levels, and levels of modules, separated by commas. Every part must name a level: a misspelled one would otherwise
/// pass for a module, and silence everything else.
fn filter(text: &str) -> Option<Targets> {
    text.split(',').try_fold(Targets::new(), |filter, part| {
        let level = |word: &str| match word.trim().to_ascii_lowercase().as_str() {
            "off" => Some(LevelFilter::OFF),
            "error" => Some(LevelFilter::ERROR),
            "warn" => Some(LevelFilter::WARN),
            "info" => Some(LevelFilter::INFO),
            "debug" => Some(LevelFilter::DEBUG),
            "trace" => Some(LevelFilter::TRACE),
            _ => None,
        };
        match part.split_once('=') {
            Some((module, word)) if !module.trim().is_empty() => {
                Some(filter.with_target(module.trim().to_owned(), level(word)?))
            }
            Some(_) => None,
            None => Some(filter.with_default(level(part)?)),
        }
    })
}
