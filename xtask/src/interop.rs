//! `cargo xtask interop`: published clients, servers and test suites, through a connector.
//!
//! Each case has an MCP server, a service and a folder of logs of its own, `target/interop/NAME/`. What the cases run is in
//! `interop/`, whose README.md says what each script does and which environment variables it reads.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::support::count::Count;
use crate::support::peers::{Interpreter, Peers, Server};
use crate::support::process::{Process, Scratch, remove_directory};
use crate::support::service::{Service, free_port};
use crate::support::{binary, workspace};

#[derive(Args, Default)]
pub(crate) struct Arguments {
    /// Only the cases with this in their name; may be given more than once
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Names the cases and runs none
    #[arg(long)]
    list: bool,
    /// Leaves the service out: clients speak to servers directly, which tells whose fault a failure is
    #[arg(long)]
    direct: bool,
    /// Runs an optimised build of the service
    #[arg(long, conflicts_with = "direct")]
    release: bool,
}

struct Case {
    name: &'static str,
    /// `None` where the peer brings servers of its own.
    server: Option<Server>,
    driver: Driver,
    limit: Duration,
}

enum Driver {
    /// A client of MCP at `MCP_URL`, with a variable that narrows it down to what the server can do.
    Mcp(Interpreter, &'static str, Option<(&'static str, &'static str)>),
    /// A client of the API, which makes connectors itself.
    Api(Interpreter, &'static str),
    /// A script that drives a browser, and leaves pictures beside its log.
    Browser(&'static str),
    /// A client of a service that knows its users by an identity provider.
    Platform(&'static str),
    /// The conformance suite on the server directly and through a connector, and the comparison of the two.
    Conformance,
    /// A set of the conformance suite's client scenarios, with the service as the client.
    Scenarios(&'static str),
}

/// Much more than the cases with OAuth need on a busy machine.
const OAUTH_LIMIT: Duration = Duration::from_mins(2);

const fn mcp(
    name: &'static str,
    server: Server,
    interpreter: Interpreter,
    script: &'static str,
    only: Option<(&'static str, &'static str)>,
) -> Case {
    Case { name, server: Some(server), driver: Driver::Mcp(interpreter, script, only), limit: Duration::from_mins(5) }
}

const fn scenarios(name: &'static str, set: &'static str) -> Case {
    Case { name, server: None, driver: Driver::Scenarios(set), limit: Duration::from_mins(6) }
}

// The client id that the suite expects where a server takes metadata documents. Some of its servers end when the last
// connection to them does.
const SCENARIO_SETTINGS: &[(&str, &str)] = &[
    ("OAUTH__CLIENT_METADATA_URL", "https://conformance-test.local/client-metadata.json"),
    ("EGRESS__IDLE_TIMEOUT", "1"),
];

/// Those of a service that knows its users by `issuer`, and may reach MCP servers on loopback.
fn platform_settings(issuer: &str) -> [(&'static str, String); 5] {
    [
        ("AUTH__MODE", "oidc".to_owned()),
        ("AUTH__ISSUERS", format!("[\"{issuer}\"]")),
        ("AUTH__CLIENT_ID", "console".to_owned()),
        ("AUTH__CLIENT_SECRET", "console-secret".to_owned()),
        ("EGRESS__ALLOW", "[\"127.0.0.1\"]".to_owned()),
    ]
}

// server-everything is of the legacy era.
const LEGACY: Option<(&str, &str)> = Some(("MCP_ERAS", "legacy,auto"));
const LEGACY_CLIENTS: Option<(&str, &str)> = Some(("MCP_CLIENTS", "v1,v2-legacy,v2-auto"));

const CASES: &[Case] = &[
    mcp("python-everything", Server::Everything, Interpreter::Python, "python_client.py", LEGACY),
    mcp("python-fastmcp", Server::Fastmcp, Interpreter::Python, "python_client.py", None),
    mcp("python-reference", Server::Reference, Interpreter::Python, "python_client.py", None),
    mcp("typescript-everything", Server::Everything, Interpreter::Node, "typescript_client.mjs", LEGACY_CLIENTS),
    mcp("typescript-fastmcp", Server::Fastmcp, Interpreter::Node, "typescript_client.mjs", None),
    mcp("typescript-reference", Server::Reference, Interpreter::Node, "typescript_client.mjs", None),
    mcp("inspector-everything", Server::Everything, Interpreter::Bash, "inspector.sh", LEGACY),
    mcp("inspector-fastmcp", Server::Fastmcp, Interpreter::Bash, "inspector.sh", None),
    mcp("inspector-reference", Server::Reference, Interpreter::Bash, "inspector.sh", None),
    Case {
        name: "agentstack-fastmcp",
        server: Some(Server::Fastmcp),
        driver: Driver::Api(Interpreter::AgentStackPython, "agentstack_client.py"),
        limit: Duration::from_mins(5),
    },
    Case {
        name: "agentstack-reference",
        server: Some(Server::Reference),
        driver: Driver::Api(Interpreter::AgentStackPython, "agentstack_client.py"),
        limit: Duration::from_mins(5),
    },
    Case {
        name: "agentstack-oauth-fastmcp",
        server: Some(Server::FastmcpOAuth),
        driver: Driver::Api(Interpreter::AgentStackPython, "agentstack_client.py"),
        limit: OAUTH_LIMIT,
    },
    Case {
        name: "agentstack-oauth-oidc",
        server: Some(Server::OidcProvider),
        driver: Driver::Api(Interpreter::AgentStackPython, "agentstack_client.py"),
        limit: OAUTH_LIMIT,
    },
    Case {
        name: "oauth-fastmcp",
        server: Some(Server::FastmcpOAuth),
        driver: Driver::Api(Interpreter::Node, "oauth/flow.mjs"),
        limit: OAUTH_LIMIT,
    },
    Case {
        name: "oauth-oidc",
        server: Some(Server::OidcProvider),
        driver: Driver::Api(Interpreter::Node, "oauth/flow.mjs"),
        limit: OAUTH_LIMIT,
    },
    Case {
        name: "oauth-oidc-browser",
        server: Some(Server::OidcProvider),
        driver: Driver::Browser("oauth/browser.mjs"),
        limit: OAUTH_LIMIT,
    },
    Case {
        name: "platform-oidc",
        server: Some(Server::OidcProvider),
        driver: Driver::Platform("oauth/platform.mjs"),
        limit: OAUTH_LIMIT,
    },
    Case {
        name: "console-everything",
        server: Some(Server::Everything),
        driver: Driver::Browser("console/console.mjs"),
        limit: Duration::from_mins(5),
    },
    Case {
        name: "console-reference",
        server: Some(Server::Reference),
        driver: Driver::Browser("console/console.mjs"),
        limit: Duration::from_mins(5),
    },
    Case {
        name: "schemathesis",
        server: Some(Server::Reference),
        driver: Driver::Api(Interpreter::Bash, "schemathesis.sh"),
        limit: Duration::from_mins(5),
    },
    Case {
        name: "conformance",
        server: Some(Server::Reference),
        driver: Driver::Conformance,
        limit: Duration::from_mins(15),
    },
    scenarios("scenarios-backcompat", "backcompat"),
    scenarios("scenarios-2025-11-25", "2025-11-25"),
    scenarios("scenarios-2026-07-28", "2026-07-28"),
];

/// What the cases came to.
pub(crate) struct Outcome {
    results: Vec<(&'static str, anyhow::Result<()>, Duration)>,
}

impl Outcome {
    /// A case counts as one test.
    pub(crate) fn count(&self) -> Count {
        let failed = self.failed().count() as u64;
        Count { passed: self.results.len() as u64 - failed, failed, skipped: 0 }
    }

    /// An error if a case failed.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        let failed: Vec<_> = self.failed().collect();
        if !failed.is_empty() {
            bail!("{} of {} interoperability cases failed: {}", failed.len(), self.results.len(), failed.join(", "));
        }
        Ok(())
    }

    fn failed(&self) -> impl Iterator<Item = &'static str> {
        self.results.iter().filter(|(_, result, _)| result.is_err()).map(|(name, ..)| *name)
    }

    fn print(&self) {
        println!();
        for (name, result, took) in &self.results {
            let outcome = if result.is_ok() { "ok" } else { "FAILED" };
            println!("{name:<26}{outcome:<8}{:>8.1} s", took.as_secs_f64());
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let named = |case: &&Case| arguments.only.is_empty() || arguments.only.iter().any(|part| case.name.contains(part));
    let without_service = |case: &Case| matches!(case.driver, Driver::Mcp(..) | Driver::Conformance);
    let possible = |case: &&Case| !arguments.direct || without_service(case);
    let cases: Vec<_> = CASES.iter().filter(named).filter(possible).collect();
    if arguments.list {
        for case in cases {
            println!("{}", case.name);
        }
        return Ok(Outcome { results: Vec::new() });
    }
    if cases.is_empty() {
        bail!("no case is called that: `cargo xtask interop --list` names them");
    }
    let peers = Peers::all()?;
    let connectors = if arguments.direct { None } else { Some(binary::build(arguments.release)?) };
    let logs = workspace::target()?.join("interop");

    let mut outcome = Outcome { results: Vec::new() };
    for case in cases {
        println!("{} …", case.name);
        let start = Instant::now();
        let result = case.run(&peers, connectors.as_deref(), &logs.join(case.name));
        if let Err(error) = &result {
            println!("{} FAILED: {error:#}", case.name);
        }
        outcome.results.push((case.name, result, start.elapsed()));
    }
    outcome.print();
    Ok(outcome)
}

impl Case {
    /// Runs the case in a world of its own; without a binary of the service, on the MCP server itself.
    fn run(&self, peers: &Peers, connectors: Option<&Path>, logs: &Path) -> anyhow::Result<()> {
        remove_directory(logs)?;
        let data = Scratch::new(logs.join("data"))?;
        let server = self.server.map(|server| peers.start(server, &logs.join("server.log"))).transpose()?;
        let server_url = server.as_ref().map_or_else(String::new, |(_, url)| url.clone());
        let log = logs.join("service.log");
        // The identity provider must know where the service will be, and the service who that is.
        let mut issuer = None;
        let service = match (connectors, &self.driver) {
            (None, _) => None,
            (Some(connectors), Driver::Platform(_)) => {
                let port = free_port()?;
                let (process, url) =
                    peers.start_issuer(&format!("http://127.0.0.1:{port}"), &logs.join("issuer.log"))?;
                issuer = Some(process);
                let settings = platform_settings(&url);
                let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
                Some(Service::start_with(connectors, data.path(), port, &log, &settings)?)
            }
            (Some(connectors), Driver::Scenarios(_)) => {
                Some(Service::start_with(connectors, data.path(), 0, &log, SCENARIO_SETTINGS)?)
            }
            (Some(connectors), _) => Some(Service::start(connectors, data.path(), 0, &log)?),
        };
        let endpoint = || match &service {
            Some(service) => service.connect(&server_url).map(|id| service.mcp_url(&id)),
            None => Ok(server_url.clone()),
        };
        match &self.driver {
            Driver::Mcp(interpreter, script, only) => {
                let mut command = peers.script(*interpreter, script);
                self.drive(command.env("MCP_URL", endpoint()?).envs(*only), &logs.join("driver.log"))
            }
            Driver::Api(interpreter, script) => {
                let url = &service.as_ref().context("a client of the API needs the service")?.url;
                let mut command = peers.script(*interpreter, script);
                command.env("PLATFORM_URL", url).env("BASE_URL", url).env("SERVER_URL", &server_url);
                if self.server.is_some_and(Server::demands_consent) {
                    command.env("CONSENT", peers.consent());
                }
                self.drive(&mut command, &logs.join("driver.log"))
            }
            Driver::Browser(script) => {
                let url = &service.as_ref().context("the console is a page of the service")?.url;
                let browser = Peers::browser()?
                    .context("there is no Chromium; install one, or name a browser in the variable CHROMIUM")?;
                let mut command = peers.script(Interpreter::Node, script);
                command.env("BASE_URL", url).env("SERVER_URL", &server_url).env("CHROMIUM", browser);
                self.drive(command.env("OUT_DIR", logs), &logs.join("driver.log"))
            }
            Driver::Platform(script) => {
                let url = &service.as_ref().context("there is nothing to log in to without the service")?.url;
                let mut command = peers.script(Interpreter::Node, script);
                command.env("BASE_URL", url).env("SERVER_URL", &server_url).env("CONSENT", peers.consent());
                self.drive(command.env("PYTHON", peers.python()), &logs.join("driver.log"))?;
                drop(issuer);
                Ok(())
            }
            Driver::Scenarios(set) => {
                let url = &service.as_ref().context("the service is the client in these scenarios")?.url;
                let mut command = peers.script(Interpreter::Node, "conformance_scenarios.mjs");
                self.drive(command.arg(set).env("BASE_URL", url), &logs.join("driver.log"))
            }
            Driver::Conformance => {
                let [direct, through] = ["direct.json", "through.json"].map(|name| logs.join(name));
                let suite = |subcommand| {
                    let mut command = peers.script(Interpreter::Node, "conformance.mjs");
                    command.arg(subcommand);
                    command
                };
                self.drive(suite("run").arg(&direct).env("MCP_URL", &server_url), &logs.join("direct.log"))?;
                self.drive(suite("run").arg(&through).env("MCP_URL", endpoint()?), &logs.join("through.log"))?;
                self.drive(suite("compare").arg(&direct).arg(&through), &logs.join("compare.log"))
            }
        }
    }

    /// Runs a driver to its end.
    fn drive(&self, command: &mut Command, log: &Path) -> anyhow::Result<()> {
        let mut process = Process::start(self.name, command, log)?;
        match process.wait(self.limit)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{status}\n{}", process.tail()),
            None => bail!("it has not ended within {} minutes\n{}", self.limit.as_secs() / 60, process.tail()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_case_has_a_name_of_its_own() {
        let names: HashSet<_> = CASES.iter().map(|case| case.name).collect();
        assert_eq!(names.len(), CASES.len());
    }

    #[test]
    fn every_script_of_a_case_exists() {
        for case in CASES {
            let (Driver::Mcp(_, script, _)
            | Driver::Api(_, script)
            | Driver::Browser(script)
            | Driver::Platform(script)) = case.driver
            else {
                continue;
            };
            assert!(workspace::root().join("interop").join(script).exists(), "{}: {script}", case.name);
        }
    }
}
