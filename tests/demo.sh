#!/bin/bash
# The demonstration: a real head CT through the whole node, on loopback, with a stand-in TPS.
#   demo.sh BUILD_FOLDER
B=$1
TEST_DIR=$(mktemp -d /tmp/ct2mr-demo-XXXXXX)
here=$(dirname "$0")
# shellcheck source=tests/e2e/lib.sh
. "$here/e2e/lib.sh"
start=$SECONDS
keep=$B/demo

echo "1. a real head CT (Debian's invesalius-examples) as a DICOM series"
make_ct
echo "   $N_CT CT images in $CT"

echo "2. the node and a stand-in TPS (DCMTK storescp) on loopback"
write_config
start_tps
start_node

echo "3. storescu sends the series; the node computes and sends the synthetic MR"
send_ct || fail "storescu: $(tail -3 "$TEST_DIR/storescu.log")"
wait_state 1 DONE 240

echo
"$ct2mr" job show 1
echo
n=$(tps_count)
rm -rf "$keep"
mkdir -p "$keep"
cp -r "$TEST_DIR/tps" "$keep/mr"
cp "$TEST_DIR"/spool/jobs/*/qa.png "$keep/qa.png"
echo "TPS holds:  $n MR images for $N_CT CT images"

errors=0
for image in "$keep"/mr/*; do dciodvfy "$image" 2>&1; done >"$keep/dciodvfy.txt"
errors=$(grep '^Error' "$keep/dciodvfy.txt" | grep -vc '(0x0008,0x001c)')
known=$(grep -c '^Error.*(0x0008,0x001c)' "$keep/dciodvfy.txt")
echo "dciodvfy:   $errors errors; $known notes that it does not know (0008,001C) Synthetic Data"
echo "MR series:  $keep/mr"
echo "QA picture: $keep/qa.png"
echo "whole demonstration: $((SECONDS - start)) s"
kill_node TERM
rm -rf "$TEST_DIR"
[ "$n" = "$N_CT" ] && [ "$errors" = 0 ]
