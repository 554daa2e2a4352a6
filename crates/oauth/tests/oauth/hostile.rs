//! Hostile servers: whatever they write, nothing panics, nothing comes of it, and nobody else is called.

use connectors_testkit::mcp_server::{McpServer, Reply};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;

use crate::support::{AS, OPENID, PRM, bare, challenged, document, metadata, protected, service};

/// A value that is wrong wherever an address, a text or a list is wanted. `TRAP` becomes the origin of a server that must
/// not be called.
fn wrong() -> impl Strategy<Value = Value> {
    let text = select(vec![
        "",
        " ",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "TRAP#fragment",
        " TRAP/",
        "TRAP\r\n/x",
        "http://169.254.169.254/latest/",
        "http://[::ffff:169.254.169.254]/",
        "http://10.0.0.1/",
        "http://2852039166/",
        "https://0/",
        "https://user:password@TRAP/",
        "//TRAP/",
        "\\\\TRAP\\",
        "http://as.example/",
        "é",
        "\u{0}",
    ]);
    prop_oneof![
        6 => text.prop_map(Value::from),
        1 => ".{0,40}".prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => Just(json!([])),
        1 => Just(json!({ "a": [null] })),
        1 => Just(json!(true)),
    ]
}

fn set_trap(value: &Value, trap: &McpServer) -> Value {
    serde_json::from_str(&value.to_string().replace("TRAP", &trap.origin())).unwrap()
}

fn run(check: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    Runtime::new().unwrap().block_on(check)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn resource_metadata_with_a_wrong_member_is_an_error(
        member in select(vec!["resource", "authorization_servers"]),
        wrong in wrong(),
        list in any::<bool>(),
    ) {
        run(async move {
            // Naming no authorization server at all is no error.
            prop_assume!(list || wrong != json!([]));
            let (server, trap) = (protected().await, bare().await);
            let origin = server.origin();
            let wrong = set_trap(&wrong, &trap);
            let mut value = json!({ "resource": server.url(), "authorization_servers": [origin] });
            value[member] = if list && member == "authorization_servers" { json!([wrong]) } else { wrong };
            server.route(format!("{PRM}/mcp"), document(&value));
            let result = service().prepare(challenged(&server, "Bearer")).await;
            prop_assert!(result.is_err(), "{value}");
            prop_assert_eq!(trap.request_count(), 0);
            Ok(())
        })?;
    }

    #[test]
    fn server_metadata_with_a_wrong_member_is_an_error(
        member in select(vec!["issuer", "authorization_endpoint", "token_endpoint"]),
        wrong in wrong(),
        place in select(vec![AS, OPENID]),
    ) {
        run(async move {
            let (server, trap) = (protected().await, bare().await);
            server.route(AS, Reply::new(404));
            let mut value = metadata(&server.origin());
            value[member] = set_trap(&wrong, &trap);
            server.route(place, document(&value));
            let result = service().prepare(challenged(&server, "Bearer")).await;
            prop_assert!(result.is_err(), "{value}");
            prop_assert_eq!(trap.request_count(), 0);
            prop_assert!(server.requests().iter().all(|request| request.path() != "/register"));
            Ok(())
        })?;
    }

    #[test]
    fn documents_of_garbage_are_no_documents(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        run(async move {
            let server = bare().await;
            for path in [format!("{PRM}/mcp"), AS.to_owned(), OPENID.to_owned(), "/register".to_owned()] {
                server.route(path, Reply::json(body.clone()));
            }
            let result = service().prepare(challenged(&server, "Bearer")).await;
            prop_assert!(result.is_err());
            Ok(())
        })?;
    }

    #[test]
    fn a_hostile_challenge_calls_nobody_else(
        before in "[ -~]{0,30}",
        place in select(vec!["TRAP/x", "http://169.254.169.254/", "javascript:x", "//TRAP/", "TRAP\\x", "", "x"]),
        after in "[ -~]{0,30}",
    ) {
        run(async move {
            let (server, trap) = (protected().await, bare().await);
            let place = place.replace("TRAP", &trap.origin());
            let challenge = format!("{before}, Bearer resource_metadata=\"{place}\", {after}");
            let result = service().prepare(challenged(&server, &challenge)).await;
            // What stands before may turn the rest into a quoted string; then there is no such challenge.
            prop_assert!(result.is_err() || before.contains('"'));
            prop_assert_eq!(trap.request_count(), 0);
            Ok(())
        })?;
    }

    #[test]
    fn any_members_at_all_do_no_harm(members in proptest::collection::btree_map("[a-z_]{1,12}|issuer|resource", wrong(), 0..6)) {
        run(async move {
            let (server, trap) = (bare().await, bare().await);
            let value = Value::Object(members.into_iter().collect::<Map<_, _>>());
            let value = set_trap(&value, &trap);
            for path in [PRM, AS, "/register"] {
                server.route(path, document(&value));
            }
            let result = service().prepare(challenged(&server, "Bearer")).await;
            prop_assert!(result.is_err(), "{value}");
            prop_assert_eq!(trap.request_count(), 0);
            Ok(())
        })?;
    }
}
