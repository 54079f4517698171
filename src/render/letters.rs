//! Letters for images, drawn with a round pen: each glyph is a few strokes on a small grid, made for
//! this program. No font file is shipped or looked for.
//!
//! A stroke is written as points of two characters, x and y in base 36, y counted from the lowest
//! descender: baseline 4, small letters up to c (12), capitals up to g (16). A stroke that begins with
//! `~` is a curve with these points as its handles (a quadratic B-spline), closed where it ends as it
//! began; others are polygons.

use super::canvas::At;

/// Units between baseline and the top of capitals.
const CAPITAL: f32 = 12.0;
const BASELINE: f32 = 4.0;
/// Units between glyphs.
const GAP: f32 = 3.2;

/// Characters, their width in units, and their strokes.
const GLYPHS: &[(char, u8, &str)] = &[
    (' ', 3, ""),
    ('a', 6, "~04646c0c04 6c64"),
    ('b', 6, "~04646c0c04 0g04"),
    ('c', 6, "~6b4c0c044465"),
    ('d', 6, "~04646c0c04 6g64"),
    ('e', 6, "0868 ~686c0c044465"),
    ('f', 4, "~4g1g1d14 0c4c"),
    ('g', 6, "~04646c0c04 ~6c62602001"),
    ('h', 6, "0g04 ~090c6c6964"),
    ('i', 2, "1c14 1f1g"),
    ('j', 2, "~2c222000 2f2g"),
    ('k', 5, "0g04 5c07 2954"),
    ('l', 2, "1g14"),
    ('m', 10, "0c04 ~090c5c5954 ~595caca9a4"),
    ('n', 6, "0c04 ~090c6c6964"),
    ('o', 6, "~04646c0c04"),
    ('p', 6, "~04646c0c04 0c00"),
    ('q', 6, "~04646c0c04 6c60"),
    ('r', 4, "0c04 ~080c4c"),
    ('s', 5, "~5b4c0c0858541405"),
    ('t', 4, "~1g151444 0c4c"),
    ('u', 6, "6c64 ~0c07046467"),
    ('v', 6, "0c346c"),
    ('w', 8, "0c244c648c"),
    ('x', 6, "0c64 6c04"),
    ('y', 6, "0c34 6c20"),
    ('z', 6, "0c6c0464"),
    ('0', 6, "~04646g0g04"),
    ('1', 6, "1d3g34"),
    ('2', 6, "~0d0g6g6b04 0464"),
    ('3', 6, "~0f1g5g5a2a ~2a6a641405"),
    ('4', 6, "444g0868"),
    ('5', 6, "5g0g0a ~0a2b6b641405"),
    ('6', 6, "~5g1d0904646b0b08"),
    ('7', 6, "0g6g24"),
    ('8', 6, "~1a5a5g1g1a ~04646a0a04"),
    ('9', 6, "~14576b6g0g09696c"),
    ('A', 8, "044g84 1878"),
    ('B', 7, "040g ~0g6g6a0a ~0a7a7404"),
    ('C', 7, "~7e6g0g046476"),
    ('D', 7, "040g ~0g7g7404"),
    ('E', 6, "6g0g0464 0a5a"),
    ('F', 6, "6g0g04 0a5a"),
    ('G', 7, "~7e6g0g04747a 7a4a"),
    ('H', 7, "040g 747g 0a7a"),
    ('I', 2, "1g14"),
    ('J', 4, "~4g47440406"),
    ('K', 7, "0g04 7g08 2a74"),
    ('L', 6, "0g0464"),
    ('M', 8, "040g488g84"),
    ('N', 7, "040g747g"),
    ('O', 8, "~04848g0g04"),
    ('P', 7, "040g ~0g7g7909"),
    ('Q', 8, "~04848g0g04 5784"),
    ('R', 7, "040g ~0g7g7909 3974"),
    ('S', 7, "~7e6g0g0a7a741406"),
    ('T', 6, "0g6g 3g34"),
    ('U', 7, "~0g070474777g"),
    ('V', 8, "0g448g"),
    ('W', 12, "0g346g94cg"),
    ('X', 7, "0g74 7g04"),
    ('Y', 8, "0g4a8g 4a44"),
    ('Z', 7, "0g7g0474"),
    ('.', 2, "1415"),
    (',', 2, "1502"),
    (':', 2, "1415 1b1c"),
    (';', 2, "1502 1b1c"),
    ('\'', 2, "1g1d"),
    ('!', 2, "1g18 1415"),
    ('?', 5, "~0e0g5g5b2a28 2425"),
    ('/', 6, "026h"),
    ('-', 5, "0959"),
    ('_', 6, "0363"),
    ('+', 6, "0969 3c36"),
    ('=', 6, "0b6b 0767"),
    ('*', 4, "2g2b 0e4d 4e0d"),
    ('#', 7, "252g 555g 0b7b 0777"),
    ('&', 7, "741d ~1d1g5g5d18 ~1809044479"),
    ('<', 6, "6c0864"),
    ('>', 6, "0c6804"),
    ('(', 3, "~3h0e0632"),
    (')', 3, "~0h3e3602"),
    ('[', 3, "3h0h0232"),
    (']', 3, "0h3h3202"),
    ('%', 9, "~0c3c3g0g0c ~6494986864 059f"),
    ('"', 3, "0g0d 3g3d"),
    ('|', 2, "1h12"),
    ('\\', 6, "0h62"),
    ('\u{2013}', 6, "0969"),
    ('\u{2014}', 9, "0999"),
    ('\u{2019}', 2, "1g1d"),
    ('\u{2026}', 8, "0405 4445 8485"),
    ('\u{2581}', 6, "0363"),
    ('\u{b7}', 2, "191a"),
    ('\u{d7}', 6, "1c57 5c17"),
    ('\u{b5}', 6, "6c64 ~0c07046467 0c00"),
    ('\u{2192}', 8, "0989 6b8967"),
];

/// What stands for a character that there is no glyph of.
const UNKNOWN: (char, u8, &str) = ('\u{fffd}', 6, "04646g0g04");

fn glyph(c: char) -> (char, u8, &'static str) {
    GLYPHS.iter().copied().find(|(known, ..)| *known == c).unwrap_or(UNKNOWN)
}

/// Whether there are glyphs for all of a text.
pub fn known(text: &str) -> bool {
    text.chars().all(|c| GLYPHS.iter().any(|(known, ..)| *known == c))
}

/// Pixels of a unit at a font size, so that capitals are as tall as those of other fonts.
fn unit(size: f32) -> f32 {
    size * 0.72 / CAPITAL
}

/// Width of words in pixels.
pub fn width(text: &str, size: f32) -> f32 {
    let units: f32 = text.chars().map(|c| f32::from(glyph(c).1) + GAP).sum();
    (units - GAP).max(0.0) * unit(size)
}

/// The pen's ways, from the beginning of the baseline.
pub fn strokes(text: &str, size: f32) -> Vec<Vec<At>> {
    let mut left = 0.0;
    let mut out = Vec::new();
    for c in text.chars() {
        let (_, width, strokes) = glyph(c);
        for stroke in strokes.split_whitespace() {
            let (curve, points) = stroke.strip_prefix('~').map_or((false, stroke), |rest| (true, rest));
            let digit = |b: u8| char::from(b).to_digit(36).unwrap_or(0) as f32;
            let points = points.as_bytes().as_chunks::<2>().0;
            let points: Vec<At> = points.iter().map(|[x, y]| [digit(*x), digit(*y)]).collect();
            let way = if curve { spline(&points) } else { points };
            let place = |[x, y]: At| [(left + x) * unit(size), (BASELINE - y) * unit(size)];
            out.push(way.into_iter().map(place).collect());
        }
        left += f32::from(width) + GAP;
    }
    out
}

/// Points along the quadratic B-spline with these handles; it begins at the first and ends at the last,
/// unless those are one: then it is closed.
fn spline(handles: &[At]) -> Vec<At> {
    let n = handles.len();
    if n < 3 {
        return handles.to_vec();
    }
    let middle = |a: At, b: At| [f32::midpoint(a[0], b[0]), f32::midpoint(a[1], b[1])];
    let closed = handles[0] == handles[n - 1];
    let mut arcs: Vec<[At; 3]> = Vec::new();
    if closed {
        let ring = &handles[..n - 1];
        let at = |i: usize| ring[i % ring.len()];
        for i in 0..ring.len() {
            arcs.push([middle(at(i), at(i + 1)), at(i + 1), middle(at(i + 1), at(i + 2))]);
        }
    } else {
        for i in 1..n - 1 {
            let from = if i == 1 { handles[0] } else { middle(handles[i - 1], handles[i]) };
            let to = if i == n - 2 { handles[n - 1] } else { middle(handles[i], handles[i + 1]) };
            arcs.push([from, handles[i], to]);
        }
    }
    let mut out = vec![arcs[0][0]];
    for [a, b, c] in arcs {
        for step in 1..=6 {
            let t = step as f32 / 6.0;
            let mix = |k: usize| a[k] * (1.0 - t) * (1.0 - t) + 2.0 * b[k] * t * (1.0 - t) + c[k] * t * t;
            out.push([mix(0), mix(1)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_glyph_is_well_formed_and_stays_in_its_box() {
        for (c, width, strokes) in GLYPHS {
            for stroke in strokes.split_whitespace() {
                let points = stroke.trim_start_matches('~');
                assert!(points.len() % 2 == 0 && points.len() >= 4, "{c}: {stroke}");
                for [x, y] in points.as_bytes().as_chunks::<2>().0 {
                    let digit = |b: &u8| char::from(*b).to_digit(36).map_or(99, |d| d as u8);
                    assert!(digit(x) <= *width && digit(y) <= 17, "{c}: {stroke}");
                }
            }
        }
        for c in ('a'..='z').chain('A'..='Z').chain('0'..='9') {
            assert_eq!(glyph(c).0, c);
        }
    }

    #[test]
    fn words_are_as_wide_as_their_letters() {
        assert!(width("matmul", 12.0) > width("norm", 12.0));
        assert_eq!(width("", 12.0), 0.0);
        assert!(known("▁cat, …") && !known("猫"));
        let right = strokes("xx", 12.0).iter().flatten().map(|p| p[0]).fold(0.0, f32::max);
        assert!((right - width("xx", 12.0)).abs() < 1e-3);
    }
}
