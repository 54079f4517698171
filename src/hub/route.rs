//! Feature `hub`. How an address is reached: directly, through a tunnel, or by asking a proxy for it.
//!
//! To an `https://` address a proxy makes a tunnel (CONNECT, or SOCKS). An `http://` address is asked of an
//! HTTP proxy itself, in the absolute form of the request, as every other client does: many proxies tunnel to
//! port 443 alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, DefaultConnector, NextTimeout, Transport,
};
use ureq::{Proxy, ProxyProtocol};

use crate::error::{Error, Result};
use crate::hub::failure::hub_error;
use crate::hub::guard::Guard;
use crate::hub::proxy::{Proxies, ProxySetting};

/// How an address is reached.
pub(super) enum Route {
    /// From here.
    Direct,
    /// Through this proxy, which only passes bytes on.
    Tunnel(Proxy),
    /// By asking this proxy.
    Forward(Proxy),
}

impl Route {
    /// The route to an address.
    ///
    /// # Errors
    /// [`Error::Hub`] if a proxy is named in a way that is not understood.
    pub(super) fn of(proxies: &Proxies, url: &Uri) -> Result<Self> {
        let https = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if https { 443 } else { 80 });
        let Some(setting) = proxies.of(https, url.host().unwrap_or_default(), port) else {
            return Ok(Self::Direct);
        };
        let proxy = parse(setting)?;
        let asks = !https && proxy.protocol() == ProxyProtocol::Http;
        Ok(if asks { Self::Forward(proxy) } else { Self::Tunnel(proxy) })
    }
}

/// The hosts of all proxies that are named, in lower case.
pub(super) fn hosts(proxies: &Proxies) -> Vec<String> {
    let named = [&proxies.http, &proxies.https, &proxies.all];
    let parsed = named.into_iter().flatten().filter_map(|setting| parse(setting).ok());
    parsed.map(|proxy| proxy.host().to_ascii_lowercase()).collect()
}

/// A proxy by its address; one without a scheme speaks HTTP.
fn parse(setting: &ProxySetting) -> Result<Proxy> {
    let ProxySetting { variable, address } = setting;
    let address = if address.contains("://") { address.clone() } else { format!("http://{address}") };
    let scheme = address.split("://").next().unwrap_or_default().to_ascii_lowercase();
    let known = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
    let wrong = |what: String| -> Error {
        hub_error(what, format!("write it as http://host:port; {} are understood", known.join(", ")))
    };
    if !known.contains(&scheme.as_str()) {
        // What stands there may be a password.
        return Err(wrong(format!("{variable} names a proxy of a kind that is not understood")));
    }
    let rest = address.split_once("://").map_or("", |(_, rest)| rest);
    let proxy = Proxy::new(&format!("{scheme}://{rest}"));
    proxy.map_err(|_| wrong(format!("{variable} is not the address of a proxy")))
}

/// The header by which a proxy that is asked knows its user.
pub(super) fn authorization(proxy: &Proxy) -> Option<String> {
    let (user, password) = (proxy.username(), proxy.password());
    let pair = format!("{}:{}", user.unwrap_or_default(), password.unwrap_or_default());
    user.or(password).map(|_| format!("Basic {}", STANDARD.encode(pair)))
}

/// Resolves every name to the proxy, which resolves the name itself.
#[derive(Debug)]
pub(super) struct ToProxy {
    pub(super) proxy: Proxy,
    pub(super) guard: Guard,
}

impl Resolver for ToProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.guard.resolve(self.proxy.uri(), config, timeout)
    }
}

/// Connects as usual, and asks with whole addresses.
#[derive(Debug, Default)]
pub(super) struct Asking(DefaultConnector);

impl Connector<()> for Asking {
    type Out = AbsoluteForm;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(inner) = self.0.connect(details, chained)? else { return Ok(None) };
        let authority = details.uri.authority().map_or("", |a| a.as_str());
        Ok(Some(AbsoluteForm { inner, origin: format!("http://{authority}") }))
    }
}

/// A connection to a proxy: `GET /path` leaves as `GET http://host/path`.
#[derive(Debug)]
pub(super) struct AbsoluteForm {
    inner: Box<dyn Transport>,
    origin: String,
}

/// What requests begin with; nothing but requests without a body is ever sent.
const GET: &[u8] = b"GET ";

impl Transport for AbsoluteForm {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let origin = self.origin.as_bytes();
        let output = self.inner.buffers().output();
        let begins = output.get(..amount).is_some_and(|head| head.starts_with(b"GET /"));
        let longer = amount + origin.len();
        if !begins || longer > output.len() {
            return self.inner.transmit_output(amount, timeout);
        }
        output.copy_within(GET.len()..amount, GET.len() + origin.len());
        output[GET.len()..GET.len() + origin.len()].copy_from_slice(origin);
        self.inner.transmit_output(longer, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}
