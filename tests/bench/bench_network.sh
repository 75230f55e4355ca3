#!/bin/bash
# The whole loop of `ct2mr infer` on DRUNet-101 of width 64, 448 x 448, in each precision, beside the
# processor's float32 peak and onnxruntime in float32. The peer needs onnxruntime's package for
# Node.js in the folder $ONNXRUNTIME_NODE, node, python3-torch, python3-torchvision and the folder of
# measurement data.
#   bench_network.sh BUILD_FOLDER
set -u
B=$1 dir=$(mktemp -d "$1/bench-network-XXXXXX") shared=${CT2MR_SHARED:-../shared} rounds=${ROUNDS:-5}
trap 'rm -rf "$dir"' EXIT
export CT2MR_CACHE_DIR=$dir/cache
read -r n peak work < <("$B/tests/bench_network" "$dir")
echo "== the network: DRUNet-101, width 64, 448 x 448, slices in memory; $n processors"
slices_mb=$((4 * (3 + 1) * 448 * 448 * 4 / 1024 / 1024))
echo "float32 peak $peak GFLOP/s, $work GFLOP per slice; memory without the slices' own $slices_mb MB"

# ms per slice and peak MB, the best of all calls so far of the same name
declare -A best mb why
keep() { # name ms mb
    best[$1]=$(awk -v a="$2" -v b="${best[$1]:-1e9}" 'BEGIN { print a < b ? a : b }')
    mb[$1]=$3
}
infer() { # name precision mib
    local json
    json=$(command time -f '%M' -o "$dir/rss" "$B/ct2mr" infer --json --model "$dir/ranges.safetensors" \
        --in "$dir/x.npy" --out "$dir/y.npy" --backend cpu --precision "$2" --winograd-mib "$3" 2>/dev/null) || {
        why[$1]=$(sed 's/.*"message":"//; s/",".*//' <<<"$json")
        return 0
    }
    keep "$1" "$(sed 's/.*"per_slice_ms"://; s/[,}].*//' <<<"$json")" $(($(tail -1 "$dir/rss") / 1024 - slices_mb))
}
peer=""
if [ -d "${ONNXRUNTIME_NODE:-/none}" ] && [ -f "$shared/oracle/drunet.py" ] &&
    /usr/bin/python3 tests/bench/onnx_export.py "$shared/oracle" "$dir/plain.safetensors" 448 "$dir/m.onnx" >/dev/null 2>&1; then
    peer=onnxruntime
else
    echo "onnxruntime: left out (\$ONNXRUNTIME_NODE, python3-torchvision or the measurement data are not here)"
fi
for ((round = 0; round < rounds; round++)); do
    infer "f32, direct" f32 0
    infer "f32" f32 24
    infer "f32, 512 MiB" f32 512
    infer "bf16" bf16 24
    infer "int8" int8 24
    if [ -n "$peer" ]; then
        read -r ms rss < <(node tests/bench/onnxruntime.js "$ONNXRUNTIME_NODE" "$dir/m.onnx" 448 "$n")
        keep onnxruntime "$ms" "$rss"
    fi
done
for name in "f32, direct" "f32" "f32, 512 MiB" bf16 int8 onnxruntime; do
    [ -n "${best[$name]:-}" ] || { [ "$name" = onnxruntime ] || echo "$name: ${why[$name]}"; continue; }
    awk -v name="$name" -v ms="${best[$name]}" -v mb="${mb[$name]}" -v work="$work" -v peak="$peak" -v peer="${best[onnxruntime]:-0}" \
        'BEGIN { printf "%-13s %7.1f ms per slice, %.2f of the float32 peak, %4d MB", name, ms, work / ms * 1e3 / peak, mb
                 if (peer > 0) printf ", %.2f times onnxruntime", peer / ms
                 print "" }'
done
