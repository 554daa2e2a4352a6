//! The state machine: every state meets every event, and a long walk is compared with a smaller model of it.

#![expect(clippy::unwrap_used, reason = "a test stops where its own premises fail")]

use connectors_domain::{
    AccessToken, Authority, AuthorizationAttempt, Before, ChangeKind, ClientAuthentication, ClientCredentials,
    ClientOrigin, ClientState, Connected, Connecting, Connector, ConnectorId, ConnectorState, DisconnectCode,
    DisconnectReason, Disconnected, Event, Grant, GrantSource, IssuedGrant, Issuer, Lifecycle, OAuthClient, OwnerId,
    ProtocolVersion, RefreshToken, Revision, Scopes, Secret, ServerFacts, ServerUrl, Start, StateHash, TransitionError,
};
use jiff::Timestamp;
use proptest::prelude::*;

const NOW: i64 = 1_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn connector(state: ConnectorState) -> Connector {
    let id = ConnectorId::new(at(0), [7; 10]);
    let url = ServerUrl::parse("https://mcp.example.com/mcp").unwrap();
    let mut connector = Connector::new(id, OwnerId::local(), url, None, None, at(0));
    connector.state = state;
    connector
}

fn authority() -> Authority {
    Authority {
        issuer: Issuer::new("https://as.example.com"),
        token_endpoint: "https://as.example.com/token".into(),
        revocation_endpoint: None,
        resource: None,
        client: OAuthClient {
            credentials: ClientCredentials::new("id".into(), None).unwrap(),
            authentication: ClientAuthentication::None,
            origin: ClientOrigin::Registered,
        },
    }
}

fn attempt(expires_at: i64) -> AuthorizationAttempt {
    AuthorizationAttempt {
        state_hash: StateHash([3; 32]),
        verifier: Secret::new("verifier"),
        authority: authority(),
        names_itself: false,
        authorization_url: Secret::new("https://as.example.com/authorize?state=s"),
        redirect_uri: "http://127.0.0.1:8333/api/v1/connectors/oauth/callback".into(),
        scopes: Scopes::default(),
        step_ups: 0,
        redirect_url: None,
        start: None,
        expires_at: at(expires_at),
    }
}

/// An attempt whose user sets out from a page of the service, or has done so with `browser`.
fn to_start(expires_at: i64, browser: Option<&str>) -> AuthorizationAttempt {
    let start = Start { ticket: Secret::new("ticket"), browser: browser.map(Secret::new) };
    AuthorizationAttempt { start: Some(start), ..attempt(expires_at) }
}

fn issued(generation: u64) -> Grant {
    Grant {
        access_token: AccessToken::new(format!("token-{generation}")).unwrap(),
        source: GrantSource::Issued(IssuedGrant {
            authority: authority(),
            refresh_token: Some(RefreshToken::new("refresh".into()).unwrap()),
            obtained_at: at(0),
            expires_at: None,
            scopes: Scopes::default(),
            generation,
            step_ups: 0,
        }),
    }
}

fn facts() -> ServerFacts {
    ServerFacts { modern: ProtocolVersion::parse("2026-07-28").ok(), legacy: None, name: None }
}

fn gone() -> Disconnected {
    let reason = DisconnectReason::new(DisconnectCode::ServerUnreachable, "away");
    Disconnected { reason, recovery: Some(issued(4)) }
}

fn probing(before: Before, deadline: i64) -> ConnectorState {
    ConnectorState::Connecting(Connecting { attempt: None, deadline: at(deadline), before })
}

fn awaiting(before: Before, deadline: i64) -> ConnectorState {
    asking(attempt(deadline), before)
}

fn asking(attempt: AuthorizationAttempt, before: Before) -> ConnectorState {
    ConnectorState::Connecting(Connecting { deadline: attempt.expires_at, attempt: Some(attempt), before })
}

fn connected(grant: Option<Grant>, wider: Option<AuthorizationAttempt>) -> ConnectorState {
    ConnectorState::Connected(Connected { grant, server: facts(), since: Revision::FIRST, wider })
}

fn revoked() -> DisconnectReason {
    DisconnectReason::new(DisconnectCode::AuthorizationRevoked, "revoked")
}

/// Every state, in each of the forms between which the table tells.
fn states() -> Vec<(&'static str, ConnectorState)> {
    vec![
        ("created", ConnectorState::Created),
        ("probing, new", probing(Before::Created, NOW + 1)),
        ("probing, new, late", probing(Before::Created, NOW)),
        ("probing, again", probing(Before::Disconnected(gone()), NOW + 1)),
        ("probing, again, late", probing(Before::Disconnected(gone()), NOW)),
        ("awaiting, new", awaiting(Before::Created, NOW + 1)),
        ("awaiting, new, late", awaiting(Before::Created, NOW)),
        ("awaiting, again, late", awaiting(Before::Disconnected(gone()), NOW)),
        ("awaiting, to start", asking(to_start(NOW + 1, None), Before::Created)),
        ("awaiting, started", asking(to_start(NOW + 1, Some("first")), Before::Created)),
        ("connected", connected(Some(issued(4)), None)),
        ("connected, open", connected(None, None)),
        ("connected, wider", connected(Some(issued(4)), Some(attempt(NOW + 1)))),
        ("connected, wider, late", connected(Some(issued(4)), Some(attempt(NOW)))),
        ("connected, wider, to start", connected(Some(issued(4)), Some(to_start(NOW + 1, None)))),
        ("connected, wider, started", connected(Some(issued(4)), Some(to_start(NOW + 1, Some("first"))))),
        ("disconnected", ConnectorState::Disconnected(gone())),
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::ConnectStarted { deadline: at(NOW + 30) },
        Event::AuthorizationRequired { attempt: attempt(NOW + 600) },
        Event::WiderConsentRequired { attempt: attempt(NOW + 600) },
        Event::BrowserBound { browser: Secret::new("browser") },
        Event::AttemptConsumed { deadline: at(NOW + 30) },
        Event::Established { grant: Some(issued(0)), server: facts() },
        Event::GrantRenewed { of: 4, grant: issued(0) },
        Event::GrantEnded { of: 4, reason: revoked() },
        Event::Failed {
            reason: DisconnectReason::new(DisconnectCode::ServerTimeout, "late"),
            recovery: Some(issued(4)),
        },
        Event::DisconnectRequested,
        Event::Lapsed,
    ]
}

/// What each event makes of each state, one letter a state: what it becomes, or `-` for a refusal.
///
/// `P` probing, `A` awaiting its user, `C` connected, `W` connected with a wider consent offered, `D` disconnected,
/// `N` created (new).
#[rustfmt::skip]
const TABLE: [(&str, &str); 17] = [
    //                              Start Auth Wider Bound Consumed Established Renewed Ended Failed Disconnect Lapsed
    ("created",                    "P - - - - - - - - - -"),
    ("probing, new",               "P A - - - C - - D - -"),
    ("probing, new, late",         "P A - - - C - - D - N"),
    ("probing, again",             "P A - - - C P P D D -"),
    ("probing, again, late",       "P A - - - C P P D D D"),
    ("awaiting, new",              "P A - - P - - - D D -"),
    ("awaiting, new, late",        "P A - - P - - - D D D"),
    ("awaiting, again, late",      "P A - - P - A A D D D"),
    ("awaiting, to start",         "P A - A P - - - D D -"),
    ("awaiting, started",          "P A - - P - - - D D -"),
    ("connected",                  "- A W - - C C D D D -"),
    ("connected, open",            "- A W - - C - - D D -"),
    ("connected, wider",           "- A W - C C W D D D -"),
    ("connected, wider, late",     "- A W - C C W D D D C"),
    ("connected, wider, to start", "- A W W C C W D D D -"),
    ("connected, wider, started",  "- A W - C C W D D D -"),
    ("disconnected",               "P - - - - - D D - D -"),
];

fn letter(state: &ConnectorState) -> char {
    match state {
        ConnectorState::Created => 'N',
        ConnectorState::Connecting(Connecting { attempt: None, .. }) => 'P',
        ConnectorState::Connecting(Connecting { attempt: Some(_), .. }) => 'A',
        ConnectorState::Connected(Connected { wider: None, .. }) => 'C',
        ConnectorState::Connected(Connected { wider: Some(_), .. }) => 'W',
        ConnectorState::Disconnected(_) => 'D',
    }
}

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    assert_eq!(states().len(), TABLE.len());
    for ((name, state), (row, expected)) in states().into_iter().zip(TABLE) {
        assert_eq!(name, row);
        for (event, expected) in events().into_iter().zip(expected.split(' ')) {
            let before = connector(state.clone());
            let event_name = event.name();
            let outcome = before.clone().apply(event, at(NOW));
            let found = outcome.as_ref().map_or('-', |transition| letter(&transition.connector.state));
            assert_eq!(found.to_string(), expected, "{name} x {event_name}");
            match outcome {
                Ok(transition) => {
                    assert_eq!(transition.connector.updated_at, at(NOW));
                    assert_eq!(transition.connector.revision, before.revision);
                    assert_eq!(transition.change.connector, before.id);
                    assert_eq!(transition.change.owner, before.owner);
                }
                Err(error) => {
                    assert_eq!(error, TransitionError { state: before.lifecycle(), event: event_name });
                }
            }
        }
    }
}

#[test]
fn a_refusal_names_state_and_event() {
    let error = connector(ConnectorState::Created).apply(Event::DisconnectRequested, at(NOW)).unwrap_err();
    assert_eq!(error.to_string(), "a connector that is created cannot take the event DisconnectRequested");
}

#[test]
fn a_probe_that_is_never_heard_of_again_leaves_what_was_there() {
    let lapse = |state| connector(state).apply(Event::Lapsed, at(NOW)).unwrap().connector.state;
    assert_eq!(lapse(probing(Before::Created, NOW)), ConnectorState::Created);
    assert_eq!(lapse(probing(Before::Disconnected(gone()), NOW)), ConnectorState::Disconnected(gone()));
}

#[test]
fn an_unfinished_authorization_ends_with_its_reason_and_keeps_what_may_still_be_good() {
    let state = awaiting(Before::Disconnected(gone()), NOW);
    let ConnectorState::Disconnected(after) = connector(state).apply(Event::Lapsed, at(NOW)).unwrap().connector.state
    else {
        panic!("not disconnected");
    };
    assert_eq!(after.reason.code(), DisconnectCode::AuthorizationExpired);
    assert_eq!(after.recovery, Some(issued(4)));
}

#[test]
fn an_attempt_is_bound_to_the_browser_that_sets_out_first() {
    let bind = |connector: Connector, browser: &str| {
        connector.apply(Event::BrowserBound { browser: Secret::new(browser) }, at(NOW))
    };
    for state in [
        asking(to_start(NOW + 600, None), Before::Created),
        asking(to_start(NOW + 600, None), Before::Disconnected(gone())),
        connected(Some(issued(4)), Some(to_start(NOW + 600, None))),
    ] {
        let bound = bind(connector(state.clone()), "first").unwrap();
        assert_eq!(bound.change.kind, ChangeKind::AuthorizationStarted);
        let bound = bound.connector;
        assert_eq!(bound.attempt(), Some(&to_start(NOW + 600, Some("first"))));
        // Nothing else has changed: neither what is there to be used, nor until when, nor what clients see.
        let mut as_before = bound.clone();
        as_before.state = state.clone();
        assert_eq!(bound.client_state(), as_before.client_state());
        assert_eq!((bound.grant(), letter(&bound.state)), (as_before.grant(), letter(&state)));
        for again in ["second", "first"] {
            assert!(bind(bound.clone(), again).is_err(), "{again}");
        }
    }
    for state in [awaiting(Before::Created, NOW + 600), connected(None, Some(attempt(NOW + 600)))] {
        assert!(bind(connector(state), "first").is_err(), "there is no page to set out from");
    }
}

#[test]
fn another_attempt_is_bound_anew() {
    let state = asking(to_start(NOW + 600, Some("first")), Before::Created);
    let again = Event::AuthorizationRequired { attempt: to_start(NOW + 600, None) };
    let asked = connector(state).apply(again, at(NOW)).unwrap().connector;
    let bound = asked.apply(Event::BrowserBound { browser: Secret::new("second") }, at(NOW)).unwrap().connector;
    assert_eq!(bound.attempt(), Some(&to_start(NOW + 600, Some("second"))));
}

#[test]
fn an_attempt_is_finished_by_the_browser_to_which_it_is_bound() {
    let unbound = attempt(NOW);
    let (to_start, started) = (to_start(NOW, None), to_start(NOW, Some("first")));
    let secrets = ["", "firs", "first ", "second", "ticket"].map(Secret::new);
    for browser in secrets.iter().map(Some).chain([None]) {
        assert!(unbound.is_bound_to(browser), "nobody is told apart");
        assert!(!to_start.is_bound_to(browser), "nobody has set out");
        assert!(!started.is_bound_to(browser), "another one has");
    }
    assert!(started.is_bound_to(Some(&Secret::new("first"))));
    assert!(!to_start.is_bound_to(Some(&Secret::new("first"))));
}

#[test]
fn a_users_disconnect_keeps_nothing() {
    for (name, state) in states() {
        if let Ok(transition) = connector(state).apply(Event::DisconnectRequested, at(NOW)) {
            let ConnectorState::Disconnected(after) = transition.connector.state else { panic!("{name}") };
            assert_eq!((after.reason.code(), after.recovery), (DisconnectCode::ClientRequest, None), "{name}");
            assert_eq!(transition.change.kind, ChangeKind::Disconnected(DisconnectCode::ClientRequest));
        }
    }
}

#[test]
fn a_renewed_grant_takes_the_place_of_the_generation_that_was_spent() {
    for state in [
        connected(Some(issued(4)), None),
        ConnectorState::Disconnected(gone()),
        probing(Before::Disconnected(gone()), NOW + 1),
        awaiting(Before::Disconnected(gone()), NOW + 1),
    ] {
        let renew = |of, grant| connector(state.clone()).apply(Event::GrantRenewed { of, grant }, at(NOW));
        let renewed = renew(4, issued(0)).unwrap().connector;
        assert_eq!(renewed.generation(), Some(renewed.revision.next().number().unsigned_abs()));
        assert!(renew(3, issued(0)).is_err(), "of another generation");
        assert!(renew(4, issued(4)).is_err(), "one that is stored already");
        assert!(renew(4, Grant::supplied(AccessToken::new("t".into()).unwrap())).is_err());
        let mut elsewhere = issued(0);
        if let GrantSource::Issued(grant) = &mut elsewhere.source {
            grant.authority.issuer = Issuer::new("https://as.example.com/");
        }
        assert!(renew(4, elsewhere).is_err());
    }
}

#[test]
fn a_grant_that_has_ended_ends_nothing_but_its_own_generation() {
    for state in [
        connected(Some(issued(4)), None),
        ConnectorState::Disconnected(gone()),
        probing(Before::Disconnected(gone()), NOW + 1),
    ] {
        let end = |of| connector(state.clone()).apply(Event::GrantEnded { of, reason: revoked() }, at(NOW));
        let ended = end(4).unwrap().connector;
        assert_eq!((ended.grant(), ended.disconnect_reason()), (None, Some(&revoked())));
        assert!(end(5).is_err());
    }
}

#[test]
fn every_grant_of_a_connector_has_a_generation_of_its_own() {
    let mut connector = connector(probing(Before::Created, NOW));
    let mut generations = Vec::new();
    for _ in 0..3 {
        let event = Event::Established { grant: Some(issued(0)), server: facts() };
        connector = connector.apply(event, at(NOW)).unwrap().connector;
        generations.extend(connector.generation());
        connector.revision = connector.revision.next();
    }
    assert!(generations.is_sorted_by(|one, next| one < next), "{generations:?}");
    let stored = connector.grant().cloned();
    let again = Event::Established { grant: stored.clone(), server: facts() };
    assert_eq!(connector.apply(again, at(NOW)).unwrap().connector.grant().cloned(), stored);
}

#[test]
fn a_connector_is_used_with_one_consent_until_another_one() {
    let since = |connector: &Connector| match &connector.state {
        ConnectorState::Connected(connected) => connected.since,
        state => panic!("{state:?}"),
    };
    let connector = connector(connected(Some(issued(4)), None));
    let wider = self::connector(connected(Some(issued(4)), Some(attempt(NOW + 1))));
    let again = Event::Established { grant: Some(issued(4)), server: facts() };
    let same = wider.apply(again, at(NOW)).unwrap().connector;
    assert!(same.attempt().is_some(), "the same grant again leaves the wish for a wider consent");
    let after = |event| since(&connector.clone().apply(event, at(NOW)).unwrap().connector);
    assert_eq!(after(Event::GrantRenewed { of: 4, grant: issued(0) }), Revision::FIRST);
    assert_eq!(after(Event::Established { grant: Some(issued(4)), server: facts() }), Revision::FIRST);
    assert_eq!(after(Event::Established { grant: Some(issued(0)), server: facts() }), connector.revision.next());
}

#[test]
fn clients_see_four_states_and_never_a_probe() {
    let seen: Vec<_> = states().into_iter().map(|(name, state)| (name, connector(state).client_state())).collect();
    for (name, state) in seen {
        let expected = match name {
            "created" | "probing, new" | "probing, new, late" => ClientState::Created,
            name if name.starts_with("awaiting") => ClientState::AuthRequired,
            "probing, again" | "probing, again, late" | "disconnected" => ClientState::Disconnected,
            _ => ClientState::Connected,
        };
        assert_eq!(state, expected, "{name}");
    }
}

#[test]
fn secrets_of_a_connector_do_not_print() {
    for (name, state) in states() {
        let printed = format!("{:?}", connector(state));
        for secret in ["token-4", "refresh\"", "verifier\"", "state=s", "ticket\"", "first"] {
            assert!(!printed.contains(secret), "{name}: {printed}");
        }
    }
}

/// Whether a connect is not the first, and the grant that was kept for it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Again {
    No,
    Yes { renewable: Option<u64> },
}

/// From where the user sets out for a consent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Setting {
    /// There is no page.
    Anywhere,
    /// From a page that nobody has left yet.
    Page,
    /// From a page, with the browser of this number.
    Out(u8),
}

/// A smaller model: what is under way, what was there before, and until when.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Model {
    New,
    Under { consent: Option<Setting>, again: Again, until: i64 },
    Up { renewable: Option<u64>, wider: Option<(Setting, i64)> },
    Down { renewable: Option<u64> },
}

#[derive(Debug, Clone)]
enum Step {
    Start(i64),
    Auth(i64, Setting),
    Wider(i64, Setting),
    Bound(u8),
    Consumed(i64),
    Established(bool),
    Renewed(u64),
    Ended(u64),
    Failed,
    Disconnect,
    Lapsed,
}

impl Model {
    /// `next` is the generation that a new grant gets.
    fn take(self, step: &Step, now: i64, next: u64) -> Option<Self> {
        match *step {
            Step::Start(until) => match self {
                Self::New => Some(Self::Under { consent: None, again: Again::No, until }),
                Self::Under { again, .. } => Some(Self::Under { consent: None, again, until }),
                Self::Up { .. } => None,
                Self::Down { renewable } => Some(Self::Under { consent: None, again: Again::Yes { renewable }, until }),
            },
            Step::Auth(until, from) => match self {
                Self::Under { again, .. } => Some(Self::Under { consent: Some(from), again, until }),
                Self::Up { renewable, .. } => {
                    Some(Self::Under { consent: Some(from), again: Again::Yes { renewable }, until })
                }
                Self::New | Self::Down { .. } => None,
            },
            Step::Wider(until, from) => match self {
                Self::Up { renewable, .. } => Some(Self::Up { renewable, wider: Some((from, until)) }),
                _ => None,
            },
            Step::Bound(browser) => match self {
                Self::Under { consent: Some(Setting::Page), again, until } => {
                    Some(Self::Under { consent: Some(Setting::Out(browser)), again, until })
                }
                Self::Up { renewable, wider: Some((Setting::Page, until)) } => {
                    Some(Self::Up { renewable, wider: Some((Setting::Out(browser), until)) })
                }
                _ => None,
            },
            Step::Consumed(until) => match self {
                Self::Under { consent: Some(_), again, .. } => Some(Self::Under { consent: None, again, until }),
                Self::Up { renewable, wider: Some(_) } => Some(Self::Up { renewable, wider: None }),
                _ => None,
            },
            Step::Established(granted) => match self {
                // The same again: no grant where there was none.
                Self::Up { renewable: None, wider } if !granted => Some(Self::Up { renewable: None, wider }),
                Self::Under { consent: None, .. } | Self::Up { .. } => {
                    Some(Self::Up { renewable: granted.then_some(next), wider: None })
                }
                _ => None,
            },
            Step::Renewed(of) => match self {
                Self::Up { renewable: Some(held), wider } if held == of => {
                    Some(Self::Up { renewable: Some(next), wider })
                }
                Self::Under { consent, again: Again::Yes { renewable: Some(held) }, until } if held == of => {
                    Some(Self::Under { consent, again: Again::Yes { renewable: Some(next) }, until })
                }
                Self::Down { renewable: Some(held) } if held == of => Some(Self::Down { renewable: Some(next) }),
                _ => None,
            },
            Step::Ended(of) => match self {
                Self::Up { renewable: Some(held), .. } | Self::Down { renewable: Some(held) } if held == of => {
                    Some(Self::Down { renewable: None })
                }
                Self::Under { consent, again: Again::Yes { renewable: Some(held) }, until } if held == of => {
                    Some(Self::Under { consent, again: Again::Yes { renewable: None }, until })
                }
                _ => None,
            },
            Step::Failed => {
                matches!(self, Self::Under { .. } | Self::Up { .. }).then_some(Self::Down { renewable: None })
            }
            Step::Disconnect => match self {
                Self::New | Self::Under { consent: None, again: Again::No, .. } => None,
                _ => Some(Self::Down { renewable: None }),
            },
            Step::Lapsed => match self {
                Self::Under { consent: None, again: Again::No, until } if until <= now => Some(Self::New),
                Self::Under { again, until, .. } if until <= now => {
                    let renewable = match again {
                        Again::No => None,
                        Again::Yes { renewable } => renewable,
                    };
                    Some(Self::Down { renewable })
                }
                Self::Up { renewable, wider: Some((_, until)) } if until <= now => {
                    Some(Self::Up { renewable, wider: None })
                }
                _ => None,
            },
        }
    }

    fn of(connector: &Connector) -> Self {
        let renewable = connector.generation();
        match &connector.state {
            ConnectorState::Created => Self::New,
            ConnectorState::Connecting(connecting) => Self::Under {
                consent: connecting.attempt.as_ref().map(setting),
                again: match connecting.before {
                    Before::Created => Again::No,
                    Before::Disconnected(_) => Again::Yes { renewable },
                },
                until: connecting.deadline.as_second(),
            },
            ConnectorState::Connected(connected) => Self::Up {
                renewable,
                wider: connected.wider.as_ref().map(|attempt| (setting(attempt), attempt.expires_at.as_second())),
            },
            ConnectorState::Disconnected(_) => Self::Down { renewable },
        }
    }
}

/// The browser of a number, the same for the same number.
fn browser(number: u8) -> String {
    format!("browser-{number}")
}

fn setting(attempt: &AuthorizationAttempt) -> Setting {
    let Some(start) = &attempt.start else { return Setting::Anywhere };
    let numbers = (0..BROWSERS).find(|number| start.browser == Some(Secret::new(browser(*number))));
    numbers.map_or(Setting::Page, Setting::Out)
}

fn from(setting: Setting, expires_at: i64) -> AuthorizationAttempt {
    match setting {
        Setting::Anywhere => attempt(expires_at),
        Setting::Page => to_start(expires_at, None),
        Setting::Out(number) => to_start(expires_at, Some(&browser(number))),
    }
}

/// As many browsers as there are in a walk.
const BROWSERS: u8 = 3;

fn event(step: &Step) -> Event {
    match *step {
        Step::Start(until) => Event::ConnectStarted { deadline: at(until) },
        Step::Auth(until, setting) => Event::AuthorizationRequired { attempt: from(setting, until) },
        Step::Wider(until, setting) => Event::WiderConsentRequired { attempt: from(setting, until) },
        Step::Bound(number) => Event::BrowserBound { browser: Secret::new(browser(number)) },
        Step::Consumed(until) => Event::AttemptConsumed { deadline: at(until) },
        Step::Established(granted) => Event::Established { grant: granted.then(|| issued(0)), server: facts() },
        Step::Renewed(of) => Event::GrantRenewed { of, grant: issued(0) },
        Step::Ended(of) => Event::GrantEnded { of, reason: revoked() },
        Step::Failed => {
            Event::Failed { reason: DisconnectReason::new(DisconnectCode::ServerError, "status 500"), recovery: None }
        }
        Step::Disconnect => Event::DisconnectRequested,
        Step::Lapsed => Event::Lapsed,
    }
}

fn step() -> impl Strategy<Value = Step> {
    // A further consent may begin in a browser that is on its way already.
    let setting = || prop_oneof![Just(Setting::Anywhere), Just(Setting::Page), (0..BROWSERS).prop_map(Setting::Out)];
    prop_oneof![
        (0..200_i64).prop_map(Step::Start),
        (0..200_i64, setting()).prop_map(|(until, from)| Step::Auth(until, from)),
        (0..200_i64, setting()).prop_map(|(until, from)| Step::Wider(until, from)),
        (0..BROWSERS).prop_map(Step::Bound),
        (0..200_i64).prop_map(Step::Consumed),
        any::<bool>().prop_map(Step::Established),
        // Generations are revisions; with so few of them, walks often meet the right one.
        (2..12_u64).prop_map(Step::Renewed),
        (2..12_u64).prop_map(Step::Ended),
        Just(Step::Failed),
        Just(Step::Disconnect),
        Just(Step::Lapsed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_walk_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..60)) {
        let mut model = Model::New;
        let mut connector = connector(ConnectorState::Created);
        for (now, step) in steps.iter().enumerate() {
            let now = i64::try_from(now).unwrap() * 3;
            let next = connector.revision.next().number().unsigned_abs();
            let expected = model.take(step, now, next);
            let found = connector.clone().apply(event(step), at(now));
            prop_assert_eq!(found.is_ok(), expected.is_some(), "{:?} at {} in {:?}", step, now, model);
            if let (Ok(transition), Some(next)) = (found, expected) {
                prop_assert_eq!(Model::of(&transition.connector), next);
                // Whatever clients see, a reason is there exactly when they see it disconnected.
                let down = transition.connector.client_state() == ClientState::Disconnected;
                prop_assert_eq!(transition.connector.disconnect_reason().is_some(), down);
                prop_assert!(transition.connector.lifecycle() != Lifecycle::Connected || !down);
                connector = transition.connector;
                connector.revision = connector.revision.next();
                model = next;
            }
        }
    }
}
