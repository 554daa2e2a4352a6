//! The address of an MCP server, and the address to which a user's browser goes back.

use std::fmt;

use thiserror::Error;
use url::{Host, Origin, Url};

/// The longest URL that is accepted, in bytes of its serialised form.
const MAX_LENGTH: usize = 2048;

/// The URL of an MCP server: `http` or `https`, with a host, without user info or fragment, at most 2048 bytes.
///
/// It is parsed and serialised once, by the rules that browsers follow (WHATWG URL): what is compared, shown and dialled
/// is the same text. Whether the service may talk to that address is a question for the door out, not for this type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerUrl(Url);

/// Why a text is no [`ServerUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum UrlError {
    /// Not a URL at all, or one without a host.
    #[error("it is not an absolute URL")]
    Syntax,
    /// A scheme other than `http` and `https`.
    #[error("its scheme is not http or https")]
    Scheme,
    /// A user name or password in the URL.
    #[error("it holds a user name or password; give credentials as client_id and client_secret, or as access_token")]
    UserInfo,
    /// A fragment.
    #[error("it has a fragment; leave out the part from # on")]
    Fragment,
    /// Longer than 2048 bytes.
    #[error("it is longer than 2048 bytes")]
    TooLong,
}

impl ServerUrl {
    /// Parses `text`.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| UrlError::Syntax)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(UrlError::Scheme);
        }
        if url.host().is_none() {
            return Err(UrlError::Syntax);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        if url.as_str().len() > MAX_LENGTH {
            return Err(UrlError::TooLong);
        }
        Ok(Self(url))
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The parsed URL.
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// The form by which two spellings of one server are told to be the same: a slash at the end of the path does not
    /// matter, nor does an empty query. Case of the host, default port and dot segments are settled by parsing already.
    pub fn key(&self) -> String {
        let mut url = self.0.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        if url.query() == Some("") {
            url.set_query(None);
        }
        let text = url.as_str();
        match url.query() {
            // A bare origin keeps its slash when serialised; without a query it is cut here, for one form only.
            None => text.trim_end_matches('/').to_owned(),
            Some(_) => text.to_owned(),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The origins to which a user's browser may be sent back after consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectOrigins {
    /// Any port of `localhost`, `127.0.0.1` and `[::1]`.
    Loopback,
    /// Exactly these origins.
    Listed(Vec<Origin>),
}

/// A URL to which a user's browser goes when authorization has ended. It is sent on as it was given, to the letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectUrl(String);

/// Why a text is no acceptable [`RedirectUrl`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RedirectError {
    /// Not an absolute http(s) URL in plain spelling.
    #[error("redirect_url is not a plain absolute http or https URL")]
    Syntax,
    /// Plain `http` to a host that is not loopback.
    #[error("redirect_url must be https unless its host is loopback")]
    Insecure,
    /// Its origin is not one of those that the operator allows.
    #[error(
        "the origin of redirect_url is not allowed; the operator lists allowed origins in connector.redirect_origins"
    )]
    Origin,
}

impl RedirectOrigins {
    /// Reads an origin such as `https://app.example.com` for [`RedirectOrigins::Listed`].
    pub fn parse_origin(text: &str) -> Result<Origin, RedirectError> {
        let url = Url::parse(text).map_err(|_| RedirectError::Syntax)?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some()
        {
            return Err(RedirectError::Syntax);
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(RedirectError::Insecure);
        }
        Ok(url.origin())
    }

    /// Accepts `text` if its origin is allowed.
    pub fn admit(&self, text: &str) -> Result<RedirectUrl, RedirectError> {
        // The text goes out as it came in, so nothing that a browser would read in another way may be in it.
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        let lower = text.get(..8).unwrap_or_default().to_ascii_lowercase();
        if !plain || text.len() > MAX_LENGTH || !(lower.starts_with("http://") || lower == "https://") {
            return Err(RedirectError::Syntax);
        }
        let url = Url::parse(text).map_err(|_| RedirectError::Syntax)?;
        if !url.username().is_empty() || url.password().is_some() || text.contains('@') && authority(text).contains('@')
        {
            return Err(RedirectError::Syntax);
        }
        if url.scheme() == "http" && !is_loopback(&url) {
            return Err(RedirectError::Insecure);
        }
        let allowed = match self {
            Self::Loopback => is_loopback(&url),
            Self::Listed(origins) => origins.contains(&url.origin()),
        };
        if allowed { Ok(RedirectUrl(text.to_owned())) } else { Err(RedirectError::Origin) }
    }
}

impl RedirectUrl {
    /// The URL as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// The part of a URL between `//` and the next `/`, `?` or `#`, as text.
fn authority(text: &str) -> &str {
    let rest = text.split_once("//").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_url_is_http_with_a_host_and_nothing_else() {
        for (text, expected) in [
            ("https://mcp.example.com/mcp", Ok("https://mcp.example.com/mcp")),
            ("HTTPS://MCP.Example.com:443/mcp", Ok("https://mcp.example.com/mcp")),
            ("https://mcp.example.com", Ok("https://mcp.example.com/")),
            ("http://127.0.0.1:9101/mcp?x=1", Ok("http://127.0.0.1:9101/mcp?x=1")),
            ("ftp://mcp.example.com/", Err(UrlError::Scheme)),
            ("javascript:alert(1)", Err(UrlError::Scheme)),
            ("unix:/run/x", Err(UrlError::Scheme)),
            ("mcp.example.com/mcp", Err(UrlError::Syntax)),
            ("", Err(UrlError::Syntax)),
            ("https://", Err(UrlError::Syntax)),
            ("https://u@mcp.example.com/", Err(UrlError::UserInfo)),
            ("https://:p@mcp.example.com/", Err(UrlError::UserInfo)),
            ("https://mcp.example.com/#x", Err(UrlError::Fragment)),
            ("https://mcp.example.com/#", Err(UrlError::Fragment)),
        ] {
            let parsed = ServerUrl::parse(text);
            assert_eq!(parsed.as_ref().map(ServerUrl::as_str), expected.as_ref().copied(), "{text}");
        }
    }

    #[test]
    fn a_server_url_has_at_most_2048_bytes() {
        let prefix = "https://mcp.example.com/";
        let longest = format!("{prefix}{}", "a".repeat(2048 - prefix.len()));
        assert!(ServerUrl::parse(&longest).is_ok());
        assert_eq!(ServerUrl::parse(&format!("{longest}a")), Err(UrlError::TooLong));
        // Serialising may lengthen what was short enough as given.
        let swells = format!("{prefix}{}", "é".repeat(700));
        assert_eq!(ServerUrl::parse(&swells), Err(UrlError::TooLong));
    }

    #[test]
    fn spellings_of_one_server_share_a_key() {
        let key = |text| ServerUrl::parse(text).unwrap().key();
        assert_eq!(key("HTTPS://Host.example:443/mcp/"), key("https://host.example/mcp"));
        assert_eq!(key("https://host.example"), key("https://host.example/"));
        assert_eq!(key("https://host.example/a/../mcp"), key("https://host.example/mcp//"));
        assert_eq!(key("https://host.example/mcp/?a=/"), key("https://host.example/mcp?a=/"));
        assert_eq!(key("https://host.example/mcp?"), key("https://host.example/mcp"));
        assert_ne!(key("https://host.example/mcp"), key("https://host.example/MCP"));
        assert_ne!(key("https://host.example/mcp"), key("http://host.example/mcp"));
        assert_ne!(key("https://host.example/?a=/"), key("https://host.example/?a="));
    }

    #[test]
    fn a_redirect_goes_to_an_allowed_origin_only() {
        let listed = RedirectOrigins::Listed(vec![RedirectOrigins::parse_origin("https://app.example.com").unwrap()]);
        for text in ["https://app.example.com", "https://app.example.com/done?x=@", "https://APP.example.com:443/"] {
            assert_eq!(listed.admit(text).unwrap().as_str(), text);
        }
        for text in [
            "https://app.example.com.evil.com/",
            "https://app.example.com@evil.com/",
            "https://app.example.com:8443/",
            "http://app.example.com/",
            "http://localhost:3000/",
            "//app.example.com/",
            "/done",
            "https:app.example.com",
            "https:/\\app.example.com",
            "https://app.example.com\\@evil.com/",
            "https://@app.example.com/",
            "https://app.example.com/\r\nx: y",
            "https://app.example.com/\u{0}",
            "javascript:alert(1)",
            "javascript://app.example.com/%0aalert(1)",
            "data:text/html,x",
            " https://app.example.com/",
            "",
        ] {
            assert!(listed.admit(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn without_a_list_only_loopback_is_allowed() {
        for text in ["http://localhost:3000/x", "http://127.0.0.1/", "http://[::1]:8080/", "https://localhost/"] {
            assert!(RedirectOrigins::Loopback.admit(text).is_ok(), "{text}");
        }
        for text in ["http://localhost.evil.com/", "https://example.com/", "http://10.0.0.1/", "http://[::2]/"] {
            assert!(RedirectOrigins::Loopback.admit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_origin_is_nothing_but_an_origin() {
        assert!(RedirectOrigins::parse_origin("https://app.example.com/").is_ok());
        assert!(RedirectOrigins::parse_origin("http://localhost:3000").is_ok());
        for text in
            ["https://app.example.com/x", "https://u@app.example.com", "app.example.com", "*", "null", "file:///"]
        {
            assert_eq!(RedirectOrigins::parse_origin(text), Err(RedirectError::Syntax), "{text}");
        }
        assert_eq!(RedirectOrigins::parse_origin("http://app.example.com"), Err(RedirectError::Insecure));
    }
}
