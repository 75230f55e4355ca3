#!/bin/bash
# The CUDA kernels, compiled for every architecture: no spills, no local memory; registers,
# occupancy and the bytes that each moves for a slice of DRUNet-101 (448 x 448) are printed. The plugin needs cuDNN, cudart and libc, and no search path of its own; the
# program loads it and says why there is no GPU.
# timeout: 240
. tests/e2e/lib.sh
nvcc=${CUDA_HOME:-/usr/local/cuda}/bin/nvcc
[ -x "$nvcc" ] || nvcc=$(command -v nvcc) || skip "nvcc is not installed"
need readelf awk

block=256 # threads of a block, cuda_kernels.cu
compiled=0
bytes_of() { # bytes_of KERNEL
    echo "$plan" | grep -o "\"$1\":[0-9]*" | cut -d: -f2
}
plan=$("$ct2mr" gpu plan --json) || fail "ct2mr gpu plan"
for kernel in pack maxpool concat unpack; do
    [ "$(bytes_of $kernel)" -gt 0 ] || fail "no bytes of $kernel"
    moved="${moved:-} $kernel=$(bytes_of $kernel)"
done
# By hand: 448 x 448 pixels of 3 floats, and of 8 halves.
[ "$(bytes_of pack)" = $((448 * 448 * (3 * 4 + 8 * 2))) ] || fail "pack moves $(bytes_of pack) bytes"
for arch in 75 80 86 89 90 100 120; do
    "$nvcc" -std=c++17 -O2 -I. -arch=sm_$arch -Xptxas -v,-warn-spills,-warn-lmem-usage \
        -Werror all-warnings -cubin gpu/cuda_kernels.cu -o "$TEST_DIR/k.cubin" 2>"$TEST_DIR/$arch.log" ||
        fail "sm_$arch: $(tail -3 "$TEST_DIR/$arch.log")"
    grep -E 'stack frame' "$TEST_DIR/$arch.log" | grep -qvE '\b0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads' &&
        fail "sm_$arch: local memory or spills"
    case $arch in # resident threads of a multiprocessor
    75) threads=1024 ;;
    86 | 89 | 120) threads=1536 ;;
    *) threads=2048 ;;
    esac
    # Registers go to warps in pieces of 256; a multiprocessor has 65536.
    awk -v arch="$arch" -v moved="$moved" -v threads=$threads -v block=$block '
        BEGIN { for (i = split(moved, pair, " "); i > 0; i--) { split(pair[i], part, "="); mb[part[1]] = part[2] / 1e6 } }
        /Compiling entry function/ { match($0, /(pack|maxpool|concat|unpack)E/); name = ""
            if (match($0, /[0-9](unpack|pack|maxpool|concat)E/)) name = substr($0, RSTART + 1, RLENGTH - 2) }
        /Used [0-9]+ registers/ { match($0, /Used [0-9]+/); r = substr($0, RSTART + 5, RLENGTH - 5)
            warp = int((r * 32 + 255) / 256) * 256; warps = int(65536 / warp)
            blocks = int(warps / (block / 32)); most = int(threads / block)
            if (blocks > most) blocks = most
            printf "# sm_%s %-8s %2d registers, %3d %% of the threads resident, %6.2f MB a slice\n", arch, name, r, 100 * blocks * block / threads, mb[name]
            n++; if (2 * blocks * block < threads) bad = 1 }
        END { exit bad || n != 4 }' "$TEST_DIR/$arch.log" || fail "sm_$arch: occupancy below half, or not four kernels"
    compiled=$((compiled + 4))
done
echo "# $compiled kernels compiled without spills"

plugin=$B/ct2mr_cuda.so
[ -e "$plugin" ] || skip "the plugin was not built ($compiled kernels are good)"
needed=$(readelf -d "$plugin" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort | tr '\n' ' ')
case "$needed" in
"libc.so.6 libcudart.so."*" libcudnn.so.9 ") ;;
*) fail "the plugin needs $needed" ;;
esac
readelf -d "$plugin" | grep -qE 'RPATH|RUNPATH' && fail "the plugin has a search path"
"$ct2mr" gpu list --json >"$TEST_DIR/list.json"
grep -q '"plugin":true' "$TEST_DIR/list.json" || fail "the program does not load it: $(cat "$TEST_DIR/list.json")"
echo "# $(cat "$TEST_DIR/list.json")"
