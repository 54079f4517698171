//! Text that came out of a file or a flag, made safe to show.
//!
//! Tensor names, labels and model ids are chosen by strangers. Before one of them reaches a
//! terminal it loses its control characters (so it cannot move the cursor or fake a line) and
//! anything beyond a line's length.

/// Characters of foreign text shown in a message before it is cut.
const SHOWN: usize = 120;

/// `text` on one line: control characters escaped, cut after 120 characters.
pub(crate) fn printable(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

/// `text` on one line, whole: control characters and direction marks escaped.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character could change how the text around it is shown: controls, and the marks that
/// reverse the reading direction.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::{escaped, printable};

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(printable("classifier.weight"), "classifier.weight");
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable(&"x".repeat(10_000)).chars().count(), 121);
        assert_eq!(escaped("Größe ✓.png"), "Größe ✓.png");
        assert_eq!(escaped(&"x".repeat(10_000)).chars().count(), 10_000);
    }
}
