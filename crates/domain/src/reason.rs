//! Why a connector is disconnected: a code for programs, a sentence for people.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// The closed list of reasons for which a connector is disconnected.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DisconnectCode { $($(#[$doc])* $variant,)* }

        impl DisconnectCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as clients and the database know it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl FromStr for DisconnectCode {
            type Err = UnknownCode;

            fn from_str(text: &str) -> Result<Self, UnknownCode> {
                match text { $($text => Ok(Self::$variant),)* _ => Err(UnknownCode) }
            }
        }
    };
}

codes! {
    /// The user disconnected it.
    ClientRequest = "client_request",
    /// The server demands authorization, and there is no credential for it.
    AuthorizationRequired = "authorization_required",
    /// The user did not finish the authorization in time.
    AuthorizationExpired = "authorization_expired",
    /// The user, or the authorization server, said no.
    AuthorizationRefused = "authorization_refused",
    /// No connection to the authorization server came about.
    AuthorizationServerUnreachable = "authorization_server_unreachable",
    /// The authorization server did not answer in time.
    AuthorizationServerTimeout = "authorization_server_timeout",
    /// The metadata of the server or its authorization server break the rules.
    AuthorizationMetadataInvalid = "authorization_metadata_invalid",
    /// The authorization server does not support PKCE with S256.
    PkceUnsupported = "pkce_unsupported",
    /// The authorization server takes only clients that it knows, and none was given.
    ClientRequired = "client_required",
    /// The authorization server does not accept the client.
    ClientRejected = "client_rejected",
    /// The authorization server did not register the service as a client.
    RegistrationFailed = "registration_failed",
    /// The authorization server did not exchange the code.
    TokenExchangeFailed = "token_exchange_failed",
    /// The authorization server's token response cannot be used.
    TokenResponseInvalid = "token_response_invalid",
    /// The authorization server renews the grant no longer: it was revoked there, or has ended.
    AuthorizationRevoked = "authorization_revoked",
    /// The authorization server renews the grant no longer, after a renewal of which the service never saw the answer.
    RefreshOutcomeUnknown = "refresh_outcome_unknown",
    /// The server refuses the credential that it was given.
    CredentialRejected = "credential_rejected",
    /// The stored credential cannot be opened: the row was changed from outside, or its key is gone.
    CredentialUnreadable = "credential_unreadable",
    /// No connection to the server came about.
    ServerUnreachable = "server_unreachable",
    /// The server did not answer in time.
    ServerTimeout = "server_timeout",
    /// The server answered with an HTTP error.
    ServerError = "server_error",
    /// What answers at the URL does not speak MCP over Streamable HTTP.
    NotMcp = "not_mcp",
    /// The server speaks only protocol versions that this service does not know.
    UnsupportedVersion = "unsupported_version",
    /// The service may not talk to the server's address.
    AddressRefused = "address_refused",
}

impl fmt::Display for DisconnectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is none of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("unknown disconnect code")]
pub struct UnknownCode;

/// Why a connector is disconnected. The sentence is this service's own: nothing that a server sent stands in it, except
/// numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisconnectReason {
    code: DisconnectCode,
    message: String,
}

impl DisconnectReason {
    /// A reason with its sentence, which says what is wrong and what to do.
    pub fn new(code: DisconnectCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The user's own wish. The sentence is the one that published clients know.
    pub fn client_request() -> Self {
        Self::new(DisconnectCode::ClientRequest, "Client request")
    }

    /// The user did not finish the authorization in time.
    pub fn authorization_expired() -> Self {
        Self::new(
            DisconnectCode::AuthorizationExpired,
            "The authorization was not finished in time. Connect again and finish it at the new address.",
        )
    }

    /// For programs.
    pub const fn code(&self) -> DisconnectCode {
        self.code
    }

    /// For people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        for code in DisconnectCode::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
        }
        assert_eq!("".parse::<DisconnectCode>(), Err(UnknownCode));
    }
}
