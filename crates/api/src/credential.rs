//! What a request brings in its `Authorization` field.

use actix_web::http::header::{self, HeaderMap, HeaderValue};
use connectors_domain::Secret;

/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// The scheme of bearer tokens (RFC 6750, section 2.1).
const SCHEME: &str = "bearer";

/// There is an `Authorization` field, but it does not hold one bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The bearer token of a request; `None` without an `Authorization` field. Tokens elsewhere, such as in the query, are not
/// looked for: they would end up in logs and histories (RFC 6750, section 5.3).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<Secret>, Malformed> {
    let mut fields = headers.get_all(header::AUTHORIZATION);
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Malformed);
    }
    let (scheme, token) = field.to_str().ok().and_then(|field| field.split_once(' ')).ok_or(Malformed)?;
    let token = token.trim_matches(' ');
    if scheme.eq_ignore_ascii_case(SCHEME) && is_token(token) { Ok(Some(Secret::new(token))) } else { Err(Malformed) }
}

/// Whether `text` can be a bearer token: a `b64token` (RFC 6750, section 2.1) of a size that somebody may have made.
pub(crate) fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    text.len() <= MAX_TOKEN && !body.is_empty() && body.bytes().all(allowed)
}

/// Whether a request means to bring a bearer token. One that does not may never have heard of them, and is told of no error
/// (RFC 6750, section 3.1).
pub(crate) fn means_bearer(headers: &HeaderMap) -> bool {
    let scheme = |field: &HeaderValue| field.as_bytes().split(|byte| *byte == b' ').next().map(<[u8]>::to_vec);
    headers
        .get_all(header::AUTHORIZATION)
        .filter_map(scheme)
        .any(|scheme| scheme.eq_ignore_ascii_case(SCHEME.as_bytes()))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn headers(fields: &[&str]) -> HeaderMap {
        let mut request = TestRequest::default();
        for field in fields {
            request = request.append_header((header::AUTHORIZATION, *field));
        }
        request.to_srv_request().headers().clone()
    }

    #[test]
    fn a_bearer_token_is_read() {
        let largest = format!("Bearer {}", "a".repeat(MAX_TOKEN));
        for field in ["Bearer a", "bearer a.b-c_d~e+f/g==", "BEARER  a ", &largest] {
            let token = bearer(&headers(&[field])).unwrap().unwrap();
            assert_eq!(token.expose(), field[7..].trim());
        }
        assert_eq!(bearer(&headers(&[])), Ok(None));
    }

    #[test]
    fn whatever_is_not_one_bearer_token_is_none() {
        let larger = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        for fields in [
            &[""] as &[&str],
            &["Bearer"],
            &["Bearer "],
            &["Bearer ="],
            &["Bearer a b"],
            &["Bearer a,b"],
            &["Bearer a=b"],
            &["Bearer \"a\""],
            &["Bearer\ta"],
            &["Bearer: a"],
            &["Bearera"],
            &["a"],
            &["Basic YTpi"],
            &["DPoP a"],
            &["Bearer a", "Bearer a"],
            &["Basic YTpi", "Bearer a"],
            &[&larger],
        ] {
            assert_eq!(bearer(&headers(fields)), Err(Malformed), "{fields:?}");
        }
    }
}
