//! Feature `hub`. Where a redirect leads, if it may be followed: only to http and https, never from https down
//! to http, never to a private address unless [`Trust`] allows it.

use ureq::http::Uri;

use crate::error::Result;
use crate::hub::failure::hub_error;
use crate::hub::guard::{Trust, literal};
use crate::printable::printable;

/// Scheme, host and port: what a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    https: bool,
    pub(super) host: String,
    port: u16,
}

impl Origin {
    pub(super) fn of(url: &Uri) -> Option<Self> {
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

/// Where a redirect leads, if it may be followed.
pub(super) fn next(trust: &Trust, from: &Uri, location: &str) -> Result<Uri> {
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
    if literal(&origin.host).is_some_and(|ip| !trust.allows(&origin.host, ip)) {
        return Err(refuse("that is a private address"));
    }
    Ok(to)
}

/// A URL without its query, which may hold a signature.
pub(super) fn shown(url: &Uri) -> String {
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

    /// Where a redirect from `from` to `to` leads, for a client of the hub `endpoint`.
    fn next(endpoint: &str, from: &str, to: &str) -> std::result::Result<String, String> {
        let hub = Origin::of(&endpoint.parse().expect(endpoint)).expect(endpoint).host;
        let next = super::next(&Trust::new(hub, Vec::new()), &from.parse().expect(from), to);
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
        // A hub in a private network may redirect within such networks, and not to the machine itself.
        let local = "http://10.0.0.1:8080";
        assert_eq!(
            next(local, "http://10.0.0.1:8080/a", "http://10.0.0.1/b"),
            Ok("http://10.0.0.1/b".into())
        );
        assert!(next(local, "http://10.0.0.1:8080/a", "http://10.0.0.2/b").is_ok());
        assert!(next(local, "http://10.0.0.1:8080/a", "http://127.0.0.1/b").is_err());
        assert!(next(local, "http://10.0.0.1:8080/a", "http://169.254.169.254/b").is_err());
        assert!(next("http://127.0.0.1", "http://127.0.0.1/a", "http://10.0.0.2/b").is_err());
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
