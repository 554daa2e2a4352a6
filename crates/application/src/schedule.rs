//! When the service looks after a connector by itself.

use std::time::Duration;

use connectors_domain::{Connected, Connector, ConnectorState, DisconnectCode, Disconnected, Grant, IssuedGrant};
use jiff::Timestamp;

/// When a server that was away is asked again for the first time.
const RECOVERY: Duration = Duration::from_mins(1);
/// The longest time between two tries of anything.
const LONGEST: Duration = Duration::from_hours(1);
/// How long a server that is away is asked again.
const RECOVERY_ENDS: Duration = Duration::from_hours(7 * 24);

/// When `connector`, which has just come into its state, is to be looked after; `None` for not before it changes.
pub(crate) fn next(connector: &Connector, health_interval: Option<Duration>, now: Timestamp) -> Option<Timestamp> {
    match &connector.state {
        ConnectorState::Created => None,
        ConnectorState::Connecting(connecting) => Some(connecting.deadline),
        ConnectorState::Connected(connected) => {
            let consent = connected.wider.as_ref().map(|attempt| attempt.expires_at);
            let health = health_interval.map(|interval| after(now, interval));
            [consent, renewal(connector, connected), health].into_iter().flatten().min()
        }
        ConnectorState::Disconnected(disconnected) => recovers(disconnected).then(|| after(now, RECOVERY)),
    }
}

/// When the grant of a connected connector is to be renewed though nobody uses it.
pub(crate) fn renewal(connector: &Connector, connected: &Connected) -> Option<Timestamp> {
    let issued = connected.grant.as_ref().and_then(Grant::issued)?;
    issued.renewal_due_at(connector.id.as_uuid().as_bytes()[15])
}

/// Whether a connector may recover without anybody's doing: its server was away or broken, or nobody renewed its grant.
pub(crate) fn recovers(disconnected: &Disconnected) -> bool {
    let issued = disconnected.recovery.as_ref().and_then(Grant::issued);
    match disconnected.reason.code() {
        DisconnectCode::ServerUnreachable | DisconnectCode::ServerTimeout | DisconnectCode::ServerError => true,
        // Whether what is kept is still good shows when it is used.
        DisconnectCode::AuthorizationServerUnreachable
        | DisconnectCode::AuthorizationServerTimeout
        | DisconnectCode::AuthorizationExpired => issued.is_some_and(IssuedGrant::is_renewable),
        _ => false,
    }
}

/// When a connector that could not be recovered is tried again; `None` for never.
pub(crate) fn next_recovery(connector: &Connector, failures: u32, now: Timestamp) -> Option<Timestamp> {
    (now < after(connector.updated_at, RECOVERY_ENDS)).then(|| after(now, back_off(RECOVERY, failures)))
}

/// How long to wait after so many failures in a row: twice as long each time, up to an hour.
pub(crate) fn back_off(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX)).min(LONGEST)
}

/// The instant after `time` from `now`.
pub(crate) fn after(now: Timestamp, time: Duration) -> Timestamp {
    now.saturating_add(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_grow_rarer_up_to_a_limit() {
        let seconds = |failures| back_off(Duration::from_mins(1), failures).as_secs();
        assert_eq!([0, 1, 2, 5, 6, 40].map(seconds), [60, 120, 240, 1920, 3600, 3600]);
    }
}
