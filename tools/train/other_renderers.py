"""Pictures of the same kinds of shapes as `shapes.py`, drawn by other means, for testing only.

Training never sees these.  Nothing is shared with `shapes.py` but the label names: the outlines are
hand-written SVG elements (arcs and Bezier curves) rasterised by cairo or by resvg, or glyphs of
the DejaVu Sans and STIX fonts (both inside the matplotlib wheel) drawn by Pillow; colours are
compared by the WCAG contrast ratio; the random numbers come from `random`.  Pictures have 64, 80,
96 or 128 pixels a side.

`picture(rng, label, renderer)` draws one.  Run as a script to write a contact sheet:

    python other_renderers.py sheet.png [seed]
"""

import io
import math
import pathlib
import random
import sys

import cairosvg
import matplotlib
import resvg_py
from PIL import Image, ImageDraw, ImageFont

FONTS = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")

# Glyphs of each kind: (font file, characters).  No font at hand has a filled drop.
GLYPHS = {
    "circle": [("DejaVuSans.ttf", "●⬤"), ("STIXGeneral.ttf", "●")],
    "ellipse": [("STIXGeneral.ttf", "⬬")],
    "ring": [("DejaVuSans-Bold.ttf", "◯○"), ("STIXGeneral.ttf", "○")],
    "semicircle": [("DejaVuSans.ttf", "◖◗"), ("STIXGeneral.ttf", "◖◗")],
    "crescent": [("DejaVuSans.ttf", "☾☽"), ("STIXGeneral.ttf", "☾☽")],
    "triangle": [("DejaVuSans.ttf", "▲▶▼◣"), ("STIXGeneral.ttf", "▲◀◥")],
    "square": [("DejaVuSans.ttf", "■◆▪"), ("STIXGeneral.ttf", "■◼")],
    "rectangle": [("DejaVuSans.ttf", "▬▮"), ("STIXGeneral.ttf", "▬▮")],
    "pentagon": [("DejaVuSans.ttf", "⬟"), ("STIXGeneral.ttf", "⬟")],
    "hexagon": [("DejaVuSans.ttf", "⬢⬣"), ("STIXGeneral.ttf", "⬢⬣")],
    "star": [("DejaVuSans.ttf", "★"), ("STIXGeneral.ttf", "★")],
    "cross": [("DejaVuSans.ttf", "✚✖+"), ("DejaVuSans-Bold.ttf", "✚✝+")],
    "heart": [("DejaVuSans.ttf", "♥❤"), ("STIXGeneral.ttf", "♥")],
    "arrow": [("DejaVuSans.ttf", "➡➔➜⬅⬆"), ("DejaVuSans-Bold.ttf", "➤➧⬇")],
    "bolt": [("DejaVuSans.ttf", "⚡")],
}


def corners(points):
    return f'<polygon points="{" ".join(f"{x:.2f},{y:.2f}" for x, y in points)}"/>'


def spokes(count, radius, start=-90.0):
    angles = [math.radians(start + 360 * index / count) for index in range(count)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def star_points(count, inner):
    outer_points, inner_points = spokes(count, 50), spokes(count, inner, -90 + 180 / count)
    return [point for pair in zip(outer_points, inner_points) for point in pair]


def svg_shape(rng, label):
    """An SVG element of the kind, about 100 units large, around the origin."""
    between = rng.uniform
    if label == "circle":
        return '<circle r="48"/>'
    if label == "ellipse":
        return f'<ellipse rx="49" ry="{between(21, 31)}"/>'
    if label == "ring":
        return f'<circle r="40" fill="none" stroke-width="{between(9, 26)}"/>'
    if label == "semicircle":
        return '<path d="M-48 24 A48 48 0 0 1 48 24 Z"/>'
    if label == "crescent":
        return f'<path d="M20 -44 A48 48 0 1 0 20 44 A{between(42, 60)} 48 0 0 1 20 -44 Z"/>'
    if label == "triangle":
        top = rng.choice([0, 0, 0, -45, between(-30, 30)])
        return corners([(-46, 36), (46, 36), (top, between(-48, -15))])
    if label == "square":
        return f'<rect x="-42" y="-42" width="84" height="84" rx="{rng.choice([0, 0, between(2, 16)])}"/>'
    if label == "rectangle":
        height = between(31, 60)
        return (
            f'<rect x="-48" y="{-height / 2}" width="96" height="{height}" rx="{rng.choice([0, 0, between(1, 8)])}"/>'
        )
    if label == "pentagon":
        return corners(spokes(5, 50))
    if label == "hexagon":
        return corners(spokes(6, 50))
    if label == "star":
        return corners(star_points(rng.choice([5, 5, 5, 5, 6]), between(18, 27)))
    if label == "cross":
        arm = between(9, 18)
        return f'<path d="M{-arm} -48H{arm}V{-arm}H48V{arm}H{arm}V48H{-arm}V{arm}H-48V{-arm}H{-arm}Z"/>'
    if label == "heart":
        shoulder = between(-58, -44)
        return (
            f'<path d="M0 44 C-20 22 -50 8 -50 -16 C-50 {shoulder} -14 {shoulder} 0 -20'
            f' C14 {shoulder} 50 {shoulder} 50 -16 C50 8 20 22 0 44 Z"/>'
        )
    if label == "arrow":
        shaft, neck, wing = between(7, 16), between(-5, 18), between(26, 40)
        upper = [(-48, -shaft), (neck, -shaft), (neck, -wing), (48, 0)]
        return corners(upper + [(x, -y) for x, y in reversed(upper[:-1])])
    if label == "drop":
        pull = between(-30, -10)
        right = f"C{between(4, 12)} {pull} 32 -4 32 18"
        left = f"C-32 -4 {-between(4, 12)} {pull} 0 -50"
        return f'<path d="M0 -50 {right} A32 32 0 0 1 -32 18 {left} Z"/>'
    if label == "bolt":
        return rng.choice(
            [
                corners([(5, -50), (-40, 10), (-2, 10), (-8, 50), (38, -12), (2, -12)]),
                corners([(-24, -50), (-24, 6), (-6, 6), (-6, 50), (28, -10), (6, -10), (26, -50)]),
                corners([(10, -50), (-32, 4), (-8, 6), (-24, 50), (34, -10), (8, -12), (28, -50)]),
            ]
        )
    raise ValueError(label)


def luminance(colour):
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    lighter, darker = sorted([luminance(one), luminance(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def random_colour(rng):
    return tuple(rng.randrange(256) for _ in range(3))


def colours(rng):
    """Two ends of the background and two of the fill (often the same), at least 1.9 : 1 apart."""
    while True:
        ground = [random_colour(rng), random_colour(rng)]
        fill = [random_colour(rng), random_colour(rng)]
        if rng.random() < 0.4:
            ground[1] = ground[0]
        if rng.random() < 0.6:
            fill[1] = fill[0]
        lights = [sorted(map(luminance, pair)) for pair in (ground, fill)]
        apart = lights[0][1] < lights[1][0] or lights[1][1] < lights[0][0]
        if apart and min(contrast(a, b) for a in ground for b in fill) >= 1.9:
            return ground, fill


def gradient(rng, name, ends):
    stops = "".join(f'<stop offset="{at}" stop-color="rgb{end}"/>' for at, end in enumerate(ends))
    if rng.random() < 0.6:
        angle = rng.uniform(0, 360)
        return f'<linearGradient id="{name}" gradientTransform="rotate({angle} 0.5 0.5)">{stops}</linearGradient>'
    return f'<radialGradient id="{name}" cx="{rng.random()}" cy="{rng.random()}" r="0.8">{stops}</radialGradient>'


def placement(rng):
    """Size (a part of the picture), centre and angle; the shape's circumcircle stays inside."""
    size = rng.uniform(0.42, 0.88)
    reach = max(0.0, 0.5 - size * 0.54)
    centre = [0.5 + rng.uniform(-reach, reach) for _ in range(2)]
    angle = rng.uniform(0, 360) if rng.random() < 0.7 else 0.0
    return size, centre, angle


def svg_document(rng, label, side):
    ground, fill = colours(rng)
    size, (x, y), angle = placement(rng)
    where = f"translate({x * side} {y * side}) rotate({angle}) scale({size * side / 100})"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}" viewBox="0 0 {side} {side}">'
        f"<defs>{gradient(rng, 'ground', ground)}{gradient(rng, 'fill', fill)}</defs>"
        f'<rect width="{side}" height="{side}" fill="url(#ground)"/>'
        f'<g transform="{where}" fill="url(#fill)" stroke="{"url(#fill)" if label == "ring" else "none"}">'
        f"{svg_shape(rng, label)}</g></svg>"
    )


def opened(data):
    return Image.open(io.BytesIO(bytes(data))).convert("RGB")


def cairo_picture(rng, label, side):
    return opened(cairosvg.svg2png(bytestring=svg_document(rng, label, side).encode()))


def resvg_picture(rng, label, side):
    return opened(resvg_py.svg_to_bytes(svg_string=svg_document(rng, label, side)))


def glyph_picture(rng, label, side):
    """A glyph in one colour, cut to its ink, scaled, turned and pasted on a plain, blended or noisy ground."""
    file, characters = rng.choice(GLYPHS[label])
    font = ImageFont.truetype(FONTS / file, 300)
    stroke = rng.randrange(6, 20) if label == "ring" else 0  # the font's circles are hairlines
    ink = Image.new("L", (700, 700))
    ImageDraw.Draw(ink).text((350, 350), rng.choice(characters), 255, font, anchor="mm", stroke_width=stroke)
    if label == "crescent":  # the fonts' moons are outlines: fill them
        ink = ink.point(lambda value: 255 * (value > 127))
        ImageDraw.floodfill(ink, (0, 0), 128)
        ink = ink.point(lambda value: 255 * (value != 128))
    ink = ink.crop(ink.getbbox())
    size, centre, angle = placement(rng)
    scale = size * side / math.hypot(*ink.size)
    frame = Image.new("L", (math.ceil(math.hypot(*ink.size)),) * 2)
    frame.paste(ink, tuple((frame.width - length) // 2 for length in ink.size))
    frame = frame.rotate(angle, Image.BICUBIC).resize((round(frame.width * scale),) * 2, Image.LANCZOS)
    ground, fill = colours(rng)
    weight = Image.linear_gradient("L").rotate(rng.choice([0, 90, 180, 270])).resize((side, side))
    canvas = Image.composite(*(Image.new("RGB", (side, side), colour) for colour in ground), weight)
    if rng.random() < 0.3:
        noise = Image.effect_noise((side, side), rng.uniform(10, 60)).convert("RGB")
        canvas = Image.blend(canvas, noise, 0.12)
    corner = tuple(round(at * side - frame.width / 2) for at in centre)
    canvas.paste(fill[0], (*corner, corner[0] + frame.width, corner[1] + frame.height), frame)
    return canvas


RENDERERS = {"cairo": cairo_picture, "resvg": resvg_picture, "glyph": glyph_picture}


def picture(rng, label, renderer):
    return RENDERERS[renderer](rng, label, rng.choice([64, 80, 96, 128]))


def renderers_of(label):
    return [name for name in RENDERERS if name != "glyph" or label in GLYPHS]


if __name__ == "__main__":
    import shapes

    source = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    rows = [
        [
            picture(source, label, name).resize((64, 64), Image.BILINEAR)
            for name in renderers_of(label)
            for _ in range(6)
        ]
        for label in shapes.LABELS
    ]
    shapes.contact_sheet(rows).save(sys.argv[1])
