"""onnxruntime on the CPU: peer_ort.py MODEL INPUT LOGITS THREADS [--transformers]

The graph is the PyTorch model of vit.py, exported here for the input's batch size.
`--transformers` rewrites it first by onnxruntime's own transformer optimiser (fused attention).
"""

import pathlib
import sys
import tempfile

import onnxruntime
import torch

import vit


def export(folder, pixels, path):
    with torch.inference_mode():
        torch.onnx.export(
            vit.load(folder),
            (torch.from_numpy(pixels),),
            str(path),
            input_names=["image"],
            output_names=["logits"],
            opset_version=17,
            dynamo=False,
            verbose=False,
        )


def main():
    folder, source, target, threads = sys.argv[1:5]
    rewritten = "--transformers" in sys.argv[5:]
    pixels = vit.image(source)
    with tempfile.TemporaryDirectory() as scratch:
        path = pathlib.Path(scratch) / "vit.onnx"
        export(folder, pixels, path)
        if rewritten:
            from onnxruntime.transformers import optimizer

            model = optimizer.optimize_model(str(path), model_type="vit", opt_level=0)
            path = path.with_name("rewritten.onnx")
            model.save_model_to_file(str(path))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(threads)
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    about = {
        "engine": "onnxruntime",
        "version": onnxruntime.__version__,
        "device": "CPU",
        "settings": f"{threads} threads, {'transformer optimiser' if rewritten else 'all graph optimisations'}",
    }
    vit.serve(target, about, lambda: session.run(["logits"], {"image": pixels})[0])


main()
