//! Texts that are not the three parts of a JWT, or not JSON in base64url within.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use super::{Forge, Table};
use crate::support::{AUDIENCE, encoded};

/// What is wrong before anything is decoded, or with the decoding.
pub(super) fn shapes(forge: &Forge) -> Table {
    let good = forge.good();
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let with_signature = |signature: &str| format!("{header}.{claims}.{signature}");
    let another = forge.with_claim("sub", "mallory");
    let (other_message, other_signature) = another.rsplit_once('.').unwrap();
    let other_header = encoded(json!({ "alg": "RS256", "kid": "rsa" }).to_string());
    let padded = URL_SAFE.encode(forge.rsa.sign("RS256", format!("{header}.{claims}").as_bytes()));
    assert!(padded.ends_with('='));
    // The last character holds four bits that are left over.
    let (rest, last) = signature.split_at(signature.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let left_over = alphabet.chars().nth(alphabet.find(last).unwrap() ^ 1).unwrap();
    [
        ("nothing", String::new()),
        ("a word", "token".to_owned()),
        ("dots", "..".to_owned()),
        ("many dots", ".".repeat(16_000)),
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{good}.{signature}")),
        ("four parts, the last one empty", format!("{good}.")),
        ("a JWE of five parts", format!("{good}.{claims}.{signature}")),
        ("no header", format!(".{claims}.{signature}")),
        ("no claims", format!("{header}..{signature}")),
        ("no signature", with_signature("")),
        ("half of a signature", with_signature(&signature[..168])),
        ("all but the end of a signature", with_signature(&signature[..336])),
        ("the signature of another token", with_signature(other_signature)),
        ("other claims under the signature", format!("{other_message}.{signature}")),
        ("another header over the signature", format!("{other_header}.{claims}.{signature}")),
        ("a signature with padding", with_signature(&padded)),
        ("a header with padding", format!("{header}=.{claims}.{signature}")),
        ("white space before", format!(" {good}")),
        ("white space behind", format!("{good}\n")),
        ("white space within", format!("{header}. {claims}.{signature}")),
        ("a line break in the signature", with_signature(&format!("{}\r\n{}", &signature[..8], &signature[8..]))),
        ("bits that are left over", with_signature(&format!("{rest}{left_over}"))),
        ("base64 instead of base64url", with_signature(&STANDARD.encode([0xfb; 256]))),
        ("a NUL", format!("{good}\u{0}")),
        ("letters that are no ASCII", format!("{header}.{claims}é.{signature}")),
        ("percent-encoding", good.replace('.', "%2E")),
        ("JSON serialization", json!({ "protected": header, "payload": claims, "signature": signature }).to_string()),
        ("more than 16 KiB", forge.with_claim("filler", "x".repeat(16 * 1024))),
        ("1 MiB", "A".repeat(1024 * 1024)),
    ]
    .map(|(name, token)| (name.to_owned(), token))
    .into()
}

/// What is decoded, signed, and no object of claims.
pub(super) fn contents(forge: &Forge) -> Table {
    let header = forge.header().to_string();
    let text = forge.claims.to_string();
    let nested = |open: &str, close: &str, depth: usize| format!("{}0{}", open.repeat(depth), close.repeat(depth));
    let subject = |value: &str| text.replacen("\"alice\"", value, 1).into_bytes();
    let positions = json!([forge.claims["iss"], "alice", AUDIENCE, 1_767_225_900]);
    let mut table: Table = [
        ("no UTF-8", [&b"{\"sub\":\"\xff\","[..], &text.as_bytes()[1..]].concat()),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("a byte order mark", format!("\u{feff}{text}").into_bytes()),
        ("a list", format!("[{text}]").into_bytes()),
        ("a list of what the claims are", positions.to_string().into_bytes()),
        ("a text", json!(text).to_string().into_bytes()),
        ("null", b"null".to_vec()),
        ("an empty object", b"{}".to_vec()),
        ("an object, and then another", text.repeat(2).into_bytes()),
        ("an object with a comment", text.replacen('{', "{/**/", 1).into_bytes()),
        ("a subject of lists in lists", subject(&nested("[", "]", 3_000))),
        ("a subject of objects in objects", subject(&nested("{\"a\":", "}", 1_000))),
        ("lists in lists", nested("[", "]", 3_000).into_bytes()),
        ("lists that never end", vec![b'['; 8_000]),
    ]
    .map(|(name, claims)| (format!("claims: {name}"), forge.rsa.token_of("RS256", &header, claims)))
    .into();
    table.push(("a header of lists in lists".to_owned(), forge.rsa.token_of("RS256", nested("[", "]", 3_000), &text)));
    table
}
