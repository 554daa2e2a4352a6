//! From a challenge to an authorization server.

use std::time::{Duration, Instant};

use connectors_application::ports::{AuthorizationServer as _, PrepareError, PrepareRequest};
use connectors_domain::{ClientAuthentication, Issuer, Quirks};
use connectors_testkit::mcp_server::{Behaviour, Ending, McpServer, Reply};
use serde_json::{Value, json};

use crate::support::{
    AS, OPENID, PRM, bare, challenged, config, count, document, given, metadata, parameters, paths, protected,
    protected_with, request, service, service_with,
};

#[tokio::test]
async fn the_place_that_the_challenge_names_comes_first() {
    let server = protected().await;
    let origin = server.origin();
    server.route("/here", document(&json!({ "resource": origin, "authorization_servers": [origin] })));
    let challenge = format!("Bearer resource_metadata=\"{origin}/here\"");
    let prepared = service().prepare(challenged(&server, &challenge)).await.unwrap();
    assert_eq!(paths(&server), ["/here", AS, "/register"]);
    // As the metadata spells it: no slash was added.
    assert_eq!(prepared.authority.resource.as_deref(), Some(origin.as_str()));
    assert_eq!(prepared.authority.issuer, Issuer::new(origin));
}

#[tokio::test]
async fn the_well_known_places_follow_in_order() {
    let server = protected().await;
    let origin = server.origin();
    server.route(format!("{PRM}/mcp"), Reply::html("<html>"));
    server.route(PRM, document(&json!({ "resource": origin, "authorization_servers": [origin] })));
    let challenge = format!("Bearer resource_metadata=\"{origin}/gone\"");
    service().prepare(challenged(&server, &challenge)).await.unwrap();
    let expected = ["/gone".to_owned(), format!("{PRM}/mcp"), PRM.to_owned()];
    assert_eq!(paths(&server)[..3], expected);
}

#[tokio::test]
async fn metadata_of_the_server_that_breaks_the_rules_ends_the_search() {
    for change in [
        json!({ "resource": "https://evil.example/mcp" }),
        json!({ "resource": null }),
        json!({ "resource": ["x"] }),
        json!({ "authorization_servers": "text" }),
        json!({ "authorization_servers": ["javascript:alert(1)"] }),
        json!({ "authorization_servers": [7] }),
        json!({ "authorization_servers": ["https://u:p@as.example"] }),
        json!({ "authorization_servers": ["https://as.example/#x"] }),
        json!({ "authorization_servers": ["https://as.example/?x"] }),
    ] {
        let server = protected().await;
        let origin = server.origin();
        let mut value = json!({ "resource": origin, "authorization_servers": [origin] });
        for (name, member) in change.as_object().unwrap() {
            value[name] = member.clone();
        }
        server.route(format!("{PRM}/mcp"), document(&value));
        let refused = service().prepare(request(&server)).await.unwrap_err();
        assert!(matches!(refused, PrepareError::InvalidMetadata(_)), "{change}: {refused}");
        assert_eq!(paths(&server), [format!("{PRM}/mcp")], "{change}");
    }
}

#[tokio::test]
async fn inner_addresses_are_refused_before_they_are_dialled() {
    let inner = "http://169.254.169.254/latest/api/token";
    let server = protected().await;
    server
        .route(format!("{PRM}/mcp"), document(&json!({ "resource": server.url(), "authorization_servers": [inner] })));
    assert!(matches!(service().prepare(request(&server)).await, Err(PrepareError::AddressRefused(_))));
    for member in ["authorization_endpoint", "token_endpoint", "registration_endpoint"] {
        for address in [inner, "http://10.0.0.1/", "https://[fd00::1]/", "http://as.example/"] {
            let server = protected_with(|metadata| metadata[member] = address.into()).await;
            let refused = service().prepare(request(&server)).await.unwrap_err();
            assert!(matches!(refused, PrepareError::AddressRefused(_)), "{member} {address}: {refused}");
        }
    }
}

#[tokio::test]
async fn metadata_on_another_origin_is_not_asked_for() {
    let (server, other) = (protected().await, bare().await);
    let challenge = format!("Bearer resource_metadata=\"{}/x\"", other.origin());
    let refused = service().prepare(challenged(&server, &challenge)).await.unwrap_err();
    assert!(matches!(refused, PrepareError::InvalidMetadata(_)));
    assert_eq!(server.request_count() + other.request_count(), 0);
}

#[tokio::test]
async fn an_issuer_with_a_path_has_three_places() {
    let server = protected().await;
    let issuer = format!("{}/tenant", server.origin());
    server
        .route(format!("{PRM}/mcp"), document(&json!({ "resource": server.url(), "authorization_servers": [issuer] })));
    let mut value = metadata(&server.origin());
    value["issuer"] = issuer.clone().into();
    server.route(format!("/tenant{OPENID}"), document(&value));
    let prepared = service().prepare(request(&server)).await.unwrap();
    assert_eq!(prepared.authority.issuer.as_str(), issuer);
    let expected = [format!("{AS}/tenant"), format!("{OPENID}/tenant"), format!("/tenant{OPENID}")];
    assert_eq!(paths(&server)[1..4], expected);
}

#[tokio::test]
async fn another_issuer_is_not_used_unless_a_preset_trusts_it() {
    let server =
        protected_with(|metadata| metadata["issuer"] = format!("{}/", metadata["issuer"].as_str().unwrap()).into())
            .await;
    let refused = service().prepare(request(&server)).await.unwrap_err();
    assert!(matches!(refused, PrepareError::InvalidMetadata(_)));
    assert_eq!(count(&server, "/register"), 0);

    let trusted = Issuer::new(format!("{}/", server.origin()));
    let quirks = Quirks { trusted_issuer: Some(trusted.clone()), ..Quirks::default() };
    let prepared = service().prepare(PrepareRequest { quirks, ..request(&server) }).await.unwrap();
    assert_eq!(prepared.authority.issuer, trusted);
}

#[tokio::test]
async fn endpoints_are_plain_addresses() {
    for member in ["authorization_endpoint", "token_endpoint", "registration_endpoint"] {
        for address in [
            "javascript:alert(document.cookie)//",
            "data:text/html,x",
            "file:///etc/passwd",
            "myapp://x/",
            "--flag",
            "/relative",
            "https://u@as.example/",
            "https://as.example/#f",
            "https://as.example/\r\nx",
            " https://as.example/",
        ] {
            let server = protected_with(|metadata| metadata[member] = address.into()).await;
            let refused = service().prepare(request(&server)).await.unwrap_err();
            assert!(matches!(refused, PrepareError::InvalidMetadata(_)), "{member} {address:?}: {refused}");
            assert!(!format!("{refused:?}{refused}").contains(address), "{refused:?}");
            assert_eq!(count(&server, "/register"), 0);
        }
    }
    let server = protected_with(|metadata| metadata["revocation_endpoint"] = "javascript:x".into()).await;
    assert_eq!(service().prepare(request(&server)).await.unwrap().authority.revocation_endpoint, None);
}

#[tokio::test]
async fn pkce_must_be_advertised_unless_a_preset_says_otherwise() {
    for methods in [Value::Null, json!([]), json!(["plain"]), json!("S256"), json!(["s256"])] {
        let server = protected_with(|metadata| metadata["code_challenge_methods_supported"] = methods.clone()).await;
        let refused = service().prepare(request(&server)).await.unwrap_err();
        assert!(matches!(refused, PrepareError::PkceUnsupported), "{methods}: {refused}");
        let quirks = Quirks { assume_pkce: true, ..Quirks::default() };
        let prepared = service().prepare(PrepareRequest { quirks, ..request(&server) }).await.unwrap();
        assert_eq!(parameters(&prepared)["code_challenge_method"], "S256");
    }
}

#[tokio::test]
async fn validated_metadata_is_used_again() {
    let (server, service) = (protected().await, service());
    for _ in 0..3 {
        service.prepare(request(&server)).await.unwrap();
    }
    assert_eq!(count(&server, AS), 1);
    assert_eq!(count(&server, "/register"), 1);
}

#[tokio::test]
async fn a_server_without_resource_metadata_may_be_its_own_authorization_server() {
    for slash in ["", "/"] {
        let server = bare().await;
        let mut value = metadata(&server.origin());
        value["issuer"] = format!("{}{slash}", server.origin()).into();
        server.route(AS, document(&value));
        let prepared = service().prepare(given(&server, None)).await.unwrap();
        assert_eq!(prepared.authority.issuer.as_str(), value["issuer"]);
        assert_eq!(prepared.authority.resource, Some(server.url()));
    }
}

#[tokio::test]
async fn a_server_without_any_metadata_has_the_old_endpoints() {
    let server = bare().await;
    server.route("/register", Reply::json(r#"{"client_id":"old"}"#).status(201));
    let prepared = service().prepare(PrepareRequest { challenges: vec![], ..request(&server) }).await.unwrap();
    assert!(prepared.authorization_url.expose().starts_with(&format!("{}/authorize?", server.origin())));
    assert_eq!(prepared.authority.token_endpoint, format!("{}/token", server.origin()));
    assert_eq!(prepared.authority.client.credentials.id(), "old");
    assert_eq!(prepared.authority.client.authentication, ClientAuthentication::None);

    let prepared = service().prepare(given(&bare().await, Some("secret"))).await.unwrap();
    assert_eq!(prepared.authority.client.authentication, ClientAuthentication::SecretBasic);
}

#[tokio::test]
async fn a_server_that_registers_nobody_offers_no_authorization() {
    let server = bare().await;
    assert!(matches!(service().prepare(request(&server)).await, Err(PrepareError::NotOffered)));
    assert_eq!(count(&server, "/register"), 1);

    let server = bare().await;
    let refused = service().prepare(challenged(&server, "Basic realm=\"x\"")).await;
    assert!(matches!(refused, Err(PrepareError::NotOffered)));
    assert_eq!(count(&server, "/register"), 0);
}

#[tokio::test]
async fn trouble_is_not_taken_for_an_old_server() {
    for path in [format!("{PRM}/mcp"), AS.to_owned()] {
        let server = bare().await;
        server.route(path.as_str(), Reply::text(503, "CANARY"));
        let refused = service().prepare(request(&server)).await.unwrap_err();
        assert!(matches!(refused, PrepareError::InvalidMetadata(_)), "{path}: {refused}");
        assert_eq!(count(&server, "/register"), 0);
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (server, inner) = (protected().await, bare().await);
    let redirect = Reply::new(302).header("location", format!("{}/x", inner.origin()));
    for path in [format!("{PRM}/mcp"), PRM.to_owned(), AS.to_owned(), OPENID.to_owned(), "/register".to_owned()] {
        server.route(path, redirect.clone());
    }
    assert!(service().prepare(request(&server)).await.is_err());
    assert_eq!(inner.request_count(), 0);
}

#[tokio::test]
async fn the_first_usable_authorization_server_is_used() {
    let (server, other) = (protected().await, protected().await);
    server.route(
        format!("{PRM}/mcp"),
        document(&json!({
            "resource": server.url(),
            "authorization_servers": ["ftp://as.example", format!("{}/gone", server.origin()), other.origin()],
        })),
    );
    let prepared = service().prepare(request(&server)).await.unwrap();
    assert_eq!(prepared.authority.issuer.as_str(), other.origin());
}

#[tokio::test]
async fn bombs_are_defused() {
    let deep = format!(r#"{{"resource":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let replies = [
        Reply::json(deep),
        Reply::long("application/json", "{\"resource\":\"", 2 << 20, "\"}"),
        Reply::json("{}").gzipped(),
    ];
    for reply in replies {
        let server = protected().await;
        server.route(format!("{PRM}/mcp"), reply);
        assert!(matches!(service().prepare(request(&server)).await, Err(PrepareError::InvalidMetadata(_)) | Ok(_)));
    }
    let server = protected().await;
    let deep = format!(r#"{{"x":{}1{},"issuer":"x"}}"#, "[".repeat(100_000), "]".repeat(100_000));
    server.route(AS, Reply::json(deep));
    assert!(matches!(service().prepare(request(&server)).await, Err(PrepareError::InvalidMetadata(_))));
}

#[tokio::test]
async fn a_challenge_of_another_kind_does_not_hide_metadata() {
    let server = protected().await;
    let prepared = service().prepare(challenged(&server, "Basic realm=\"x\"")).await.unwrap();
    assert_eq!(prepared.authority.issuer.as_str(), server.origin());
}

#[tokio::test]
async fn a_server_may_name_an_authorization_server_without_a_challenge() {
    let named = async |server: &McpServer| service().client.is_named_by(request(server).url).await;
    let server = protected().await;
    assert!(named(&server).await);
    assert_eq!(paths(&server), [format!("{PRM}/mcp")]);

    let server = bare().await;
    let origin = server.origin();
    server.route(PRM, document(&json!({ "resource": origin, "authorization_servers": ["https://as.example"] })));
    assert!(named(&server).await);
    assert_eq!(paths(&server), [format!("{PRM}/mcp"), PRM.to_owned()]);
}

#[tokio::test]
async fn what_is_no_metadata_names_no_authorization_server() {
    let server = bare().await;
    assert!(!service().client.is_named_by(request(&server).url).await);
    // It is all that an open server is ever asked.
    assert_eq!(paths(&server), [format!("{PRM}/mcp"), PRM.to_owned()]);
    let mut config = config();
    config.request_timeout = Duration::from_millis(200);
    let impatient = service_with(config);
    for reply in [
        document(&json!({ "resource": server.url() })),
        document(&json!({ "resource": server.url(), "authorization_servers": [] })),
        document(&json!({ "resource": "https://evil.example", "authorization_servers": ["https://as.example"] })),
        document(&json!({ "resource": server.url(), "authorization_servers": ["javascript:alert(1)"] })),
        Reply::html("<html>"),
        Reply::text(500, "no"),
    ] {
        server.route(format!("{PRM}/mcp"), reply.clone());
        assert!(!impatient.client.is_named_by(request(&server).url).await, "{reply:?}");
    }
    // There are servers that answer every GET with a stream.
    let stream = Reply::long("text/event-stream", ": ", 2 << 20, "\n\n").cut_after(1000, Ending::Hang);
    server.route(format!("{PRM}/mcp"), stream.clone());
    server.route(PRM, stream);
    let start = Instant::now();
    assert!(!service().client.is_named_by(request(&server).url).await);
    assert!(start.elapsed() < Duration::from_secs(5));
    server.script(Behaviour::hang());
    assert!(!impatient.client.is_named_by(request(&server).url).await);
}
