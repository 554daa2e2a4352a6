//! What the server remembers: clients, codes, and grants with their tokens. A grant is the family of all tokens that go
//! back to one consent.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Instant,
};

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{
    Rotation, Settings,
    authorize::Authorization,
    clients::{Client, Registered},
};
use crate::wire::reply::Reply;

/// What the server did. Requests that a script answered are not in here, but are among the recorded ones.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Counters {
    /// Clients registered.
    pub registrations: u64,
    /// Registrations ended by their client.
    pub deregistrations: u64,
    /// Authorization requests that were in order.
    pub authorizations: u64,
    /// Token requests with `grant_type=authorization_code`.
    pub code_requests: u64,
    /// Token requests with `grant_type=refresh_token`.
    pub refresh_requests: u64,
    /// Token requests with any other grant type, or none.
    pub other_token_requests: u64,
    /// Codes exchanged.
    pub exchanges: u64,
    /// Tokens refreshed, those within the grace window included.
    pub refreshes: u64,
    /// Refreshes with a spent refresh token within the grace window.
    pub graced: u64,
    /// Spent refresh tokens shown after the grace window; each ended its grant.
    pub reuses: u64,
    /// Codes shown a second time; each ended its grant.
    pub code_reuses: u64,
    /// Token requests that were refused.
    pub refusals: u64,
    /// Revocation requests.
    pub revocation_requests: u64,
    /// Tokens that were good, and were revoked by their client.
    pub revocations: u64,
}

/// What an access token is good for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct TokenInfo {
    /// The client that has it.
    pub client_id: String,
    /// The resource for which it is good.
    pub resource: Option<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
}

/// The tokens of a grant that a test made itself.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Issued {
    /// The access token.
    pub access_token: String,
    /// The refresh token, where the settings have one for this client.
    pub refresh_token: Option<String>,
}

/// What became of one consent: of one connector, where each has its own.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct GrantInfo {
    /// The client that has it.
    pub client_id: String,
    /// The resource for which it is good.
    pub resource: Option<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// How often it was refreshed, those within the grace window included.
    pub refreshes: u64,
    /// How often a spent refresh token of it was shown after the grace window.
    pub reuses: u64,
    /// Whether it has ended.
    pub revoked: bool,
}

#[derive(Debug)]
pub(super) struct Grant {
    pub(super) client_id: String,
    pub(super) resource: Option<String>,
    pub(super) scopes: Vec<String>,
    /// Whether the request had what refresh tokens need.
    pub(super) offline: bool,
    pub(super) refreshes: u64,
    pub(super) reuses: u64,
    pub(super) revoked: bool,
}

impl Grant {
    pub(super) fn new(client_id: String, resource: Option<String>, scopes: Vec<String>) -> Self {
        Self { client_id, resource, scopes, offline: true, refreshes: 0, reuses: 0, revoked: false }
    }

    pub(super) fn info(&self) -> GrantInfo {
        GrantInfo {
            client_id: self.client_id.clone(),
            resource: self.resource.clone(),
            scopes: self.scopes.clone(),
            refreshes: self.refreshes,
            reuses: self.reuses,
            revoked: self.revoked,
        }
    }
}

#[derive(Debug)]
pub(super) struct Code {
    pub(super) grant: usize,
    pub(super) redirect_uri: String,
    pub(super) challenge: Option<String>,
    pub(super) issued: Instant,
    pub(super) spent: bool,
}

#[derive(Debug)]
pub(super) struct Access {
    pub(super) grant: usize,
    pub(super) scopes: Vec<String>,
    pub(super) ends: Instant,
}

#[derive(Debug)]
pub(super) struct Refresh {
    pub(super) grant: usize,
    pub(super) spent: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) counters: Counters,
    pub(super) clients: HashMap<String, Registered>,
    pub(super) codes: HashMap<String, Code>,
    pub(super) grants: Vec<Grant>,
    pub(super) access: HashMap<String, Access>,
    pub(super) refresh: HashMap<String, Refresh>,
    /// The ids of client assertions that were used.
    pub(super) assertions: HashSet<String>,
    /// Browsers that wait for consent.
    pub(super) asked: Vec<(oneshot::Sender<Reply>, Authorization)>,
    names: u64,
    chance: RandomState,
}

impl State {
    pub(super) fn new(settings: Settings, clients: Vec<Client>) -> Self {
        Self {
            settings,
            counters: Counters::default(),
            clients: clients.into_iter().map(|client| (client.id.clone(), client.into())).collect(),
            codes: HashMap::new(),
            grants: Vec::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            assertions: HashSet::new(),
            asked: Vec::new(),
            names: 0,
            chance: RandomState::new(),
        }
    }

    /// A string that no other server and no other call makes: what it is, a number for the reader, and chance.
    pub(super) fn unique(&mut self, what: &str) -> String {
        self.names += 1;
        let part = |salt: u64| {
            let mut hasher = self.chance.build_hasher();
            hasher.write_u64(self.names);
            hasher.write_u64(salt);
            hasher.finish()
        };
        format!("{what}-{}-{:016x}{:016x}", self.names, part(0), part(1))
    }

    /// The grant of an access token that is good.
    pub(super) fn info(&self, token: &str) -> Option<TokenInfo> {
        let access = self.access.get(token).filter(|access| access.ends > Instant::now())?;
        let grant = self.grants.get(access.grant).filter(|grant| !grant.revoked)?;
        let (client_id, resource) = (grant.client_id.clone(), grant.resource.clone());
        Some(TokenInfo { client_id, resource, scopes: access.scopes.clone() })
    }

    /// The grant of any token that was ever issued, unless it was an access token and is revoked.
    pub(super) fn grant_of(&self, token: &str) -> Option<&Grant> {
        let access = self.access.get(token).map(|access| access.grant);
        let grant = access.or_else(|| self.refresh.get(token).map(|refresh| refresh.grant))?;
        self.grants.get(grant)
    }

    pub(super) fn revoke_grants_of(&mut self, client_id: &str) {
        for grant in self.grants.iter_mut().filter(|grant| grant.client_id == client_id) {
            grant.revoked = true;
        }
    }

    /// Whether tokens of this grant come with a refresh token.
    pub(super) fn refreshable(&self, grant: usize) -> bool {
        let grant = &self.grants[grant];
        let may = self.clients.get(&grant.client_id).is_some_and(|registered| registered.client.refresh);
        let asked = !self.settings.offline_access || grant.scopes.iter().any(|scope| scope == "offline_access");
        may && asked && grant.offline && self.settings.rotation != Rotation::Never
    }

    pub(super) fn new_access(&mut self, grant: usize, scopes: Vec<String>) -> String {
        let token = self.unique("access");
        let ends = Instant::now() + self.settings.token_lifetime;
        self.access.insert(token.clone(), Access { grant, scopes, ends });
        token
    }

    pub(super) fn new_refresh(&mut self, grant: usize) -> String {
        let token = self.unique("refresh");
        self.refresh.insert(token.clone(), Refresh { grant, spent: None });
        token
    }

    /// The answer with a new access token and this refresh token.
    pub(super) fn token_answer(&mut self, grant: usize, scopes: Vec<String>, refresh: Option<String>) -> Value {
        let scope = scopes.join(" ");
        let access = self.new_access(grant, scopes);
        let mut members = Map::new();
        let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
        put("access_token", json!(access));
        put("token_type", json!(self.settings.token_type));
        if let Some(expires_in) = self.settings.expires_in.value(self.settings.token_lifetime) {
            put("expires_in", expires_in);
        }
        if let Some(refresh) = refresh {
            put("refresh_token", json!(refresh));
        }
        if !scope.is_empty() {
            put("scope", json!(scope));
        }
        override_members(&mut members, &self.settings.token_members);
        members.into()
    }
}

/// Sets or removes members.
pub(crate) fn override_members(
    members: &mut Map<String, Value>,
    overrides: &std::collections::BTreeMap<String, Option<Value>>,
) {
    for (name, value) in overrides {
        match value {
            Some(value) => members.insert(name.clone(), value.clone()),
            None => members.remove(name),
        };
    }
}
