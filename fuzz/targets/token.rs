//! Credentials from strangers: JWTs and the keys that they are checked with. The first line is a token's header, the second its
//! claims, and the rest a set of keys; the whole is also taken for a token and for a header field as it stands.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connectors_api::fuzz::bearer;
use connectors_domain::AccountName;
use connectors_identity::fuzz::{keys, unverified, verifies};
use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;

/// More keys of a set than these are not kept.
const MAX_KEYS: usize = 100;

fuzz_target!(|text: &str| {
    let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_800_000_000);
    let mut lines = text.splitn(3, '\n');
    let [header, claims, set] = [(); 3].map(|()| lines.next().unwrap_or_default());
    assert!(keys(set) <= MAX_KEYS);

    let token = format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    for token in [token.as_str(), text] {
        // Nobody signs here, and none of the algorithms takes these three letters.
        assert!(!verifies(token, set, now), "a token that nobody signed");
        let Ok((principal, audience, until)) = unverified(token, now) else { continue };
        assert!(!audience.is_empty() && audience.iter().all(|name| !name.is_empty()));
        assert!(now.duration_since(until) < SignedDuration::from_secs(60), "a token that has expired");
        assert_eq!(AccountName::new(principal.account.as_str()), principal.account);
        assert!(unverified(&format!("{token}="), now).is_err() && unverified(&format!("{token}.x"), now).is_err());
    }
    if let Some(bearer) = bearer(text) {
        assert!(bearer.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
    }
});
