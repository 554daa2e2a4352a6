//! Logins, from the browser's beginning to the person.

use std::collections::BTreeMap;
use std::sync::Arc;

use connectors_application::ports::{Authenticator as _, Login as _, LoginAnswer, LoginError, LoginRequest};
use connectors_domain::{OwnerId, Permissions, Principal, Secret};
use connectors_identity::{Algorithm, ConfigError, LoginConfig, OidcLogin};
use connectors_testkit::authorization_server::{AuthMethod, Iss, parameter, visit};
use connectors_testkit::identity_provider::{Behaviour, Client, Endpoint, IdentityProvider, Key, KeyKind, Settings};
use connectors_testkit::{ManualClock, SeededEntropy};
use serde_json::{Value, json};
use url::Url;

use crate::support::{AUDIENCE, authenticator, egress, keys};

pub(crate) const CALLBACK: &str = "https://connectors.example/login/callback";
const ID: &str = "console";

/// A provider, and somebody who logs people in there.
pub(crate) struct Desk {
    pub(crate) provider: IdentityProvider,
    pub(crate) login: OidcLogin,
    pub(crate) clock: ManualClock,
}

pub(crate) async fn desk_with(client: Client) -> Desk {
    let clock = ManualClock::default();
    let secret = client.secret.clone().map(Secret::new);
    let builder = IdentityProvider::builder().clock(Arc::new(clock.clone())).issuer_path("/realms/one").client(client);
    let builder = keys().into_iter().fold(builder, connectors_testkit::identity_provider::Builder::key);
    let provider = builder.start().await.unwrap();
    let login = login(&provider, &clock, secret);
    Desk { provider, login, clock }
}

pub(crate) async fn desk() -> Desk {
    desk_with(Client::public(ID, CALLBACK)).await
}

fn login(provider: &IdentityProvider, clock: &ManualClock, client_secret: Option<Secret>) -> OidcLogin {
    let config = LoginConfig {
        issuer: provider.issuer().to_owned(),
        client_id: ID.to_owned(),
        client_secret,
        algorithms: Algorithm::ALL.into(),
    };
    OidcLogin::new(&egress(), Arc::new(clock.clone()), Arc::new(SeededEntropy::default()), config).unwrap()
}

impl Desk {
    pub(crate) async fn begin(&self) -> LoginRequest {
        self.login.begin(CALLBACK).await.unwrap()
    }

    /// What the browser brings back, of a person who consents.
    pub(crate) async fn answer(&self, request: &LoginRequest) -> LoginAnswer {
        let callback = visit(request.authorization_url.expose()).await.unwrap();
        assert_eq!(parameter(&callback, "state").unwrap(), request.state.expose());
        LoginAnswer {
            code: Secret::new(parameter(&callback, "code").unwrap()),
            iss: parameter(&callback, "iss"),
            nonce: request.nonce.clone(),
            verifier: request.verifier.clone(),
            redirect_uri: CALLBACK.to_owned(),
        }
    }

    async fn log_in(&self) -> Result<Principal, LoginError> {
        let request = self.begin().await;
        let answer = self.answer(&request).await;
        self.login.finish(answer).await
    }

    /// How a login ends at a provider that behaves so.
    async fn log_in_with(&self, change: impl FnOnce(&mut Settings)) -> Result<Principal, LoginError> {
        self.provider.change(change);
        self.log_in().await
    }
}

fn refused(outcome: &Result<Principal, LoginError>, reason: &'static str) {
    assert_eq!(*outcome, Err(LoginError::Refused(reason)));
}

fn unavailable(outcome: &Result<Principal, LoginError>, what: &str) {
    assert!(matches!(outcome, Err(LoginError::Unavailable(_))), "{what}: {outcome:?}");
}

fn claims<const N: usize>(members: [(&str, Value); N]) -> BTreeMap<String, Option<Value>> {
    members.map(|(name, value)| (name.to_owned(), (!value.is_null()).then_some(value))).into()
}

#[tokio::test]
async fn a_person_logs_in() {
    let desk = desk().await;
    desk.provider.change(|settings| settings.id_token = claims([("email", json!("alice@example.com"))]));
    let person = desk.log_in().await.unwrap();
    assert_eq!(person.owner, OwnerId::derive(desk.provider.issuer(), "alice"));
    assert_eq!(person.account.as_str(), "alice");
    assert_eq!(person.permissions, Permissions::own());
}

#[tokio::test]
async fn a_person_and_their_mcp_client_are_one_user() {
    let desk = desk().await;
    let person = desk.log_in().await.unwrap();
    let token = Secret::new(desk.provider.issue(&desk.provider.claims(AUDIENCE)));
    let caller = authenticator(&desk.clock, &[&desk.provider]).authenticate(&token).await.unwrap();
    assert_eq!(person.owner, caller.principal.owner);
}

#[tokio::test]
async fn the_request_has_what_protects_the_answer() {
    let desk = desk().await;
    let (one, other) = (desk.begin().await, desk.begin().await);
    let url = Url::parse(one.authorization_url.expose()).unwrap();
    let parameters: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(parameters["response_type"], "code");
    assert_eq!(parameters["client_id"], ID);
    assert_eq!(parameters["redirect_uri"], CALLBACK);
    assert_eq!(parameters["scope"], "openid profile email");
    assert_eq!(parameters["code_challenge_method"], "S256");
    assert_eq!(parameters["state"], one.state.expose());
    assert_eq!(parameters["nonce"], one.nonce.expose());
    assert!(!url.as_str().contains(one.verifier.expose()));
    for secret in [&one.state, &one.nonce, &one.verifier] {
        assert_eq!(secret.expose().len(), 43);
        for another in [&other.state, &other.nonce, &other.verifier] {
            assert_ne!(secret, another);
        }
    }
}

#[tokio::test]
async fn a_client_proves_itself_as_the_provider_wants_it() {
    for method in [AuthMethod::Basic, AuthMethod::Post] {
        let desk = desk_with(Client::confidential(ID, "s3cr:t/&", method, CALLBACK)).await;
        desk.log_in().await.unwrap_or_else(|error| panic!("{method:?}: {error}"));
        let wrong = login(&desk.provider, &desk.clock, Some(Secret::new("wrong")));
        let desk = Desk { login: wrong, ..desk };
        unavailable(&desk.log_in().await, "a wrong secret");
    }
    let desk = desk_with(Client::confidential(ID, "secret", AuthMethod::Basic, CALLBACK)).await;
    let only = claims([("token_endpoint_auth_methods_supported", json!(["private_key_jwt"]))]);
    unavailable(&desk.log_in_with(|settings| settings.metadata = only).await, "no way that is known");
}

#[tokio::test]
async fn every_algorithm_of_every_key_is_taken() {
    for algorithm in Algorithm::ALL.map(Algorithm::as_str) {
        let desk = desk().await;
        let kind = match algorithm {
            "ES256" => KeyKind::P256,
            "ES384" => KeyKind::P384,
            "EdDSA" => KeyKind::Ed25519,
            _ => KeyKind::Rsa,
        };
        let outcome = desk.log_in_with(|settings| {
            settings.id_token_key = settings.keys.iter().find(|key| key.kind() == kind).cloned();
            settings.id_token_header = claims([("alg", json!(algorithm))]);
        });
        outcome.await.unwrap_or_else(|error| panic!("{algorithm}: {error}"));
    }
}

#[tokio::test]
async fn spellings_that_providers_are_known_for_are_read() {
    let desk = desk().await;
    let odd = claims([
        ("email_verified", json!("true")),
        ("updated_at", json!("2025-12-01T00:00:00.000Z")),
        ("preferred_username", Value::Null),
        ("name", json!("Alice A.")),
        ("https://example.com/roles", json!(["admin"])),
        ("aud", json!([ID])),
        ("azp", json!(ID)),
    ]);
    let person = desk.log_in_with(|settings| settings.id_token = odd).await.unwrap();
    assert_eq!(person.account.as_str(), "Alice A.");
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_login_proves_nothing() {
    let now = 1_767_225_600;
    for (members, reason) in [
        (claims([("nonce", json!("another"))]), "the ID token answers another login"),
        (claims([("nonce", Value::Null)]), "the ID token answers another login"),
        (claims([("aud", json!("another"))]), "the ID token is for another client"),
        (claims([("aud", json!([ID, "another"]))]), "the ID token is for another client"),
        (claims([("aud", json!([]))]), "the ID token is for another client"),
        (claims([("azp", json!("another"))]), "the ID token was issued to another client"),
        (claims([("iss", json!("https://evil.example"))]), "the ID token is of another issuer"),
        (claims([("exp", json!(now - 30))]), "the ID token has expired, or is from the future"),
        (claims([("iat", json!(now + 31))]), "the ID token has expired, or is from the future"),
        (claims([("sub", json!(""))]), "the subject of the ID token is empty or too long"),
        (claims([("sub", json!("a".repeat(256)))]), "the subject of the ID token is empty or too long"),
    ] {
        refused(&desk().await.log_in_with(|settings| settings.id_token = members).await, reason);
    }
    let near = claims([("exp", json!(now - 29)), ("iat", json!(now + 30))]);
    desk().await.log_in_with(|settings| settings.id_token = near).await.unwrap();
}

#[tokio::test]
async fn an_id_token_that_is_malformed_is_no_answer() {
    for members in [
        claims([("sub", Value::Null)]),
        claims([("exp", Value::Null)]),
        claims([("exp", json!("tomorrow"))]),
        claims([("exp", json!(1e300))]),
        claims([("exp", json!(-1e300))]),
        claims([("iat", json!({}))]),
        claims([("aud", json!(7))]),
        claims([("iss", json!(["https://idp.example"]))]),
    ] {
        let desk = desk().await;
        let outcome = desk.log_in_with(|settings| settings.id_token = members.clone()).await;
        assert!(outcome.is_err(), "{members:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn an_id_token_that_is_signed_otherwise_proves_nothing() {
    let wrong = "the signature of the ID token is wrong";
    let algorithm = "the algorithm of the ID token is not one of those configured";
    for (header, key, reason) in [
        (claims([("alg", json!("none"))]), None, algorithm),
        (claims([("alg", json!("HS256"))]), None, algorithm),
        (claims([]), Some(Key::of_somebody_else(KeyKind::Rsa, "rsa")), wrong),
        (claims([("kid", Value::Null)]), Some(Key::of_somebody_else(KeyKind::Rsa, "rsa")), wrong),
    ] {
        let desk = desk().await;
        let outcome = desk.log_in_with(|settings| {
            settings.id_token_header = header;
            settings.id_token_key = key;
        });
        refused(&outcome.await, reason);
    }
    let client = Client::confidential(ID, "secret", AuthMethod::Basic, CALLBACK);
    let symmetric = claims([("alg", json!("HS256"))]);
    refused(&desk_with(client).await.log_in_with(|settings| settings.id_token_header = symmetric).await, algorithm);
    for (name, value) in [("crit", json!(["b64"])), ("typ", json!("at+jwt")), ("cty", json!("JWT"))] {
        let desk = desk().await;
        let outcome = desk.log_in_with(|settings| settings.id_token_header = claims([(name, value)]));
        refused(&outcome.await, "the ID token cannot be used");
    }
}

#[tokio::test]
async fn a_key_that_would_not_do_for_access_tokens_does_not_do_for_id_tokens() {
    let desk = desk().await;
    desk.provider.script(desk.provider.on(
        Endpoint::Keys,
        Behaviour::alter(|reply| reply.edit_json(|set| set["keys"][0]["key_ops"] = json!(["sign"]))),
    ));
    refused(&desk.log_in().await, "the provider has no such key as signed the ID token");
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_once() {
    let desk = desk().await;
    desk.log_in().await.unwrap();
    let new = Key::new(KeyKind::P256, "new");
    desk.provider.change(|settings| settings.keys = vec![new]);
    refused(&desk.log_in().await, "the provider has no such key as signed the ID token");
    desk.clock.advance(std::time::Duration::from_secs(11));
    desk.log_in().await.unwrap();
    assert_eq!(desk.provider.requests_to(Endpoint::Keys).len(), 2);
}

#[tokio::test]
async fn what_the_provider_publishes_is_kept_while_it_is_down() {
    let desk = desk().await;
    desk.login.warm().await;
    desk.provider.script(vec![
        desk.provider.on(Endpoint::Metadata, Behaviour::status(503)),
        desk.provider.on(Endpoint::Keys, Behaviour::close()),
    ]);
    for _ in 0..3 {
        desk.clock.advance(std::time::Duration::from_hours(1));
        desk.log_in().await.unwrap();
    }
}

#[tokio::test]
async fn a_provider_that_is_down_logs_nobody_in() {
    let desk = desk().await;
    desk.provider.script(desk.provider.on(Endpoint::Metadata, Behaviour::close()));
    let outcome = desk.login.begin(CALLBACK).await;
    assert!(matches!(outcome, Err(LoginError::Unavailable(_))), "{outcome:?}");
    desk.provider.behave();
    desk.clock.advance(std::time::Duration::from_secs(11));
    for behaviour in [
        Behaviour::close(),
        Behaviour::garbage(),
        Behaviour::status(502),
        Behaviour::html("<h1>Bad Gateway</h1>"),
        Behaviour::status(200),
        Behaviour::invalid_json(),
        Behaviour::oversized(2 << 20),
        Behaviour::redirect(307, "http://127.0.0.1:1/token"),
        Behaviour::without_member("id_token"),
        Behaviour::with_member("id_token", "x.y.z"),
        Behaviour::with_member("id_token", 7),
    ] {
        desk.provider.script(desk.provider.on(Endpoint::Token, behaviour.clone()));
        unavailable(&desk.log_in().await, &format!("{behaviour:?}"));
    }
    desk.provider.behave();
    for (name, value) in
        [("authorization_endpoint", json!("javascript:alert(1)")), ("authorization_endpoint", json!(1))]
    {
        let desk = crate::login::desk().await;
        desk.provider.change(|settings| settings.metadata = claims([(name, value)]));
        assert!(matches!(desk.login.begin(CALLBACK).await, Err(LoginError::Unavailable(_))));
    }
}

#[tokio::test]
async fn a_code_is_good_once_and_with_its_verifier() {
    let desk = desk().await;
    let (one, other) = (desk.begin().await, desk.begin().await);
    let answer = desk.answer(&one).await;
    let crossed = LoginAnswer { verifier: other.verifier.clone(), ..answer.clone() };
    refused(&desk.login.finish(crossed).await, "the provider does not take the code");
    let answer = desk.answer(&one).await;
    desk.login.finish(answer.clone()).await.unwrap();
    refused(&desk.login.finish(answer).await, "the provider does not take the code");
    let elsewhere = LoginAnswer { redirect_uri: "https://evil.example".to_owned(), ..desk.answer(&one).await };
    refused(&desk.login.finish(elsewhere).await, "the provider does not take the code");
}

#[tokio::test]
async fn an_answer_of_another_issuer_spends_no_code() {
    for (iss, reason) in [
        (Iss::Wrong("https://evil.example".to_owned()), "another issuer has answered"),
        (Iss::Right, "the answer does not name its issuer, as the provider promises"),
    ] {
        let desk = desk().await;
        desk.provider.change(|settings| settings.iss = iss.clone());
        let mut answer = desk.answer(&desk.begin().await).await;
        if iss == Iss::Right {
            answer.iss = None;
        }
        refused(&desk.login.finish(answer).await, reason);
        assert_eq!(desk.provider.requests_to(Endpoint::Token).len(), 0);
    }
    desk().await.log_in_with(|settings| settings.iss = Iss::Missing).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_when_it_is_said() {
    let made = |issuer: &str, client_id: &str, algorithms: Vec<Algorithm>| {
        let config =
            LoginConfig { issuer: issuer.to_owned(), client_id: client_id.to_owned(), client_secret: None, algorithms };
        let (clock, entropy) = (Arc::new(ManualClock::default()), Arc::new(SeededEntropy::default()));
        OidcLogin::new(&egress(), clock, entropy, config).map(|_| ())
    };
    assert_eq!(made("https://idp.example", ID, vec![Algorithm::Rs256]), Ok(()));
    assert_eq!(made("https://idp.example", "", vec![Algorithm::Rs256]), Err(ConfigError::NoClientId));
    assert_eq!(made("https://idp.example", ID, Vec::new()), Err(ConfigError::NoAlgorithm));
    assert_eq!(made("idp.example", ID, vec![Algorithm::Rs256]), Err(ConfigError::Issuer));
}
