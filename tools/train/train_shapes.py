"""Train the Vision Transformer behind `builtin:shapes` and write it as a Hugging Face ViT folder.

The model has exactly the semantics of transformers' `ViTForImageClassification` (pre-norm blocks,
erf GELU, a CLS token, learned positions, biases everywhere), with 64x64 pictures, patches of 8,
6 layers of width 128 and 4 heads.  It learns from pictures that `shapes.batch` draws on the fly in
worker processes; no picture set is stored.  Two helpers make a small run on two CPU cores converge,
and their heads are not exported: the patch tokens after the third layer have to predict the coverage
of the shape in each of their pixels, and the mean of the last patch tokens has to tell the label as
the CLS token does.  Batches start small, for many updates early, and grow.

The parameters are kept in one dictionary under the tensor names of the checkpoint, so exporting is
writing it down.  The exported weights are an exponential moving average; a usable folder is written
every `--snapshot` steps and at the end.

    python train_shapes.py --out ../../assets/builtin-shapes
"""

import argparse
import collections
import json
import math
import multiprocessing
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import shapes

SIDE, PATCH, WIDTH, LAYERS, HEADS, MLP = shapes.SIDE, 8, 128, 6, 4, 256
GRID = SIDE // PATCH
EPSILON = 1e-12
MASK_LAYER = 3  # the tokens entering this layer predict the shape's coverage
TEST_SEED = 10_000_000
HELPERS = ("mask_head", "mean_head")


# ---- the model


def layer_name(index):
    return f"vit.encoder.layer.{index}"


def initial_parameters():
    def normal(*shape, deviation):
        return torch.nn.init.trunc_normal_(torch.empty(shape), std=deviation, a=-2 * deviation, b=2 * deviation)

    tensors = {
        "vit.embeddings.cls_token": normal(1, 1, WIDTH, deviation=0.02),
        "vit.embeddings.position_embeddings": normal(1, GRID**2 + 1, WIDTH, deviation=0.1),
    }

    def linear(name, outputs, inputs, *kernel):
        deviation = (inputs * math.prod(kernel)) ** -0.5
        tensors[f"{name}.weight"] = normal(outputs, inputs, *kernel, deviation=deviation)
        tensors[f"{name}.bias"] = torch.zeros(outputs)

    def norm(name):
        tensors[f"{name}.weight"] = torch.ones(WIDTH)
        tensors[f"{name}.bias"] = torch.zeros(WIDTH)

    linear("vit.embeddings.patch_embeddings.projection", WIDTH, 3, PATCH, PATCH)
    for index in range(LAYERS):
        layer = layer_name(index)
        norm(f"{layer}.layernorm_before")
        for part in ("query", "key", "value"):
            linear(f"{layer}.attention.attention.{part}", WIDTH, WIDTH)
        linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        norm(f"{layer}.layernorm_after")
        linear(f"{layer}.intermediate.dense", MLP, WIDTH)
        linear(f"{layer}.output.dense", WIDTH, MLP)
    norm("vit.layernorm")
    linear("classifier", len(shapes.LABELS), WIDTH)
    linear("mask_head", PATCH * PATCH, WIDTH)
    linear("mean_head", len(shapes.LABELS), WIDTH)
    return tensors


def linear(tensors, name, x):
    return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def norm(tensors, name, x):
    return F.layer_norm(x, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], EPSILON)


def patches_of(pictures):
    """[n, side, side, c] -> [n, patches, c * patch * patch], channel-major as in the convolution's weight."""
    count, channels = pictures.shape[0], pictures.shape[3]
    tiles = pictures.reshape(count, GRID, PATCH, GRID, PATCH, channels)
    return tiles.permute(0, 1, 3, 5, 2, 4).reshape(count, GRID * GRID, channels * PATCH * PATCH)


def attention(tensors, layer, x):
    name = f"{layer}.attention.attention"
    weight = torch.cat([tensors[f"{name}.{part}.weight"] for part in ("query", "key", "value")])
    bias = torch.cat([tensors[f"{name}.{part}.bias"] for part in ("query", "key", "value")])
    count, tokens, _ = x.shape
    joined = F.linear(x, weight, bias).view(count, tokens, 3, HEADS, WIDTH // HEADS)
    query, key, value = joined.permute(2, 0, 3, 1, 4).unbind(0)
    scores = query @ key.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5
    mixed = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(count, tokens, WIDTH)
    return linear(tensors, f"{layer}.attention.output.dense", mixed)


def forward(tensors, pictures):
    """Class logits, those of the mean patch token, and logits of the coverage of each pixel of each patch."""
    pixels = patches_of(pictures.float() / 127.5 - 1)
    projection = "vit.embeddings.patch_embeddings.projection"
    weight = tensors[f"{projection}.weight"].reshape(WIDTH, -1)
    x = F.linear(pixels, weight, tensors[f"{projection}.bias"]).float()
    start = tensors["vit.embeddings.cls_token"].expand(x.shape[0], 1, WIDTH)
    x = torch.cat([start, x], 1) + tensors["vit.embeddings.position_embeddings"]
    for index in range(LAYERS):
        layer = layer_name(index)
        if index == MASK_LAYER:
            coverage = linear(tensors, "mask_head", x[:, 1:])
        x = x + attention(tensors, layer, norm(tensors, f"{layer}.layernorm_before", x))
        hidden = norm(tensors, f"{layer}.layernorm_after", x)
        hidden = F.gelu(linear(tensors, f"{layer}.intermediate.dense", hidden))
        x = x + linear(tensors, f"{layer}.output.dense", hidden)
    x = norm(tensors, "vit.layernorm", x)
    return linear(tensors, "classifier", x[:, 0]), linear(tensors, "mean_head", x[:, 1:].mean(1)), coverage


# ---- training


def training_batch(seed, step, size):
    """Half a batch of new pictures, and the same ones again, mirrored, turned and with swapped colours."""
    pictures, labels, masks = shapes.batch([seed, step], size // 2)
    rng = np.random.default_rng([seed, step, 1])
    turns, channels = int(rng.integers(1, 4)), rng.permutation(3)
    again = np.rot90(pictures[:, ::-1], turns, (1, 2))[..., channels]
    if rng.random() < 0.5:
        again = 255 - again
    masks_again = np.rot90(masks[:, ::-1], turns, (1, 2))
    return (
        np.concatenate([pictures, again]),
        np.concatenate([labels, labels]),
        np.concatenate([masks, masks_again]),
    )


def training_batches(seed, sizes, workers, ahead=16):
    """The batches of all steps in order, drawn by worker processes a little ahead of their use."""
    steps = len(sizes)
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pending = collections.deque()
        for step in range(steps + ahead):
            if step < steps:
                pending.append(pool.apply_async(training_batch, (seed, step, sizes[step])))
            if step >= ahead:
                yield pending.popleft().get()


@torch.compile(dynamic=False)
def losses_of(tensors, pictures, labels, masks):
    """Label loss, the two helper losses, and the part of labels that is right; matrix products in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        logits, mean_logits, coverage = (output.float() for output in forward(tensors, pictures))
    label_loss = F.cross_entropy(logits, labels, label_smoothing=0.02)
    mean_loss = F.cross_entropy(mean_logits, labels, label_smoothing=0.02)
    mask_loss = F.binary_cross_entropy_with_logits(coverage, patches_of(masks[..., None].float() / 255))
    return label_loss, mean_loss, mask_loss, (logits.argmax(-1) == labels).float().mean()


def optimisers_for(tensors, rate):
    """Muon for the matrices inside the blocks, Adam for everything else."""
    matrices = [tensor for name, tensor in tensors.items() if tensor.ndim == 2 and ".layer." in name]
    others = [tensor for name, tensor in tensors.items() if not (tensor.ndim == 2 and ".layer." in name)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.99), weight_decay=0.0),
    ]


def rate_factor(step, steps):
    """A short linear warm-up, a flat stretch, then a linear way down to zero over the last half."""
    return min(1.0, (step + 1) / min(200, steps // 10), (steps - step) / (0.5 * steps))


@torch.no_grad()
def accuracy(tensors, pictures, labels):
    parts = [forward(tensors, part)[0].argmax(-1) for part in pictures.split(250)]
    return (torch.cat(parts) == labels).float().mean().item()


# ---- writing the folder


def config():
    names = {str(number): label for number, label in enumerate(shapes.LABELS)}
    return {
        "architectures": ["ViTForImageClassification"],
        "attention_probs_dropout_prob": 0.0,
        "encoder_stride": PATCH,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "hidden_size": WIDTH,
        "id2label": names,
        "image_size": SIDE,
        "initializer_range": 0.02,
        "intermediate_size": MLP,
        "label2id": {label: int(number) for number, label in names.items()},
        "layer_norm_eps": EPSILON,
        "model_type": "vit",
        "num_attention_heads": HEADS,
        "num_channels": 3,
        "num_hidden_layers": LAYERS,
        "patch_size": PATCH,
        "pooler_act": "tanh",
        "pooler_output_size": WIDTH,
        "problem_type": "single_label_classification",
        "qkv_bias": True,
        "torch_dtype": "float16",
        "transformers_version": "5.23.0",
    }


PREPROCESSOR = {
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "ViTImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": SIDE, "width": SIDE},
}


def export(tensors, folder):
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.half() for name, tensor in tensors.items() if not name.startswith(HELPERS)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    for name, content in (("config.json", config()), ("preprocessor_config.json", PREPROCESSOR)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--start", type=pathlib.Path, help="go on from the model in this folder, without the helpers")
    parser.add_argument("--stages", default="32x4000,64x3000,128x1000", help="pictures in a batch x steps, ...")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=2024, help="batches are drawn from the seeds [SEED, step]")
    parser.add_argument("--snapshot", type=int, default=500)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    tensors = initial_parameters()
    if options.start:
        saved = load_file(options.start / "model.safetensors")
        tensors.update({name: tensor.float() for name, tensor in saved.items()})
    help_weight = 0.0 if options.start else 1.0
    tensors = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
    average = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    optimisers = optimisers_for(tensors, options.rate)
    test_pictures, test_labels, _ = map(torch.from_numpy, shapes.batch(TEST_SEED, 1000))

    stages = [map(int, stage.split("x")) for stage in options.stages.split(",")]
    sizes = [size for size, steps in stages for _ in range(steps)]
    began, reports = time.time(), []
    for step, batch in enumerate(training_batches(options.seed, sizes, options.workers)):
        label_loss, mean_loss, mask_loss, right = losses_of(tensors, *map(torch.from_numpy, batch))
        (label_loss + help_weight * (0.5 * mean_loss + mask_loss)).backward()
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = options.rate * rate_factor(step, len(sizes))
            optimiser.step()
            optimiser.zero_grad()
        done = step + 1
        keep = min(0.995, done / (done + 10))
        with torch.no_grad():
            for name, tensor in tensors.items():
                average[name].lerp_(tensor, 1 - keep)

        reports.append([value.item() for value in (label_loss, mean_loss, mask_loss, right)])
        if done % 100 == 0:
            means = np.mean(reports, 0)
            reports = []
            print(
                f"step {done}  {time.time() - began:.0f} s  label loss {means[0]:.4f}"
                f"  mean loss {means[1]:.4f}  mask loss {means[2]:.4f}  right {means[3]:.4f}",
                flush=True,
            )
        if done % options.snapshot == 0 or done == len(sizes):
            export(average, options.out)
            print(f"step {done}  test accuracy {accuracy(average, test_pictures, test_labels):.4f}", flush=True)


if __name__ == "__main__":
    main()
