//! Proxies as curl and `huggingface_hub` understand them: which variables name them, and which hosts are
//! reached without. No socket is opened here.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;

/// The proxies that an environment names. The default names none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http://` addresses: `http_proxy`.
    pub http: Option<ProxySetting>,
    /// For `https://` addresses: `https_proxy`.
    pub https: Option<ProxySetting>,
    /// For what has none of its own: `all_proxy`.
    pub all: Option<ProxySetting>,
    /// `no_proxy`: hosts, domains, networks, each with a port or without, or `*`, between commas.
    pub none_for: String,
}

/// A proxy, and who named it. Its `Debug` form does not show the address, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxySetting {
    /// The variable, as it is spelled.
    pub variable: String,
    /// The address, as it was given.
    pub address: String,
}

impl fmt::Debug for ProxySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxySetting({})", self.variable)
    }
}

impl Proxies {
    /// The proxies of an environment. The small spelling of a name wins, and unsets if it is empty. `HTTP_PROXY`
    /// counts for nothing in a CGI program, whose callers can set it.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name: &str| lookup(name).map(|v| v.to_string_lossy().trim().to_owned());
        let either = |name: &str| {
            let (small, large) = (name.to_lowercase(), name.to_uppercase());
            let cgi = name == "http_proxy" && lookup("REQUEST_METHOD").is_some();
            let found = text(&small).map(|value| (small, value));
            found.or_else(|| text(&large).filter(|_| !cgi).map(|value| (large, value)))
        };
        let setting = |name: &str| {
            let (variable, address) = either(name).filter(|(_, value)| !value.is_empty())?;
            Some(ProxySetting { variable, address })
        };
        Self {
            http: setting("http_proxy"),
            https: setting("https_proxy"),
            all: setting("all_proxy"),
            none_for: either("no_proxy").map(|(_, value)| value).unwrap_or_default(),
        }
    }

    /// The proxy for an address of this scheme, host (an IPv6 address may stand in brackets) and port.
    pub fn of(&self, https: bool, host: &str, port: u16) -> Option<&ProxySetting> {
        let own = if https { &self.https } else { &self.http };
        own.as_ref().or(self.all.as_ref()).filter(|_| !self.spares(host, port))
    }

    /// Whether a host is reached without a proxy.
    fn spares(&self, host: &str, port: u16) -> bool {
        let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let ip: Option<IpAddr> = host.parse().ok();
        let entries = self.none_for.split(|c: char| c == ',' || c.is_whitespace());
        entries.filter(|entry| !entry.is_empty()).any(|entry| {
            if entry == "*" {
                return true;
            }
            if let (Some((network, bits)), Some(ip)) = (network(entry), ip) {
                return contains(network, bits, ip);
            }
            let (name, wanted) = with_port(entry);
            let name = name.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
            let below = || ip.is_none() && host.strip_suffix(&name).is_some_and(|rest| rest.ends_with('.'));
            !name.is_empty() && wanted.is_none_or(|p| p == port) && (bare(&name) == host || below())
        })
    }
}

/// A host without the brackets of an IPv6 address.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

/// `10.0.0.0/8`, or a lone address as a network of its own.
fn network(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match entry.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (entry, None),
    };
    let address: IpAddr = bare(address).parse().ok()?;
    let all = if address.is_ipv4() { 32 } else { 128 };
    Some((address, bits.unwrap_or(all))).filter(|(_, bits)| *bits <= all)
}

fn contains(network: IpAddr, bits: u32, ip: IpAddr) -> bool {
    match (network, ip.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// The host of an entry, and its port if it names one.
fn with_port(entry: &str) -> (&str, Option<u16>) {
    let split = entry.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
    match split.map(|(host, port)| (host, port.parse())) {
        Some((host, Ok(port))) => (host, Some(port)),
        _ => (entry, None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        Proxies::from_lookup(|name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| v.into()))
    }

    #[test]
    fn variables_in_both_cases_by_scheme() {
        let found = |pairs: &[(&str, &str)], https| {
            proxies(pairs).of(https, "hub.example", 443).map(|s| (s.variable.clone(), s.address.clone()))
        };
        let is = |variable: &str, address: &str| Some((variable.to_owned(), address.to_owned()));
        let http = [("http_proxy", "a"), ("HTTP_PROXY", "b")];
        assert_eq!(found(&http, false), is("http_proxy", "a"));
        assert_eq!(found(&http, true), None, "a proxy for http is none for https");
        assert_eq!(found(&[("HTTPS_PROXY", "b")], true), is("HTTPS_PROXY", "b"));
        assert_eq!(found(&[("HTTPS_PROXY", "b"), ("all_proxy", "c")], false), is("all_proxy", "c"));
        assert_eq!(found(&[("HTTPS_PROXY", "b"), ("ALL_PROXY", "c")], true), is("HTTPS_PROXY", "b"));
        assert_eq!(found(&[("https_proxy", ""), ("HTTPS_PROXY", "b")], true), None, "unset by the small one");
        assert_eq!(found(&[("HTTP_PROXY", "b"), ("REQUEST_METHOD", "GET")], false), None, "httpoxy");
        let secret = proxies(&[("http_proxy", "http://u:secret@p")]);
        assert!(!format!("{secret:?}").contains("secret"));
    }

    #[test]
    fn hosts_without_a_proxy() {
        let cases = [
            ("example.com", "example.com", 443, true),
            ("example.com", "Hub.Example.com.", 443, true),
            (".example.com", "hub.example.com", 443, true),
            ("*.example.com", "hub.example.com", 443, true),
            ("example.com", "notexample.com", 443, false),
            ("hub.example.com", "example.com", 443, false),
            ("example.com:8443", "example.com", 8443, true),
            ("example.com:8443", "example.com", 443, false),
            ("*", "anything", 80, true),
            ("a, b ,c", "b", 80, true),
            ("a b", "b", 80, true),
            ("", "b", 80, false),
            (",,", "b", 80, false),
            (".", "b", 80, false),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("10.0.0.0/33", "10.0.0.0", 80, false),
            ("0.0.0.0/0", "11.1.2.3", 80, true),
            ("192.168.1.7", "192.168.1.7", 80, true),
            ("192.168.1.7:8080", "192.168.1.7", 8080, true),
            ("192.168.1.7:8080", "192.168.1.7", 80, false),
            ("0.1", "10.0.0.1", 80, false),
            ("fd00::/8", "[fd12::1]", 80, true),
            ("fd00::/8", "[fe80::1]", 80, false),
            ("::1", "[::1]", 80, true),
            ("[::1]:8080", "[::1]", 8080, true),
            ("[::1]:8080", "[::1]", 80, false),
            ("10.0.0.0/8", "hub.example", 80, false),
        ];
        for (list, host, port, spared) in cases {
            assert_eq!(proxies(&[("NO_PROXY", list)]).spares(host, port), spared, "{list}: {host}:{port}");
        }
    }
}
