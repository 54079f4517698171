"""English names of colours: a pure function of R, G, B, by regions of OKLCh.

OKLab is Björn Ottosson's "A perceptual color space for image processing" (2020,
https://bottosson.github.io/posts/oklab/): lightness L of 0..1, and a, b, whose length is the chroma C and
whose angle the hue.  Equal distances look about equally far.  A colour is *clear* if everything within
`DOUBT` of it along the three axes bears the same name; the others may be called by any of the names around.

`src/synthetic/shapes/names.rs` has the same regions; change both.  Run as a script to write a chart of the
regions and to print how often each name occurs:  python colour_names.py chart.png
"""

import sys

import numpy as np

NAMES = [
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "grey", "white", "black",
]  # fmt: skip
DOUBT = 0.025

FROM_LINEAR = np.array([
    [0.4122214708, 0.5363325363, 0.0514459929],
    [0.2119034982, 0.6806995451, 0.1073969566],
    [0.0883024619, 0.2817188376, 0.6299787005],
])  # fmt: skip
TO_LAB = np.array([
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
])  # fmt: skip


def oklab(colour):
    """[L, a, b] of an RGB colour of 0..1 as it stands in a file (sRGB)."""
    colour = np.clip(np.asarray(colour, np.float64), 0, 1)
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    return TO_LAB @ np.cbrt(FROM_LINEAR @ linear)


def name_of_lab(lightness, a, b):
    """The name of the region that a point of OKLab lies in."""
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    if lightness < 0.27 and chroma < 0.08:
        return "black"
    if chroma < 0.04:
        return "white" if lightness > 0.87 else "grey"
    if hue < 8 or hue >= 340:  # between purple and red
        return "pink" if lightness > 0.58 else "red" if hue < 8 else "purple"
    if hue < 42:
        if lightness > 0.70:
            return "pink" if hue < 30 else "orange"
        return "brown" if hue >= 20 and (lightness < 0.40 or chroma < 0.10) else "red"
    if hue < 85:
        return "orange" if lightness > 0.78 or lightness > 0.62 and chroma > 0.10 else "brown"
    if hue < 121:
        return "yellow" if lightness > 0.70 else "brown" if hue < 108 else "green"
    if hue < 172:
        return "green"
    if hue < 215:
        return "cyan"
    if hue < 285:
        return "blue"
    return "pink" if hue >= 328 and lightness > 0.65 else "purple"


def colour_name(colour):
    """The nearest name of an RGB colour of 0..1."""
    return name_of_lab(*oklab(colour))


def possible_names(colour):
    """The nearest name, then those of other regions within `DOUBT`."""
    lab = oklab(colour)
    around = [lab + sign * DOUBT * axis for axis in np.eye(3) for sign in (1, -1)]
    return list(dict.fromkeys(name_of_lab(*point) for point in [lab, *around]))


def clear_name(colour):
    """The name of an RGB colour of 0..1, or None where another one is as good."""
    names = possible_names(colour)
    return names[0] if len(names) == 1 else None


def names_of_fill(fill):
    """Names of what an area is filled with.  `fill`: its mean colour, then the ends of its gradient.

    The possible names of the mean; those of the ends too where they are called otherwise, so that a
    gradient through several names is not clear.
    """
    names = possible_names(fill[0])
    return list(dict.fromkeys(names + [colour_name(end) for end in fill[1:]]))


if __name__ == "__main__":
    from PIL import Image

    import shapes

    side, steps = 48, np.linspace(0, 1, 13)
    colours = np.array([(r, g, b) for r in steps for g in steps for b in steps])
    groups = {name: [] for name in NAMES}
    for colour in colours:
        name = clear_name(colour)
        if name:
            groups[name].append(Image.new("RGB", (16, 16), tuple((colour * 255).astype(int).tolist())))
    widest = 60
    rows = [row[part : part + widest] for row in groups.values() for part in range(0, len(row), widest)]
    shapes.contact_sheet(rows).save(sys.argv[1])
    rng = np.random.default_rng(1)
    drawn = [names_of_fill(shapes.draw_filled(rng, "circle", side)[2]) for _ in range(3000)]
    for name in NAMES:
        clear, near = sum(names == [name] for names in drawn), sum(name in names for names in drawn)
        print(f"{name:8} clear {clear / 3000:.3f}  possible {near / 3000:.3f}")
    print(f"clear {sum(len(names) == 1 for names in drawn) / 3000:.3f}")
