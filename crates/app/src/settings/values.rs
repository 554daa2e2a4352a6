//! Takes the collected values out, each as what its setting is.
//!
//! Kinds and limits are checked here, by the table alone. What a text or the entries of a list must be beyond that, the
//! caller says. No error holds a value.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use config::{Map, Value, ValueKind};
use serde_json::Value as Json;

use super::error::{Origin, SettingsError};
use super::layers::FROM_FILE;
use super::table::{Kind, Setting};

/// The values that are not taken yet.
pub(super) struct Values {
    sections: Map<String, Value>,
    file: PathBuf,
}

/// A value with what an error about it would tell.
pub(super) struct Taken<T> {
    value: T,
    origin: Origin,
    setting: &'static Setting,
}

impl<T> Taken<T> {
    /// Reads the value as something narrower. The text of an error tells more, and holds nothing of the value.
    pub(super) fn parse<U, E: fmt::Display>(self, parse: impl FnOnce(&T) -> Result<U, E>) -> Result<U, SettingsError> {
        parse(&self.value).map_err(|error| invalid(self.setting, self.origin, &error.to_string()))
    }

    /// As [`Taken::parse`], where there is nothing more to tell.
    pub(super) fn read<U>(self, read: impl FnOnce(&T) -> Option<U>) -> Result<U, SettingsError> {
        self.parse(|value| read(value).ok_or(""))
    }
}

impl Taken<Vec<Json>> {
    /// Reads each entry of the list; `parse` says what is wrong with one, without its value.
    pub(super) fn parse_each<U>(
        self,
        mut parse: impl FnMut(&Json) -> Result<U, String>,
    ) -> Result<Vec<U>, SettingsError> {
        self.parse(|entries| -> Result<_, String> {
            let numbered = entries.iter().enumerate();
            numbered.map(|(n, entry)| parse(entry).map_err(|wrong| format!("entry {}: {wrong}", n + 1))).collect()
        })
    }
}

impl Values {
    pub(super) fn new(sections: Map<String, Value>, file: PathBuf) -> Self {
        Self { sections, file }
    }

    /// A text.
    pub(super) fn text(&mut self, setting: &'static Setting) -> Result<Option<Taken<String>>, SettingsError> {
        self.take(setting, |kind| match (kind, &setting.kind) {
            (ValueKind::String(text), Kind::Text(_)) => Some(text),
            (ValueKind::String(text), Kind::OneOf(words)) if words.contains(&text.as_str()) => Some(text),
            _ => None,
        })
    }

    /// A text that has a default.
    pub(super) fn required_text(&mut self, setting: &'static Setting) -> Result<Taken<String>, SettingsError> {
        self.text(setting)?.ok_or_else(|| invalid(setting, Origin::Default, ""))
    }

    /// Yes or no.
    pub(super) fn switch(&mut self, setting: &'static Setting) -> Result<bool, SettingsError> {
        let taken = self.take(setting, |kind| match kind {
            ValueKind::Boolean(yes) => Some(yes),
            _ => None,
        })?;
        required(taken, setting)
    }

    /// A whole number within its limits.
    pub(super) fn optional_count<T: TryFrom<u64>>(
        &mut self,
        setting: &'static Setting,
    ) -> Result<Option<T>, SettingsError> {
        let taken = self.take(setting, |kind| {
            let Kind::Count { min, max, .. } = setting.kind else { return None };
            let number = match kind {
                ValueKind::U64(number) => Some(number),
                ValueKind::I64(number) => u64::try_from(number).ok(),
                _ => None,
            };
            number.filter(|number| (min..=max).contains(number)).and_then(|number| T::try_from(number).ok())
        })?;
        Ok(taken.map(|taken| taken.value))
    }

    /// A whole number within its limits that has a default.
    pub(super) fn count<T: TryFrom<u64>>(&mut self, setting: &'static Setting) -> Result<T, SettingsError> {
        self.optional_count(setting)?.ok_or_else(|| invalid(setting, Origin::Default, ""))
    }

    /// A time within its limits.
    pub(super) fn seconds(&mut self, setting: &'static Setting) -> Result<Duration, SettingsError> {
        let taken = self.take(setting, |kind| {
            let Kind::Seconds { min, max } = setting.kind else { return None };
            let seconds = match kind {
                ValueKind::Float(seconds) => Some(seconds),
                // Every limit is far below what a float of 64 bits holds exactly.
                ValueKind::I64(seconds) => u32::try_from(seconds).ok().map(f64::from),
                _ => None,
            };
            let seconds = seconds.filter(|seconds| (min..=max).contains(seconds))?;
            Duration::try_from_secs_f64(seconds).ok()
        })?;
        required(taken, setting)
    }

    /// A list.
    pub(super) fn list(&mut self, setting: &'static Setting) -> Result<Option<Taken<Vec<Json>>>, SettingsError> {
        self.take(setting, |kind| match kind {
            ValueKind::Array(entries) => entries.into_iter().map(|entry| json(entry.kind)).collect(),
            _ => None,
        })
    }

    /// A list that has a default.
    pub(super) fn required_list(&mut self, setting: &'static Setting) -> Result<Taken<Vec<Json>>, SettingsError> {
        self.list(setting)?.ok_or_else(|| invalid(setting, Origin::Default, ""))
    }

    /// The settings that nobody has taken.
    #[cfg(test)]
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (section, value) in &self.sections {
            if let ValueKind::Table(table) = &value.kind {
                left.extend(table.keys().map(|key| format!("{section}.{key}")));
            }
        }
        left
    }

    fn take<T>(
        &mut self,
        setting: &'static Setting,
        read: impl FnOnce(ValueKind) -> Option<T>,
    ) -> Result<Option<Taken<T>>, SettingsError> {
        let Some(section) = self.sections.get_mut(setting.section) else { return Ok(None) };
        let ValueKind::Table(table) = &mut section.kind else { return Ok(None) };
        let Some(found) = table.remove(setting.key) else { return Ok(None) };
        let origin = match found.origin() {
            None => Origin::Default,
            Some(FROM_FILE) => Origin::File(self.file.clone()),
            Some(_) => Origin::Environment(setting.variable()),
        };
        match read(found.kind) {
            Some(value) => Ok(Some(Taken { value, origin, setting })),
            None => Err(invalid(setting, origin, "")),
        }
    }
}

fn required<T>(taken: Option<Taken<T>>, setting: &'static Setting) -> Result<T, SettingsError> {
    taken.map(|taken| taken.value).ok_or_else(|| invalid(setting, Origin::Default, ""))
}

fn invalid(setting: &Setting, origin: Origin, detail: &str) -> SettingsError {
    let json = matches!((&setting.kind, &origin), (Kind::List(_), Origin::Environment(_)));
    let mut expected = setting.kind.expected();
    if json {
        expected.push_str(", as JSON");
    }
    if !detail.is_empty() {
        expected.push_str("; ");
        expected.push_str(detail);
    }
    SettingsError::Invalid { setting: setting.path(), origin, expected }
}

/// The same value as JSON, nothing converted: what is a number in the file does not become a text.
fn json(kind: ValueKind) -> Option<Json> {
    Some(match kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(yes) => yes.into(),
        ValueKind::I64(number) => number.into(),
        ValueKind::U64(number) => number.into(),
        ValueKind::I128(_) | ValueKind::U128(_) => return None,
        ValueKind::Float(number) => number.into(),
        ValueKind::String(text) => text.into(),
        ValueKind::Array(entries) => {
            Json::Array(entries.into_iter().map(|entry| json(entry.kind)).collect::<Option<_>>()?)
        }
        ValueKind::Table(entries) => {
            let entries = entries.into_iter().map(|(key, entry)| Some((key, json(entry.kind)?)));
            Json::Object(entries.collect::<Option<_>>()?)
        }
    })
}
