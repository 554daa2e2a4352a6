//! Every place in which a server can name an address, with every spelling of an address that must not be reached. The
//! policy is that of a network: nothing that is not public is open, but for the server of the test itself.

use connectors_application::ports::{
    AuthorizationServer as _, ExchangeError, ExchangeRequest, PrepareError, PrepareRequest, Prepared, RefreshError,
    RefreshRequest, RevokeError, SpentToken,
};
use connectors_domain::{
    AccessToken, Authority, Grant, GrantSource, IssuedGrant, RefreshToken, Scopes, Secret, ServerUrl,
};
use connectors_egress::Policy;
use connectors_testkit::mcp_server::{McpServer, Reply};
use connectors_testkit::spellings::{Canary, table};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{
    AS, CALLBACK, PRM, Service, bare, challenged, config, document, metadata, request, service_under,
};

/// The statuses of redirects, those included that nobody should follow.
const REDIRECTS: [u16; 8] = [300, 301, 302, 303, 305, 306, 307, 308];

/// A hostile server, the listener that it would like to be reached, and the service.
struct Scene {
    server: McpServer,
    canary: Canary,
    service: Service,
}

impl Scene {
    async fn set() -> Self {
        let (server, canary) = (bare().await, Canary::start().await.unwrap());
        let allow = vec![server.address().to_string().parse().unwrap()];
        // Not where it would be looked for if nothing were published.
        server.route("/clients", Reply::json(r#"{"client_id":"registered"}"#).status(201));
        Self { service: service_under(&Policy { allow, ..Policy::default() }, config()), server, canary }
    }

    /// Every spelling, with a number of its own.
    fn spellings(&self) -> impl Iterator<Item = (usize, String)> + use<> {
        table(self.canary.port()).into_iter().enumerate()
    }

    /// Publishes resource metadata of the MCP server with this number.
    fn resource(&self, number: usize, issuers: &Value) -> PrepareRequest {
        let url = format!("{}/s{number}", self.server.origin());
        let metadata = json!({ "resource": url, "authorization_servers": issuers });
        self.server.route(format!("{PRM}/s{number}"), document(&metadata));
        PrepareRequest { url: ServerUrl::parse(&url).unwrap(), ..request(&self.server) }
    }

    /// Publishes the metadata of an authorization server with this number as well.
    fn authority(&self, number: usize, change: impl FnOnce(&mut Value)) -> PrepareRequest {
        let issuer = format!("{}/i{number}", self.server.origin());
        let mut value = metadata(&self.server.origin());
        value["issuer"] = issuer.clone().into();
        value["registration_endpoint"] = format!("{}/clients", self.server.origin()).into();
        change(&mut value);
        self.server.route(format!("{AS}/i{number}"), document(&value));
        self.resource(number, &json!([issuer]))
    }

    fn redirect(number: usize, to: &str) -> Reply {
        Reply::text(REDIRECTS[number % REDIRECTS.len()], "moved").header("location", to)
    }

    /// Makes an authorization request out of an honest server's metadata.
    async fn prepared(&self) -> Prepared {
        let honest = self.authority(usize::MAX, |_| {});
        self.service.prepare(honest).await.unwrap()
    }

    /// No authorization request comes of this, and that is told as what it is: nothing was dialled, nothing waited for.
    async fn refused(&self, request: PrepareRequest, spelling: &str) {
        let told = match self.service.prepare(request).await {
            Ok(prepared) => panic!("{spelling:?}: {}", prepared.authorization_url.expose()),
            Err(PrepareError::Unreachable | PrepareError::TimedOut | PrepareError::Store(_)) => {
                panic!("{spelling:?} was dialled")
            }
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(spelling.len() < 8 || !told.contains(spelling), "{spelling:?} is told: {told}");
    }

    fn posts(&self) -> usize {
        self.server.requests().iter().filter(|request| request.verb == "POST").count()
    }

    async fn nothing_was_reached(&self) {
        assert_eq!(self.canary.connections().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_challenge_leads_nowhere_inside() {
    let scene = Scene::set().await;
    for (_, spelling) in scene.spellings() {
        let challenge = format!("Bearer resource_metadata=\"{}\"", spelling.replace('\\', "\\\\"));
        scene.refused(challenged(&scene.server, &challenge), &spelling).await;
    }
    assert_eq!(scene.server.request_count(), 0);
    // Without quotes, a comma or a space ends the address, and nothing at all is no parameter.
    for (_, spelling) in scene.spellings() {
        let challenge = format!("Bearer resource_metadata={spelling}");
        scene.refused(challenged(&scene.server, &challenge), &spelling).await;
    }
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn resource_metadata_leads_nowhere_inside() {
    let scene = Scene::set().await;
    for (number, spelling) in scene.spellings() {
        scene.refused(scene.resource(number, &json!([spelling, spelling])), &spelling).await;
    }
    assert_eq!(scene.posts(), 0);
    // Beside a server that can be used, it is passed over.
    for (number, spelling) in scene.spellings() {
        let issuer = format!("{}/i{number}", scene.server.origin());
        scene.authority(number, |_| {});
        let request = scene.resource(number, &json!([spelling, issuer]));
        assert_eq!(scene.service.prepare(request).await.unwrap().authority.issuer.as_str(), issuer);
    }
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn an_issuer_that_names_itself_otherwise_is_not_believed() {
    let scene = Scene::set().await;
    for (number, spelling) in scene.spellings() {
        let request = scene.authority(number, |metadata| metadata["issuer"] = spelling.clone().into());
        scene.refused(request, &spelling).await;
    }
    assert_eq!(scene.posts(), 0);
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn no_endpoint_of_an_authorization_server_lies_inside() {
    for member in ["authorization_endpoint", "token_endpoint", "registration_endpoint"] {
        let scene = Scene::set().await;
        for (number, spelling) in scene.spellings() {
            let request = scene.authority(number, |metadata| metadata[member] = spelling.clone().into());
            scene.refused(request, &spelling).await;
        }
        assert_eq!(scene.posts(), 0, "{member}");
        scene.nothing_was_reached().await;
    }
}

#[tokio::test]
async fn what_is_of_no_use_is_not_asked_for() {
    const MEMBERS: [&str; 12] = [
        "revocation_endpoint",
        "introspection_endpoint",
        "jwks_uri",
        "userinfo_endpoint",
        "end_session_endpoint",
        "pushed_authorization_request_endpoint",
        "device_authorization_endpoint",
        "backchannel_authentication_endpoint",
        "service_documentation",
        "op_policy_uri",
        "op_tos_uri",
        "signed_metadata",
    ];
    let scene = Scene::set().await;
    for (number, spelling) in scene.spellings() {
        // Nor are the addresses in the answer to a registration.
        let client = json!({
            "client_id": "registered",
            "registration_access_token": "token",
            "registration_client_uri": spelling,
            "client_uri": spelling,
            "jwks_uri": spelling,
            "logo_uri": spelling,
        });
        let registered = document(&client).status(201).header("location", &spelling);
        scene.server.route(format!("/r{number}"), registered);
        let register = format!("{}/r{number}", scene.server.origin());
        let request = scene.authority(number, |metadata| {
            for member in MEMBERS {
                metadata[member] = spelling.clone().into();
            }
            metadata["mtls_endpoint_aliases"] = json!({ "token_endpoint": spelling, "revocation_endpoint": spelling });
            metadata["registration_endpoint"] = register.into();
        });
        match scene.service.prepare(request).await {
            Ok(prepared) => assert_eq!(prepared.authority.revocation_endpoint, None, "{spelling:?}"),
            // What no header field can hold has torn the answer to pieces.
            Err(error) => {
                let torn = spelling.contains(['\n', '\0']);
                assert!(torn && matches!(error, PrepareError::RegistrationFailed), "{spelling:?}: {error}");
            }
        }
    }
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn no_redirect_of_metadata_or_registration_is_followed() {
    let scene = Scene::set().await;
    for (number, spelling) in scene.spellings() {
        let resource = scene.resource(number, &json!([]));
        scene.server.route(format!("{PRM}/s{number}"), Scene::redirect(number, &spelling));
        scene.refused(resource, &spelling).await;
    }
    scene.server.clear_requests();
    for (number, spelling) in scene.spellings() {
        let server = scene.authority(number, |_| {});
        scene.server.route(format!("{AS}/i{number}"), Scene::redirect(number, &spelling));
        scene.refused(server, &spelling).await;
    }
    assert_eq!(scene.posts(), 0);
    for (number, spelling) in scene.spellings() {
        let register = format!("{}/r{number}", scene.server.origin());
        scene.server.route(format!("/r{number}"), Scene::redirect(number, &spelling));
        let request = scene.authority(number, |metadata| metadata["registration_endpoint"] = register.into());
        scene.refused(request, &spelling).await;
    }
    scene.nothing_was_reached().await;
}

fn exchange(authority: Authority, prepared: &Prepared) -> ExchangeRequest {
    ExchangeRequest {
        authority,
        code: Secret::new("code"),
        verifier: prepared.verifier.clone(),
        redirect_uri: CALLBACK.to_owned(),
        scopes: Scopes::default(),
    }
}

fn refresh(authority: Authority) -> RefreshRequest {
    RefreshRequest {
        authority,
        refresh_token: RefreshToken::new("token".to_owned()).unwrap(),
        scopes: Scopes::default(),
    }
}

fn grant(authority: Authority) -> Grant {
    let issued = IssuedGrant {
        authority,
        refresh_token: Some(RefreshToken::new("token".to_owned()).unwrap()),
        obtained_at: Timestamp::UNIX_EPOCH,
        expires_at: None,
        scopes: Scopes::default(),
        generation: IssuedGrant::UNSTORED,
        step_ups: 0,
    };
    Grant { access_token: AccessToken::new("token".to_owned()).unwrap(), source: GrantSource::Issued(issued) }
}

/// An endpoint that was recorded under another policy, or by somebody who can write rows, is judged anew when it is
/// dialled.
#[tokio::test]
async fn an_endpoint_that_was_recorded_is_judged_when_it_is_dialled() {
    let scene = Scene::set().await;
    let prepared = scene.prepared().await;
    scene.server.clear_requests();
    for (_, spelling) in scene.spellings() {
        let authority = Authority {
            token_endpoint: spelling.clone(),
            revocation_endpoint: Some(spelling.clone()),
            ..prepared.authority.clone()
        };
        let exchanged = scene.service.client.exchange(exchange(authority.clone(), &prepared)).await.unwrap_err();
        assert!(
            matches!(exchanged, ExchangeError::AddressRefused(_) | ExchangeError::InvalidResponse),
            "{spelling:?}: {exchanged}"
        );
        match scene.service.client.refresh(refresh(authority.clone())).await.unwrap_err() {
            RefreshError::Passing { what, spent: SpentToken::No, .. } => assert!(
                ["its token endpoint is no address that can be used", "this service may not call its token endpoint"]
                    .contains(&what),
                "{spelling:?}: {what}"
            ),
            error => panic!("{spelling:?}: {error:?}"),
        }
        let RevokeError(what) = scene.service.client.revoke(grant(authority)).await.unwrap_err();
        assert!(
            [
                "its revocation endpoint is no address that can be used",
                "this service may not call its revocation endpoint"
            ]
            .contains(&what),
            "{spelling:?}: {what}"
        );
    }
    assert_eq!(scene.server.request_count(), 0);
    scene.nothing_was_reached().await;
}

#[tokio::test]
async fn no_redirect_of_a_code_or_a_token_is_followed() {
    let scene = Scene::set().await;
    let prepared = scene.prepared().await;
    scene.server.clear_requests();
    let mut asked = 0;
    for (number, spelling) in scene.spellings() {
        let endpoint = format!("{}/t{number}", scene.server.origin());
        scene.server.route(format!("/t{number}"), Scene::redirect(number, &spelling));
        let authority = Authority {
            token_endpoint: endpoint.clone(),
            revocation_endpoint: Some(endpoint),
            ..prepared.authority.clone()
        };
        let exchanged = scene.service.client.exchange(exchange(authority.clone(), &prepared)).await;
        assert_eq!(exchanged, Err(ExchangeError::InvalidResponse), "{spelling:?}");
        let refreshed = scene.service.client.refresh(refresh(authority.clone())).await;
        assert!(
            matches!(refreshed, Err(RefreshError::Passing { spent: SpentToken::Perhaps, .. })),
            "{spelling:?}: {refreshed:?}"
        );
        let RevokeError(what) = scene.service.client.revoke(grant(authority)).await.unwrap_err();
        assert!(!what.contains("reached") && !what.contains("in time"), "{spelling:?}: {what}");
        asked += 3;
    }
    // Each once, and never again elsewhere: the code and the tokens went to the endpoint alone.
    assert_eq!(scene.server.request_count(), asked);
    scene.nothing_was_reached().await;
}
