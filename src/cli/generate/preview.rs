//! The image as it grows, in terminals that show images: kitty's graphics protocol or
//! iTerm2's inline images. On standard error, drawn over itself; other terminals get a progress bar.

use std::io::{IsTerminal as _, Write as _};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use image::RgbImage;

use crate::cli::generate::args::When;
use crate::render::animation;

/// Lines of the terminal that the image takes.
const LINES: u32 = 16;
/// Bytes of base64 in one escape sequence of kitty's.
const CHUNK: usize = 4096;
/// The image's number in the terminal, so that it replaces itself: "vit" in ASCII.
const NUMBER: u32 = 0x76_69_74;

/// How a terminal is told to show an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Kitty,
    Iterm,
}

impl Protocol {
    /// What the environment says of the terminal. A multiplexer in between passes nothing on.
    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let get = |name: &str| variable(name).unwrap_or_default();
        let (term, program) = (get("TERM"), get("TERM_PROGRAM"));
        let between = ["screen", "tmux", "dumb"].iter().any(|t| term.starts_with(t));
        if between || !get("TMUX").is_empty() || !get("STY").is_empty() {
            return None;
        }
        if term.contains("kitty") || term.contains("ghostty") || program == "ghostty" {
            return Some(Protocol::Kitty);
        }
        if !get("KITTY_WINDOW_ID").is_empty() {
            return Some(Protocol::Kitty);
        }
        ["iTerm.app", "WezTerm"].contains(&program.as_str()).then_some(Protocol::Iterm)
    }
}

/// A place on the terminal where an image grows.
pub(super) struct Preview {
    protocol: Protocol,
    begun: bool,
}

impl Preview {
    /// A preview, if there is to be one.
    pub(super) fn new(when: When, quiet: bool) -> Option<Self> {
        let found = Protocol::of(&|name| std::env::var(name).ok());
        let protocol = match when {
            When::Never => None,
            When::Auto => found.filter(|_| !quiet && std::io::stderr().is_terminal()),
            When::Always => Some(found.unwrap_or(Protocol::Kitty)),
        };
        protocol.map(|protocol| Self { protocol, begun: false })
    }

    /// Shows an image where the one before was. A terminal that cannot be written to is skipped.
    pub(super) fn show(&mut self, picture: &RgbImage) {
        let Ok(png) = animation::still(picture, None) else { return };
        let mut out = String::new();
        if !self.begun {
            // Room below, so that drawing does not scroll.
            out.push_str(&"\n".repeat(LINES as usize));
            out.push_str(&format!("\x1b[{LINES}A"));
            self.begun = true;
        }
        out.push_str("\x1b7");
        out.push_str(&sequence(self.protocol, &png));
        out.push_str("\x1b8");
        let mut err = std::io::stderr();
        _ = err.write_all(out.as_bytes()).and_then(|()| err.flush());
    }
}

impl Drop for Preview {
    fn drop(&mut self) {
        if self.begun {
            _ = write!(std::io::stderr(), "\x1b[{LINES}B\r");
        }
    }
}

/// What shows a PNG file at the cursor.
fn sequence(protocol: Protocol, png: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(png);
    match protocol {
        Protocol::Iterm => {
            let size = png.len();
            format!("\x1b]1337;File=inline=1;size={size};height={LINES};preserveAspectRatio=1:{text}\x07")
        }
        Protocol::Kitty => {
            let mut out = String::new();
            let chunks: Vec<&[u8]> = text.as_bytes().chunks(CHUNK).collect();
            for (i, chunk) in chunks.iter().enumerate() {
                let more = u8::from(i + 1 < chunks.len());
                let head = if i == 0 {
                    format!("a=T,f=100,i={NUMBER},p=1,q=2,C=1,r={LINES},")
                } else {
                    String::new()
                };
                out.push_str(&format!("\x1b_G{head}m={more};{}\x1b\\", String::from_utf8_lossy(chunk)));
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(variables: &[(&str, &str)]) -> Option<Protocol> {
        Protocol::of(&|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn terminals_are_recognised() {
        assert_eq!(protocol(&[("TERM", "xterm-kitty")]), Some(Protocol::Kitty));
        assert_eq!(protocol(&[("TERM", "xterm-256color"), ("KITTY_WINDOW_ID", "1")]), Some(Protocol::Kitty));
        assert_eq!(protocol(&[("TERM_PROGRAM", "WezTerm")]), Some(Protocol::Iterm));
        assert_eq!(protocol(&[("TERM_PROGRAM", "iTerm.app"), ("TMUX", "/tmp/x")]), None);
        assert_eq!(protocol(&[("TERM", "tmux-256color"), ("KITTY_WINDOW_ID", "1")]), None);
        assert_eq!(protocol(&[("TERM", "xterm-256color")]), None);
        assert_eq!(protocol(&[]), None);
    }

    #[test]
    fn sequences_are_whole() {
        let kitty = sequence(Protocol::Kitty, &[7; 5000]);
        let parts: Vec<&str> = kitty.split_terminator("\x1b\\").collect();
        assert_eq!(parts.len(), 2);
        assert!(parts[0].starts_with("\x1b_Ga=T,f=100,") && parts[0].contains("m=1;"), "{}", &parts[0][..60]);
        assert!(parts[1].starts_with("\x1b_Gm=0;"));
        let iterm = sequence(Protocol::Iterm, b"abc");
        assert!(iterm.starts_with("\x1b]1337;File=inline=1;size=3;") && iterm.ends_with(":YWJj\x07"));
    }
}
