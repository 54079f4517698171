"""Writes the reference of the picture tokenizer beside itself: tokens of pictures, and pictures of
tokens, by plain PyTorch. Run it with torch, numpy and safetensors installed; tests/vq.rs reads what it
writes and makes the same weights by the same rule, so that no weights need to be stored."""

import json
import os

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
CONFIG = dict(vocab_size=64, codebook_embed_dim=8, ch=32, ch_mult=[1, 2], z_channels=12, num_res_blocks=1)


def noise(name, count):
    """Numbers in [-1, 1) that depend on a name alone: splitmix64 of its hash and the index."""
    seed = 7
    for byte in name.encode():
        seed = (seed * 31 + byte) % 2**64
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def tensor(name, shape):
    """A weight: kernels by their fan-in, gains about one, biases small."""
    v = noise(name, int(np.prod(shape)))
    if len(shape) == 4:
        v = v * np.float32(2.2 / float(np.prod(shape[1:])) ** 0.5)
    elif name.endswith(".bias"):
        v = v * np.float32(0.1)
    elif len(shape) == 1:
        v = np.float32(1) + v * np.float32(0.2)
    return torch.from_numpy(v.reshape(shape))


def shapes():
    out = {}
    ch, mult, z, width = CONFIG["ch"], CONFIG["ch_mult"], CONFIG["z_channels"], CONFIG["codebook_embed_dim"]

    def conv(name, o, i, k):
        out[name + ".weight"], out[name + ".bias"] = [o, i, k, k], [o]

    def norm(name, c):
        out[name + ".weight"], out[name + ".bias"] = [c], [c]

    def residual(name, i, o):
        norm(name + ".norm1", i), conv(name + ".conv1", o, i, 3), norm(name + ".norm2", o), conv(name + ".conv2", o, o, 3)
        if i != o:
            conv(name + ".nin_shortcut", o, i, 1)

    def attention(name, c):
        norm(name + ".norm", c)
        for part in ["q", "k", "v", "proj_out"]:
            conv(f"{name}.{part}", c, c, 1)

    def mid(name, c):
        residual(name + ".mid.0", c, c), attention(name + ".mid.1", c), residual(name + ".mid.2", c, c)

    last, blocks = len(mult) - 1, CONFIG["num_res_blocks"]
    conv("encoder.conv_in", ch, 3, 3)
    c = ch
    for level, m in enumerate(mult):
        for r in range(blocks):
            residual(f"encoder.conv_blocks.{level}.res.{r}", c, ch * m)
            c = ch * m
            if level == last:
                attention(f"encoder.conv_blocks.{level}.attn.{r}", c)
        if level < last:
            conv(f"encoder.conv_blocks.{level}.downsample.conv", c, c, 3)
    mid("encoder", c), norm("encoder.norm_out", c), conv("encoder.conv_out", z, c, 3)
    conv("quant_conv", width, z, 1), conv("post_quant_conv", z, width, 1)
    out["quantize.embedding.weight"] = [CONFIG["vocab_size"], width]
    conv("decoder.conv_in", c, z, 3), mid("decoder", c)
    for block, level in enumerate(reversed(range(len(mult)))):
        for r in range(blocks + 1):
            residual(f"decoder.conv_blocks.{block}.res.{r}", c, ch * mult[level])
            c = ch * mult[level]
            if level == last:
                attention(f"decoder.conv_blocks.{block}.attn.{r}", c)
        if level:
            conv(f"decoder.conv_blocks.{block}.upsample.conv", c, c, 3)
    norm("decoder.norm_out", c), conv("decoder.conv_out", 3, c, 3)
    return out


class Coder:
    """Encoder and decoder of given weights, channels first as PyTorch has them."""

    def __init__(self, weights):
        self.w = weights

    def conv(self, x, name, **options):
        w = self.w[name + ".weight"]
        return F.conv2d(x, w, self.w[name + ".bias"], **{"padding": w.shape[-1] // 2, **options})

    def norm(self, x, name):
        return F.group_norm(x, 32, self.w[name + ".weight"], self.w[name + ".bias"], 1e-6)

    def residual(self, x, name):
        h = self.conv(F.silu(self.norm(x, name + ".norm1")), name + ".conv1")
        h = self.conv(F.silu(self.norm(h, name + ".norm2")), name + ".conv2")
        return h + (self.conv(x, name + ".nin_shortcut") if name + ".nin_shortcut.weight" in self.w else x)

    def attention(self, x, name):
        b, c, h, w = x.shape
        n = self.norm(x, name + ".norm")
        q, k, v = (self.conv(n, f"{name}.{part}").flatten(2).transpose(1, 2)[:, None] for part in "qkv")
        a = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(b, c, h, w)
        return x + self.conv(a, name + ".proj_out")

    def blocks(self, x, name):
        r = 0
        while f"{name}.res.{r}.norm1.weight" in self.w:
            x = self.residual(x, f"{name}.res.{r}")
            if f"{name}.attn.{r}.q.weight" in self.w:
                x = self.attention(x, f"{name}.attn.{r}")
            r += 1
        return x

    def mid(self, x, name):
        return self.residual(self.attention(self.residual(x, name + ".mid.0"), name + ".mid.1"), name + ".mid.2")

    def out(self, x, name):
        return self.conv(F.silu(self.norm(x, name + ".norm_out")), name + ".conv_out")

    def latent(self, picture):
        x = self.conv(picture, "encoder.conv_in")
        for level in range(len(CONFIG["ch_mult"])):
            name = f"encoder.conv_blocks.{level}"
            x = self.blocks(x, name)
            if level + 1 < len(CONFIG["ch_mult"]):
                x = self.conv(F.pad(x, (0, 1, 0, 1)), name + ".downsample.conv", stride=2, padding=0)
        return self.conv(self.out(self.mid(x, "encoder"), "encoder"), "quant_conv")

    def picture(self, codes):
        x = self.mid(self.conv(self.conv(codes, "post_quant_conv"), "decoder.conv_in"), "decoder")
        for block in range(len(CONFIG["ch_mult"])):
            x = self.blocks(x, f"decoder.conv_blocks.{block}")
            if block + 1 < len(CONFIG["ch_mult"]):
                x = self.conv(F.interpolate(x, scale_factor=2, mode="nearest"), f"decoder.conv_blocks.{block}.upsample.conv")
        return self.out(x, "decoder")


def main():
    torch.manual_seed(0)
    weights = {name: tensor(name, shape) for name, shape in shapes().items()}
    coder = Coder(weights)
    picture = torch.from_numpy(noise("picture", 2 * 3 * 12 * 20).reshape(2, 3, 12, 20))
    out = {"in.picture": picture.permute(0, 2, 3, 1).contiguous()}
    z = coder.latent(picture)
    h, w = z.shape[2:]
    z = z.permute(0, 2, 3, 1).reshape(2, h * w, -1)
    for name, unit in [("unit", True), ("plain", False)]:
        codes = weights["quantize.embedding.weight"]
        e, v = (F.normalize(codes, dim=-1), F.normalize(z, dim=-1)) if unit else (codes, z)
        distance = torch.cdist(v.double(), e.double())
        near = distance.topk(2, largest=False).values
        print(name, "smallest margin", (near[..., 1] - near[..., 0]).min().item(), "codes used", distance.argmin(-1).unique().numel())
        ids = distance.argmin(-1)
        x = e[ids].reshape(2, h, w, -1).permute(0, 3, 1, 2)
        out[f"out.ids.{name}"] = ids
        out[f"out.picture.{name}"] = coder.picture(x).permute(0, 2, 3, 1).contiguous()
    save_file(out, os.path.join(HERE, "golden.safetensors"))
    json.dump(CONFIG, open(os.path.join(HERE, "config.json"), "w"), indent=1)
    json.dump({name: shape for name, shape in shapes().items()}, open(os.path.join(HERE, "tensors.json"), "w"))


main()
