//! The product's binary, built.

use std::path::PathBuf;

use anyhow::Context as _;
use xshell::cmd;

use super::workspace;

/// Builds `connectors` and returns where it is.
pub(crate) fn build(release: bool) -> anyhow::Result<PathBuf> {
    let shell = workspace::shell()?;
    let (profile, directory) = if release { (Some("--release"), "release") } else { (None, "debug") };
    cmd!(shell, "cargo build --quiet --locked --package connectors-app --bin connectors {profile...}")
        .run()
        .context("the service does not build")?;
    Ok(workspace::target()?.join(directory).join("connectors"))
}
