#!/usr/bin/env python3
"""How far runs of training in f32 are from exact arithmetic: the recorded one, and four whose weights were moved by as
much as rounding moves them, against the same steps by PEFT in f64.

usage: noise.py ADAPTER [ADAPTER ...]

ADAPTER is a folder of tests/golden with a recorded run; its base is the folder beside it that it names. What is printed goes
into `noise` of its training.json where it is more than `verify --training` allows by itself.
"""
import json, os, sys, warnings
import torch, transformers
from peft import PeftModel
from safetensors.torch import load_file

warnings.filterwarnings("ignore")
torch.set_num_threads(1)


def steps(folder, how, recorded, dtype, seed):
    """losses, and the first gradients by the names of the file"""
    base = os.path.join(folder, json.load(open(os.path.join(folder, "adapter_config.json")))["base_model_name_or_path"])
    cls = getattr(transformers, json.load(open(os.path.join(base, "config.json")))["architectures"][0])
    model = cls.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)
    model = PeftModel.from_pretrained(model, folder, is_trainable=True).to(dtype).eval()
    if seed is not None:
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for w in model.parameters():
                w.mul_(1 + torch.randn(w.shape, generator=g) * 2.0**-24)
    call = {k[3:]: v.to(dtype) if v.is_floating_point() else v.long() for k, v in recorded.items() if k.startswith("in.")}
    name = lambda n: n.replace(".default", "").replace(".modules_to_save", "")
    trained = {name(n): w for n, w in model.named_parameters() if w.requires_grad}
    groups = [dict(params=[w for n, w in trained.items() if n in how["decayed"]]),
              dict(params=[w for n, w in trained.items() if n not in how["decayed"]], weight_decay=0.0)]
    step = torch.optim.AdamW([g for g in groups if g["params"]], lr=how["lr"], betas=how["betas"], eps=how["eps"],
                             weight_decay=how["weight_decay"], foreach=False)
    losses, first = [], {}
    for i in range(how["steps"]):
        step.zero_grad()
        loss = model(**call).loss
        loss.backward()
        losses.append(loss.item())
        first = first or {n: w.grad.double().clone() for n, w in trained.items()}
        torch.nn.utils.clip_grad_norm_(list(trained.values()), how["clip_grad_norm"])
        step.step()
    losses.append(model(**call).loss.item())
    return torch.tensor(losses, dtype=torch.float64), first


for folder in sys.argv[1:]:
    recorded = load_file(os.path.join(folder, "training.safetensors"))
    how = json.load(open(os.path.join(folder, "training.json")))
    exact, gradients = steps(folder, how, recorded, torch.float64, None)
    runs = [(recorded["losses"].double(), {n: recorded["grad." + n].double() for n in gradients})]
    runs += [steps(folder, how, recorded, torch.float32, seed) for seed in range(4)]
    losses = max(((run - exact) / exact).abs().max().item() for run, _ in runs)
    apart = max(((first[n] - g).norm() / g.norm()).item() for _, first in runs for n, g in gradients.items())
    print(os.path.basename(folder), json.dumps({"losses": losses, "gradients": apart}))
