#!/bin/bash
# `make bench-registration`: affine registration on fresh cases with known truth, ct2mr beside
# elastix, and the time to the reference at full resolution.
#   registration.sh BUILD_FOLDER     environment: SEED (default: from the clock), CASES (10)
# The cases come from ../shared/oracle/reg_cases.py (python3-nibabel, python3-scipy); without it
# there is nothing to measure, which is said.
B=$1
set -e
cases_py=${CT2MR_SHARED:-../shared}/oracle/reg_cases.py
[ -f "$cases_py" ] || { echo "skipped: $cases_py is not there"; exit 0; }
SEED=${SEED:-$(date +%s)}
CASES=${CASES:-10}
work=$(mktemp -d "$B/registration-XXXXXX")
trap 'rm -rf "$work"' EXIT
echo "== $CASES cases per series, seed $SEED (CASES=$CASES SEED=$SEED repeats them)"
/usr/bin/python3 "$cases_py" "$work/cases" "$CASES" "$SEED"
mkdir "$work/out"
"$B/tests/bench_registration" "$work/cases" "$work/out" "$B/ct2mr"

echo
echo "== 512 x 512 x 170 to the reference, $(nproc) processors, median of 5"
CRANIUM=/usr/share/doc/invesalius-examples/examples/Cranium.inv3
big=$B/testdata/big
[ -d "$big" ] || { mkdir -p "$big.part" && "$B/tests/big_series" "$CRANIUM" "$big.part" && mv "$big.part" "$big"; }
for _ in 1 2 3 4 5; do
    command time -f '%M' -o "$work/rss" "$B/ct2mr" register --fixed "$big" \
        --moving /usr/share/mricron/templates/ch2.nii.gz --out "$work/big.json" >/dev/null || true
    sed -n 's/.*"seconds":[^0-9]*\([0-9.]*\).*/\1/p' "$work/big.json"
done | sort -n | sed -n '3s/$/ s (limit 1.5)/p'
echo "$(($(cat "$work/rss") / 1024)) MB at most, reading the series included (limit 200)"
