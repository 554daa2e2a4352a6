//! The command line.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use connectors_storage::{Checked, OpenError};
use url::Host;

use crate::application::{Application, StartError};
use crate::healthcheck::{Unhealthy, healthcheck};
use crate::settings::{AuthMode, Settings, SettingsError, SettingsFile};
use crate::signals::Signals;
use crate::telemetry::AuditFileError;
use crate::tokens::{TokenCommand, TokenError};
use crate::{codes, settings, telemetry, tokens, wiring};

/// The file that is read from the working directory if there is one.
const FILE: &str = "connectors.toml";

/// What the exit status says.
const STATUS: &str = "\
Exit status:
  0  done, or stopped as told
  1  failed
  2  the command line or the settings are wrong";

/// Connects remote MCP servers once, and serves each at a URL of its own.
///
/// Settings come from defaults, then connectors.toml in the working directory, then the environment.
#[derive(Debug, Parser)]
#[command(name = "connectors", version, after_help = STATUS)]
struct Arguments {
    /// Read the settings from this file, which must exist, in place of connectors.toml
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT (what happens without a command)
    Serve,
    /// Bring the database up to date
    Migrate,
    /// Print the OpenAPI document of the HTTP API
    Openapi,
    /// Check settings, database, migrations and keys, without serving
    Check,
    /// Count what is sealed under which key: a key that nothing needs may be taken off the list
    Keys,
    /// Make, list and take back the tokens with which callers are known where auth.mode is tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Ask the running service whether it is alive
    Healthcheck,
    /// Print the reference page of the settings
    #[command(hide = true)]
    Settings,
    /// Print the reference page of the disconnect codes
    #[command(hide = true)]
    Codes,
}

/// A command failed. Its text is for the person who gave it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Database(#[from] OpenError),
    #[error(transparent)]
    Unhealthy(#[from] Unhealthy),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    AuditFile(#[from] AuditFileError),
    #[error("stopped by a second {0}")]
    CutShort(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Does what the command line says, and tells the exit status.
pub async fn run() -> ExitCode {
    // Prints and ends with status 2 by itself where the arguments are wrong.
    let arguments = Arguments::parse();
    match execute(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to be told if standard error is gone.
            let _ = writeln!(io::stderr(), "connectors: {}", with_causes(&failure));
            match failure {
                Failure::Settings(_)
                | Failure::AuditFile(_)
                | Failure::Start(StartError::Settings(_) | StartError::CaFile { .. } | StartError::Identity(_)) => {
                    ExitCode::from(2)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

async fn execute(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve(load(arguments.config)?).await,
        Command::Migrate => migrate(load(arguments.config)?).await,
        Command::Openapi => print(&connectors_api::openapi_json().map_err(io::Error::other)?),
        Command::Check => check(load(arguments.config)?).await,
        Command::Keys => keys(load(arguments.config)?).await,
        Command::Token(command) => token(load(arguments.config)?, command).await,
        Command::Healthcheck => Ok(healthcheck(load(arguments.config)?.server.listen).await?),
        Command::Settings => print(&settings::reference()),
        Command::Codes => print(&codes::reference()),
    }
}

fn load(file: Option<PathBuf>) -> Result<Settings, SettingsError> {
    let file = file.map_or_else(|| SettingsFile::IfPresent(FILE.into()), SettingsFile::Given);
    Settings::load(&file, std::env::vars_os())
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings.log)?;
    let mut signals = Signals::listen()?;
    let application = tokio::select! {
        built = Application::build(&settings) => built?,
        _ = signals.next() => return Ok(()),
    };
    // The one line on standard output: programs that started the service read the address from it.
    print(&format!("listening on {}\n", application.url()))?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        database = %settings.database.url,
        console = %application.public_url(),
        "serving"
    );

    warn_of_exposure(&settings, &application);

    let (stop, stopped) = tokio::sync::oneshot::channel();
    let cut_short = async {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        // If nobody waits for it any more, the service has stopped by itself.
        let _ = stop.send(());
        signals.next().await
    };
    tokio::select! {
        ended = application.run_until(async { drop(stopped.await) }) => ended?,
        signal = cut_short => return Err(Failure::CutShort(signal)),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Says aloud what an operator may do but should know to have done.
fn warn_of_exposure(settings: &Settings, application: &Application) {
    let here = match application.public_url().host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => true,
    };
    if !settings.auth.is_closed() && !here {
        tracing::warn!(
            public_url = %application.public_url(),
            "authentication is off: whoever gets through the proxy before this service uses every connector in it"
        );
    }
    if settings.egress.allow_link_local {
        tracing::warn!(
            "egress.allow_link_local is on: connectors may reach the metadata services that egress.allow lists"
        );
    }
}

async fn migrate(settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings.log)?;
    let done = wiring::migrate(&settings).await?;
    if done.is_empty() {
        print("the database is up to date\n")?;
    }
    done.iter().try_for_each(|name| print(&format!("migrated {name}\n")))
}

async fn keys(settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings.log)?;
    let keys = wiring::keys_in_use(&settings).await?;
    if keys.is_empty() {
        print("nothing is sealed\n")?;
    }
    keys.iter().try_for_each(|key| {
        let id = key.id.as_deref().unwrap_or("(unknown until it is sealed anew)");
        print(&format!("{id}\t{} rows\n", key.rows))
    })
}

async fn token(settings: Settings, command: TokenCommand) -> Result<(), Failure> {
    telemetry::start(&settings.log)?;
    let printed = tokens::run(&settings, command).await?;
    print(&printed.output)?;
    io::stderr().write_all(printed.note.as_bytes())?;
    if !printed.note.is_empty() && settings.auth.mode != AuthMode::Tokens {
        let mode = settings.auth.mode.as_str();
        writeln!(io::stderr(), "auth.mode is {mode}: tokens are asked for only while it is tokens")?;
    }
    Ok(())
}

async fn check(settings: Settings) -> Result<(), Failure> {
    telemetry::start(&settings.log)?;
    print("ok: settings\n")?;
    wiring::check_egress(&settings)?;
    print("ok: way out\n")?;
    print(match wiring::check_database(&settings).await? {
        Checked::Ready => "ok: database, migrations and keys\n",
        Checked::NoKeyFile => "ok: database and migrations (there is no key file yet; the first start makes it)\n",
        Checked::NoDatabase => "ok: database (there is none yet; the first start makes it)\n",
    })
}

fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}

/// An error and what caused it. Causes come from libraries, which may need several lines where one is promised.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string().replace(char::is_control, " "));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let arguments = Arguments::parse_from(["connectors", "--config", "x.toml"]);
        assert!(arguments.command.is_none());
        let arguments = Arguments::parse_from(["connectors", "check", "--config", "x.toml"]);
        assert_eq!(arguments.config, Some("x.toml".into()));
    }
}
