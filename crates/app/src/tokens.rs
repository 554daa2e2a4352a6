//! `connectors token`: the tokens of mode `tokens`, made, listed and taken back.

use std::time::Duration;

use clap::{Args, Subcommand};
use connectors_application::{Error, NewApiToken};
use connectors_domain::{AccountName, ApiToken, ApiTokenId, OwnerId, Permission, Permissions, Principal};
use uuid::Uuid;

use crate::application::StartError;
use crate::settings::Settings;
use crate::wiring;

/// Under which the users of tokens are known; see [`OwnerId::derive`].
const ISSUER: &str = "urn:connectors:token";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it. It is shown this once
    New(NewToken),
    /// List the tokens, without what makes them tokens
    List,
    /// Take a token back. A running service accepts it for ten seconds more
    Revoke {
        /// Its id, as `token list` shows it
        id: Uuid,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct NewToken {
    /// The user for whom it speaks. Tokens with the same name see the same connectors
    #[arg(long, value_name = "NAME", required_unless_present = "local", conflicts_with = "local", value_parser = user)]
    user: Option<String>,
    /// Speaks for the one user that there is while auth.mode is none, so that connectors from that time are at hand
    #[arg(long)]
    local: bool,
    /// What you call it
    #[arg(long, default_value = "token")]
    label: String,
    /// What it allows; may be given more than once
    #[arg(long = "scope", value_name = "SCOPE", value_parser = permission,
          default_values = ["connectors:read", "connectors:write", "connectors:proxy"])]
    scopes: Vec<Permission>,
    /// After how many days it ends
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
    /// It never ends
    #[arg(long, conflicts_with = "days")]
    no_expiry: bool,
}

/// A token command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Service(#[from] Error),
    #[error("there is no token with the id {0}; `connectors token list` shows those that there are")]
    Unknown(ApiTokenId),
}

/// What is printed of a command: on standard output, and beside it for the person who reads.
pub(crate) struct Printed {
    pub(crate) output: String,
    pub(crate) note: String,
}

/// Does what the command says.
pub(crate) async fn run(settings: &Settings, command: TokenCommand) -> Result<Printed, TokenError> {
    let tokens = wiring::api_tokens(settings).await?;
    match command {
        TokenCommand::New(new) => {
            let (bearer, token) = tokens.create(new.into()).await?;
            let ends = token.expires_at.map_or_else(|| "never ends".to_owned(), |end| format!("ends at {end:.0}"));
            let user = &token.principal.account;
            let note = format!("token {} for {user} {ends}; it is shown this once, keep it safe\n", token.id);
            Ok(Printed { output: format!("{}\n", bearer.expose()), note })
        }
        TokenCommand::List => {
            let list = tokens.list().await?;
            let note = if list.is_empty() { "there are no tokens\n".to_owned() } else { String::new() };
            Ok(Printed { output: list.iter().map(line).collect(), note })
        }
        TokenCommand::Revoke { id } => {
            let id = ApiTokenId::from_uuid(id);
            if !tokens.revoke(id).await? {
                return Err(TokenError::Unknown(id));
            }
            Ok(Printed { output: String::new(), note: format!("token {id} is taken back\n") })
        }
    }
}

/// A token in one line, its fields apart by tabs: the texts in it hold none.
fn line(token: &ApiToken) -> String {
    let ends = token.expires_at.map_or_else(|| "never".to_owned(), |end| format!("{end:.0}"));
    let Principal { account, permissions, .. } = &token.principal;
    format!("{}\t{account}\t{}\t{permissions}\t{ends}\n", token.id, token.label)
}

impl From<NewToken> for NewApiToken {
    fn from(new: NewToken) -> Self {
        let permissions: Permissions = new.scopes.into_iter().collect();
        let principal = match &new.user {
            Some(user) => {
                Principal { owner: OwnerId::derive(ISSUER, user), account: AccountName::new(user), permissions }
            }
            None => Principal { permissions, ..Principal::local() },
        };
        let lifetime = Duration::from_secs(u64::from(new.days) * 24 * 60 * 60);
        Self { label: new.label, principal, lifetime: (!new.no_expiry).then_some(lifetime) }
    }
}

/// A name that is shown as it is: another spelling would be another user who looks the same.
fn user(text: &str) -> Result<String, String> {
    if AccountName::new(text).as_str() == text {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "expected 1 to {} characters that can be shown, none of them at the ends a space",
            AccountName::MAX_CHARS
        ))
    }
}

fn permission(text: &str) -> Result<Permission, String> {
    let known = Permission::ALL.map(Permission::as_str).join(", ");
    let found = Permission::ALL.into_iter().find(|permission| permission.as_str() == text);
    found.ok_or_else(|| format!("expected one of {known}"))
}
