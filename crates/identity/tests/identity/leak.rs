//! Nothing of a token stands in an error or in the log, however much is logged.

use std::io::Write;
use std::sync::{Arc, Mutex};

use connectors_application::ports::Login as _;
use connectors_testkit::authorization_server::AuthMethod;
use connectors_testkit::identity_provider::{Behaviour, Client, Endpoint, Key, KeyKind, Reply};
use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::login::{CALLBACK, desk_with};
use crate::support::warm;

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

/// Everything that anybody logs, other crates included.
fn everything(kept: &Kept) -> tracing::subscriber::DefaultGuard {
    let writer = kept.clone();
    let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone()).with_filter(LevelFilter::TRACE);
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    tracing::trace!("CANARY-SEEN");
    guard
}

fn assert_silent(kept: &Kept, said: &[String], secrets: &[String]) {
    let (logged, said) = (kept.text(), said.concat());
    assert!(logged.contains("CANARY-SEEN"), "{logged}");
    for secret in secrets {
        assert!(secret.len() > 5);
        assert!(!logged.contains(secret), "in the log: {secret}");
        assert!(!said.contains(secret), "in what is said: {secret}");
    }
}

#[tokio::test]
async fn nothing_of_a_bearer_token_is_logged_or_said() {
    let kept = Kept::default();
    let _guard = everything(&kept);
    let world = warm().await;
    world.clock.advance(std::time::Duration::from_secs(11));
    world.provider.script(world.provider.on(Endpoint::Keys, Behaviour::status(503)));
    let canaries = ["CANARY-KID", "CANARY-ISS", "CANARY-SUB", "CANARY-SCOPE", "CANARY-ALG", "CANARY-TYP"];
    let key = world.provider.key();
    let mut tokens = vec![
        world.token(),
        world.token_naming("CANARY-KID"),
        world.token_by(&Key::of_somebody_else(KeyKind::Rsa, "rsa")),
        world.token_with(|claims| claims["iss"] = json!("CANARY-ISS")),
        world.token_with(|claims| claims["sub"] = json!(["CANARY-SUB"])),
        world.token_with(|claims| claims["scope"] = json!({ "CANARY-SCOPE": 1 })),
        world.token_with(|claims| claims["exp"] = json!("CANARY-SUB")),
        key.token(&json!({ "alg": "CANARY-ALG" }), &json!({})),
        key.token(&json!({ "alg": "RS256", "typ": "CANARY-TYP" }), &json!({})),
        "CANARY-KID.CANARY-SUB.CANARY-ALG".to_owned(),
    ];
    let mut said = vec![format!("{:?}", world.authenticator)];
    for token in &tokens {
        match world.authenticate(token).await {
            Ok(authenticated) => assert!(!authenticated.principal.account.as_str().contains("CANARY")),
            Err(error) => said.push(format!("{error} {error:?}")),
        }
    }
    let parts: Vec<_> = tokens.iter().flat_map(|token| token.split('.')).map(str::to_owned).collect();
    tokens.extend(parts.into_iter().filter(|part| part.len() > 5));
    tokens.extend(canaries.map(str::to_owned));
    assert_silent(&kept, &said, &tokens);
    assert!(kept.text().contains("the keys of an issuer could not be fetched"));
}

#[tokio::test]
async fn nothing_secret_of_a_login_is_logged_or_said() {
    let kept = Kept::default();
    let _guard = everything(&kept);
    let desk = desk_with(Client::confidential("console", "CANARY-SECRET", AuthMethod::Post, CALLBACK)).await;
    let mut secrets = vec!["CANARY-SECRET".to_owned(), "CANARY-TOKEN".to_owned(), "CANARY-CLAIM".to_owned()];
    let mut said = vec![format!("{:?}", desk.login)];
    let canary = |member: &str| json!({ member: "CANARY-TOKEN" }).to_string();
    for behaviour in [
        Behaviour::serve(),
        Behaviour::status(502),
        Reply::json(canary("access_token")).into(),
        Reply::json(canary("error")).status(400).into(),
        Reply::text(400, "CANARY-TOKEN").into(),
        Behaviour::with_member("id_token", "CANARY-TOKEN.CANARY-TOKEN.CANARY-TOKEN"),
        Behaviour::close(),
    ] {
        desk.provider.script(desk.provider.on(Endpoint::Token, behaviour));
        for claim in ["nonce", "iss", "aud", "azp"] {
            let members = [(claim.to_owned(), Some(json!("CANARY-CLAIM")))].into();
            desk.provider.change(|settings| settings.id_token = members);
            let request = desk.begin().await;
            let answer = desk.answer(&request).await;
            said.push(format!("{request:?} {answer:?}"));
            secrets.extend([&request.state, &request.nonce, &request.verifier].map(|one| one.expose().to_owned()));
            secrets.push(answer.code.expose().to_owned());
            let error = desk.login.finish(answer).await.unwrap_err();
            said.push(format!("{error} {error:?}"));
        }
    }
    assert_silent(&kept, &said, &secrets);
}
