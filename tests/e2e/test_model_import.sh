#!/bin/bash
# timeout: 240
# ct2mr model import against torchvision and PyTorch: ResNet-34, -50 and -101 become untrained models
# whose encoder holds torchvision's numbers; a whole DRUNet (the project's PyTorch definition, where
# the shared measurement folder is) computes what PyTorch computes. Python only compares.
. tests/e2e/lib.sh
python=/usr/bin/python3
"$python" -c 'import torch, torchvision, numpy' 2>/dev/null || skip "no python3-torchvision"
shared=$(realpath -m "${CT2MR_SHARED:-../shared}")

cat >"$TEST_DIR/lib.py" <<'PY'
import json, struct, sys
import numpy as np, torch
torch.manual_seed(7)

def save(path, state):
    header, data, size = {}, [], 0
    for name, t in state.items():
        a = np.ascontiguousarray(t.detach().numpy())
        kind = {"float32": "F32", "int64": "I64"}[str(a.dtype)]
        header[name] = {"dtype": kind, "shape": list(a.shape),
                        "data_offsets": [size, size + a.nbytes]}
        data.append(a.tobytes())
        size += a.nbytes
    text = json.dumps(header).encode()
    open(path, "wb").write(b"".join([struct.pack("<Q", len(text)), text] + data))

def load(path):
    raw = open(path, "rb").read()
    n, = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8:8 + n])
    return {k: np.frombuffer(raw, "<f4", offset=8 + n + v["data_offsets"][0],
                             count=int(np.prod(v["shape"]))).reshape(v["shape"])
            for k, v in header.items() if k != "__metadata__"}

def stir(net):  # statistics and factors as after training
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
            m.weight.data.uniform_(0.5, 1)
    return net
PY
told=(--target T1 --pose reference --mask head --grid 448x0.5714 --window "40,80"
    --activation sigmoid --label "a trial")

(cd "$TEST_DIR" && "$python" - "$shared/oracle" <<'PY'
from lib import *
import os, torchvision
for depth in (34, 50, 101):
    net = getattr(torchvision.models, "resnet%d" % depth)(weights=None)
    if depth == 50:  # numbers as drawn: outputs grow from block to block
        save("drawn.safetensors", net.state_dict())
    save("r%d.safetensors" % depth, stir(net).state_dict())
if os.path.exists(sys.argv[1] + "/drunet.py"):
    sys.path.insert(0, sys.argv[1])
    import drunet
    x = torch.randn(2, 3, 64, 96)
    np.save("x.npy", x.numpy())
    for depth in (34, 50):
        net = stir(drunet.DRUNet(depth, width=8)).eval()
        torch.nn.init.normal_(net.up4.weight, 0, 0.02)
        with torch.no_grad():
            np.save("y%d.npy" % depth, torch.sigmoid(net(x)).numpy())
        save("t%d.safetensors" % depth, net.state_dict())
PY
) || fail "torchvision"

"$ct2mr" model import --out "$TEST_DIR/m.safetensors" "$TEST_DIR/r34.safetensors" 2>"$TEST_DIR/err" &&
    fail "imported without being told the target"
grep -q 'nobody gave: target, pose, grid, window, activation, mask' "$TEST_DIR/err" ||
    fail "$(cat "$TEST_DIR/err")"
for depth in 34 50 101; do
    "$ct2mr" model import --json --out "$TEST_DIR/m$depth.safetensors" "${told[@]}" \
        "$TEST_DIR/r$depth.safetensors" >"$TEST_DIR/out" || fail "import of ResNet-$depth"
    grep -q "\"arch\":\"drunet-$depth\",\"width\":64," "$TEST_DIR/out" || fail "$(cat "$TEST_DIR/out")"
    grep -q '"fc.weight"' "$TEST_DIR/out" || fail "fc.weight is not named"
    grep -q '"untrained":true' "$TEST_DIR/out" || fail "not untrained"
done
"$ct2mr" model import --out "$TEST_DIR/drawn-m.safetensors" "${told[@]}" "$TEST_DIR/drawn.safetensors" \
    >"$TEST_DIR/out" || fail "import of a ResNet-50 as drawn"
"$ct2mr" model verify "$TEST_DIR/m34.safetensors" >"$TEST_DIR/out" 2>&1 && fail "verify is content"
grep -q 'NOT TRAINED' "$TEST_DIR/out" || fail "verify: $(cat "$TEST_DIR/out")"
"$ct2mr" model show "$TEST_DIR/m34.safetensors" | grep -q '^NOT TRAINED' || fail "show"
whole=()
[ -f "$TEST_DIR/t34.safetensors" ] && whole=(34 50)
for depth in "${whole[@]}"; do
    "$ct2mr" model import --out "$TEST_DIR/w$depth.safetensors" "${told[@]}" \
        "$TEST_DIR/t$depth.safetensors" >"$TEST_DIR/out" || fail "import of DRUNet-$depth"
    "$ct2mr" model verify "$TEST_DIR/w$depth.safetensors" >/dev/null || fail "verify"
    "$ct2mr" infer --model "$TEST_DIR/w$depth.safetensors" --in "$TEST_DIR/x.npy" \
        --out "$TEST_DIR/got$depth.npy" --precision f32 >/dev/null || fail "infer"
done

(cd "$TEST_DIR" && "$python" - "${whole[@]}" <<'PY'
from lib import *
for depth in (34, 50, 101):
    a, b = load("r%d.safetensors" % depth), load("m%d.safetensors" % depth)
    n = 0
    for k, v in a.items():
        if k.endswith("num_batches_tracked") or k.startswith("fc."):
            assert k not in b, k
            continue
        assert v.shape == b[k].shape and (v == b[k]).all(), k
        n += 1
    made = [k for k in b if k not in a]
    assert all(k.startswith(("up", "ucenter")) for k in made) and len(made) > 50
    print("# ResNet-%d: %d tensors as torchvision's, %d made" % (depth, n, len(made)))
for depth in sys.argv[1:]:
    y, got = np.load("y%s.npy" % depth), np.load("got%s.npy" % depth)
    d = np.abs(y - got).max()
    print("# DRUNet-%s: differs from PyTorch by %.2g, values %.3f to %.3f"
          % (depth, d, y.min(), y.max()))
    assert d < 1e-4 and y.max() - y.min() > 0.1
PY
) || fail "other numbers than PyTorch's"
[ ${#whole[@]} -gt 0 ] || echo "# skipped part: no PyTorch definition of DRUNet here"
exit 0
