//! Published software that the service is tried against: installed as `interop/` pins it, and started.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use xshell::{Shell, cmd};

use super::machine::{install, may_install};
use super::process::Process;
use super::service::free_port;
use super::workspace;

/// The first start of a Python server compiles its packages.
const START_LIMIT: Duration = Duration::from_mins(1);
const NODE: u32 = 20;
const PYTHON: (u32, u32) = (3, 11);
/// Written at the end of an installation: what was installed, so that it is done again when that changes.
const STAMP: &str = ".installed-by-xtask";

/// An MCP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// `@modelcontextprotocol/server-everything`: the legacy era only.
    Everything,
    /// A server on `fastmcp`: both eras.
    Fastmcp,
    /// The same behind the OAuth provider of `fastmcp`, which asks nobody for consent.
    FastmcpOAuth,
    /// A server on the TypeScript SDK behind `oidc-provider`, which has pages for login and consent: the legacy era only.
    OidcProvider,
    /// A server of ours on the official Python SDK, with all that the conformance suite asks for: both eras.
    Reference,
}

impl Server {
    /// Whether nobody gets in without the consent of a user.
    pub(crate) fn demands_consent(self) -> bool {
        matches!(self, Self::FastmcpOAuth | Self::OidcProvider)
    }
}

/// With what a script of `interop/` is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interpreter {
    Bash,
    Node,
    /// The environment with `mcp` 2.x.
    Python,
    /// The environment of the Agent Stack SDK, with `mcp` 1.x.
    AgentStackPython,
}

/// The installed peers.
pub(crate) struct Peers {
    directory: PathBuf,
    /// With the pinned Node first.
    path: OsString,
}

impl Peers {
    /// Installs the npm packages.
    pub(crate) fn node() -> anyhow::Result<Self> {
        let directory = workspace::root().join("interop");
        let shell = workspace::shell()?;
        install_node_packages(&shell, &directory)?;
        let own = directory.join("node_modules/.bin");
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([own].into_iter().chain(env::split_paths(&inherited)))?;
        Ok(Self { directory, path })
    }

    /// Installs the npm packages and the Python packages.
    pub(crate) fn all() -> anyhow::Result<Self> {
        let peers = Self::node()?;
        let shell = workspace::shell()?;
        let python = find_python(&shell)?;
        install_python_packages(&shell, &python, &peers.directory, ".venv", "")?;
        install_python_packages(&shell, &python, &peers.directory, ".venv-agentstack", "-agentstack")?;
        Ok(peers)
    }

    /// A command that runs a script of `interop/`.
    pub(crate) fn script(&self, interpreter: Interpreter, script: &str) -> Command {
        let mut command = Command::new(self.program(interpreter));
        command
            .arg(self.directory.join(script))
            .env("PATH", &self.path)
            .env("PYTHONUNBUFFERED", "1")
            // Peers find each other on loopback, whatever proxy the machine is behind.
            .env("NO_PROXY", "127.0.0.1,localhost")
            .env("no_proxy", "127.0.0.1,localhost");
        command
    }

    fn program(&self, interpreter: Interpreter) -> PathBuf {
        match interpreter {
            Interpreter::Bash => PathBuf::from("bash"),
            Interpreter::Node => self.node_program(),
            Interpreter::Python => self.directory.join(".venv/bin/python"),
            Interpreter::AgentStackPython => self.directory.join(".venv-agentstack/bin/python"),
        }
    }

    /// A browser of the Chromium family, if there is one or it may be installed.
    pub(crate) fn browser() -> anyhow::Result<Option<PathBuf>> {
        if let Some(named) = env::var_os("CHROMIUM") {
            return Ok(Some(named.into()));
        }
        let find = || {
            let directories: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
            let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
            names
                .iter()
                .find_map(|name| directories.iter().map(|directory| directory.join(name)).find(|path| path.exists()))
        };
        if find().is_none() && may_install() {
            install(&workspace::shell()?, "chromium")?;
        }
        Ok(find())
    }

    /// The pinned Node where there is one, since a program is looked up in this process's own PATH.
    fn node_program(&self) -> PathBuf {
        let pinned = self.directory.join("node_modules/.bin/node");
        if pinned.exists() { pinned } else { PathBuf::from("node") }
    }

    /// Starts an MCP server on a free port of 127.0.0.1 and returns its endpoint.
    pub(crate) fn start(&self, server: Server, log: &Path) -> anyhow::Result<(Process, String)> {
        match server {
            Server::Everything => {
                let port = free_port()?;
                let mut command = Command::new(self.node_program());
                // It would listen on every interface, and one of its tools tells its whole environment.
                command
                    .current_dir(&self.directory)
                    .args(["--import", "./loopback.mjs", "node_modules/.bin/mcp-server-everything", "streamableHttp"])
                    .env_clear()
                    .env("PATH", &self.path)
                    .env("PORT", port.to_string());
                let mut process = Process::start("server-everything", &mut command, log)?;
                process.wait_for("listening on port", START_LIMIT)?;
                Ok((process, format!("http://127.0.0.1:{port}/mcp")))
            }
            Server::Fastmcp => self.start_script(Interpreter::Python, "fastmcp_server.py", log),
            Server::FastmcpOAuth => self.start_script(Interpreter::Python, "oauth/fastmcp_oauth_server.py", log),
            Server::OidcProvider => self.start_script(Interpreter::Node, "oauth/oidc_provider.mjs", log),
            Server::Reference => self.start_script(Interpreter::Python, "reference_server.py", log),
        }
    }

    /// Starts the identity provider of a service that will be at `service`, and returns its issuer.
    pub(crate) fn start_issuer(&self, service: &str, log: &Path) -> anyhow::Result<(Process, String)> {
        let mut command = self.script(Interpreter::Node, "oauth/platform_issuer.mjs");
        let mut process = Process::start("the identity provider", command.args(["--service", service]), log)?;
        let issuer = process.wait_for("listening on ", START_LIMIT)?;
        Ok((process, issuer))
    }

    /// The Python of the environment with `mcp` 2.x, for scripts that start another one.
    pub(crate) fn python(&self) -> PathBuf {
        self.program(Interpreter::Python)
    }

    /// A program that plays the user who is asked for consent: it takes the URL that the user would visit.
    pub(crate) fn consent(&self) -> PathBuf {
        self.directory.join("oauth/consent.mjs")
    }

    fn start_script(&self, interpreter: Interpreter, script: &str, log: &Path) -> anyhow::Result<(Process, String)> {
        let mut process = Process::start(script, &mut self.script(interpreter, script), log)?;
        let url = process.wait_for("listening on ", START_LIMIT)?;
        Ok((process, url))
    }
}

fn install_node_packages(shell: &Shell, directory: &Path) -> anyhow::Result<()> {
    let version = cmd!(shell, "node --version").quiet().ignore_stderr().read().unwrap_or_default();
    let found = numbers(&version).first().copied();
    match found {
        Some(major) if major >= NODE => {}
        Some(_) => bail!("this needs Node.js {NODE} or later, and `node` here is {version}"),
        None => bail!("this needs Node.js {NODE} or later with npm, and there is no `node` in the PATH"),
    }
    let installed = directory.join("node_modules").join(STAMP);
    let wanted = format!("{}{}", read(directory, "package.json")?, read(directory, "package-lock.json")?);
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    eprintln!("Installing the npm packages of interop/package-lock.json.");
    let _in = shell.push_dir(directory);
    cmd!(shell, "npm ci --no-progress --loglevel=error").run().context("the npm packages could not be installed")?;
    fs::write(installed, wanted)?;
    Ok(())
}

/// A Python that is new enough and can make virtual environments. The pins were made on the oldest of them.
fn find_python(shell: &Shell) -> anyhow::Result<String> {
    for program in ["python3.11", "python3.12", "python3.13", "python3.14", "python3", "python"] {
        let probe = "import sys, venv, ensurepip; print(*sys.version_info[:2], sep='.')";
        let version = cmd!(shell, "{program} -c {probe}").quiet().ignore_stderr().read().unwrap_or_default();
        if matches!(numbers(&version)[..], [major, minor, ..] if (major, minor) >= PYTHON) {
            return Ok(program.to_owned());
        }
    }
    let (major, minor) = PYTHON;
    bail!("this needs Python {major}.{minor} or later with its `venv` module, which Debian packages as `python3-venv`")
}

fn install_python_packages(shell: &Shell, python: &str, directory: &Path, venv: &str, set: &str) -> anyhow::Result<()> {
    let requirements = format!("requirements{set}.txt");
    let version = cmd!(shell, "{python} --version").quiet().read()?;
    let wanted =
        format!("{version}\n{}{}", read(directory, &requirements)?, read(directory, &format!("constraints{set}.txt"))?);
    let venv = directory.join(venv);
    let installed = venv.join(STAMP);
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
        return Ok(());
    }
    eprintln!("Installing the Python packages of interop/{requirements}.");
    let _in = shell.push_dir(directory);
    cmd!(shell, "{python} -m venv --clear {venv}").run().context("the Python environment could not be made")?;
    let own = venv.join("bin/python");
    cmd!(shell, "{own} -m pip install --quiet --disable-pip-version-check --no-input --requirement {requirements}")
        .run()
        .context("the Python packages could not be installed")?;
    fs::write(installed, wanted)?;
    Ok(())
}

fn read(directory: &Path, name: &str) -> anyhow::Result<String> {
    let path = directory.join(name);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The numbers of a version, whatever is around them.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_numbers() {
        assert_eq!(numbers("v20.20.2"), [20, 20, 2]);
        assert_eq!(numbers("3.11"), [3, 11]);
        assert!((3, 9) < PYTHON && (3, 12) > PYTHON);
        assert_eq!(numbers(""), [0; 0]);
    }
}
