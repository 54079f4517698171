"""PyTorch on the CPU: peer_torch.py MODEL INPUT LOGITS THREADS [--compile]"""

import sys

import torch

import vit


def main():
    folder, source, target, threads = sys.argv[1:5]
    compiled = "--compile" in sys.argv[5:]
    torch.set_num_threads(int(threads))
    model = vit.load(folder)
    run = torch.compile(model) if compiled else model
    pixels = torch.from_numpy(vit.image(source))
    about = {
        "engine": "PyTorch",
        "version": torch.__version__,
        "device": f"CPU ({torch.backends.cpu.get_cpu_capability()})",
        "settings": f"{torch.get_num_threads()} threads, {'compiled' if compiled else 'eager'}",
    }

    def forward():
        with torch.inference_mode():
            return run(pixels).numpy()

    vit.serve(target, about, forward)


main()
