//! Settings: variables of the environment, each on its line, and after a line of three hyphens the file.
#![no_main]
#![expect(clippy::panic, reason = "it is how a target tells what it has found")]

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use connectors_app::settings::{Settings, SettingsError, SettingsFile};
use connectors_fuzz::{SECRET, assert_address};
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("connectors-fuzz-{}.toml", std::process::id())));

fuzz_target!(|text: &str| {
    let (variables, file) = text.split_once("\n---\n").unwrap_or((text, ""));
    let variables = variables.lines().filter(|line| !line.contains('\0')).filter_map(|line| line.split_once('='));
    let environment = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let source = if file.is_empty() {
        SettingsFile::IfPresent(PathBuf::from("/nonexistent/connectors.toml"))
    } else {
        if let Err(error) = fs::write(&*FILE, file) {
            panic!("{}: {error}", FILE.display());
        }
        SettingsFile::Given(FILE.clone())
    };
    match Settings::load(&source, environment) {
        Ok(settings) => check(&settings, text),
        Err(error) => check_error(&error),
    }
});

fn check(settings: &Settings, text: &str) {
    assert!(settings.listens_on_loopback(), "others may reach what lets everybody in");
    for preset in &settings.connector.presets {
        assert_address(preset.url.as_url());
        let secret = preset.client.as_ref().and_then(|client| client.secret());
        if secret.is_some_and(|secret| secret.expose().contains(SECRET)) && text.matches(SECRET).count() == 1 {
            assert!(!format!("{settings:?}").contains(SECRET), "a secret is printed");
        }
    }
    for rule in &settings.egress.allow {
        assert_eq!(rule.to_string().parse().as_ref(), Ok(rule));
    }
    let url = settings.database.url.to_string();
    assert!(!url.contains(SECRET) || text.matches(SECRET).count() > 1 || !url.contains("postgres"), "{url}");
}

/// An error says which setting is wrong and what is expected. It quotes names, and no value.
fn check_error(error: &SettingsError) {
    let told = error.to_string();
    match error {
        SettingsError::UnknownKey { .. } | SettingsError::UnknownVariable { .. } => {}
        // The id of an encryption key is its name.
        SettingsError::Invalid { .. } if told.contains("encryption key") => {}
        SettingsError::Invalid { .. } | SettingsError::File { .. } | SettingsError::Refused(_) => {
            assert!(!told.contains(SECRET), "{told}");
        }
    }
}
