"""BERT, GPT-2 and T5 in plain PyTorch, eager: fused attention, a cache of keys and values laid out beforehand, greedy.

    python text_models.py bert|gpt2|t5 FOLDER IDS.json [--runs N] [--device auto --dtype float16]

FOLDER holds `config.json` and `model.safetensors` under Hugging Face's names (GPT-2 with or without its prefix).
IDS.json is `{"ids": [[...], ...], "new": N}`: rows of token ids without padding, and how many tokens to draw.  Runs once
uncounted and then N times, and prints medians as JSON: of bert the seconds of a pass and the logits, of gpt2 and t5 the
seconds to the first token, tokens per second of those after it, and the ids drawn, an end token or not; of t5 also the
seconds of the encoder alone.
"""

import argparse
import json
import math
import pathlib
import statistics
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from torch_device import choose, describe, finished, line


def load(folder, place):
    folder = pathlib.Path(folder)
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    return config, {name: w.to(**place) if w.is_floating_point() else w for name, w in weights.items()}


def split(x, heads):
    """(B,T,HD) as (B,H,T,D)."""
    b, t, _ = x.shape
    return x.view(b, t, heads, -1).transpose(1, 2)


def joined(x):
    """(B,H,T,D) as (B,T,HD)."""
    return x.transpose(1, 2).flatten(2)


class Bert:
    """Sequence classification, or the bare encoder where the file has no `bert.` names."""

    def __init__(self, config, weights):
        self.w = {name.removeprefix("bert."): w for name, w in weights.items()}
        self.heads, self.layers, self.epsilon = (
            config[k] for k in ("num_attention_heads", "num_hidden_layers", "layer_norm_eps")
        )
        for i in range(self.layers):
            name = f"encoder.layer.{i}.attention.self"
            for kind in ("weight", "bias"):
                parts = [self.w[f"{name}.{part}.{kind}"] for part in ("query", "key", "value")]
                self.w[f"{name}.qkv.{kind}"] = torch.cat(parts)

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, x, name):
        w = self.w[f"{name}.LayerNorm.weight"]
        return F.layer_norm(x, w.shape, w, self.w[f"{name}.LayerNorm.bias"], self.epsilon)

    def encode(self, ids, mask=None):
        """(B,T,C); `mask` (B,T) is 1 where a token is."""
        table = lambda name: self.w[f"embeddings.{name}_embeddings.weight"]
        x = table("word")[ids] + table("position")[: ids.shape[1]] + table("token_type")[0]
        x = self.norm(x, "embeddings")
        mask = None if mask is None else mask[:, None, None].bool()
        for i in range(self.layers):
            p = f"encoder.layer.{i}"
            q, k, v = (split(part, self.heads) for part in self.linear(x, f"{p}.attention.self.qkv").chunk(3, -1))
            mixed = joined(F.scaled_dot_product_attention(q, k, v, mask))
            x = self.norm(x + self.linear(mixed, f"{p}.attention.output.dense"), f"{p}.attention.output")
            hidden = F.gelu(self.linear(x, f"{p}.intermediate.dense"))
            x = self.norm(x + self.linear(hidden, f"{p}.output.dense"), f"{p}.output")
        return x

    def logits(self, ids):
        return self.linear(torch.tanh(self.linear(self.encode(ids)[:, 0], "pooler.dense")), "classifier")


class Gpt2:
    def __init__(self, config, weights, places):
        self.w = {name.removeprefix("transformer."): w for name, w in weights.items()}
        for name in self.w:  # stored by (in, out)
            if ".c_" in name and name.endswith("weight"):
                self.w[name] = self.w[name].t().contiguous()
        self.heads, self.layers, self.epsilon = (config[k] for k in ("n_head", "n_layer", "layer_norm_epsilon"))
        some = self.w["wte.weight"]
        self.cache = some.new_zeros(self.layers, 2, 1, self.heads, places, some.shape[1] // self.heads)

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, x, name):
        w = self.w[f"{name}.weight"]
        return F.layer_norm(x, w.shape, w, self.w[f"{name}.bias"], self.epsilon)

    def logits(self, ids, place):
        """Scores (V) after `ids` (1,T), which stand at `place` and after."""
        end = place + ids.shape[1]
        x = self.w["wte.weight"][ids] + self.w["wpe.weight"][place:end]
        for i in range(self.layers):
            p = f"h.{i}"
            joint = self.linear(self.norm(x, f"{p}.ln_1"), f"{p}.attn.c_attn")
            q, k, v = (split(part, self.heads) for part in joint.chunk(3, -1))
            keys, values = self.cache[i]
            keys[:, :, place:end], values[:, :, place:end] = k, v
            keys, values = keys[:, :, :end], values[:, :, :end]
            mixed = F.scaled_dot_product_attention(q, keys, values, is_causal=q.shape[2] > 1)
            x = x + self.linear(joined(mixed), f"{p}.attn.c_proj")
            hidden = F.gelu(self.linear(self.norm(x, f"{p}.ln_2"), f"{p}.mlp.c_fc"), approximate="tanh")
            x = x + self.linear(hidden, f"{p}.mlp.c_proj")
        return F.linear(self.norm(x[0, -1], "ln_f"), self.w.get("lm_head.weight", self.w["wte.weight"]))


class T5:
    def __init__(self, config, weights, places):
        self.w, self.config = weights, config
        self.heads, self.gated = config["num_heads"], "gated" in config.get("feed_forward_proj", "relu")
        self.depth = {"encoder": config["num_layers"]}
        self.depth["decoder"] = config.get("num_decoder_layers") or config["num_layers"]
        some = self.w["shared.weight"]
        self.cache = some.new_zeros(self.depth["decoder"], 2, 1, self.heads, places, config["d_kv"])
        tied = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
        self.scale = config["d_model"] ** -0.5 if tied else 1.0
        self.bias = self.distances("decoder", places)  # of every place of the decoder to every one before
        self.crossed = []

    def linear(self, x, name):
        return F.linear(x, self.w[f"{name}.weight"])

    def norm(self, x, name):
        w = self.w[f"{name}layer_norm.weight"]
        return F.rms_norm(x, w.shape, w, self.config["layer_norm_epsilon"])

    def distances(self, stack, n):
        """(1,H,n,n): what is added to the scores of a query (rows) and a key, by their bucket of distances."""
        both = stack == "encoder"
        buckets = self.config["relative_attention_num_buckets"] // (2 if both else 1)
        furthest = self.config.get("relative_attention_max_distance", 128)
        table = self.w[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        place = torch.arange(n, device=table.device)
        ahead = place[None] - place[:, None]
        far = ahead.abs() if both else (-ahead).clamp(min=0)
        near = buckets // 2
        spread = torch.log(far.float().clamp(min=1) / near) / math.log(furthest / near) * (buckets - near)
        bucket = torch.where(far < near, far, (near + spread.long()).clamp(max=buckets - 1))
        return table[bucket + (buckets * (ahead > 0) if both else 0)].permute(2, 0, 1)[None].contiguous()

    def mlp(self, x, p):
        hidden = self.norm(x, f"{p}.")
        if self.gated:
            gate = F.gelu(self.linear(hidden, f"{p}.DenseReluDense.wi_0"), approximate="tanh")
            hidden = gate * self.linear(hidden, f"{p}.DenseReluDense.wi_1")
        else:
            hidden = F.relu(self.linear(hidden, f"{p}.DenseReluDense.wi"))
        return x + self.linear(hidden, f"{p}.DenseReluDense.wo")

    def attend(self, x, q, k, v, bias, p):
        mixed = F.scaled_dot_product_attention(q, k, v, bias, scale=1.0)
        return x + self.linear(joined(mixed), f"{p}.o")

    def encode(self, ids, mask=None):
        """(B,T,C); `mask` (B,T) is 1 where a token is."""
        x, bias = self.w["shared.weight"][ids], self.distances("encoder", ids.shape[1])
        if mask is not None:
            bias = bias.masked_fill(mask[:, None, None] == 0, -math.inf)
        for i in range(self.depth["encoder"]):
            p = f"encoder.block.{i}.layer"
            hidden, name = self.norm(x, f"{p}.0."), f"{p}.0.SelfAttention"
            q, k, v = (split(self.linear(hidden, f"{name}.{part}"), self.heads) for part in "qkv")
            x = self.mlp(self.attend(x, q, k, v, bias, name), f"{p}.1")
        return self.norm(x, "encoder.final_")

    def cross(self, encoded):
        """Keys and values of the text, for all tokens to come."""
        names = [f"decoder.block.{i}.layer.1.EncDecAttention" for i in range(self.depth["decoder"])]
        self.crossed = [[split(self.linear(encoded, f"{name}.{part}"), self.heads) for part in "kv"] for name in names]

    def logits(self, ids, place):
        """Scores (V) after `ids` (1,1), the token at `place`."""
        x, bias = self.w["shared.weight"][ids], self.bias[:, :, place : place + 1, : place + 1]
        for i, (keys, values) in enumerate(self.cache):
            p = f"decoder.block.{i}.layer"
            hidden, name = self.norm(x, f"{p}.0."), f"{p}.0.SelfAttention"
            q, k, v = (split(self.linear(hidden, f"{name}.{part}"), self.heads) for part in "qkv")
            keys[:, :, place], values[:, :, place] = k[:, :, 0], v[:, :, 0]
            x = self.attend(x, q, keys[:, :, : place + 1], values[:, :, : place + 1], bias, name)
            name = f"{p}.1.EncDecAttention"
            q = split(self.linear(self.norm(x, f"{p}.1."), f"{name}.q"), self.heads)
            x = self.mlp(self.attend(x, q, *self.crossed[i], None, name), f"{p}.2")
        x = self.norm(x[0, -1], "decoder.final_") * self.scale
        return F.linear(x, self.w.get("lm_head.weight", self.w["shared.weight"]))


def run_bert(model, ids, _):
    start = finished(ids.device)
    logits = model.logits(ids)
    return {"seconds": finished(ids.device) - start}, {"logits": logits.flatten().tolist()}


def drawn(model, ids, place, count, start):
    """Ids after `ids`; the seconds since `start` to the first, and tokens per second of the rest."""
    got = []
    for _ in range(count):
        best = model.logits(ids, place).argmax()
        got.append(int(best))
        place += ids.shape[1]
        ids = best.view(1, 1)
        if len(got) == 1:
            first = time.perf_counter()
    rest = time.perf_counter() - first
    return {"first_seconds": first - start, "tokens_per_second": (count - 1) / rest}, {"ids": got}


def run_gpt2(model, ids, count):
    return drawn(model, ids, 0, count, finished(ids.device))


def run_t5(model, ids, count):
    start = finished(ids.device)
    encoded = model.encode(ids)
    middle = finished(ids.device)
    model.cross(encoded)
    beginning = torch.full((1, 1), model.config.get("decoder_start_token_id", 0), device=ids.device)
    figures, answer = drawn(model, beginning, 0, count, start)
    return {"encode_seconds": middle - start, **figures}, answer


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("bert", "gpt2", "t5"))
    parser.add_argument("folder")
    parser.add_argument("ids")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    asked = json.loads(pathlib.Path(options.ids).read_text())
    device = choose(options.device)
    ids, count = torch.tensor(asked["ids"], device=device), asked["new"]
    config, weights = load(options.folder, {"device": device, "dtype": getattr(torch, options.dtype)})
    with torch.inference_mode():
        model, run = {
            "bert": lambda: (Bert(config, weights), run_bert),
            "gpt2": lambda: (Gpt2(config, weights, ids.shape[1] + count), run_gpt2),
            "t5": lambda: (T5(config, weights, count), run_t5),
        }[options.kind]()
        run(model, ids, count)
        runs = [run(model, ids, count) for _ in range(options.runs)]
    figures = {key: statistics.median(figure[key] for figure, _ in runs) for key in runs[0][0]}
    line({"engine": f"PyTorch {torch.__version__} ({describe(device)})", **figures, **runs[-1][1]})


if __name__ == "__main__":
    main()
