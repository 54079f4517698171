"""Write the pictures that belong to `builtin:shapes`: the held-out test set and the samples.

    python make_pictures.py tests ../../tests/shapes
    python make_pictures.py samples ../../assets/samples

The test set is random and not selected: 16 pictures of each kind from the training generator with
seeds that training never uses (`generated/<label>_<nn>.png`, 64 to 128 pixels), and 8 of each kind
by the other renderers (`other/<label>_<renderer>_<nn>.png`).  The samples are ten 256x256 pictures
to look at and to try the engine with: SVG with gradients and a soft shadow, rasterised by resvg.
"""

import pathlib
import random
import sys

import numpy as np
import resvg_py

import other_renderers
import shapes

GENERATED_SEED = 77_000_001
OTHER_SEED = 77_000_002
OTHER_PATTERN = ["cairo", "resvg", "glyph", "cairo", "resvg", "glyph", "cairo", "glyph"]

# name: background from, to; shape from, to; angle; outline in units of a 256x256 picture around its centre
SAMPLES = {
    "circle": ("#0f2027", "#2c5364", "#ffd194", "#f7971e", 0, '<circle r="82"/>'),
    "square": ("#fdfcfb", "#e2d1c3", "#5b86e5", "#3a3897", 12, '<rect x="-70" y="-70" width="140" height="140"/>'),
    "triangle": ("#16222a", "#3a6073", "#a8ff78", "#38d39f", 0, '<path d="M0 -88 L90 68 L-90 68 Z"/>'),
    "hexagon": ("#fff1c9", "#ffd89b", "#a8551b", "#7b2d12", 0, '<path d="M86 0L43 74.5H-43L-86 0L-43 -74.5H43Z"/>'),
    "star": ("#0b1340", "#3b2f86", "#fff6b7", "#f6d242", 0, "star"),
    "cross": ("#e6f4ee", "#bfe3d3", "#ef5350", "#b71c1c", 0, '<path d="M-28 -84H28V-28H84V28H28V84H-28V28H-84V-28H-28Z"/>'),
    "heart": (
        "#fff5f7", "#ffd9e2", "#ff5f7e", "#c2183c", 0,
        '<path d="M0 82 C-34 48 -92 16 -92 -30 C-92 -88 -26 -96 0 -44 C26 -96 92 -88 92 -30 C92 16 34 48 0 82 Z"/>',
    ),
    "arrow": ("#232526", "#4b5157", "#7ee8fa", "#36a3d9", -25, '<path d="M-92 -26H8V-70L94 0L8 70V26H-92Z"/>'),
    "crescent": ("#05081f", "#1f2a5a", "#fefcea", "#f1da8c", -20, '<path d="M30 -78 A84 84 0 1 0 30 78 A86 86 0 0 1 30 -78 Z"/>'),
    "drop": ("#f4fbff", "#cfe9f7", "#5ab9ea", "#1c5fa8", 0, '<path d="M0 -94 C12 -54 58 -18 58 30 A58 58 0 0 1 -58 30 C-58 -18 -12 -54 0 -94 Z"/>'),
}  # fmt: skip


def write_tests(folder):
    rng = np.random.default_rng(GENERATED_SEED)
    (folder / "generated").mkdir(parents=True, exist_ok=True)
    for label in shapes.LABELS:
        for number in range(16):
            picture, _ = shapes.draw(rng, label, int(rng.choice([64, 64, 80, 96, 128])))
            picture.save(folder / "generated" / f"{label}_{number:02}.png", optimize=True)

    rng = random.Random(OTHER_SEED)
    (folder / "other").mkdir(parents=True, exist_ok=True)
    for label in shapes.LABELS:
        for number, renderer in enumerate(OTHER_PATTERN):
            if renderer not in other_renderers.renderers_of(label):
                renderer = "resvg"
            picture = other_renderers.picture(rng, label, renderer)
            picture.save(folder / "other" / f"{label}_{renderer}_{number:02}.png", optimize=True)


def sample_document(ground_from, ground_to, fill_from, fill_to, angle, outline):
    if outline == "star":
        points = [(x * 1.84, y * 1.84 + 6) for x, y in other_renderers.star_points(5, 21)]
        outline = other_renderers.corners(points)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="256" height="256" viewBox="-128 -128 256 256"><defs>
<linearGradient id="ground" x2="0.4" y2="1"><stop stop-color="{ground_from}"/><stop offset="1" stop-color="{ground_to}"/></linearGradient>
<linearGradient id="fill" x2="0.3" y2="1"><stop stop-color="{fill_from}"/><stop offset="1" stop-color="{fill_to}"/></linearGradient>
<filter id="shadow" x="-30%" y="-30%" width="160%" height="160%"><feDropShadow dx="0" dy="4" stdDeviation="5" flood-opacity="0.3"/></filter>
</defs><rect x="-128" y="-128" width="256" height="256" fill="url(#ground)"/>
<g filter="url(#shadow)"><g transform="rotate({angle})" fill="url(#fill)" stroke="url(#fill)" stroke-width="6" stroke-linejoin="round">{outline}</g></g></svg>"""


def write_samples(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in SAMPLES.items():
        document = sample_document(*parts)
        picture = other_renderers.opened(resvg_py.svg_to_bytes(svg_string=document))
        picture.save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    {"tests": write_tests, "samples": write_samples}[sys.argv[1]](pathlib.Path(sys.argv[2]))
