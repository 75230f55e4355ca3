#!/bin/bash
# What a real GPU does: DRUNet-101 of width 64, 448 x 448, and a step of training, beside PyTorch on
# the same GPU, and kernel by kernel where Nsight Compute (ncu) is. PyTorch (python3 with CUDA) and the
# folder of measurement data are the peer's; without them it is left out.
#   bench_gpu.sh BUILD_FOLDER
set -u
B=$1 dir=$(mktemp -d "$1/bench-gpu-XXXXXX") shared=${CT2MR_SHARED:-../shared} python=${PYTHON:-python3}
trap 'rm -rf "$dir"' EXIT
export CT2MR_CACHE_DIR=$dir/cache CT2MR_PLUGIN_DIR=$B
mkdir "$CT2MR_CACHE_DIR"
"$B/ct2mr" gpu list || exit 1
many=288
read -r _ _ work < <("$B/tests/bench_network" "$dir" $many)
echo "== DRUNet-101, width 64, 448 x 448, $work GFLOP per slice"
peer=
"$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && [ -f "$shared/oracle/drunet.py" ] && peer=1
[ -n "$peer" ] || echo "PyTorch: left out (no PyTorch with CUDA, or no measurement data)"

infer() { # infer BATCH FILE: ms per slice
    "$B/ct2mr" infer --json --model "$dir/plain.safetensors" --in "$dir/$2.npy" --out "$dir/y.npy" \
        --backend cuda --precision f16 --batch "$1" 2>/dev/null |
        sed 's/.*"per_slice_ms"://; s/[,}].*//'
}
for batch in ${BATCHES:-1 8}; do
    # The first batch loads the kernels.
    awk -v b="$batch" -v few="$(infer "$batch" x)" -v all="$(infer "$batch" many)" -v n=$many -v w="$work" \
        'BEGIN { steady = (n * all - 4 * few) / (n - (b > 4 ? b : 4))
            printf "ct2mr    batch %2d: %.2f ms per slice, %.0f TFLOP/s, after %.0f ms of a first batch\n", b, steady, w / steady, 4 * few }'
    [ -z "$peer" ] || "$python" tests/bench/bench_gpu.py infer "$shared/oracle" "$dir/plain.safetensors" 448 "$batch" |
        awk -v b="$batch" '{ printf "PyTorch  batch %2d: %s ms per slice the network alone, %s ms from memory to memory\n", b, $1, $2 }'
done
# kernels WHAT SLICES COMMAND...: from the last packing of slices on, by kernel
kernels() {
    local what=$1 slices=$2
    shift 2
    command -v ncu >/dev/null || return 0
    ncu --clock-control none --cache-control none --metrics gpu__time_duration.sum --csv --log-file "$dir/ncu.csv" "$@" >/dev/null 2>&1
    awk -F'","' -v what="$what" -v slices="$slices" '
        $5 ~ /pack\(/ && $5 !~ /unpack/ { n = sum = 0; delete of }
        $13 ~ /gpu__time/ { t = $15; gsub(/[",]/, "", t); t *= $14 == "us" ? 1 : $14 == "ms" ? 1e3 : 1e-3; sum += t; n++
            name = $5 ~ /KernelCall/ ? $5 : "cuDNN"; gsub(/.*::|\(.*/, "", name); of[name] += t }
        END { printf "kernels  %s: %.2f ms (%.2f ms per slice), %d kernels\n", what, sum / 1e3, sum / slices / 1e3, n
            for (name in of) printf "         %5.1f %%  %s\n", 100 * of[name] / sum, name | "sort -k1,1nr | head -12" }' "$dir/ncu.csv"
}
kernels "batch  4" 4 "$B/ct2mr" infer --model "$dir/plain.safetensors" --in "$dir/x.npy" --out "$dir/y.npy" --backend cuda --precision f16 --batch 4

echo "== a step of training: DRUNet-34, width 64, 224 x 224, batch 5, forward, backward, Adam, f16"
read -r ms _ < <("$B/tests/bench_train" "$dir" f16 20)
echo "ct2mr    $ms ms"
[ -z "$peer" ] || echo "PyTorch  $("$python" tests/bench/bench_gpu.py train 30) ms"
kernels "a step" 5 "$B/tests/bench_train" "$dir" f16 1
