//! One entry of the operator's allow-list.
//!
//! A rule widens the policy for one host, address or range, as a whole or at one port. Wildcards are not a form: a rule
//! names what its author has thought of.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use url::Host;

/// One entry of `egress.allow`.
///
/// | form | opens |
/// | --- | --- |
/// | `mcp.corp.example` | whatever that name resolves to, at every port |
/// | `mcp.corp.example:8443` | the same at one port |
/// | `10.20.0.0/16`, `10.1.2.3`, `fd12::/16`, `::1` | the addresses, also when a name resolves to them, at every port |
/// | `10.20.0.0/16:443`, `[fd12::/16]:443`, `[::1]:9101` | the same at one port; IPv6 with a port needs brackets |
/// | `https://mcp.corp.example:8443`, `http://10.1.2.3` | one scheme and one port, by default 443 or 80 |
///
/// Plain `http` is spoken to listed hosts only. No rule opens link-local and metadata addresses by itself, the
/// service's own endpoints, or addresses that are never a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowRule {
    pub(crate) target: Target,
    pub(crate) scheme: Option<Scheme>,
    pub(crate) port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Lower case, without a trailing dot.
    Name(String),
    /// Never an IPv4-mapped range.
    Net(IpNet),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// Why an entry is not an [`AllowRule`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` is not an allow rule: {reason}")]
pub struct AllowRuleError {
    entry: String,
    reason: &'static str,
}

impl FromStr for AllowRule {
    type Err = AllowRuleError;

    fn from_str(entry: &str) -> Result<Self, Self::Err> {
        parse(entry.trim()).map_err(|reason| AllowRuleError { entry: entry.to_owned(), reason })
    }
}

impl fmt::Display for AllowRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            Some(Scheme::Http) => f.write_str("http://")?,
            Some(Scheme::Https) => f.write_str("https://")?,
            None => {}
        }
        match &self.target {
            Target::Name(name) => f.write_str(name)?,
            Target::Net(net) => {
                let brackets = net.addr().is_ipv6() && self.port.is_some();
                let single = net.prefix_len() == net.max_prefix_len();
                f.write_str(if brackets { "[" } else { "" })?;
                if single {
                    write!(f, "{}", net.addr())?;
                } else {
                    write!(f, "{net}")?;
                }
                f.write_str(if brackets { "]" } else { "" })?;
            }
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn parse(entry: &str) -> Result<AllowRule, &'static str> {
    let (scheme, authority) = if let Some(rest) = entry.strip_prefix("https://") {
        (Some(Scheme::Https), rest.strip_suffix('/').unwrap_or(rest))
    } else if let Some(rest) = entry.strip_prefix("http://") {
        (Some(Scheme::Http), rest.strip_suffix('/').unwrap_or(rest))
    } else if entry.contains("://") {
        return Err("the scheme is `https` or `http`");
    } else {
        (None, entry)
    };
    if authority.is_empty() {
        return Err("it is empty; write a host, an address or a range, each with an optional `:port`");
    }
    if authority.contains('@') {
        return Err("a rule has no user name");
    }
    if authority.contains(['?', '#']) || (scheme.is_some() && authority.contains('/')) {
        return Err("a rule ends after the port: no path, query or fragment");
    }

    let (host, port) = split_port(authority)?;
    let port = match (port, scheme) {
        (Some(port), _) => Some(port),
        (None, Some(Scheme::Https)) => Some(443),
        (None, Some(Scheme::Http)) => Some(80),
        (None, None) => None,
    };
    Ok(AllowRule { target: target(host)?, scheme, port })
}

/// Splits `host:port`, `[v6]:port`, `[v6]`, `host` and bare `v6`.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        if !host.contains(':') {
            return Err("brackets are for IPv6 addresses and ranges");
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(self::port(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None if rest.starts_with('/') => Err("the prefix length belongs into the brackets: `[fd12::/16]:443`"),
            None => Err("only `:port` may follow the bracket"),
        };
    }
    match authority.split_once(':') {
        // Two colons or more: an IPv6 address or range without a port.
        Some((_, rest)) if rest.contains(':') => Ok((authority, None)),
        Some((host, port)) => Ok((host, Some(self::port(port)?))),
        None => Ok((authority, None)),
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    const REASON: &str = "the port is a number from 1 to 65535";
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(REASON);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(REASON),
        Ok(port) => Ok(port),
    }
}

fn target(host: &str) -> Result<Target, &'static str> {
    if host.is_empty() {
        return Err("the host is missing");
    }
    if host.contains('%') {
        return Err("addresses with a zone and escaped names cannot be listed");
    }
    if host.contains('/') {
        let net: IpNet = host.parse().map_err(|_| "the range is not `address/prefix length`")?;
        if net.addr() != net.network() {
            return Err("the address has bits beyond the prefix length, so it is unclear what is meant");
        }
        return Ok(Target::Net(unmapped(net)));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Target::Net(IpNet::from(address.to_canonical())));
    }
    if host.contains(':') {
        return Err("it is not an IPv6 address");
    }
    if host.contains('*') {
        return Err("wildcards are not supported: list each host");
    }
    // The parser that also reads the URLs with which the rule is compared: lower case, international names in ASCII.
    match Host::parse(host.strip_suffix('.').unwrap_or(host)) {
        Ok(Host::Domain(name)) if is_name(&name) => Ok(Target::Name(name)),
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => {
            Err("write the address with all four numbers, decimal, without leading zeros")
        }
        Ok(Host::Domain(_)) | Err(_) => Err("it is not a host name"),
    }
}

/// The IPv4 range that an IPv4-mapped range stands for, so that a rule is compared in one form only.
fn unmapped(net: IpNet) -> IpNet {
    if let IpNet::V6(v6) = net
        && let (Some(v4), Some(prefix)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(v4) = Ipv4Net::new(v4, prefix)
    {
        return IpNet::V4(v4);
    }
    net
}

fn is_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back() {
        let table = [
            ("mcp.corp.example", "mcp.corp.example"),
            (" mcp.corp.example ", "mcp.corp.example"),
            ("MCP.Corp.Example.", "mcp.corp.example"),
            ("mcp_1.corp.example:8443", "mcp_1.corp.example:8443"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("localhost:9101", "localhost:9101"),
            ("127.0.0.1:9101", "127.0.0.1:9101"),
            ("127.0.0.1", "127.0.0.1"),
            ("10.20.0.0/16:443", "10.20.0.0/16:443"),
            ("10.20.0.0/16", "10.20.0.0/16"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::1", "::1"),
            ("::1:443", "::1:443"),
            ("[::1]", "::1"),
            ("[::1]:9101", "[::1]:9101"),
            ("fd12::/16", "fd12::/16"),
            ("[fd12::/16]:443", "[fd12::/16]:443"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("[::ffff:10.1.0.0/112]:80", "10.1.0.0/16:80"),
            ("https://mcp.corp.example:8443", "https://mcp.corp.example:8443"),
            ("https://mcp.corp.example/", "https://mcp.corp.example:443"),
            ("http://10.1.2.3", "http://10.1.2.3:80"),
            ("http://[::1]:9101/", "http://[::1]:9101"),
        ];
        for (entry, written) in table {
            let rule: AllowRule = entry.parse().unwrap();
            assert_eq!(rule.to_string(), written, "{entry}");
            assert_eq!(written.parse::<AllowRule>().unwrap(), rule, "{written}");
        }
    }

    #[test]
    fn what_is_unclear_is_refused_and_quoted() {
        let table = [
            "",
            " ",
            ":443",
            "https://",
            "host:",
            "host:0",
            "host:65536",
            "host:+443",
            "host:https",
            "host:443:444",
            "10.20.0.1/16",
            "10.20.0.0/33",
            "10.20.0.0/",
            "/16",
            "host/16",
            "https://host/path",
            "https://host?query",
            "https://host#fragment",
            "https://user@host",
            "https://10.0.0.0/8",
            "ftp://host",
            "HTTPS://host",
            "*.corp.example",
            "*",
            "127.1",
            "2130706433",
            "0x7f000001",
            "010.0.0.1",
            "fe80::1%eth0",
            "[fe80::1%eth0]:80",
            "[::1",
            "[::1]443",
            "[::1]/128:443",
            "[host]:443",
            "[10.0.0.0/8]:443",
            "a..b",
            ".",
            "..",
            "ho st",
            "ho\tst",
            "host\\path",
            "fd12::g",
        ];
        for entry in table {
            let error = entry.parse::<AllowRule>().expect_err(entry);
            assert!(error.to_string().contains(&format!("`{entry}`")), "{error}");
        }
    }
}
