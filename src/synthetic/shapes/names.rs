//! English names of colours, by regions of OKLCh.
//!
//! OKLab is Björn Ottosson's "A perceptual color space for image processing" (2020,
//! <https://bottosson.github.io/posts/oklab/>): lightness L of 0..1, and a, b, whose length is the chroma C and
//! whose angle the hue. Equal distances look about equally far. `tools/train/colour_names.py` has the same
//! regions; change both.

use super::colours::Colour;

/// How far around a colour, along each axis of OKLab, everything must bear its name for it to be clear.
const DOUBT: f64 = 0.025;

const FROM_LINEAR: [[f64; 3]; 3] = [
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
];
const TO_LAB: [[f64; 3]; 3] = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
];

/// The name of an area, or None where another name is as good. `fill`: its mean colour, then the two ends of its
/// gradient; a gradient through several names is not clear.
pub(super) fn clear_name(fill: [Colour; 3]) -> Option<&'static str> {
    let [mean, from, to] = fill.map(oklab);
    let name = name_of_lab(mean);
    let around = [0, 1, 2].into_iter().flat_map(|axis| {
        [-DOUBT, DOUBT].map(|step| {
            let mut point = mean;
            point[axis] += step;
            point
        })
    });
    around.chain([from, to]).all(|point| name_of_lab(point) == name).then_some(name)
}

/// L, a, b of R, G, B of 0..1 as they stand in a file (sRGB).
fn oklab(colour: Colour) -> [f64; 3] {
    let linear = colour.map(|level| {
        let level = level.clamp(0.0, 1.0);
        if level <= 0.04045 { level / 12.92 } else { ((level + 0.055) / 1.055).powf(2.4) }
    });
    product(&TO_LAB, product(&FROM_LINEAR, linear).map(f64::cbrt))
}

fn product(matrix: &[[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row[0] * vector[0] + row[1] * vector[1] + row[2] * vector[2])
}

/// The name of the region that a point of OKLab lies in.
fn name_of_lab([lightness, a, b]: [f64; 3]) -> &'static str {
    let chroma = a.hypot(b);
    let hue = b.atan2(a).to_degrees().rem_euclid(360.0);
    if lightness < 0.27 && chroma < 0.08 {
        return "black";
    }
    if chroma < 0.04 {
        return if lightness > 0.87 { "white" } else { "grey" };
    }
    let light = lightness > 0.70;
    match hue {
        // Between purple and red.
        h if !(8.0..340.0).contains(&h) && lightness > 0.58 => "pink",
        h if h >= 340.0 => "purple",
        h if h < 30.0 && light => "pink",
        h if h < 42.0 && light => "orange",
        h if (20.0..42.0).contains(&h) && (lightness < 0.40 || chroma < 0.10) => "brown",
        h if h < 42.0 => "red",
        h if h < 85.0 && (lightness > 0.78 || lightness > 0.62 && chroma > 0.10) => "orange",
        h if h < 85.0 => "brown",
        h if h < 121.0 && light => "yellow",
        h if h < 108.0 => "brown",
        h if h < 172.0 => "green",
        h if h < 215.0 => "cyan",
        h if h < 285.0 => "blue",
        h if h >= 328.0 && lightness > 0.65 => "pink",
        _ => "purple",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear(rgb: [u8; 3]) -> Option<&'static str> {
        clear_name([rgb.map(|level| f64::from(level) / 255.0); 3])
    }

    #[test]
    fn every_name_has_colours_that_bear_it_clearly() {
        let named = [
            ([255, 0, 0], "red"),
            ([255, 140, 0], "orange"),
            ([255, 230, 0], "yellow"),
            ([0, 160, 0], "green"),
            ([0, 210, 210], "cyan"),
            ([30, 60, 230], "blue"),
            ([120, 0, 160], "purple"),
            ([255, 105, 180], "pink"),
            ([120, 70, 25], "brown"),
            ([128, 128, 128], "grey"),
            ([250, 250, 250], "white"),
            ([10, 10, 10], "black"),
        ];
        named.iter().for_each(|(rgb, name)| assert_eq!(clear(*rgb), Some(*name), "{rgb:?}"));
    }

    #[test]
    fn colours_between_two_names_have_none() {
        // Magenta, olive, maroon, tan.
        for rgb in [[255, 0, 255], [128, 128, 0], [128, 0, 0], [210, 180, 140]] {
            assert_eq!(clear(rgb), None, "{rgb:?}");
        }
        let [red, blue] = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]];
        assert_eq!(clear_name([red, red, blue]), None);
        assert_eq!(clear_name([red; 3]), Some("red"));
    }

    #[test]
    fn boundaries_are_those_that_the_model_was_trained_with() {
        // L, C, hue of a point, and the names of what lies 0.002 or 0.2 degrees this side of it and beyond.
        let boundaries = [
            ([0.27, 0.03, 200.0], [0.002, 0.0, 0.0], ["black", "grey"]),
            ([0.27, 0.07, 264.0], [0.002, 0.0, 0.0], ["black", "blue"]),
            ([0.2, 0.08, 264.0], [0.0, 0.002, 0.0], ["black", "blue"]),
            ([0.87, 0.02, 90.0], [0.002, 0.0, 0.0], ["grey", "white"]),
            ([0.6, 0.04, 264.0], [0.0, 0.002, 0.0], ["grey", "blue"]),
            ([0.58, 0.2, 2.0], [0.002, 0.0, 0.0], ["red", "pink"]),
            ([0.58, 0.2, 350.0], [0.002, 0.0, 0.0], ["purple", "pink"]),
            ([0.7, 0.15, 25.0], [0.002, 0.0, 0.0], ["red", "pink"]),
            ([0.75, 0.15, 30.0], [0.0, 0.0, 0.2], ["pink", "orange"]),
            ([0.4, 0.15, 25.0], [0.002, 0.0, 0.0], ["brown", "red"]),
            ([0.5, 0.1, 25.0], [0.0, 0.002, 0.0], ["brown", "red"]),
            ([0.3, 0.15, 20.0], [0.0, 0.0, 0.2], ["red", "brown"]),
            ([0.65, 0.15, 42.0], [0.0, 0.0, 0.2], ["red", "orange"]),
            ([0.62, 0.15, 60.0], [0.002, 0.0, 0.0], ["brown", "orange"]),
            ([0.7, 0.1, 60.0], [0.0, 0.002, 0.0], ["brown", "orange"]),
            ([0.78, 0.06, 60.0], [0.002, 0.0, 0.0], ["brown", "orange"]),
            ([0.8, 0.15, 85.0], [0.0, 0.0, 0.2], ["orange", "yellow"]),
            ([0.7, 0.15, 100.0], [0.002, 0.0, 0.0], ["brown", "yellow"]),
            ([0.7, 0.15, 115.0], [0.002, 0.0, 0.0], ["green", "yellow"]),
            ([0.6, 0.12, 108.0], [0.0, 0.0, 0.2], ["brown", "green"]),
            ([0.8, 0.15, 121.0], [0.0, 0.0, 0.2], ["yellow", "green"]),
            ([0.7, 0.15, 172.0], [0.0, 0.0, 0.2], ["green", "cyan"]),
            ([0.7, 0.1, 215.0], [0.0, 0.0, 0.2], ["cyan", "blue"]),
            ([0.5, 0.2, 285.0], [0.0, 0.0, 0.2], ["blue", "purple"]),
            ([0.7, 0.2, 328.0], [0.0, 0.0, 0.2], ["purple", "pink"]),
            ([0.65, 0.2, 335.0], [0.002, 0.0, 0.0], ["purple", "pink"]),
            ([0.62, 0.2, 340.0], [0.0, 0.0, 0.2], ["purple", "pink"]),
        ];
        for ([l, c, h], step, [before, after]) in boundaries {
            for (sign, name) in [(-1.0, before), (1.0, after)] {
                let [l, c, h] = [l + sign * step[0], c + sign * step[1], f64::to_radians(h + sign * step[2])];
                assert_eq!(name_of_lab([l, c * h.cos(), c * h.sin()]), name, "{l} {c} {h}");
            }
        }
    }

    #[test]
    fn oklab_is_that_of_its_author() {
        let near = |rgb, lab: [f64; 3]| {
            let found = oklab(rgb);
            assert!(
                found.iter().zip(lab).all(|(a, b)| (a - b).abs() < 6e-4),
                "{rgb:?}: {found:?}, not {lab:?}"
            );
        };
        near([1.0; 3], [1.0, 0.0, 0.0]);
        near([1.0, 0.0, 0.0], [0.6280, 0.2249, 0.1258]);
        near([0.0, 1.0, 0.0], [0.8664, -0.2339, 0.1795]);
        near([0.0, 0.0, 1.0], [0.4520, -0.0325, -0.3115]);
        near([0.0; 3], [0.0; 3]);
    }
}
