//! `WWW-Authenticate`: one field on each line.
#![no_main]

use connectors_domain::ServerUrl;
use connectors_fuzz::{EGRESS, assert_address, assert_scopes};
use connectors_oauth::fuzz::{address, challenges, demanded};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let fields: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let (bearer, only_others) = challenges(&fields);
    assert!(bearer.is_none() || !only_others);
    if let Some(scopes) = demanded(&fields) {
        assert!(bearer.is_some(), "only a Bearer challenge demands scopes");
        assert_scopes(&scopes);
    }
    if let Some(url) = bearer.as_ref().and_then(|(metadata, _)| address(&EGRESS, metadata.as_deref()?)) {
        assert_address(&url);
        assert!(ServerUrl::parse(url.as_str()).is_ok());
    }

    // Whatever stands in quotes is read as it was written, and leaves what follows alone.
    let quoted = text.replace('\\', r"\\").replace('"', r#"\""#);
    let written = format!(r#"Basic realm="{quoted}", Bearer scope=s, resource_metadata="{quoted}", Digest, Bearer"#);
    assert_eq!(challenges(&[written]), (Some((Some(text.to_owned()), Some("s".to_owned()))), false));

    // A challenge of another scheme before all others changes nothing about them.
    let before = [vec!["Negotiate YWJj==".to_owned()], fields].concat();
    assert_eq!(challenges(&before).0, bearer);
});
