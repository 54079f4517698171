#!/usr/bin/env python3
"""Does a folder that vit-gpu wrote load in transformers or timm, and give the same answers?

usage: record.py FOLDER [--vit-gpu PROGRAM] [--base FOLDER]

Loads FOLDER with transformers' Auto classes (or with timm, where config.json has `architecture`), strictly: every
tensor must be there, none may be left over. Runs it on noise, writes inputs and outputs into a golden file, and has
`vit-gpu verify` compare its own outputs with them, to 1e-5. With --base, FOLDER is an adapter of PEFT on that model.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file

TOLERANCE = "1e-5"


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def of_timm(folder, config):
    import timm
    from safetensors.torch import load_file

    model = timm.create_model(config["architecture"], pretrained=False, **config.get("model_args", {}))
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    image = noise(2, *config["pretrained_cfg"]["input_size"])
    return {"in.pixel_values": image}, {"out.logits": model.eval()(image)}


def of_transformers(folder, config, base):
    import transformers

    model_class = getattr(transformers, json.loads(((base or folder) / "config.json").read_text())["architectures"][0])
    model, loaded = model_class.from_pretrained(base or folder, dtype=torch.float32, output_loading_info=True)
    wrong = {key: sorted(loaded[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys") if loaded.get(key)}
    if wrong:
        sys.exit(f"{folder}: {wrong}")
    if base:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
    model = model.eval()
    if "image_size" in config:
        side = config["image_size"]
        image = noise(2, config.get("num_channels", 3), side, side)
        return {"in.pixel_values": image}, {"out.logits": model(pixel_values=image).logits}
    ids = torch.randint(5, config["vocab_size"], (2, 9), generator=torch.Generator().manual_seed(4))
    call = {"input_ids": ids}
    if config["model_type"] == "bert":
        call |= {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    if config["model_type"] == "t5":
        call |= {"attention_mask": torch.ones_like(ids), "decoder_input_ids": ids[:, :5]}
    result = model(**call)
    outputs = {f"out.{name}": getattr(result, name) for name in ("logits", "start_logits", "end_logits") if hasattr(result, name)}
    return {f"in.{name}": value.int() for name, value in call.items()}, outputs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--vit-gpu", default="vit-gpu")
    parser.add_argument("--base", type=pathlib.Path)
    options = parser.parse_args()
    config = json.loads(((options.base or options.folder) / "config.json").read_text())
    with torch.no_grad():
        if "architecture" in config:
            inputs, outputs = of_timm(options.folder, config)
        else:
            inputs, outputs = of_transformers(options.folder, config, options.base)
    with tempfile.TemporaryDirectory() as scratch:
        golden = pathlib.Path(scratch) / "golden.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in {**inputs, **outputs}.items()}, golden)
        verify = [options.vit_gpu, "verify", "-m", options.folder, "--golden", golden, "--atol", TOLERANCE, "--rtol", TOLERANCE]
        sys.exit(subprocess.run(verify).returncode)


if __name__ == "__main__":
    main()
