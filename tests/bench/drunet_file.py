"""A model file's network in PyTorch, for peers of the benches. Needs the folder with drunet.py."""
import json
import struct
import sys

import torch


def read(folder, path):
    """The network ready to infer, with the exact rewrites switched on for the peer, too."""
    sys.path.insert(0, folder)
    from drunet import DRUNet, set_fast

    with open(path, "rb") as file:
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
    return set_fast(net.eval(), True)
