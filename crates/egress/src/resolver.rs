//! The resolver that hands out judged addresses only.
//!
//! It sees names, never IP literals, which the HTTP client dials without asking a resolver. Those are judged before the
//! request is handed to the client.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::Semaphore;

use crate::address::canonical;
use crate::error::{Refusal, Unresolved};
use crate::gate::Gate;

/// How names become addresses. A function, so that tests can play a DNS server that lies.
pub(crate) type Lookup = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

pub(crate) type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The resolver behind one gate.
pub(crate) struct GuardedResolver {
    gate: Arc<Gate>,
    lookup: Lookup,
}

impl GuardedResolver {
    pub(crate) fn new(gate: Arc<Gate>, lookup: Lookup) -> Self {
        Self { gate, lookup }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (gate, lookup) = (Arc::clone(&self.gate), Arc::clone(&self.lookup));
        Box::pin(async move {
            let name = name.as_str();
            let answer = match lookup(name).await {
                Ok(answer) if !answer.is_empty() => answer,
                Ok(_) => return Err(Unresolved.into()),
                Err(error) => {
                    tracing::debug!(name, %error, "look-up failed");
                    return Err(Unresolved.into());
                }
            };
            if let Err(refusal) = gate.admit_answer(name, &answer) {
                // The one place that knows the addresses. They are for the operator, not for whoever asked.
                tracing::debug!(name, ?answer, ?refusal, "refused to dial");
                return Err(refusal.into());
            }
            refuse_backends(&gate, &lookup, answer.iter().map(SocketAddr::ip)).await?;
            // Port 0 lets the client put in the port of the URL. What is dialled is the form that was judged.
            let judged = answer.into_iter().map(|address| match address {
                SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                    let mut zoned = v6;
                    zoned.set_port(0);
                    SocketAddr::V6(zoned)
                }
                other => SocketAddr::new(canonical(other.ip()), 0),
            });
            Ok(Box::new(judged) as Addrs)
        })
    }
}

/// Refuses `addresses` if one is an address of an own endpoint that is known by name. Compared anew each time, for such
/// an endpoint moves; refused also when its name cannot be looked up, since then nothing can be ruled out.
pub(crate) async fn refuse_backends(
    gate: &Gate,
    lookup: &Lookup,
    addresses: impl Iterator<Item = IpAddr> + Clone,
) -> Result<(), Refusal> {
    for name in gate.own_names() {
        let Ok(own) = lookup(name).await else { return Err(Refusal::Own) };
        let same = |ip: IpAddr| own.iter().any(|own| canonical(own.ip()) == canonical(ip));
        if own.is_empty() || addresses.clone().any(same) {
            return Err(Refusal::Own);
        }
    }
    Ok(())
}

/// Asks the resolver of the operating system, `/etc/hosts` and search domains included, at most `limit` times at once.
pub(crate) fn system_lookup(limit: usize) -> Lookup {
    let permits = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
    Arc::new(move |name| {
        let (name, permits) = (name.to_owned(), Arc::clone(&permits));
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            tokio::task::spawn_blocking(move || {
                // Given back by the thread, not by the caller: the thread is what is scarce, and it stays.
                let _permit = permit;
                Ok((name.as_str(), 0).to_socket_addrs()?.collect())
            })
            .await
            .map_err(io::Error::other)?
        })
    })
}
