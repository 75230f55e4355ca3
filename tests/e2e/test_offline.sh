#!/bin/bash
# timeout: 120
# The offline commands on what people's folders hold: verdicts by exit code, valid JSON, nothing half.
. tests/e2e/lib.sh
need dcmodify
make_ct
write_config
dir=$TEST_DIR/in
mkdir "$dir"
cp "$CT"/*.dcm "$dir"
# runs CODE COMMAND...: the exit code is CODE; stdout and stderr are in $TEST_DIR/out.
runs() {
    local want=$1
    shift
    "$@" >"$TEST_DIR/out" 2>&1
    local got=$?
    [ $got = "$want" ] || fail "exit $got, not $want, from $*: $(cat "$TEST_DIR/out")"
}
says() { grep -qF -- "$1" "$TEST_DIR/out" || fail "no '$1' in: $(cat "$TEST_DIR/out")"; }

# A secondary capture, a DICOMDIR's class and subfolders beside the series.
first=$(find "$CT" -name '*.dcm' | sort | head -1)
cp "$first" "$dir/zz1.dcm"
dcmodify -nb -m "(0008,0016)=1.2.840.10008.5.1.4.1.1.7" "$dir/zz1.dcm" || fail "dcmodify"
mkdir "$dir/one" "$dir/two"
runs 0 "$ct2mr" check "$dir"
says "left out: 1 not CT Image Storage (file $((N_CT + 1)))"
says "2 subfolders not read"
runs 0 "$ct2mr" check --json "$dir"
says '"subfolders":2'
says '"left_out":"left out: 1 not CT Image Storage'

# Two series: a verdict, not a usage error.
cp "$first" "$dir/zz2.dcm"
dcmodify -nb -gin -gse "$dir/zz2.dcm" || fail "dcmodify"
runs 1 "$ct2mr" check "$dir"
says "SERIES_MIXED: 2 CT series ($N_CT, 1 images)"
says "left out: 1 not CT Image Storage"
runs 1 "$ct2mr" check --json "$dir"
says '"code":"SERIES_MIXED"'
runs 1 "$ct2mr" run --out "$TEST_DIR/mr" "$dir"
[ ! -e "$TEST_DIR/mr" ] || fail "a failed run left something"
runs 1 "$ct2mr" mask --out "$TEST_DIR/mask.nii.gz" "$dir"

# Refused before any work: a folder with anything in it, the input itself, unknown names.
mkdir "$TEST_DIR/full" && touch "$TEST_DIR/full/x"
for out in "$TEST_DIR/full" "$CT"; do
    runs 2 "$ct2mr" run --out "$out" "$CT"
    says "not empty"
done
[ "$(find "$CT" -mindepth 1 | wc -l)" = "$N_CT" ] || fail "the input was touched"
for words in "--backend foo" "--backend cuda" "--precision f16"; do
    # shellcheck disable=SC2086 # an option and its value
    runs 2 "$ct2mr" run $words --out "$TEST_DIR/mr" "$CT"
    says "is none of auto"
    # shellcheck disable=SC2086
    runs 2 "$ct2mr" check $words "$CT"
    [ ! -e "$TEST_DIR/mr" ] || fail "a folder was made"
done

# The network alone: one value of the second slice is NaN.
{
    printf "\\x93NUMPY\\x01\\x00\\x76\\x00%-117s\\n" \
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3, 32, 32), }"
    head -c 20000 /dev/zero
    printf '\x00\x00\xc0\x7f'
    head -c 4572 /dev/zero
} >"$TEST_DIR/x.npy"
runs 1 "$ct2mr" infer --model etc/models/demo-t1-w16.safetensors --in "$TEST_DIR/x.npy" --out "$TEST_DIR/y.npy"
says "slice 1 (the first is 0) holds NaN or infinity"
[ ! -e "$TEST_DIR/y.npy" ] || fail "infer wrote a result"
exit 0
