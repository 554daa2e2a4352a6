//! The reference page of the disconnect codes.

use std::fmt::Write as _;

use connectors_domain::DisconnectCode;

const HEAD: &str = "\
# Disconnect codes

This page is generated: `connectors codes` (a hidden command) prints it.

While a connector is `disconnected`, `disconnect_code` says why, for programs; `disconnect_reason` says it in a sentence,
for people. The list is closed: further codes come with a release that says so.

| code | meaning | what to do |
| --- | --- | --- |
";

/// The reference page, in Markdown.
pub(crate) fn reference() -> String {
    let mut page = HEAD.to_owned();
    for code in DisconnectCode::ALL {
        let (meaning, remedy) = explain(*code);
        // Writing into a String does not fail.
        let _ = writeln!(page, "| `{code}` | {meaning} | {remedy} |");
    }
    page
}

/// What a code means, and what to do.
const fn explain(code: DisconnectCode) -> (&'static str, &'static str) {
    match code {
        DisconnectCode::ClientRequest => ("The user disconnected it.", "Nothing; connect when it is needed again."),
        DisconnectCode::AuthorizationRequired => (
            "The server demands authorization, and there is no credential for it.",
            "Connect with an `access_token` for that server.",
        ),
        DisconnectCode::AuthorizationExpired => {
            ("The user did not finish the authorization in time.", "Connect again, and finish it at the new address.")
        }
        DisconnectCode::AuthorizationRefused => {
            ("The user, or the authorization server, said no.", "Connect again to be asked once more.")
        }
        DisconnectCode::AuthorizationServerUnreachable => (
            "No connection to the authorization server of the server came about, or it did not renew access that had ended.",
            "Connect again later; if it stays so, ask whoever runs the server.",
        ),
        DisconnectCode::AuthorizationServerTimeout => (
            "The authorization server of the server did not answer in time.",
            "Connect again later; if it stays so, ask whoever runs the server.",
        ),
        DisconnectCode::AuthorizationMetadataInvalid => (
            "The metadata of the server or of its authorization server break the rules; the reason says which one.",
            "Tell whoever runs the server. An operator can allow known departures in a preset's `quirks`.",
        ),
        DisconnectCode::PkceUnsupported => (
            "The authorization server does not advertise PKCE with S256, without which codes can be stolen.",
            "Tell whoever runs the server. An operator who knows better sets `assume_pkce` in a preset's `quirks`.",
        ),
        DisconnectCode::ClientRequired => (
            "The authorization server takes only clients that it knows, and none was given.",
            "Register this service there, and make the connector anew with the `client_id` that you get.",
        ),
        DisconnectCode::ClientRejected => (
            "The authorization server does not accept the client (any more), or the client belongs to another one.",
            "Check `client_id` and `client_secret`, and make the connector anew with the right ones. Where none was given, \
             connect again.",
        ),
        DisconnectCode::RegistrationFailed => (
            "The authorization server did not register this service.",
            "Connect again later, or make the connector anew with a `client_id`.",
        ),
        DisconnectCode::TokenExchangeFailed => {
            ("The authorization server did not exchange the code.", "Connect again.")
        }
        DisconnectCode::TokenResponseInvalid => (
            "The authorization server's answer holds no token that can be used.",
            "Tell whoever runs the authorization server.",
        ),
        DisconnectCode::AuthorizationRevoked => (
            "The authorization server renews the access no longer: it was revoked there, or has ended.",
            "Connect again.",
        ),
        DisconnectCode::RefreshOutcomeUnknown => (
            "A renewal was interrupted, by a crash or a lost connection, before its answer arrived, and the authorization \
             server does not take the old refresh token once more.",
            "Connect again.",
        ),
        DisconnectCode::CredentialRejected => (
            "The server refuses the credential that it was given: it has expired, was revoked, or is another server's.",
            "Connect with a new credential.",
        ),
        DisconnectCode::CredentialUnreadable => (
            "The stored credential cannot be opened: its row was changed from outside, or its key is gone.",
            "Connect with a new credential. If it happens to many connectors, the operator looks at `encryption.keys`.",
        ),
        DisconnectCode::ServerUnreachable => (
            "No connection to the server came about: its name, the network or TLS.",
            "Check the URL and whether the server is up, then connect again.",
        ),
        DisconnectCode::ServerTimeout => {
            ("The server did not answer in time.", "Connect again later; if it stays so, ask whoever runs the server.")
        }
        DisconnectCode::ServerError => (
            "The server answered with an HTTP error.",
            "Connect again later; if it stays so, ask whoever runs the server.",
        ),
        DisconnectCode::NotMcp => (
            "What answers at the URL does not speak MCP over Streamable HTTP.",
            "Check the URL: the path of the MCP endpoint is part of it. Delete the connector and create one with the right URL.",
        ),
        DisconnectCode::UnsupportedVersion => (
            "The server speaks only protocol versions that this service does not know.",
            "Upgrade this service, or the server.",
        ),
        DisconnectCode::AddressRefused => (
            "The service may not talk to the server's address: it is not public, or not https.",
            "If it is wanted, the operator lists the server in `egress.allow`; then connect again.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_this_one() {
        let committed =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/disconnect-codes.md"));
        assert_eq!(
            committed.unwrap(),
            reference(),
            "`connectors codes > docs/reference/disconnect-codes.md` writes it anew"
        );
    }
}
