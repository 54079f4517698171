"""Train the tokenizer and the transformer behind `builtin:shapes-gpt` and write them as a LlamaGen-style folder.

    python train_shapes_gpt.py vq WORK                    the tokenizer: pictures -> 64 tokens -> pictures
    python train_shapes_gpt.py decoder WORK               its decoder alone goes on, encoder and codes held
    python train_shapes_gpt.py tokens WORK                tokens of new pictures
    python train_shapes_gpt.py gpt WORK                   the transformer, over these tokens
    python train_shapes_gpt.py export WORK FOLDER TESTS   F16 files, config.json, held-out figures for the tests
    python train_shapes_gpt.py check FOLDER CLASSIFIER    samples at the default settings, judged by the classifier

WORK holds the unrounded weights (moving averages) as safetensors and is written every `--snapshot` steps, with a
contact sheet.  Pictures are drawn on the fly by `shapes_gpt.batch`; no picture set is stored.

The tokenizer learns in bfloat16 with straight-through gradients: L1, L2 and edge errors of the picture and the
distance of the encoder's vectors from their codes.  The first steps run without codes, which then start from
vectors of the encoder, follow them by moving averages, and are moved to new places where they fall out of use.
The transformer learns the next token with cross entropy; one label in ten is replaced by "no class".
"""

import argparse
import json
import math
import os
import pathlib
import time

import numpy as np
import torch
import torch.distributed
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

import shapes
import shapes_gpt as model

CONFIG, LABELS = model.CONFIG, model.LABELS
CODES, NO_CLASS = CONFIG["vocab_size"], CONFIG["num_classes"]
CODEBOOK = "quantize.embedding.weight"
TEST_SEED = 10_000_001
HELD_OUT_SEED = 77_000_003
GENERATION = {"cfg_scale": 1.5, "temperature": 0.8, "top_k": 100, "top_p": 0.9}


# ---- common parts


def to_input(pictures):
    """uint8 [n, side, side, 3] -> float [n, 3, side, side] in -1..1, channels last in memory."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(output):
    """The way back, rounded."""
    return ((output.float().clamp(-1, 1) + 1) * 127.5 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()


def save_sheet(pictures, path, columns=16, scale=1):
    rows = [[Image.fromarray(one) for one in pictures[at : at + columns]] for at in range(0, len(pictures), columns)]
    shapes.contact_sheet(rows, scale).save(path)


def rate_factor(step, steps, warm_up=100):
    """A linear warm-up, then half a cosine down to zero."""
    return min(1.0, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


class Averages:
    """Moving averages of parameters, faster at the start."""

    def __init__(self, tensors, keep):
        self.tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        self.keep, self.updates = keep, 0

    @torch.no_grad()
    def update(self, tensors):
        self.updates += 1
        keep = min(self.keep, self.updates / (self.updates + 10))
        for name, tensor in tensors.items():
            self.tensors[name].lerp_(tensor, 1 - keep)


def write(tensors, path):
    partial = path.with_suffix(".partial")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, partial)
    partial.rename(path)


# ---- the tokenizer


@torch.compile(dynamic=False)
def picture_losses(tensors, pictures, quantised):
    """Picture loss, distance to the codes, code numbers, encoder vectors; `quantised` 0 or 1 as a tensor."""
    low = {name: tensor if name == CODEBOOK else tensor.bfloat16() for name, tensor in tensors.items()}
    vectors = model.encode(low, pictures.bfloat16())
    ids = model.nearest(tensors, vectors.detach())
    codes = model.look_up(tensors, ids).detach()
    distance = ((codes - vectors) ** 2).sum(1).mean() * quantised
    passed = vectors + (codes - vectors).detach() * quantised
    return picture_loss(model.decode(low, passed.bfloat16()).float(), pictures), distance, ids, vectors.detach()


@torch.compile(dynamic=False)
def decoder_loss(tensors, codes, pictures):
    low = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    return picture_loss(model.decode(low, codes.bfloat16()).float(), pictures)


def picture_loss(output, pictures):
    error = output - pictures
    edges = (error[:, :, 1:] - error[:, :, :-1]).abs().mean() + (error[..., 1:] - error[..., :-1]).abs().mean()
    return error.abs().mean() + 2 * (error**2).mean() + edges


class CodeBook:
    """Codes that follow the mean of the vectors nearest to them; unused ones jump to a vector of the batch."""

    def __init__(self, tensor, generator):
        self.tensor, self.generator = tensor, generator
        self.counts, self.sums = torch.ones(CODES), tensor.clone()

    def start(self, vectors):
        """k-means on the sphere, from random vectors."""
        self.tensor.copy_(self.some(vectors, CODES))
        for _ in range(10):
            self.counts.zero_(), self.sums.zero_()
            self.follow(vectors, (vectors @ self.tensor.T).argmax(-1), 1.0)
            self.revive(vectors, 0.5)

    def some(self, vectors, count):
        return vectors[torch.randperm(len(vectors), generator=self.generator)[:count]]

    def follow(self, vectors, ids, part):
        self.counts.lerp_(torch.bincount(ids, minlength=CODES).float(), part)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, ids, vectors), part)
        self.tensor.copy_(F.normalize(self.sums / self.counts[:, None].clamp_min(1e-3), dim=-1))

    def revive(self, vectors, least):
        dead = self.counts < least
        number = int(dead.sum())
        if number:
            self.tensor[dead] = self.some(vectors, number)
            self.sums[dead], self.counts[dead] = self.tensor[dead], 1.0
        return number


def train_vq(options):
    generator = torch.Generator().manual_seed(options.seed)
    tensors = {name: tensor.requires_grad_() for name, tensor in model.vq_parameters(CONFIG, generator).items()}
    if options.start:
        saved = load_file(options.work / "vq.safetensors")
        tensors = {name: saved[name].clone().requires_grad_() for name in tensors}
    learned = {name: tensor for name, tensor in tensors.items() if name != CODEBOOK}
    tensors[CODEBOOK] = tensors[CODEBOOK].detach()
    book = CodeBook(tensors[CODEBOOK], generator)
    average = Averages(tensors, 0.995)
    optimiser = torch.optim.AdamW(learned.values(), lr=options.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    began, reports, revived, recent = time.time(), [], 0, []
    for step in range(options.steps):
        pictures = to_input(model.batch([options.seed, step], options.batch)[0])
        quantised = torch.tensor(float(step >= options.free_steps))
        loss, distance, ids, vectors = picture_losses(tensors, pictures, quantised)
        (loss + 0.25 * distance).backward()
        torch.nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimiser.param_groups[0]["lr"] = options.rate * rate_factor(step, options.steps)
        optimiser.step()
        optimiser.zero_grad()
        vectors = vectors.flatten(2).transpose(1, 2).reshape(-1, vectors.shape[1])
        recent = (recent + [vectors])[-16:]
        if step + 1 == options.free_steps:
            book.start(torch.cat(recent))
        elif step >= options.free_steps:
            book.follow(vectors, ids.flatten(), 0.02)
            if step % 20 == 0 and step < 0.7 * options.steps:
                revived += book.revive(torch.cat(recent), 0.1)
        average.update(learned)
        average.tensors[CODEBOOK] = tensors[CODEBOOK]
        reports.append([loss.item(), distance.item()])
        if (step + 1) % 50 == 0:
            means = np.mean(reports, 0)
            print(f"step {step + 1}  {time.time() - began:.0f} s  loss {means[0]:.4f}  distance {means[1]:.4f}"
                  f"  revived {revived}", flush=True)  # fmt: skip
            reports, revived = [], 0
        if (step + 1) % options.snapshot == 0 or step + 1 == options.steps:
            write(average.tensors, options.work / "vq.safetensors")
            report_pictures(average.tensors, options.work)


@torch.no_grad()
def report_pictures(tensors, work, count=256):
    """Error on held-out pictures, codes in use, and a contact sheet: originals in odd rows, below them what came back."""
    originals, _ = model.batch(TEST_SEED, count)
    pictures = to_input(originals)
    ids = torch.cat([model.nearest(tensors, model.encode(tensors, part)) for part in pictures.split(32)])
    output = torch.cat([model.decode(tensors, model.look_up(tensors, part)) for part in ids.split(32)])
    error = ((output.clamp(-1, 1) - pictures) ** 2).mean((1, 2, 3)) / 4
    used = ids.unique().numel()
    print(f"  held out: PSNR {-10 * error.log10().mean():.2f} dB, codes in use {used} of {CODES}", flush=True)
    back = to_pictures(output)
    rows = [part for at in range(0, 128, 16) for part in (originals[at : at + 16], back[at : at + 16])]
    save_sheet(np.concatenate(rows), work / "vq.png")


def train_decoder(options):
    """Encoder and codes stay, so that tokens keep their meaning; the decoder learns on from them."""
    tensors = load_file(options.work / "vq.safetensors")
    learned = {
        name: tensor.clone().requires_grad_()
        for name, tensor in tensors.items()
        if name.startswith(("decoder.", "post_quant_conv."))
    }
    average = Averages(learned, 0.998)
    optimiser = torch.optim.AdamW(learned.values(), lr=options.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    began, reports = time.time(), []
    for step in range(options.steps):
        pictures = to_input(model.batch([options.seed, 1, step], options.batch)[0])
        with torch.no_grad():
            codes = model.look_up(tensors, token_ids(tensors, pictures))
        loss = decoder_loss(learned, codes, pictures)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learned.values(), 1.0)
        optimiser.param_groups[0]["lr"] = options.rate * rate_factor(step, options.steps)
        optimiser.step()
        optimiser.zero_grad()
        average.update(learned)
        reports.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}  {time.time() - began:.0f} s  loss {np.mean(reports):.4f}", flush=True)
            reports = []
        if (step + 1) % options.snapshot == 0 or step + 1 == options.steps:
            write({**tensors, **average.tensors}, options.work / "vq_decoder.safetensors")
            report_pictures({**tensors, **average.tensors}, options.work)


@torch.compile(dynamic=False)
def compiled_ids(tensors, pictures):
    low = {name: tensor if name == CODEBOOK else tensor.bfloat16() for name, tensor in tensors.items()}
    return model.nearest(tensors, model.encode(low, pictures.bfloat16()))


@torch.no_grad()
def token_ids(tensors, pictures):
    """Tokens of training pictures, by the encoder in bfloat16."""
    kept = {name: tensor for name, tensor in tensors.items() if name.startswith(("enc", "quant"))}
    return compiled_ids(kept, pictures)


# ---- the transformer


def write_tokens(options):
    """Tokens of new pictures, in turns of labels, uint16 [count, 64]."""
    tensors = load_file(options.work / "vq.safetensors")
    parts, began = [], time.time()
    for at in range(0, options.count, 64):
        pictures = to_input(model.batch([options.seed, 2, at], 64)[0])
        parts.append(token_ids(tensors, pictures).numpy().astype(np.uint16))
        if at % 6400 == 0:
            np.save(options.work / "tokens.partial.npy", np.concatenate(parts))
            (options.work / "tokens.partial.npy").rename(options.work / "tokens.npy")
            print(f"{at + 64} pictures  {time.time() - began:.0f} s", flush=True)
    np.save(options.work / "tokens.npy", np.concatenate(parts))


@torch.compile(dynamic=False)
def token_loss(tensors, ids, labels):
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.next_logits(tensors, CONFIG, ids[:, :-1], labels)
    return F.cross_entropy(logits.float().flatten(0, 1), ids.flatten())


def share_gradients(tensors, workers):
    """Replace the gradients by their means over all worker processes."""
    flat = torch.cat([tensor.grad.flatten() for tensor in tensors.values()]) / workers
    torch.distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors.values()])
    for tensor, part in zip(tensors.values(), parts, strict=True):
        tensor.grad = part.view(tensor.shape)


def train_gpt(options):
    rank, workers = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if workers > 1:
        torch.distributed.init_process_group("gloo")
    generator = torch.Generator().manual_seed(options.seed)
    tensors = {name: tensor.requires_grad_() for name, tensor in model.gpt_parameters(CONFIG, generator).items()}
    if options.start:
        saved = load_file(options.work / "gpt.safetensors")
        tensors = {name: saved[name].clone().requires_grad_() for name in tensors}
    average = Averages(tensors, 0.999)
    matrices = [tensor for name, tensor in tensors.items() if tensor.ndim == 2 and name.startswith("layers")]
    others = [tensor for name, tensor in tensors.items() if not (tensor.ndim == 2 and name.startswith("layers"))]
    optimisers = [
        torch.optim.Muon(matrices, lr=options.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=options.rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    tokens = np.load(options.work / "tokens.npy")
    everything = torch.from_numpy(tokens.astype(np.int64))
    vq = load_file(options.work / "vq.safetensors")
    with torch.no_grad():
        pictures, numbers = model.batch(TEST_SEED, 512)
        test_ids = model.nearest(vq, torch.cat([model.encode(vq, part) for part in to_input(pictures).split(64)]))
        test_labels = torch.from_numpy(numbers)
    print(f"{len(everything)} pictures", flush=True)
    began, reports, order = time.time(), [], torch.empty(0, dtype=torch.long)
    for step in range(options.steps):
        if len(order) < options.batch:
            order = torch.randperm(len(everything), generator=generator)
        chosen, order = order[: options.batch], order[options.batch :]
        labels = chosen % NO_CLASS
        labels[torch.rand(options.batch, generator=generator) < 0.1] = NO_CLASS
        loss = token_loss(tensors, everything[chosen[rank::workers]], labels[rank::workers])
        loss.backward()
        if workers > 1:
            share_gradients(tensors, workers)
        torch.nn.utils.clip_grad_norm_(tensors.values(), 1.0)
        for optimiser in optimisers:
            optimiser.param_groups[0]["lr"] = options.rate * rate_factor(step, options.steps)
            optimiser.step()
            optimiser.zero_grad()
        average.update(tensors)
        reports.append(loss.item())
        if rank:
            continue
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}  {time.time() - began:.0f} s  loss {np.mean(reports):.4f}", flush=True)
            reports = []
        if (step + 1) % options.snapshot == 0 or step + 1 == options.steps:
            write(average.tensors, options.work / "gpt.safetensors")
            print(f"  held out: {held_out_loss(average.tensors, test_ids, test_labels).mean():.4f} nats", flush=True)


@torch.no_grad()
def held_out_loss(tensors, ids, labels):
    """Mean negative log-likelihood of the tokens of each picture, in nats per token."""
    logits = model.next_logits(tensors, CONFIG, ids[:, :-1], labels)
    return F.cross_entropy(logits.transpose(1, 2), ids, reduction="none").mean(1)


# ---- the folder


def rounded(tensors):
    return {name: tensor.half().float() for name, tensor in tensors.items()}


def export(options):
    """The model's folder, and the tests' file: held-out tokens, labels and losses, and four pictures there and back.

    The four are of different kinds and have no near ties between codes, so that another implementation of the
    encoder must find the same tokens."""
    folder, tests = options.folder, options.tests
    folder.mkdir(parents=True, exist_ok=True)
    tests.mkdir(parents=True, exist_ok=True)
    decoder = options.work / "vq_decoder.safetensors"
    vq = load_file(decoder if decoder.exists() else options.work / "vq.safetensors")
    gpt = load_file(options.work / "gpt.safetensors")
    for name, tensors in (("vq", vq), ("gpt", gpt)):
        halves = {key: tensor.half().contiguous() for key, tensor in tensors.items()}
        save_file(halves, folder / f"{name}.safetensors", metadata={"format": "pt"})
        (folder / f"{name}.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "generation": GENERATION}, indent=2) + "\n")

    vq, gpt = rounded(vq), rounded(gpt)
    pictures, numbers = model.batch(HELD_OUT_SEED, 160)
    with torch.no_grad():
        vectors = model.encode(vq, to_input(pictures))
        ids, labels = model.nearest(vq, vectors), torch.from_numpy(numbers)
        losses = held_out_loss(gpt, ids[:128], labels[:128])
        best = (vectors.flatten(2).transpose(1, 2) @ F.normalize(vq[CODEBOOK], dim=-1).T).topk(2)[0]
        sure = (best[..., 0] - best[..., 1]).amin(1).argsort(descending=True).tolist()
        kinds = list(dict.fromkeys(numbers[sure].tolist()))[:4]
        four = [next(at for at in sure if numbers[at] == kind) for kind in kinds]
        back = model.decode(vq, model.look_up(vq, ids[four]))
    for at, output in zip(four, to_pictures(back), strict=True):
        name = LABELS[numbers[at]]
        Image.fromarray(pictures[at]).save(tests / f"{name}.png")
        Image.fromarray(output).save(tests / f"{name}_decoded.png")
    held_out = {
        "ids": ids[:128].to(torch.int32),
        "labels": labels[:128].to(torch.int32),
        "loss": losses.mean().view(1),
        "losses": losses,
        "picture_ids": ids[four].to(torch.int32),
        "picture_labels": labels[four].to(torch.int32),
    }
    names = ",".join(LABELS[numbers[at]] for at in four)
    held_out = {name: tensor.contiguous() for name, tensor in held_out.items()}
    save_file(held_out, tests / "heldout.safetensors", metadata={"format": "pt", "pictures": names})
    (tests / "heldout.safetensors").chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{size} bytes, held out {losses.mean():.5f} nats per token, pictures {names}")


def pairwise(pictures):
    """Mean absolute difference of all pairs of pictures, 0..255."""
    flat = torch.from_numpy(pictures).flatten(1).float()
    return torch.pdist(flat, 1).mean().item() / flat.shape[1]


def check(options):
    """Samples at the given settings: how many the classifier names right, and how far they lie apart."""
    import check_shapes

    config = json.loads((options.folder / "config.json").read_text())
    vq, gpt = (
        {key: tensor.float() for key, tensor in load_file(options.folder / f"{name}.safetensors").items()}
        for name in ("vq", "gpt")
    )
    settings = dict(config["generation"])
    settings.update({key: getattr(options, key) for key in settings if getattr(options, key) >= 0})
    settings["top_k"] = int(settings["top_k"])
    numbers = np.arange(options.count) % len(LABELS)
    generator = torch.Generator().manual_seed(options.seed)
    with torch.no_grad():
        ids = model.sample(gpt, config, torch.from_numpy(numbers), generator, **settings)
        made = np.concatenate([to_pictures(model.decode(vq, model.look_up(vq, part))) for part in ids.split(32)])
    real, _ = model.batch(HELD_OUT_SEED, options.count)
    judge = check_shapes.Classifier(options.classifier)
    cases = [(LABELS[number], "", Image.fromarray(one)) for number, one in zip(numbers, made, strict=True)]
    print(settings)
    check_shapes.report(judge, "samples", cases)
    print("mean distance of pairs within each kind, samples / drawings:")
    print("  " + ", ".join(f"{label} {pairwise(made[numbers == at]):.0f}/{pairwise(real[numbers == at]):.0f}"
                           for at, label in enumerate(LABELS)))  # fmt: skip
    within = [np.mean([pairwise(some[numbers == at]) for at in range(len(LABELS))]) for some in (made, real)]
    print(f"  all {within[0]:.1f}/{within[1]:.1f}; equal token rows: {len(ids) - len(ids.unique(dim=0))}")
    if options.sheet:
        shown = [made[numbers == at][:16] for at in range(len(LABELS))]
        save_sheet(np.concatenate(shown), options.sheet)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    stages = parser.add_subparsers(dest="stage", required=True)

    def stage(name, **defaults):
        sub = stages.add_parser(name)
        sub.add_argument("work", type=pathlib.Path)
        for option, value in defaults.items():
            sub.add_argument(f"--{option.replace('_', '-')}", type=type(value), default=value)
        return sub

    stage("vq", steps=2000, batch=32, rate=2e-3, seed=2026, snapshot=250, free_steps=200).add_argument("--start", action="store_true")
    stage("decoder", steps=1500, batch=32, rate=1e-3, seed=2027, snapshot=250)
    stage("tokens", count=80000, seed=2028)
    stage("gpt", steps=6000, batch=64, rate=2e-3, seed=2029, snapshot=500).add_argument("--start", action="store_true")
    exporting = stage("export")
    exporting.add_argument("folder", type=pathlib.Path)
    exporting.add_argument("tests", type=pathlib.Path)
    checking = stages.add_parser("check")
    checking.add_argument("folder", type=pathlib.Path)
    checking.add_argument("classifier", type=pathlib.Path)
    checking.add_argument("--count", type=int, default=512)
    checking.add_argument("--seed", type=int, default=1)
    checking.add_argument("--sheet", type=pathlib.Path)
    for setting in GENERATION:
        checking.add_argument(f"--{setting.replace('_', '-')}", type=float, default=-1.0, help="instead of config.json's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(getattr(options, "seed", 0))
    if "work" in options:
        options.work.mkdir(parents=True, exist_ok=True)
    todo = {"vq": train_vq, "decoder": train_decoder, "tokens": write_tokens, "gpt": train_gpt}
    {**todo, "export": export, "check": check}[options.stage](options)


if __name__ == "__main__":
    main()
