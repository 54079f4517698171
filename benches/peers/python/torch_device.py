"""Where PyTorch computes, how to know that it is done, and how to say so."""

import json
import math
import statistics
import time

import torch

# f32 means f32, in convolutions too.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False


def choose(name):
    """The device of `--device`; `auto` is the best there is: CUDA (or ROCm), Metal, the CPU."""
    if name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def describe(device):
    """What a report says of it."""
    return torch.cuda.get_device_name() if device == "cuda" else device


def finished(device):
    """The time, when what was launched is done."""
    device = str(device)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    elif device.startswith("mps"):
        torch.mps.synchronize()
    return time.perf_counter()


def milliseconds(run, device, runs=30):
    """Median time of a run, by CUDA events where there are any, else by the wall clock; after 5 runs and 0.2 s of them,
    in which an idle card's clocks rise."""
    begun = finished(device)
    for i in range(1000):
        run()
        if i >= 4 and finished(device) - begun > 0.2:
            break
    times = []
    for _ in range(runs):
        if device == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            run()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
        else:
            start = finished(device)
            run()
            times.append((finished(device) - start) * 1e3)
    return statistics.median(times)


def line(document):
    """Prints a document as one line of JSON; what is not finite, JSON cannot say: null."""
    clean = lambda x: [clean(y) for y in x] if isinstance(x, list) else None if isinstance(x, float) and not math.isfinite(x) else x
    print(json.dumps({key: clean(value) for key, value in document.items()}, allow_nan=False), flush=True)
