//! Text as people's files hold it: behind a byte order mark, in UTF-16 as some shells write it; and JSON with
//! the `NaN` and `Infinity` that Python's `json` writes and reads.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

/// Why a file beside a model could not be read.
#[derive(Debug)]
pub(crate) struct Unread {
    /// What is wrong with it.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) help: &'static str,
}

/// The value of a JSON file of at most `most` bytes; `None` where there is none.
///
/// # Errors
/// [`Unread`] for what is there and cannot be read, a link that leads nowhere among them.
pub(crate) fn read_json(path: &Path, most: u64) -> Result<Option<Value>, Unread> {
    let wrong = |what: String, help| Unread { what, help };
    let denied = |e: std::io::Error| wrong(e.to_string(), "check its permissions");
    let metadata = match std::fs::metadata(path) {
        Ok(m) => m,
        Err(e) if e.kind() == ErrorKind::NotFound && path.symlink_metadata().is_err() => return Ok(None),
        Err(e) if e.kind() == ErrorKind::NotFound => {
            let help = "the file it stands for was removed; download the model again";
            return Err(wrong("is a link that leads nowhere".to_owned(), help));
        }
        Err(e) => return Err(denied(e)),
    };
    // A pipe would be waited for without end.
    if !metadata.is_file() {
        return Err(wrong("is not a file".to_owned(), "is this the right folder?"));
    }
    if metadata.len() > most {
        let what = format!("{} bytes are too many for a configuration", metadata.len());
        return Err(wrong(what, "is this the right file?"));
    }
    let bytes = std::fs::read(path).map_err(denied)?;
    json(&bytes).map(Some).map_err(|what| wrong(what, "download it again"))
}

/// The text of a file: UTF-8, or UTF-16 behind its byte order mark, without the mark.
///
/// # Errors
/// Where it is neither, for a message.
pub(crate) fn text(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let sixteen = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.chunks(2).map(|b| unit([b[0], b.get(1).copied().unwrap_or(0)])).collect();
        String::from_utf16(&units)
            .map(Cow::Owned)
            .map_err(|_| "it is not UTF-16 as its first bytes say".into())
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => sixteen(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => sixteen(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => utf8(rest),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| format!("byte {} is not UTF-8", e.valid_up_to()));
    text.map(Cow::Borrowed)
}

/// The value that a file holds. A number that is not finite becomes its name as a string, which is refused
/// where a number is wanted and does no harm where nobody looks.
///
/// # Errors
/// What is wrong with it, for a message.
pub(crate) fn json(bytes: &[u8]) -> Result<Value, String> {
    let text = text(bytes)?;
    serde_json::from_str(&text).or_else(|e| {
        let named = quoted(&text).and_then(|text| serde_json::from_str(&text).ok());
        named.ok_or_else(|| format!("not valid JSON: {e}"))
    })
}

/// The text with Python's literals in quotation marks; `None` if it has none.
fn quoted(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut inside, mut found) = (text, false, false);
    while let Some(c) = rest.chars().next() {
        let literal = ["NaN", "-Infinity", "Infinity"].into_iter().find(|l| !inside && rest.starts_with(l));
        if let Some(literal) = literal {
            found = true;
            out.extend(['"'].iter().copied().chain(literal.chars()).chain(['"']));
            rest = &rest[literal.len()..];
            continue;
        }
        inside ^= c == '"';
        // What is escaped inside a string does not end it.
        let taken = c.len_utf8()
            + if inside && c == '\\' { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        out.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    found.then_some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn what_python_writes() {
        let text =
            r#"{"a": NaN, "b": [-Infinity, Infinity, 1], "NaN": "say \"NaN\" or \\", "c": "é\\", "d": NaN}"#;
        let want = value!({
            "a": "NaN", "b": ["-Infinity", "Infinity", 1], "NaN": "say \"NaN\" or \\", "c": "é\\", "d": "NaN",
        });
        assert_eq!(json(text.as_bytes()).unwrap(), want);
        assert!(json(b"{\"a\": NaNo}").unwrap_err().contains("not valid JSON"));
        assert!(json(b"{\"a\": NaN").unwrap_err().contains("not valid JSON"));
        assert_eq!(quoted("{\"a\": \"NaN\"}"), None);
    }

    #[test]
    fn byte_order_marks() {
        let want = value!({"a": "é"});
        let text = "{\"a\": \"é\"}";
        let units = |unit: fn(u16) -> [u8; 2], mark: [u8; 2]| {
            mark.into_iter().chain(text.encode_utf16().flat_map(unit)).collect::<Vec<u8>>()
        };
        for bytes in [
            text.as_bytes().to_vec(),
            [&[0xef, 0xbb, 0xbf], text.as_bytes()].concat(),
            units(u16::to_le_bytes, [0xff, 0xfe]),
            units(u16::to_be_bytes, [0xfe, 0xff]),
        ] {
            assert_eq!(json(&bytes).unwrap(), want);
        }
        assert_eq!(json(b"{\"\xff\": 1}").unwrap_err(), "byte 2 is not UTF-8");
        assert!(json(&[0xff, 0xfe, 0, 0xd8]).unwrap_err().contains("UTF-16"));
    }

    #[test]
    fn files_that_are_there_and_those_that_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        assert!(read_json(&path, 10).unwrap().is_none());
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read_json(&path, 2).unwrap(), Some(value!({})));
        assert!(read_json(&path, 1).unwrap_err().what.contains("2 bytes are too many"));
        assert_eq!(read_json(folder.path(), 1 << 20).unwrap_err().what, "is not a file");
        #[cfg(unix)]
        {
            let link = folder.path().join("link.json");
            std::os::unix::fs::symlink("nowhere.json", &link).unwrap();
            assert!(read_json(&link, 10).unwrap_err().what.contains("leads nowhere"));
        }
    }
}
