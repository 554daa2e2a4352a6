//! Answers of authorization servers: to a registration, a code, a refresh token and a revocation, with any status.
#![no_main]
#![expect(clippy::panic, reason = "it is how a target tells what it has found")]

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use connectors_application::ports::{ExchangeError, ExchangeRequest, RefreshError, RefreshRequest};
use connectors_domain::{
    Authority, ClientAuthentication, ClientCredentials, ClientOrigin, Grant, IssuedGrant, Issuer, OAuthClient,
    RefreshToken, Scopes, Secret,
};
use connectors_fuzz::assert_scopes;
use connectors_oauth::fuzz::{exchanged, refreshed, registration, retry_after, revoked};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const NONE: ClientAuthentication = ClientAuthentication::None;
const BASIC: ClientAuthentication = ClientAuthentication::SecretBasic;
const POST: ClientAuthentication = ClientAuthentication::SecretPost;
const KEY: ClientAuthentication = ClientAuthentication::PrivateKeyJwt;

const STATUSES: [u16; 8] = [200, 201, 302, 400, 401, 403, 429, 503];

static REQUEST: LazyLock<RefreshRequest> = LazyLock::new(|| {
    let (Ok(credentials), Ok(refresh_token)) =
        (ClientCredentials::new("id".to_owned(), None), RefreshToken::new("spent".to_owned()))
    else {
        panic!("these are values")
    };
    let authority = Authority {
        issuer: Issuer::new("https://as.example.com"),
        token_endpoint: "https://as.example.com/token".to_owned(),
        revocation_endpoint: None,
        resource: None,
        client: OAuthClient { credentials, authentication: NONE, origin: ClientOrigin::Given },
    };
    RefreshRequest { authority, refresh_token, scopes: Scopes::parse("read write") }
});

fuzz_target!(|body: &[u8]| {
    // The members of the answer, read in another way; `None` where the body is no object.
    let object: Option<Value> = serde_json::from_slice(body).ok().filter(Value::is_object);
    let said = |name: &str| object.as_ref().and_then(|object| object[name].as_str()).filter(|text| !text.is_empty());

    for (asked, offered) in [(NONE, &[NONE, POST][..]), (BASIC, &[BASIC]), (KEY, &[KEY, NONE])] {
        let Some(registered) = registration(body, asked, offered) else { continue };
        let client = registered.client;
        assert!(client.authentication == asked || offered.contains(&client.authentication));
        let secret = matches!(client.authentication, BASIC | POST);
        assert_eq!(client.credentials.secret().is_some(), secret, "a secret is there where it is used");
        assert!(secret || registered.expires_at.is_none());
        assert!(object.is_none() || said("client_id") == Some(client.credentials.id()));
    }

    for status in STATUSES.iter().filter_map(|status| StatusCode::from_u16(*status).ok()) {
        let mut response = Response::new(Bytes::copy_from_slice(body));
        *response.status_mut() = status;
        check_grants(&response, Timestamp::UNIX_EPOCH, said);
        // At both ends of what a timestamp holds, too.
        if status == StatusCode::OK {
            check_grants(&response, Timestamp::MIN, said);
            check_grants(&response, Timestamp::MAX, said);
        }
        if let Ok(ended) = revoked(&response) {
            assert!(!ended || status.is_success() || matches!(said("error"), Some("invalid_token" | "invalid_grant")));
        }
    }

    let Ok(value) = HeaderValue::from_bytes(body) else { return };
    let pause = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)]), Timestamp::UNIX_EPOCH);
    assert!(pause.is_none_or(|pause| pause <= Duration::from_hours(24)));
});

fn check_grants<'a>(response: &Response<Bytes>, asked_at: Timestamp, said: impl Fn(&str) -> Option<&'a str>) {
    let request = REQUEST.clone();
    let exchange = ExchangeRequest {
        authority: request.authority.clone(),
        code: Secret::new("code"),
        verifier: Secret::new("verifier"),
        redirect_uri: String::new(),
        scopes: request.scopes.clone(),
    };
    match exchanged(response, exchange, asked_at) {
        Ok(grant) => check(&grant, response, asked_at, None),
        Err(ExchangeError::Refused | ExchangeError::ClientRefused | ExchangeError::InvalidResponse) => {}
        Err(error) => panic!("an answer that is there is no {error:?}"),
    }
    match refreshed(response, request.clone(), asked_at) {
        Ok(grant) => check(&grant, response, asked_at, Some(&request.refresh_token)),
        // A grant ends because its authorization server says so, and for no other reason.
        Err(RefreshError::Refused) => assert!(matches!(said("error"), Some("invalid_grant" | "bad_refresh_token"))),
        Err(RefreshError::ClientRefused) => {
            assert!(matches!(said("error"), Some("invalid_client" | "unauthorized_client")));
        }
        Err(RefreshError::Passing { .. }) => {}
    }
}

fn check(grant: &Grant, response: &Response<Bytes>, asked_at: Timestamp, spent: Option<&RefreshToken>) {
    assert!(response.status().is_success());
    let Some(issued) = grant.issued() else { panic!("nobody handed this token over") };
    assert_eq!((&issued.authority, issued.generation), (&REQUEST.authority, IssuedGrant::UNSTORED));
    assert!(issued.refresh_token.is_some() || spent.is_none(), "the refresh token is lost");
    assert_scopes(&issued.scopes);
    assert!(!issued.scopes.is_empty());
    let year = asked_at.saturating_add(SignedDuration::from_hours(365 * 24)).unwrap_or(Timestamp::MAX);
    assert!(issued.expires_at.is_none_or(|end| (asked_at..=year).contains(&end)));
    if let Some(stale_at) = issued.stale_at() {
        assert!(stale_at >= asked_at);
    }
    for jitter in [0, 128, 255] {
        let due_at = issued.renewal_due_at(jitter);
        assert!(due_at.is_none_or(|due_at| due_at >= asked_at && issued.expires_at.is_some_and(|end| due_at <= end)));
    }
}
