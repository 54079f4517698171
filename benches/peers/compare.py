#!/usr/bin/env python3
"""Times the same ViT, weights and input in vit-gpu and its peers, in alternation. See README.md.

Python's standard library only. Exit status: 0 all timed; 1 wrong usage or set-up; 2 logits differ,
nothing was timed; 3 an engine died (with --skip-broken, which does not count
differing logits as a reason to stop either, the others were timed).
"""

import argparse
import array
import datetime
import json
import os
import pathlib
import platform
import random
import select
import shlex
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
# The settings in which burn was fastest, see benches/RESULTS.md; the others are in `--burn-settings`.
BURN = "burn-tune-fusion"
DEFAULT = ["vit-gpu", "burn", "candle", "onnxruntime", "torch"]
BURN_SETTINGS = [
    f"burn{tune + fusion + language or '-plain'}@PEER_ATTENTION={attention}"
    for tune in ("-tune", "")
    for fusion in ("-fusion", "")
    for language in ("", "-wgsl")
    for attention in ("op", "fallback", "mha")
    # Without autotune burn's attention operator is its fallback.
    if tune or attention != "op"
]


class Dead(Exception):
    """An engine that ended, or did not answer in time; says why."""


class Engine:
    """A running peer; the protocol is described in common/src/lib.rs."""

    def __init__(self, spec, options, image, scratch):
        self.spec = spec
        name, *settings = spec.split("@")
        if any("=" not in s for s in settings):
            raise SystemExit(f"compare: {spec}: after @ comes NAME=VALUE")
        # A folder of its own, for logits, log and whatever a peer keeps.
        folder = pathlib.Path(tempfile.mkdtemp(dir=scratch))
        self.logits_file = logits = folder / "logits.safetensors"
        self.log = folder / "log"
        files = [str(options.model), str(image), str(logits)]
        python = [options.python, str(HERE / "python")]
        modes = name.split("+")[1:]
        name = name.split("+")[0]
        if name in ("torch", "onnxruntime"):
            script = {"torch": "peer_torch.py", "onnxruntime": "peer_ort.py"}[name]
            command = [python[0], f"{python[1]}/{script}", *files, str(options.threads)]
            command += [f"--{mode}" for mode in modes]
        else:
            binary = options.bin / f"peer-{BURN if name == 'burn' else name}"
            if not binary.is_file():
                raise Dead(f"no {binary}; build.sh makes it")
            command = [str(binary), *files]
            if not name.startswith("candle"):
                command = options.gpu_prefix + command
        threads = str(options.threads)
        variables = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")
        extra = dict(s.split("=", 1) for s in settings)
        environment = {**os.environ, **dict.fromkeys(variables, threads), **dict(options.env), **extra}
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            env=environment,
            cwd=PROJECT,
            # Its own group, so that what a prefix command started ends with it.
            start_new_session=True,
        )
        self.unread = b""
        self.times, self.cpu_times = [], []
        self.about = {}

    def answer(self, limit):
        """The next line of the protocol, without `peer `."""
        until = time.monotonic() + limit
        out = self.process.stdout.fileno()
        while True:
            line, newline, rest = self.unread.partition(b"\n")
            if newline:
                self.unread = rest
                if line.startswith(b"peer "):
                    return line[5:].decode()
                continue
            left = until - time.monotonic()
            if left <= 0 or not select.select([out], [], [], left)[0]:
                self.end()
                raise Dead(f"no answer within {limit} s")
            data = os.read(out, 65536)
            if not data:
                raise Dead(self.cause())
            self.unread += data

    def cause(self):
        """How it ended, with its last words."""
        code = self.process.wait()
        # A shell in the prefix reports a signal as 128 + number.
        number = -code if code < 0 else code - 128
        try:
            how = signal.Signals(number).name
        except ValueError:
            how = f"exit status {code}"
        words = self.log.read_text(errors="replace").strip().splitlines()
        # The Vulkan loader says this of every program without a desktop.
        words = [w for w in words if "XDG_RUNTIME_DIR" not in w]
        panics = [i for i, w in enumerate(words) if "panicked at" in w]
        tail = words[panics[0] : panics[0] + 2] if panics else words[-2:]
        return f"{how}: {' '.join(tail)[:300]}" if tail else how

    def ready(self, limit):
        word, _, about = self.answer(limit).partition(" ")
        if word != "ready":
            raise Dead(f"said `{word}` instead of `ready`")
        self.about = json.loads(about)
        self.logits = read_tensor(self.logits_file, "logits")

    def run(self, limit):
        try:
            self.process.stdin.write(b"run\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Dead(self.cause()) from None
        seconds, cpu_seconds = self.answer(limit).split()
        return float(seconds), float(cpu_seconds)

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def write_image(path, batch, seed, size=224):
    """(B,3,H,W), uniform in (-1, 1), from a fixed seed."""
    source = random.Random(seed)
    values = array.array("f", (source.uniform(-1, 1) for _ in range(batch * 3 * size * size)))
    if sys.byteorder == "big":
        values.byteswap()
    data = values.tobytes()
    entry = {"dtype": "F32", "shape": [batch, 3, size, size], "data_offsets": [0, len(data)]}
    header = json.dumps({"image": entry}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def read_tensor(path, name):
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    entry = json.loads(data[8 : 8 + length])[name]
    first, last = (8 + length + offset for offset in entry["data_offsets"])
    values = array.array("f", data[first:last])
    if sys.byteorder == "big":
        values.byteswap()
    return values


def distance(a, b):
    """The largest difference; infinite where anything is not a number or a length differs."""
    if len(a) != len(b) or any(x != x for x in a) or any(x != x for x in b):
        return float("inf")
    return max(abs(x - y) for x, y in zip(a, b))


def first_line(command):
    try:
        out = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True).stdout
        return out.strip().splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def arguments():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE / "target"))
    p = argparse.ArgumentParser(
        description="Times the same ViT in vit-gpu and its peers, in alternation.",
        epilog="An engine is NAME[+MODE][@VARIABLE=VALUE...]: vit-gpu, candle, torch[+compile], "
        "onnxruntime[+transformers], burn (its best settings), or burn-plain, burn[-tune][-fusion][-wgsl]"
        "@PEER_ATTENTION=op|fallback|mha@PEER_LINEAR=row|col.",
    )
    p.add_argument("engines", nargs="*", help=f"default: {' '.join(DEFAULT)}")
    p.add_argument("--model", type=pathlib.Path, required=True, help="folder in Hugging Face's layout")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--rounds", type=int, default=9, help="timed runs of each engine (default 9)")
    p.add_argument("--warm-up", type=int, default=2, help="untimed runs before that (default 2)")
    p.add_argument("--pause", type=float, default=0.3, help="seconds of rest before each run (default 0.3)")
    p.add_argument("--threads", type=int, default=cores, help=f"for every engine (default {cores})")
    p.add_argument("--env", action="append", default=[], metavar="VARIABLE=VALUE", help="for every engine")
    p.add_argument("--gpu-prefix", default="", metavar="COMMAND", help="starts vit-gpu and burn by this")
    p.add_argument("--bin", type=pathlib.Path, default=target / "peers", help="where build.sh put the programs")
    p.add_argument("--python", default=sys.executable, help="a Python that has torch and onnxruntime")
    p.add_argument("--limit", type=float, default=1e-3, help="largest difference of logits (default 1e-3)")
    p.add_argument("--timeout", type=float, default=900, help="seconds to wait for an answer (default 900)")
    p.add_argument("--seed", type=int, default=7, help="of the input")
    p.add_argument("--skip-broken", action="store_true", help="leave out what dies or answers wrongly")
    p.add_argument("--burn-settings", action="store_true", help="vit-gpu against every setting of burn")
    p.add_argument("--json", type=pathlib.Path, help="every sample, as JSON")
    options = p.parse_args()
    if not (options.model / "config.json").is_file():
        p.error(f"no config.json in {options.model}; see README.md for how to make a model")
    if bad := [e for e in options.env if "=" not in e]:
        p.error(f"--env {bad[0]}: expected VARIABLE=VALUE")
    options.model = options.model.resolve()
    options.bin = options.bin.resolve()
    options.env = [e.split("=", 1) for e in options.env]
    options.gpu_prefix = shlex.split(options.gpu_prefix)
    options.engines = options.engines or (["vit-gpu", "torch", *BURN_SETTINGS] if options.burn_settings else DEFAULT)
    return options


def start(options, image, scratch, failures):
    """Starts the engines one after the other: while one loads and tunes, no other runs."""
    engines = []
    for spec in options.engines:
        try:
            engine = Engine(spec, options, image, scratch)
            engines.append(engine)
            engine.ready(options.timeout)
        except Dead as why:
            failures[spec] = str(why)
            engines = [e for e in engines if e.spec != spec]
            print(f"compare: {spec} failed: {why}", file=sys.stderr)
            continue
        about = engine.about
        print(
            f"compare: {spec}: {about['engine']} {about['version']}, {about['device']}, "
            f"{about['settings']}; first run {about['first_s']} s",
            file=sys.stderr,
        )
    return engines


def agree(engines, options, failures):
    """Compares logits with those of vit-gpu and PyTorch; returns the engines to time."""
    references = [e for e in engines if e.about["engine"] in ("vit-gpu", "PyTorch")]
    if not references:
        raise SystemExit("compare: neither vit-gpu nor torch answered: nothing to compare logits with")
    print(f"\nLargest difference of {len(engines[0].logits)} logits (limit {options.limit:g}):\n")
    print("| engine |" + "".join(f" {r.spec} |" for r in references))
    print("|---|" + "---|" * len(references))
    good, wrong = [], []
    for engine in engines:
        differences = [distance(engine.logits, r.logits) for r in references]
        print(f"| {engine.spec} |" + "".join(f" {d:.2e} |" for d in differences))
        (good if max(differences) < options.limit else wrong).append(engine)
    spread = max(engines[0].logits) - min(engines[0].logits)
    print(f"\nThe logits of {engines[0].spec} span {spread:.2f}.")
    if wrong and (not options.skip_broken or any(r in wrong for r in references)):
        print(f"compare: refused, logits differ: {', '.join(e.spec for e in wrong)}", file=sys.stderr)
        sys.exit(2)
    for engine in wrong:
        failures[engine.spec] = "logits differ"
        engine.end()
    return good


def measure(engines, options, failures):
    for turn in range(options.warm_up + options.rounds):
        for engine in list(engines):
            time.sleep(options.pause)
            try:
                seconds, cpu_seconds = engine.run(options.timeout)
            except Dead as why:
                failures[engine.spec] = str(why)
                engines.remove(engine)
                continue
            if turn >= options.warm_up:
                engine.times.append(seconds)
                engine.cpu_times.append(cpu_seconds)


def report(engines, options, failures):
    commit = first_line(["git", "describe", "--always", "--dirty"])
    now = datetime.datetime.now(datetime.timezone.utc)
    settings = "".join(f", {k}={v}" for k, v in options.env)
    print(
        f"\n{options.model.name}, batch {options.batch}, {options.rounds} rounds in alternation, "
        f"{options.threads} threads{settings}; {processor()}; {now:%Y-%m-%d}, commit {commit}\n"
    )
    base = next((e for e in engines if e.about["engine"] == "vit-gpu"), engines[0])
    median = {e.spec: statistics.median(e.times) for e in engines}
    cpu = {e.spec: statistics.median(e.cpu_times) for e in engines}
    columns = "engine | device | settings | median ms | min | max | images/s | CPU ms"
    print(f"| {columns} | time / {base.spec}'s | CPU time / {base.spec}'s |")
    print("|---" * 10 + "|")
    for e in engines:
        milliseconds = [1e3 * t for t in e.times]
        about = e.about
        version = "" if about["engine"] == "vit-gpu" else f" {about['version']}"
        # A peer reports its own variables itself; what drivers and libraries read stands here.
        others = [s for s in e.spec.split("@")[1:] if not s.startswith("PEER_")]
        settings = ", ".join([about["settings"], *others])
        print(
            f"| {about['engine']}{version} | {about['device']} | {settings} | {1e3 * median[e.spec]:.1f} "
            f"| {min(milliseconds):.1f} | {max(milliseconds):.1f} | {options.batch / median[e.spec]:.2f} "
            f"| {1e3 * cpu[e.spec]:.0f} | {median[e.spec] / median[base.spec]:.2f} "
            f"| {cpu[e.spec] / cpu[base.spec]:.2f} |"
        )
    for spec, why in failures.items():
        print(f"\n{spec}: not timed: {why}")
    if options.json:
        document = {
            "model": str(options.model),
            "batch": options.batch,
            "threads": options.threads,
            "env": dict(options.env),
            "commit": commit,
            "date": now.isoformat(timespec="seconds"),
            "processor": processor(),
            "engines": [{"spec": e.spec, **e.about, "seconds": e.times, "cpu_seconds": e.cpu_times}
                for e in engines
            ],
            "failures": failures,
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n")


def main():
    options = arguments()
    failures, engines = {}, []
    with tempfile.TemporaryDirectory(prefix="vit-gpu-peers-") as name:
        scratch = pathlib.Path(name)
        image = scratch / "image.safetensors"
        write_image(image, options.batch, options.seed)
        try:
            engines = start(options, image, scratch, failures)
            if failures and not options.skip_broken:
                print("compare: --skip-broken times the others all the same", file=sys.stderr)
                return 3
            engines = agree(engines, options, failures)
            measure(engines, options, failures)
            report(engines, options, failures)
        finally:
            for engine in engines:
                engine.end()
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
