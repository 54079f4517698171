//! Text as people's files hold it: behind a byte order mark, in UTF-16 as some shells write it; and JSON with
//! the `NaN` and `Infinity` that Python's `json` writes and reads.

use std::borrow::Cow;

use serde_json::Value;

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
}
