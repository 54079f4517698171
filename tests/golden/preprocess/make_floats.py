"""What DINOv3's processor, which resizes floats, makes of the golden image: floats.safetensors, floats.json.

    python make_floats.py    (transformers 5.23, torchvision)
"""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import DINOv3ViTImageProcessor

SIDE = lambda h, w: {"height": h, "width": w}
CASES = {
    "half": dict(size=SIDE(32, 32)),
    "up": dict(size=SIDE(64, 72), resample=2),
    "cubic": dict(size=SIDE(33, 20), resample=3),
    "same_width": dict(size=SIDE(17, 40)),
    "crop": dict(size=SIDE(40, 36), do_center_crop=True, crop_size=SIDE(24, 29)),
    "crop_pads": dict(size=SIDE(20, 36), do_center_crop=True, crop_size=SIDE(29, 30)),
    "plain": dict(size=SIDE(24, 24), do_normalize=False),
}
image = load_file("golden.safetensors")["in.image"]
out, configs = {}, {}
for name, case in CASES.items():
    processor = DINOv3ViTImageProcessor(**case)
    out[f"out.{name}"] = processor(image.permute(2, 0, 1), return_tensors="pt")["pixel_values"].contiguous()
    configs[name] = {"image_processor_type": "DINOv3ViTImageProcessorFast", **case}
save_file(out, "floats.safetensors")
json.dump(configs, open("floats.json", "w"), indent=1)
print(image.shape, {k: tuple(v.shape) for k, v in out.items()})
