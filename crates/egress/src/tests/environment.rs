//! Proxy variables, which would have another program dial in our place.
//!
//! They are read from the environment of a process, so the test runs itself again as a process that has them.

use std::process::{Command, Stdio};

use super::fixture::{Server, egress, get, loopback};

const TARGET: &str = "CONNECTORS_EGRESS_TEST_TARGET";
const THIS: &str = "tests::environment::proxy_variables_are_not_read";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxy_variables_are_not_read() {
    if let Ok(target) = std::env::var(TARGET) {
        return child(&target).await;
    }
    let (server, proxy) = (Server::canary().await, Server::canary().await);
    let address = format!("http://127.0.0.1:{}", proxy.port());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([THIS, "--exact", "--test-threads=1"]).stdout(Stdio::null());
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &address);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy").env_remove("REQUEST_METHOD");
    command.env(TARGET, format!("http://127.0.0.1:{}/", server.port()));
    let status = tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap();
    assert!(status.success());
    // One from a client that was not told to ignore the variables: they do have an effect.
    assert_eq!((server.accepts(), proxy.accepts()), (1, 1));
    assert!(proxy.heads().concat().starts_with("get http://"), "{:?}", proxy.heads());
    assert!(server.heads().concat().starts_with("get / http/1.1"), "{:?}", server.heads());
}

#[expect(clippy::disallowed_methods, reason = "the unguarded client shows that the variables are in force")]
async fn child(target: &str) {
    let response = egress(&loopback()).send(get(target)).await.unwrap();
    assert_eq!(response.status(), 200);
    let unguarded = reqwest::Client::new().get(target).send().await.unwrap();
    assert_eq!(unguarded.status(), 200);
}
