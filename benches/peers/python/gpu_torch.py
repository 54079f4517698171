"""PyTorch on one NVIDIA card, for the GPU rows of benches/RESULTS.md: gpu_torch.py [BATCH ...]

ViT-B/16 with random weights in f16, eager and compiled, and one f16 matrix product of 4096^3. Times
are medians of 30 runs by CUDA events after warm-up, input and weights on the card. One line each.
"""

import statistics
import sys

import torch

import vit

VIT_B16 = {
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "layer_norm_eps": 1e-12,
}


def milliseconds(run, runs=30):
    for _ in range(5):
        run()
    times = []
    for _ in range(runs):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def main():
    batches = [int(a) for a in sys.argv[1:]] or [1, 64, 128, 256, 512]
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")
    with torch.inference_mode():
        a, b = (torch.randn(4096, 4096, device="cuda", dtype=torch.float16) for _ in range(2))
        ms = milliseconds(lambda: a @ b)
        print(f"torch gemm 4096x4096x4096 f16: {ms:.3f} ms, {2 * 4096**3 / ms / 1e9:.0f} TFLOP/s")
        model = vit.Vit(VIT_B16, 1000).eval().cuda().half()
        compiled = torch.compile(model, mode="max-autotune")
        for batch in batches:
            image = torch.randn(batch, 3, 224, 224, device="cuda", dtype=torch.float16)
            for name, run in (("eager", model), ("compiled", compiled)):
                ms = milliseconds(lambda: run(image))
                print(f"torch vit-b/16 f16 batch {batch} {name}: {ms:.3f} ms, {batch / ms * 1e3:.0f} images/s", flush=True)


main()
