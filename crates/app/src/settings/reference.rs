//! The reference page of the settings, written from the table.

use std::fmt::Write as _;

use super::table::{Fallback, Kind, SETTINGS, Setting};

const HEAD: &str = "\
# Settings

This page is generated: `connectors settings` (a hidden command) prints it.

Settings come from the defaults below, then from the file `connectors.toml` in the working directory, if there is one (or
from the file named by `--config`, which must exist), then from the environment; the later place wins, setting by setting.

In the file, a setting is a key of the table named after its section. In the environment, it is section and key in
capitals, joined by two underscores; a list is JSON there.

```toml
[server]
listen = \"127.0.0.1:8333\"
allowed_origins = [\"http://localhost:6274\"]
```

```sh
SERVER__LISTEN=127.0.0.1:8333
SERVER__ALLOWED_ORIGINS='[\"http://localhost:6274\"]'
```

Times are seconds, and may have a fraction. Sizes are bytes. Limits include both ends.

A key that is no setting, a variable that begins with a section's name and two underscores but is no setting, and a value
that a setting may not have end the start with status 2 and a line that names the setting and where it stands. No
other variable is a setting: `DATABASE_URL`, with one underscore, sets nothing.
";

/// The reference page, in Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for setting in SETTINGS {
        if setting.section != section {
            section = setting.section;
            // Writing into a String does not fail.
            let _ = write!(
                page,
                "\n## `{section}`\n\n| setting | variable | default | values | meaning |\n| --- | --- | --- | --- | --- |\n"
            );
        }
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {} | {} | {} |",
            setting.key,
            setting.variable(),
            default(setting),
            values(&setting.kind),
            setting.meaning
        );
    }
    page
}

fn default(setting: &Setting) -> String {
    match setting.default {
        Fallback::Value(text) => format!("`{text}`"),
        Fallback::Described(text) => text.to_owned(),
    }
}

fn values(kind: &Kind) -> String {
    match kind {
        Kind::Text(form) => (*form).to_owned(),
        Kind::Switch => "`true`, `false`".to_owned(),
        Kind::Count { min, max, unit } => format!("{min} to {max} {unit}"),
        Kind::Seconds { min, max } => format!("{min} to {max} seconds"),
        Kind::OneOf(words) => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
        Kind::List(entries) => format!("list of {entries}"),
    }
}
