//! What lies in the database: sealed values, documents, and rows that somebody has written into. A row is written into
//! as the lines say, each a column, an equals sign and a value.
#![no_main]
#![expect(clippy::panic, reason = "it is how a target tells what it has found")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;

use connectors_domain::{
    AccessToken, ClientCredentials, Connected, Connector, ConnectorId, ConnectorState, DisconnectCode,
    DisconnectReason, Grant, OwnerId, ProtocolVersion, Revision, Secret, ServerFacts, ServerUrl,
};
use connectors_storage::KeyRing;
use connectors_storage::fuzz::{Document, attempt, grant, metadata, open, registration, seal, server, stored};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

const ROW: [&str; 3] = ["id", "owner", "url"];

static KEYS: LazyLock<KeyRing> = LazyLock::new(|| {
    let key = Secret::new("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
    match KeyRing::new([("a".to_owned(), key)]) {
        Ok(keys) => keys,
        Err(error) => panic!("{error}"),
    }
});

fuzz_target!(|bytes: &[u8]| {
    assert!(open(&KEYS, &ROW, bytes).is_none(), "something made up has opened");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    check_seal(text);
    check_document(text, grant);
    check_document(text, attempt);
    check_document(text, registration);
    check_document(text, server);
    check_document(text, metadata);
    check_row(text);
});

/// What was sealed opens where it was sealed, and nothing else does anywhere.
fn check_seal(text: &str) {
    let Some(mut sealed) = seal(&KEYS, &ROW, text) else { panic!("it cannot be sealed") };
    assert_eq!(open(&KEYS, &ROW, &sealed), Some(Secret::new(text)));
    assert!(open(&KEYS, &["id", "owner", text], &sealed).is_none() || text == ROW[2]);
    let at = text.bytes().fold(text.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(byte)) % sealed.len();
    assert!(open(&KEYS, &ROW, &sealed[..at]).is_none());
    sealed[at] ^= 1 << (at % 8);
    assert!(open(&KEYS, &ROW, &sealed).is_none());
}

/// A document that is read is written so that it is read again.
fn check_document<T: PartialEq + Debug>(text: &str, read: impl Fn(&str) -> Document<T>) {
    let Some((value, written)) = read(text) else { return };
    let Some((again, rewritten)) = read(&written) else { panic!("what was written cannot be read") };
    assert_eq!((again, rewritten), (value, written));
}

/// A row that still makes a connector makes the same one when that is stored. Without the keys nobody puts a secret into
/// it: one that does not open makes the connector disconnected.
fn check_row(text: &str) {
    let Some(connector) = connector() else { panic!("there is no connector to be stored") };
    let damage: BTreeMap<_, _> = text.lines().take(16).filter_map(|line| line.split_once('=')).collect();
    let Some(read) = stored(&connector, damage.clone(), &KEYS) else {
        assert!(!damage.is_empty(), "a whole row makes no connector");
        return;
    };
    assert_eq!(stored(&read, [], &KEYS).as_ref(), Some(&read), "it is another one when it is stored again");
    if ["grant", "attempt", "client_secret"].iter().any(|column| damage.contains_key(column)) {
        return;
    }
    assert!(read.attempt().is_none(), "an attempt that nobody began");
    assert!(read.grant().is_none() || read.grant() == connector.grant(), "another grant");
    let secret = |connector: &Connector| connector.client.as_ref().and_then(|client| client.secret().cloned());
    assert!(secret(&read).is_none() || secret(&read) == secret(&connector), "another client secret");
    let sealed = ["sealed_grant", "sealed_attempt", "sealed_client_secret"];
    let moved = read.id != connector.id || read.owner != connector.owner || read.url != connector.url;
    if moved || sealed.iter().any(|column| damage.contains_key(column)) {
        let code = read.disconnect_reason().map(DisconnectReason::code);
        assert_eq!(code, Some(DisconnectCode::CredentialUnreadable));
    }
}

/// A connector with secrets.
fn connector() -> Option<Connector> {
    let token = AccessToken::new("token".to_owned()).ok()?;
    let legacy = ProtocolVersion::parse("2025-11-25").ok();
    Some(Connector {
        account: None,
        id: ConnectorId::new(Timestamp::UNIX_EPOCH, [7; 10]),
        owner: OwnerId::local(),
        url: ServerUrl::parse("https://mcp.example.com/mcp").ok()?,
        client: ClientCredentials::new("id".to_owned(), Some("secret".to_owned())).ok(),
        client_issuer: None,
        metadata: None,
        state: ConnectorState::Connected(Connected {
            grant: Some(Grant::supplied(token)),
            server: ServerFacts { modern: None, legacy, name: Some("name".to_owned()) },
            since: Revision::FIRST,
            wider: None,
        }),
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
        due_at: None,
        revision: Revision::FIRST,
    })
}
