//! Arbitrary connectors for property tests: every state, with every optional field there and not there, and texts that
//! are as long and as odd as the types allow.

use std::collections::BTreeMap;

use connectors_domain::{
    AccessToken, AccountName, Authority, AuthorizationAttempt, Before, ClientAuthentication, ClientCredentials,
    ClientOrigin, Connected, Connecting, Connector, ConnectorId, ConnectorState, DisconnectCode, DisconnectReason,
    Disconnected, Grant, GrantSource, IssuedGrant, Issuer, Metadata, OAuthClient, OwnerId, ProtocolVersion,
    RedirectOrigins, RedirectUrl, RefreshToken, Revision, Scopes, Secret, ServerFacts, ServerUrl, Start, StateHash,
};
use jiff::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

/// Any connector, at its first revision.
pub fn connector() -> BoxedStrategy<Connector> {
    let ids = (any::<u128>(), any::<u128>(), option::of(account()));
    let client = (option::of(client()), option::of(server_url()));
    let times = (time(), time(), option::of(time()));
    (ids, server_url(), client, option::of(metadata()), state(), times)
        .prop_map(
            |(
                (id, owner, account),
                url,
                (client, client_issuer),
                metadata,
                state,
                (created_at, updated_at, due_at),
            )| {
                Connector {
                    id: ConnectorId::from_uuid(Uuid::from_u128(id)),
                    owner: OwnerId::from_uuid(Uuid::from_u128(owner)),
                    account,
                    url,
                    client,
                    client_issuer: client_issuer.map(|issuer| Issuer::new(issuer.as_str())),
                    metadata,
                    state,
                    created_at,
                    updated_at,
                    due_at,
                    revision: Revision::FIRST,
                }
            },
        )
        .boxed()
}

/// Any state.
pub fn state() -> BoxedStrategy<ConnectorState> {
    let before = prop_oneof![Just(Before::Created), disconnected().prop_map(Before::Disconnected)];
    let connecting = (option::of(attempt()), time(), before).prop_map(|(attempt, deadline, before)| Connecting {
        attempt,
        deadline,
        before,
    });
    let connected = (option::of(grant()), server(), any::<i32>(), option::of(attempt())).prop_map(
        |(grant, server, since, wider)| Connected { grant, server, since: Revision::from_number(since.into()), wider },
    );
    prop_oneof![
        1 => Just(ConnectorState::Created),
        4 => connecting.prop_map(ConnectorState::Connecting),
        4 => connected.prop_map(ConnectorState::Connected),
        2 => disconnected().prop_map(ConnectorState::Disconnected),
    ]
    .boxed()
}

/// Any grant.
pub fn grant() -> BoxedStrategy<Grant> {
    let times = (time(), option::of(time()));
    let issued = (authority(), option::of(token()), times, scopes(), any::<u64>(), any::<u8>()).prop_map(
        |(authority, refresh_token, (obtained_at, expires_at), scopes, generation, step_ups)| {
            GrantSource::Issued(IssuedGrant {
                authority,
                refresh_token: refresh_token.and_then(|token| RefreshToken::new(token).ok()),
                obtained_at,
                expires_at,
                scopes,
                generation,
                step_ups,
            })
        },
    );
    let source = prop_oneof![Just(GrantSource::Supplied), issued];
    (token(), source)
        .prop_filter_map("a token", |(token, source)| {
            Some(Grant { access_token: AccessToken::new(token).ok()?, source })
        })
        .boxed()
}

/// Any attempt.
pub fn attempt() -> BoxedStrategy<AuthorizationAttempt> {
    let secrets = (any::<[u8; 32]>(), text(), text());
    let authority = (authority(), any::<bool>());
    let browser = (option::of(redirect_url()), option::of(start()));
    (secrets, authority, text(), (scopes(), any::<u8>()), browser, time())
        .prop_map(
            |(
                (state_hash, verifier, authorization_url),
                (authority, names_itself),
                redirect_uri,
                (scopes, step_ups),
                (redirect_url, start),
                expires_at,
            )| {
                AuthorizationAttempt {
                    state_hash: StateHash(state_hash),
                    verifier: Secret::new(verifier),
                    authority,
                    names_itself,
                    authorization_url: Secret::new(authorization_url),
                    redirect_uri,
                    scopes,
                    step_ups,
                    redirect_url,
                    start,
                    expires_at,
                }
            },
        )
        .boxed()
}

/// What any user is called.
pub fn account() -> BoxedStrategy<AccountName> {
    prop_oneof![8 => chars(0..40), 1 => chars(90..120)].prop_map(|name| AccountName::new(&name)).boxed()
}

/// Any page from which a user sets out, or has set out.
pub fn start() -> BoxedStrategy<Start> {
    (text(), option::of(text()))
        .prop_map(|(ticket, browser)| Start { ticket: Secret::new(ticket), browser: browser.map(Secret::new) })
        .boxed()
}

/// Any authorization server with the service as its client.
pub fn authority() -> BoxedStrategy<Authority> {
    (text(), text(), option::of(text()), option::of(text()), oauth_client())
        .prop_map(|(issuer, token_endpoint, revocation_endpoint, resource, client)| Authority {
            issuer: Issuer::new(issuer),
            token_endpoint,
            revocation_endpoint,
            resource,
            client,
        })
        .boxed()
}

/// Any way of being a client of an authorization server.
pub fn oauth_client() -> BoxedStrategy<OAuthClient> {
    let authentication = prop_oneof![
        Just(ClientAuthentication::None),
        Just(ClientAuthentication::SecretBasic),
        Just(ClientAuthentication::SecretPost),
        Just(ClientAuthentication::PrivateKeyJwt),
    ];
    let origin =
        prop_oneof![Just(ClientOrigin::Given), Just(ClientOrigin::MetadataDocument), Just(ClientOrigin::Registered),];
    (client(), authentication, origin)
        .prop_map(|(credentials, authentication, origin)| OAuthClient { credentials, authentication, origin })
        .boxed()
}

/// Any client.
pub fn client() -> BoxedStrategy<ClientCredentials> {
    let printable = || prop_oneof![8 => ascii(b' ', 1..40), 1 => ascii(b' ', 2048..2049)];
    (printable(), option::of(printable()))
        .prop_filter_map("a client", |(id, secret)| ClientCredentials::new(id, secret).ok())
        .boxed()
}

/// Any metadata.
pub fn metadata() -> BoxedStrategy<Metadata> {
    let entries = prop_oneof![
        8 => btree_map(chars(1..8), chars(0..16), 0..5),
        1 => btree_map(chars(64..65), chars(512..513), 16..17),
    ];
    entries.prop_filter_map("metadata", |entries: BTreeMap<String, String>| Metadata::new(entries).ok()).boxed()
}

/// Any URL of a server.
pub fn server_url() -> BoxedStrategy<ServerUrl> {
    let path = prop_oneof![8 => ascii(b'!', 0..30), 1 => Just("x".repeat(2020)), 1 => chars(0..12)];
    (prop_oneof![Just("https"), Just("http")], "[a-z]{1,8}", path)
        .prop_filter_map("a URL", |(scheme, host, path)| {
            ServerUrl::parse(&format!("{scheme}://{host}.example/{path}")).ok()
        })
        .boxed()
}

fn disconnected() -> BoxedStrategy<Disconnected> {
    // The service writes these sentences itself, without NUL, which PostgreSQL has no way to store in a text.
    let message = text().prop_map(|text| text.replace('\0', " "));
    (proptest::sample::select(DisconnectCode::ALL), message, option::of(grant()))
        .prop_map(|(code, message, recovery)| Disconnected { reason: DisconnectReason::new(code, message), recovery })
        .boxed()
}

fn server() -> BoxedStrategy<ServerFacts> {
    let version = || option::of("[0-9]{4}-[0-9]{2}-[0-9]{2}".prop_map(|text| ProtocolVersion::parse(&text).ok()));
    (version(), version(), option::of(text()))
        .prop_map(|(modern, legacy, name)| ServerFacts { modern: modern.flatten(), legacy: legacy.flatten(), name })
        .boxed()
}

fn redirect_url() -> BoxedStrategy<RedirectUrl> {
    let host = prop_oneof![Just("http://localhost"), Just("HTTPS://127.0.0.1"), Just("https://[::1]")];
    (host, any::<u16>(), ascii(b'!', 0..20))
        .prop_filter_map("a redirect URL", |(host, port, path)| {
            RedirectOrigins::Loopback.admit(&format!("{host}:{port}/{path}")).ok()
        })
        .boxed()
}

fn scopes() -> BoxedStrategy<Scopes> {
    vec(chars(1..6), 0..4).prop_map(|scopes| Scopes::parse(&scopes.join(" "))).boxed()
}

fn token() -> BoxedStrategy<String> {
    prop_oneof![8 => ascii(b'!', 1..60), 1 => ascii(b'!', 16_384..16_385)].boxed()
}

/// An instant in whole microseconds, anywhere in the years that there are.
fn time() -> BoxedStrategy<Timestamp> {
    (Timestamp::MIN.as_microsecond()..=Timestamp::MAX.as_microsecond())
        .prop_filter_map("an instant", |micros| Timestamp::from_microsecond(micros).ok())
        .boxed()
}

/// Text of any kind.
fn text() -> BoxedStrategy<String> {
    prop_oneof![8 => chars(0..40), 1 => chars(3000..3001)].boxed()
}

fn chars(length: std::ops::Range<usize>) -> BoxedStrategy<String> {
    let char = prop_oneof![8 => any::<char>(), 4 => proptest::char::range(' ', '~'), 1 => Just('\0'), 1 => Just('"')];
    vec(char, length).prop_map(String::from_iter).boxed()
}

/// ASCII text from `first` to `~`.
fn ascii(first: u8, length: std::ops::Range<usize>) -> BoxedStrategy<String> {
    vec(first..=b'~', length).prop_map(|bytes| bytes.into_iter().map(char::from).collect()).boxed()
}
