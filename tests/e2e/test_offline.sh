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
runs 1 "$ct2mr" mask --out "$TEST_DIR/mask.nii.gz" "$dir"
exit 0
