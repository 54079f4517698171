//! Feature `hub`. GET over HTTP(S), with the manners a downloader needs.
//!
//! Redirects are followed by hand, because each one is a decision: only to http and https, never
//! from https down to http, never to a private address unless the hub is there too, and the
//! token goes to the hub's own origin and nowhere else. Addresses are judged when they are resolved,
//! not when a URL is read, so a name that points inward is refused as well (behind a proxy the proxy
//! resolves, and only literal addresses can be judged).
//!
//! A failure is either final or worth another attempt; [`Client::retry`] does the waiting, bounded.
//! Nothing is written to disk here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use ureq::config::Config;
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, Proxy};

use crate::error::{Error, Result};
use crate::hub::failure::{Failure, hub_error};
use crate::hub::guard::{Guard, PrivateAddress, Trust};
use crate::hub::proxy::Proxies;
use crate::hub::redirect::{Origin, next, shown};
use crate::hub::route::{self, Asking, Route, ToProxy};
use crate::hub::{HubOptions, Notice, Patience};
use crate::printable::printable;

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 10;

/// Shortest wait that is told of.
const TOLD: Duration = Duration::from_secs(1);

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
    /// For what is reached directly or through a tunnel.
    agent: Agent,
    /// For what is asked of a proxy; there is one at most for http.
    asking: OnceLock<Agent>,
    config: Config,
    proxies: Proxies,
    trust: Arc<Trust>,
    endpoint: String,
    origin: Origin,
    authorization: Option<String>,
    patience: Patience,
    notice: Notice,
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
        let proxies = options.env.proxies.clone();
        let trust = Arc::new(Trust::new(origin.host.clone(), route::hosts(&proxies)));
        let patience = options.patience.clone();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
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
        let config = config.build();
        let guard = Guard::new(Arc::clone(&trust));
        Ok(Self {
            agent: Agent::with_parts(config.clone(), DefaultConnector::default(), guard),
            asking: OnceLock::new(),
            config,
            proxies,
            trust,
            endpoint,
            origin,
            authorization: options.env.token()?.map(|token| format!("Bearer {}", token.0)),
            patience,
            notice: options.notice.clone(),
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
            let route = Route::of(&self.proxies, &url)?;
            let mut request = match &route {
                Route::Direct => self.agent.get(&url),
                Route::Tunnel(proxy) => self.agent.get(&url).config().proxy(Some(proxy.clone())).build(),
                Route::Forward(proxy) => self.asking(proxy).get(&url),
            };
            if let Route::Forward(proxy) = &route
                && let Some(user) = route::authorization(proxy)
            {
                request = request.header("proxy-authorization", user);
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            if let Some(authorization) = self.authorization.as_deref().filter(|_| at_hub) {
                request = request.header("authorization", authorization);
            }
            let response = request.call().map_err(|e| self.failure(&url, &route, e))?;
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
            url = next(&self.trust, &url, location)?;
        }
        Err(hub_error(
            format!("{} redirects more than {MAX_REDIRECTS} times", shown(&url)),
            "the hub or the mirror in HF_ENDPOINT is misconfigured",
        )
        .into())
    }

    /// What asks this proxy.
    fn asking(&self, proxy: &Proxy) -> &Agent {
        self.asking.get_or_init(|| {
            let guard = Guard::new(Arc::clone(&self.trust));
            let resolver = ToProxy { proxy: proxy.clone(), guard };
            Agent::with_parts(self.config.clone(), Asking::default(), resolver)
        })
    }

    /// What an error of the HTTP library means.
    fn failure(&self, url: &Uri, route: &Route, error: ureq::Error) -> Failure {
        let host = match route {
            Route::Direct => url.host().unwrap_or_default().to_owned(),
            Route::Tunnel(proxy) | Route::Forward(proxy) => {
                let host = url.host().unwrap_or_default();
                format!("{host}, or its proxy {}:{},", proxy.host(), proxy.port())
            }
        };
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
            let wait = wait.min(self.patience.longest_wait) + jitter(self.patience.first_wait);
            if wait >= TOLD {
                self.notice.say(&format!("{what}; trying again in {} s", wait.as_secs_f32().ceil()));
            }
            self.sleep(wait)?;
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
