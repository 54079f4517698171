"""Writes a tiny RandAR beside itself, and what it scores and draws, by plain PyTorch without a cache: every
step computes the whole sequence anew. Run it with torch and safetensors installed."""

import json
import math
import os

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
DIM, LAYERS, HEADS, VOCAB, CLASSES, GRID, MLP = 48, 3, 4, 64, 5, 4, 64
N, D, EPS, BASE = GRID * GRID, DIM // HEADS, 1e-5, 10000.0
CH, Z, CODE = 32, 8, 8
CONFIG = dict(
    model_type="randar", dim=DIM, n_layer=LAYERS, n_head=HEADS, vocab_size=VOCAB, num_classes=CLASSES, block_size=N,
    cls_token_num=1, norm_eps=EPS, rope_base=10000, codebook_embed_dim=CODE, codebook_l2_norm=True, ch=CH, ch_mult=[1],
    num_res_blocks=1, z_channels=Z,
)


def half(shape, spread, around=0.0):
    """Noise that 16 bits hold exactly, so that the file is small."""
    return (around + spread * torch.randn(shape)).half()


def decoder_weights():
    w = {"cls_embedding.embedding_table.weight": half((CLASSES + 1, DIM), 1.0)}
    w["tok_embeddings.weight"] = half((VOCAB, DIM), 1.0)
    w["pos_instruct_embeddings"] = half((1, DIM), 1.0)
    for i in range(LAYERS):
        p = f"layers.{i}."
        w[p + "attention.wqkv.weight"] = half((3 * DIM, DIM), 2.0 * DIM**-0.5)
        w[p + "attention.wo.weight"] = half((DIM, DIM), 1.5 * DIM**-0.5)
        w[p + "feed_forward.w1.weight"] = half((MLP, DIM), 1.5 * DIM**-0.5)
        w[p + "feed_forward.w3.weight"] = half((MLP, DIM), 1.5 * DIM**-0.5)
        w[p + "feed_forward.w2.weight"] = half((DIM, MLP), 1.5 * MLP**-0.5)
        w[p + "attention_norm.weight"] = half((DIM,), 0.2, 1.0)
        w[p + "ffn_norm.weight"] = half((DIM,), 0.2, 1.0)
    w["norm.weight"] = half((DIM,), 0.2, 1.0)
    w["output.weight"] = half((VOCAB, DIM), 3.0 * DIM**-0.5)
    return w


def tokenizer_weights():
    """The decoding half of a picture tokenizer of one level."""
    w = {"quantize.embedding.weight": half((VOCAB, CODE), 1.0)}

    def conv(name, out, inner, side):
        w[name + ".weight"] = half((out, inner, side, side), (inner * side * side) ** -0.5)
        w[name + ".bias"] = half((out,), 0.1)

    def norm(name):
        w[name + ".weight"], w[name + ".bias"] = half((CH,), 0.2, 1.0), half((CH,), 0.1)

    def block(name):
        norm(name + ".norm1"), conv(name + ".conv1", CH, CH, 3), norm(name + ".norm2"), conv(name + ".conv2", CH, CH, 3)

    def attention(name):
        norm(name + ".norm")
        for part in ["q", "k", "v", "proj_out"]:
            conv(f"{name}.{part}", CH, CH, 1)

    conv("post_quant_conv", Z, CODE, 1), conv("decoder.conv_in", CH, Z, 3)
    block("decoder.mid.0"), attention("decoder.mid.1"), block("decoder.mid.2")
    for r in range(2):
        block(f"decoder.conv_blocks.0.res.{r}"), attention(f"decoder.conv_blocks.0.attn.{r}")
    norm("decoder.norm_out"), conv("decoder.conv_out", 3, CH, 3)
    return w


def angle(place):
    """(D/2): half of the pairs turn by the row, half by the column."""
    frequencies = 1.0 / BASE ** (torch.arange(0, D // 2, 2)[: D // 4].float() / (D // 2))
    return torch.cat([place // GRID * frequencies, place % GRID * frequencies])


def turned(x, cos, sin):
    """x: (..., D) as interleaved pairs; cos and sin: (..., D/2)."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


def forward(w, label, rows):
    """Scores at every row. rows: ("I", place) or ("T", place, id), behind the class. Returns (1 + rows, V)."""
    angles = torch.stack([angle(row[1]) for row in rows])
    cos = torch.cat([torch.zeros(1, D // 2), angles.cos()])
    sin = torch.cat([torch.zeros(1, D // 2), angles.sin()])
    x = [w["cls_embedding.embedding_table.weight"][label]]
    for i, row in enumerate(rows):
        if row[0] == "T":
            x.append(w["tok_embeddings.weight"][row[2]])
        else:
            heads = w["pos_instruct_embeddings"].view(HEADS, D)
            x.append(turned(heads, cos[1 + i], sin[1 + i]).flatten())
    x = torch.stack(x)
    t = len(x)
    mask = torch.full((t, t), float("-inf")).triu(1)
    norm = lambda x, name: F.rms_norm(x, (DIM,), w[name + ".weight"], EPS)
    for i in range(LAYERS):
        p = f"layers.{i}."
        q, k, v = (norm(x, p + "attention_norm") @ w[p + "attention.wqkv.weight"].T).split(DIM, -1)
        q, k, v = (y.view(t, HEADS, D).transpose(0, 1) for y in (q, k, v))
        q, k = turned(q, cos, sin), turned(k, cos, sin)
        a = (q @ k.transpose(1, 2) * D**-0.5 + mask).softmax(-1) @ v
        x = x + a.transpose(0, 1).flatten(1) @ w[p + "attention.wo.weight"].T
        h = norm(x, p + "ffn_norm")
        h = F.silu(h @ w[p + "feed_forward.w1.weight"].T) * (h @ w[p + "feed_forward.w3.weight"].T)
        x = x + h @ w[p + "feed_forward.w2.weight"].T
    return norm(x, "norm") @ w["output.weight"].T


def pairs(order, ids):
    return [row for place, i in zip(order, ids) for row in (("I", place), ("T", place, i))]


def draw(w, label, order, first, last, steps=None, given=()):
    """Greedy guided tokens in raster order, and the smallest margin of a choice. Several tokens of a step are
    asked for side by side, behind what is drawn; the first step asks for one."""
    ids, margin, step, count = list(given), float("inf"), 0, 1
    while len(ids) < N:
        begun = len(ids)
        rows = pairs(order, ids) + [("I", place) for place in order[begun : begun + count]]
        with_class, without = (forward(w, l, rows)[-count:] for l in (label, CLASSES))
        scores = without + (with_class - without) * (first + (last - first) * begun / N)
        best = scores.topk(2).values
        margin = min(margin, (best[:, 0] - best[:, 1]).min().item())
        ids += scores.argmax(-1).tolist()
        step += 1
        if steps is not None and len(ids) < N:
            left = N - len(given)
            target = min(int((1 - math.cos(math.pi / 2 * (step + 1) / steps)) * left + 1), left)
            count = min(max(target - (begun - len(given)) - count, 1), N - len(ids))
    raster = torch.zeros(1, N, dtype=torch.int64)
    raster[0, torch.tensor(order)] = torch.tensor(ids)
    return raster, margin


def main():
    torch.manual_seed(31)
    torch.set_num_threads(1)
    stored = decoder_weights()
    save_file(stored, os.path.join(HERE, "gpt.safetensors"))
    save_file(tokenizer_weights(), os.path.join(HERE, "vq.safetensors"))
    w = {name: tensor.float() for name, tensor in stored.items()}
    order = torch.randperm(N).tolist()
    labels, ids = [3, CLASSES], torch.randint(VOCAB, (2, N - 1))
    logits = []
    for label, row in zip(labels, ids.tolist()):
        logits.append(forward(w, label, pairs(order, row) + [("I", order[-1])])[1::2])
    raster = list(range(N))
    given = [7, 60, 3, 3, 41]
    primed = raster[:5] + [place for place in order if place >= 5]
    drawn = {
        "greedy_cfg2.5_class2": draw(w, 2, raster, 2.5, 2.5),
        "ordered_cfg2.5_class2": draw(w, 2, order, 2.5, 2.5),
        "ordered_rising_cfg4_class0": draw(w, 0, order, 1.0, 4.0),
        "ordered_rising_parallel6_cfg4_class1": draw(w, 1, order, 1.0, 4.0, 6),
        "ordered_rising_parallel2_cfg4_class4": draw(w, 4, order, 1.0, 4.0, 2),
        "ordered_rising_primed_parallel5_cfg4_class1": draw(w, 1, primed, 1.0, 4.0, 5, given),
    }
    for name, (sequence, margin) in drawn.items():
        print(name, "smallest margin", margin, "different tokens", sequence.unique().numel())
    out = {f"out.{name}": sequence for name, (sequence, _) in drawn.items()}
    out |= {"in.order": torch.tensor([order]), "in.labels": torch.tensor(labels), "in.ids": ids}
    out |= {"in.prime": torch.tensor([given]), "out.logits": torch.stack(logits)}
    save_file(out, os.path.join(HERE, "golden.safetensors"))
    json.dump(CONFIG, open(os.path.join(HERE, "config.json"), "w"), indent=1)


main()
