//! Proxies that are asked, that tunnel, and that are not to be used.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use vit_gpu::hub::Proxies;

use super::{HubServer, Place, hub_error, repository};

/// A proxy on this machine that leads to the hub, whatever host it is asked for.
struct ProxyServer {
    address: SocketAddr,
    /// First lines of requests, and their `Proxy-Authorization`; for SOCKS the host it is to reach.
    asked: Arc<Mutex<Vec<String>>>,
}

impl ProxyServer {
    fn start(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || serve(stream, hub, &seen));
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("whole").clone()
    }
}

fn serve(mut stream: TcpStream, hub: SocketAddr, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut first = [0];
    stream.peek(&mut first).ok()?;
    if first == [5] {
        return socks(stream, hub, seen);
    }
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok);
    let line = lines.next()?;
    let headers: Vec<String> = lines.take_while(|l| !l.is_empty()).collect();
    let user = headers.iter().find(|h| h.to_ascii_lowercase().starts_with("proxy-authorization"));
    seen.lock().expect("whole").push(format!("{line} {}", user.map_or("", String::as_str)));
    let Some(target) = line.strip_prefix("GET http://") else {
        return stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").ok();
    };
    let (_, path) = target.split_once('/')?;
    let mut to = TcpStream::connect(hub).ok()?;
    let rest: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    to.write_all(format!("GET /{path}\r\n{rest}\r\n").as_bytes()).ok()?;
    std::io::copy(&mut to, &mut stream).ok().map(|_| ())
}

/// SOCKS5 without a user.
fn socks(mut stream: TcpStream, hub: SocketAddr, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut read = |n: usize| {
        let mut bytes = vec![0; n];
        stream.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let methods = read(2)?[1];
    read(usize::from(methods))?;
    stream.write_all(&[5, 0]).ok()?;
    let mut read = |n: usize| {
        let mut bytes = vec![0; n];
        stream.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let host = match read(4)?[3] {
        1 => read(4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        _ => {
            let length = read(1)?[0];
            String::from_utf8(read(usize::from(length))?).ok()?
        }
    };
    read(2)?;
    seen.lock().expect("whole").push(host);
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    let mut to = TcpStream::connect(hub).ok()?;
    let (mut back, mut away) = (to.try_clone().ok()?, stream.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut stream, &mut to));
    std::io::copy(&mut back, &mut away).ok()?;
    away.shutdown(std::net::Shutdown::Both).ok()
}

/// A place whose hub is at `endpoint` and whose environment names proxies.
fn place(endpoint: &str, variables: &[(&str, String)]) -> Place {
    let mut place = Place::new(endpoint);
    place.options.env.proxies = Proxies::from_lookup(|name| {
        variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
    });
    place
}

#[test]
fn plain_http_is_asked_of_the_proxy_in_absolute_form() {
    let hub = HubServer::start(repository(), |_, _| None);
    let proxy = ProxyServer::start(hub.address);
    for variable in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        // A name that only the proxy can resolve.
        let address = format!("http://user:pass%21@{}", proxy.address);
        let place = place("http://hub.invalid:8080", &[(variable, address)]);
        place.pull().expect(variable);
        place.is_complete(&repository());
        let asked = proxy.asked();
        let last = asked.last().expect("the proxy was asked");
        assert!(last.starts_with("GET http://hub.invalid:8080/org/name/resolve/"), "{last}");
        // `printf 'user:pass!' | base64`
        assert!(last.ends_with("Basic dXNlcjpwYXNzIQ=="), "{last}");
    }
    assert!(proxy.asked().iter().all(|line| line.starts_with("GET http://")), "{:?}", proxy.asked());
}

#[test]
fn https_is_tunnelled_and_a_refusal_is_told() {
    let hub = HubServer::start(repository(), |_, _| None);
    let proxy = ProxyServer::start(hub.address);
    // An address without a scheme, as curl takes it.
    let place = place("https://hub.invalid", &[("HTTPS_PROXY", proxy.address.to_string())]);
    hub_error(place.pull(), &["hub.invalid", "proxy", "403"]);
    assert!(proxy.asked()[0].starts_with("CONNECT hub.invalid:443 "), "{:?}", proxy.asked());
}

#[test]
fn socks_is_used() {
    let hub = HubServer::start(repository(), |_, _| None);
    let proxy = ProxyServer::start(hub.address);
    let by_name = place("http://hub.invalid", &[("all_proxy", format!("socks5h://{}", proxy.address))]);
    by_name.pull().expect("through SOCKS");
    by_name.is_complete(&repository());
    assert!(proxy.asked().iter().all(|host| host == "hub.invalid"), "{:?}", proxy.asked());
    let here = hub.url();
    place(&here, &[("ALL_PROXY", format!("socks5://{}", proxy.address))]).pull().expect("through SOCKS");
    assert_eq!(proxy.asked().last().map(String::as_str), Some("127.0.0.1"));
}

#[test]
fn what_is_not_to_be_proxied_and_what_is_not_understood() {
    let hub = HubServer::start(repository(), |_, _| None);
    let proxy = ProxyServer::start(hub.address);
    let address = || format!("http://{}", proxy.address);
    for spared in ["127.0.0.0/8", "127.0.0.1", "*", &format!("127.0.0.1:{}", hub.address.port())] {
        let variables = [("http_proxy", address()), ("no_proxy", spared.to_owned())];
        place(&hub.url(), &variables).pull().expect(spared);
    }
    // A proxy for https is none for http.
    place(&hub.url(), &[("https_proxy", "http://127.0.0.1:1".to_owned())]).pull().expect("directly");
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());

    let before = hub.requests().len();
    for (value, needle) in [
        ("socks9://user:secret@p:1", "kind that is not understood"),
        ("http://", "not the address of a proxy"),
    ] {
        let text =
            hub_error(place(&hub.url(), &[("ALL_PROXY", value.to_owned())]).pull(), &["ALL_PROXY", needle]);
        assert!(!text.contains("secret"), "{text}");
    }
    hub_error(place(&hub.url(), &[("http_proxy", "127.0.0.1:1".into())]).pull(), &["its proxy 127.0.0.1:1"]);
    assert_eq!(hub.requests().len(), before, "nothing leaves directly");
}
