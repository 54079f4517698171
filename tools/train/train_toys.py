"""Make the six toy text models from nothing but fixed seeds, as Hugging Face folders with f16 weights.

    python train_toys.py OUT                  # all of them, then the check
    python train_toys.py OUT bert-toy-squad   # one of them; what it is made from must be there
    python train_toys.py OUT check            # the table, and OUT/toys_expected.json

The check loads the folders as transformers does and measures them on texts that no model has learned from;
`toys_world.py` says what the texts are, `toys_models.py` how the models learn.  It uses one thread.
"""

import argparse
import pathlib
import time

import torch
from transformers import AutoTokenizer

import toys_check
import toys_models
import toys_tokens
from toys_world import World, mnli_prompt, squad_prompt

# Name, what it is made from, what makes it, steps, learning rate.
MODELS = [
    ("bert-toy", None, toys_models.bert, 2000, 2e-3),
    ("bert-toy-mnli", "bert-toy", toys_models.bert_mnli, 1200, 1.5e-3),
    ("bert-toy-squad", "bert-toy", toys_models.bert_squad, 1200, 1.5e-3),
    ("gpt2-toy", None, toys_models.gpt2, 2200, 2e-3),
    ("gpt2-toy-mnli", "gpt2-toy", toys_models.gpt2_mnli, 800, 1e-3),
    ("t5-toy", None, toys_models.t5, 2600, 3e-3),
]


def samples():
    """Texts of every sort, for the tokenizers."""
    world, texts = World(1), []
    for _ in range(4000):
        texts += [world.text(), " ".join(world.judged()), " ".join(world.answered())]
        premise, claim, label = world.entailment()
        texts.append(f"{mnli_prompt(premise, claim)} {label}")
        story, asked, answer, _ = world.question()
        texts.append(f"{squad_prompt(asked, story)} {answer}")
    return texts


def make(out, name):
    _, base, train, steps, rate = next(row for row in MODELS if row[0] == name)
    tokenizer = AutoTokenizer.from_pretrained(out / (base or name))
    if base:
        model = train(out / base, tokenizer, steps, rate)
        for file in (out / base).iterdir():
            if file.name in ("vocab.txt", "vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json"):
                (out / name).mkdir(exist_ok=True)
                (out / name / file.name).write_bytes(file.read_bytes())
    else:
        model = train(tokenizer, steps, rate)
    model.half().save_pretrained(out / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, help="where the folders go")
    parser.add_argument("what", nargs="*", help="names of models, `tokenizers` or `check`; everything if left out")
    args = parser.parse_args()
    names = [row[0] for row in MODELS]
    for word in args.what:
        if word not in [*names, "tokenizers", "check"]:
            parser.error(f"{word}: known are {', '.join(names)} tokenizers and check")
    torch.set_num_threads(1)
    if not args.what or "tokenizers" in args.what:
        toys_tokens.write_all(args.out, samples())
    for name in names:
        if not args.what or name in args.what:
            make(args.out, name)
    if not args.what or "check" in args.what:
        toys_check.check(args.out)
    print(f"{time.process_time():.0f} s of processor time")


if __name__ == "__main__":
    main()
