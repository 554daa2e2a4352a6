//! `cargo xtask docs`: the pages of `docs/reference/`, which the binary writes about itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::support::{binary, workspace};

/// Each page, and the subcommand of `connectors` that prints it.
const PAGES: &[(&str, &str)] =
    &[("openapi.json", "openapi"), ("settings.md", "settings"), ("disconnect-codes.md", "codes")];

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// Changes nothing, and fails if a page is not what the code says
    #[arg(long)]
    pub(crate) check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let connectors = binary::build(false)?;
    let directory = workspace::root().join("docs/reference");
    let mut drifted = false;
    for (name, subcommand) in PAGES {
        let wanted = print(&connectors, subcommand)?;
        let path = directory.join(name);
        let found = fs::read_to_string(&path).unwrap_or_default();
        if found == wanted {
            println!("docs/reference/{name} is up to date");
        } else if arguments.check {
            drifted = true;
            println!(
                "docs/reference/{name} is not what `connectors {subcommand}` prints:\n{}",
                difference(&found, &wanted)
            );
        } else {
            fs::create_dir_all(&directory)?;
            fs::write(&path, wanted).with_context(|| format!("cannot write {}", path.display()))?;
            println!("docs/reference/{name} is written");
        }
    }
    if drifted {
        bail!("the generated pages have drifted from the code: run `cargo xtask docs` and commit what changes");
    }
    Ok(())
}

fn print(connectors: &Path, subcommand: &str) -> anyhow::Result<String> {
    let output = Command::new(connectors)
        .arg(subcommand)
        // Not where a developer's own connectors.toml lies.
        .current_dir(workspace::target()?)
        .output()
        .with_context(|| format!("cannot run {}", connectors.display()))?;
    if !output.status.success() {
        bail!("`connectors {subcommand}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8(output.stdout).context("a page is text")?;
    Ok(format!("{}\n", text.trim_end()))
}

/// The lines between the first and the last one that differ, `-` as committed and `+` as generated.
fn difference(found: &str, wanted: &str) -> String {
    const SHOWN: usize = 40;
    let (old, new): (Vec<_>, Vec<_>) = (found.lines().collect(), wanted.lines().collect());
    let same_start = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let rest = old[same_start..].iter().rev().zip(new[same_start..].iter().rev());
    let same_end = rest.take_while(|(a, b)| a == b).count();

    let mut out = vec![format!("@@ line {} @@", same_start + 1)];
    for (sign, lines) in [('-', &old), ('+', &new)] {
        let changed = &lines[same_start..lines.len() - same_end];
        out.extend(changed.iter().take(SHOWN).map(|line| format!("{sign} {line}")));
        if changed.len() > SHOWN {
            out.push(format!("{sign} … {} more lines", changed.len() - SHOWN));
        }
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_shown() {
        assert_eq!(difference("a\nb\nc\nd\n", "a\nx\ny\nc\nd\n"), "@@ line 2 @@\n- b\n+ x\n+ y");
    }

    #[test]
    fn lines_at_the_end_and_missing_pages_are_shown() {
        assert_eq!(difference("a\n", "a\nb\n"), "@@ line 2 @@\n+ b");
        assert_eq!(difference("", "a\n"), "@@ line 1 @@\n+ a");
        assert_eq!(difference("a\na\n", "a\n"), "@@ line 2 @@\n- a");
    }
}
