//! An authorization server that rotates refresh tokens and judges whoever spends them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use connectors_application::ports::{RefreshError, RefreshRequest, SpentToken};
use connectors_domain::{
    AccessToken, Authority, ClientAuthentication, ClientCredentials, ClientOrigin, Grant, GrantSource, IssuedGrant,
    Issuer, OAuthClient, RefreshToken, Scopes,
};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use crate::chance::Chance;

/// What a refresh token that was spent before leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// The grant is revoked.
    Strict,
    /// The one before the last is taken once more, and leads to what it led to before.
    Grace,
}

/// How long a request to the authorization server may take, as the adapter has it.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);
/// How long an access token lives.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_mins(2);

pub(crate) struct State {
    pub(crate) strictness: Strictness,
    /// The number of the refresh token that is good.
    current: u64,
    pub(crate) revoked: bool,
    pub(crate) refreshes: usize,
    /// Tokens that were spent once more after a try of which nobody could know what came of it.
    pub(crate) excused: usize,
    /// What must never happen.
    pub(crate) violations: Vec<String>,
    /// Which requests of the living spend which token now.
    spending: HashMap<String, HashSet<u64>>,
    /// The tokens of which a spender died, or never heard an answer.
    unheard: HashMap<String, usize>,
    /// The access token that the MCP server takes no longer, and when it last said so.
    refused: Option<(String, Instant)>,
}

impl State {
    /// Whether a refresh token would be renewed.
    pub(crate) fn accepts(&self, token: &str) -> bool {
        token == name(self.current)
    }

    /// Whether the MCP server refuses an access token: clocks differ, and tokens are revoked. `again` if it would refuse
    /// one now; it does so only when every call that met the one before is over.
    pub(crate) fn refuses(&mut self, token: &str, now: Instant, again: bool) -> bool {
        let quiet = self.refused.as_ref().is_none_or(|(_, last)| now.duration_since(*last) > Duration::from_mins(1));
        if again && quiet {
            self.refused = Some((token.to_owned(), now));
        }
        match &mut self.refused {
            Some((refused, last)) if refused == token => {
                *last = now;
                true
            }
            _ => false,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Server(Arc<Mutex<State>>);

fn name(number: u64) -> String {
    format!("refresh-{number}")
}

/// The grant with the refresh token of this number.
pub(crate) fn grant(number: u64, now: Timestamp) -> Grant {
    Grant {
        access_token: AccessToken::new(format!("access-{number}")).unwrap(),
        source: GrantSource::Issued(IssuedGrant {
            authority: Authority {
                issuer: Issuer::new("https://as.example.com"),
                token_endpoint: "https://as.example.com/token".into(),
                revocation_endpoint: None,
                resource: None,
                client: OAuthClient {
                    credentials: ClientCredentials::new("client".into(), None).unwrap(),
                    authentication: ClientAuthentication::None,
                    origin: ClientOrigin::Registered,
                },
            },
            refresh_token: Some(RefreshToken::new(name(number)).unwrap()),
            obtained_at: now,
            expires_at: Some(now + TOKEN_LIFE),
            scopes: Scopes::default(),
            generation: IssuedGrant::UNSTORED,
            step_ups: 0,
        }),
    }
}

impl Server {
    pub(crate) fn new(strictness: Strictness) -> Self {
        Self(Arc::new(Mutex::new(State {
            strictness,
            current: 0,
            revoked: false,
            refreshes: 0,
            excused: 0,
            violations: Vec::new(),
            spending: HashMap::new(),
            unheard: HashMap::new(),
            refused: None,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A replica has died: what it was spending is unheard of.
    pub(crate) fn forget(&self, spent: &[(String, u64)]) {
        let mut state = self.lock();
        for (token, request) in spent {
            *state.unheard.entry(token.clone()).or_default() += 1;
            state.spending.entry(token.clone()).or_default().remove(request);
        }
    }

    /// One request, as a replica's adapter sees it.
    pub(crate) async fn refresh(
        &self,
        request: RefreshRequest,
        number: u64,
        chance: Chance,
        calm: bool,
        now: impl Fn() -> Timestamp,
    ) -> Result<Grant, RefreshError> {
        let token = request.refresh_token.expose().to_owned();
        let asked_at = now();
        {
            let mut state = self.lock();
            let spenders = state.spending.entry(token.clone()).or_default();
            spenders.insert(number);
            let spenders = spenders.len();
            if spenders > 1 {
                state.violations.push(format!("{token} is spent by {spenders} at once"));
            }
        }
        let there = chance.up_to(Duration::from_secs(3));
        sleep(there).await;
        if !calm && chance.one_in(8) {
            // It is away, or wants to be left alone: it has not looked at the token.
            self.heard(&token, number);
            return Err(passing(SpentToken::No));
        }
        let answer = self.commit(&token, asked_at);
        // An answer that comes too late, or not at all, leaves it open what the token is worth.
        let back = if !calm && chance.one_in(8) { REQUEST } else { chance.up_to(Duration::from_secs(3)) };
        if there + back > REQUEST {
            sleep(REQUEST.saturating_sub(there)).await;
            self.heard(&token, number);
            *self.lock().unheard.entry(token).or_default() += 1;
            return Err(passing(SpentToken::Perhaps));
        }
        sleep(back).await;
        self.heard(&token, number);
        answer
    }

    fn heard(&self, token: &str, number: u64) {
        self.lock().spending.entry(token.to_owned()).or_default().remove(&number);
    }

    fn commit(&self, token: &str, now: Timestamp) -> Result<Grant, RefreshError> {
        let mut state = self.lock();
        if state.revoked {
            return Err(RefreshError::Refused);
        }
        if token == name(state.current) {
            state.current += 1;
            state.refreshes += 1;
            return Ok(grant(state.current, now));
        }
        // Spent before: that must have a reason.
        if state.unheard.get(token).copied().unwrap_or(0) == 0 {
            state.violations.push(format!("{token} is spent again for no reason"));
        }
        state.excused += 1;
        if state.strictness == Strictness::Grace && state.current > 0 && token == name(state.current - 1) {
            return Ok(grant(state.current, now));
        }
        state.revoked = true;
        Err(RefreshError::Refused)
    }
}

fn passing(spent: SpentToken) -> RefreshError {
    RefreshError::Passing { what: "it is away", spent, retry_after: None }
}
