//! What a file is, by its first bytes: a format that is decoded, one that is known and
//! refused with the way to convert it, or something that is no image at all.

/// Formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Gif,
    WebP,
    Bmp,
    /// A bitmap without the header of a file.
    Dib,
    Tiff,
    Pnm,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Gif => "GIF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Dib => "DIB",
            Self::Tiff => "TIFF",
            Self::Pnm => "PNM",
        }
    }
}

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Image(Format),
    Empty,
    /// An image or document that has to be converted first.
    Refused {
        what: &'static str,
        help: &'static str,
    },
    /// Nothing to convert; a guess at what it is.
    Unknown(&'static str),
}

/// Beginnings of formats that are refused.
#[rustfmt::skip]
const REFUSED: [(&[u8], &str, &str); 14] = [
    (b"%PDF", "PDF", "convert a page to PNG: `pdftoppm -png -r 150 FILE page`"),
    (b"\xff\x0a", "JPEG XL", "convert it to PNG: `djxl FILE out.png`"),
    (b"\0\0\0\x0cJXL ", "JPEG XL", "convert it to PNG: `djxl FILE out.png`"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000", "convert it to PNG: `opj_decompress -i FILE -o out.png`"),
    (b"\xff\x4f\xff\x51", "JPEG 2000", "convert it to PNG: `opj_decompress -i FILE -o out.png`"),
    (b"8BPS", "PSD", "export it as PNG"),
    (b"\0\0\x01\0", "ICO", "convert it to PNG: `magick FILE out.png`"),
    (b"\x76\x2f\x31\x01", "OpenEXR", "tone-map it to an 8-bit PNG first"),
    (b"#?RADIANCE", "Radiance HDR", "tone-map it to an 8-bit PNG first"),
    (b"qoif", "QOI", "convert it to PNG: `magick FILE out.png`"),
    (b"DDS ", "DDS", "convert it to PNG: `magick FILE out.png`"),
    (b"PF\n", "PFM", "convert it to an 8-bit PNG"),
    (b"Pf\n", "PFM", "convert it to an 8-bit PNG"),
    (b"\x1f\x8b", "gzip", "unpack it first: `gunzip FILE`"),
];

/// Recognises a file by its content.
pub(super) fn kind(bytes: &[u8]) -> Kind {
    if bytes.is_empty() {
        return Kind::Empty;
    }
    if let Some(format) = supported(bytes) {
        return Kind::Image(format);
    }
    if let Some((_, what, help)) = REFUSED.iter().find(|(magic, ..)| bytes.starts_with(magic)) {
        return Kind::Refused { what, help };
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return boxed(bytes);
    }
    text(bytes).unwrap_or(Kind::Unknown("the content is of no known format"))
}

fn supported(bytes: &[u8]) -> Option<Format> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    // The size of the information header tells bitmaps from text that begins with BM.
    let bitmap = || matches!(bytes.get(14..18), Some([12 | 16 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0]));
    // One plane is all there ever is.
    let planes = |at: usize| bytes.get(at..at + 2) == Some(&[1, 0]);
    let headless = || match bytes.get(..4) {
        Some([12, 0, 0, 0]) => planes(8),
        Some([40 | 52 | 56 | 108 | 124, 0, 0, 0]) => planes(12),
        _ => false,
    };
    let camera_raw = bytes.get(8..10) == Some(b"CR");
    Some(match bytes {
        _ if starts(b"\x89PNG\r\n\x1a\n") => Format::Png,
        _ if starts(b"\xff\xd8\xff") => Format::Jpeg,
        _ if starts(b"GIF87a") || starts(b"GIF89a") => Format::Gif,
        _ if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") => Format::WebP,
        _ if starts(b"BM") && bitmap() => Format::Bmp,
        _ if headless() => Format::Dib,
        _ if (starts(b"II*\0") || starts(b"MM\0*")) && !camera_raw => Format::Tiff,
        _ if starts(b"II+\0") || starts(b"MM\0+") => Format::Tiff,
        [b'P', b'1'..=b'7', white, ..] if white.is_ascii_whitespace() || *white == b'#' => Format::Pnm,
        _ => return None,
    })
}

/// Files of the ISO base media format, by their brands.
fn boxed(bytes: &[u8]) -> Kind {
    let end = bytes.get(..4).map_or(0, |n| n.iter().fold(0usize, |n, b| n << 8 | usize::from(*b)));
    let brands = bytes.get(8..end.clamp(8, 64).min(bytes.len())).unwrap_or_default();
    let has = |list: &[&[u8]]| brands.chunks_exact(4).any(|b| list.contains(&b));
    if has(&[b"avif", b"avis"]) {
        Kind::Refused { what: "AVIF", help: "convert it to PNG: `avifdec FILE out.png`" }
    } else if has(&[b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"]) {
        Kind::Refused { what: "HEIC", help: "convert it to PNG: `heif-convert FILE out.png`" }
    } else if has(&[b"crx "]) {
        Kind::Refused { what: "camera raw", help: "develop it to PNG or JPEG first" }
    } else {
        Kind::Refused { what: "MP4/MOV video", help: "extract a frame: `ffmpeg -i FILE -frames:v 1 out.png`" }
    }
}

/// What is written in letters, and what is near enough to an image to be named.
fn text(bytes: &[u8]) -> Option<Kind> {
    if bytes.starts_with(b"PK\x03\x04") {
        return Some(Kind::Unknown("it is a zip archive; unpack it first"));
    }
    if bytes.starts_with(b"II*\0") || bytes.starts_with(b"MM\0*") {
        return Some(Kind::Refused { what: "camera raw", help: "develop it to PNG or JPEG first" });
    }
    let head = &bytes[..bytes.len().min(4096)];
    let head = match std::str::from_utf8(head) {
        Ok(head) => head,
        // A character cut in half at the end is still text.
        Err(e) if e.error_len().is_none() => {
            std::str::from_utf8(&head[..e.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    if head.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let lower = head.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    Some(
        if lower.starts_with("<svg")
            || (lower.starts_with('<') && lower.contains("<svg") && !lower.contains("<html"))
        {
            Kind::Refused { what: "SVG", help: "render it to PNG: `rsvg-convert FILE -o out.png`" }
        } else if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
            Kind::Unknown("it is an HTML page, perhaps an error page saved in the image's place")
        } else if lower.starts_with("version https://git-lfs") {
            Kind::Unknown("it is a git-LFS pointer; run `git lfs pull`")
        } else {
            Kind::Unknown("it is text")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_content() {
        let heic = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic";
        let avif = b"\0\0\0\x1cftypmif1\0\0\0\0avifmif1miaf";
        let cases: [(&[u8], &str); 9] = [
            (heic, "HEIC"),
            (avif, "AVIF"),
            (b"%PDF-1.7\n", "PDF"),
            (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "SVG"),
            (b"  <SVG>", "SVG"),
            (b"\0\0\0\x14ftypisom\0\0\x02\0isom", "MP4/MOV video"),
            (b"\xff\x0a\xfa", "JPEG XL"),
            (b"8BPS\0\x01", "PSD"),
            (b"II*\0\x10\0\0\0CR\x02\0", "camera raw"),
        ];
        for (bytes, want) in cases {
            match kind(bytes) {
                Kind::Refused { what, .. } => assert_eq!(what, want),
                other => panic!("{want}: {other:?}"),
            }
        }
        assert_eq!(kind(b""), Kind::Empty);
        assert_eq!(kind(b"hello"), Kind::Unknown("it is text"));
        assert_eq!(kind("h\u{e9}llo".as_bytes()), Kind::Unknown("it is text"));
        assert_eq!(kind(b"BM is not a bitmap"), Kind::Unknown("it is text"));
        assert_eq!(kind(b"P6\n1 1\n255\n"), Kind::Image(Format::Pnm));
        assert_eq!(kind(b"\xff\xd8\xff\xe0"), Kind::Image(Format::Jpeg));
        assert_eq!(kind(b"\xff"), Kind::Unknown("the content is of no known format"));
    }
}
