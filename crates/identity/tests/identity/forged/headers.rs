//! Headers with extensions, of other types, with members twice, and such as are no objects.

use serde_json::json;

use super::{Forge, Table};
use crate::support::encoded;

pub(super) fn headers(forge: &Forge) -> Table {
    let mut table = Table::new();
    let mut add = |name: String, token: String| table.push((name, token));
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("crit", json!(["b64"])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
        ("zip", json!(null)),
        ("cty", json!("JWT")),
        ("cty", json!("")),
        ("enc", json!("A128GCM")),
        ("typ", json!("id+jwt")),
        ("typ", json!("logout+jwt")),
        ("typ", json!("secevent+jwt")),
        ("typ", json!("dpop+jwt")),
        ("typ", json!("application/jwt")),
        ("typ", json!("at+jwt;charset=utf-8")),
        ("typ", json!(" at+jwt")),
        ("typ", json!("")),
        ("typ", json!(null)),
        ("typ", json!(["JWT"])),
    ] {
        add(format!("{name} {value}"), forge.with_header(name, value));
    }
    let claims = forge.claims.to_string();
    let detached = json!({ "alg": "RS256", "kid": "rsa", "b64": false, "crit": ["b64"] }).to_string();
    let message = format!("{}.{claims}", encoded(&detached));
    let signature = encoded(forge.rsa.sign("RS256", message.as_bytes()));
    add(
        "claims that are signed as they are".to_owned(),
        format!("{}.{}.{signature}", encoded(&detached), encoded(&claims)),
    );
    for header in [
        r#"{"alg":"RS256","alg":"RS256","kid":"rsa"}"#,
        r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#,
        r#"{"alg":"RS256","kid":"rsa","kid":"rsa"}"#,
        r#"{"alg":"RS256","kid":"rsa","\u006bid":"rsa"}"#,
        r#"{"alg":"RS256","kid":"rsa","typ":"JWT","typ":"at+jwt"}"#,
        r#"["RS256","rsa"]"#,
        r#""RS256""#,
        "null",
        "{}",
        "",
        r#"{"alg":"RS256","kid":"rsa"} {}"#,
        r#"{"alg":"RS256","kid":"rsa""#,
        r#"{"alg":"RS256","kid":"rsa",}"#,
        r"{'alg':'RS256','kid':'rsa'}",
        "\u{feff}{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
    ] {
        add(format!("the header {header}"), forge.rsa.token_of("RS256", header, &claims));
    }
    table
}
