//! The person's browser, as far as a test needs one: GET over a plain socket, no redirect followed, no cookie kept.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use url::Url;

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many bytes a page may have.
const LIMIT: u64 = 16 << 20;

/// What a browser got.
#[derive(Clone, Debug)]
pub struct Page {
    /// The HTTP status.
    pub status: u16,
    /// Header names as they came, and values.
    pub headers: Vec<(String, String)>,
    /// The body as it came, with its framing.
    pub body: String,
}

impl Page {
    /// The first value of a header, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Gets an `http` URL with these further headers. Fails after 30 seconds, beyond 16 MiB and for whatever is no HTTP.
pub async fn get(url: &str, headers: &[(&str, &str)]) -> io::Result<Page> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let parsed = Url::parse(url).map_err(|error| invalid(format!("{url}: {error}")))?;
    let (Some(host), Some(port), "http") = (parsed.host_str(), parsed.port_or_known_default(), parsed.scheme()) else {
        return Err(invalid(format!("{url} is no http URL")));
    };
    let authority = format!("{host}:{port}");
    let query = parsed.query().map(|query| format!("?{query}")).unwrap_or_default();
    let further = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<Vec<_>>().concat();
    let path = parsed.path();
    let request =
        format!("GET {path}{query} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nAccept: */*\r\n{further}\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(authority).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(LIMIT).read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>(bytes)
    };
    let bytes = tokio::time::timeout(PATIENCE, exchange).await??;
    let mut slots = [httparse::EMPTY_HEADER; 256];
    let mut response = httparse::Response::new(&mut slots);
    match response.parse(&bytes) {
        Ok(httparse::Status::Complete(end)) => Ok(Page {
            status: response.code.unwrap_or_default(),
            headers: response
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
                .collect(),
            body: String::from_utf8_lossy(&bytes[end..]).into_owned(),
        }),
        _ => Err(invalid(format!("{url} answered with no HTTP"))),
    }
}

/// Gets an `http` URL that redirects, and answers with where to: the callback, after an authorization request.
///
/// Fails, with the status and the page in the message, where it does not redirect.
pub async fn visit(url: &str) -> io::Result<String> {
    let page = get(url, &[]).await?;
    match page.header("location") {
        Some(location) if (300..400).contains(&page.status) => Ok(location.to_owned()),
        _ => Err(io::Error::other(format!("{} and no redirect: {}", page.status, page.body))),
    }
}

/// A parameter in the query of a URL, decoded.
pub fn parameter(url: &str, name: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    parsed.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}
