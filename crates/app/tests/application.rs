//! The service as a value in another program: it takes a free port, serves, and stops when it is told.

#![expect(clippy::unwrap_used, reason = "a test stops where its own premises fail")]

use std::io::{Read, Write};
use std::net::TcpStream;

use connectors_app::settings::{Settings, SettingsFile};
use connectors_app::{Application, StartError};
use tokio::sync::oneshot;

fn settings(directory: &std::path::Path, listen: &str) -> Settings {
    let database = format!("sqlite:{}", directory.join("connectors.db").display());
    let environment = [("SERVER__LISTEN", listen), ("DATABASE__URL", &database), ("SERVER__WORKERS", "1")];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    Settings::load(&SettingsFile::IfPresent(directory.join("connectors.toml")), environment).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_until_it_is_told_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let application = Application::build(&settings(directory.path(), "127.0.0.1:0")).await.unwrap();
    let address = application.address();
    assert_ne!(application.port(), 0);
    assert_eq!(application.url(), format!("http://{address}"));
    assert_eq!(application.public_url().as_str(), format!("http://{address}/"));

    let taken = Application::build(&settings(directory.path(), &address.to_string())).await;
    assert!(matches!(taken.err(), Some(StartError::Listen { .. })));
    let shared = Application::build(&settings(directory.path(), "127.0.0.1:0")).await;
    assert!(matches!(shared.err(), Some(StartError::Database(_))));

    let (stop, stopped) = oneshot::channel::<()>();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        stop.send(()).unwrap();
        answer
    });
    application.run_until(async { stopped.await.unwrap() }).await.unwrap();
    assert!(asked.await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(address).is_err());
}
