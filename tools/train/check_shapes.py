"""Check the exported `builtin:shapes` folder with a second, independent implementation.

Reads `config.json`, `preprocessor_config.json` and `model.safetensors`, resizes with Pillow and
runs the transformer in plain NumPy, float32.  Nothing of the training code is used.

    python check_shapes.py MODEL_FOLDER pictures DIRECTORY [DIRECTORY ...]   accuracy on labelled PNG files
    python check_shapes.py MODEL_FOLDER fresh COUNT                          accuracy on new generated pictures
    python check_shapes.py MODEL_FOLDER fresh-other COUNT                    the same with the other renderers

The label of a file is its name up to the first underscore or dot.
"""

import collections
import json
import pathlib
import random
import sys

import numpy as np
from PIL import Image
from safetensors.numpy import load_file
from scipy.special import erf

FRESH_SEED = 88_000_001


class Classifier:
    def __init__(self, folder):
        self.config = json.loads((folder / "config.json").read_text())
        self.preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        self.tensors = {name: tensor.astype(np.float32) for name, tensor in tensors.items()}
        self.labels = [self.config["id2label"][str(index)] for index in range(len(self.config["id2label"]))]

    def pixels(self, picture):
        size = (self.preprocessor["size"]["width"], self.preprocessor["size"]["height"])
        resized = picture.convert("RGB").resize(size, Image.Resampling(self.preprocessor["resample"]))
        scaled = np.asarray(resized, np.float32) * np.float32(self.preprocessor["rescale_factor"])
        mean, deviation = (np.array(self.preprocessor[f"image_{key}"], np.float32) for key in ("mean", "std"))
        return ((scaled - mean) / deviation).transpose(2, 0, 1)

    def linear(self, name, x):
        return x @ self.tensors[f"{name}.weight"].T + self.tensors[f"{name}.bias"]

    def norm(self, name, x):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(variance + np.float32(self.config["layer_norm_eps"]))
        return scaled * self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]

    def attention(self, name, x):
        heads = self.config["num_attention_heads"]
        query, key, value = (
            np.stack(np.split(self.linear(f"{name}.attention.{part}", x), heads, -1))
            for part in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(-1, -2) / np.sqrt(np.float32(query.shape[-1]))
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = weights / weights.sum(-1, keepdims=True) @ value
        return self.linear(f"{name}.output.dense", np.concatenate(list(mixed), -1))

    def logits(self, pixels):
        """Class logits of one picture [3, height, width]."""
        patch, kernel = self.config["patch_size"], "vit.embeddings.patch_embeddings.projection"
        weight = self.tensors[f"{kernel}.weight"]
        rows = [
            np.tensordot(weight, pixels[:, y : y + patch, x : x + patch], 3)
            for y in range(0, pixels.shape[1], patch)
            for x in range(0, pixels.shape[2], patch)
        ]
        x = np.stack(rows) + self.tensors[f"{kernel}.bias"]
        x = np.concatenate([self.tensors["vit.embeddings.cls_token"][0], x])
        x = x + self.tensors["vit.embeddings.position_embeddings"][0]
        for index in range(self.config["num_hidden_layers"]):
            layer = f"vit.encoder.layer.{index}"
            x = x + self.attention(f"{layer}.attention", self.norm(f"{layer}.layernorm_before", x))
            hidden = self.linear(f"{layer}.intermediate.dense", self.norm(f"{layer}.layernorm_after", x))
            hidden = (0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))).astype(np.float32)
            x = x + self.linear(f"{layer}.output.dense", hidden)
        return self.linear("classifier", self.norm("vit.layernorm", x)[0])

    def classify(self, picture):
        """The best label and its probability."""
        logits = self.logits(self.pixels(picture))
        weights = np.exp(logits - logits.max())
        best = int(weights.argmax())
        return self.labels[best], float(weights[best] / weights.sum())


def report(classifier, title, cases):
    """Print the accuracy over (label, name, picture) cases, the wrong ones, and the commonest confusions."""
    cases_seen, confusions, confidence = 0, collections.Counter(), []
    for label, name, picture in cases:
        answer, probability = classifier.classify(picture)
        cases_seen += 1
        confidence.append(probability)
        if answer != label:
            confusions[f"{label} -> {answer}"] += 1
            if name:
                print(f"  wrong: {name} is {label}, answered {answer} ({probability:.2f})")
    right = cases_seen - confusions.total()
    print(f"{title}: {right} of {cases_seen} right = {right / cases_seen:.4f}")
    print(f"  confidence: mean {np.mean(confidence):.4f}, least {min(confidence):.2f}")
    if confusions:
        print("  " + ", ".join(f"{pair} {count}" for pair, count in confusions.most_common(12)))


def labelled_files(directory):
    for path in sorted(directory.glob("*.png")):
        yield path.stem.split("_")[0], path.name, Image.open(path)


def fresh(count):
    import shapes

    rng = np.random.default_rng(FRESH_SEED)
    for index in range(count):
        label = shapes.LABELS[index % len(shapes.LABELS)]
        side = int(rng.choice([64, 64, 80, 96, 128, 192]))
        yield label, "", shapes.draw(rng, label, side)[0]


def fresh_other(count, renderer):
    import other_renderers
    import shapes

    rng = random.Random(FRESH_SEED)
    labels = [label for label in shapes.LABELS if renderer in other_renderers.renderers_of(label)]
    for index in range(count):
        label = labels[index % len(labels)]
        yield label, "", other_renderers.picture(rng, label, renderer)


def main():
    classifier, task, arguments = Classifier(pathlib.Path(sys.argv[1])), sys.argv[2], sys.argv[3:]
    if task == "pictures":
        for directory in map(pathlib.Path, arguments):
            report(classifier, str(directory), labelled_files(directory))
    elif task == "fresh":
        report(classifier, f"{arguments[0]} fresh generated pictures", fresh(int(arguments[0])))
    elif task == "fresh-other":
        for renderer in ("cairo", "resvg", "glyph"):
            report(classifier, f"{arguments[0]} fresh pictures by {renderer}", fresh_other(int(arguments[0]), renderer))


if __name__ == "__main__":
    main()
