//! Every way to write an address that must not be reached, and a listener that notices whoever reaches one all the same.
//!
//! The table is for each place that takes a URL from outside: what is in it is refused under every policy that opens
//! nothing but public addresses and servers of the test's own, without a look-up and without a connection. Names that only
//! a resolver could tell to be inside are not in it.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// One IPv4 address or more of every range that is not public.
pub const INSIDE: &[Ipv4Addr] = &[
    Ipv4Addr::UNSPECIFIED,
    Ipv4Addr::new(0, 1, 2, 3),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::new(10, 255, 255, 254),
    Ipv4Addr::new(100, 64, 0, 1),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(127, 255, 255, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(172, 16, 0, 1),
    Ipv4Addr::new(172, 31, 255, 254),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 88, 99, 1),
    Ipv4Addr::new(192, 168, 0, 1),
    Ipv4Addr::new(192, 168, 255, 254),
    Ipv4Addr::new(198, 18, 0, 1),
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::new(240, 0, 0, 1),
    Ipv4Addr::BROADCAST,
];

/// The spellings of one IPv4 address, as the host of a URL.
pub fn hosts(ip: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let bits = ip.to_bits();
    let (low16, low24) = (bits & 0xffff, bits & 0xff_ffff);
    let dotted = ip.to_string();
    let (high, low) = (bits >> 16, low16);
    vec![
        dotted.clone(),
        format!("{dotted}."),
        bits.to_string(),
        format!("{bits}."),
        format!("{bits:#x}"),
        format!("{bits:#X}").replace("0X", "0x000000"),
        format!("0{bits:o}"),
        format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.{b:#x}.{c}.{d}"),
        format!("{a}.{b}.{low16}"),
        format!("{a}.{low24}"),
        format!("{a:#x}.{low24:#x}"),
        dotted.chars().map(full_width).collect(),
        dotted.replace('.', "。"),
        dotted.replace('.', "｡"),
        dotted.replace('.', "%2e"),
        dotted.chars().flat_map(escaped).collect(),
        dotted.chars().map(circled).collect(),
        dotted.chars().map(mathematical).collect(),
        format!("{}\t{}", &dotted[..2], &dotted[2..]),
        format!("{}\n{}", &dotted[..2], &dotted[2..]),
        format!("{}\u{ad}{}", &dotted[..2], &dotted[2..]),
        format!("{}\u{200b}{}", &dotted[..2], &dotted[2..]),
        format!("[::ffff:{dotted}]"),
        format!("[::FFFF:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:ffff:{high:04x}:{low:04x}]"),
        format!("[::{dotted}]"),
        format!("[::ffff:0:{dotted}]"),
        format!("[64:ff9b::{dotted}]"),
        format!("[64:ff9b::{high:x}:{low:x}]"),
        format!("[64:ff9b:1::{dotted}]"),
        format!("[64:ff9b:1:{a:02x}{b:02x}:{c:x}:{d:02x}00::]"),
        format!("[2002:{high:x}:{low:x}::]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[2001:0:4136:e378:8000:63bf:{:x}:{:x}]", high ^ 0xffff, low ^ 0xffff),
        format!("[2001::{dotted}]"),
        format!("[fe80::5efe:{dotted}]"),
        format!("user@{dotted}"),
        format!("user:password@{dotted}"),
        format!("example.com@{dotted}"),
        format!("example.com%40{dotted}"),
        format!("example.com:443@{dotted}"),
        format!("{dotted}%00.example.com"),
        format!("{dotted}%20"),
    ]
}

fn full_width(digit: char) -> char {
    match digit {
        '0'..='9' => moved(digit, '0', '０'),
        _ => '．',
    }
}

fn escaped(digit: char) -> Vec<char> {
    format!("%{:02x}", digit as u32).chars().collect()
}

fn circled(digit: char) -> char {
    match digit {
        '0' => '⓪',
        '1'..='9' => moved(digit, '1', '①'),
        other => other,
    }
}

fn mathematical(digit: char) -> char {
    match digit {
        '0'..='9' => moved(digit, '0', '𝟎'),
        other => other,
    }
}

/// The digit in another row of digits.
fn moved(digit: char, from: char, to: char) -> char {
    char::from_u32(digit as u32 - from as u32 + to as u32).unwrap_or(digit)
}

/// Whole URLs; `PORT` is the canary's.
const WRITTEN_OUT: &[&str] = &[
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://localhost..:PORT/",
    "https://localhost:PORT/",
    "https://a.localhost:PORT/",
    "https://a.b.localhost.:PORT/",
    "http://ｌｏｃａｌｈｏｓｔ:PORT/",
    "https://ｌｏｃａｌｈｏｓｔ:PORT/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/",
    "https://ℒ𝕠𝒸𝓪𝔩𝖍𝗈𝘴𝚝:PORT/",
    "https://localho\u{17f}t:PORT/",
    "https://local%68ost:PORT/",
    "https://loc\talhost:PORT/",
    "https://loc\r\nalhost:PORT/",
    "https://localhost。:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://127.9.8.7:PORT/",
    "http://0:PORT/",
    "http://0x:PORT/",
    "http://00000000000:PORT/",
    "https://0x7f.1:PORT/",
    "https://0X7F.0x0.00.1:PORT/",
    "http://127.0.0.01:PORT/",
    "http://127.0.0.0x1:PORT/",
    "http://0177.1:PORT/",
    "http://127.0.0.1:0PORT/",
    "http://127.0.0.1:00000PORT/",
    "http://127。0。0。1:PORT/",
    "http:\\\\127.0.0.1:PORT\\",
    "http:/\\127.0.0.1:PORT/",
    "https:\\/127.0.0.1:PORT/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "http:////127.0.0.1:PORT/",
    "https:///127.0.0.1:PORT/",
    "  http://127.0.0.1:PORT/  ",
    "\u{0}http://127.0.0.1:PORT/",
    "\u{feff}http://127.0.0.1:PORT/",
    "ht\ntp://127.0.0.1:PORT/",
    "http:\t//127.0.0.1:PORT/",
    "http://127.0.0.1:\tPORT/",
    "http://\u{2060}127.0.0.1:PORT/",
    "HTTP://127.0.0.1:PORT/",
    "HtTpS://127.0.0.1:PORT/",
    "//127.0.0.1:PORT/",
    "\\\\127.0.0.1:PORT\\",
    "127.0.0.1:PORT",
    "http://127.0.0.1\\@example.com:PORT/",
    "http://example.com\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@example.com/",
    "http://127.0.0.1:PORT#@example.com/",
    "http://example.com#@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT?@example.com/",
    "http://example.com&@127.0.0.1:PORT/",
    "http://a@b@127.0.0.1:PORT/",
    "http://@@127.0.0.1:PORT/",
    "https://127.0.0.1:PORT#",
    "https://127.0.0.1:PORT/#fragment",
    "https://user@example.com:PORT/",
    "https://user:@example.com:PORT/",
    "https://:password@example.com:PORT/",
    "https://example.com/#fragment",
    "https://example.com/#",
    "https://example.com:0/",
    "https://127.0.0.1:0/",
    "https://example.com:65536/",
    "https://example.com:-1/",
    "https://example.com:PORT:PORT/",
    "https://./",
    "https://../",
    "https://",
    "https://:PORT/",
    "https://%00/",
    "https://%2f127.0.0.1/",
    "https://127.0.0.1%2f:PORT/",
    "https://[::1]:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[0000:0000:0000:0000:0000:0000:0000:0001]:PORT/",
    "http://[0::1]:PORT/",
    "http://[::0:1]:PORT/",
    "http://[::0.0.0.1]:PORT/",
    "http://[::]:PORT/",
    "http://[::0]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[::FfFf:127.0.0.1]:PORT/",
    "http://[::1%25lo]:PORT/",
    "http://[::1%lo]:PORT/",
    "http://[::1%251]:PORT/",
    "http://[::1:PORT/",
    "http://::1:PORT/",
    "http://[::1]PORT/",
    "http://[[::1]]:PORT/",
    "http://user@[::1]:PORT/",
    "http://%5b::1%5d:PORT/",
    "http://[fe80::1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::a9fe:a9fe]/",
    "https://[fe80::200:5efe:127.0.0.1]:PORT/",
    "https://[fd00::5efe:10.0.0.1]/",
    "https://[febf:ffff::1]/",
    "https://[fec0::1]/",
    "https://[feff::1]/",
    "https://[fc00::1]/",
    "https://[fd00::1]/",
    "https://[fd00:ec2::254]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[fd00:ec2::23]/",
    "https://[fd00:42::42]/",
    "https://[fd20:ce::254]/",
    "https://[fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]/",
    "https://[ff02::1]/",
    "https://[ff0e::1]/",
    "https://[100::1]/",
    "https://[100:0:0:1::1]/",
    "https://[2001:db8::1]/",
    "https://[2001:2::1]/",
    "https://[2001:10::1]/",
    "https://[2001:20::1]/",
    "https://[2001:1ff::1]/",
    "https://[3fff::1]/",
    "https://[3fff:fff::1]/",
    "https://[5f00::1]/",
    "https://[4000::1]/",
    "https://[8000::1]/",
    "https://[1::1]/",
    "https://[::ffff:127.1]/",
    "https://[::ffff:0x7f000001]/",
    "https://[::ffff:2130706433]/",
    "https://[127.0.0.1]/",
    "https://[v1.127.0.0.1]/",
    "https://metadata/",
    "http://metadata/computeMetadata/v1/",
    "https://metadata./",
    "https://METADATA/",
    "https://metadata.google.internal/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "https://metadata.google.internal./",
    "https://Metadata.Google.Internal/",
    "https://metadata.google。internal/",
    "https://metadata.azure.internal/",
    "https://instance-data.ec2.internal/",
    "https://instance-data.ec2.internal../",
    "http://instance-data/latest/meta-data/",
    "http://rancher-metadata/",
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.169.254/latest/api/token",
    "http://169.254.169.254/metadata/instance?api-version=2021-02-01",
    "http://169.254.169.254/openstack/latest/meta_data.json",
    "http://169.254.169.254/metadata/v1.json",
    "http://169.254.169.254/opc/v2/instance/",
    "http://169.254.170.2/v2/credentials/",
    "http://169.254.170.23/v1/credentials",
    "http://169.254.42.42/conf",
    "http://192.0.0.192/latest/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/machine?comp=goalstate",
    "http://kubernetes.default.svc/api",
    "http://host.docker.internal:PORT/",
    "http://gateway.docker.internal:PORT/",
    "http://mcp.example.com/",
    "http://mcp.example.com:443/",
    "http://mcp.example.com:PORT/mcp",
    "http://127.0.0.1.nip.io:PORT/",
    "http://127-0-0-1.sslip.io:PORT/",
    "http://localtest.me:PORT/",
    "http://8.8.8.8/",
    "http://8.8.8.8:443/",
    "http://[2606:4700::1111]/",
    "http://[::ffff:8.8.8.8]/",
    "https://[::8.8.8.8]/",
    "https://[64:ff9b::8.8.8.8]/",
    "https://[2002:808:808::]/",
    "ftp://127.0.0.1:PORT/",
    "ftps://127.0.0.1:PORT/",
    "sftp://127.0.0.1:PORT/",
    "tftp://127.0.0.1:PORT/x",
    "ws://127.0.0.1:PORT/",
    "wss://127.0.0.1:PORT/",
    "wss://example.com/",
    "file:///etc/passwd",
    "file://127.0.0.1/etc/passwd",
    "file://localhost:PORT/etc/passwd",
    "gopher://127.0.0.1:PORT/_x",
    "dict://127.0.0.1:PORT/info",
    "ldap://127.0.0.1:PORT/",
    "imap://127.0.0.1:PORT/",
    "smtp://127.0.0.1:PORT/",
    "telnet://127.0.0.1:PORT/",
    "redis://127.0.0.1:PORT/0",
    "postgres://127.0.0.1:PORT/c",
    "data:text/plain,x",
    "data:application/json,{}",
    "javascript:alert(1)",
    "javascript://127.0.0.1:PORT/%0aalert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "vbscript:x",
    "unix:/var/run/docker.sock",
    "unix:///var/run/docker.sock",
    "http+unix://%2Fvar%2Frun%2Fdocker.sock/",
    "blob:https://127.0.0.1:PORT/x",
    "filesystem:http://127.0.0.1:PORT/x",
    "view-source:http://127.0.0.1:PORT/",
    "feed:http://127.0.0.1:PORT/",
    "about:blank",
    "jar:http://127.0.0.1:PORT/!/",
    "netdoc:///etc/passwd",
    "mailto:root@localhost",
    "urn:x:y",
    "http",
    "://127.0.0.1:PORT/",
    "/",
    "",
];

/// A few hundred URLs, all different, with every form at least once. In those that name this machine the port is `port`.
pub fn table(port: u16) -> Vec<String> {
    let mut table = written_out(port);
    for host in hosts(Ipv4Addr::LOCALHOST) {
        table.push(format!("http://{host}:{port}/mcp"));
        table.push(format!("https://{host}:{port}/mcp"));
    }
    for host in hosts(Ipv4Addr::new(169, 254, 169, 254)) {
        table.push(format!("http://{host}/latest/meta-data/"));
    }
    for ip in INSIDE {
        table.push(format!("https://{ip}/mcp"));
    }
    distinct(table)
}

/// Thousands: the [`table`], and every form of every address of [`INSIDE`] under both schemes.
pub fn whole_table(port: u16) -> Vec<String> {
    let mut table = table(port);
    for ip in INSIDE {
        for host in hosts(*ip) {
            table.push(format!("http://{host}:{port}/mcp"));
            table.push(format!("https://{host}:{port}/mcp"));
            table.push(format!("http://{host}/latest/meta-data/"));
        }
    }
    distinct(table)
}

fn written_out(port: u16) -> Vec<String> {
    WRITTEN_OUT.iter().map(|url| url.replace("PORT", &port.to_string())).collect()
}

/// Without repetitions; the order stays.
fn distinct(table: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    table.into_iter().filter(|url| seen.insert(url.clone())).collect()
}

/// A listener that nobody may reach: on every address of this machine, in both families, and it takes down every connection.
#[derive(Debug)]
pub struct Canary {
    port: u16,
    addresses: Vec<SocketAddr>,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Seen {
    peers: Mutex<Peers>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Peers {
    came: BTreeSet<SocketAddr>,
    /// Those that were the canary's own.
    own: usize,
    total: usize,
}

impl Canary {
    /// Listens on a free port. Where this machine has no IPv6, on IPv4 alone.
    pub async fn start() -> io::Result<Self> {
        let (listener, six) = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
            Ok(listener) => (listener, true),
            Err(_) => (TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await?, false),
        };
        let port = listener.local_addr()?.port();
        let mut addresses = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
        if six {
            addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        }
        let seen = Arc::<Seen>::default();
        let accepting = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                while let Ok((_, peer)) = listener.accept().await {
                    seen.take_down(peer);
                }
            }
        });
        Ok(Self { port, addresses, seen, accepting })
    }

    /// The port on which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections came so far.
    ///
    /// It finds out by connecting to itself: that shows that it listens, and what came before is taken down before. An
    /// error if it cannot be reached.
    pub async fn connections(&self) -> io::Result<usize> {
        for address in &self.addresses {
            let control = TcpStream::connect(address).await?;
            self.seen.wait_for(control.local_addr()?).await;
        }
        let peers = self.seen.lock();
        Ok(peers.total - peers.own)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Seen {
    fn take_down(&self, peer: SocketAddr) {
        let mut peers = self.lock();
        peers.came.insert(SocketAddr::new(peer.ip().to_canonical(), peer.port()));
        peers.total += 1;
        drop(peers);
        self.changed.notify_one();
    }

    /// Waits for the canary's own connection, which does not count.
    async fn wait_for(&self, own: SocketAddr) {
        loop {
            let changed = self.changed.notified();
            {
                let mut peers = self.lock();
                if peers.came.remove(&own) {
                    peers.own += 1;
                    return;
                }
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_enough_spellings_and_a_port_where_they_name_this_machine() {
        let table = table(7);
        assert!(table.len() >= 300, "{}", table.len());
        assert!(whole_table(7).len() >= 3000, "{}", whole_table(7).len());
        assert!(!table.iter().any(|url| url.contains("PORT")));
    }

    #[tokio::test]
    async fn a_canary_counts_whoever_comes_in_either_family_and_not_itself() {
        let canary = Canary::start().await.unwrap();
        assert_eq!(canary.connections().await.unwrap(), 0);
        for address in canary.addresses.clone() {
            TcpStream::connect(address).await.unwrap();
        }
        TcpStream::connect(("127.9.8.7", canary.port())).await.unwrap();
        let expected = canary.addresses.len() + 1;
        assert_eq!(canary.connections().await.unwrap(), expected);
        assert_eq!(canary.connections().await.unwrap(), expected);
    }
}
