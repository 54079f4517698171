//! A model hub on 127.0.0.1 that can misbehave, in plain `std::net`.
//!
//! It serves one repository the way huggingface.co does (revision information, `resolve` URLs with
//! `X-Linked-Etag`, byte ranges) unless the test's hook answers first. One thread a connection, one
//! request a connection; everything asked is recorded.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The commit that every revision of the repository means.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// First byte asked for, 0 without a range.
    pub fn from(&self) -> usize {
        let range = self.header("range").and_then(|r| r.strip_prefix("bytes="));
        range.and_then(|r| r.trim_end_matches('-').parse().ok()).unwrap_or(0)
    }

    /// Whether this asks for the content of `file`.
    pub fn is_for(&self, file: &str) -> bool {
        self.path.split('?').next().is_some_and(|path| path.ends_with(&format!("/{file}")))
    }
}

/// What is answered, and how badly.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Instead of the body's true length; `Some(None)` sends no length at all.
    pub content_length: Option<Option<usize>>,
    /// Closes the connection after so many bytes of body.
    pub cut_after: Option<usize>,
    /// Goes silent for so long after the headers and half of the body.
    pub stall: Duration,
}

impl Response {
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.into(), value.to_string()));
        self
    }

    pub fn redirect(to: impl ToString) -> Self {
        Self::new(302).header("location", to)
    }
}

/// The files of the repository.
#[derive(Debug, Clone, Default)]
pub struct Repository(pub Vec<(String, Vec<u8>)>);

impl Repository {
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.0.push((name.into(), content.into()));
        self
    }

    pub fn content(&self, name: &str) -> &[u8] {
        &self.0.iter().find(|(n, _)| n == name).expect("a file of the repository").1
    }

    /// The well-behaved answer.
    pub fn answer(&self, request: &Request) -> Response {
        if request.path.starts_with("/api/models/") {
            let names: Vec<String> =
                self.0.iter().map(|(n, _)| format!("{{\"rfilename\":\"{n}\"}}")).collect();
            let json = format!("{{\"sha\":\"{COMMIT}\",\"siblings\":[{}]}}", names.join(","));
            return Response::new(200).body(json);
        }
        // One file's name may end with another's.
        let named = self
            .0
            .iter()
            .filter(|(n, _)| request.is_for(&n.replace(' ', "%20")))
            .max_by_key(|(n, _)| n.len());
        let Some((name, content)) = named else {
            return Response::new(404).header("x-error-code", "EntryNotFound");
        };
        // As on the hub: large files are named by SHA-256, small ones as git names them.
        let etag = if name.ends_with(".safetensors") { sha256(content) } else { git_sha1(content) };
        let from = request.from();
        let response = if from == 0 {
            Response::new(200).body(content.clone())
        } else if from < content.len() {
            let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
            Response::new(206).header("content-range", range).body(&content[from..])
        } else {
            return Response::new(416);
        };
        if name.ends_with(".safetensors") {
            response.header("x-linked-etag", format!("\"{etag}\"")).header("x-linked-size", content.len())
        } else {
            response.header("etag", format!("\"{etag}\""))
        }
    }
}

/// What git calls a file of this content.
pub fn git_sha1(content: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(content);
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

/// A running server; it stops when dropped.
pub struct HubServer {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
}

impl HubServer {
    /// Serves `repository`, except where `hook` (given the request and how many of the same path
    /// came before) has an answer of its own.
    pub fn start(
        repository: Repository,
        hook: impl Fn(&Request, usize) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let requests: Arc<Mutex<Vec<Request>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, stopped) = (Arc::clone(&requests), Arc::clone(&stop));
        let shared = Arc::new((repository, hook));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (seen, shared) = (Arc::clone(&seen), Arc::clone(&shared));
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let before = {
                        let mut seen = seen.lock().expect("no test panics while holding this");
                        let before = seen.iter().filter(|r| r.path == request.path).count();
                        seen.push(request.clone());
                        before
                    };
                    let (repository, hook) = &*shared;
                    let response = hook(&request, before).unwrap_or_else(|| repository.answer(&request));
                    _ = write(stream, &response);
                });
            }
        });
        Self { address, requests, stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("no test panics while holding this").clone()
    }

    /// Requests for the content of `file`.
    pub fn asked_for(&self, file: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|r| r.is_for(file)).collect()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the listener.
        _ = TcpStream::connect(self.address);
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.take_while(|l| !l.is_empty()).filter_map(|l| {
        l.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
    });
    Some(Request { path, headers: headers.collect() })
}

fn write(mut stream: TcpStream, response: &Response) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", response.status);
    match response.content_length {
        None => head += &format!("content-length: {}\r\n", response.body.len()),
        Some(Some(n)) => head += &format!("content-length: {n}\r\n"),
        Some(None) => {}
    }
    for (name, value) in &response.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    let end = response.cut_after.unwrap_or(response.body.len()).min(response.body.len());
    let half = if response.stall.is_zero() { end } else { end / 2 };
    stream.write_all(&response.body[..half])?;
    stream.flush()?;
    std::thread::sleep(response.stall);
    stream.write_all(&response.body[half..end])
}
