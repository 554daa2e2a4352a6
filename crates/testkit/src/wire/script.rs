//! Which request gets which behaviour.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{behaviour::Behaviour, reply::Reply, request::Request};

type Condition = dyn Fn(&Request) -> bool + Send + Sync;

/// A behaviour, and the requests that get it.
#[derive(Clone)]
#[must_use]
pub struct Rule {
    behaviour: Behaviour,
    conditions: Vec<Arc<Condition>>,
    skip: u64,
    times: u64,
}

/// Rules in their order: a request gets the behaviour of the first rule that takes it, else it is served.
#[derive(Clone, Debug, Default)]
pub struct Script(Vec<Rule>);

/// The rules in force.
#[derive(Debug, Default)]
pub(crate) struct Rules(Mutex<Vec<Rule>>);

impl fmt::Debug for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { behaviour, conditions, skip, times } = self;
        write!(formatter, "{behaviour:?} ({} conditions, skip {skip}, times {times})", conditions.len())
    }
}

impl Rule {
    /// Takes every request, on every path.
    pub fn new(behaviour: impl Into<Behaviour>) -> Self {
        Self { behaviour: behaviour.into(), conditions: Vec::new(), skip: 0, times: u64::MAX }
    }

    /// Takes one request: several of these are a queue.
    pub fn once(behaviour: impl Into<Behaviour>) -> Self {
        Self::new(behaviour).times(1)
    }

    /// Takes only requests for which this holds, too.
    pub fn when(mut self, condition: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// Takes only JSON-RPC messages with this method.
    pub fn on_method(self, method: impl Into<String>) -> Self {
        let method = method.into();
        self.when(move |request| request.rpc_method.as_deref() == Some(&method))
    }

    /// Takes only requests with this HTTP method.
    pub fn on_verb(self, verb: impl Into<String>) -> Self {
        let verb = verb.into();
        self.when(move |request| request.verb == verb)
    }

    /// Takes only requests on this path.
    pub fn on_path(self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.when(move |request| request.path() == path)
    }

    /// Leaves the first so many requests that it could take to later rules.
    pub fn skip(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Takes no more than so many requests.
    pub fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    fn take(&mut self, request: &Request) -> bool {
        if self.times == 0 || !self.conditions.iter().all(|condition| condition(request)) {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times -= 1;
        true
    }
}

impl Rules {
    pub(crate) fn replace(&self, script: Script) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = script.0;
    }

    pub(crate) fn add(&self, script: Script) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(script.0);
    }

    pub(crate) fn pick(&self, request: &Request) -> Behaviour {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for rule in rules.iter_mut() {
            if rule.take(request) {
                return rule.behaviour.clone();
            }
        }
        Behaviour::serve()
    }
}

impl From<Rule> for Script {
    fn from(rule: Rule) -> Self {
        Self(vec![rule])
    }
}

impl From<Behaviour> for Script {
    fn from(behaviour: Behaviour) -> Self {
        Rule::new(behaviour).into()
    }
}

impl From<Reply> for Script {
    fn from(reply: Reply) -> Self {
        Rule::new(reply).into()
    }
}

impl From<Vec<Rule>> for Script {
    fn from(rules: Vec<Rule>) -> Self {
        Self(rules)
    }
}

impl<const N: usize> From<[Rule; N]> for Script {
    fn from(rules: [Rule; N]) -> Self {
        Self(rules.into())
    }
}
