//! What kind of place an IP address is.
//!
//! Written out by hand because `IpAddr::is_global` is unstable and says nothing about metadata services. It knows
//! addresses only: names, ports and what an operator allows are decided elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kinds of address between which the policy distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Public unicast.
    Public,
    /// This machine.
    Loopback,
    /// Link-local ranges, and the metadata services of clouds wherever they live.
    LinkLocal,
    /// Private, shared, documentation, benchmarking and unassigned ranges: an allow rule opens them.
    Reserved,
    /// Never a destination, whatever the rules: unspecified, multicast, broadcast, and the transition prefixes that
    /// carry an IPv4 address past every rule written for that address.
    Unusable,
}

/// Whether `ip` is a public unicast address: one that anybody on the internet could reach as well.
///
/// An IPv4-mapped address is judged as the IPv4 address that it carries. Deprecated or translating forms that embed an
/// IPv4 address (IPv4-compatible, NAT64, 6to4, Teredo) are not public, whatever they embed.
pub fn is_public(ip: IpAddr) -> bool {
    kind(ip) == Kind::Public
}

/// The address that the operating system would dial: an IPv4-mapped address is the IPv4 address in it.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

pub(crate) fn kind(ip: IpAddr) -> Kind {
    match canonical(ip) {
        IpAddr::V4(v4) => kind_v4(v4),
        IpAddr::V6(v6) => kind_v6(v6),
    }
}

#[expect(clippy::unnested_or_patterns, reason = "one range each, as the registries list them")]
fn kind_v4(ip: Ipv4Addr) -> Kind {
    match ip.octets() {
        // "This network" (RFC 791; the unspecified address reaches this machine on Linux), multicast, broadcast.
        [0 | 224..=239, ..] | [255, 255, 255, 255] => Kind::Unusable,
        [127, ..] => Kind::Loopback,
        [169, 254, ..]
        // Azure's wire server, which is a public address; Alibaba's metadata service, inside the shared range that VPNs
        // use and operators allow; Oracle's.
        | [168, 63, 129, 16]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192] => Kind::LinkLocal,
        // Private (RFC 1918), shared (RFC 6598), protocol assignments, documentation, 6to4 relays, benchmarking,
        // future.
        [10, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [100, 64..=127, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Kind::Reserved,
        _ => Kind::Public,
    }
}

#[expect(clippy::unnested_or_patterns, reason = "one range each, as the registries list them")]
fn kind_v6(ip: Ipv6Addr) -> Kind {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Kind::Loopback,
        // The unspecified address, the deprecated IPv4-compatible ones, IPv4-translated ones; multicast; NAT64 with a
        // local prefix (the place of the IPv4 address in it is unknown); Teredo; 6to4.
        [0, 0, 0, 0, 0 | 0xffff, 0, ..]
        | [0xff00..=0xffff, ..]
        | [0x64, 0xff9b, 1, ..]
        | [0x2001, 0, ..]
        | [0x2002, ..] => Kind::Unusable,
        // NAT64 (RFC 6052). On a network without IPv4 every IPv4-only host looks like this, so an operator may open the
        // prefix; that must not open what is behind the translator. The RFC forbids embedding anything not public.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => match kind_v4(v4_of(high, low)) {
            Kind::Public => Kind::Reserved,
            Kind::LinkLocal => Kind::LinkLocal,
            _ => Kind::Unusable,
        },
        // Link-local; the metadata services of AWS, Scaleway and Google Cloud, inside the unique local range.
        [0xfe80..=0xfebf, ..] | [0xfd00, 0xec2 | 0x42, ..] | [0xfd20, 0xce, ..] => Kind::LinkLocal,
        // Protocol assignments 2001::/23, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Kind::Reserved,
        // Global unicast is 2000::/3. Whatever is outside (unique local, site-local, discard-only, segment routing,
        // ranges not yet assigned) is not public.
        [0x2000..=0x3fff, ..] => Kind::Public,
        _ => Kind::Reserved,
    }
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;
    use proptest::prelude::*;

    use super::*;

    /// The same decision, said differently: ranges, as they stand in the registries.
    const NOT_PUBLIC: &[&str] = &[
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "255.255.255.255/32",
        "::/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        // All that is not global unicast.
        "::/3",
        "4000::/2",
        "8000::/1",
    ];

    fn public_by_ranges(ip: IpAddr) -> bool {
        if let IpAddr::V6(v6) = ip
            && let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = v6.octets()
        {
            return public_by_ranges(IpAddr::from([a, b, c, d]));
        }
        !NOT_PUBLIC.iter().any(|range| range.parse::<IpNet>().unwrap().contains(&ip))
    }

    /// Addresses on, beside and inside the edges of every range, since random ones rarely come near.
    fn edges() -> Vec<IpAddr> {
        let mut found = Vec::new();
        for range in NOT_PUBLIC {
            match range.parse::<IpNet>().unwrap() {
                IpNet::V4(net) => {
                    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                    for bits in [
                        first.wrapping_sub(1),
                        first,
                        first.wrapping_add(1),
                        last.wrapping_sub(1),
                        last,
                        last.wrapping_add(1),
                    ] {
                        found.push(IpAddr::V4(Ipv4Addr::from_bits(bits)));
                    }
                }
                IpNet::V6(net) => {
                    let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                    for bits in [first.wrapping_sub(1), first, first + 1, last - 1, last, last.wrapping_add(1)] {
                        found.push(IpAddr::V6(Ipv6Addr::from_bits(bits)));
                    }
                }
            }
        }
        found
    }

    #[test]
    fn both_formulations_agree_at_every_edge() {
        for ip in edges() {
            assert_eq!(is_public(ip), public_by_ranges(ip), "{ip}");
            if let IpAddr::V4(v4) = ip {
                let mapped = IpAddr::V6(v4.to_ipv6_mapped());
                assert_eq!(is_public(mapped), is_public(ip), "{mapped}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn both_formulations_agree_on_ipv4(bits: u32) {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(bits));
            prop_assert_eq!(is_public(ip), public_by_ranges(ip));
        }

        #[test]
        fn both_formulations_agree_on_ipv6(bits: u128) {
            let ip = IpAddr::V6(Ipv6Addr::from_bits(bits));
            prop_assert_eq!(is_public(ip), public_by_ranges(ip));
        }

        #[test]
        fn both_formulations_agree_under_special_prefixes(
            prefix in prop::sample::select(vec![
                0_u128, 0xffff << 32, 0xffff << 48, 0x64_ff9b << 96, 0x64_ff9b_0001 << 80, 0x2001_0000 << 96,
                0x2002 << 112, 0xfe80 << 112, 0xfec0 << 112, 0xfd00_0ec2 << 96, 0x2001_0db8 << 96, 0x0100 << 112,
            ]),
            low: u32,
        ) {
            let ip = IpAddr::V6(Ipv6Addr::from_bits(prefix | u128::from(low)));
            prop_assert_eq!(is_public(ip), public_by_ranges(ip));
        }

        #[test]
        fn a_mapped_address_is_what_it_carries(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(kind(IpAddr::V6(v4.to_ipv6_mapped())), kind(IpAddr::V4(v4)));
        }
    }

    #[test]
    fn kinds_are_told_apart() {
        let table = [
            (Kind::Public, vec!["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "100.63.0.1", "172.32.0.1"]),
            (Kind::Loopback, vec!["127.0.0.1", "127.255.0.3", "::1", "::ffff:127.0.0.1"]),
            (
                Kind::LinkLocal,
                vec![
                    "169.254.169.254",
                    "::ffff:169.254.169.254",
                    "168.63.129.16",
                    "100.100.100.200",
                    "192.0.0.192",
                    "fe80::1",
                    "febf::1",
                    "fd00:ec2::254",
                    "fd20:ce::254",
                    "fd00:42::42",
                    "64:ff9b::a9fe:a9fe",
                ],
            ),
            (
                Kind::Reserved,
                vec!["10.0.0.1", "100.64.0.1", "fd12::1", "fec0::1", "64:ff9b::808:808", "4000::1", "240.0.0.1"],
            ),
            (
                Kind::Unusable,
                vec![
                    "0.0.0.0",
                    "0.1.2.3",
                    "::",
                    "::ffff:0.0.0.0",
                    "::127.0.0.1",
                    "::8.8.8.8",
                    "::ffff:0:127.0.0.1",
                    "64:ff9b::7f00:1",
                    "64:ff9b::a00:1",
                    "64:ff9b:1::1",
                    "2002:7f00:1::",
                    "2001:0:1::1",
                    "224.0.0.1",
                    "255.255.255.255",
                    "ff02::1",
                ],
            ),
        ];
        for (expected, addresses) in table {
            for address in addresses {
                assert_eq!(kind(address.parse().unwrap()), expected, "{address}");
            }
        }
    }
}
