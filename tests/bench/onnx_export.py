#!/usr/bin/python3
"""The network of a model file as ONNX, for onnxruntime as a peer of `make bench`.
   onnx_export.py ORACLE_FOLDER MODEL.safetensors SIDE OUT.onnx
Needs PyTorch and the folder with drunet.py; the exact rewrites are switched on for the peer too."""
import sys

import drunet_file
import torch

folder, model, side, out = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
net = drunet_file.read(folder, model)
torch.onnx.export(net, torch.zeros(1, 3, side, side), out, input_names=["x"], output_names=["y"], opset_version=13)
