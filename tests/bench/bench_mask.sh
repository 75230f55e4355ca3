#!/bin/bash
# `make bench-mask`: the masks beside ITK, scikit-image and a threshold method, in one run.
#   bench_mask.sh BUILD_FOLDER
set -eu
B=$1
dir=$(mktemp -d "$B/bench-XXXXXX")
trap 'rm -rf "$dir"' EXIT
head=/usr/share/doc/invesalius-examples/examples/Cranium.inv3
reference=/usr/share/mricron/templates/ch2.nii.gz
"$B/tests/bench_mask" "$head" "$reference" "$dir"
"$B/tests/itk_flood" 512 512 170 "$dir/level" "$dir/marker" "$dir/itk" >"$dir/itk_s"
/usr/bin/python3 tests/bench/mask_peers.py "$dir" "$(cat "$dir/itk_s")"
