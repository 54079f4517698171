"""Train the two towers behind `builtin:shapes-clip` and write them as a Hugging Face SigLIP folder.

The model is transformers' own `SiglipModel`.  Its picture tower begins as the Vision Transformer of
`builtin:shapes` (`train_shapes.py`) without the class token; SigLIP's blocks are the same, so only the pooling
head is new, and the tower has to learn colours besides kinds.  The word tower is new: 2 layers of width 128.
Pictures come from `shapes.py`, captions from `shapes_captions.py`, names of colours from `colour_names.py`;
all are drawn on the fly.

Every pair of a picture and a caption in a batch is a yes-or-no question, answered by a sigmoid (Zhai et al.,
"Sigmoid loss for language image pre-training", 2023), but with the truth for every pair rather than for the
diagonal alone: "a star" is true of all stars of the batch.  Two helpers, whose heads are not exported, tell kind
and colour from the picture's embedding.  The first steps leave the picture tower's blocks as they are.  The
exported weights are an exponential moving average in float16; a usable folder is written every `--snapshot`
steps and at the end.

    python train_shapes_clip.py --start ../../assets/builtin-shapes --out ../../assets/builtin-shapes-clip
"""

import argparse
import collections
import json
import multiprocessing
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

import colour_names
import shapes
import shapes_captions as captions

WIDTH, HEADS, MLP, EPSILON = 128, 4, 256, 1e-6
TEST_SEED = 10_000_002
HELP = 0.3  # the weight of the helpers
RARE = {"orange", "yellow", "cyan", "pink", "brown"}  # drawn less often than the others


# ---- the model


def new_model(vocabulary):
    sizes = dict(
        hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=MLP, hidden_act="gelu", layer_norm_eps=EPSILON
    )
    text = dict(
        **sizes, num_hidden_layers=2, vocab_size=vocabulary, max_position_embeddings=captions.PLACES,
        projection_size=WIDTH, bos_token_id=None, eos_token_id=captions.END, pad_token_id=captions.END,
    )  # fmt: skip
    vision = dict(**sizes, num_hidden_layers=6, image_size=shapes.SIDE, patch_size=8)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    with torch.no_grad():
        model.text_model.embeddings.token_embedding.weight.normal_(std=0.3)
        model.text_model.embeddings.position_embedding.weight.normal_(std=0.1)
        model.logit_scale.fill_(np.log(10.0))
        model.logit_bias.fill_(-5.0)
    return model


def begin_from_vit(model, folder):
    """The blocks of a `ViTForImageClassification` in the picture tower; the class token has no place there."""
    old, new = load_file(folder / "model.safetensors"), {}
    embeddings = "vit.embeddings.patch_embeddings.projection"
    new["embeddings.patch_embedding.weight"] = old[f"{embeddings}.weight"]
    new["embeddings.patch_embedding.bias"] = old[f"{embeddings}.bias"]
    new["embeddings.position_embedding.weight"] = old["vit.embeddings.position_embeddings"][0, 1:]
    parts = {
        "layer_norm1": "layernorm_before", "layer_norm2": "layernorm_after", "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense", "self_attn.q_proj": "attention.attention.query",
        "self_attn.k_proj": "attention.attention.key", "self_attn.v_proj": "attention.attention.value",
        "self_attn.out_proj": "attention.output.dense",
    }  # fmt: skip
    for kind in ("weight", "bias"):
        new[f"post_layernorm.{kind}"] = old[f"vit.layernorm.{kind}"]
        for layer in range(6):
            for part, name in parts.items():
                new[f"encoder.layers.{layer}.{part}.{kind}"] = old[f"vit.encoder.layer.{layer}.{name}.{kind}"]
    missing, unexpected = model.vision_model.load_state_dict({n: t.float() for n, t in new.items()}, strict=False)
    assert not unexpected and all(name.startswith("head.") for name in missing), (missing, unexpected)


def pixels_of(pictures):
    """uint8 [n, side, side, 3] -> what the tower sees, [n, 3, side, side] of -1..1."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def embed_pictures(model, pictures):
    return model.vision_model(pixel_values=pixels_of(pictures)).pooler_output


def embed_texts(model, tokens):
    return model.text_model(input_ids=tokens).pooler_output


def tokens_of(tokenizer, texts):
    padded = tokenizer(texts, padding="max_length", max_length=captions.PLACES, truncation=True, return_tensors="pt")
    return padded["input_ids"]


# ---- pictures and captions


def name_row(fill):
    """bool [colours]: the names that a fill (`shapes.fill_of`) may be called."""
    names = colour_names.names_of_fill(fill)
    return [name in names for name in colour_names.NAMES]


def recoloured(rng, picture, fill):
    """The picture with its colour channels swapped, perhaps inverted, such that rare colours get more frequent."""
    options = []
    for channels in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
        for inverted in (False, True):
            colours = (1 - fill if inverted else fill)[:, channels]
            options.append((channels, inverted, colours, 4 if colour_names.clear_name(colours[0]) in RARE else 1))
    weights = np.array([option[3] for option in options], float)
    channels, inverted, colours, _ = options[rng.choice(len(options), p=weights / weights.sum())]
    picture = picture[..., channels]
    return 255 - picture if inverted else picture, colours


def filled_batch(seed, size):
    """`size` pictures: uint8 [n, 64, 64, 3], kinds [n] and the colours of their fills [n, 3, 3]."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(len(shapes.LABELS), size=size)
    drawn = [shapes.draw_resized_filled(rng, shapes.LABELS[kind]) for kind in kinds]
    return np.stack([np.asarray(picture) for picture, _, _ in drawn]), kinds, np.stack([fill for _, _, fill in drawn])


def training_batch(seed, step, size, others):
    """Half a batch of new pictures, and the same ones again, mirrored, turned and recoloured; captions of them,
    `others` random ones, and which is true of which."""
    pictures, kinds, fills = filled_batch([seed, step], size // 2)
    rng = np.random.default_rng([seed, step, 1])
    again = [recoloured(rng, picture, fill) for picture, fill in zip(pictures, fills)]
    turned = np.stack([np.rot90(picture[:, ::-1], int(rng.integers(1, 4))) for picture, _ in again])
    pictures, kinds = np.concatenate([pictures, turned]), np.concatenate([kinds, kinds])
    names = np.array([name_row(fill) for fill in [*fills, *(fill for _, fill in again)]])
    subjects = captions.random_subjects(rng, others)
    for kind, row in zip(kinds, names):
        colour, told = int(rng.choice(np.flatnonzero(row))), rng.random()
        subjects.append((None if told > 0.85 else int(kind), None if 0.7 < told <= 0.85 else colour))
    texts = [captions.caption(rng, *subject) for subject in subjects]
    return pictures, kinds, names, texts, captions.true_of(subjects, kinds, names)


def training_batches(seed, sizes, workers, ahead=16):
    """The batches of all steps in order, drawn by worker processes a little ahead of their use."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pending = collections.deque()
        for step in range(len(sizes) + ahead):
            if step < len(sizes):
                pending.append(pool.apply_async(training_batch, (seed, step, sizes[step], sizes[step] // 2)))
            if step >= ahead:
                yield pending.popleft().get()


# ---- training


def losses_of(model, helpers, pictures, tokens, kinds, names, truth):
    """The sum over a picture's captions of the sigmoid loss, and the two helper losses; means over pictures."""
    seen, read = embed_pictures(model, pictures), embed_texts(model, tokens)
    scores = F.normalize(seen, dim=-1) @ F.normalize(read, dim=-1).T
    logits = scores * model.logit_scale.exp() + model.logit_bias
    pair_loss = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="sum") / len(seen)
    told = F.linear(seen, helpers)
    kind_loss = F.cross_entropy(told[:, : len(shapes.LABELS)], kinds)
    colour_loss = F.cross_entropy(told[:, len(shapes.LABELS) :], names.float() / names.sum(1, keepdim=True))
    return pair_loss, kind_loss, colour_loss


class Muon(torch.optim.Optimizer):
    """Muon (Keller Jordan, 2024) with steps as large as Adam's (Liu et al., "Muon is scalable", 2025).

    As `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, but in float32 and for all matrices of a shape
    at once: torch's works in bfloat16, which takes two seconds a step on a processor without it.
    """

    def __init__(self, matrices, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(matrices, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = collections.defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for (rows, columns), matrices in by_shape.items():
                wanted = []
                for matrix in matrices:
                    slow = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                    slow.lerp_(matrix.grad, 1 - group["momentum"])
                    wanted.append(matrix.grad.lerp(slow, group["momentum"]))
                steps = nearly_orthogonal(torch.stack(wanted))
                for matrix, update in zip(matrices, steps):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.sub_(update, alpha=group["lr"] * 0.2 * max(rows, columns) ** 0.5)


def nearly_orthogonal(x, steps=5):
    """Newton and Schulz's iteration, [n, rows, columns]: singular values end up near 1."""
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.mT if tall else x


def optimisers_for(model, helpers, rate, vit_rate):
    """Muon for the matrices inside blocks and Adam for the rest, each with the rate it has at most."""
    named = {**dict(model.named_parameters()), "helpers": helpers}
    result = []
    for begun, most in ((True, vit_rate), (False, rate)):
        part = {n: p for n, p in named.items() if (n.startswith("vision_model.") and ".head." not in n) == begun}
        matrices = [p for n, p in part.items() if p.ndim == 2 and ".layers." in n]
        others = [p for n, p in part.items() if not (p.ndim == 2 and ".layers." in n)]
        adam = torch.optim.AdamW(others, lr=most, betas=(0.9, 0.99), weight_decay=0.0)
        result += [(Muon(matrices, most), most), (adam, most)]
    return result


def rate_factor(step, steps, warm):
    """A linear warm-up, a flat stretch, then a linear way down to zero over the last half."""
    return min(1.0, (step + 1) / warm, (steps - step) / (0.5 * steps))


@torch.no_grad()
def test(model, tokenizer, pictures, kinds, names):
    """The part of clear pictures named rightly among all captions "a red star", and kinds and colours alone."""
    read = F.normalize(embed_texts(model, tokens_of(tokenizer, captions.usual_captions())), dim=-1)
    seen = torch.cat([F.normalize(embed_pictures(model, part), dim=-1) for part in pictures.split(250)])
    best = (seen @ read.T).argmax(1)
    colours = len(colour_names.NAMES)
    kind_right = best // colours == kinds
    colour_right = names[torch.arange(len(best)), best % colours]
    clear = names.sum(1) == 1
    counted = (kind_right & colour_right)[clear], kind_right, colour_right[clear]
    return [part.float().mean().item() for part in counted]


# ---- writing the folder


def export(weights, model, folder):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.half().contiguous() for n, t in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads(model.config.to_json_string()) | {"architectures": ["SiglipModel"], "dtype": "float16"}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    side = {"height": shapes.SIDE, "width": shapes.SIDE}
    SiglipImageProcessor(size=side, resample=2, do_convert_rgb=True).save_pretrained(folder)
    captions.make_tokenizer().save_pretrained(folder)  # a new one: use leaves padding behind in its file
    for path in folder.iterdir():
        path.chmod(0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", type=pathlib.Path, required=True, help="the folder of builtin:shapes, or of --out")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--stages", default="64x1800", help="pictures in a batch x steps, ...")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--vit-rate", type=float, default=7e-4, help="that of the picture tower, but for its head")
    parser.add_argument("--frozen", type=int, default=150, help="steps that leave the picture tower as it is")
    parser.add_argument("--seed", type=int, default=2027, help="batches are drawn from the seeds [SEED, step]")
    parser.add_argument("--snapshot", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    tokenizer = captions.make_tokenizer()
    model = new_model(len(tokenizer))
    if json.loads((options.start / "config.json").read_text())["model_type"] == "siglip":
        model.load_state_dict({n: t.float() for n, t in load_file(options.start / "model.safetensors").items()})
    else:
        begin_from_vit(model, options.start)
    helpers = torch.zeros(len(shapes.LABELS) + len(colour_names.NAMES), WIDTH, requires_grad=True)
    averaged = new_model(len(tokenizer))
    averaged.load_state_dict(model.state_dict())
    optimisers = optimisers_for(model, helpers, options.rate, options.vit_rate)
    test_pictures, test_kinds, test_fills = filled_batch(TEST_SEED, 1000)
    test_set = [torch.from_numpy(x) for x in (test_pictures, test_kinds, np.array([name_row(f) for f in test_fills]))]

    stages = [map(int, stage.split("x")) for stage in options.stages.split(",")]
    sizes = [size for size, steps in stages for _ in range(steps)]
    began, reports = time.time(), []
    for step, batch in enumerate(training_batches(options.seed, sizes, options.workers)):
        pictures, kinds, names, texts, truth = batch
        tokens = tokens_of(tokenizer, texts)
        pictures, kinds, names, truth = map(torch.from_numpy, (pictures, kinds, names, truth))
        for name, parameter in model.named_parameters():
            if name.startswith("vision_model.") and ".head." not in name:
                parameter.requires_grad_(step >= options.frozen)
        losses = losses_of(model, helpers, pictures, tokens, kinds, names, truth)
        (losses[0] + HELP * (losses[1] + losses[2])).backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), helpers], 5.0)
        for optimiser, most in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = most * rate_factor(step, len(sizes), 200)
            optimiser.step()
            optimiser.zero_grad()
        done = step + 1
        keep = min(0.995, done / (done + 10))
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), model.parameters()):
                slow.lerp_(fast, 1 - keep)

        reports.append([loss.item() for loss in losses])
        if done % 100 == 0:
            means = np.mean(reports, 0)
            reports = []
            print(
                f"step {done}  {time.time() - began:.0f} s  pair loss {means[0]:.4f}  kind loss {means[1]:.4f}"
                f"  colour loss {means[2]:.4f}  scale {model.logit_scale.exp().item():.1f}"
                f"  bias {model.logit_bias.item():.1f}",
                flush=True,
            )
        if done % options.snapshot == 0 or done == len(sizes):
            export(averaged.state_dict(), model, options.out)
            both, kind, colour = test(averaged, tokenizer, *test_set)
            print(f"step {done}  named among 192 {both:.4f}  kind {kind:.4f}  colour {colour:.4f}", flush=True)


if __name__ == "__main__":
    main()
