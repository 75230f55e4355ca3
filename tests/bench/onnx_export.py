#!/usr/bin/python3
"""The network of a model file as ONNX, for onnxruntime as a peer of `make bench`.
   onnx_export.py ORACLE_FOLDER MODEL.safetensors SIDE OUT.onnx
Needs PyTorch and the folder with drunet.py; the exact rewrites are switched on for the peer too."""
import json
import struct
import sys

import torch

folder, model, side, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
sys.path.insert(0, folder)
from drunet import DRUNet, set_fast  # noqa: E402

with open(model, "rb") as file:
    size = struct.unpack("<Q", file.read(8))[0]
    header = json.loads(file.read(size))
    data = file.read()
metadata = header.pop("__metadata__")
state = {}
for name, tensor in header.items():
    assert tensor["dtype"] == "F32"
    begin, end = tensor["data_offsets"]
    state[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32).reshape(tensor["shape"])
net = DRUNet(int(metadata["arch"].split("-")[1]), width=int(metadata["width"]))
net.load_state_dict(state, strict=False)
net.eval()
set_fast(net, True)
torch.onnx.export(net, torch.zeros(1, 3, side, side), out, input_names=["x"], output_names=["y"], opset_version=13)
