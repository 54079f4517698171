"""The pictures and the two networks of `builtin:shapes-gpt`, a class-conditional generator in LlamaGen's layout.

Pictures: the 16 kinds of `shapes.py`, one filled shape on a background, 64x64, drawn in one calm style so that 64
tokens can carry a picture: colours from a small palette, everything lit a little from above,
the shape near the middle, mostly upright.  No grain, blotches, lines or blur.

Networks: parameters live in dictionaries under LlamaGen's tensor names, so exporting is writing them down.
  * the tokenizer: convolutional encoder, l2-normalised codebook, convolutional decoder;
  * the transformer: RMSNorm, 2-D rotary positions (the class position has cos = sin = 0), SwiGLU, no biases, one
    more class row that means "no class", for guidance.
`check_goldens` compares both with tensors that another implementation computed.

Run as a script to write a contact sheet:  python shapes_gpt.py sheet.png [seed]
"""

import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import shapes

SIDE, LABELS = shapes.SIDE, shapes.LABELS
CONFIG = {
    "model_type": "llamagen",
    "dim": 128,
    "n_layer": 5,
    "n_head": 4,
    "hidden_dim": 240,
    "vocab_size": 512,
    "num_classes": len(LABELS),
    "block_size": 64,
    "cls_token_num": 1,
    "norm_eps": 1e-5,
    "rope_base": 10000,
    "codebook_embed_dim": 8,
    "codebook_l2_norm": True,
    "ch": 32,
    "ch_mult": [2, 1, 1, 2],
    "num_res_blocks": 1,
    "z_channels": 16,
    "id2label": {str(number): label for number, label in enumerate(LABELS)},
}
GROUPS, GROUP_EPSILON = 32, 1e-6


# ---- pictures


def colours(*codes):
    return [np.array([int(code[at : at + 2], 16) for at in (0, 2, 4)]) / 255 for code in codes]


BACKGROUNDS = colours("f6f2e9", "1f2b47")  # cream, navy
FILLS = colours("e2453b", "f6c62f", "41a650", "2e6fdd", "ec5e9f", "fcfcfc")  # red, yellow, green, blue, pink, white
LEAST_CONTRAST = 0.28
LEAST_SOLIDITY = 0.2  # thinner shapes than that are drawn anew
CORNERS = {"arrow": [7, 42], "bolt": [6, 36]}  # block arrows and zigzags only; rounding makes six points of one
SHADE = np.linspace(1.04, 0.88, SIDE, dtype=np.float32)[:, None, None]  # light from above
QUARTER = np.pi / 2


def heading(rng, label):
    """The angle (radians, clockwise) that a shape of `shapes.KINDS` is turned by."""
    lean = rng.uniform(-1, 1)
    match label:
        case "circle" | "ring":
            return 0.0
        case "ellipse":
            return lean * np.pi
        case "hexagon":
            return rng.integers(2) * QUARTER + lean * 0.15
        case "rectangle":
            return rng.integers(2) * QUARTER + lean * 0.25
        case "square" | "cross":
            return (QUARTER / 2 if rng.random() < 0.25 else 0.0) + lean * 0.15
        case "arrow":
            return rng.integers(4) * QUARTER + lean * 0.12
        case "triangle":
            return 2 * QUARTER + lean * 0.35
        case "semicircle":
            return rng.integers(4) * QUARTER + lean * 0.15
        case "crescent":
            return rng.integers(2) * 2 * QUARTER + lean * 0.6
        case "star" | "pentagon":
            return -QUARTER + lean * 0.2
        case "drop":
            return -QUARTER + lean * 0.45
    return lean * 0.25  # heart, bolt


def palette_pair(rng):
    """Colours of the background and of the shape, a person can always tell them apart."""
    while True:
        pair = [BACKGROUNDS[rng.integers(len(BACKGROUNDS))], FILLS[rng.integers(len(FILLS))]]
        if shapes.colour_distance(*pair) >= LEAST_CONTRAST:
            return [colour.astype(np.float32) for colour in pair]


def solidity(polygons):
    """The area of the first polygon less that of the others, as a part of a square around it."""
    areas = [abs(np.sum(p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1))) / 2 for p in polygons]
    return (areas[0] - sum(areas[1:])) / np.ptp(polygons[0], axis=0).max() ** 2


def draw(rng, label):
    """One picture of the kind `label`, uint8 [64, 64, 3]."""
    polygons = shapes.KINDS[LABELS.index(label)](rng)
    while solidity(polygons) < LEAST_SOLIDITY or len(polygons[0]) not in CORNERS.get(label, [len(polygons[0])]):
        polygons = shapes.KINDS[LABELS.index(label)](rng)
    turned = shapes.turn(heading(rng, label))
    mirror = [rng.choice([-1, 1]) if label in ("bolt", "triangle") else 1, 1]
    polygons = [(polygon * mirror) @ turned for polygon in polygons]
    low, high = polygons[0].min(0), polygons[0].max(0)
    extent = (high - low).max()
    scale = rng.uniform(0.64, 0.82) * SIDE / extent
    centre = SIDE / 2 + rng.uniform(-0.05, 0.05, 2) * SIDE
    polygons = [(polygon - (low + high) / 2) * scale + centre for polygon in polygons]
    mask = shapes.coverage(polygons, SIDE, 4)
    alpha = np.asarray(mask, np.float32)[..., None] / 255
    background, fill = palette_pair(rng)
    canvas = (background + alpha * (fill - background)) * SHADE
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def batch(seed, count):
    """`count` pictures, uint8 [n, 64, 64, 3], and their label numbers [n]; the labels take turns."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(count) % len(LABELS)
    return np.stack([draw(rng, LABELS[number]) for number in numbers]), numbers


# ---- parameters


def vq_parameters(config, generator):
    tensors = {}

    def conv(name, outputs, inputs, kernel, gain=1.0):
        deviation = gain * (inputs * kernel * kernel) ** -0.5
        tensors[f"{name}.weight"] = deviation * torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        tensors[f"{name}.bias"] = torch.zeros(outputs)

    def norm(name, channels):
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = torch.ones(channels), torch.zeros(channels)

    def residual(name, inputs, outputs):
        norm(f"{name}.norm1", inputs)
        conv(f"{name}.conv1", outputs, inputs, 3, 1.4)
        norm(f"{name}.norm2", outputs)
        conv(f"{name}.conv2", outputs, outputs, 3, 0.5)
        if inputs != outputs:
            conv(f"{name}.nin_shortcut", outputs, inputs, 1)

    def attention(name, channels):
        norm(f"{name}.norm", channels)
        for part in ("q", "k", "v"):
            conv(f"{name}.{part}", channels, channels, 1)
        conv(f"{name}.proj_out", channels, channels, 1, 0.3)

    def middle(name, channels):
        residual(f"{name}.0", channels, channels)
        attention(f"{name}.1", channels)
        residual(f"{name}.2", channels, channels)

    base, factors, blocks = config["ch"], config["ch_mult"], config["num_res_blocks"]
    latent, width = config["z_channels"], config["codebook_embed_dim"]
    last = len(factors) - 1
    channels = base
    conv("encoder.conv_in", channels, 3, 3)
    for level, factor in enumerate(factors):
        for block in range(blocks):
            residual(f"encoder.conv_blocks.{level}.res.{block}", channels, base * factor)
            channels = base * factor
            if level == last:
                attention(f"encoder.conv_blocks.{level}.attn.{block}", channels)
        if level < last:
            conv(f"encoder.conv_blocks.{level}.downsample.conv", channels, channels, 3)
    middle("encoder.mid", channels)
    norm("encoder.norm_out", channels)
    conv("encoder.conv_out", latent, channels, 3)
    conv("quant_conv", width, latent, 1)
    tensors["quantize.embedding.weight"] = F.normalize(
        torch.randn(config["vocab_size"], width, generator=generator), dim=-1
    )
    conv("post_quant_conv", latent, width, 1)
    conv("decoder.conv_in", channels, latent, 3)
    middle("decoder.mid", channels)
    for level, factor in enumerate(reversed(factors)):
        for block in range(blocks + 1):
            residual(f"decoder.conv_blocks.{level}.res.{block}", channels, base * factor)
            channels = base * factor
            if level == 0:
                attention(f"decoder.conv_blocks.{level}.attn.{block}", channels)
        if level < last:
            conv(f"decoder.conv_blocks.{level}.upsample.conv", channels, channels, 3)
    norm("decoder.norm_out", channels)
    conv("decoder.conv_out", 3, channels, 3)
    return tensors


def gpt_parameters(config, generator):
    width, hidden, codes = config["dim"], config["hidden_dim"], config["vocab_size"]
    tensors = {}

    def linear(name, outputs, inputs, deviation=0.02):
        tensors[f"{name}.weight"] = deviation * torch.randn(outputs, inputs, generator=generator)

    linear("cls_embedding.embedding_table", config["num_classes"] + 1, width)
    linear("tok_embeddings", codes, width)
    shrunk = 0.05 / math.sqrt(2 * config["n_layer"])
    for index in range(config["n_layer"]):
        layer = f"layers.{index}"
        linear(f"{layer}.attention.wqkv", 3 * width, width, 0.05)
        linear(f"{layer}.attention.wo", width, width, shrunk)
        linear(f"{layer}.feed_forward.w1", hidden, width, 0.05)
        linear(f"{layer}.feed_forward.w3", hidden, width, 0.05)
        linear(f"{layer}.feed_forward.w2", width, hidden, shrunk)
        tensors[f"{layer}.attention_norm.weight"] = torch.ones(width)
        tensors[f"{layer}.ffn_norm.weight"] = torch.ones(width)
    tensors["norm.weight"] = torch.ones(width)
    linear("output", codes, width)
    return tensors


# ---- the tokenizer


def conv(tensors, name, x, stride=1):
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    if stride == 2:  # one row below and one column to the right, as in LlamaGen
        return F.conv2d(F.pad(x, (0, 1, 0, 1)), weight, bias, stride=2)
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def group_norm(tensors, name, x):
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    if x.dtype != torch.bfloat16:
        return F.group_norm(x, GROUPS, weight, bias, GROUP_EPSILON)
    # For training: sums for each channel, then for each group, so that channels-last memory is read in order.
    count, channels = x.shape[:2]
    wide = x.float()
    grouped = (count, GROUPS, channels // GROUPS)
    mean = wide.mean((2, 3)).view(grouped).mean(2, keepdim=True)
    square = (wide * wide).mean((2, 3)).view(grouped).mean(2, keepdim=True)
    inverse = torch.rsqrt((square - mean * mean).clamp_min(0) + GROUP_EPSILON)
    scale = inverse.expand(grouped).reshape(count, channels) * weight.float()
    shift = bias.float() - mean.expand(grouped).reshape(count, channels) * scale
    return (wide * scale[..., None, None] + shift[..., None, None]).bfloat16()


def residual(tensors, name, x):
    hidden = conv(tensors, f"{name}.conv1", F.silu(group_norm(tensors, f"{name}.norm1", x)))
    hidden = conv(tensors, f"{name}.conv2", F.silu(group_norm(tensors, f"{name}.norm2", hidden)))
    shortcut = f"{name}.nin_shortcut"
    return (conv(tensors, shortcut, x) if f"{shortcut}.weight" in tensors else x) + hidden


def spatial_attention(tensors, name, x):
    hidden = group_norm(tensors, f"{name}.norm", x)
    query, key, value = (conv(tensors, f"{name}.{part}", hidden).flatten(2) for part in ("q", "k", "v"))
    weights = (query.transpose(1, 2) @ key * x.shape[1] ** -0.5).softmax(-1)
    return x + conv(tensors, f"{name}.proj_out", (value @ weights.transpose(1, 2)).view(x.shape))


def middle(tensors, name, x):
    x = residual(tensors, f"{name}.0", x)
    return residual(tensors, f"{name}.2", spatial_attention(tensors, f"{name}.1", x))


def levels(tensors, side, x):
    """The residual blocks of all levels of `side` (encoder or decoder), with the changes of size between them."""
    level = 0
    while f"{side}.conv_blocks.{level}.res.0.conv1.weight" in tensors:
        name, block = f"{side}.conv_blocks.{level}", 0
        while f"{name}.res.{block}.conv1.weight" in tensors:
            x = residual(tensors, f"{name}.res.{block}", x)
            if f"{name}.attn.{block}.q.weight" in tensors:
                x = spatial_attention(tensors, f"{name}.attn.{block}", x)
            block += 1
        if f"{name}.downsample.conv.weight" in tensors:
            x = conv(tensors, f"{name}.downsample.conv", x, stride=2)
        if f"{name}.upsample.conv.weight" in tensors:
            x = conv(tensors, f"{name}.upsample.conv", F.interpolate(x, scale_factor=2.0, mode="nearest"))
        level += 1
    return x


def encode(tensors, pictures):
    """Unit vectors [n, codebook width, grid, grid] of pictures [n, 3, side, side] in -1..1."""
    x = levels(tensors, "encoder", conv(tensors, "encoder.conv_in", pictures))
    x = F.silu(group_norm(tensors, "encoder.norm_out", middle(tensors, "encoder.mid", x)))
    return F.normalize(conv(tensors, "quant_conv", conv(tensors, "encoder.conv_out", x)).float(), dim=1)


def nearest(tensors, vectors):
    """Numbers [n, grid * grid] of the codes nearest to unit vectors [n, width, grid, grid]."""
    codes = F.normalize(tensors["quantize.embedding.weight"], dim=-1)
    return (vectors.flatten(2).transpose(1, 2) @ codes.T).argmax(-1)


def look_up(tensors, ids):
    """Unit vectors [n, width, grid, grid] of code numbers [n, grid * grid]."""
    codes = F.normalize(tensors["quantize.embedding.weight"], dim=-1)
    grid = math.isqrt(ids.shape[1])
    return codes[ids].transpose(1, 2).unflatten(2, (grid, grid))


def decode(tensors, vectors):
    """Pictures [n, 3, side, side], about -1..1, of unit vectors [n, width, grid, grid]."""
    x = conv(tensors, "decoder.conv_in", conv(tensors, "post_quant_conv", vectors))
    x = levels(tensors, "decoder", middle(tensors, "decoder.mid", x))
    return conv(tensors, "decoder.conv_out", F.silu(group_norm(tensors, "decoder.norm_out", x)))


# ---- the transformer


def rotations(grid, head_width, base=10000.0):
    """cos and sin [1 + grid^2, head_width / 2]; rows turn the first half of the pairs, columns the second."""
    frequencies = base ** (-torch.arange(0, head_width // 2, 2).float() / (head_width // 2))
    angles = torch.arange(grid).float()[:, None] * frequencies
    rows = angles[:, None].expand(grid, grid, -1).reshape(grid * grid, -1)
    columns = angles[None].expand(grid, grid, -1).reshape(grid * grid, -1)
    both = torch.cat([rows, columns], -1)
    zero = torch.zeros(1, head_width // 2)
    return torch.cat([zero, both.cos()]), torch.cat([zero, both.sin()])


def rotate(x, cosine, sine):
    """Turn the pairs (2i, 2i + 1) of x [n, heads, tokens, head width]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2)


def rms_norm(x, weight, epsilon):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + epsilon) * weight


def next_logits(tensors, config, ids, labels, cache=None, dropout=0.0):
    """Logits [n, tokens, codes] of the token after the class and after each of `ids` [n, 0..63].

    With a `cache` (an empty list at first), only the last token of the sequence is computed."""
    width, heads, epsilon = config["dim"], config["n_head"], config["norm_eps"]
    drop = (lambda x: F.dropout(x, dropout)) if dropout else (lambda x: x)
    first = ids.shape[1] if cache is not None else 0
    if first:
        x = tensors["tok_embeddings.weight"][ids[:, -1:]]
    else:
        x = tensors["cls_embedding.embedding_table.weight"][labels][:, None]
        x = torch.cat([x, tensors["tok_embeddings.weight"][ids]], 1)
    count, tokens, _ = x.shape
    x = drop(x)
    cosine, sine = rotations(math.isqrt(config["block_size"]), width // heads, config["rope_base"])
    cosine, sine = cosine[first : first + tokens].to(x), sine[first : first + tokens].to(x)
    for index in range(config["n_layer"]):
        layer = f"layers.{index}"
        hidden = rms_norm(x, tensors[f"{layer}.attention_norm.weight"], epsilon)
        joined = F.linear(hidden, tensors[f"{layer}.attention.wqkv.weight"])
        query, key, value = joined.view(count, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        if cache is not None:
            if first:
                key, value = torch.cat([cache[index][0], key], 2), torch.cat([cache[index][1], value], 2)
                cache[index] = (key, value)
            else:
                cache.append((key, value))
        scores = query @ key.transpose(-1, -2) * (width // heads) ** -0.5
        if tokens > 1:
            scores = scores + torch.full((tokens, tokens), -1e4, dtype=scores.dtype).triu(1)
        mixed = scores.softmax(-1).to(value.dtype) @ value
        mixed = mixed.transpose(1, 2).reshape(count, tokens, width)
        x = x + drop(F.linear(mixed, tensors[f"{layer}.attention.wo.weight"]))
        hidden = rms_norm(x, tensors[f"{layer}.ffn_norm.weight"], epsilon)
        gate = F.silu(F.linear(hidden, tensors[f"{layer}.feed_forward.w1.weight"]))
        hidden = gate * F.linear(hidden, tensors[f"{layer}.feed_forward.w3.weight"])
        x = x + drop(F.linear(hidden, tensors[f"{layer}.feed_forward.w2.weight"]))
    return F.linear(rms_norm(x, tensors["norm.weight"], epsilon), tensors["output.weight"])


@torch.no_grad()
def sample(tensors, config, labels, generator, cfg_scale=1.0, temperature=1.0, top_k=0, top_p=1.0):
    """Token ids [n, 64], one sequence for each of `labels` [n]; guidance doubles the batch."""
    guided = cfg_scale != 1.0
    count, cache = len(labels), []
    both = torch.cat([labels, torch.full_like(labels, config["num_classes"])]) if guided else labels
    ids = torch.zeros(count, 0, dtype=torch.long)
    for _ in range(config["block_size"]):
        logits = next_logits(tensors, config, ids.repeat(2, 1) if guided else ids, both, cache)[:, -1]
        if guided:
            given, free = logits.split(count)
            logits = free + (given - free) * cfg_scale
        logits = logits / temperature
        if top_k:
            logits = logits.masked_fill(logits < logits.topk(top_k)[0][:, -1:], -torch.inf)
        if top_p < 1:
            ordered, order = logits.softmax(-1).sort(-1, descending=True)
            beyond = ordered.cumsum(-1) - ordered >= top_p
            logits = logits.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), -torch.inf)
        chosen = torch.multinomial(logits.softmax(-1), 1, generator=generator)
        ids = torch.cat([ids, chosen], 1)
    return ids


# ---- comparison with another implementation


def check_goldens(folder):
    """Compare with a folder of reference tensors of a tiny model in LlamaGen's layout."""
    config = json.loads((folder / "config.json").read_text())
    gpt, vq, golden = (load_file(folder / f"{name}.safetensors") for name in ("gpt", "vq", "golden"))
    vq = {name: tensor.float() for name, tensor in vq.items()}
    logits = next_logits(gpt, config, golden["in.ids"].long(), golden["in.labels"].long())
    print("logits differ by", (logits - golden["out.logits"]).abs().max().item())
    ids, cache = torch.zeros(1, 0, dtype=torch.long), []
    for _ in range(config["block_size"]):
        given, free = next_logits(gpt, config, ids.repeat(2, 1), torch.tensor([2, config["num_classes"]]), cache)[:, -1]
        ids = torch.cat([ids, (free + (given - free) * 2.5).argmax().view(1, 1)], 1)
    print("greedy ids equal:", torch.equal(ids, golden["out.greedy_cfg2.5_class2"].long()))
    picture = decode(vq, look_up(vq, golden["out.greedy_cfg2.5_class2"].long()))
    print("picture differs by", (picture - golden["out.image"]).abs().max().item())


if __name__ == "__main__":
    source = np.random.default_rng(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    rows = [[Image.fromarray(draw(source, label)) for _ in range(16)] for label in LABELS]
    shapes.contact_sheet(rows).save(sys.argv[1])
