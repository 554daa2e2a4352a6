//! The decision about one class of destination.
//!
//! A resolver is told a name, neither port nor scheme, while rules have both. So destinations are divided into classes
//! within which the same rules apply: plain or not, times each port that a rule or an own endpoint names, and all the
//! other ports together. Each class has a gate, with just those rules, and a client of its own behind it.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use url::Host;

use crate::address::{Kind, canonical, kind};
use crate::allow::{AllowRule, Scheme, Target};
use crate::error::Refusal;
use crate::own::Place;
use crate::policy::Policy;

/// Names of metadata services. They resolve to link-local addresses where they work; elsewhere whoever controls the
/// search domain may point them anywhere.
const METADATA: [&str; 4] =
    ["metadata", "metadata.google.internal", "metadata.azure.internal", "instance-data.ec2.internal"];

/// A class of destination. `port` is `None` for all ports that nothing in the policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Class {
    pub(crate) plain: bool,
    pub(crate) port: Option<u16>,
}

/// The rules that apply to one [`Class`].
#[derive(Debug)]
pub(crate) struct Gate {
    plain: bool,
    loopback: bool,
    link_local: bool,
    /// Sorted.
    names: Vec<String>,
    nets: Vec<IpNet>,
    own: Vec<Place>,
}

impl Class {
    /// Every class that the policy distinguishes, sorted: bounded by twice the number of ports that it names, plus two.
    pub(crate) fn all(policy: &Policy) -> Vec<Self> {
        let ports = policy.allow.iter().map(|rule| rule.port).chain(policy.own.iter().map(|own| Some(own.port)));
        let mut classes: Vec<Self> =
            ports.chain([None]).flat_map(|port| [false, true].map(|plain| Self { plain, port })).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }

    fn has(self, rule: &AllowRule) -> bool {
        let scheme = if self.plain { Scheme::Http } else { Scheme::Https };
        rule.scheme.is_none_or(|only| only == scheme) && rule.port.is_none_or(|only| Some(only) == self.port)
    }
}

impl Gate {
    pub(crate) fn new(policy: &Policy, class: Class) -> Self {
        let mut gate = Self {
            plain: class.plain,
            loopback: policy.loopback,
            link_local: policy.link_local,
            names: Vec::new(),
            nets: Vec::new(),
            own: policy.own.iter().filter(|own| Some(own.port) == class.port).map(|own| own.place.clone()).collect(),
        };
        for rule in policy.allow.iter().filter(|rule| class.has(rule)) {
            match &rule.target {
                Target::Name(name) => gate.names.push(name.clone()),
                Target::Net(net) => gate.nets.push(*net),
            }
        }
        gate.names.sort_unstable();
        gate
    }

    /// What can be decided without the network: all about an address, and of a name what it says.
    pub(crate) fn admit(&self, host: &Host<&str>) -> Result<(), Refusal> {
        match host {
            Host::Ipv4(ip) => self.admit_address(IpAddr::V4(*ip), false),
            Host::Ipv6(ip) => self.admit_address(IpAddr::V6(*ip), false),
            Host::Domain(name) => self.admit_name(name),
        }
    }

    /// Decides about the answer to a look-up of `name`. One bad address refuses all: an answer that mixes good and bad
    /// is an attempt, and which one gets dialled is a matter of timing.
    pub(crate) fn admit_answer(&self, name: &str, answer: &[SocketAddr]) -> Result<(), Refusal> {
        let listed = self.lists(trimmed(name));
        for address in answer {
            // An address with a zone is bound to one link, whatever range it is in.
            if matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0) && !(listed && self.link_local) {
                return Err(Refusal::NotPublic);
            }
            self.admit_address(address.ip(), listed)?;
        }
        Ok(())
    }

    /// The names of own endpoints whose addresses have to be looked up and compared with those about to be dialled.
    pub(crate) fn own_names(&self) -> impl Iterator<Item = &str> {
        self.own.iter().filter_map(|place| match place {
            Place::Resolved(name) => Some(name.as_str()),
            Place::Machine | Place::Address(_) | Place::Name(_) => None,
        })
    }

    fn admit_name(&self, name: &str) -> Result<(), Refusal> {
        let name = trimmed(name);
        if name.is_empty() {
            return Err(Refusal::Host);
        }
        let listed = self.lists(name);
        let local = name == "localhost" || name.ends_with(".localhost");
        if local && !(self.loopback || listed) {
            return Err(Refusal::NotPublic);
        }
        if METADATA.contains(&name) && !(self.link_local && listed) {
            return Err(Refusal::NotPublic);
        }
        // A listed range may turn out to contain the host. That the loopback switch is on makes no other name local.
        if self.plain && !listed && self.nets.is_empty() && !(local && self.loopback) {
            return Err(Refusal::PlainHttp);
        }
        let own = self.own.iter().any(|place| match place {
            Place::Name(own) | Place::Resolved(own) => own == name,
            Place::Machine | Place::Address(_) => false,
        });
        if own { Err(Refusal::Own) } else { Ok(()) }
    }

    /// `listed`: whether a rule opens the name that resolved to the address.
    fn admit_address(&self, ip: IpAddr, listed: bool) -> Result<(), Refusal> {
        let ip = canonical(ip);
        let kind = kind(ip);
        let listed = listed || self.nets.iter().any(|net| net.contains(&ip));
        let permitted = match kind {
            Kind::Public => true,
            Kind::Loopback => listed || self.loopback,
            Kind::LinkLocal => listed && self.link_local,
            Kind::Reserved => listed,
            Kind::Unusable => false,
        };
        if !permitted {
            return Err(Refusal::NotPublic);
        }
        if self.plain && !listed && !(kind == Kind::Loopback && self.loopback) {
            return Err(Refusal::PlainHttp);
        }
        // Last, so that only those who may reach an address learn whether it is one of ours.
        if self.own.iter().any(|place| place.is_at(ip)) {
            return Err(Refusal::Own);
        }
        Ok(())
    }

    fn lists(&self, name: &str) -> bool {
        self.names.binary_search_by(|listed| listed.as_str().cmp(name)).is_ok()
    }
}

/// A name without the dots that make it absolute: `localhost.` is `localhost`.
fn trimmed(name: &str) -> &str {
    name.trim_end_matches('.')
}
