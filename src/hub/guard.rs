//! Feature `hub`. Which addresses a download may connect to.
//!
//! A hub's answer can send a client anywhere; it must not send it to the machine's own services,
//! the local network or a cloud's metadata address. [`Guard`] sits where names become addresses, so
//! a public name that points inward is refused too. The hub's own host and the proxies are exempt:
//! the user named them. A hub that is itself in a private network may send elsewhere in such networks, as
//! mirrors do that keep large files on a second host; to the machine itself and to link-local addresses, where
//! clouds keep their secrets, it may not. Nothing else of HTTP is decided here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::printable::printable;

/// Which hosts may be where.
#[derive(Debug)]
pub(crate) struct Trust {
    /// The hub's host, in lower case.
    hub: String,
    /// Other hosts that the user named, in lower case.
    named: Vec<String>,
    /// Whether the hub was found in a private network.
    hub_is_private: AtomicBool,
}

impl Trust {
    /// Trusts the hosts that the user named (in lower case), wherever they are.
    pub(crate) fn new(hub: String, named: Vec<String>) -> Self {
        let private = literal(&hub).is_some_and(is_private);
        Self { hub, named, hub_is_private: AtomicBool::new(private) }
    }

    /// Whether a host (in lower case) may be at this address.
    pub(crate) fn allows(&self, host: &str, ip: IpAddr) -> bool {
        let near = || is_private(ip) && self.hub_is_private.load(Ordering::Relaxed);
        is_public(ip) || host == self.hub || self.named.iter().any(|name| name == host) || near()
    }

    fn found(&self, host: &str, ip: IpAddr) {
        if host == self.hub && is_private(ip) {
            self.hub_is_private.store(true, Ordering::Relaxed);
        }
    }
}

/// A host that is an address itself, an IPv6 one in brackets.
pub(crate) fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Resolves names and refuses those that point to a private address, except where [`Trust`] allows it.
#[derive(Debug)]
pub(crate) struct Guard {
    inner: DefaultResolver,
    trust: Arc<Trust>,
}

impl Guard {
    pub(crate) fn new(trust: Arc<Trust>) -> Self {
        Self { inner: DefaultResolver::default(), trust }
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout).map_err(|e| match e {
            ureq::Error::Io(_) => ureq::Error::HostNotFound,
            e => e,
        })?;
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        found.iter().for_each(|a| self.trust.found(&host, a.ip()));
        if let Some(inside) = found.iter().find(|a| !self.trust.allows(&host, a.ip())) {
            return Err(ureq::Error::Other(Box::new(PrivateAddress { host, ip: inside.ip() })));
        }
        Ok(found)
    }
}

/// Why [`Guard`] refused a name.
#[derive(Debug)]
pub(crate) struct PrivateAddress {
    host: String,
    ip: IpAddr,
}

impl fmt::Display for PrivateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is the private address {}", printable(&self.host), self.ip)
    }
}

impl std::error::Error for PrivateAddress {}

/// Whether an address is on the open Internet.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => {
            let [a, b, .., c, d] = ip.segments();
            let inner = Ipv4Addr::from((u32::from(c) << 16) | u32::from(d));
            match (a, b) {
                // ::/96 and ::ffff:0:0/96 (this host, mapped IPv4), NAT64, 6to4.
                (0, _) => ip.to_ipv4_mapped().is_some_and(is_public_v4),
                (0x64, 0xff9b) => is_public_v4(inner),
                (0x2002, _) => {
                    is_public_v4(Ipv4Addr::from((u32::from(b) << 16) | u32::from(ip.segments()[2])))
                }
                _ => {
                    !(ip.is_multicast()
                        || in_v6(ip, 0xfc00, 7)
                        || in_v6(ip, 0xfe80, 10)
                        || in_v6(ip, 0xfec0, 10))
                }
            }
        }
    }
}

fn in_v6(ip: Ipv6Addr, prefix: u16, bits: u32) -> bool {
    (ip.segments()[0] ^ prefix) >> (16 - bits) == 0
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let reserved =
        a == 0 || a >= 240 || (a, b) == (198, 18) || (a, b) == (198, 19) || (a, b, c) == (192, 0, 0);
    let shared = a == 100 && (64..128).contains(&b);
    !(reserved
        || shared
        || ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation())
}

/// Whether an address is one of a private network: not this machine, not link-local.
fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => in_v6(ip, 0xfc00, 7),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_in_a_private_network_may_send_to_its_neighbors() {
        let ip = |text: &str| -> IpAddr { text.parse().expect(text) };
        let near = Trust::new("10.0.0.1".into(), vec!["proxy".into()]);
        for neighbor in ["10.9.9.9", "192.168.0.4", "172.16.0.1", "100.64.0.1", "fd00::1", "1.1.1.1"] {
            assert!(near.allows("files.example", ip(neighbor)), "{neighbor}");
        }
        for forbidden in ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "0.0.0.0", "::ffff:127.0.0.1"] {
            assert!(!near.allows("files.example", ip(forbidden)), "{forbidden}");
            assert!(near.allows("proxy", ip(forbidden)), "{forbidden}");
        }
        let by_name = Trust::new("hub.example".into(), Vec::new());
        assert!(!by_name.allows("files.example", ip("10.0.0.2")));
        by_name.found("elsewhere.example", ip("10.0.0.1"));
        assert!(!by_name.allows("files.example", ip("10.0.0.2")));
        by_name.found("hub.example", ip("10.0.0.1"));
        assert!(by_name.allows("files.example", ip("10.0.0.2")));
        let local = Trust::new("127.0.0.1".into(), Vec::new());
        assert!(!local.allows("files.example", ip("10.0.0.2")));
    }

    #[test]
    fn private_addresses_are_known() {
        let inside = [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "ff02::1",
            "fec0::1",
        ];
        for ip in inside {
            assert!(!is_public(ip.parse().expect(ip)), "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "100.128.0.1",
        ] {
            assert!(is_public(ip.parse().expect(ip)), "{ip}");
        }
    }
}
