"""Check the exported `builtin:shapes-clip` folder with transformers' own AutoModel and AutoProcessor.

Pictures are drawn by `shapes.py` from a seed that training never uses, at sides of 64 to 192 pixels.  Only those
whose colour has one clear name (`colour_names.py`) count where a colour is asked for.

    python check_shapes_clip.py MODEL_FOLDER fresh COUNT                     naming, and searching among COUNT pictures
    python check_shapes_clip.py MODEL_FOLDER pictures DIRECTORY [...]        kinds of labelled PNG files ("a star")
    python check_shapes_clip.py MODEL_FOLDER name FILE "LABEL,LABEL,..."     what the model says of one picture

The label of a file is its name up to the first underscore or dot.
"""

import collections
import pathlib
import sys

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor

import colour_names
import shapes
import shapes_captions as captions

FRESH_SEED = 88_000_002
FORMS = {
    "red star": "{c} {k}", "a red star": "a {c} {k}", "a star that is red": "a {k} that is {c}",
    "This is a photo of red star.": "This is a photo of {c} {k}.",
}  # fmt: skip
WORST = 6  # as many are printed of what goes wrong most


class Towers:
    def __init__(self, folder):
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    @torch.no_grad()
    def pictures(self, pictures):
        """Embeddings of length 1, [n, width]."""
        parts = [pictures[start : start + 200] for start in range(0, len(pictures), 200)]
        inputs = [self.processor(images=part, return_tensors="pt") for part in parts]
        return self.unit(torch.cat([self.model.get_image_features(**part).pooler_output for part in inputs]))

    @torch.no_grad()
    def texts(self, texts):
        inputs = self.processor(text=texts, padding="max_length", truncation=True, return_tensors="pt")
        return self.unit(self.model.get_text_features(input_ids=inputs["input_ids"]).pooler_output)

    def unit(self, x):
        return (x / x.norm(dim=-1, keepdim=True)).numpy()

    def probabilities(self, seen, read):
        """Each label by itself, [pictures, labels]."""
        logits = seen @ read.T * self.model.logit_scale.exp().item() + self.model.logit_bias.item()
        return 1 / (1 + np.exp(-logits))


def precision_at_10(scores, true):
    """Over captions that are true of a picture at all: the part that is right of the first 10 pictures, or of as
    many as there are right ones.  `scores` and `true`: [pictures, captions]."""
    result = {}
    for query in np.flatnonzero(true.any(0)):
        places = min(10, true[:, query].sum())
        first = np.argsort(-scores[:, query], kind="stable")[:places]
        result[query] = true[first, query].mean()
    return result


def fresh(towers, count):
    rng = np.random.default_rng(FRESH_SEED)
    kinds = rng.integers(len(shapes.LABELS), size=count)
    drawn = [shapes.draw_filled(rng, shapes.LABELS[kind], int(rng.integers(64, 193))) for kind in kinds]
    names = [colour_names.names_of_fill(fill) for _, _, fill in drawn]
    seen = towers.pictures([picture for picture, _, _ in drawn])
    usual = captions.usual_captions()
    scores = seen @ towers.texts(usual).T
    clear = np.array([len(possible) == 1 for possible in names])
    colours = len(colour_names.NAMES)
    truth = kinds * colours + np.array([colour_names.NAMES.index(possible[0]) for possible in names])

    best = scores.argmax(1)
    print(f"{count} pictures, {clear.sum()} of a clear colour")
    report("named among 192", (best == truth)[clear])
    others = np.stack([rng.choice(np.delete(np.arange(len(usual)), right), 8, replace=False) for right in truth])
    rivals = np.take_along_axis(scores, others, 1).max(1)
    report("named among 9", (scores[np.arange(count), truth] > rivals)[clear])
    report("kind of the best of 192", best // colours == kinds)
    report("colour of the best of 192", (best % colours == truth % colours)[clear])
    usual_kinds = [f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" for kind in shapes.LABELS]
    report('kind alone ("a star")', (seen @ towers.texts(usual_kinds).T).argmax(1) == kinds)
    usual_colours = [f"something {name}" for name in colour_names.NAMES]
    told = (seen @ towers.texts(usual_colours).T).argmax(1)
    report('colour alone ("something red")', (told == truth % colours)[clear])
    wrong = collections.Counter(f"{usual[t]} -> {usual[b]}" for t, b in zip(truth[clear], best[clear]) if t != b)
    print("  " + ", ".join(f"{pair} {times}" for pair, times in wrong.most_common(WORST)))

    # A picture between two names is right for both.
    possible = np.array([[name in row for name in colour_names.NAMES] for row in names])
    subjects = [(kind, colour) for kind in range(len(shapes.LABELS)) for colour in range(colours)]
    true = captions.true_of(subjects, kinds, possible)
    for title, form in FORMS.items():
        words = [form.format(c=colour_names.NAMES[c], k=shapes.LABELS[k]) for k, c in subjects]
        found = precision_at_10(seen @ towers.texts(words).T, true)
        exact = precision_at_10(seen[clear] @ towers.texts(words).T, true[clear])
        print(
            f'search "{title}": precision at 10 is {np.mean(list(found.values())):.4f} over {len(found)} queries;'
            f" among clear pictures alone {np.mean(list(exact.values())):.4f} over {len(exact)}"
        )
    chances = towers.probabilities(seen, towers.texts(usual))[clear]
    right = true[clear]
    for title, part in (("true", chances[right]), ("untrue", chances[~right])):
        print(f"probabilities of {title} labels: median {np.median(part):.5f}, {np.mean(part > 0.5):.5f} above 1/2")


def report(title, right):
    print(f"{title}: {right.sum()} of {len(right)}, {right.mean():.4f}")


def pictures(towers, folders):
    labels = [f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}" for kind in shapes.LABELS]
    read, usual = towers.texts(labels), captions.usual_captions()
    for folder in folders:
        files = sorted(pathlib.Path(folder).glob("*.png"))
        seen = towers.pictures([Image.open(file).convert("RGB") for file in files])
        kinds = np.array([shapes.LABELS.index(file.name.replace(".", "_").split("_")[0]) for file in files])
        report(folder, (seen @ read.T).argmax(1) == kinds)
        if len(files) < 20:
            best = (seen @ towers.texts(usual).T).argmax(1)
            print("  " + ", ".join(f"{file.name}: {usual[b]}" for file, b in zip(files, best)))


def name(towers, file, labels):
    labels = [label.strip() for label in labels.split(",")]
    chances = towers.probabilities(towers.pictures([Image.open(file).convert("RGB")]), towers.texts(labels))[0]
    for label, chance in sorted(zip(labels, chances), key=lambda pair: -pair[1]):
        print(f"{chance:8.4f}  {label}")


def main():
    folder, command, *rest = sys.argv[1:]
    torch.set_num_threads(1)
    towers = Towers(folder)
    if command == "fresh":
        fresh(towers, int(rest[0]))
    elif command == "pictures":
        pictures(towers, rest)
    elif command == "name":
        name(towers, *rest)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
