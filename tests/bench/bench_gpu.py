"""DRUNet in PyTorch on the GPU: half precision, channels last, cuDNN's fastest engines.
   bench_gpu.py infer ORACLE_FOLDER MODEL.safetensors SIDE BATCH   "MS LOOP_MS" per slice: the network
       alone as one CUDA graph, and the loop from float32 slices in memory to such
   bench_gpu.py train [ROUNDS]   "MS" of a step: DRUNet-34, width 64, 224 x 224, batch 5, autocast, Adam"""
import sys
import time

import drunet_file
import torch
from torch.nn import functional as F

torch.backends.cudnn.benchmark = True


def read_model(folder, path):
    net = drunet_file.read(folder, path)
    # Batch normalisation becomes part of the convolutions, as in ct2mr.
    modules = dict(net.named_modules())
    for name, conv in list(modules.items()):
        parent, _, leaf = name.rpartition(".")
        if not isinstance(conv, torch.nn.Conv2d):
            continue
        siblings = modules[parent]
        norm_name = str(int(leaf) + 1) if leaf.isdigit() else leaf.replace("conv", "bn")
        norm = getattr(siblings, norm_name, None) if norm_name != leaf else None
        if isinstance(norm, torch.nn.BatchNorm2d):
            setattr(siblings, leaf, torch.nn.utils.fuse_conv_bn_eval(conv, norm))
            setattr(siblings, norm_name, torch.nn.Identity())
    return net


def infer(folder, path, side, batch):
    net = read_model(folder, path).cuda().half().to(memory_format=torch.channels_last)
    slices = torch.randn(128, 3, side, side)
    out = torch.empty(128, 1, side, side)
    staged = torch.empty(batch, 3, side, side).pin_memory()
    x = torch.empty(batch, 3, side, side, device="cuda")

    def forward():
        return net(x.half().contiguous(memory_format=torch.channels_last)).float()

    with torch.no_grad():
        for _ in range(3):
            forward()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = forward()
        best = loop = float("inf")
        for _ in range(5):
            torch.cuda.synchronize()
            start = time.monotonic()
            for _ in range(20):
                graph.replay()
            torch.cuda.synchronize()
            best = min(best, 1e3 * (time.monotonic() - start) / (20 * batch))
            start = time.monotonic()
            for i in range(0, 128, batch):
                staged.copy_(slices[i : i + batch])
                x.copy_(staged, non_blocking=True)
                graph.replay()
                out[i : i + batch] = y.cpu()
            loop = min(loop, 1e3 * (time.monotonic() - start) / 128)
    print("%.3f %.3f" % (best, loop))


def train(rounds):
    sys.argv = [sys.argv[0]]
    from bench_train import DRUNet34

    net = DRUNet34().cuda().to(memory_format=torch.channels_last).train()
    adam = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler("cuda")
    x_host, target_host = torch.randn(5, 3, 224, 224).pin_memory(), torch.rand(5, 1, 224, 224).pin_memory()
    best = float("inf")
    for i in range(rounds + 5):
        torch.cuda.synchronize()
        start = time.monotonic()
        x = x_host.cuda(non_blocking=True).to(memory_format=torch.channels_last)
        target = target_host.cuda(non_blocking=True)
        with torch.autocast("cuda", dtype=torch.float16):
            loss = F.mse_loss(net(x).float(), target)
        adam.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(adam)
        scaler.update()
        loss.item()
        if i >= 5:
            best = min(best, 1e3 * (time.monotonic() - start))
    print("%.2f" % best)


if sys.argv[1] == "infer":
    infer(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
else:
    train(int(sys.argv[2]) if len(sys.argv) > 2 else 20)
