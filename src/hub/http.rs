//! Feature `hub`. GET over HTTP(S), with the manners a downloader needs.
//!
//! Redirects are followed by hand, because each one is a decision: only to http and https, never
//! from https down to http, never to a private address unless that is the hub's own host, and the
//! token goes to the hub's own origin and nowhere else. Addresses are judged when they are resolved,
//! not when a URL is read, so a name that points inward is refused as well (behind a proxy the proxy
//! resolves, and only literal addresses can be judged).
//!
//! A failure is either final or worth another attempt; [`Client::retry`] does the waiting, bounded.
//! Nothing is written to disk here.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::{HeaderMap, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy};

use crate::error::{Advice, Error, Result};
use crate::hub::guard::{Guard, PrivateAddress, is_public};
use crate::hub::{HubOptions, Patience};
use crate::printable::printable;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 10;

/// Why a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Trying again would not help.
    Final(Error),
    /// It may work the next time.
    Again {
        /// What happened, without a final stop.
        what: String,
        /// How long the server asks to wait.
        wait: Option<Duration>,
        /// Whether anything new arrived before it failed.
        progress: bool,
    },
}

impl Failure {
    pub(crate) fn again(what: impl Into<String>) -> Self {
        Failure::Again { what: what.into(), wait: None, progress: false }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

/// An [`Error::Hub`].
pub(crate) fn hub_error(what: impl Into<String>, help: impl Into<Advice>) -> Error {
    Error::Hub { what: what.into(), help: help.into() }
}

/// Scheme, host and port: what a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    fn of(url: &Uri) -> Option<Self> {
        let https = match url.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = url.authority().filter(|a| !a.as_str().contains('@') && !a.host().is_empty())?;
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        Some(Self { https, host: authority.host().to_ascii_lowercase(), port })
    }
}

/// An answer to a GET, after redirects.
pub(crate) struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers of the last response.
    pub headers: HeaderMap,
    /// Headers of the first response that came from the hub itself and names the file's content.
    pub hub_headers: HeaderMap,
    /// What is left to read.
    pub body: Body,
}

impl Answer {
    /// A header of the last response, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A hub to ask, and how.
pub(crate) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Origin,
    authorization: Option<String>,
    patience: Patience,
    cancel: Arc<AtomicBool>,
}

impl Client {
    /// A client for the hub of these options. Opens no connection yet.
    ///
    /// # Errors
    /// [`Error::Hub`] if the endpoint is not an http(s) address, or the token or the certificates
    /// cannot be used.
    pub(crate) fn new(options: &HubOptions) -> Result<Self> {
        let endpoint = options.env.endpoint().to_owned();
        let origin =
            endpoint.parse::<Uri>().ok().filter(|u| u.query().is_none()).and_then(|u| Origin::of(&u));
        let origin = origin.ok_or_else(|| {
            let what =
                format!("HF_ENDPOINT `{}` is not an http:// or https:// address", printable(&endpoint));
            hub_error(what, "set it to something like https://huggingface.co, or unset it")
        })?;
        let proxy = if options.env.proxies { Proxy::try_from_env() } else { None };
        let mut trusted = vec![origin.host.clone()];
        trusted.extend(proxy.as_ref().map(|p| p.host().to_ascii_lowercase()));
        let patience = options.patience.clone();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(proxy)
            .user_agent(concat!("vit-gpu/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence))
            .timeout_per_write(Some(patience.silence));
        if let Some(path) = &options.env.certificates {
            let bad = |why: String| {
                let what = format!("the certificates in {} cannot be used: {why}", path.display());
                hub_error(what, "check SSL_CERT_FILE and REQUESTS_CA_BUNDLE")
            };
            let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                return Err(bad("there are none in it".into()));
            }
            config =
                config.tls_config(TlsConfig::builder().root_certs(RootCerts::from(certificates)).build());
        }
        Ok(Self {
            agent: Agent::with_parts(config.build(), DefaultConnector::default(), Guard::new(trusted)),
            endpoint,
            origin,
            authorization: options.env.token()?.map(|token| format!("Bearer {}", token.0)),
            patience,
            cancel: Arc::clone(&options.cancel),
        })
    }

    /// The hub's address, without a final slash.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether requests to the hub carry a token.
    pub(crate) fn has_token(&self) -> bool {
        self.authorization.is_some()
    }

    /// GETs `url` from byte `from` on, following redirects. Any final status is an answer.
    pub(crate) fn get(&self, url: &str, from: u64) -> Result<Answer, Failure> {
        let mut url: Uri =
            url.parse().map_err(|e| hub_error(format!("`{}` is not a URL: {e}", printable(url)), ""))?;
        let mut hub_headers = HeaderMap::new();
        for _ in 0..=MAX_REDIRECTS {
            self.check_cancelled()?;
            let at_hub = Origin::of(&url).as_ref() == Some(&self.origin);
            let mut request = self.agent.get(&url);
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            if let Some(authorization) = self.authorization.as_deref().filter(|_| at_hub) {
                request = request.header("authorization", authorization);
            }
            let response = request.call().map_err(|e| self.failure(&url, e))?;
            let (parts, body) = response.into_parts();
            let names_content = |h: &HeaderMap| h.contains_key("x-linked-etag") || h.contains_key("etag");
            if at_hub && !hub_headers.contains_key("x-linked-etag") && names_content(&parts.headers) {
                hub_headers = parts.headers.clone();
            }
            let status = parts.status.as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { status, headers: parts.headers, hub_headers, body });
            }
            let location = parts.headers.get("location").and_then(|v| v.to_str().ok());
            let location = location
                .ok_or_else(|| hub_error(format!("{} redirects without saying where", shown(&url)), ""))?;
            url = self.next(&url, location)?;
        }
        Err(hub_error(
            format!("{} redirects more than {MAX_REDIRECTS} times", shown(&url)),
            "the hub or the mirror in HF_ENDPOINT is misconfigured",
        )
        .into())
    }

    /// Where a redirect leads, if it may be followed.
    fn next(&self, from: &Uri, location: &str) -> Result<Uri> {
        let refuse = |why: &str| {
            let what = format!("{} redirects to `{}`: {why}", shown(from), without_query(location));
            hub_error(what, "the hub or the mirror in HF_ENDPOINT is misconfigured, or someone is in between")
        };
        let scheme = from.scheme_str().unwrap_or("https");
        let authority = from.authority().map_or("", |a| a.as_str());
        let location = location.split('#').next().unwrap_or_default();
        let absolute = if let Some(named) = scheme_of(location) {
            if !matches!(named.to_ascii_lowercase().as_str(), "http" | "https") {
                return Err(refuse("only http and https are followed"));
            }
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{scheme}://{rest}")
        } else if location.starts_with('/') {
            format!("{scheme}://{authority}{location}")
        } else {
            let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{location}")
        };
        let to: Uri = absolute.parse().map_err(|_| refuse("that is not a URL"))?;
        let origin = Origin::of(&to).ok_or_else(|| refuse("that is not a plain address"))?;
        if scheme == "https" && !origin.https {
            return Err(refuse("that would drop encryption"));
        }
        let literal = origin.host.trim_matches(['[', ']']).parse::<IpAddr>();
        if literal.is_ok_and(|ip| !is_public(ip)) && origin.host != self.origin.host {
            return Err(refuse("that is a private address"));
        }
        Ok(to)
    }

    /// What an error of the HTTP library means.
    fn failure(&self, url: &Uri, error: ureq::Error) -> Failure {
        let host = url.host().unwrap_or_default();
        let is_final = |what: String, help: &str| Failure::Final(hub_error(what, help));
        match error {
            ureq::Error::HostNotFound => is_final(
                format!("cannot find the host {host}"),
                "check the network, HF_ENDPOINT and the proxy settings",
            ),
            ureq::Error::Other(inner) if inner.is::<PrivateAddress>() => is_final(
                format!("{} is refused: {inner}", shown(url)),
                "set HF_ENDPOINT if that host is your hub",
            ),
            ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                is_final(format!("{host} refuses connections"), "check HF_ENDPOINT and the proxy settings")
            }
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => is_final(
                format!("cannot connect to {host} within {} s", self.patience.connect.as_secs_f32()),
                "check the network, HF_ENDPOINT and the proxy settings",
            ),
            ureq::Error::Timeout(_) => {
                Failure::again(format!("{host} was silent for {} s", self.patience.silence.as_secs_f32()))
            }
            ureq::Error::Io(e) if e.kind() != std::io::ErrorKind::InvalidData => {
                Failure::again(format!("the connection to {host} was cut ({e})"))
            }
            e @ (ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_) | ureq::Error::Io(_)) => {
                is_final(
                    format!("no secure connection to {host}: {e}"),
                    "check the clock; behind an inspecting proxy, set SSL_CERT_FILE to its certificates",
                )
            }
            e @ (ureq::Error::ConnectProxyFailed(_) | ureq::Error::InvalidProxyUrl) => is_final(
                format!("the proxy does not let through to {host}: {e}"),
                "check HTTPS_PROXY and NO_PROXY",
            ),
            e => is_final(format!("{host} did not answer as an HTTP server does: {e}"), "check HF_ENDPOINT"),
        }
    }

    /// Calls `attempt` until it succeeds, fails finally, or has failed too often without progress.
    pub(crate) fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut failed = 0;
        loop {
            self.check_cancelled()?;
            let (what, wait, progress) = match attempt() {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again { what, wait, progress }) => (what, wait, progress),
            };
            failed = if progress { 1 } else { failed + 1 };
            if failed >= self.patience.attempts {
                return Err(hub_error(
                    format!("{what}; given up after {failed} attempts"),
                    "try again later; a download goes on from where it stopped",
                ));
            }
            let doubled = self.patience.first_wait.saturating_mul(1 << (failed - 1).min(16));
            let wait = match wait {
                Some(asked) if asked > self.patience.longest_wait => {
                    let seconds = asked.as_secs();
                    return Err(hub_error(
                        format!("{what}, and asks to wait {seconds} s"),
                        "try again later",
                    ));
                }
                Some(asked) => asked.max(doubled),
                None => doubled,
            };
            self.sleep(wait.min(self.patience.longest_wait) + jitter(self.patience.first_wait))?;
        }
    }

    fn sleep(&self, wait: Duration) -> Result<()> {
        let end = Instant::now() + wait;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.check_cancelled()?;
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        Ok(())
    }

    /// # Errors
    /// [`Error::Interrupted`] once the options' `cancel` is set.
    pub(crate) fn check_cancelled(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Up to a quarter of `unit`, so that processes that failed together do not return together.
fn jitter(unit: Duration) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    unit.mul_f64(f64::from(now % 1000) / 4000.0)
}

/// A URL without its query, which may hold a signature.
fn shown(url: &Uri) -> String {
    without_query(&url.to_string())
}

fn without_query(url: &str) -> String {
    printable(url.split(['?', '#']).next().unwrap_or_default())
}

/// The scheme a reference starts with (`file:`, `data:`), as opposed to a path with a colon.
fn scheme_of(location: &str) -> Option<&str> {
    let (scheme, _) = location.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::HubEnv;

    /// Where a redirect from `from` to `to` leads, for a client of the hub `endpoint`.
    fn next(endpoint: &str, from: &str, to: &str) -> std::result::Result<String, String> {
        let env = HubEnv { endpoint: Some(endpoint.into()), ..HubEnv::default() };
        let client = Client::new(&HubOptions { env, ..HubOptions::default() }).expect(endpoint);
        let next = client.next(&from.parse().expect(from), to);
        next.map(|url| url.to_string()).map_err(|e| e.to_string())
    }

    #[test]
    fn redirects_are_resolved_against_where_they_come_from() {
        let from = "https://hub.example/a/b?c=d";
        for (to, want) in [
            ("https://cdn.example/x?y=z#part", "https://cdn.example/x?y=z"),
            ("http://cdn.example/x", "that would drop encryption"),
            ("HTTPS://cdn.example/x", "https://cdn.example/x"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/x/y", "https://hub.example/x/y"),
            ("x:y/z", "only http and https"),
            ("x/y", "https://hub.example/a/x/y"),
            ("https://127.0.0.1/x", "private address"),
            ("https://[::ffff:10.0.0.1]/x", "private address"),
            ("https:///x", ""),
        ] {
            match next("https://hub.example", from, to) {
                Ok(got) => assert_eq!(got, want, "{to}"),
                Err(why) => assert!(why.contains(want) && !want.contains("://"), "{to}: {why}"),
            }
        }
        // A hub in the local network may redirect to itself, on any port, and to nothing else there.
        let local = "http://10.0.0.1:8080";
        assert_eq!(
            next(local, "http://10.0.0.1:8080/a", "http://10.0.0.1/b"),
            Ok("http://10.0.0.1/b".into())
        );
        assert!(next(local, "http://10.0.0.1:8080/a", "http://10.0.0.2/b").is_err());
        assert!(next(local, "http://10.0.0.1:8080/a", "https://cdn.example/b").is_ok());
    }

    #[test]
    fn origins_ignore_case_and_default_ports() {
        let origin = |url: &str| Origin::of(&url.parse().expect(url));
        assert_eq!(origin("https://Huggingface.co/x"), origin("https://huggingface.co:443/y?z"));
        assert_ne!(origin("https://huggingface.co"), origin("http://huggingface.co"));
        assert_ne!(origin("https://huggingface.co"), origin("https://huggingface.co:8443"));
        assert_eq!(origin("https://user@huggingface.co"), None);
        assert_eq!(origin("ftp://huggingface.co"), None);
    }
}
