//! A server that answers from a script and counts, a DNS server that says what it is told, and short forms.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::Url;

use crate::resolver::{Answer, Lookup};
use crate::{Egress, Limits, Policy};

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nwanted";

/// What happens to a connection once the answer is written.
#[derive(Clone, Copy)]
pub(super) enum Then {
    Keep,
    Close,
    Hang,
}

/// An HTTP/1 server on a port of its own.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    accepts: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn on(address: &str, answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepts, heads) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let answer: Arc<[u8]> = answer.into().into();
        let task = tokio::spawn({
            let (accepts, heads) = (Arc::clone(&accepts), Arc::clone(&heads));
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    accepts.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream, Arc::clone(&answer), then, Arc::clone(&heads)));
                }
            }
        });
        Self { address, accepts, heads, task }
    }

    pub(super) async fn answering(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        Self::on("127.0.0.1:0", answer, then).await
    }

    /// A server that must not be reached.
    pub(super) async fn canary() -> Self {
        Self::answering(OK, Then::Keep).await
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(super) fn accepts(&self) -> usize {
        self.accepts.load(Ordering::SeqCst)
    }

    pub(super) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, answer: Arc<[u8]>, then: Then, heads: Arc<Mutex<Vec<String>>>) {
    let mut read = Vec::new();
    loop {
        while !read.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => read.push(byte),
                Err(_) => return,
            }
        }
        heads.lock().unwrap().push(String::from_utf8_lossy(&std::mem::take(&mut read)).to_ascii_lowercase());
        if stream.write_all(&answer).await.is_err() {
            return;
        }
        match then {
            Then::Keep => {}
            Then::Close => return drop(stream.shutdown().await),
            Then::Hang => std::future::pending().await,
        }
    }
}

/// Answers each name from its list, one entry a look-up, the last entry from then on. A name that is not in the table,
/// and an empty list, cannot be resolved.
pub(super) struct Names {
    table: HashMap<&'static str, Vec<Vec<SocketAddr>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(super) fn new<const N: usize>(table: [(&'static str, &[&[&str]]); N]) -> Arc<Self> {
        let parse = |text: &&str| match text.parse() {
            Ok(address) => address,
            Err(_) => SocketAddr::new(text.parse().unwrap(), 0),
        };
        let table = table
            .into_iter()
            .map(|(name, answers)| (name, answers.iter().map(|answer| answer.iter().map(parse).collect()).collect()))
            .collect();
        Arc::new(Self { table, asked: Mutex::new(Vec::new()) })
    }

    pub(super) fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }

    pub(super) fn lookup(self: &Arc<Self>) -> Lookup {
        let names = Arc::clone(self);
        Arc::new(move |name| -> Answer {
            let turn = names.asked(name);
            names.asked.lock().unwrap().push(name.to_owned());
            let answers = names.table.get(name);
            let answer = answers.and_then(|answers| answers.get(turn).or_else(|| answers.last())).cloned();
            Box::pin(std::future::ready(answer.ok_or_else(|| std::io::Error::other("NXDOMAIN from 10.53.53.53"))))
        })
    }

    pub(super) fn egress(self: &Arc<Self>, policy: &Policy) -> Egress {
        Egress::with_lookup(policy, &Limits::default(), None, self.lookup()).unwrap()
    }
}

pub(super) fn egress(policy: &Policy) -> Egress {
    Egress::new(policy, &Limits::default(), None).unwrap()
}

/// A policy with these rules.
pub(super) fn allow<S: AsRef<str>>(rules: &[S]) -> Policy {
    Policy { allow: rules.iter().map(|rule| rule.as_ref().parse().unwrap()).collect(), ..Policy::default() }
}

pub(super) fn loopback() -> Policy {
    Policy { loopback: true, ..Policy::default() }
}

pub(super) fn url(text: &str) -> Url {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

pub(super) fn get(text: &str) -> Request {
    Request::new(Method::GET, url(text))
}
