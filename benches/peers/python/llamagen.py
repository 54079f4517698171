"""LlamaGen's token loop and picture decoder in plain PyTorch, eager, with a KV cache: one batch of two rows for
guidance, greedy.

    python llamagen.py FOLDER CLASS SCALE TOKENS [--pictures N] [--device auto --dtype float16]

Prints the ids, what drawing them took and, if asked, what decoding a picture took, as JSON.  FOLDER holds
`config.json`, `gpt.safetensors` and `vq.safetensors` under LlamaGen's names (examples/random_checkpoint.rs writes one
with random weights).
"""

import argparse
import json
import pathlib
import statistics
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import torch_device


def load(folder, part):
    return {name: tensor.float() for name, tensor in load_file(folder / f"{part}.safetensors").items()}


class Loop:
    def __init__(self, config, weights):
        self.config, self.w = config, weights
        self.heads, self.width = config["n_head"], config["dim"]
        d, tokens = self.width // self.heads, config["block_size"]
        side = round(tokens**0.5)
        frequencies = 10000.0 ** (-torch.arange(0, d // 2, 2).float() / (d // 2))
        places = torch.arange(tokens - 1)
        angles = torch.cat([(places // side)[:, None] * frequencies, (places % side)[:, None] * frequencies], -1)
        zero = torch.zeros(1, d // 2)
        self.cosine, self.sine = torch.cat([zero, angles.cos()]), torch.cat([zero, angles.sin()])
        some = weights["norm.weight"]
        self.cosine, self.sine = self.cosine.to(some), self.sine.to(some)
        self.cache = torch.zeros(config["n_layer"], 2, 2, self.heads, tokens, d).to(some)

    def norm(self, x, name):
        return F.rms_norm(x, (self.width,), self.w[f"{name}.weight"], 1e-5)

    def turn(self, x, place):
        even, odd = x[..., 0::2], x[..., 1::2]
        c, s = self.cosine[place], self.sine[place]
        return torch.stack([even * c - odd * s, odd * c + even * s], -1).flatten(-2)

    def logits(self, x, place):
        """x: (2,1,C), the token at `place`."""
        for layer in range(self.config["n_layer"]):
            p = f"layers.{layer}"
            joined = F.linear(self.norm(x, f"{p}.attention_norm"), self.w[f"{p}.attention.wqkv.weight"])
            q, k, v = joined.view(2, 1, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
            keys, values = self.cache[layer]
            keys[:, :, place], values[:, :, place] = self.turn(k, place)[:, :, 0], v[:, :, 0]
            seen = slice(0, place + 1)
            mixed = F.scaled_dot_product_attention(self.turn(q, place), keys[:, :, seen], values[:, :, seen])
            x = x + F.linear(mixed.transpose(1, 2).reshape(2, 1, -1), self.w[f"{p}.attention.wo.weight"])
            hidden = self.norm(x, f"{p}.ffn_norm")
            gate = F.silu(F.linear(hidden, self.w[f"{p}.feed_forward.w1.weight"]))
            hidden = gate * F.linear(hidden, self.w[f"{p}.feed_forward.w3.weight"])
            x = x + F.linear(hidden, self.w[f"{p}.feed_forward.w2.weight"])
        return F.linear(self.norm(x, "norm"), self.w["output.weight"])[:, 0]

    def draw(self, label, scale, count):
        """Ids, and the seconds of all tokens but the first."""
        x = self.w["cls_embedding.embedding_table.weight"][[label, self.config["num_classes"]]][:, None]
        ids = []
        for place in range(count):
            given, free = self.logits(x, place)
            ids.append(int((free + (given - free) * scale).argmax()))
            x = self.w["tok_embeddings.weight"][[ids[-1]] * 2][:, None]
            if place == 0:
                start = time.perf_counter()
        return ids, time.perf_counter() - start


class Decoder:
    def __init__(self, weights):
        self.w = weights

    def conv(self, name, x):
        weight = self.w[f"{name}.weight"]
        return F.conv2d(x, weight, self.w[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(self, name, x):
        return F.group_norm(x, 32, self.w[f"{name}.weight"], self.w[f"{name}.bias"], 1e-6)

    def residual(self, name, x):
        hidden = self.conv(f"{name}.conv1", F.silu(self.norm(f"{name}.norm1", x)))
        hidden = self.conv(f"{name}.conv2", F.silu(self.norm(f"{name}.norm2", hidden)))
        return (self.conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.w else x) + hidden

    def attention(self, name, x):
        hidden = self.norm(f"{name}.norm", x)
        q, k, v = (self.conv(f"{name}.{part}", hidden).flatten(2).transpose(1, 2)[:, None] for part in "qkv")
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        return x + self.conv(f"{name}.proj_out", mixed)

    def decode(self, ids):
        """(B,3,H,W) of ids (B,N)."""
        codes = F.normalize(self.w["quantize.embedding.weight"], dim=-1)
        side = round(ids.shape[1] ** 0.5)
        x = self.conv("post_quant_conv", codes[ids].transpose(1, 2).unflatten(2, (side, side)))
        x = self.residual("decoder.mid.0", self.conv("decoder.conv_in", x))
        x = self.residual("decoder.mid.2", self.attention("decoder.mid.1", x))
        level = 0
        while f"decoder.conv_blocks.{level}.res.0.conv1.weight" in self.w:
            name, block = f"decoder.conv_blocks.{level}", 0
            while f"{name}.res.{block}.conv1.weight" in self.w:
                x = self.residual(f"{name}.res.{block}", x)
                if f"{name}.attn.{block}.q.weight" in self.w:
                    x = self.attention(f"{name}.attn.{block}", x)
                block += 1
            if f"{name}.upsample.conv.weight" in self.w:
                x = self.conv(f"{name}.upsample.conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
            level += 1
        return self.conv("decoder.conv_out", F.silu(self.norm("decoder.norm_out", x)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("label", type=int)
    parser.add_argument("scale", type=float)
    parser.add_argument("tokens", type=int)
    parser.add_argument("--pictures", type=int, default=0, help="decode a picture so many times; the median counts")
    parser.add_argument("--runs", type=int, default=1, help="draw so many times; the median counts")
    parser.add_argument("--warm-up", type=int, default=0, help="runs before those, of either")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    device = torch_device.choose(options.device)
    where = {"device": device, "dtype": getattr(torch, options.dtype)}
    folder = pathlib.Path(options.folder)
    config, weights = json.loads((folder / "config.json").read_text()), load(folder, "gpt")
    with torch.inference_mode():
        loop = Loop(config, {name: tensor.to(**where) for name, tensor in weights.items()})
        for _ in range(options.warm_up):
            loop.draw(options.label, options.scale, options.tokens)
        drawn = [loop.draw(options.label, options.scale, options.tokens) for _ in range(options.runs)]
        ids, rate = drawn[0][0], statistics.median((len(ids) - 1) / seconds for ids, seconds in drawn)
        engine = f"PyTorch {torch.__version__} ({torch_device.describe(device)})"
        report = {"engine": engine, "tokens_per_second": rate, "ids": ids}
        if options.pictures:
            decoder = Decoder({name: tensor.to(**where) for name, tensor in load(folder, "vq").items()})
            times, picture = [], torch.zeros(1, loop.config["block_size"], dtype=torch.long)
            picture[0, : len(ids)] = torch.tensor(ids)
            picture = picture.to(device)
            for _ in range(options.warm_up + options.pictures):
                start = time.perf_counter()
                decoder.decode(picture).sum().item()
                times.append(time.perf_counter() - start)
            report["picture_seconds"] = statistics.median(times[options.warm_up :])
    torch_device.line(report)


if __name__ == "__main__":
    main()
