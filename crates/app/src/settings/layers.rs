//! Collects the settings from their places, the later over the earlier: defaults, file, environment.
//!
//! Here names are checked, not values: a name that is no setting is refused wherever it stands.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, FileFormat, Map, Source, Value, ValueKind};

use super::error::{Origin, SettingsError};
use super::table::{Fallback, Kind, SETTINGS, Setting};
use super::values::Values;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The mark on values that come from the file; a value without a mark is a default.
pub(super) const FROM_FILE: &str = "file";

/// The mark on values that come from the environment.
const FROM_ENVIRONMENT: &str = "environment";

/// The file in which settings may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingsFile {
    /// This one; it must exist.
    Given(PathBuf),
    /// This one, if it exists.
    IfPresent(PathBuf),
}

/// Collects what is said anywhere.
pub(super) fn collect(
    file: &SettingsFile,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Values, SettingsError> {
    let (SettingsFile::Given(path) | SettingsFile::IfPresent(path)) = file;
    let mut config = Config::builder().add_source(defaults());
    if let Some(text) = read(file)? {
        config = config.add_source(file_layer(path, &text)?);
    }
    let config = config.add_source(environment_layer(environment)?);
    // None of the layers can fail any more; should one, its error could hold a value, and is not passed on.
    let merged = config
        .build()
        .and_then(|config| config.collect())
        .map_err(|_| SettingsError::Refused("the settings cannot be put together".to_owned()))?;
    Ok(Values::new(merged, path.clone()))
}

/// Values by the path of their setting, marked with where they come from.
#[derive(Clone, Default)]
struct Layer(Map<String, Value>);

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the values, for there are secrets among them.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn defaults() -> Layer {
    let mut layer = Layer::default();
    for setting in SETTINGS {
        if let Fallback::Value(text) = setting.default {
            layer.0.insert(setting.path(), Value::new(None, read_text(&setting.kind, text)));
        }
    }
    layer
}

fn read(file: &SettingsFile) -> Result<Option<String>, SettingsError> {
    let (SettingsFile::Given(path) | SettingsFile::IfPresent(path)) = file;
    let problem = |problem: &str| SettingsError::File { path: path.clone(), problem: problem.to_owned() };
    let opened = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match file {
                SettingsFile::Given(_) => Err(problem("there is no such file")),
                SettingsFile::IfPresent(_) => Ok(None),
            };
        }
        opened => opened.map_err(|error| problem(&format!("it cannot be read: {error}")))?,
    };
    let mut text = Vec::new();
    opened
        .take(MAX_FILE + 1)
        .read_to_end(&mut text)
        .map_err(|error| problem(&format!("it cannot be read: {error}")))?;
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_FILE) {
        return Err(problem("it is larger than 1 MiB"));
    }
    String::from_utf8(text).map(Some).map_err(|_| problem("it is not UTF-8"))
}

fn file_layer(path: &Path, text: &str) -> Result<Layer, SettingsError> {
    let parsed = config::File::from_str(text, FileFormat::Toml)
        .collect()
        .map_err(|error| SettingsError::File { path: path.to_owned(), problem: toml_problem(&error) })?;
    let unknown = |name: String| {
        // Of a key without a section, the section is what was forgotten.
        let form = if name.contains('.') { Setting::path } else { |setting: &Setting| setting.key.to_owned() };
        let nearest = nearest(&name, form).map(Setting::path).unwrap_or_default();
        SettingsError::UnknownKey { name, path: path.to_owned(), nearest }
    };
    let mut layer = Layer::default();
    for (section, value) in in_order(parsed) {
        let ValueKind::Table(table) = value.kind else {
            return Err(unknown(section));
        };
        if !SETTINGS.iter().any(|setting| setting.section == section) {
            // The name that is nearest to a whole setting helps more than one that is nearest to a section.
            let first = in_order(table).into_iter().next().map(|(key, _)| format!("{section}.{key}"));
            return Err(unknown(first.unwrap_or(section)));
        }
        for (key, value) in in_order(table) {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.section == section && setting.key == key) else {
                return Err(unknown(format!("{section}.{key}")));
            };
            layer.0.insert(setting.path(), Value::new(Some(&FROM_FILE.to_owned()), value.kind));
        }
    }
    Ok(layer)
}

/// The entries of a table by name, so that of several faults always the same one is told.
fn in_order(table: Map<String, Value>) -> Vec<(String, Value)> {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.cmp(other));
    entries
}

/// Where the file is no TOML. The parser's own text quotes the line, in which a secret may stand.
fn toml_problem(error: &ConfigError) -> String {
    let place = match error {
        ConfigError::FileParse { cause, .. } => cause.to_string(),
        _ => String::new(),
    };
    let place = place.lines().next().and_then(|line| line.strip_prefix("TOML parse error at "));
    match place {
        Some(place) => format!("it is not valid TOML at {place}"),
        None => "it is not valid TOML, or a number in it is out of range".to_owned(),
    }
}

fn environment_layer(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Layer, SettingsError> {
    let mut layer = Layer::default();
    let mut variables: Vec<_> =
        environment.into_iter().filter_map(|(name, value)| Some((ours(&name)?, value))).collect();
    variables.sort();
    for (name, value) in variables {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            let nearest = nearest(&name, Setting::variable).map(Setting::variable).unwrap_or_default();
            return Err(SettingsError::UnknownVariable { name, nearest });
        };
        let Some(text) = value.to_str() else {
            return Err(SettingsError::Invalid {
                setting: setting.path(),
                origin: Origin::Environment(name),
                expected: format!("{}, in UTF-8", setting.kind.expected()),
            });
        };
        layer.0.insert(setting.path(), Value::new(Some(&FROM_ENVIRONMENT.to_owned()), read_text(&setting.kind, text)));
    }
    Ok(layer)
}

/// The name of a variable that is meant for this service: one that begins with a section and two underscores. Spelled in
/// lower case it is meant too, and will be refused rather than ignored.
fn ours(name: &OsStr) -> Option<String> {
    let name = name.to_string_lossy();
    let (section, _) = name.split_once("__")?;
    SETTINGS.iter().any(|setting| setting.section.eq_ignore_ascii_case(section)).then(|| name.into_owned())
}

/// Reads a text of the environment as what the setting is. What cannot be read stays a text, and is refused by whoever
/// takes the value.
fn read_text(kind: &Kind, text: &str) -> ValueKind {
    let read = match kind {
        Kind::Text(_) | Kind::OneOf(_) => None,
        Kind::Switch => text.parse().map(ValueKind::Boolean).ok(),
        Kind::Count { .. } => text.parse().map(ValueKind::U64).ok(),
        Kind::Seconds { .. } => text.parse().map(ValueKind::Float).ok(),
        Kind::List(_) => serde_json::from_str::<Value>(text).map(|value| value.kind).ok(),
    };
    read.unwrap_or_else(|| ValueKind::String(text.to_owned()))
}

/// The setting whose name, in the given form, takes the fewest changes to become `name`.
fn nearest(name: &str, form: fn(&Setting) -> String) -> Option<&'static Setting> {
    let name = name.to_ascii_lowercase();
    SETTINGS.iter().min_by_key(|setting| distance(&form(setting).to_ascii_lowercase(), &name))
}

/// How many characters must be added, removed or replaced to turn one text into the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(100).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_changes() {
        for (one, other, expected) in [("", "", 0), ("a", "", 1), ("listen", "lisen", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_layer_does_not_print_its_values() {
        let environment = [("ENCRYPTION__KEYS".into(), r#"["hunter2"]"#.into())];
        let printed = format!("{:?}", environment_layer(environment).unwrap());
        assert!(printed.contains("encryption.keys") && !printed.contains("hunter2"), "{printed}");
    }
}
