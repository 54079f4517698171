"""Where PyTorch computes, and how to know that it is done."""

import statistics
import time

import torch


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


def milliseconds(run, device, runs=30, warm_up=5):
    """Median time of a run, by CUDA events where there are any, else by the wall clock."""
    times = []
    for i in range(warm_up + runs):
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
    return statistics.median(times[warm_up:])
