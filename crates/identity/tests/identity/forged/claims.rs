//! Claims that are missing, of another type, there twice, or of another time.

use std::fmt::Write as _;

use serde_json::json;

use super::{Forge, Table};
use crate::support::AUDIENCE;

pub(super) fn claims(forge: &Forge) -> Table {
    let mut table = Table::new();
    let mut add = |name: String, token: String| table.push((name, token));
    let issuer = forge.claims["iss"].as_str().unwrap();
    for wrong in [
        format!("{issuer}/"),
        issuer.to_uppercase(),
        issuer.replace("http:", "HTTP:"),
        issuer.replace("http:", "https:"),
        issuer.replace("realms", "%72ealms"),
        issuer[..issuer.len() - 1].to_owned(),
        format!("{issuer}-two"),
        format!(" {issuer}"),
        format!("{issuer}\u{0}"),
        format!("{issuer}#"),
        format!("{issuer}?"),
        issuer.replace("127.0.0.1", "localhost"),
        forge.attacker.issuer().to_owned(),
        String::new(),
    ] {
        add(format!("iss {wrong:?}"), forge.with_claim("iss", wrong));
    }
    for value in [json!([issuer]), json!(null), json!(1), json!({ "iss": issuer })] {
        add(format!("iss {value}"), forge.with_claim("iss", value));
    }
    for value in [json!(""), json!(null), json!(7), json!(["alice"]), json!({}), json!("a".repeat(256)), json!(false)] {
        add(format!("sub {value}"), forge.with_claim("sub", value));
    }
    for value in [json!(""), json!([]), json!(null), json!(1), json!([1]), json!([AUDIENCE, 1]), json!([AUDIENCE, ""])]
    {
        add(format!("aud {value}"), forge.with_claim("aud", value));
    }
    add("aud in an object".to_owned(), forge.with_claim("aud", json!({ "0": AUDIENCE })));
    for (name, value) in [("scope", json!(["connectors:read"])), ("scope", json!(1)), ("scope", json!(null))] {
        add(format!("{name} {value}"), forge.with_claim(name, value));
    }
    let mut scp = forge.claims.clone();
    scp.as_object_mut().unwrap().remove("scope");
    scp["scp"] = json!([["connectors:read"]]);
    add("scp in lists of lists".to_owned(), forge.rsa.token(&forge.header(), &scp));
    for name in ["iss", "sub", "aud", "exp"] {
        add(format!("no {name}"), forge.without_claim(name));
    }
    for (name, value) in [
        ("nonce", json!("n")),
        ("nonce", json!(null)),
        ("at_hash", json!("h")),
        ("c_hash", json!("h")),
        ("events", json!({ "http://schemas.openid.net/event/backchannel-logout": {} })),
    ] {
        add(format!("{name} {value}, which is of no access token"), forge.with_claim(name, value));
    }
    for (name, value) in [("iss", json!(issuer)), ("sub", json!("root")), ("aud", json!("a")), ("exp", json!(1))] {
        add(format!("{name} twice"), forge.with_text(&format!("\"{name}\":{value}")));
        let escaped = name.chars().fold(String::new(), |mut text, char| {
            write!(text, "\\u{:04x}", u32::from(char)).unwrap();
            text
        });
        add(format!("{name} twice, once in escapes"), forge.with_text(&format!("\"{escaped}\":{value}")));
    }
    add("scope twice".to_owned(), forge.with_text(r#""scope":"connectors:admin""#));
    add("sub of half a character".to_owned(), {
        let claims = forge.claims.to_string().replace("\"alice\"", "\"\\ud800\"");
        forge.rsa.token_of("RS256", forge.header().to_string(), &claims)
    });
    table
}

pub(super) fn times(forge: &Forge) -> Table {
    let mut table = Table::new();
    let now = forge.claims["iat"].as_i64().unwrap();
    for (name, number) in [("exp", now - 31), ("exp", 0), ("exp", 1), ("nbf", now + 31), ("iat", now + 31)] {
        table.push((format!("{name} {number}"), forge.with_claim(name, number)));
    }
    for name in ["exp", "nbf", "iat"] {
        for number in [
            "-1",
            "-1e300",
            "1e300",
            "1e999",
            "-1e999",
            "99999999999999999999999999",
            "9223372036854775807",
            "18446744073709551616",
            "253402300800",
            "NaN",
            "Infinity",
            "0x7fffffff",
            "null",
            "true",
            "[1767225900]",
            "{}",
            "\"1767225900\"",
            "\"\"",
            "\"NaN\"",
            "1767225900.",
            "+1767225900",
            "01767225900",
        ] {
            table.push((format!("{name} {number}"), forge.with_number(name, number)));
        }
    }
    table
}
