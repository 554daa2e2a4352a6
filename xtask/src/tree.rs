//! Rules about the files of the repository that no compiler knows.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use xshell::cmd;

use crate::support::workspace;

/// What may not stand in a file, taken apart here so that this file itself keeps the rule.
const FORBIDDEN: &[Rule] = &[
    Rule {
        needles: &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")],
        rust_only: false,
        reason: "a path of one machine means nothing on another",
    },
    Rule {
        needles: &[
            concat!("registry.np", "mjs.org"),
            concat!("files.python", "hosted.org"),
            concat!("static.cra", "tes.io"),
            concat!("index.cra", "tes.io"),
        ],
        rust_only: false,
        reason: "lock files and scripts have to work behind any mirror of a registry",
    },
    Rule {
        needles: &[concat!("to", "do!("), concat!("unimple", "mented!(")],
        rust_only: true,
        reason: "what is missing is an issue, not a panic",
    },
    Rule {
        needles: &[concat!("#[ig", "nore"), concat!("#[cfg_attr(any(), ig", "nore")],
        rust_only: true,
        reason: "a test that does not run shows nothing",
    },
];

struct Rule {
    needles: &'static [&'static str],
    rust_only: bool,
    reason: &'static str,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let shell = workspace::shell()?;
    let listed = cmd!(shell, "git ls-files --cached --others --exclude-standard -z")
        .quiet()
        .read()
        .context("the files of the repository are those that git knows: this needs git, and a clone")?;
    let mut complaints = Vec::new();
    let mut count = 0;
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // Pictures are not text; a file that git still knows may be gone.
        let Ok(text) = fs::read_to_string(workspace::root().join(path)) else { continue };
        complaints.extend(complaints_about(path, &text));
        count += 1;
    }
    if !complaints.is_empty() {
        bail!("some files break a rule\n  {}\nThe rules are in xtask/src/tree.rs.", complaints.join("\n  "));
    }
    println!("{count} files keep to the rules");
    Ok(())
}

fn complaints_about(path: &str, text: &str) -> Vec<String> {
    let rust = Path::new(path).extension() == Some("rs".as_ref());
    let mut complaints = Vec::new();
    for rule in FORBIDDEN.iter().filter(|rule| rust || !rule.rust_only) {
        for (number, line) in text.lines().enumerate() {
            for needle in rule.needles.iter().filter(|needle| line.contains(**needle)) {
                complaints.push(format!("{path}:{}: `{needle}`: {}", number + 1, rule.reason));
            }
        }
    }
    if path.ends_with("/Cargo.toml") && !inherits_lints(text) {
        complaints
            .push(format!("{path}: without `[lints]` `workspace = true` the workspace's lints do not hold there"));
    }
    complaints
}

fn inherits_lints(manifest: &str) -> bool {
    let mut lines = manifest.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.any(|line| line == "[lints]") && lines.next() == Some("workspace = true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_keeps_to_the_rules() {
        run().unwrap();
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let text = format!("first\ncd {}connectors", FORBIDDEN[0].needles[0]);
        assert_eq!(complaints_about("docs/guide.md", &text).len(), 1);
        assert!(complaints_about("docs/guide.md", &text)[0].starts_with("docs/guide.md:2: "));
        assert_eq!(complaints_about("docs/guide.md", "the work/life of a connector"), [""; 0]);
    }

    #[test]
    fn every_forbidden_word_is_found_where_its_rule_applies() {
        for rule in FORBIDDEN {
            for needle in rule.needles {
                assert!(!complaints_about("crates/x/src/lib.rs", needle).is_empty(), "{needle}");
            }
        }
    }

    #[test]
    fn rules_of_rust_leave_prose_alone() {
        assert_eq!(complaints_about("CONTRIBUTING.md", FORBIDDEN[3].needles[0]), [""; 0]);
    }

    #[test]
    fn a_manifest_that_does_not_inherit_the_lints_is_found() {
        let good = "[package]\nname = \"x\"\n\n[lints]\n# all of them\nworkspace = true\n";
        assert_eq!(complaints_about("crates/x/Cargo.toml", good), [""; 0]);
        assert_eq!(complaints_about("crates/x/Cargo.toml", "[package]\nname = \"x\"\n").len(), 1);
        assert_eq!(complaints_about("crates/x/Cargo.toml", "[lints]\nrust.unsafe_code = \"allow\"\n").len(), 1);
        // The root is the workspace itself.
        assert_eq!(complaints_about("Cargo.toml", "[workspace]\n"), [""; 0]);
    }
}
