//! The cookies that the service leaves in browsers. Each is out of reach of scripts and of other hosts.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use connectors_domain::Secret;
use cookie::{Cookie, SameSite};
use url::Url;

/// The largest value of a cookie that is looked at, in bytes.
const MAX_VALUE: usize = 8 * 1024;

/// The most bytes of a cookie, its name and attributes included, that every browser keeps (RFC 6265, section 6.1).
const MAX_KEPT: usize = 4096;

/// What a cookie is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    /// Marks the browser that has set out for an authorization server.
    Browser,
    /// A login that has begun.
    Login,
    /// The session of a person.
    Session,
}

/// Reads and writes cookies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cookies {
    /// Whether browsers reach the service over TLS. Over plain http, which is for loopback alone, no browser keeps a cookie
    /// that is `Secure`, and so none whose name begins with `__Host-`.
    secure: bool,
}

impl Cookies {
    pub(crate) fn new(public_url: &Url) -> Self {
        Self { secure: public_url.scheme() == "https" }
    }

    /// The value of the cookie for `purpose`, if there is exactly one. With two of the same name nobody can tell which is
    /// ours (RFC 6265, section 8.6).
    pub(crate) fn read(self, request: &HttpRequest, purpose: Purpose) -> Option<Secret> {
        let name = self.name(purpose);
        let headers = request.headers().get_all(header::COOKIE);
        let mut values = headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b';')).filter_map(|pair| {
            let value = value_of(pair, name)?;
            Some(Secret::new(value))
        });
        let value = values.next()?;
        (values.next().is_none() && value.expose().len() <= MAX_VALUE).then_some(value)
    }

    /// A `Set-Cookie` field for `value`, which goes after `lifetime` or else with the browser's session; `None` if it is
    /// more than browsers keep.
    pub(crate) fn set(self, purpose: Purpose, value: &str, lifetime: Option<Duration>) -> Option<String> {
        let cookie = self.build(purpose, value, lifetime).to_string();
        (cookie.len() <= MAX_KEPT).then_some(cookie)
    }

    /// A `Set-Cookie` field that takes the cookie away.
    pub(crate) fn delete(self, purpose: Purpose) -> String {
        self.build(purpose, "", Some(Duration::ZERO)).to_string()
    }

    /// `Lax`, since people come back from other sites with a link, and the cookie must be there then (RFC 6265bis, section
    /// 5.6.7.2). What changes something is a POST, and its origin is looked at.
    fn build(self, purpose: Purpose, value: &str, lifetime: Option<Duration>) -> Cookie<'static> {
        let mut cookie = Cookie::build((self.name(purpose), value.to_owned()))
            .http_only(true)
            .secure(self.secure)
            .same_site(SameSite::Lax)
            .path("/")
            .build();
        if let Some(lifetime) = lifetime {
            let seconds = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
            cookie.set_max_age(cookie::time::Duration::seconds(seconds));
        }
        cookie
    }

    const fn name(self, purpose: Purpose) -> &'static str {
        match (purpose, self.secure) {
            (Purpose::Browser, true) => "__Host-connectors-browser",
            (Purpose::Browser, false) => "connectors-browser",
            (Purpose::Login, true) => "__Host-connectors-login",
            (Purpose::Login, false) => "connectors-login",
            (Purpose::Session, true) => "__Host-connectors-session",
            (Purpose::Session, false) => "connectors-session",
        }
    }
}

/// What follows the name `name` in a pair of a `Cookie` field. The name is ours to the byte, and nothing but spaces and
/// tabs stands before it: browsers let other hosts set a name that begins with some other white space of Unicode, since it
/// does not begin with `__Host-`.
fn value_of<'p>(pair: &'p [u8], name: &str) -> Option<&'p str> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const TLS: Cookies = Cookies { secure: true };

    fn read(headers: &[&[u8]]) -> Option<String> {
        let mut request = TestRequest::default();
        for header in headers {
            request = request.append_header((header::COOKIE, header::HeaderValue::from_bytes(header).unwrap()));
        }
        TLS.read(&request.to_http_request(), Purpose::Session).map(|value| value.expose().to_owned())
    }

    #[test]
    fn a_cookie_is_found_beside_those_of_others() {
        for headers in [
            &[b"__Host-connectors-session=v".as_slice()] as &[&[u8]],
            &[b"a=b; __Host-connectors-session=v; c"],
            &[b"=;;x; \xff=\xfe; __Host-connectors-session=v;"],
            &[b"a=%zz", b"__Host-connectors-session=v"],
        ] {
            assert_eq!(read(headers).as_deref(), Some("v"), "{headers:?}");
        }
    }

    #[test]
    fn what_is_not_clearly_ours_is_not_read() {
        let largest = [b"__Host-connectors-session=".as_slice(), &[b'v'; MAX_VALUE]].concat();
        assert!(read(&[&largest]).is_some());
        let larger = [largest.as_slice(), b"v"].concat();
        for headers in [
            &[] as &[&[u8]],
            &[b"connectors-session=v"],
            &[b"__host-connectors-session=v"],
            &["\u{2000}__Host-connectors-session=v".as_bytes()],
            &["a=b; \u{a0}__Host-connectors-session=v".as_bytes()],
            &["\u{85}__Host-connectors-session\u{3000}=v".as_bytes()],
            &[b"\"__Host-connectors-session\"=v"],
            &[b"=__Host-connectors-session=v"],
            &[b"__Host-connectors-session"],
            &[b"__Host-connectors-session=v; __Host-connectors-session=v"],
            &[b"__Host-connectors-session=v", b"__Host-connectors-session=w"],
            &[&larger],
        ] {
            assert_eq!(read(headers), None);
        }
    }

    #[test]
    fn a_cookie_is_kept_for_this_host_alone() {
        assert_eq!(
            TLS.set(Purpose::Session, "v", Some(Duration::from_mins(2))).unwrap(),
            "__Host-connectors-session=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=120"
        );
        let plain = Cookies { secure: false };
        assert_eq!(
            plain.set(Purpose::Browser, "v", None).unwrap(),
            "connectors-browser=v; HttpOnly; SameSite=Lax; Path=/"
        );
        assert!(
            plain.delete(Purpose::Login).starts_with("connectors-login=; ")
                && plain.delete(Purpose::Login).contains("Max-Age=0")
        );
        assert_eq!(plain.set(Purpose::Session, &"v".repeat(MAX_KEPT), None), None);
    }
}
