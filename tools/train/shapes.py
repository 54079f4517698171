"""Procedural pictures of 16 kinds of flat shapes, for training and testing `builtin:shapes`.

Every picture holds one *filled* shape (sometimes with a border line around it, never an outline
alone: an outlined circle would be a ring) of any colour, size, rotation and place, entirely inside
the picture, on a plain, gradient, blotchy or noisy background.  The colours of shape and background
are always far enough apart for a person to see the shape.  Proportions are varied inside each kind
(corner rounding, aspect, thickness, number of star points, heart and arrow forms), and pictures are
drawn at sizes from 48 to 256 pixels, then resized to the wanted size the way a loader does
(bilinear, antialiased).

Decisions about kinds that touch each other: a rotated square is a square; squares and circles are
stretched by at most 6 %, rectangles and ellipses by at least 50 %; a plus turned by 45 degrees is a
cross; a notched dart without a shaft is an arrow; stars have 4, 5 or 6 points.

Everything is a pure function of the `numpy.random.Generator` that is passed in.  Run as a script to
write a contact sheet:  python shapes.py sheet.png [seed]
"""

import io
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 64  # the side of the pictures the model sees
LUMA = np.array([0.299, 0.587, 0.114])
MAX_MIXING = 0.3  # how far noise and blotches may move a colour, as a part of the contrast


# ---- outlines: each function returns a list of polygons; the first is filled, the others are holes


def arc(radius, start, stop, points=48):
    """Points of a circular arc around the origin, angles in radians, end point included."""
    angles = np.linspace(start, stop, points)
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def full_circle(radius):
    return arc(radius, 0, 2 * np.pi, 65)[:-1]


def regular(sides, radius=1.0):
    return arc(radius, 0, 2 * np.pi, sides + 1)[:-1]


def rounded(polygon, amount):
    """Replace each corner by a quadratic Bezier curve that starts `amount` (0..0.5) along its edges."""
    if amount <= 0.01:
        return polygon
    before = polygon + amount * (np.roll(polygon, 1, 0) - polygon)
    after = polygon + amount * (np.roll(polygon, -1, 0) - polygon)
    t = np.linspace(0, 1, 6)[None, :, None]
    curve = (1 - t) ** 2 * before[:, None] + 2 * t * (1 - t) * polygon[:, None] + t**2 * after[:, None]
    return curve.reshape(-1, 2)


def sometimes_rounded(rng, polygon, most):
    return rounded(polygon, rng.uniform(0, most)) if rng.random() < 0.4 else polygon


def nearly_even(rng, polygon, most=1.06):
    """Stretch by a factor so small that a person would not notice."""
    return polygon * [rng.uniform(1, most), 1]


def circle(rng):
    return [nearly_even(rng, full_circle(1))]


def ellipse(rng):
    return [full_circle(1) * [rng.uniform(1.5, 2.6), 1]]


def ring(rng):
    stretch = [rng.uniform(1, 1.12), 1]
    return [full_circle(1) * stretch, full_circle(rng.uniform(0.42, 0.84)) * stretch]


def semicircle(rng):
    half_angle = np.radians(rng.uniform(86, 94))
    return [sometimes_rounded(rng, arc(1, -half_angle, half_angle), 0.3)]


def crescent(rng):
    """A disc less a second disc whose rim crosses the rim of the first."""
    radius = rng.uniform(0.72, 1.08)
    thickness = rng.uniform(max(0.32, 2 * (1 - radius) + 0.12), 0.95)
    offset = thickness + radius - 1
    cross_x = (1 - radius**2 + offset**2) / (2 * offset)
    outer_angle = np.arccos(np.clip(cross_x, -1, 1))
    inner_angle = np.arctan2(np.sin(outer_angle), cross_x - offset)
    outer = arc(1, outer_angle, 2 * np.pi - outer_angle)
    inner = arc(radius, 2 * np.pi - inner_angle, inner_angle) + [offset, 0]
    return [np.concatenate([outer, inner[1:-1]])]


def triangle(rng):
    height = rng.uniform(1.1, 2.4)
    lean = rng.uniform(-1, 1) if rng.random() < 0.3 else 0.0
    return [sometimes_rounded(rng, np.array([[-1, 0], [1, 0], [lean, height]]), 0.18)]


def square(rng):
    return [sometimes_rounded(rng, nearly_even(rng, regular(4) @ turn(np.pi / 4)), 0.2)]


def rectangle(rng):
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1.0]])
    stretch = rng.uniform(1.5, 3.2)
    return [sometimes_rounded(rng, corners * [stretch, 1], 0.12)]


def pentagon(rng):
    return [nearly_even(rng, sometimes_rounded(rng, regular(5), 0.14), 1.1)]


def hexagon(rng):
    return [nearly_even(rng, sometimes_rounded(rng, regular(6), 0.12), 1.1)]


def star(rng):
    points = rng.choice([4, 5, 6], p=[0.08, 0.8, 0.12])
    inner = {4: (0.25, 0.45), 5: (0.32, 0.56), 6: (0.4, 0.6)}[points]
    tips, dents = regular(points), regular(points, rng.uniform(*inner)) @ turn(np.pi / points)
    outline = np.stack([tips, dents], 1).reshape(-1, 2)
    return [nearly_even(rng, sometimes_rounded(rng, outline, 0.25))]


def cross(rng):
    half = rng.uniform(0.08, 0.42)
    foot = rng.uniform(1.0, 1.7) if rng.random() < 0.2 else 1.0
    half_width = rng.uniform(0.85, 1.0)
    right = [[half, -1], [half, -half], [half_width, -half], [half_width, half], [half, half], [half, foot]]
    left = [[-x, y] for x, y in reversed(right)]
    return [sometimes_rounded(rng, np.array(right + left), 0.2)]


def heart(rng):
    if rng.random() < 0.5:  # the sine curve
        t = np.linspace(0, 2 * np.pi, 73)[:-1]
        cleft = rng.uniform(4, 6.5)
        y = -(13 * np.cos(t) - cleft * np.cos(2 * t) - 2 * np.cos(3 * t) - rng.uniform(0.4, 1.2) * np.cos(4 * t))
        outline = np.stack([16 * np.sin(t) ** 3, y], 1)
    else:  # two lobes that run into a point, straight or bulging
        lobe, point, bulge = rng.uniform(0.5, 0.62), rng.uniform(1.15, 1.8), rng.uniform(-0.12, 0.16)
        lobe_arc = arc(lobe, -np.pi + np.arccos(min(1, 0.5 / lobe)), np.pi * 0.16, 30) + [0.5, 0]
        start, tip = lobe_arc[-1], np.array([0, point])
        t = np.linspace(0, 1, 12)[1:, None]
        middle = (start + tip) / 2 + bulge * np.array([1.0, 0.6])
        flank = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * tip
        right = np.concatenate([lobe_arc, flank])
        left = right[::-1][1:] * [-1, 1]
        outline = np.concatenate([right, left])
    return [outline * [rng.uniform(0.88, 1.12), 1]]


def arrow(rng):
    """A block arrow pointing right; sometimes with an open head of two strokes, or a notched dart without a shaft."""
    form = rng.random()
    if form < 0.2:
        half, reach = rng.uniform(0.08, 0.2), rng.uniform(0.5, 0.85)
        slant = reach - 1.41 * half  # where the head's inner edges start, along both axes
        upper = [[1, 0], [1 - reach, reach], [1 - reach - 1.41 * half, slant], [1 - 3.83 * half, half], [-1, half]]
        lower = [[x, -y] for x, y in reversed(upper[1:])]
        return [sometimes_rounded(rng, np.array(upper + lower), 0.1)]
    if form < 0.3:
        notch, width = rng.uniform(0.4, 0.7), rng.uniform(0.6, 1.0)
        return [np.array([[1, 0], [-0.8, width], [-0.8 + notch, 0], [-0.8, -width]])]
    head_length, head_half = rng.uniform(0.5, 1.1), rng.uniform(0.45, 1.05)
    shaft_half = rng.uniform(0.14, 0.5) * head_half
    barb = rng.uniform(-0.12, 0.5) * head_length if rng.random() < 0.4 else 0.0
    tail = min(-1 + rng.uniform(-0.4, 0.5), 0.6 - head_length)
    neck = 1 - head_length
    upper = [[1, 0], [neck - barb, head_half], [neck, shaft_half], [tail, shaft_half]]
    lower = [[x, -y] for x, y in reversed(upper[1:])]
    return [sometimes_rounded(rng, np.array(upper + lower), 0.1)]


def drop(rng):
    """A disc that runs into a point, along tangents or along hollow flanks."""
    distance = rng.uniform(1.7, 2.7)
    touch = np.arccos(1 / distance)
    body = arc(1, touch, 2 * np.pi - touch)
    if rng.random() < 0.5:
        return [np.concatenate([body, [[distance, 0]]])]
    touch += rng.uniform(0.1, 0.35)
    body = arc(1, touch, 2 * np.pi - touch)
    tip, start = np.array([distance, 0]), body[-1]
    tangent = np.array([np.sin(touch), np.cos(touch)])
    middle = start + tangent * np.linalg.norm(tip - start) * 0.5
    t = np.linspace(0, 1, 12)[1:, None]
    flank = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * tip
    return [np.concatenate([body, flank, flank[::-1][1:] * [1, -1]])]


def bolt(rng):
    """A flash of lightning: seven corners (leaning or upright), or six (thick or thin), each moved a little."""
    form = rng.random()
    if form < 0.3:
        outline = [[0.15, -1], [-0.55, 0.12], [-0.05, 0.12], [-0.2, 1], [0.55, -0.22], [0.05, -0.22], [0.45, -1]]
    elif form < 0.5:
        outline = [[-0.5, -1], [-0.5, 0.12], [-0.12, 0.12], [-0.12, 1], [0.56, -0.2], [0.12, -0.2], [0.5, -1]]
    else:
        inset, bar = rng.uniform(-0.1, 0.2), rng.uniform(0.08, 0.22)
        upper = [[rng.uniform(0.1, 0.35), -1], [rng.uniform(-0.8, -0.55), bar], [inset, rng.uniform(0.7, 1) * bar]]
        outline = upper + [[-x, -y] for x, y in upper]
    outline = np.array(outline) + rng.uniform(-0.05, 0.05, (len(outline), 2))
    return [sometimes_rounded(rng, outline * [rng.uniform(0.75, 1.25), 1], 0.08)]


KINDS = [
    circle, ellipse, ring, semicircle, crescent, triangle, square, rectangle,
    pentagon, hexagon, star, cross, heart, arrow, drop, bolt,
]  # fmt: skip
LABELS = [kind.__name__ for kind in KINDS]


# ---- placing and rasterising


def turn(angle):
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, sine], [-sine, cosine]])


def placed(rng, polygons, side):
    """Rotate, scale and move the polygons so that they lie inside a picture of `side` pixels."""
    upright = rng.random() < 0.45
    angle = rng.integers(4) * np.pi / 2 + np.pi / 2 if upright else rng.uniform(0, 2 * np.pi)
    mirror = [rng.choice([-1, 1]), 1]
    polygons = [(polygon * mirror) @ turn(angle) for polygon in polygons]
    low, high = polygons[0].min(0), polygons[0].max(0)
    extent = (high - low).max()
    scale = rng.uniform(0.4, 0.93) * side / extent
    margin = 0.02 * side
    free = side - 2 * margin - (high - low) * scale
    pull = rng.choice([1.0, 0.25, 0.0], p=[0.65, 0.2, 0.15])  # a part of the shapes sits in or near the middle
    corner = margin + free * (0.5 + (rng.random(2) - 0.5) * pull)
    return [(polygon - low) * scale + corner for polygon in polygons]


def coverage(polygons, side, oversampling, line_width=0.0):
    """Coverage (an 8-bit picture) of the filled polygons, or of their border line if a width is given."""
    mask = Image.new("L", (side * oversampling,) * 2)
    pen = ImageDraw.Draw(mask)
    for number, polygon in enumerate(polygons):
        corners = [tuple(corner) for corner in (polygon * oversampling - 0.5).tolist()]
        if line_width:
            width = max(1, round(line_width * oversampling))
            pen.line(corners + corners[:2], fill=255, width=width, joint="curve")
        else:
            pen.polygon(corners, fill=0 if number else 255)
    return mask.reduce(oversampling) if oversampling > 1 else mask


# ---- colours and backgrounds


def colour_distance(one, other):
    """Distance of two RGB colours (0..1); 1 is black against white, brightness counts most."""
    difference = one - other
    return np.sqrt(0.6 * (difference @ LUMA) ** 2 + 0.4 * (difference**2).mean(-1))


def random_colour(rng):
    choice = rng.random()
    if choice < 0.12:
        return np.full(3, rng.uniform(0.88, 1.0))
    if choice < 0.22:
        return np.full(3, rng.uniform(0.0, 0.12))
    if choice < 0.32:
        return np.full(3, rng.random())
    colour = rng.random(3)
    if choice < 0.65:  # saturated
        colour = (colour - colour.min()) / max(np.ptp(colour), 1e-6) * rng.uniform(0.6, 1.0)
    return colour


def between(colours):
    """The colours that a blend of `colours` (one or two) runs through."""
    return colours[0] + np.linspace(0, 1, 5)[:, None] * (colours[-1] - colours[0])


def contrast_of(background, fill):
    """The smallest distance between any colour of the background blend and any of the fill blend."""
    return colour_distance(between(background)[:, None], between(fill)[None]).min()


def random_colours(rng, single):
    """One colour (with probability `single`) or two, mostly related ones, for a gradient."""
    first = random_colour(rng)
    if rng.random() < single:
        return np.array([first])
    second = random_colour(rng)
    if rng.random() < 0.6:
        second = first + rng.uniform(0.1, 0.6) * (second - first)
    return np.array([first, second])


def contrasting_colours(rng):
    """Colours of a background and of a shape on it, and the contrast between them."""
    least = rng.uniform(0.2, 0.4)
    while True:
        background, fill = random_colours(rng, 0.45), random_colours(rng, 0.75)
        contrast = contrast_of(background, fill)
        if contrast >= least:
            return background, fill, contrast


def ramp(rng, side):
    """A picture of weights 0..1: a linear or a radial gradient in any direction."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / (side - 1) - 0.5
    if rng.random() < 0.7:
        angle = rng.uniform(0, 2 * np.pi)
        slope = x * np.cos(angle) + y * np.sin(angle)
    else:
        slope = np.hypot(x - rng.uniform(-0.5, 0.5), y - rng.uniform(-0.5, 0.5))
    slope -= slope.min()
    return (slope / slope.max())[..., None]


def blend(rng, colours, side):
    """A plain area for one colour, a gradient for two."""
    if len(colours) == 1:
        return np.broadcast_to(colours[0].astype(np.float32), (side, side, 3))
    weight = ramp(rng, side)
    return (colours[0] + weight * (colours[1] - colours[0])).astype(np.float32)


def blotches(rng, side):
    """Soft irregular patches of -1..1, one value for all channels or one for each."""
    cells = int(rng.integers(3, 17))
    field = rng.random((cells, cells, 3)) if rng.random() < 0.5 else np.repeat(rng.random((cells, cells, 1)), 3, 2)
    patch = Image.fromarray((field * 255).astype(np.uint8)).resize((side, side), Image.BICUBIC)
    return np.asarray(patch, np.float32) / 127.5 - 1


def grain(rng, side):
    """Pixel noise of unit deviation, grey or coloured, sometimes coarser than a pixel."""
    coarse = 1 if rng.random() < 0.7 else 2
    cells = -(-side // coarse)
    channels = 3 if rng.random() < 0.6 else 1
    noise = rng.standard_normal((cells, cells, channels), dtype=np.float32)
    return noise.repeat(coarse, 0).repeat(coarse, 1)[:side, :side]


# ---- whole pictures


def fill_of(area, alpha):
    """What a shape is filled with: its mean colour, then the two ends of its gradient (RGB 0..1, [3, 3])."""
    inside = area[alpha[..., 0] > 0.5]
    if not len(inside):
        inside = area.reshape(-1, 3)
    widest = np.ptp(inside, 0).argmax()  # a gradient is a straight line between two colours
    ends = inside[:, widest].argmin(), inside[:, widest].argmax()
    return np.stack([inside.mean(0), inside[ends[0]], inside[ends[1]]])


def draw(rng, label, side):
    """One picture of the kind `label`: an RGB image of `side` pixels and the shape's coverage."""
    return draw_filled(rng, label, side)[:2]


def draw_filled(rng, label, side):
    """As `draw`, and the colours that the shape is filled with, before any noise (see `fill_of`)."""
    polygons = placed(rng, KINDS[LABELS.index(label)](rng), side)
    oversampling = 1 if rng.random() < 0.06 else 4 if side <= 80 else 3 if side <= 128 else 2

    background, fill, contrast = contrasting_colours(rng)
    canvas = blend(rng, background, side)
    if rng.random() < 0.2:
        canvas = canvas + rng.uniform(0.1, MAX_MIXING) * contrast * blotches(rng, side)
    mask = coverage(polygons, side, oversampling)
    alpha = np.asarray(mask, np.float32)[..., None] / 255
    inside = blend(rng, fill, side)
    canvas = canvas + alpha * (inside - canvas)
    if rng.random() < 0.15:
        width = rng.uniform(0.015, 0.035) * side
        line = np.asarray(coverage(polygons, side, oversampling, width), np.float32)[..., None] / 255
        canvas = canvas + line * (random_colour(rng) - canvas).astype(np.float32)
    if rng.random() < 0.4:
        canvas = canvas + rng.uniform(0.05, MAX_MIXING) * contrast * grain(rng, side)

    picture = Image.fromarray((np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8))
    if rng.random() < 0.2:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.1) * side / SIDE))
    if rng.random() < 0.06:
        packed = io.BytesIO()
        picture.save(packed, "JPEG", quality=int(rng.integers(50, 95)))
        picture = Image.open(packed).convert("RGB")
    return picture, mask, fill_of(inside, alpha)


def draw_resized(rng, label, side=SIDE):
    """As `draw`, but half of the pictures are first drawn at another size (48..256) and resized."""
    return draw_resized_filled(rng, label, side)[:2]


def draw_resized_filled(rng, label, side=SIDE):
    """As `draw_resized`, and the colours that the shape is filled with (see `fill_of`)."""
    choice = rng.random()
    drawn_side = side if choice < 0.5 else int(rng.integers(48, 129)) if choice < 0.92 else int(rng.integers(129, 257))
    picture, mask, fill = draw_filled(rng, label, drawn_side)
    if drawn_side != side:
        picture, mask = (image.resize((side, side), Image.BILINEAR) for image in (picture, mask))
    return picture, mask, fill


def batch(seed, size):
    """`size` random pictures: uint8 [n, 64, 64, 3], label numbers [n], and uint8 shape coverage [n, 64, 64]."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(len(LABELS), size=size)
    pictures = np.empty((size, SIDE, SIDE, 3), np.uint8)
    masks = np.empty((size, SIDE, SIDE), np.uint8)
    for index, number in enumerate(numbers):
        picture, mask = draw_resized(rng, LABELS[number])
        pictures[index] = np.asarray(picture)
        masks[index] = np.asarray(mask)
    return pictures, numbers, masks


def contact_sheet(rows, scale=1):
    """Lay out lists of equally large pictures as rows of one picture."""
    side = rows[0][0].width * scale
    sheet = Image.new("RGB", (max(map(len, rows)) * (side + 2), len(rows) * (side + 2)), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet.paste(picture.resize((side, side)), (x * (side + 2), y * (side + 2)))
    return sheet


if __name__ == "__main__":
    source = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    contact_sheet([[draw_resized(source, label)[0] for _ in range(16)] for label in LABELS]).save(sys.argv[1])
