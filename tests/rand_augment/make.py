"""Writes pillow.json: what the operations of timm's RandAugment make of small pictures, by Pillow.

    python3 tests/rand_augment/make.py

Recorded with timm 1.0.31 and the Pillow that the file names. `levels` are the arguments that timm computes of magnitudes.
"""
import json
import random
from pathlib import Path

import numpy as np
import PIL
from PIL import Image
from timm.data import auto_augment as aa

FILL = (124, 116, 104)


def pictures():
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 256, (9, 13, 3))
    x, y = np.meshgrid(np.arange(16), np.arange(10))
    smooth = np.stack([x * 9 + 40, y * 11 + 60, 200 - x * 5 - y * 4], -1)
    flat = np.full((5, 4, 3), 77)
    flat[..., 1] = 0
    return {"noise": noise, "smooth": smooth, "flat": flat}


CASES = [
    ("auto_contrast", None), ("equalize", None), ("invert", None),
    ("posterize", 1), ("posterize", 4), ("posterize", 8),
    ("solarize", 0), ("solarize", 100), ("solarize", 256), ("solarize_add", 0), ("solarize_add", 99),
    ("color", 0.1), ("color", 0.73), ("color", 1.9), ("contrast", 0.1), ("contrast", 1.9), ("contrast", 0.55),
    ("brightness", 0.1), ("brightness", 1.9), ("sharpness", 0.1), ("sharpness", 1.9), ("sharpness", 0.6),
    ("shear_x", 0.27), ("shear_x", -0.3), ("shear_y", 0.1), ("shear_y", -0.27),
    ("translate_x_rel", 0.405), ("translate_x_rel", -0.11), ("translate_y_rel", 0.3), ("translate_y_rel", -0.405),
    ("rotate", 27.0), ("rotate", -13.5), ("rotate", 0.0), ("rotate", 3.3),
]


def main():
    cases = []
    for name, array in pictures().items():
        image = Image.fromarray(array.astype(np.uint8))
        for op, argument in CASES:
            for resample in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
                moves = op.startswith(("shear", "translate", "rotate"))
                if not moves and resample == Image.Resampling.BICUBIC:
                    continue
                arguments = [] if argument is None else [argument]
                made = getattr(aa, op)(image, *arguments, fillcolor=FILL, resample=resample)
                case = {"picture": name, "op": op, "argument": argument, "pixels": made.tobytes().hex()}
                if moves:
                    case["resample"] = resample.name.lower()
                cases.append(case)
    random.seed(1)
    levels = []
    for name, level in aa.LEVEL_TO_ARG.items():
        if name in aa._RAND_INCREASING_TRANSFORMS + aa._RAND_TRANSFORMS and level is not None:
            for magnitude in (0.0, 3.3, 9.0, 10.0):
                made = sorted({level(magnitude, dict(aa._HPARAMS_DEFAULT))[0] for _ in range(64)})
                levels.append({"op": name, "magnitude": magnitude, "arguments": made})
    whole = {
        "pillow": PIL.__version__,
        "fill": FILL,
        "pictures": {n: {"width": a.shape[1], "height": a.shape[0], "pixels": a.astype(np.uint8).tobytes().hex()} for n, a in pictures().items()},
        "sets": {"plain": aa._RAND_TRANSFORMS, "increasing": aa._RAND_INCREASING_TRANSFORMS},
        "cases": cases,
        "levels": levels,
    }
    text = json.dumps(whole).replace('{"picture"', '\n{"picture"').replace('{"op"', '\n{"op"') + "\n"
    Path(__file__).with_name("pillow.json").write_text(text)


main()
