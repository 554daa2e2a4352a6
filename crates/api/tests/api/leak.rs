//! What is secret stays out of the log, however much is logged.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{Stage, user};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The server has threads of its own, so what is kept is what the whole test program logs; the secrets here are of this test.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_logged_and_every_line_says_who_called() {
    let kept = Kept::default();
    let writer = kept.clone();
    let filter = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("connectors", LevelFilter::TRACE)
        .with_target("audit", LevelFilter::TRACE);
    let layer =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone()).with_filter(filter);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();

    let server = Stage::closed().give("canary-token", user("leaker")).start();
    let owner = user("leaker").owner.to_string();
    let id = server.create_as("canary-token", "https://consent.example.com/").await;
    let path = format!("/api/v1/connectors/{id}");
    let waiting = server.call_as("canary-token", "POST", &format!("{path}/connect"), None).await.json();
    let visit = waiting["auth_request"]["authorization_endpoint"].as_str().unwrap().to_owned();
    let ticket = visit.split_once("?ticket=").unwrap().1;
    let start = format!("{path}/oauth/start");
    server.call("GET", &format!("{start}?ticket={ticket}"), None).await;
    let form = server.request("POST", &start).header("origin", &server.url);
    let form = form.header("content-type", "application/x-www-form-urlencoded").body(format!("ticket={ticket}"));
    let browser = server.send(form).await.cookie_pair("__Host-connectors-browser");
    let back = "/api/v1/connectors/oauth/callback?state=state-0&code=canary-code";
    server.visit(back, "").await;
    server.visit(back, &browser).await;
    server.call("GET", "/api/v1/connectors?access_token=canary-query", None).await;
    server.call_as("canary-unknown", "GET", "/api/v1/connectors", None).await;
    server.send(server.request("GET", "/api/v1/connectors").header("authorization", "Basic canary-basic")).await;
    server.call("POST", "/auth/session", Some(json!({"token": "canary-unknown"}))).await;
    let signed_in = server.call("POST", "/auth/session", Some(json!({"token": "canary-token"}))).await;
    let session = signed_in.cookie_pair("__Host-connectors-session");
    server.visit("/api/v1/connectors", &format!("{session}; canary-cookie=canary-value")).await;

    let log = String::from_utf8_lossy(&kept.0.lock().unwrap()).into_owned();
    assert!(!log.contains("canary"), "{}", log.lines().find(|line| line.contains("canary")).unwrap());
    for secret in [ticket, "ticket=", browser.split_once('=').unwrap().1, &session, "state-0"] {
        assert!(!log.contains(secret), "{secret}");
    }
    for event in ["credential.refused", "authorization.refused", "connector.created", "connector.changed", "login"] {
        assert!(log.contains(&format!("event=\"{event}\"")), "{event}");
    }
    // The span of a request says whose it is, in the audit log as well.
    for said in ["answered", "connector.created"] {
        let spanned = |line: &&str| line.contains("request{") && line.contains(&format!("owner={owner}"));
        assert!(log.lines().filter(spanned).any(|line| line.contains(said)), "{said}: {log}");
    }
}
