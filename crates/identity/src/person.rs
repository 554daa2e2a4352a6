//! Which user of this service a subject of an issuer is: the same for an access token and for a login, so that people and
//! their MCP clients see the same connectors.

use connectors_domain::OwnerId;

/// The most characters of a subject (OpenID Connect Core 1.0, section 2).
const MAX_SUBJECT_CHARS: usize = 255;

/// The user whom `issuer` knows as `subject`; `None` if that is no subject.
pub(crate) fn owner(issuer: &str, subject: &str) -> Option<OwnerId> {
    let length = subject.chars().take(MAX_SUBJECT_CHARS + 1).count();
    (1..=MAX_SUBJECT_CHARS).contains(&length).then(|| OwnerId::derive(issuer, subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_between_one_and_255_characters() {
        let issuer = "https://idp.example";
        assert_eq!(owner(issuer, "alice"), Some(OwnerId::derive(issuer, "alice")));
        assert!(owner(issuer, &"é".repeat(255)).is_some());
        assert_eq!(owner(issuer, &"é".repeat(256)), None);
        assert_eq!(owner(issuer, ""), None);
    }
}
