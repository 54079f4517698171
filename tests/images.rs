//! Decoding image files against Pillow, and everything that can be wrong with one
//! (rows I1 to I22 of the reliability list). Fixtures: `images/`, made by `images/make.py`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use safetensors::SafeTensors;
use vit_gpu::error::{Advice, Error, Result};
use vit_gpu::image::preprocess::Preprocess;
use vit_gpu::image::{DecodeOptions, Decoded, MAX_PIXELS, decode_bytes, decode_file};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join("images")
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn decode(name: &str) -> Result<Decoded> {
    decode_file(folder().join(name), &DecodeOptions::default())
}

/// Names of the fixtures, sorted.
fn fixtures() -> Vec<String> {
    let entries = fs::read_dir(folder()).expect("tests/images");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("entry").file_name().into_string().expect("ASCII")).collect();
    names.retain(|n| !n.ends_with(".py") && !n.ends_with(".safetensors"));
    names.sort();
    names
}

/// Checks that a decode failed the way a user can act on: an [`Error::Input`], the file's name, the text
/// that is looked for, and (unless nothing can be done) a hint.
fn refused(result: Result<Decoded>, name: &str, want: &str) {
    let error = match result {
        Ok(d) => panic!("{name}: decoded to {}x{}, expected {want:?}", d.width, d.height),
        Err(e) => e,
    };
    assert!(matches!(error, Error::Input { .. }), "{name}");
    assert!(error.message().contains(name), "{error} does not name {name}");
    assert!(error.message().contains(want), "{error} does not say {want:?}");
    assert!(error.hint().is_some(), "{error} has no hint");
}

fn has_note(decoded: &Decoded, want: &str) -> bool {
    decoded.notes.iter().any(|n| n.contains(want))
}

#[test]
fn pixels_are_those_of_pillow() {
    let file = bytes("expected.safetensors");
    let expected = SafeTensors::deserialize(&file).expect("expected.safetensors");
    let mut checked = 0;
    for name in fixtures() {
        let Ok(want) = expected.tensor(&name) else { continue };
        let got = decode(&name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!([got.height, got.width, 3], want.shape(), "{name}");
        // Levels: lossy decoders differ; 16-bit colour rounds where Pillow truncates; Pillow
        // rounds CMYK the other way.
        let tolerance = match name.as_str() {
            "rgb16.png" | "rgba16.png" | "cmyk.tif" => 1,
            "jpeg_named.png" => 4,
            n if n.ends_with(".jpg") => 4,
            _ => 0,
        };
        let differ = got.rgb.iter().zip(want.data()).position(|(a, b)| a.abs_diff(*b) > tolerance);
        if let Some(i) = differ {
            panic!("{name}: byte {i} is {}, Pillow has {}", got.rgb[i], want.data()[i]);
        }
        checked += 1;
    }
    assert_eq!(checked, expected.len(), "every expectation has its file");
    assert!(checked > 85, "{checked} files");
}

#[test]
fn bad_files_are_refused_by_name() {
    for (name, want) in [
        ("bad_truncated.png", "truncated"),
        ("bad_truncated.jpg", "truncated"),
        ("bad_truncated_header.jpg", "truncated"),
        ("bad_truncated_progressive.jpg", "truncated"),
        ("bad_no_end.jpg", "truncated"),
        ("bad_truncated.gif", "truncated"),
        ("bad_truncated.webp", "truncated"),
        ("bad_truncated.tif", "truncated"),
        ("bad_truncated.ppm", "truncated"),
        ("bad_bomb.png", "30000x30000 = 900000000 pixels, more than the limit of 178956970 pixels"),
        ("bad_huge.png", "more than the limit of 178956970 pixels"),
        ("bad_large_canvas.gif", "more than the limit of 178956970 pixels"),
        ("bad_large_frame.gif", "memory"),
        ("bad_long.png", "a side longer than 1000000 pixels"),
        ("bad_zero_width.png", "no pixels (0x5)"),
        ("bad_zero_height.png", "no pixels (5x0)"),
        ("bad_arithmetic.jpg", "arithmetic-coded JPEG is not supported"),
        ("bad_float.tif", "colour type"),
    ] {
        let start = Instant::now();
        refused(decode(name), name, want);
        assert!(start.elapsed() < Duration::from_secs(1), "{name} took {:?}", start.elapsed());
    }
    let covered = fixtures().iter().filter(|n| n.starts_with("bad_")).count();
    assert_eq!(covered, 18, "a bad fixture has no row here");
    assert_eq!(decode("bad_bomb.png").expect_err("bomb").hint(), Some(&Advice::MorePixels));
}

#[test]
fn what_is_no_supported_image_is_told_apart() {
    let options = DecodeOptions::default();
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x10meta";
    let avif = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miafMA1B";
    for (content, want, help) in [
        (&b""[..], "empty file", "again"),
        (b"just some words\n", "not an image: it is text", "supported are PNG"),
        (b"<!DOCTYPE html><html><body>404", "HTML", "supported are PNG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS", "supported are PNG"),
        (b"PK\x03\x04\x14\0", "zip", "supported are PNG"),
        (&[0, 1, 2, 3, 0xfe, 9, 9], "not an image", "supported are PNG"),
        (heic, "format HEIC is not supported", "heif-convert"),
        (avif, "format AVIF is not supported", "avifdec"),
        (
            b"<?xml version=\"1.0\"?>\n<!-- x -->\n<svg width=\"1\"/>",
            "format SVG is not supported",
            "rsvg-convert",
        ),
        (b"%PDF-1.4\n%\xe2\xe3", "format PDF is not supported", "pdftoppm"),
        (b"\xff\x0a\0\0", "format JPEG XL is not supported", "djxl"),
    ] {
        // A wrong suffix must not matter.
        let error = decode_bytes("dir/photo.png", content, &options).expect_err(want);
        assert!(error.hint().is_some_and(|h| h.to_string().contains(help)), "{error}: {:?}", error.hint());
        refused(Err(error), "dir/photo.png", want);
    }
    for magic in
        [&b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"II*\0", b"P6\n"]
    {
        refused(decode_bytes("stub", magic, &options), "stub", "");
    }
}

#[test]
fn the_pixel_cap_holds_for_every_format() {
    assert_eq!(DecodeOptions::default().max_pixels, MAX_PIXELS);
    let tight = DecodeOptions { max_pixels: 30, ..DecodeOptions::default() };
    for name in fixtures().iter().filter(|n| !n.starts_with("bad_")) {
        match decode_bytes(name, &bytes(name), &tight) {
            Ok(d) => assert!(d.width * d.height <= 30, "{name}: {}x{}", d.width, d.height),
            Err(e) => refused(Err(e), name, "more than the limit of 30 pixels"),
        }
    }
    let exact = DecodeOptions { max_pixels: 19 * 13, ..DecodeOptions::default() };
    assert!(decode_bytes("rgb.png", &bytes("rgb.png"), &exact).is_ok());
    let short = DecodeOptions { max_pixels: 19 * 13 - 1, ..DecodeOptions::default() };
    refused(decode_bytes("rgb.png", &bytes("rgb.png"), &short), "rgb.png", "19x13 = 247 pixels");
}

#[test]
fn truncated_jpeg_is_decoded_on_request() {
    let allow = DecodeOptions { allow_truncated: true, ..DecodeOptions::default() };
    for name in ["bad_truncated.jpg", "bad_truncated_progressive.jpg"] {
        let got = decode_bytes(name, &bytes(name), &allow).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((got.width, got.height), (61, 45), "{name}");
        assert!(has_note(&got, "truncated"), "{name}: {:?}", got.notes);
    }
    let whole = decode("photo_420.jpg").expect("whole");
    let cut = decode_bytes("cut", &bytes("bad_truncated.jpg"), &allow).expect("allowed");
    assert_eq!(whole.rgb[..61 * 3 * 8], cut.rgb[..61 * 3 * 8], "the first rows are there");
    assert_ne!(whole.rgb, cut.rgb);
    // Without its header there is nothing to show.
    let name = "bad_truncated_header.jpg";
    refused(decode_bytes(name, &bytes(name), &allow), name, "damaged");
    // The last two bytes alone are missing: all pixels are there.
    assert_eq!(decode_bytes("end", &bytes("bad_no_end.jpg"), &allow).expect("allowed").rgb, whole.rgb);
}

#[test]
fn exif_orientation_is_applied_or_not() {
    let raw = DecodeOptions { apply_exif: false, ..DecodeOptions::default() };
    for suffix in ["png", "jpg", "webp", "tif"] {
        let upright = decode(&format!("exif_1.{suffix}")).expect("fixture");
        assert!(upright.notes.is_empty());
        for orientation in 1..=8 {
            let name = format!("exif_{orientation}.{suffix}");
            let stored = decode_bytes(&name, &bytes(&name), &raw).expect("fixture");
            assert!(stored.notes.is_empty(), "{name}: {:?}", stored.notes);
            assert_eq!(stored.rgb, upright.rgb, "{name} holds the same pixels before turning");
            let turned = decode(&name).expect("fixture");
            let swapped = orientation >= 5;
            let want =
                if swapped { (upright.height, upright.width) } else { (upright.width, upright.height) };
            assert_eq!((turned.width, turned.height), want, "{name}");
            assert_eq!(has_note(&turned, "orientation"), orientation != 1, "{name}");
        }
    }
}

/// A JPEG with a segment put in after its first marker.
fn with_segment(jpeg: &[u8], marker: u8, data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xff, marker], &length, data, &jpeg[2..]].concat()
}

#[test]
fn senseless_exif_counts_as_none() {
    let plain = decode("photo_420.jpg").expect("fixture");
    let jpeg = bytes("photo_420.jpg");
    let entry = |kind: u8, value: u8| {
        [
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0".as_slice(),
            &[kind, 0, 0, 0, 1, 0, value, 0, 0, 0, 0, 0, 0],
        ]
        .concat()
    };
    let noise: Vec<u8> = (0..65_500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let junk = [b"Exif\0\0".as_slice(), &noise].concat();
    let loops = b"Exif\0\0II*\0\x08\0\0\0\xff\xff".to_vec();
    let far = b"Exif\0\0II*\0\xff\xff\xff\xff".to_vec();
    for exif in [entry(3, 0), entry(3, 9), entry(3, 255), entry(2, 6), junk, loops, far, b"Exif\0\0".to_vec()]
    {
        let got =
            decode_bytes("x", &with_segment(&jpeg, 0xe1, &exif), &DecodeOptions::default()).expect("decodes");
        assert_eq!(got, plain, "{:?}", &exif[..exif.len().min(40)]);
    }
    let turned = decode_bytes("x", &with_segment(&jpeg, 0xe1, &entry(3, 6)), &DecodeOptions::default());
    assert!(has_note(&turned.expect("decodes"), "EXIF orientation 6 applied"), "the builder builds EXIF");
}

#[test]
fn first_frames_and_pages_are_noted() {
    for (name, want) in [
        ("animated.gif", "animated GIF: only the first of 3 frames"),
        ("animated.png", "animated PNG: only the first of 3 frames"),
        ("animated.webp", "animated WebP: only the first of 3 frames"),
        ("pages.tif", "multi-page TIFF: only the first of 2 pages"),
        ("grey16.png", "16-bit samples scaled"),
        ("rgba.png", "transparency dropped"),
    ] {
        let got = decode(name).expect("fixture");
        assert!(has_note(&got, want), "{name}: {:?}", got.notes);
    }
    for name in ["rgb.png", "still.gif", "lossless.webp", "rgb.tif", "photo_420.jpg", "rgb.bmp", "rgb.ppm"] {
        assert_eq!(decode(name).expect("fixture").notes, [""; 0], "{name}");
    }
    // A frame larger than its canvas is cut to it.
    let got = decode("large_frame.gif").expect("bounded");
    assert_eq!((got.width, got.height), (3, 3));
}

#[test]
fn sixteen_bits_are_scaled() {
    // The one deliberate difference from Pillow, which clips 300 to 255.
    let grey = decode("grey16.png").expect("fixture").rgb;
    assert_eq!([grey[0], grey[3], grey[6], grey[9]], [1, 255, 0, 1], "of 300, 65535, 128, 129");
}

#[test]
fn colour_management_is_left_out() {
    let plain = decode("rgb.png").expect("fixture").rgb;
    for name in ["gamma.png", "icc.png", "interlaced.png", "rgb.bmp", "rgb.tif", "rgb.ppm", "lossless.webp"] {
        assert_eq!(decode(name).expect("fixture").rgb, plain, "{name}");
    }
}

#[test]
fn a_background_goes_under_transparent_pixels() {
    let dropped = decode("rgba.png").expect("fixture");
    let on = |color| {
        let options = DecodeOptions { background: Some(color), ..DecodeOptions::default() };
        decode_bytes("rgba.png", &bytes("rgba.png"), &options).expect("fixture")
    };
    let (white, black) = (on([255; 3]), on([0; 3]));
    assert!(has_note(&white, "#ffffff"), "{:?}", white.notes);
    for i in 0..dropped.rgb.len() {
        let (w, b, d) = (white.rgb[i], black.rgb[i], dropped.rgb[i]);
        assert!(b <= d && d <= w, "byte {i}: {b} <= {d} <= {w}");
    }
    assert_ne!(white.rgb, black.rgb);
    // Opaque files do not change.
    let options = DecodeOptions { background: Some([9, 9, 9]), ..DecodeOptions::default() };
    assert_eq!(decode_bytes("x", &bytes("rgb.png"), &options), decode("rgb.png"));
}

#[test]
fn names_and_places_do_not_matter() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let jpeg = decode("photo_420.jpg").expect("fixture");
    assert_eq!(decode("jpeg_named.png").expect("by content"), jpeg);
    let odd = dir.path().join("-x\n y.png");
    fs::write(&odd, bytes("photo_420.jpg")).expect("written");
    assert_eq!(decode_file(&odd, &DecodeOptions::default()).expect("odd name"), jpeg);
    let at = |p: &Path| decode_file(p, &DecodeOptions::default());
    refused(at(dir.path()), &dir.path().display().to_string(), "is a directory");
    refused(at(&dir.path().join("none.png")), "none.png", "cannot be read");
    fs::write(dir.path().join("empty.png"), "").expect("written");
    refused(at(&dir.path().join("empty.png")), "empty.png", "empty file");
}

#[cfg(unix)]
#[test]
fn special_files_do_not_block() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().expect("temporary folder");
    let at = |p: &Path| decode_file(p, &DecodeOptions::default());
    let latin = dir.path().join(OsStr::from_bytes(b"caf\xe9.png"));
    fs::write(&latin, bytes("rgb.png")).expect("written");
    assert_eq!(at(&latin), decode("rgb.png"));
    let (dangling, circle) = (dir.path().join("dangling.png"), dir.path().join("circle.png"));
    symlink("nowhere", &dangling).expect("link");
    symlink(&circle, &circle).expect("link");
    refused(at(&dangling), "dangling.png", "cannot be read");
    assert!(matches!(at(&circle), Err(Error::Input { .. })));
    refused(at(Path::new("/dev/zero")), "/dev/zero", "not a regular file");
    let fifo = dir.path().join("fifo.png");
    if std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|s| s.success()) {
        let start = Instant::now();
        refused(at(&fifo), "fifo.png", "not a regular file");
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn one_pixel_goes_all_the_way() {
    let image = decode("one_pixel.png").expect("fixture");
    assert_eq!((image.width, image.height, &image.rgb[..]), (1, 1, &[10, 200, 77][..]));
    let preprocess = Preprocess::default_for("vit", [32, 32]).expect("vit");
    let tensor = preprocess.tensor(&image).expect("1x1");
    for (c, byte) in image.rgb.iter().enumerate() {
        let want = (f32::from(*byte) * (1.0 / 255.0) - 0.5) / 0.5;
        let plane = &tensor.as_f32().expect("f32")[c * 1024..(c + 1) * 1024];
        assert!(plane.iter().all(|x| (x - want).abs() <= 1e-6), "channel {c}: {} vs {want}", plane[0]);
    }
}

/// Thousands of damaged copies of the fixtures: whatever they give, they give it without a panic
/// and in bounded time.
#[test]
fn damaged_copies_never_panic() {
    let files: Vec<(String, Vec<u8>)> = fixtures().into_iter().map(|n| (n.clone(), bytes(&n))).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut decoded = 0;
    for round in 0..3000 {
        let (name, original) = &files[next(files.len())];
        let mut data = original.clone();
        for _ in 0..=next(4) {
            let at = next(data.len());
            match next(5) {
                0 => data[at] ^= 1 << next(8),
                1 => data[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
                2 => data.truncate(at.max(1)),
                3 => drop(data.drain(at..(at + next(16)).min(data.len()))),
                _ => data.insert(at, next(256) as u8),
            }
            if data.is_empty() {
                break;
            }
        }
        let options = DecodeOptions {
            max_pixels: 1 << 20,
            allow_truncated: round % 2 == 0,
            ..DecodeOptions::default()
        };
        let start = Instant::now();
        match decode_bytes(name, &data, &options) {
            Ok(d) => {
                assert_eq!(d.rgb.len(), d.width * d.height * 3, "{name}");
                decoded += 1;
            }
            Err(e) => assert!(matches!(e, Error::Input { .. }), "{name}: {e}"),
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
    }
    assert!((100..2900).contains(&decoded), "{decoded} of 3000 still decode");
}
