//! `WWW-Authenticate`, by the grammar of RFC 9110, section 11: several challenges in one field, several fields, quoted
//! strings with escapes, token68 credentials, any order and case.
//!
//! Servers get this field wrong in many ways. What is not grammar is skipped, and reading never fails.

use connectors_domain::Scopes;

use crate::scope::scopes;

/// What a Bearer challenge says (RFC 6750, section 3; RFC 9728, section 5.1).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BearerChallenge {
    /// Where the protected-resource metadata is.
    pub(crate) resource_metadata: Option<String>,
    /// The scopes that are needed.
    pub(crate) scope: Option<String>,
}

/// The challenges of a 401, as far as they matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Challenges {
    /// The Bearer challenge: of several the first that names metadata, else the first.
    pub(crate) bearer: Option<BearerChallenge>,
    /// Whether there are challenges, none of them Bearer.
    pub(crate) only_others: bool,
}

impl Challenges {
    /// Reads fields as they came.
    pub(crate) fn read(fields: &[String]) -> Self {
        let all: Vec<_> = fields.iter().flat_map(|field| challenges(field)).collect();
        let mut bearers: Vec<_> =
            all.iter().filter(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer")).collect();
        bearers.sort_by_key(|challenge| challenge.parameter("resource_metadata").is_none());
        let bearer = bearers.first().map(|challenge| BearerChallenge {
            resource_metadata: challenge.parameter("resource_metadata"),
            scope: challenge.parameter("scope"),
        });
        Self { only_others: bearer.is_none() && !all.is_empty(), bearer }
    }
}

/// The scopes that Bearer challenges ask for because those of the token are not enough (RFC 6750, section 3.1); `None` if
/// no challenge says that they are not.
pub(crate) fn demanded(fields: &[String]) -> Option<Scopes> {
    let insufficient: Vec<_> = fields
        .iter()
        .flat_map(|field| challenges(field))
        .filter(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"))
        .filter(|challenge| challenge.parameter("error").as_deref() == Some("insufficient_scope"))
        .collect();
    let named: Vec<_> = insufficient.iter().filter_map(|challenge| challenge.parameter("scope")).collect();
    (!insufficient.is_empty()).then(|| scopes(named.iter().map(String::as_str)))
}

/// One challenge.
#[derive(Debug)]
struct Challenge<'a> {
    scheme: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl Challenge<'_> {
    /// The first parameter of that name.
    fn parameter(&self, name: &str) -> Option<String> {
        self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }
}

fn challenges(field: &str) -> Vec<Challenge<'_>> {
    let mut found: Vec<Challenge<'_>> = Vec::new();
    let mut rest = Cursor(field);
    // A scheme stands at the beginning or after a comma. A stray word elsewhere, as in `scope=read write`, is none.
    let mut scheme_may_follow = true;
    loop {
        scheme_may_follow |= rest.skip_separators();
        if rest.0.is_empty() {
            return found;
        }
        let word = rest.take_while(is_token);
        if word.is_empty() {
            rest.skip_garbage();
            continue;
        }
        let after_word = rest;
        rest.skip_spaces();
        if rest.skip_char('=') {
            rest.skip_spaces();
            let value = rest.value();
            if let Some(challenge) = found.last_mut() {
                challenge.parameters.push((word, value));
            }
            scheme_may_follow = false;
        } else if scheme_may_follow {
            found.push(Challenge { scheme: word, parameters: Vec::new() });
            if rest.0.len() < after_word.0.len() {
                rest.skip_token68();
            }
            scheme_may_follow = false;
        }
    }
}

/// What is left to read.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn take_while(&mut self, accepted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|char| !accepted(char)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip_char(&mut self, char: char) -> bool {
        let rest = self.0.strip_prefix(char);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_spaces(&mut self) {
        self.take_while(|char| matches!(char, ' ' | '\t'));
    }

    /// Skips spaces and commas, and tells whether there was a comma.
    fn skip_separators(&mut self) -> bool {
        self.take_while(|char| matches!(char, ' ' | '\t' | ',')).contains(',')
    }

    fn skip_garbage(&mut self) {
        if self.0.starts_with('"') {
            self.value();
        } else {
            let mut chars = self.0.chars();
            chars.next();
            self.0 = chars.as_str();
        }
    }

    /// Skips a token68: base64 and its like, up to the next comma or the end.
    fn skip_token68(&mut self) {
        let mut ahead = *self;
        let letters = ahead.take_while(|char| char.is_ascii_alphanumeric() || "-._~+/".contains(char));
        ahead.take_while(|char| char == '=');
        ahead.skip_spaces();
        if !letters.is_empty() && (ahead.0.is_empty() || ahead.0.starts_with(',')) {
            *self = ahead;
        }
    }

    /// A quoted string without quotes and escapes, up to the end if it is not closed; or all up to a space or comma, which
    /// is more than a token: URLs are written without quotes, too.
    fn value(&mut self) -> String {
        if !self.skip_char('"') {
            return self.take_while(|char| !matches!(char, ' ' | '\t' | ',')).to_owned();
        }
        let mut value = String::new();
        let mut chars = self.0.chars();
        while let Some(char) = chars.next() {
            match char {
                '"' => break,
                '\\' => value.extend(chars.next()),
                _ => value.push(char),
            }
        }
        self.0 = chars.as_str();
        value
    }
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(char: char) -> bool {
    char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[&str]) -> Challenges {
        Challenges::read(&fields.iter().map(|&field| field.to_owned()).collect::<Vec<_>>())
    }

    /// Metadata and scope of the Bearer challenge.
    fn bearer(fields: &[&str]) -> Option<(Option<String>, Option<String>)> {
        read(fields).bearer.map(|bearer| (bearer.resource_metadata, bearer.scope))
    }

    fn said(metadata: &str, scope: &str) -> (Option<String>, Option<String>) {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (text(metadata), text(scope))
    }

    #[test]
    fn the_bearer_challenge_is_found_in_any_spelling() {
        for field in [
            r#"Bearer resource_metadata="https://a/m", scope="r w""#,
            r#"bearer scope="r w",resource_metadata="https://a/m""#,
            r#"BEARER  Resource_Metadata = "https://a/m" , SCOPE= "r w""#,
            r#"Bearer realm="a, Basic \"b\"", resource_metadata="https://a/m", scope="r w""#,
            r#"Basic realm="x", Bearer resource_metadata="https://a/m", scope="r w""#,
            r#"Bearer resource_metadata="https://a/m", scope="r w", Basic realm="x", scope="z""#,
            r#"Negotiate, Bearer resource_metadata="https://a/m", scope="r w""#,
            r#"Negotiate YWJj==, Bearer resource_metadata="https://a/m", scope="r w""#,
            r#"Negotiate YWJj/+-._~ , , Bearer error="x", resource_metadata=https://a/m, scope="r w""#,
            r#"Bearer, Bearer resource_metadata="https://a/m", scope="r w""#,
            r#"Bearer scope="z", Bearer resource_metadata="https://a/m", scope="r w""#,
            r#", ,	Bearer resource_metadata="https:\/\/a\/m" scope="r w"#,
            r#"é Bearer ; "x", Bearer resource_metadata="https://a/m", scope="r w""#,
        ] {
            assert_eq!(bearer(&[field]), Some(said("https://a/m", "r w")), "{field}");
        }
    }

    #[test]
    fn several_fields_are_one_list() {
        let fields = [r#"Basic realm="x""#, r#"Bearer scope="r""#, r#"Bearer resource_metadata="https://a/m""#];
        assert_eq!(bearer(&fields), Some(said("https://a/m", "")));
        assert_eq!(bearer(&fields[..2]), Some(said("", "r")));
    }

    #[test]
    fn a_challenge_may_be_of_another_kind() {
        assert_eq!(read(&[]), Challenges::default());
        assert_eq!(read(&["", " , "]), Challenges::default());
        assert!(read(&[r#"Basic realm="x""#]).only_others);
        assert!(!read(&["Bearer"]).only_others);
        assert_eq!(bearer(&["Bearer abc=="]), Some(said("", "")));
    }

    #[test]
    fn more_scopes_are_demanded_in_so_many_words() {
        let demanded = |fields: &[&str]| {
            let fields: Vec<_> = fields.iter().map(|&field| field.to_owned()).collect();
            demanded(&fields).map(|scopes| scopes.to_string())
        };
        for (field, expected) in [
            (r#"Bearer error="insufficient_scope", scope="w r""#, Some("r w")),
            (r#"bearer scope="w r",ERROR=insufficient_scope"#, Some("r w")),
            (r#"Basic realm="x", Bearer error="insufficient_scope", scope="r""#, Some("r")),
            (r#"Bearer error="insufficient_scope""#, Some("")),
            (r#"Bearer error="insufficient_scope", scope="""#, Some("")),
            (r#"Bearer error="insufficient_scope", scope="a \\"b é""#, Some("a")),
            (r#"Bearer error="invalid_token", scope="r""#, None),
            (r#"Bearer scope="insufficient_scope""#, None),
            (r#"DPoP error="insufficient_scope", scope="r""#, None),
            (r#"error="insufficient_scope", scope="r""#, None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(demanded(&[field]).as_deref(), expected, "{field}");
        }
        let fields = [r#"Bearer error="invalid_token", scope="z""#, r#"Bearer error="insufficient_scope", scope="r""#];
        assert_eq!(demanded(&fields).as_deref(), Some("r"));
        assert_eq!(demanded(&[]), None);
    }

    #[test]
    fn garbage_is_skipped() {
        assert_eq!(bearer(&[r#"Bearer scope=r w, resource_metadata="https://a/m""#]), Some(said("https://a/m", "r")));
        assert_eq!(bearer(&[r#"Bearer scope="r\"#]), Some(said("", "r")));
        assert_eq!(bearer(&[r#"resource_metadata="https://a/m""#]), None);
        assert_eq!(bearer(&["Bearer =,==,\"\",="]), None);
        assert_eq!(bearer(&["Bearer ,=,==,\"\",="]), Some(said("", "")));
    }

    proptest! {
        #[test]
        fn any_field_can_be_read(fields in proptest::collection::vec(any::<String>(), 0..4)) {
            Challenges::read(&fields);
        }

        #[test]
        fn near_misses_can_be_read(field in r#"((Bearer|Basic|é|resource_metadata|scope|[=,"\\ \t])){0,40}"#) {
            Challenges::read(&[field]);
        }

        #[test]
        fn a_quoted_value_survives(value in "[^\\x00-\\x1f]{0,40}", before in "(Basic realm=\"x\", |Negotiate YQ==, |)") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let field = format!("{before}Bearer error=\"e\", resource_metadata=\"{quoted}\", scope=s");
            let bearer = Challenges::read(&[field]).bearer.unwrap();
            prop_assert_eq!(bearer.resource_metadata, Some(value));
            prop_assert_eq!(bearer.scope.as_deref(), Some("s"));
        }
    }
}
