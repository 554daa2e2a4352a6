//! The service as one value: built from settings, then run until it is told to stop.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use connectors_egress::BuildError;
use connectors_identity::ConfigError;
use connectors_storage::OpenError;
use thiserror::Error;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use url::Url;

use crate::settings::{Settings, SettingsError};
use crate::wiring::{self, Parts};

/// Connections that may wait to be accepted. The standard library's listener has 128, and a thousand clients that come back
/// at once, after a restart of this service or of a proxy before it, would be turned away for seconds.
const BACKLOG: u32 = 1024;

/// The service, listening, with its database open.
pub struct Application {
    parts: Parts,
    public_url: Url,
    shutdown_timeout: Duration,
}

/// The service did not start. The texts are for the operator.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings are wrong in a way that shows only now.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The address cannot be listened on.
    #[error("server.listen: {address} cannot be listened on")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The certificates in `egress.ca_file` cannot be used.
    #[error("egress.ca_file: {} cannot be used", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The way out cannot be set up.
    #[error("the way out to servers cannot be set up")]
    Egress(#[source] BuildError),
    /// The identity providers cannot be asked.
    #[error("auth.issuers cannot be used")]
    Identity(#[source] ConfigError),
    /// The server failed.
    #[error("the HTTP server failed")]
    Server(#[source] io::Error),
}

impl Application {
    /// Begins to listen, opens the database, and puts the parts together.
    ///
    /// It must be called on a tokio runtime with several threads.
    pub async fn build(settings: &Settings) -> Result<Self, StartError> {
        // First of all, so that a second start on the same address fails before it touches anything.
        let listen = settings.server.listen;
        let listener = listener(listen).map_err(|source| StartError::Listen { address: listen, source })?;
        let public_url = settings.public_url(listener.local_addr().map_err(StartError::Server)?)?;
        let parts = wiring::parts(settings, listener, public_url.clone()).await?;
        Ok(Self { parts, public_url, shutdown_timeout: settings.server.shutdown_timeout })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.parts.server.address()
    }

    /// The port on which it listens.
    pub const fn port(&self) -> u16 {
        self.address().port()
    }

    /// Its address as a URL, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// What browsers and authorization servers see of it.
    pub const fn public_url(&self) -> &Url {
        &self.public_url
    }

    /// Serves until `shutdown` resolves; then begins nothing more by itself, takes no more connections, lets requests and
    /// renewals end that are under way, and returns after `server.shutdown_timeout` at the latest.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let Parts { server, service, keeper, store } = self.parts;
        let (tell, told) = oneshot::channel();
        let mut background = JoinSet::new();
        background.spawn(async move { keeper.run().await });
        background.spawn({
            let service = service.clone();
            async move { service.follow_changes().await }
        });
        background.spawn(async move { wiring::reseal(&store).await });
        let serving = async {
            server
                .run(async {
                    shutdown.await;
                    background.abort_all();
                    service.stop();
                    // The receiver lives as long as this future does.
                    let _ = tell.send(());
                })
                .await?;
            // A refresh token that is spent is lost with what it brings, unless that is stored.
            service.renewals_settled().await;
            Ok(())
        };
        let overdue = async {
            if told.await.is_err() {
                return std::future::pending().await;
            }
            tokio::time::sleep(self.shutdown_timeout).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(StartError::Server),
            () = overdue => {
                tracing::warn!("some requests or renewals did not end in time and were cut off");
                Ok(())
            }
        }
    }
}

/// Listens as the standard library would, with a [`BACKLOG`] of its own.
fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // So that a restart need not wait for the connections of the process before. On Windows it means another thing.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)?.into_std()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn hundreds_of_clients_may_wait_to_be_accepted() {
        let listener = listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let start = Instant::now();
        let mut waiting = Vec::new();
        for _ in 0..400 {
            waiting.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        // Whom the kernel turns away tries again after a second.
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}
