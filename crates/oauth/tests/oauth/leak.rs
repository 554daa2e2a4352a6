//! What is secret stays out of the log and out of errors, however much is logged.

use std::io::Write;
use std::sync::{Arc, Mutex};

use connectors_application::ports::{AuthorizationServer as _, PrepareRequest, RefreshRequest};
use connectors_domain::ClientCredentials;
use connectors_testkit::authorization_server::{AuthMethod, AuthorizationServer, Behaviour, Client, Ending, Endpoint};
use connectors_testkit::mcp_server::Reply;
use jiff::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::support::{
    CALLBACK, consented, issued, keyed_config, pair, public_keys, refresh_token, request, service_with,
};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// As the binary logs at most: everything of its own, and warnings of others.
#[tokio::test]
async fn nothing_secret_is_logged_or_said() {
    let kept = Kept::default();
    let writer = kept.clone();
    let filter = Targets::new().with_default(LevelFilter::WARN).with_target("connectors", LevelFilter::TRACE);
    let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(filter);
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    tracing::trace!(target: "connectors_oauth::leak", "CANARY-SEEN");

    let mut secrets = Vec::new();
    let mut said = Vec::new();
    for method in [AuthMethod::None, AuthMethod::Basic, AuthMethod::Post, AuthMethod::PrivateKey] {
        let builder = AuthorizationServer::builder().with(|settings| settings.auth_methods = vec![method]);
        let (server, mcp) = pair(builder.start().await.unwrap()).await;
        let config = keyed_config();
        let secret = matches!(method, AuthMethod::Basic | AuthMethod::Post).then(|| "CANARY-SECRET".to_owned());
        let client =
            Client { method, secret: secret.clone(), ..Client::keyed("given", public_keys(&config), CALLBACK) };
        server.add_client(client);
        let service = service_with(config);
        service.clock.set(Timestamp::from_second(server.seconds().try_into().unwrap()).unwrap());
        let client = Some(ClientCredentials::new("given".to_owned(), secret).unwrap());
        let prepared = service.prepare(PrepareRequest { client, ..request(&mcp) }).await.unwrap();
        let exchange = consented(&prepared).await;
        secrets.extend([exchange.code.expose().to_owned(), exchange.verifier.expose().to_owned()]);
        let grant = service.client.exchange(exchange.clone()).await.unwrap();
        said.push(format!("{prepared:?} {exchange:?} {grant:?}"));
        let again = service.client.exchange(exchange).await.unwrap_err();
        said.push(format!("{again:?} {again}"));

        let renewal = RefreshRequest::of(issued(&grant)).unwrap();
        let echo = Behaviour::from(
            Reply::json(format!(r#"{{"error":"{0}","error_description":"{0}"}}"#, refresh_token(&grant))).status(400),
        );
        for behaviour in [echo, Behaviour::status(503), Behaviour::gzip(), Behaviour::lost(Ending::Reset)] {
            server.script(server.once(Endpoint::Refresh, behaviour));
            let refused = service.client.refresh(renewal.clone()).await.unwrap_err();
            said.push(format!("{renewal:?} {refused:?} {refused}"));
        }
        server.script(server.on(Endpoint::Revocation, Behaviour::garbage()));
        let refused = service.client.revoke(grant.clone()).await.unwrap_err();
        said.push(format!("{refused:?} {refused} {:?}", service.client));
        secrets.extend([grant.access_token.expose().to_owned(), refresh_token(&grant).to_owned()]);
    }
    secrets.push("CANARY-SECRET".to_owned());
    secrets.push("PRIVATE KEY".to_owned());
    let (logged, said) = (kept.text(), said.concat());
    assert!(logged.contains("CANARY-SEEN"), "{logged}");
    for secret in secrets {
        assert!(secret.len() > 8);
        assert!(!logged.contains(&secret), "in the log: {secret}");
        assert!(!said.contains(&secret), "in what is said: {secret}");
    }
}
