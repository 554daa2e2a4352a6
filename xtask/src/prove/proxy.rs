//! A network between the service and another server that can be cut, hang and come back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// They lead to the server.
    Up,
    /// Those that are open end, and new ones are closed at once.
    Cut,
    /// Nothing is passed on. When that is over, the connections of that time end.
    Hanging,
}

/// Listens in the place of a server.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    network: watch::Sender<Network>,
    held: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(super) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let network = watch::Sender::new(Network::Up);
        let held = Arc::new(AtomicUsize::new(0));
        let (follow, holding) = (network.subscribe(), Arc::clone(&held));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                connections.spawn(pass(client, target, follow.clone(), Arc::clone(&holding)));
            }
        });
        Ok(Self { address, network, held, accepting })
    }

    pub(super) fn set(&self, network: Network) {
        self.network.send_replace(network);
    }

    /// How many connections hold something that is not passed on.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(client: TcpStream, target: SocketAddr, mut network: watch::Receiver<Network>, held: Arc<AtomicUsize>) {
    let mut client = client;
    let now = *network.borrow_and_update();
    if now == Network::Up {
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        tokio::select! {
            // Whatever becomes of one connection is its two ends' business.
            _ = copy_bidirectional(&mut client, &mut server) => return,
            _ = network.changed() => {}
        }
        if *network.borrow_and_update() == Network::Hanging {
            // Both ends stay open.
            hang(&client, &mut network, &held).await;
        }
    } else if now == Network::Hanging {
        hang(&client, &mut network, &held).await;
    }
}

async fn hang(client: &TcpStream, network: &mut watch::Receiver<Network>, held: &AtomicUsize) {
    let mut byte = [0];
    let over = async { network.wait_for(|network| *network != Network::Hanging).await.map(drop) };
    tokio::pin!(over);
    tokio::select! {
        peeked = client.peek(&mut byte) => {
            if peeked.is_ok_and(|count| count > 0) {
                held.fetch_add(1, Ordering::SeqCst);
                let _ = over.await;
                held.fetch_sub(1, Ordering::SeqCst);
            } else {
                let _ = tokio::time::timeout(Duration::ZERO, over).await;
            }
        }
        _ = &mut over => {}
    }
}
