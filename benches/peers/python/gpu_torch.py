"""PyTorch on one GPU, for the rows of benches/RESULTS.md: matrix products, and a ViT with random weights in f16.

    python gpu_torch.py [--gemm N] [--vit vit-b/16] [--batches 1,64] [--compiled 1,64] [--device auto]
    python gpu_torch.py --same FOLDER [--batch 64] [--dtype float16] [--device auto]

Prints a line of JSON for each as soon as it is measured.  The matrix products are N^3, in f16, in f32, and in f32 with
TF32 allowed; the ViT is eager, and for the batches of --compiled also compiled by `torch.compile` into CUDA graphs
(what does not compile says why).  Times are medians of 30 runs, input and weights on the card.
"""

import argparse
import json
import pathlib
import traceback

import numpy
import torch

import torch_device
import vit

SIZES = {"vit-ti": (192, 3), "vit-s": (384, 6), "vit-b": (768, 12), "vit-l": (1024, 16)}


def config(name):
    """The configuration of `vit-b/16`."""
    size, patch = name.split("/")
    width, heads = SIZES[size]
    return {
        "image_size": 224, "patch_size": int(patch), "hidden_size": width, "intermediate_size": 4 * width,
        "num_hidden_layers": 24 if size == "vit-l" else 12, "num_attention_heads": heads, "layer_norm_eps": 1e-12,
    }  # fmt: skip


def tell(item, **gave):
    torch_device.line({"item": item, **gave})


def gemms(device, side):
    flops = 2 * side**3
    for name, dtype, tf32 in (("f16", torch.float16, False), ("f32", torch.float32, False), ("tf32", torch.float32, True)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        # As vit-gpu's: one operand comes from a ReLU. Zeros make products cheaper.
        a, b = torch.rand(2, side, side, device=device).mul(2).sub(1).to(dtype)
        a = torch.relu(a)
        ms = torch_device.milliseconds(lambda: a @ b, device)
        tell(f"gemm {side}x{side}x{side} {name}", median_us=ms * 1e3, gflops=flops / ms / 1e6)
    torch.backends.cuda.matmul.allow_tf32 = False


def vits(device, name, eager, compiled):
    model = vit.Vit(config(name), 1000).eval().to(device, torch.float16)
    ways = [("eager", model, eager)]
    if compiled:
        ways.append(("compiled", torch.compile(model, mode="reduce-overhead", dynamic=False), compiled))
    for way, run, batches in ways:
        for batch in batches:
            image = torch.randn(batch, 3, 224, 224, device=device, dtype=torch.float16)
            item = f"{name} f16 batch {batch} {way}"
            try:
                ms = torch_device.milliseconds(lambda: run(image), device)
                tell(item, ms=ms, images_per_second=batch / ms * 1e3)
            except Exception as e:  # Compilers are missing in many ways; the other rows are still worth having.
                traceback.print_exc()
                lines = [l for l in str(e).splitlines() if l.strip()] or ["nothing was said"]
                tell(item, failure=f"{type(e).__name__}: {lines[0]}")


def same(device, folder, batch, dtype):
    """The answers of a folder's model, for images that `gpu classify` makes by the same formula."""
    model = vit.load(folder).to(device, getattr(torch, dtype))
    side = json.loads((pathlib.Path(folder) / "config.json").read_text())["image_size"]
    i = numpy.arange(batch * 3 * side * side, dtype=numpy.uint32)
    pixels = ((i * numpy.uint32(2654435761)) >> numpy.uint32(16)).astype(numpy.float32) / 32768 - 1
    image = torch.from_numpy(pixels).view(batch, 3, side, side).to(device, getattr(torch, dtype))
    logits = model(image).float().cpu()
    return {"logits": logits[:, :16].flatten().tolist(), "ids": logits.argmax(-1).tolist()}


def main():
    numbers = lambda text: [int(n) for n in text.split(",") if n]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gemm", type=int, default=0, help="side of the matrices; 0 for none")
    parser.add_argument("--vit", default="vit-b/16")
    parser.add_argument("--batches", type=numbers, default=[])
    parser.add_argument("--compiled", type=numbers, default=[])
    parser.add_argument("--same", metavar="FOLDER", help="print the answers of this model and nothing else")
    parser.add_argument("--batch", type=int, default=64, help="images of --same")
    parser.add_argument("--dtype", default="float32", help="of --same")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    device = torch_device.choose(options.device)
    engine = {"engine": f"PyTorch {torch.__version__} ({torch_device.describe(device)})"}
    with torch.inference_mode():
        if options.same:
            torch_device.line({**engine, **same(device, options.same, options.batch, options.dtype)})
            return
        torch_device.line(engine)
        if options.gemm:
            gemms(device, options.gemm)
        vits(device, options.vit, options.batches, options.compiled)


if __name__ == "__main__":
    main()
