"""What `builtin:shapes-clip` reads: captions of the pictures of `shapes.py`, and their tokenizer.

A caption tells a kind, a colour, both, or something that no picture shows; whether it is true of a picture
follows from these (`true_of`).  The tokenizer is of SigLIP's kind: lower case, no ASCII punctuation, a Unigram
model over words that begin with a metaspace, `</s>` behind the text and as padding.  Letters and digits are
pieces of their own, so that words it never saw are spelled; other characters become `<unk>`.

Run as a script to see captions and their tokens:  python shapes_captions.py
"""

import collections
import itertools
import math
import string

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import shapes
from colour_names import NAMES

PLACES = 16  # tokens of a text, padded
END = 1  # `</s>`, which pads too

# Other words for the same, used now and then; the first word is the usual one.
KIND_WORDS = {kind: [kind] for kind in shapes.LABELS} | {
    "circle": ["circle", "disc", "disk", "dot"],
    "ellipse": ["ellipse", "oval"],
    "ring": ["ring", "donut"],
    "semicircle": ["semicircle", "half circle"],
    "crescent": ["crescent", "crescent moon", "moon"],
    "cross": ["cross", "plus", "plus sign"],
    "drop": ["drop", "teardrop", "raindrop"],
    "bolt": ["bolt", "lightning bolt", "flash"],
}
COLOUR_WORDS = {name: [name] for name in NAMES} | {
    "grey": ["grey", "gray"],
    "cyan": ["cyan", "turquoise", "teal"],
    "purple": ["purple", "violet"],
}
USUAL = 0.8  # how often the usual word stands

# "~" stands for the article that fits; "^" for an adjective that tells nothing, or for no word.
STARTS = [
    "", "~", "~", "~", "the", "a picture of ~", "a photo of ~", "this is ~", "this is a photo of ~", "there is ~",
    "an image of ~", "a drawing of ~", "a photo of", "i see ~", "one", "it is ~", "a picture with ~", "a shape, ~",
]  # fmt: skip
BOTH = ["{c} {k}"] * 6 + ["{k} that is {c}", "{c} coloured {k}", "{c} colored {k}", "{k} in {c}", "^ {c} {k}"]
BOTH_ALONE = [
    "the {k} is {c}", "{k}, {c}", "the {c} shape is a {k}", "the {k} has the colour {c}", "{c} {k}s", "{c}, {k}",
]  # fmt: skip
KIND = ["{k}"] * 5 + ["{k} of any colour", "{k} shape", "^ {k}"]
KIND_ALONE = ["the shape is ~ {k}", "any {k}", "{k}s"]
COLOUR = ["{c} shape", "{c} thing", "{c} object", "{c} figure", "^ {c} shape"]
COLOUR_ALONE = [
    "something {c}", "{c}", "something {c}", "anything {c}", "the shape is {c}", "the thing is {c}", "{c} things",
]  # fmt: skip
ADJECTIVES = ["big", "small", "large", "little", "nice", "bright", "single", "simple", "filled", "beautiful"]
ENDS = ["", "", "", "", "", "", "", " on a background", " in the picture", " on a plain background", " in the middle"]
ELSEWHERE = """cat dog bird horse fish car bus train plane bicycle tree flower house table chair window door person man
woman child face hand book cup bottle apple banana pizza cake cow sheep boat ship road bridge city mountain river lake
sea beach sky cloud sun rain snow forest garden computer phone keyboard letter number word map ball toy guitar piano
hat shoe shirt dress clock lamp bed knife spoon plate food drink animal insect butterfly frog mouse bear lion tiger
elephant airport street kitchen office school church castle tower building""".split()


def choice(rng, items):
    return items[rng.integers(len(items))]


def word(rng, words):
    return words[0] if len(words) == 1 or rng.random() < USUAL else choice(rng, words[1:])


def filled_in(rng, text):
    """Articles and adjectives in place of their signs; one article in ten is the wrong one."""
    text = text.replace("^", choice(rng, ADJECTIVES) if rng.random() < 0.7 else "")
    words = text.split()
    for index, here in enumerate(words):
        if here == "~":
            vowel = index + 1 < len(words) and words[index + 1][0] in "aeiou"
            words[index] = "an" if vowel != (rng.random() < 0.1) else "a"
    return " ".join(words)


def caption(rng, kind=None, colour=None):
    """A text about a kind (its number), a colour (its number), both, or about neither: something else."""
    if kind is None and colour is None:
        noun = choice(rng, ELSEWHERE)
        if rng.random() < 0.2:
            noun = "".join(choice(rng, string.ascii_lowercase) for _ in range(rng.integers(2, 8)))
        return filled_in(rng, f"{choice(rng, STARTS)} {noun}{choice(rng, ENDS)}")
    words = {}
    if kind is not None:
        words["k"] = word(rng, KIND_WORDS[shapes.LABELS[kind]])
    if colour is not None:
        words["c"] = word(rng, COLOUR_WORDS[NAMES[colour]])
    forms, alone = (KIND, KIND_ALONE) if colour is None else (COLOUR, COLOUR_ALONE) if kind is None else (BOTH, BOTH_ALONE)
    share = 0.5 if kind is None else 0.12
    text = choice(rng, alone) if rng.random() < share else f"{choice(rng, STARTS)} {choice(rng, forms)}{choice(rng, ENDS)}"
    return filled_in(rng, text.format(**words))


def true_of(subjects, kinds, names):
    """Which captions are true of which pictures, bool [pictures, captions].

    `subjects`: (kind or None, colour or None) of each caption, None and None for something else.  `kinds`: the
    pictures' kinds; `names`: bool [pictures, colours], the names that each picture's colour may be called.
    """
    rows = [
        np.zeros(len(kinds), bool) if kind is None and colour is None
        else (np.full(len(kinds), True) if kind is None else kinds == kind)
        & (np.full(len(kinds), True) if colour is None else names[:, colour])
        for kind, colour in subjects
    ]  # fmt: skip
    return np.stack(rows, 1)


def usual_captions():
    """The captions "a red star" of all kinds and colours, in the order of kinds, and in these of colours."""
    pairs = itertools.product(shapes.LABELS, NAMES)
    return [f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {kind}" for kind, colour in pairs]


def make_tokenizer(seed=1):
    """The tokenizer: every word of many random captions is a piece, and so is every letter and digit."""
    rng = np.random.default_rng(seed)
    texts = [caption(rng, *subject) for subject in random_subjects(rng, 20000) if subject != (None, None)]
    counts = collections.Counter(" ".join(texts).replace(",", "").split())
    counts.update({noun: 20 for noun in ELSEWHERE})
    total = sum(counts.values())
    words = [("\u2581" + word, math.log(count / total)) for word, count in sorted(counts.items())]
    # Worse than any word, so that letters serve only where no word fits.
    signs = [(sign, -20.0) for sign in "\u2581" + string.ascii_lowercase + string.digits]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -30.0)] + words + signs
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Lowercase(), normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
        normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="</s>",
        model_max_length=PLACES, model_input_names=["input_ids"],
    )  # fmt: skip


def random_subjects(rng, count):
    """Subjects of captions: both, the kind, the colour, or something else."""
    kinds, colours = rng.integers(len(shapes.LABELS), size=count), rng.integers(len(NAMES), size=count)
    return [
        (None, None) if told > 0.9 else (int(kind) if told < 0.8 else None, int(colour) if told < 0.6 or told >= 0.8 else None)
        for kind, colour, told in zip(kinds, colours, rng.random(count))
    ]


if __name__ == "__main__":
    source, tokenizer = np.random.default_rng(2), make_tokenizer()
    print(len(tokenizer), "pieces")
    for subject in random_subjects(source, 40):
        text = caption(source, *subject)
        print(f"{text:50} {' '.join(tokenizer.tokenize(text))}")
    for text in ["Grün & blue hearts!!", "A Zebra, 3 stars", "", "星"]:
        print(repr(text), tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]))
