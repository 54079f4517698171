#!/usr/bin/env python3
"""Write golden.safetensors of this folder: the encoder of ../vit_mae, nothing masked.

The case `vit_mae` of make_tiny_goldens.py runs the whole pretraining model with half of the patches masked,
which this engine does not do. Here the same weights run as ViTMAEModel with mask_ratio 0 and rising noise,
which keeps the patches in raster order.
"""
import os
import torch
from safetensors.torch import save_file
from transformers import ViTMAEModel

torch.set_num_threads(1)
torch.set_grad_enabled(False)
here = os.path.dirname(os.path.abspath(__file__))
model = ViTMAEModel.from_pretrained(os.path.join(here, "../vit_mae"), attn_implementation="eager", mask_ratio=0.0).eval()


def picture(seed, h, w):
    return torch.randn((1, 3, h, w), generator=torch.Generator().manual_seed(seed))


def in_order(patches):
    return torch.arange(float(patches))[None]


x, y = picture(551, 32, 32), picture(553, 48, 40)
trained = model(x, noise=in_order(16), output_hidden_states=True)
larger = model(y, noise=in_order(30), interpolate_pos_encoding=True)
tensors = {"in.pixel_values": x, "out.last_hidden_state": trained.last_hidden_state}
tensors |= {f"out.hidden.{i}": h for i, h in enumerate(trained.hidden_states)}
tensors |= {"in.pixel_values.48x40": y, "out.interpolated.48x40": larger.last_hidden_state}
save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(here, "golden.safetensors"))
