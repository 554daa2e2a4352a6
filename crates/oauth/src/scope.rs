//! Scopes out of what servers write.

use connectors_domain::Scopes;

/// The longest list of scopes that is taken over, in bytes.
const MAX_LENGTH: usize = 8 * 1024;
/// The most scopes that are taken over.
const MAX_SCOPES: usize = 256;

/// The scope that asks for a refresh token (OpenID Connect Core, section 11).
pub(crate) const OFFLINE_ACCESS: &str = "offline_access";

/// The scopes among `names` that are spelled as RFC 6749, appendix A.4 has it: the first 256, as many as fit into 8 KiB.
/// Names may themselves hold several, parted by spaces.
pub(crate) fn scopes<'a>(names: impl IntoIterator<Item = &'a str>) -> Scopes {
    let mut text = String::new();
    let mut count = 0;
    for scope in names.into_iter().flat_map(|name| name.split(' ')) {
        let valid = scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        if valid && !scope.is_empty() && count < MAX_SCOPES && text.len() + scope.len() < MAX_LENGTH {
            count += 1;
            text.push_str(scope);
            text.push(' ');
        }
    }
    Scopes::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_a_scope_is_taken() {
        assert_eq!(scopes(["b a", "", "é", "x\ny", "q\"", "c"]).to_string(), "a b c");
        assert!(scopes(["a".repeat(8192).as_str()]).is_empty());
        let many: Vec<_> = (0..1_000_000).map(|number| number.to_string()).collect();
        assert_eq!(scopes(many.iter().map(String::as_str)).iter().count(), MAX_SCOPES);
    }
}
