//! Texts out of which the domain makes values: tokens, scopes, clients, metadata, names, versions, codes.
#![no_main]

use connectors_domain::{
    AccessToken, ClientCredentials, DisconnectCode, Metadata, ProtocolVersion, Scopes, ServerFacts,
};
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(token) = AccessToken::new(text.to_owned()) {
        assert_eq!(token.expose(), text);
        assert!((1..=16 * 1024).contains(&text.len()));
        assert!(HeaderValue::from_str(text).is_ok() && !text.contains(' '));
        assert_eq!(format!("{token:?}"), "AccessToken([secret])");
    }

    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let (one, other) = (Scopes::parse(first), Scopes::parse(rest));
    assert_eq!(Scopes::parse(&one.to_string()), one);
    let both = one.union(&other);
    assert!(both.cover(&one) && both.cover(&other));
    assert_eq!(both, Scopes::parse(&format!("{rest} {first}")));
    assert_eq!(one.cover(&other), one == both);

    let secret = (!rest.is_empty()).then(|| rest.to_owned());
    if let Ok(client) = ClientCredentials::new(first.to_owned(), secret.clone()) {
        assert_eq!((client.id(), client.secret().map(|secret| secret.expose().to_owned())), (first, secret));
        for part in [first, rest] {
            assert!(part.len() <= 2048 && part.bytes().all(|byte| (0x20..=0x7e).contains(&byte)));
        }
        let printed = if rest.is_empty() { "secret: None }" } else { "secret: Some([secret]) }" };
        assert!(format!("{client:?}").ends_with(printed));
    }

    let entries = text.lines().filter_map(|line| line.split_once('='));
    if let Ok(metadata) = Metadata::new(entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()) {
        assert!(metadata.entries().len() <= 16);
        for (key, value) in metadata.entries() {
            assert!((1..=64).contains(&key.chars().count()) && value.chars().count() <= 512);
        }
    }

    if let Some(name) = ServerFacts::clean_name(text) {
        assert!((1..=ServerFacts::MAX_NAME_CHARS).contains(&name.chars().count()));
        assert!(!name.chars().any(char::is_control));
        assert_eq!(ServerFacts::clean_name(&name), Some(name), "a clean name stays as it is");
    }
    if let Ok(version) = ProtocolVersion::parse(text) {
        assert_eq!(version.as_str(), text);
        assert_eq!(version.is_modern(), ProtocolVersion::parse("2026-07-28").is_ok_and(|modern| version >= modern));
    }
    if let Ok(code) = text.parse::<DisconnectCode>() {
        assert_eq!(code.as_str(), text);
    }
});
