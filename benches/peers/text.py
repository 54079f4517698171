#!/usr/bin/env python3
"""Times BERT, GPT-2 and T5 in vit-gpu, candle and PyTorch, in turn, on the same weights and token ids, f32.

    text.py --bert FOLDER --gpt2 FOLDER --t5 FOLDER --python PYTHON [--gpu-prefix "scripts/latest-mesa.sh --run"]

Any of the three models may be left out.  BERT passes over 8 rows of 128 tokens; GPT-2 reads 512 tokens and draws 64; T5
encodes 128 and draws 32; greedily, from the same random ids, an end token or not.  Each engine is a process of its own
each round, A B C A B C, that runs once uncounted and then --runs times.  Logits of BERT must agree to 1e-3 and ids should
be the same (with random weights the best two scores may lie closer than rounding, so the length of the common beginning
is printed, not demanded).  Medians over the rounds, and ratios to the first engine; above 1 the first engine is faster.
The largest resident size of an engine's processes is printed too: it holds the weights, and for vit-gpu on a software
adapter also what is on the adapter.

An engine is a program called as `PROGRAM bert|gpt2|t5 FOLDER IDS.json RUNS` (vit-gpu's as `PROGRAM text bert ...`), whose
last line of output is JSON with `engine` and, of bert, `seconds` and `logits`, of the others `first_seconds`,
`tokens_per_second` and `ids`, of t5 also `encode_seconds`, the encoder alone, if it can tell.  IDS.json is
`{"ids": [[...], ...], "new": N}`.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# Rows, tokens in a row, tokens to draw, and the ids to choose from.
WORK = {"bert": (8, 128, 0, 1000, 30_000), "gpt2": (1, 512, 64, 0, 50_000), "t5": (1, 128, 32, 2, 32_000)}
# Figure, its heading, whether more is better.
FIGURES = [
    ("seconds", "pass, s", False),
    ("encode_seconds", "encoder, s", False),
    ("first_seconds", "first token, s", False),
    ("tokens_per_second", "tokens/s", True),
]


def run(command, **variables):
    """The JSON of an engine's last line, with the most memory that was resident in MB."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(map(str, command)), env={**os.environ, **variables}, stdout=out, stderr=errors
            )
        except OSError as e:
            sys.exit(f"{command[0]} cannot be started: {e}")
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, errors):
            file.seek(0)
        text, complaint = out.read().decode(), errors.read().decode()
    if process.returncode or not text.strip():
        sys.exit(f"{' '.join(map(str, command))} failed with {process.returncode}:\n{complaint[-2000:]}")
    return {**json.loads(text.splitlines()[-1]), "resident_mb": used.ru_maxrss / 1e6 * 1024}


def engines(options, kind):
    """What to start for a model, by name."""
    folder, threads = vars(options)[kind], options.threads
    call = lambda ids: [folder, ids]
    runs = options.runs
    found = {}
    if options.vit_gpu:
        prefix = options.gpu_prefix.split()
        found["vit-gpu"] = lambda ids: run(
            [*prefix, options.vit_gpu, "text", kind, *call(ids), runs], LP_NUM_THREADS=threads
        )
    candle = lambda name: lambda ids: run([options.candle, name, *call(ids), runs], RAYON_NUM_THREADS=threads)
    if options.candle:
        found["candle"] = candle(kind)
        if kind == "t5":
            found["candle's own"] = candle("t5-library")
    if options.python:
        torch = [options.python, HERE / "python/text_models.py", kind]
        found["PyTorch"] = lambda ids: run([*torch, *call(ids), "--runs", runs], OMP_NUM_THREADS=threads)
    return found


def same(first, other):
    """What to say of two answers."""
    if "logits" in first:
        worst = max(abs(a - b) for a, b in zip(first["logits"], other["logits"]))
        if len(first["logits"]) != len(other["logits"]) or not worst < 1e-3:
            sys.exit(f"logits of {first['engine']} and {other['engine']} differ by {worst}")
        return f"logits within {worst:.1e}"
    count = min(len(first["ids"]), len(other["ids"]))
    equal = next((i for i in range(count) if first["ids"][i] != other["ids"][i]), count)
    return f"first {equal} of {len(other['ids'])} ids"


def compare(options, kind):
    rows, width, new, low, high = WORK[kind]
    choose = random.Random(options.seed)
    ids = [[choose.randrange(low, high) for _ in range(width)] for _ in range(rows)]
    found = engines(options, kind)
    results = {name: [] for name in found}
    with tempfile.TemporaryDirectory() as folder:
        asked = pathlib.Path(folder) / "ids.json"
        asked.write_text(json.dumps({"ids": ids, "new": new}))
        for _ in range(options.rounds):
            for name, engine in found.items():
                results[name].append(engine(asked))
    median = lambda name, key: statistics.median(r[key] for r in results[name]) if key in results[name][0] else None
    leader = next(iter(results))
    shown = [f for f in FIGURES if any(f[0] in r[0] for r in results.values())]
    heads = [part for _, head, _ in shown for part in (head, f"{leader} ahead")]
    print(f"\n{kind}: {rows} x {width} tokens" + (f", {new} drawn" if new else ""))
    print(f"| engine | {' | '.join(heads)} | resident MB | answer as {leader}'s |")
    print("|---" * (len(heads) + 3) + "|")
    for name, kept in results.items():
        cells = []
        for key, _, more in shown:
            mine, theirs = median(leader, key), median(name, key)
            cells.append("" if theirs is None else f"{theirs:.4g}")
            ratio = None if None in (mine, theirs) else (mine / theirs if more else theirs / mine)
            cells.append("" if ratio is None else f"{ratio:.2f}")
        answer = same(results[leader][0], kept[0])
        resident = max(r["resident_mb"] for r in kept)
        print(f"| {kept[0]['engine']} | {' | '.join(cells)} | {resident:.0f} | {answer} |", flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in WORK:
        parser.add_argument(f"--{kind}", help=f"folder of a {kind} model; without it, none is timed")
    parser.add_argument("--python", default=sys.executable, help="with PyTorch; '' for none")
    kit = HERE.parent.parent / "target/gpu-bench/gpu"
    parser.add_argument("--vit-gpu", default=kit, help="made by `benches/gpu.sh --pack`; '' for none")
    parser.add_argument("--candle", default=HERE / "target/peers/peer-candle-text", help="'' for none")
    parser.add_argument("--gpu-prefix", default="", help="before vit-gpu's command")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", default="3", help="that a process counts")
    parser.add_argument("--seed", type=int, default=1, help="of the token ids")
    parser.add_argument("--threads", default=str(os.cpu_count()))
    parser.add_argument("--json", help="keeps every figure here")
    options = parser.parse_args()
    kinds = [kind for kind in WORK if vars(options)[kind]]
    if not kinds:
        sys.exit("name at least one folder: --bert, --gpt2 or --t5")
    kept = {kind: compare(options, kind) for kind in kinds}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
