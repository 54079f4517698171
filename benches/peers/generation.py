#!/usr/bin/env python3
"""Times LlamaGen's token loop in vit-gpu, candle and PyTorch, in turn, on the same weights; and the picture decoder
in vit-gpu and PyTorch.

    generation.py --model FOLDER --python PYTHON [--gpu-prefix "scripts/latest-mesa.sh --run"] [--rounds 3]

Each engine draws the same picture greedily with guidance, a process of its own each time, A B C A B C; ids are compared
first (with random weights the best two scores may lie closer than rounding, so the length of the common beginning is
printed, not demanded).  Medians and ratios are printed; loading and the first token are not part of the times.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


def run(command, **variables):
    done = subprocess.run(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout + done.stderr


def vit_gpu(options, folder):
    tokens, picture = pathlib.Path(folder) / "t.json", pathlib.Path(folder) / "p.png"
    text = run([*options.gpu_prefix.split(), options.vit_gpu, "generate", "-m", options.model, "--class", options.label,
                "--seed", "1", "--temperature", "0", "--top-k", "0", "--top-p", "1", "--cfg-scale", options.scale,
                "--stats", "--tokens", tokens, "-o", picture, "--preview", "never"],
               LP_NUM_THREADS=options.threads)  # fmt: skip
    number = lambda name: float(re.search(rf"^{name}\s+([0-9.]+)", text, re.M)[1])
    ids = [one for row in json.loads(tokens.read_text())["samples"][0]["tokens"] for one in row]
    return {"engine": "vit-gpu", "tokens_per_second": number("tokens/s"), "picture_seconds": number("images") / 1e3,
            "ids": ids}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--vit-gpu", default="target/release/vit-gpu")
    parser.add_argument("--candle", default=HERE / "target/peers/peer-candle-llamagen")
    parser.add_argument("--gpu-prefix", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", default="256")
    parser.add_argument("--label", default="207")
    parser.add_argument("--scale", default="4")
    parser.add_argument("--threads", default=str(os.cpu_count()))
    options = parser.parse_args()
    what = [options.model, options.label, options.scale, options.tokens]
    torch = [options.python, HERE / "python/llamagen.py", *what, "--pictures", "3"]
    engines = {
        "vit-gpu": lambda folder: vit_gpu(options, folder),
        "candle": lambda _: json.loads(run([options.candle, *what], RAYON_NUM_THREADS=options.threads).splitlines()[-1]),
        "PyTorch": lambda _: json.loads(run(torch, OMP_NUM_THREADS=options.threads).splitlines()[-1]),
    }
    results = {name: [] for name in engines}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, engine in engines.items():
                results[name].append(engine(folder))
    ours = results["vit-gpu"][0]["ids"]
    print("| engine | tokens/s | vit-gpu's / its | picture s | its / vit-gpu's | ids as vit-gpu's |\n|---|---|---|---|---|---|")
    median = lambda name, key: statistics.median(r[key] for r in results[name]) if key in results[name][0] else None
    speed, picture = median("vit-gpu", "tokens_per_second"), median("vit-gpu", "picture_seconds")
    for name in engines:
        ids = results[name][0]["ids"]
        same = next((i for i, (a, b) in enumerate(zip(ours, ids)) if a != b), min(len(ours), len(ids)))
        its, seconds = median(name, "tokens_per_second"), median(name, "picture_seconds")
        rest = f"{seconds:.2f} | {seconds / picture:.2f}" if seconds else "| "
        print(f"| {results[name][0]['engine']} | {its:.2f} | {speed / its:.2f} | {rest} | first {same} |")


if __name__ == "__main__":
    main()
