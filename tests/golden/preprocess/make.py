#!/usr/bin/env python3
"""Write random cases of resizing and preprocessing beside this file, as checksums.

usage: make.py pillow   (Pillow 13.0.0 and again 12.3.0: adds the cases of the installed version to resize.json)
       make.py torch    (torch 2.15, torchvision 0.29: adds torchvision's uint8 resizes to resize.json)
       make.py configs  (transformers 5.23, timm 1.0.31, Pillow 13.0.0: writes configs.json)
       make.py naflex   (transformers 5.23, Pillow 13.0.0: writes naflex.json)

Pictures are made by `picture` here and in tests/preprocess.rs alike; only the CRC-32 of the result is kept:
of bytes for resizes, of little-endian float32 in (1, 3, H, W) for configs.
golden.safetensors and case.json come from make_tiny_goldens.py and hold whole tensors.
"""
import json, os, pathlib, sys, warnings, zlib
import numpy as np
from PIL import Image
import PIL

HERE = pathlib.Path(__file__).parent


def picture(kind, seed, w, h):
    i = np.arange(w * h * 3, dtype=np.uint64)
    v = ((i * 2654435761 + seed * 40503) & 0xFFFFFFFF).astype(np.uint32)
    v ^= v >> np.uint32(15)
    v *= np.uint32(2246822519)
    v ^= v >> np.uint32(13)
    noise = (v & 255).astype(np.uint8).reshape(h, w, 3)
    if kind == 0:
        return noise
    if kind == 1:
        y, x, c = np.mgrid[0:h, 0:w, 0:3]
        return ((x * 7 + y * 3 + c * 50 + seed) % 256).astype(np.uint8)
    return np.where(noise > 127, 255, 0).astype(np.uint8)


SPECIAL = [(1, 1, 24, 24), (1, 1, 1, 5), (1, 500, 24, 24), (500, 1, 24, 24), (10000, 1, 224, 224), (1, 10000, 224, 224),
           (10000, 1, 300, 1), (1, 10000, 1, 300), (3, 3, 7, 2), (2, 2, 1, 1), (333, 511, 224, 224), (511, 333, 224, 224),
           (7, 300, 5, 299), (64, 48, 64, 22), (64, 48, 22, 48), (5, 1000, 9, 10), (4, 401, 7, 20), (4, 400, 7, 20), (1000, 5, 10, 9)]


def resizes(kind, run, filters, n):
    path = HERE / "resize.json"
    cases = json.loads(path.read_text()) if path.exists() else {}
    rng = np.random.default_rng(21)
    out = []
    for i in range(n):
        if i < len(SPECIAL) * 2:
            w, h, ow, oh = SPECIAL[i // 2]
        else:
            m = int(rng.choice([12, 60, 200]))
            w, h = int(rng.integers(1, m)), int(rng.integers(1, m))
            m = int(rng.choice([8, 64, 130]))
            ow, oh = int(rng.integers(1, m)), int(rng.integers(1, m))
            if rng.random() < .15:
                h = min(int(rng.integers(60, 140)) * w, 2000)
        f, k = filters[i % len(filters)], int(rng.integers(0, 3))
        try:
            got = run(picture(k, i, w, h), ow, oh, f)
        except RuntimeError:  # torch fails an assertion of its own on some tiny pictures
            continue
        out.append([k, i, w, h, ow, oh, f, zlib.crc32(np.ascontiguousarray(got).tobytes())])
    cases[kind] = out
    path.write_text("{\n" + ",\n".join(f' "{k}": [\n' + ",\n".join("  " + json.dumps(c) for c in v) + "\n ]" for k, v in sorted(cases.items())) + "\n}\n")


def pillow():
    run = lambda a, ow, oh, f: np.asarray(Image.fromarray(a).resize((ow, oh), f))
    resizes("pillow" + PIL.__version__.split(".")[0], run, range(6), 320)


def torch():
    import torch
    from torchvision.transforms import InterpolationMode as M
    from torchvision.transforms.v2 import functional as F
    modes = [M.NEAREST_EXACT, M.LANCZOS, M.BILINEAR, M.BICUBIC]

    def run(a, ow, oh, f):
        t = torch.from_numpy(a).permute(2, 0, 1).contiguous()
        return F.resize(t, [oh, ow], interpolation=modes[f], antialias=True).permute(1, 2, 0).numpy()

    resizes("torch", run, range(4), 320)


def configs():
    warnings.filterwarnings("ignore")
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    import torch, transformers as T
    from timm.data import create_transform, resolve_data_config
    T.logging.set_verbosity_error()
    rng = np.random.default_rng(22)
    ri = lambda a, b: int(rng.integers(a, b))
    chance = lambda p: rng.random() < p
    sides = lambda: {"height": ri(1, 70), "width": ri(1, 70)}
    families = {"ViT": "vit", "DeiT": "deit", "Bit": "dinov2", "CLIP": "clip", "Siglip": "siglip", "Beit": "beit", "ImageGPT": "imagegpt"}
    out = []
    while len(out) < 420:
        i = len(out)
        w, h = (ri(1, 4), ri(200, 900)) if chance(.05) else (ri(200, 900), ri(1, 4)) if chance(.05) else (ri(1, 120), ri(1, 120))
        kind = ri(0, 3)
        a = picture(kind, i, w, h)
        im = Image.fromarray(a)
        cfg, family = {}, None
        try:
            if i % 3 == 0:
                backend = "timm"
                cfg["input_size"] = [3, ri(1, 64), ri(1, 64)] if chance(.5) else [3] + [ri(4, 64)] * 2
                if chance(.8):
                    cfg["crop_pct"] = float(rng.choice([.875, .9, .95, 1.0, .965, .8, 1.1, 0.0, .5]))
                if chance(.8):
                    cfg["interpolation"] = str(rng.choice(["bicubic", "bilinear", "lanczos", "nearest", "box", "hamming"]))
                if chance(.8):
                    cfg["crop_mode"] = str(rng.choice(["center", "squash", "border"]))
                if chance(.6):
                    cfg["mean"], cfg["std"] = rng.random(3).round(3).tolist(), (rng.random(3) + .05).round(3).tolist()
                o = create_transform(**resolve_data_config(pretrained_cfg=dict(cfg)), is_training=False)(im)[None].numpy()
                config = dict(architecture="x", **cfg) if chance(.5) else dict(architecture="x", pretrained_cfg=cfg)
            else:
                name = str(rng.choice(list(families)))
                backend = "pil" if chance(.5) else "torchvision"
                if chance(.85) or name == "ImageGPT":
                    cfg["size"] = [lambda: ri(1, 70), sides, lambda: {"shortest_edge": ri(1, 60)},
                                   lambda: {"shortest_edge": ri(1, 50), "longest_edge": ri(30, 100)},
                                   lambda: {"max_height": ri(5, 70), "max_width": ri(5, 70)},
                                   lambda: [ri(1, 70), ri(1, 70)]][ri(0, 6)]()
                if chance(.6):
                    cfg["resample"] = ri(0, 6)
                if chance(.4) and name != "ImageGPT":
                    cfg["do_center_crop"] = bool(chance(.8))
                cfg["crop_size"] = [lambda: ri(1, 70), sides, lambda: [ri(1, 70), ri(1, 70)]][ri(0, 3)]()
                for key in ("do_resize", "do_rescale", "do_normalize"):
                    if chance(.12):
                        cfg[key] = False
                if chance(.2):
                    cfg["rescale_factor"] = float(rng.choice([1 / 127.5, 1 / 256, .01, 1.0]))
                if chance(.5):
                    cfg["image_mean"], cfg["image_std"] = rng.random(3).round(3).tolist(), (rng.random(3) + .05).round(3).tolist()
                kw = dict(cfg, do_color_quantize=False) if name == "ImageGPT" else cfg
                processor = getattr(T, name + "ImageProcessor" + ("Pil" if backend == "pil" else ""))(**kw)
                o = processor(images=im, return_tensors="pt")["pixel_values"].to(torch.float32).numpy()
                config, how = dict(cfg), ri(0, 3)
                if how == 0:
                    family = families[name]
                else:
                    config[["", "image_processor_type", "feature_extractor_type"][how]] = name + ["", "ImageProcessor", "FeatureExtractor"][how]
        except Exception:  # configurations that the original cannot run either
            continue
        out.append(dict(image=[kind, i, w, h], backend=backend, family=family, config=config,
                        size=[o.shape[3], o.shape[2]], crc=zlib.crc32(np.ascontiguousarray(o, dtype="<f4").tobytes())))
    (HERE / "configs.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]\n")


def naflex():
    """SigLIP 2's images of any aspect ratio: the patches put together again"""
    import torch
    import transformers as T
    rng = np.random.default_rng(11)
    out = []
    for i in range(60):
        w, h = int(rng.integers(1, 200)), int(rng.integers(1, 200))
        if i % 10 == 0:
            w, h = int(rng.integers(1, 5)), int(rng.integers(200, 900))
        kind, backend = int(rng.integers(0, 3)), ["pil", "torchvision"][i % 2]
        cfg = dict(patch_size=int(rng.choice([4, 14, 16])), max_num_patches=int(rng.choice([1, 7, 16, 60, 256])))
        processor = getattr(T, "Siglip2ImageProcessor" + ("Pil" if backend == "pil" else ""))(**cfg)
        o = processor(images=Image.fromarray(picture(kind, i, w, h)), return_tensors="pt")
        (rows, columns), p = o["spatial_shapes"][0].tolist(), cfg["patch_size"]
        x = o["pixel_values"][0][:rows * columns].to(torch.float32).numpy()
        x = x.reshape(rows, columns, p, p, 3).transpose(4, 0, 2, 1, 3).reshape(3, rows * p, columns * p)
        config = dict(cfg, image_processor_type="Siglip2ImageProcessor") if i % 3 else cfg
        out.append(dict(image=[kind, i, w, h], backend=backend, family="siglip2", config=config, size=[columns * p, rows * p],
                        crc=zlib.crc32(np.ascontiguousarray(x, dtype="<f4").tobytes())))
    (HERE / "naflex.json").write_text("[\n" + ",\n".join(json.dumps(c) for c in out) + "\n]\n")


dict(pillow=pillow, torch=torch, configs=configs, naflex=naflex)[sys.argv[1]]()
