//! `cargo xtask layers`: holds the architecture's direction table against `cargo metadata`.
//!
//! What a crate can see is what its manifest names. What its dependencies depend on in turn is not looked at: a crate cannot
//! name that, and Cargo reports those edges with the features of the whole workspace, wanted there or not.

use std::collections::BTreeSet;

use anyhow::bail;
use cargo_metadata::{DependencyKind, Metadata};

use crate::support::workspace;

/// Which crates of ours a crate may depend on: `domain ← application ← {api, storage, oauth, mcp, identity} ← app`,
/// and `egress ← {oauth, mcp, identity}`. Adapters are not in each other's rows. Tests may see `testkit` besides.
const LAYERS: &[(&str, &[&str])] = &[
    ("connectors-domain", &[]),
    ("connectors-application", &["connectors-domain"]),
    ("connectors-egress", &[]),
    ("connectors-api", &["connectors-domain", "connectors-application"]),
    ("connectors-storage", &["connectors-domain", "connectors-application"]),
    ("connectors-mcp", &["connectors-domain", "connectors-application", "connectors-egress"]),
    ("connectors-oauth", &["connectors-domain", "connectors-application", "connectors-egress"]),
    ("connectors-identity", &["connectors-domain", "connectors-application", "connectors-egress"]),
    (
        "connectors-app",
        &[
            "connectors-domain",
            "connectors-application",
            "connectors-egress",
            "connectors-api",
            "connectors-storage",
            "connectors-mcp",
            "connectors-oauth",
            "connectors-identity",
        ],
    ),
    (TESTKIT, &["connectors-domain", "connectors-application"]),
    // It feeds the parsers of all of them, and is not shipped.
    (
        "connectors-fuzz",
        &[
            "connectors-domain",
            "connectors-application",
            "connectors-egress",
            "connectors-api",
            "connectors-storage",
            "connectors-mcp",
            "connectors-oauth",
            "connectors-identity",
            "connectors-app",
        ],
    ),
    // It starts the test kit's servers beside the service, and is not shipped itself.
    ("xtask", &[TESTKIT]),
];

/// For tests only: nothing that is shipped may depend on it.
const TESTKIT: &str = "connectors-testkit";

/// The domain is pure: these are all the crates it may name, and none of them waits, reads, writes or asks the time.
const DOMAIN: (&str, &[&str]) = ("connectors-domain", &["jiff", "secrecy", "subtle", "thiserror", "url", "uuid"]);

/// Crates from outside that are at home in some of ours only. A `*` at the end stands for any rest of the name.
const HOMES: &[Home] = &[
    Home {
        packages: &["reqwest*", "hyper*", "awc", "isahc", "surf", "rmcp*"],
        // `xtask` is a client of the service.
        crates: &["connectors-egress", "connectors-mcp", "connectors-oauth", "connectors-identity", "xtask"],
        reason: "every request to a host that somebody named leaves through the guarded client",
    },
    Home {
        packages: &["http", "http-body*", "headers"],
        crates: &["connectors-egress", "connectors-mcp", "connectors-oauth", "connectors-identity", "connectors-fuzz"],
        reason: "only adapters know of HTTP, and actix-web brings header types of its own",
    },
    Home {
        packages: &["actix*", "axum*", "tower*", "warp", "utoipa*", "askama*", "maud", "tracing-actix-web"],
        crates: &["connectors-api"],
        reason: "only `api` speaks to clients",
    },
    Home {
        packages: &[
            "diesel*",
            "sqlx*",
            "rusqlite",
            "libsqlite3-sys",
            "postgres*",
            "tokio-postgres*",
            "deadpool*",
            "bb8*",
        ],
        crates: &["connectors-storage"],
        reason: "only `storage` knows rows",
    },
    Home {
        packages: &["serde*"],
        crates: &[
            "connectors-api",
            "connectors-storage",
            "connectors-mcp",
            "connectors-oauth",
            "connectors-identity",
            "connectors-app",
            "connectors-fuzz",
            "xtask",
        ],
        reason: "forms on the wire, in rows and in files belong to adapters",
    },
    Home {
        packages: &["jsonwebtoken", "openidconnect", "oauth2", "chrono"],
        crates: &["connectors-identity"],
        reason: "only `identity` judges what issuers sign",
    },
    Home {
        packages: &["clap*", "config"],
        crates: &["connectors-app", "xtask"],
        reason: "settings are values further in",
    },
];

struct Home {
    packages: &'static [&'static str],
    crates: &'static [&'static str],
    reason: &'static str,
}

/// One line of a manifest.
struct Edge {
    from: String,
    to: String,
    /// For tests, examples and benchmarks only.
    dev: bool,
    /// `to` is a crate of ours.
    ours: bool,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let metadata = workspace::metadata()?;
    let members: Vec<_> = metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    let edges = edges(&metadata);
    let violations = violations(&members, &edges);
    if !violations.is_empty() {
        bail!("the layers are broken\n  {}\nThe table is in xtask/src/layers.rs.", violations.join("\n  "));
    }
    println!("{} crates and {} dependencies keep to the layers", members.len(), edges.len());
    Ok(())
}

fn edges(metadata: &Metadata) -> Vec<Edge> {
    let packages = metadata.workspace_packages();
    packages
        .iter()
        .flat_map(|package| {
            package.dependencies.iter().map(|dependency| Edge {
                from: package.name.to_string(),
                to: dependency.name.clone(),
                dev: dependency.kind == DependencyKind::Development,
                ours: packages.iter().any(|member| *member.name == dependency.name),
            })
        })
        .collect()
}

fn violations(members: &[String], edges: &[Edge]) -> Vec<String> {
    let unplaced = members
        .iter()
        .filter(|member| layer(member).is_none())
        .map(|member| format!("{member} has no place in the table of layers"));
    let named = LAYERS.iter().map(|(row, _)| *row).chain(HOMES.iter().flat_map(|home| home.crates).copied());
    let absent: BTreeSet<_> = named.filter(|name| !members.iter().any(|member| member == name)).collect();
    let absent =
        absent.into_iter().map(|name| format!("{name} is in the tables of layers, but there is no such crate"));
    let outward = edges.iter().filter_map(|edge| if edge.ours { own_violation(edge) } else { foreign_violation(edge) });
    unplaced.chain(absent).chain(outward).collect()
}

fn layer(name: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, sees)| *sees)
}

fn own_violation(Edge { from, to, dev, .. }: &Edge) -> Option<String> {
    // A crate that names itself wants its own features in its tests.
    if layer(from)?.contains(&to.as_str()) || *dev && (to == TESTKIT || to == from) {
        return None;
    }
    let rule =
        if to == TESTKIT { "the test kit is for `dev-dependencies`" } else { "that is not a direction of the table" };
    Some(format!("{from} depends on {to}: {rule}"))
}

fn foreign_violation(Edge { from, to, dev, .. }: &Edge) -> Option<String> {
    // A test may use what it likes, and so may what is for tests only.
    if *dev || from == TESTKIT {
        return None;
    }
    if from == DOMAIN.0 && !DOMAIN.1.contains(&to.as_str()) {
        return Some(format!("{from} depends on {to}: the domain is pure, it knows only {}", DOMAIN.1.join(", ")));
    }
    let home = HOMES.iter().find(|home| home.packages.iter().any(|pattern| matches(pattern, to)))?;
    (!home.crates.contains(&from.as_str())).then(|| format!("{from} depends on {to}: {}", home.reason))
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str) -> Edge {
        Edge { from: from.to_owned(), to: to.to_owned(), dev: false, ours: layer(to).is_some() }
    }

    fn in_tests(from: &str, to: &str) -> Edge {
        Edge { dev: true, ..edge(from, to) }
    }

    fn found(edge: Edge) -> Vec<String> {
        violations(&members(), &[edge])
    }

    /// The crates that the table names.
    fn members() -> Vec<String> {
        LAYERS.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    #[test]
    fn the_directions_of_the_design_are_allowed() {
        for (from, to) in [
            ("connectors-application", "connectors-domain"),
            ("connectors-storage", "connectors-application"),
            ("connectors-mcp", "connectors-egress"),
            ("connectors-identity", "connectors-egress"),
            ("connectors-app", "connectors-api"),
            (TESTKIT, "connectors-application"),
            ("xtask", TESTKIT),
        ] {
            assert_eq!(found(edge(from, to)), [""; 0], "{from} -> {to}");
        }
    }

    #[test]
    fn a_dependency_against_the_direction_is_found() {
        for (from, to) in [
            ("connectors-domain", "connectors-application"),
            ("connectors-application", "connectors-storage"),
            ("connectors-egress", "connectors-mcp"),
            ("connectors-api", "connectors-app"),
            ("xtask", "connectors-app"),
        ] {
            assert_eq!(
                found(edge(from, to)),
                [format!("{from} depends on {to}: that is not a direction of the table")]
            );
        }
    }

    #[test]
    fn adapters_do_not_see_each_other_even_in_tests() {
        let adapters = ["connectors-api", "connectors-storage", "connectors-mcp", "connectors-identity"];
        for from in adapters {
            for to in adapters.iter().filter(|to| **to != from) {
                assert_eq!(found(edge(from, to)).len(), 1, "{from} -> {to}");
                assert_eq!(found(in_tests(from, to)).len(), 1, "{from} -> {to} in tests");
            }
            assert_eq!(found(in_tests(from, from)), [""; 0], "{from} with its own features");
        }
    }

    #[test]
    fn the_test_kit_is_for_tests() {
        assert_eq!(found(in_tests("connectors-storage", TESTKIT)), [""; 0]);
        for from in ["connectors-storage", "connectors-app", "connectors-domain"] {
            assert_eq!(
                found(edge(from, TESTKIT)),
                [format!("{from} depends on {TESTKIT}: the test kit is for `dev-dependencies`")]
            );
        }
        assert_eq!(found(edge(TESTKIT, "connectors-storage")).len(), 1);
    }

    #[test]
    fn the_domain_knows_no_crate_beyond_its_list() {
        assert_eq!(found(edge("connectors-domain", "url")), [""; 0]);
        assert_eq!(found(in_tests("connectors-domain", "proptest")), [""; 0]);
        for to in ["tokio", "async-trait", "serde", "actix-web", "diesel", "reqwest", "http", "rand", "tracing"] {
            assert_eq!(found(edge("connectors-domain", to)).len(), 1, "{to}");
        }
    }

    #[test]
    fn the_use_cases_know_no_web_and_no_database() {
        assert_eq!(found(edge("connectors-application", "tokio")), [""; 0]);
        for to in [
            "actix-web",
            "actix-cors",
            "utoipa",
            "diesel",
            "diesel-async",
            "tokio-postgres",
            "reqwest",
            "hyper-util",
            "http",
            "serde_json",
        ] {
            assert_eq!(found(edge("connectors-application", to)).len(), 1, "{to}");
        }
    }

    #[test]
    fn each_technology_stays_in_its_adapter() {
        for (from, to) in [
            ("connectors-api", "diesel"),
            ("connectors-api", "reqwest"),
            ("connectors-api", "tokio-postgres"),
            ("connectors-storage", "actix-web"),
            ("connectors-storage", "reqwest"),
            ("connectors-mcp", "diesel-async"),
            ("connectors-app", "reqwest"),
            ("connectors-oauth", "jsonwebtoken"),
            ("connectors-egress", "serde"),
        ] {
            let found = found(edge(from, to));
            assert!(
                found.len() == 1 && found[0].starts_with(&format!("{from} depends on {to}: ")),
                "{from} -> {to}: {found:?}"
            );
        }
        assert_eq!(found(edge("connectors-mcp", "reqwest")), [""; 0]);
        assert_eq!(found(in_tests("connectors-api", "reqwest")), [""; 0]);
        assert_eq!(found(edge(TESTKIT, "reqwest")), [""; 0]);
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let members = [members(), vec!["connectors-misc".to_owned()]].concat();
        assert_eq!(violations(&members, &[]), ["connectors-misc has no place in the table of layers"]);
    }

    #[test]
    fn a_place_without_a_crate_is_found() {
        let mut members = members();
        members.retain(|name| name != "connectors-mcp");
        assert_eq!(
            violations(&members, &[]),
            ["connectors-mcp is in the tables of layers, but there is no such crate"]
        );
    }

    #[test]
    fn this_workspace_keeps_to_the_layers() {
        run().unwrap();
    }
}
