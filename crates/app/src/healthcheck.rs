//! Asks a running service whether it is alive: for containers, whose images have no other HTTP client.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the whole question may take.
const TIMEOUT: Duration = Duration::from_secs(3);

/// As much of the answer as tells its status.
const ENOUGH: usize = "HTTP/1.1 200".len();

/// The service is not known to be alive.
#[derive(Debug, Error)]
pub(crate) enum Unhealthy {
    /// The settings do not say where the service listens.
    #[error("server.listen has port 0, so where the service listens is not known; give it a port of its own")]
    NoPort,
    /// Nobody answers.
    #[error("nothing answers at {0}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// The answer took too long.
    #[error("{0} did not answer within 3 seconds")]
    TimedOut(SocketAddr),
    /// Somebody else answers, or the service with an error.
    #[error("{0} did not answer with status 200")]
    Status(SocketAddr),
}

/// Asks the service that listens on `listen`.
pub(crate) async fn healthcheck(listen: SocketAddr) -> Result<(), Unhealthy> {
    if listen.port() == 0 {
        return Err(Unhealthy::NoPort);
    }
    let address = reachable(listen);
    match timeout(TIMEOUT, ask(address)).await {
        Err(_) => Err(Unhealthy::TimedOut(address)),
        Ok(Err(error)) => Err(Unhealthy::Unreachable(address, error)),
        Ok(Ok(head)) if matches!(&head, b"HTTP/1.0 200" | b"HTTP/1.1 200") => Ok(()),
        Ok(Ok(_)) => Err(Unhealthy::Status(address)),
    }
}

/// A service that listens on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> io::Result<[u8; ENOUGH]> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; ENOUGH];
    stream.read_exact(&mut head).await?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that reads a request and answers with `answer`, or never.
    async fn server(answer: Option<&'static str>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:"));
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        address
    }

    #[tokio::test]
    async fn status_200_is_healthy_and_nothing_else_is() {
        assert!(healthcheck(server(Some("HTTP/1.1 200 OK\r\n\r\n")).await).await.is_ok());
        for answer in ["HTTP/1.1 503 x\r\n\r\n", "HTTP/2.0 200 x\r\n", "SSH-2.0-OpenSSH"] {
            let told = healthcheck(server(Some(answer)).await).await;
            assert!(matches!(told, Err(Unhealthy::Status(_))), "{answer} {told:?}");
        }
        assert!(matches!(healthcheck(server(Some("HTTP")).await).await, Err(Unhealthy::Unreachable(..))));
    }

    #[tokio::test]
    async fn nobody_there_is_unhealthy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(matches!(healthcheck(address).await, Err(Unhealthy::Unreachable(..))));
        assert!(matches!(healthcheck("127.0.0.1:0".parse().unwrap()).await, Err(Unhealthy::NoPort)));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_unhealthy_after_three_seconds() {
        let address = server(None).await;
        assert!(matches!(healthcheck(address).await, Err(Unhealthy::TimedOut(_))));
    }

    #[test]
    fn every_address_is_asked_on_loopback() {
        for (listen, expected) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("192.0.2.1:1", "192.0.2.1:1")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
