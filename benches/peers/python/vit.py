"""ViT in plain PyTorch, with the names of a Hugging Face checkpoint, and the peers' protocol."""

import json
import pathlib
import sys
import time

import numpy
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        c, hidden, epsilon = config["hidden_size"], config["intermediate_size"], config["layer_norm_eps"]
        self.heads = config["num_attention_heads"]
        self.before, self.after = nn.LayerNorm(c, epsilon), nn.LayerNorm(c, epsilon)
        # One matrix for q, k and v, as engines that care for speed have it.
        self.qkv, self.out = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.up, self.down = nn.Linear(c, hidden), nn.Linear(hidden, c)

    def forward(self, x):
        b, t, c = x.shape
        qkv = self.qkv(self.before(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        context = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(context.transpose(1, 2).reshape(b, t, c))
        return x + self.down(F.gelu(self.up(self.after(x))))


class Vit(nn.Module):
    def __init__(self, config, classes):
        super().__init__()
        c, p = config["hidden_size"], config["patch_size"]
        tokens = (config["image_size"] // p) ** 2 + 1
        self.patches = nn.Conv2d(3, c, p, p)
        self.cls = nn.Parameter(torch.zeros(1, 1, c))
        self.positions = nn.Parameter(torch.zeros(1, tokens, c))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.LayerNorm(c, config["layer_norm_eps"])
        self.head = nn.Linear(c, classes)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


def load(folder):
    """The model of a folder with config.json and model.safetensors."""
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = {name: torch.from_numpy(t) for name, t in load_file(folder / "model.safetensors").items()}
    state = {
        "cls": tensors["vit.embeddings.cls_token"],
        "positions": tensors["vit.embeddings.position_embeddings"],
    }
    for kind in ("weight", "bias"):
        state[f"patches.{kind}"] = tensors[f"vit.embeddings.patch_embeddings.projection.{kind}"]
        state[f"norm.{kind}"] = tensors[f"vit.layernorm.{kind}"]
        state[f"head.{kind}"] = tensors[f"classifier.{kind}"]
        for i in range(config["num_hidden_layers"]):
            old, new = f"vit.encoder.layer.{i}", f"blocks.{i}"
            parts = [tensors[f"{old}.attention.attention.{x}.{kind}"] for x in ("query", "key", "value")]
            state[f"{new}.qkv.{kind}"] = torch.cat(parts)
            for here, there in (
                ("before", "layernorm_before"),
                ("out", "attention.output.dense"),
                ("after", "layernorm_after"),
                ("up", "intermediate.dense"),
                ("down", "output.dense"),
            ):
                state[f"{new}.{here}.{kind}"] = tensors[f"{old}.{there}.{kind}"]
    model = Vit(config, tensors["classifier.bias"].shape[0])
    model.load_state_dict(state)
    return model.eval()


def image(path):
    """The input, (B,3,H,W) f32."""
    return load_file(path)["image"]


def serve(path, about, forward):
    """See common/src/lib.rs: one run, logits written, `peer ready`, then a run per line `run`."""
    start = time.perf_counter()
    logits = forward()
    about = {"first_s": round(time.perf_counter() - start, 3), **about}
    save_file({"logits": numpy.ascontiguousarray(logits, dtype=numpy.float32)}, path)
    print("peer ready", json.dumps(about), flush=True)
    for line in sys.stdin:
        if line.strip() != "run":
            sys.exit("the only command is `run`")
        start, cpu_start = time.perf_counter(), time.process_time()
        forward()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        print(f"peer {seconds:.6f} {cpu:.6f}", flush=True)
