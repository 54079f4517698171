#!/usr/bin/env python3
"""Loads an adapter that this program made into PEFT, and compares the answers of both.

usage: check.py BASE ADAPTER [--program target/debug/vit-gpu]

BASE is a folder of tests/golden with in.* in its golden.safetensors. The adapter must load without a missing or an
unexpected tensor. A copy of it gets random factors (new ones add nothing); PEFT's logits are recorded beside the copy,
and `vit-gpu verify` compares its own with them, to 1e-5 besides 1e-5 of their size; then merged, the same again.
"""
import argparse, json, os, subprocess, sys, tempfile, warnings
import torch, transformers
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
ap = argparse.ArgumentParser()
ap.add_argument("base"); ap.add_argument("adapter"); ap.add_argument("--program", default="target/debug/vit-gpu")
a = ap.parse_args()
cls = getattr(transformers, json.load(open(os.path.join(a.base, "config.json")))["architectures"][0])


def load(folder):
    model = cls.from_pretrained(a.base, attn_implementation="eager", dtype=torch.float32)
    return PeftModel.from_pretrained(model, folder).eval()


def run(*arguments):
    ran = subprocess.run([a.program, *arguments], capture_output=True, text=True)
    print(ran.stdout.strip(), ran.stderr.strip(), sep="\n" if ran.stderr.strip() else "")
    if ran.returncode:
        sys.exit(f"vit-gpu {' '.join(arguments)} ends with {ran.returncode}")


own = load_file(os.path.join(a.adapter, "adapter_model.safetensors"))
there = get_peft_model_state_dict(load(a.adapter))
missing, strange = sorted(set(there) - set(own)), sorted(set(own) - set(there))
for name in set(own) & set(there):
    assert torch.equal(own[name], there[name]), name
assert not strange and all("lora_" not in name for name in missing), (missing, strange)
print(f"PEFT takes all {len(own)} tensors")

with tempfile.TemporaryDirectory() as t:
    copy, merged = os.path.join(t, "adapter"), os.path.join(t, "merged")
    os.mkdir(copy)
    g = torch.Generator().manual_seed(0)
    for name in own:
        if "lora_" in name:
            own[name] = torch.randn(own[name].shape, generator=g) * 0.1
    save_file(own, os.path.join(copy, "adapter_model.safetensors"), metadata={"format": "pt"})
    with open(os.path.join(a.adapter, "adapter_config.json")) as f, open(os.path.join(copy, "adapter_config.json"), "w") as to:
        to.write(f.read())
    gold = load_file(os.path.join(a.base, "golden.safetensors"))
    names = ("pixel_values", "input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")
    call = {n: gold["in." + n] for n in names if "in." + n in gold}
    call = {n: v if v.is_floating_point() else v.long() for n, v in call.items()}
    with torch.no_grad():
        logits = load(copy)(**call).logits
    record = os.path.join(t, "recorded.safetensors")
    save_file({"out.logits": logits.contiguous(), **{"in." + n: v if v.is_floating_point() else v.int() for n, v in call.items()}}, record)
    near = ["--golden", record, "--device", "reference", "--atol", "1e-5", "--rtol", "1e-5"]
    run("verify", "-q", "-m", a.base, "--adapter", copy, *near)
    run("merge", "-q", "-m", a.base, "--adapter", copy, "-o", merged)
    run("verify", "-q", "-m", merged, *near)
    # transformers reads the merged folder as any other.
    with torch.no_grad():
        again = cls.from_pretrained(merged, attn_implementation="eager", dtype=torch.float32).eval()(**call).logits
    print("merged, in transformers: apart by", (again - logits).abs().max().item())
    assert torch.allclose(again, logits, atol=1e-5, rtol=1e-5)
