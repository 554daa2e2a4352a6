//! What the suites put into stores.
#![allow(clippy::unwrap_used, reason = "tests fail by panics")]

use std::time::Duration;

use connectors_domain::{
    AccessToken, Authority, ClientAuthentication, ClientCredentials, ClientOrigin, Connector, ConnectorId,
    ConnectorState, DisconnectReason, Event, Grant, GrantSource, IssuedGrant, Issuer, OAuthClient, OwnerId,
    RefreshToken, Scopes, ServerFacts, ServerUrl,
};
use jiff::Timestamp;
use uuid::Uuid;

/// More connectors than any of these tests makes.
pub(super) const PLENTY: u32 = 1_000;

/// Longer than any of these tests takes.
pub(super) const LONG: Duration = Duration::from_mins(10);

/// Shorter than anybody minds, and longer than a few calls to a database take.
pub(super) const SHORT: Duration = Duration::from_secs(1);

pub(super) fn owner(number: u32) -> OwnerId {
    OwnerId::from_uuid(Uuid::from_u128(u128::from(number)))
}

pub(super) fn id(number: u32) -> ConnectorId {
    ConnectorId::from_uuid(Uuid::from_u128(u128::from(number) << 96))
}

pub(super) fn now() -> Timestamp {
    Timestamp::constant(1_767_225_600, 123_456_000)
}

/// A time that has come, by any clock: the earlier, the greater the number.
pub(super) fn past(number: u32) -> Timestamp {
    now() - Duration::from_secs(u64::from(number))
}

/// A time that will not come while the test runs, by any clock.
pub(super) fn future() -> Timestamp {
    Timestamp::constant(253_000_000_000, 0)
}

/// A connector of the first owner.
pub(super) fn connector(number: u32) -> Connector {
    let url = ServerUrl::parse(&format!("https://host{number}.example/mcp")).unwrap();
    Connector::new(id(number), owner(1), url, None, None, now())
}

/// A grant that an authorization server issued.
pub(super) fn issued(name: &str) -> Grant {
    Grant {
        access_token: AccessToken::new(format!("access-{name}")).unwrap(),
        source: GrantSource::Issued(IssuedGrant {
            authority: Authority {
                issuer: Issuer::new("https://as.example"),
                token_endpoint: "https://as.example/token".to_owned(),
                revocation_endpoint: Some("https://as.example/revoke".to_owned()),
                resource: None,
                client: OAuthClient {
                    credentials: ClientCredentials::new("id".to_owned(), Some("secret".to_owned())).unwrap(),
                    authentication: ClientAuthentication::SecretPost,
                    origin: ClientOrigin::Registered,
                },
            },
            refresh_token: Some(RefreshToken::new(format!("refresh-{name}")).unwrap()),
            obtained_at: now(),
            expires_at: Some(now() + Duration::from_hours(1)),
            scopes: Scopes::parse("read"),
            generation: IssuedGrant::UNSTORED,
            step_ups: 0,
        }),
    }
}

pub(super) fn apply(connector: Connector, event: Event) -> Connector {
    connector.apply(event, now()).unwrap().connector
}

/// The connector after it was probed with a grant.
pub(super) fn connected(connector: Connector, grant: Option<Grant>) -> Connector {
    let connecting = apply(connector, Event::ConnectStarted { deadline: now() + LONG });
    apply(connecting, Event::Established { grant, server: ServerFacts::default() })
}

/// The connector after its grant was renewed.
pub(super) fn renewed(connector: Connector, name: &str) -> Connector {
    let of = connector.generation().unwrap();
    apply(connector, Event::GrantRenewed { of, grant: issued(name) })
}

/// The connector after it could not be used, with its grant kept.
pub(super) fn failed(connector: Connector) -> Connector {
    let recovery = connector.grant().cloned();
    apply(connector, Event::Failed { reason: DisconnectReason::authorization_expired(), recovery })
}

/// The connector that is due at a time.
pub(super) fn due(connector: Connector, due_at: Option<Timestamp>) -> Connector {
    Connector { due_at, ..connector }
}

/// The connector with nothing to look after and no grant.
pub(super) fn given_up(connector: Connector) -> Connector {
    let given_up = apply(connector, Event::DisconnectRequested);
    assert!(matches!(given_up.state, ConnectorState::Disconnected(_)));
    given_up
}
