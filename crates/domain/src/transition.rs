//! The state machine: what may happen to a connector in which state, and what becomes of it.

use jiff::Timestamp;
use thiserror::Error;

use crate::{
    AuthorizationAttempt, Before, Connected, Connecting, Connector, ConnectorId, ConnectorState, DisconnectCode,
    DisconnectReason, Disconnected, Grant, IssuedGrant, Lifecycle, OwnerId, Revision, Secret, ServerFacts,
};

/// What happens to a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A connect begins: the server will be probed, and the probe has ended by `deadline`, or whoever probes has died.
    ConnectStarted {
        /// When the probe must have ended.
        deadline: Timestamp,
    },
    /// The server demands authorization, and the user is asked for it.
    AuthorizationRequired {
        /// What the user has to finish.
        attempt: AuthorizationAttempt,
    },
    /// The server demands a wider consent than the grant has; the grant goes on serving what it covers.
    WiderConsentRequired {
        /// What the user may finish.
        attempt: AuthorizationAttempt,
    },
    /// A browser sets out for the authorization server: the attempt is bound to it.
    BrowserBound {
        /// The secret that the browser holds from now on.
        browser: Secret,
    },
    /// The user's browser came back: the attempt is taken out, once, and its code exchanged by `deadline`.
    AttemptConsumed {
        /// When exchange and probe must have ended.
        deadline: Timestamp,
    },
    /// The server was probed and is usable.
    Established {
        /// The right to use it, where it asks for one.
        grant: Option<Grant>,
        /// What the probe learned.
        server: ServerFacts,
    },
    /// The authorization server renewed the grant, be it in use or kept for recovery.
    GrantRenewed {
        /// The generation that was renewed.
        of: u64,
        /// The grant that takes its place.
        grant: Grant,
    },
    /// The authorization server will not renew the grant any more, be it in use or kept for recovery.
    GrantEnded {
        /// The generation that it would not renew.
        of: u64,
        /// What that means for the connector.
        reason: DisconnectReason,
    },
    /// The connector cannot be used.
    Failed {
        /// Why.
        reason: DisconnectReason,
        /// A grant that may still be good.
        recovery: Option<Grant>,
    },
    /// The user wants it disconnected. Nothing is kept.
    DisconnectRequested,
    /// What was under way has outlived its deadline.
    Lapsed,
}

/// A connector after an event, and what is to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The connector in its new state.
    pub connector: Connector,
    /// What others may want to know: audit, the event stream, webhooks.
    pub change: Change,
}

/// What others may want to know of a transition. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The connector.
    pub connector: ConnectorId,
    /// To whom it belongs.
    pub owner: OwnerId,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub kind: ChangeKind,
}

/// What happened to a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It entered the state [`Lifecycle::Connecting`], or began anew in it.
    Connecting,
    /// It waits for its user.
    AuthorizationRequired,
    /// Its user has set out for the authorization server.
    AuthorizationStarted,
    /// It is ready for use.
    Connected,
    /// It is ready for use, and would like a wider consent.
    WiderConsentRequired,
    /// The offer of a wider consent has ended.
    WiderConsentEnded,
    /// Its grant was renewed.
    GrantRenewed,
    /// The grant that was kept for a connect which is under way can be renewed no longer.
    GrantEnded,
    /// It is disconnected.
    Disconnected(DisconnectCode),
    /// A connect came to nothing, and it is what it was before it ever connected.
    Created,
}

/// An event that has no place in the connector's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a connector that is {} cannot take the event {event}", state.as_str())]
pub struct TransitionError {
    /// The state.
    pub state: Lifecycle,
    /// The event's name.
    pub event: &'static str,
}

impl Event {
    /// The event's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ConnectStarted { .. } => "ConnectStarted",
            Self::AuthorizationRequired { .. } => "AuthorizationRequired",
            Self::WiderConsentRequired { .. } => "WiderConsentRequired",
            Self::BrowserBound { .. } => "BrowserBound",
            Self::AttemptConsumed { .. } => "AttemptConsumed",
            Self::Established { .. } => "Established",
            Self::GrantRenewed { .. } => "GrantRenewed",
            Self::GrantEnded { .. } => "GrantEnded",
            Self::Failed { .. } => "Failed",
            Self::DisconnectRequested => "DisconnectRequested",
            Self::Lapsed => "Lapsed",
        }
    }
}

impl Connector {
    /// Lets `event` happen at `now`.
    ///
    /// An event that has no place in the state is refused and leaves nothing behind. A connect may start in every state
    /// but `Connected`: a connected server is probed where it is, so that it goes on serving meanwhile.
    pub fn apply(self, event: Event, now: Timestamp) -> Result<Transition, TransitionError> {
        let refused = TransitionError { state: self.lifecycle(), event: event.name() };
        let next = self.revision.next();
        let (state, kind) = step(self.state, event, now, next).ok_or(refused)?;
        let change = Change { connector: self.id, owner: self.owner, at: now, kind };
        let state = numbered(state, next);
        Ok(Transition { connector: Self { state, updated_at: now, ..self }, change })
    }
}

/// Gives a grant that no connector has held before the number of the revision that will store it.
fn numbered(mut state: ConnectorState, next: Revision) -> ConnectorState {
    let grant = grant_of(&mut state).and_then(Option::as_mut);
    if let Some(issued) = grant.and_then(Grant::issued_mut)
        && issued.generation == IssuedGrant::UNSTORED
    {
        issued.generation = next.number().unsigned_abs();
    }
    state
}

/// Where the state has its grant, in use or for recovery; `None` if it has no place for one.
const fn grant_of(state: &mut ConnectorState) -> Option<&mut Option<Grant>> {
    match state {
        ConnectorState::Connected(connected) => Some(&mut connected.grant),
        ConnectorState::Disconnected(disconnected)
        | ConnectorState::Connecting(Connecting { before: Before::Disconnected(disconnected), .. }) => {
            Some(&mut disconnected.recovery)
        }
        ConnectorState::Created | ConnectorState::Connecting(_) => None,
    }
}

/// The one table of the state machine; `next` is the revision that will store what comes of it. `None` refuses.
fn step(state: ConnectorState, event: Event, now: Timestamp, next: Revision) -> Option<(ConnectorState, ChangeKind)> {
    use ConnectorState as State;
    Some(match (state, event) {
        (State::Created, Event::ConnectStarted { deadline }) => probing(deadline, Before::Created),
        (State::Connecting(Connecting { before, .. }), Event::ConnectStarted { deadline }) => probing(deadline, before),
        (State::Disconnected(disconnected), Event::ConnectStarted { deadline }) => {
            probing(deadline, Before::Disconnected(disconnected))
        }

        (State::Connecting(Connecting { before, .. }), Event::AuthorizationRequired { attempt }) => {
            awaiting(attempt, before)
        }
        // The server no longer takes the grant; should the user not consent, it is disconnected for that reason.
        (State::Connected(connected), Event::AuthorizationRequired { attempt }) => {
            let reason = DisconnectReason::authorization_expired();
            awaiting(attempt, Before::Disconnected(Disconnected { reason, recovery: connected.grant }))
        }

        (State::Connected(connected), Event::WiderConsentRequired { attempt }) => {
            (State::Connected(Connected { wider: Some(attempt), ..connected }), ChangeKind::WiderConsentRequired)
        }

        (State::Connecting(mut connecting), Event::BrowserBound { browser }) => {
            bind(connecting.attempt.as_mut()?, browser)?;
            (State::Connecting(connecting), ChangeKind::AuthorizationStarted)
        }
        (State::Connected(mut connected), Event::BrowserBound { browser }) => {
            bind(connected.wider.as_mut()?, browser)?;
            (State::Connected(connected), ChangeKind::AuthorizationStarted)
        }

        (State::Connecting(Connecting { attempt: Some(_), before, .. }), Event::AttemptConsumed { deadline }) => {
            probing(deadline, before)
        }
        (State::Connected(connected @ Connected { wider: Some(_), .. }), Event::AttemptConsumed { .. }) => {
            (State::Connected(Connected { wider: None, ..connected }), ChangeKind::WiderConsentEnded)
        }

        (State::Connecting(Connecting { attempt: None, .. }), Event::Established { grant, server }) => {
            (State::Connected(Connected { grant, server, since: next, wider: None }), ChangeKind::Connected)
        }
        (State::Connected(connected), Event::Established { grant, server }) => {
            // The same grant again: nothing of the consent has changed, nor of the wish for a wider one.
            let (since, wider) =
                if grant == connected.grant { (connected.since, connected.wider) } else { (next, None) };
            (State::Connected(Connected { grant, server, since, wider }), ChangeKind::Connected)
        }

        (state, Event::GrantRenewed { of, grant }) => renewed(state, of, grant)?,
        (state, Event::GrantEnded { of, reason }) => ended(state, of, reason)?,

        (State::Connecting(_) | State::Connected(_), Event::Failed { reason, recovery }) => {
            disconnected(Disconnected { reason, recovery })
        }

        (
            State::Connecting(Connecting { attempt: Some(_), .. } | Connecting { before: Before::Disconnected(_), .. })
            | State::Connected(_)
            | State::Disconnected(_),
            Event::DisconnectRequested,
        ) => disconnected(Disconnected { reason: DisconnectReason::client_request(), recovery: None }),

        (State::Connecting(Connecting { attempt: None, deadline, before }), Event::Lapsed) if deadline <= now => {
            match before {
                Before::Created => (State::Created, ChangeKind::Created),
                Before::Disconnected(before) => disconnected(before),
            }
        }
        (State::Connecting(Connecting { attempt: Some(_), deadline, before }), Event::Lapsed) if deadline <= now => {
            let recovery = match before {
                Before::Created => None,
                Before::Disconnected(before) => before.recovery,
            };
            disconnected(Disconnected { reason: DisconnectReason::authorization_expired(), recovery })
        }
        (State::Connected(connected @ Connected { wider: Some(_), .. }), Event::Lapsed)
            if connected.wider.as_ref().is_some_and(|attempt| attempt.expires_at <= now) =>
        {
            (State::Connected(Connected { wider: None, ..connected }), ChangeKind::WiderConsentEnded)
        }

        // Every refusal is listed, so that a new state or event does not compile until it has its place.
        (
            State::Created,
            Event::AuthorizationRequired { .. }
            | Event::WiderConsentRequired { .. }
            | Event::BrowserBound { .. }
            | Event::AttemptConsumed { .. }
            | Event::Established { .. }
            | Event::Failed { .. }
            | Event::DisconnectRequested
            | Event::Lapsed,
        )
        | (
            State::Connecting(_),
            Event::WiderConsentRequired { .. }
            | Event::AttemptConsumed { .. }
            | Event::Established { .. }
            | Event::DisconnectRequested
            | Event::Lapsed,
        )
        | (State::Connected(_), Event::ConnectStarted { .. } | Event::AttemptConsumed { .. } | Event::Lapsed)
        | (
            State::Disconnected(_),
            Event::AuthorizationRequired { .. }
            | Event::WiderConsentRequired { .. }
            | Event::BrowserBound { .. }
            | Event::AttemptConsumed { .. }
            | Event::Established { .. }
            | Event::Failed { .. }
            | Event::Lapsed,
        ) => return None,
    })
}

fn probing(deadline: Timestamp, before: Before) -> (ConnectorState, ChangeKind) {
    (ConnectorState::Connecting(Connecting { attempt: None, deadline, before }), ChangeKind::Connecting)
}

fn awaiting(attempt: AuthorizationAttempt, before: Before) -> (ConnectorState, ChangeKind) {
    let deadline = attempt.expires_at;
    let connecting = Connecting { attempt: Some(attempt), deadline, before };
    (ConnectorState::Connecting(connecting), ChangeKind::AuthorizationRequired)
}

/// Binds an attempt to the browser that sets out first. It is not taken over by another.
fn bind(attempt: &mut AuthorizationAttempt, browser: Secret) -> Option<()> {
    let start = attempt.start.as_mut().filter(|start| start.browser.is_none())?;
    start.browser = Some(browser);
    Some(())
}

fn disconnected(disconnected: Disconnected) -> (ConnectorState, ChangeKind) {
    let code = disconnected.reason.code();
    (ConnectorState::Disconnected(disconnected), ChangeKind::Disconnected(code))
}

/// A grant takes the place of the generation that was spent for it, whatever the connector does meanwhile.
fn renewed(mut state: ConnectorState, of: u64, grant: Grant) -> Option<(ConnectorState, ChangeKind)> {
    let place = grant_of(&mut state)?;
    let (held, new) = (place.as_ref()?.issued()?, grant.issued()?);
    let follows = held.generation == of
        && new.generation == IssuedGrant::UNSTORED
        && held.authority.issuer == new.authority.issuer;
    if !follows {
        return None;
    }
    *place = Some(grant);
    Some((state, ChangeKind::GrantRenewed))
}

/// A grant is gone; a connect that is under way goes on without it.
fn ended(mut state: ConnectorState, of: u64, reason: DisconnectReason) -> Option<(ConnectorState, ChangeKind)> {
    if grant_of(&mut state)?.as_ref()?.issued()?.generation != of {
        return None;
    }
    let gone = Disconnected { reason, recovery: None };
    Some(match state {
        ConnectorState::Connecting(connecting) => {
            let connecting = Connecting { before: Before::Disconnected(gone), ..connecting };
            (ConnectorState::Connecting(connecting), ChangeKind::GrantEnded)
        }
        _ => disconnected(gone),
    })
}
