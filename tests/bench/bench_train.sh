#!/bin/bash
# A step of training beside PyTorch's, in turns, best of the turns; wall time, and processor time of
# all threads.
#   bench_train.sh BUILD_FOLDER SCRATCH_FOLDER
B=$1
scratch=$2
python=/usr/bin/python3
# PyTorch allocates anew in every step: without this the kernel clears the same pages again and again.
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184
# Threads sleep while they wait, of both: else processor time counts waiting on a machine that is busy.
export OMP_WAIT_POLICY=passive
has_torch=
"$python" -c 'import torch' 2>/dev/null && has_torch=1

best() { sort -n | head -1; }
for precision in f32 bf16; do
    ours="" theirs=""
    for _ in 1 2 3; do
        line=$("$B/tests/bench_train" "$scratch" "$precision" 3) || exit 1
        ours+="$line"$'\n'
        [ "$line" != - ] || break
        [ -z "$has_torch" ] || theirs+="$("$python" tests/bench/bench_train.py "$precision" 2)"$'\n'
    done
    if [ "${ours%%$'\n'*}" = - ]; then
        echo "$precision  not on this processor"
        continue
    fi
    wall=$(cut -d' ' -f1 <<<"${ours%$'\n'}" | best)
    cpu=$(cut -d' ' -f2 <<<"${ours%$'\n'}" | best)
    echo "$precision  ct2mr    $wall ms, $cpu ms of processor time"
    if [ -z "$has_torch" ]; then
        echo "$precision  PyTorch  skipped: python3-torch is not installed"
        continue
    fi
    torch_wall=$(cut -d' ' -f1 <<<"${theirs%$'\n'}" | best)
    torch_cpu=$(cut -d' ' -f2 <<<"${theirs%$'\n'}" | best)
    echo "$precision  PyTorch  $torch_wall ms, $torch_cpu ms of processor time"
    awk -v p="$precision" -v a="$wall" -v b="$torch_wall" -v c="$cpu" -v d="$torch_cpu" \
        'BEGIN { printf "%s  ct2mr is %.2f times as fast (processor time %.2f); wanted 1.3\n", p, b / a, d / c }'
done
