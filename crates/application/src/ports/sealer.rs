//! What clients hold for the service, so that it need not: sealed, and good in one place only.

use connectors_domain::Secret;
use thiserror::Error;

/// Seals texts that leave the service and come back, under the keys that seal what is stored. Every replica opens what
/// another one has sealed.
#[cfg_attr(feature = "mocks", mockall::automock)]
pub trait Sealer: Send + Sync + 'static {
    /// Seals `text` for `seal`, in characters that fit a header, a cookie and a URL.
    fn seal(&self, seal: &Seal, text: &str) -> Result<String, SealerError>;

    /// Opens what was sealed for the same [`Seal`]; `None` for anything else.
    fn open(&self, seal: &Seal, sealed: &str) -> Option<Secret>;
}

/// What a sealed text is for, and to what it is bound: it opens with an equal one only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// What it is for.
    pub purpose: SealPurpose,
    /// To what it is bound, in an order that means something.
    pub bound_to: Vec<String>,
}

/// What a sealed text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealPurpose {
    /// The session of an MCP server, in the hands of the client.
    McpSession,
    /// The session of a person in the console.
    ConsoleSession,
    /// A login that has begun.
    Login,
}

impl SealPurpose {
    /// The name, which never changes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::McpSession => "mcp_session",
            Self::ConsoleSession => "console_session",
            Self::Login => "login",
        }
    }
}

/// A text could not be sealed: it is too long, or the random source or the cipher failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a text could not be sealed")]
pub struct SealerError;
