"""The same step in PyTorch: DRUNet-34, width 64, 224 x 224, batch 5, channels last, Adam.
usage: bench_train.py f32|bf16 [ROUNDS]    prints "MS CPU_MS", the best of the rounds"""
import contextlib
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


def norm(c_in, c_out, kernel, stride=1):
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Block(nn.Module):
    """A basic residual block; up: nearest x2 and 1x1 in the place of the first 3x3."""

    def __init__(self, c_in, c_out, stride=1, up=False):
        super().__init__()
        self.up = up
        self.first = norm(c_in, c_out, 1 if up else 3, stride)
        self.second = norm(c_out, c_out, 3)
        project = up or stride != 1 or c_in != c_out
        self.shortcut = norm(c_in, c_out, 1, stride) if project else nn.Identity()

    def forward(self, x):
        if self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class DRUNet34(nn.Module):
    def __init__(self, w=64):
        super().__init__()
        c = [w, 2 * w, 4 * w, 8 * w]
        blocks = [3, 4, 6, 3]
        self.stem = norm(3, w, 7, 2)
        self.down = nn.ModuleList()
        for i, n in enumerate(blocks):
            first = Block(c[max(i - 1, 0)], c[i], 2 if i else 1)
            self.down.append(nn.Sequential(first, *[Block(c[i], c[i]) for _ in range(n - 1)]))
        self.center = nn.Sequential(Block(c[3], c[3]), Block(c[3], c[3]), Block(c[3], c[2], up=True))
        self.ups = nn.ModuleList()
        for i in (2, 1, 0):
            plain = [Block(c[i], c[i]) for _ in range(blocks[i] - 2)]
            last = Block(c[i], c[max(i - 1, 0)], up=True)
            self.ups.append(nn.Sequential(Block(2 * c[i], c[i]), *plain, last))
        self.head = nn.Conv2d(w, 1, 7, padding=3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        skips = []
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        x = self.center(x)
        for stage, skip in zip(self.ups, skips[2::-1]):
            x = stage(torch.cat((x, skip), 1))
        return self.head(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def main():
    bf16 = sys.argv[1] == "bf16"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(len(os.sched_getaffinity(0)))  # else half of them
    net = DRUNet34().to(memory_format=torch.channels_last).train()
    adam = torch.optim.Adam(net.parameters(), lr=1e-4)
    x = torch.randn(5, 3, 224, 224).to(memory_format=torch.channels_last)
    target = torch.rand(5, 1, 224, 224)
    best = best_cpu = float("inf")
    for i in range(rounds + 1):  # the first commits the memory
        start, cpu = time.monotonic(), time.process_time()
        with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext():
            loss = F.mse_loss(net(x).float(), target)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        if i:
            best = min(best, 1e3 * (time.monotonic() - start))
            best_cpu = min(best_cpu, 1e3 * (time.process_time() - cpu))
    print("%.1f %.1f" % (best, best_cpu))


if __name__ == "__main__":
    main()
