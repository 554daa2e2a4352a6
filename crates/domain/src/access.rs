//! Who calls, and what they may do.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use crate::{OwnerId, Secret};

/// A caller whose credential was found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// In whose name the call is carried out.
    pub owner: OwnerId,
    /// What people call that user.
    pub account: AccountName,
    /// What the caller may do in that name.
    pub permissions: Permissions,
}

impl Principal {
    /// The one local user of a service that runs without authentication, who may do everything.
    pub fn local() -> Self {
        Self { owner: OwnerId::local(), account: AccountName::new("local"), permissions: Permissions::all() }
    }
}

/// One of the things that a credential may allow. Each is a scope (RFC 6749, section 3.3) of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// To see the connectors of the user.
    Read,
    /// To create, connect, disconnect and delete them.
    Write,
    /// To call the MCP servers behind them.
    Proxy,
    /// To see, disconnect and delete the connectors of every user.
    Admin,
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Proxy, Self::Admin];

    /// The name of the scope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "connectors:read",
            Self::Write => "connectors:write",
            Self::Proxy => "connectors:proxy",
            Self::Admin => "connectors:admin",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Permissions(u8);

impl Permissions {
    /// Every permission.
    pub fn all() -> Self {
        Permission::ALL.into_iter().collect()
    }

    /// All that concerns the user's own connectors.
    pub fn own() -> Self {
        [Permission::Read, Permission::Write, Permission::Proxy].into_iter().collect()
    }

    /// Those that are named in a list of scopes. Scopes of other services may stand beside them.
    pub fn from_scopes<'a>(scopes: impl IntoIterator<Item = &'a str>) -> Self {
        let named = |scope: &str| Permission::ALL.into_iter().find(|permission| permission.as_str() == scope);
        scopes.into_iter().filter_map(named).collect()
    }

    /// The others.
    #[must_use]
    pub const fn without(self, permission: Permission) -> Self {
        Self(self.0 & !permission.bit())
    }

    /// Whether `permission` is one of them.
    pub const fn contains(self, permission: Permission) -> bool {
        self.0 & permission.bit() != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| self.contains(*permission))
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<T: IntoIterator<Item = Permission>>(permissions: T) -> Self {
        Self(permissions.into_iter().fold(0, |bits, permission| bits | permission.bit()))
    }
}

/// As a list of scopes.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, permission) in self.iter().enumerate() {
            write!(f, "{}{permission}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What people call a user, such as an address or a login name: to be shown, never to decide by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountName(String);

impl AccountName {
    /// The most characters of a name.
    pub const MAX_CHARS: usize = 100;

    /// The name that `text` holds: without characters that cannot be seen or that turn the text around them, and cut
    /// after [`AccountName::MAX_CHARS`].
    pub fn new(text: &str) -> Self {
        let shown = text.chars().filter(|char| !is_invisible(*char)).collect::<String>();
        let cut = shown.trim().chars().take(Self::MAX_CHARS).collect::<String>();
        // Of a name that was cut, the end may be a space now. The name of a name is that name.
        let cut = cut.trim_end();
        Self(if cut.is_empty() { "unnamed".to_owned() } else { cut.to_owned() })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Control characters, and the formatting characters with which one text is made to look like another.
fn is_invisible(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(char, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A bearer token that the operator made for a user of this service. The token itself is known to its bearer alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Identifies it, for the operator.
    pub id: ApiTokenId,
    /// What the operator calls it.
    pub label: String,
    /// What it gives.
    pub principal: Principal,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None` for one that does not.
    pub expires_at: Option<Timestamp>,
}

impl ApiToken {
    /// What every token begins with, so that programs which look for leaked secrets know one when they see it.
    pub const PREFIX: &'static str = "connectors_";

    /// The token that `text`, 32 random bytes in a form fit for a header, is the secret part of.
    pub fn bearer(text: &str) -> Secret {
        Secret::new(format!("{}{text}", Self::PREFIX))
    }
}

/// Identifies an [`ApiToken`]. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiTokenId(Uuid);

impl ApiTokenId {
    /// A new id, a UUID of version 7 (RFC 9562, section 5.7).
    pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// The id that `uuid` is.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The id as a UUID.
    pub const fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ApiTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_of_other_services_give_nothing() {
        let permissions =
            Permissions::from_scopes(["openid", "connectors:read", "connectors:readx", "Connectors:write"]);
        assert_eq!(permissions.iter().collect::<Vec<_>>(), [Permission::Read]);
        assert!(Permissions::from_scopes(["connectors:"]).is_empty());
        assert_eq!(Permissions::all().without(Permission::Admin), Permissions::own());
        assert_eq!(
            Permissions::all().to_string(),
            "connectors:read connectors:write connectors:proxy connectors:admin"
        );
        assert_eq!(Permissions::from_scopes(Permissions::all().to_string().split(' ')), Permissions::all());
    }

    #[test]
    fn an_account_name_shows_what_it_is() {
        assert_eq!(AccountName::new(" alice@example.com ").as_str(), "alice@example.com");
        assert_eq!(AccountName::new("al\u{202e}ice\n\u{200b}").as_str(), "alice");
        assert_eq!(AccountName::new("\u{feff} \t").as_str(), "unnamed");
        assert_eq!(AccountName::new(&"é".repeat(101)).as_str().chars().count(), AccountName::MAX_CHARS);
        let cut = AccountName::new(&format!("{} a", "x".repeat(99)));
        assert_eq!(AccountName::new(cut.as_str()), cut);
    }
}
