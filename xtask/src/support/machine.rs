//! Whether this program may change the machine on which it runs, and how.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use xshell::{Shell, cmd};

/// A machine is changed only where it is there to be changed.
pub(crate) fn may_install() -> bool {
    std::env::var("CI").is_ok_and(|ci| ci == "true") && is_root() && Path::new("/usr/bin/apt-get").exists()
}

/// Installs a Debian package.
pub(crate) fn install(shell: &Shell, package: &str) -> anyhow::Result<()> {
    eprintln!("No {package} on this machine: installing it.");
    cmd!(shell, "apt-get update --quiet --quiet").run()?;
    cmd!(shell, "apt-get install --yes --quiet --quiet --no-install-recommends {package}")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .run()?;
    Ok(())
}

pub(crate) fn is_root() -> bool {
    // Standard Rust cannot ask who it is; a process's own entry belongs to its user.
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
