//! Clients that are slow on purpose. Each holds a connection for as long as it is let, and opens the next one when it was
//! cut off, so that there are always as many.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::fleet::Remote;

/// How often somebody who trickles sends a byte.
const PACE: Duration = Duration::from_secs(1);
/// How long one waits who was not let in.
const PAUSE: Duration = Duration::from_millis(200);
/// One in so many never reads. The kernel holds megabytes for each of them, which the whole machine shares.
const READERS: usize = 50;
/// More than the kernel takes off the service's hands.
const UNREAD: u64 = 64 << 20;

/// In what a client is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Manner {
    /// It connects, and sends nothing.
    Silent,
    /// The head of its first request comes byte by byte.
    Head,
    /// That of its second one does.
    LaterHead,
    /// The body of its request comes byte by byte.
    Body,
    /// It announces a body and sends none.
    NoBody,
    /// It does not read the answer.
    Unread,
}

/// Those that the service can tell from others, because they owe it something.
pub(super) const SENDERS: [Manner; 5] = [Manner::Silent, Manner::Head, Manner::LaterHead, Manner::Body, Manner::NoBody];

impl Manner {
    /// Whether the limit on bodies is the one that counts.
    pub(super) fn is_of_body(self) -> bool {
        matches!(self, Self::Body | Self::NoBody)
    }

    /// Whether the client is told why. Before a later head nobody has asked for anything.
    pub(super) fn is_told(self) -> bool {
        self != Self::LaterHead
    }
}

/// How clients of one manner were cut off.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts {
    /// How long each had its connection, from when it began to be slow.
    pub(super) after: Vec<Duration>,
    /// How many of them were answered with 408.
    pub(super) told: usize,
}

/// What became of everybody.
#[derive(Debug, Default)]
struct Tally {
    /// How many have got so far as to be slow, at least once.
    settled: usize,
    cuts: HashMap<Manner, Cuts>,
}

/// Slow clients, and clients with a stream of events. They leave when this is dropped.
pub(super) struct Crowd {
    members: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
}

impl Crowd {
    /// Opens so many slow connections and so many streams of connector `id`, and waits until all are open.
    pub(super) async fn gather(remote: &Remote, id: &str, slow: usize, streams: usize) -> anyhow::Result<Self> {
        let address: SocketAddr = remote.url.trim_start_matches("http://").parse()?;
        let mut crowd = Self { members: JoinSet::new(), tally: Arc::default() };
        for number in 0..slow {
            let manner = if number % READERS == 0 { Manner::Unread } else { SENDERS[number % SENDERS.len()] };
            let (tally, path) = (Arc::clone(&crowd.tally), format!("/api/v1/connectors/{id}/mcp"));
            crowd.members.spawn(linger(manner, address, path, tally));
            // No more at once than the kernel lets wait: it would make the others wait without a word to anybody.
            sleep(Duration::from_millis(1)).await;
        }
        for _ in 0..streams {
            let (remote, id, tally) = (remote.clone(), id.to_owned(), Arc::clone(&crowd.tally));
            crowd.members.spawn(async move {
                loop {
                    let call = remote.tool(&id, "slow", &json!({ "steps": 60, "interval_ms": 5000 }));
                    if let Ok(mut answer) = call.send().await {
                        lock(&tally).settled += 1;
                        while let Ok(Some(_)) = answer.chunk().await {}
                    }
                    sleep(PAUSE).await;
                }
            });
        }
        let start = Instant::now();
        while lock(&crowd.tally).settled < slow + streams {
            if start.elapsed() > Duration::from_mins(1) {
                bail!("only {} of {} connections came about", lock(&crowd.tally).settled, slow + streams);
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(crowd)
    }

    /// Everybody leaves; returns who was cut off before.
    pub(super) async fn disperse(mut self) -> HashMap<Manner, Cuts> {
        self.members.shutdown().await;
        std::mem::take(&mut lock(&self.tally).cuts)
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds one connection after the other.
async fn linger(manner: Manner, address: SocketAddr, path: String, tally: Arc<Mutex<Tally>>) {
    let mut settled = false;
    loop {
        let Ok((mut stream, start)) = begin(manner, address, &path).await else {
            sleep(PAUSE).await;
            continue;
        };
        if !settled {
            lock(&tally).settled += 1;
            settled = true;
        }
        if manner == Manner::Unread {
            // Whether it is cut off cannot be seen without reading.
            return std::future::pending().await;
        }
        let told = hold(&mut stream, matches!(manner, Manner::Head | Manner::LaterHead | Manner::Body)).await;
        let mut tally = lock(&tally);
        let cuts = tally.cuts.entry(manner).or_default();
        cuts.after.push(start.elapsed());
        cuts.told += usize::from(told);
    }
}

/// Opens a connection, and sends all that comes without delay. Returns also since when the service can know of what is then
/// late, at the earliest.
async fn begin(manner: Manner, address: SocketAddr, path: &str) -> anyhow::Result<(TcpStream, Instant)> {
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    let socket = TcpSocket::new_v4()?;
    if manner == Manner::Unread {
        socket.set_recv_buffer_size(4096)?;
    }
    let mut start = Instant::now();
    let mut stream = socket.connect(address).await?;
    let post = |length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nMcp-Protocol-Version: 2026-07-28\r\n\
             Mcp-Method: tools/call\r\nMcp-Name: big\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let first = match manner {
        Manner::Silent => String::new(),
        Manner::Head => format!("{HEAD}X-Slow: "),
        Manner::LaterHead => format!("{HEAD}\r\n"),
        Manner::Body => post(100_000),
        Manner::NoBody => post(100),
        Manner::Unread => {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "prove", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            let params = json!({ "name": "big", "arguments": { "bytes": UNREAD }, "_meta": meta });
            let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params }).to_string();
            format!("{}{body}", post(body.len()))
        }
    };
    stream.write_all(first.as_bytes()).await?;
    if manner == Manner::LaterHead {
        let mut read = [0; 4096];
        let length = stream.read(&mut read).await?;
        let answer = read.get(..length).context("it fits")?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            bail!("the first request was not answered");
        }
        start = Instant::now();
        stream.write_all(format!("{HEAD}X-Slow: ").as_bytes()).await?;
    }
    Ok((stream, start))
}

/// Holds the connection until the other side ends it; with `trickle`, a byte is sent now and then. Returns whether 408 was
/// answered.
async fn hold(stream: &mut TcpStream, trickle: bool) -> bool {
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    loop {
        tokio::select! {
            read = reader.read(&mut piece) => match read {
                Ok(length @ 1..) => answer.extend_from_slice(&piece[..length]),
                Ok(0) | Err(_) => break,
            },
            () = sleep(PACE), if trickle => if writer.write_all(b"x").await.is_err() {
                break;
            },
        }
    }
    // The rest of the answer before, where there was one, is no such answer.
    answer.windows(12).any(|window| window == b"HTTP/1.1 408")
}
