#!/bin/bash
# `make bench`: figures with the peer or the machine's own limit beside them, from one run.
#   bench.sh BUILD_FOLDER
B=$1
TEST_DIR=$(mktemp -d "$B/bench-XXXXXX")
# shellcheck source=tests/e2e/lib.sh
. tests/e2e/lib.sh
need storescu storescp

echo "== receive, every instance durable, against storescp +B (not durable) and the disk's limit"
"$B/tests/bench_receive" "$B" 9

echo
echo "== whole pipeline, 170 slices of 512 x 512, $(nproc) processors"
big=$B/testdata/big
[ -d "$big" ] || { mkdir -p "$big.part" && "$B/tests/big_series" "$CRANIUM" "$big.part" && mv "$big.part" "$big"; } ||
    fail "no series"
write_config
command time -f '%M' -o "$TEST_DIR/rss" "$ct2mr" run --out "$TEST_DIR/out" "$big" | tee "$TEST_DIR/steps"
awk '/ s  / && $1 != "infer" { s += $2 } / s  / && $1 == "infer" { i = $2 }
     END { printf "everything except inference %.2f s (limit 15), inference %.2f s\n", s, i }' "$TEST_DIR/steps"
echo "peak memory of a worker $(($(cat "$TEST_DIR/rss") / 1024)) MB (limit 1500)"

echo
bash tests/bench/bench_network.sh "$B"

echo
echo "== a step of training: DRUNet-34, width 64, 224 x 224, batch 5, forward, backward, Adam"
bash tests/bench/bench_train.sh "$B" "$TEST_DIR"

echo
echo "== idle daemon"
start_node
sleep 1
rss() { awk '/VmRSS/ { r = $2 } /RssAnon/ { a = $2 } END { printf "%.1f MB resident (%.1f MB of its own)", r / 1024, a / 1024 }' "/proc/$1/status"; }
echo "ct2mrd  $(rss "$node_pid") (limit 20)"
echo "zygote  $(rss "$(pgrep -P "$node_pid" -f -- --zygote)")"
kill_node TERM
rm -rf "$TEST_DIR"
