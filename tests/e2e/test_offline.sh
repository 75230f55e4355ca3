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
for words in "--backend foo" "--precision f15"; do
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
printf "\\x93NUMPY\\x01\\x00\\x76\\x00%-117s\\n" \
    "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3, 32, 32), }" >"$TEST_DIR/none.npy"
runs 1 "$ct2mr" infer --model etc/models/demo-t1-w16.safetensors --in "$TEST_DIR/none.npy" --out "$TEST_DIR/y.npy"
says "the input holds no slice"
# SLICES SIDE: slices of zeros in flat.npy
flat() {
    {
        printf "\\x93NUMPY\\x01\\x00\\x76\\x00%-117s\\n" \
            "{'descr': '<f4', 'fortran_order': False, 'shape': ($1, 3, $2, $2), }"
        head -c $((4 * 3 * $1 * $2 * $2)) /dev/zero
    } >"$TEST_DIR/flat.npy"
}
calibrate=("$ct2mr" model calibrate --model etc/models/demo-t1-w16.safetensors --data "$TEST_DIR/flat.npy"
    --out "$TEST_DIR/c.safetensors")
flat 1 32
runs 1 "${calibrate[@]}"
says "slices of 32 x 32 pixels: this model computes 256 x 256"
flat 1 256 # 0 is not the window's floor: each channel's mean
runs 1 "${calibrate[@]}"
says "slice 0 (the first is 0) is no windowed CT"
[ ! -e "$TEST_DIR/c.safetensors" ] || fail "calibrate wrote a model"

# Registration: the verdict of a job's gate, in the file and as exit code.
reference=/usr/share/mricron/templates/ch2.nii.gz
[ -f "$reference" ] || skip "mricron-data is not installed"
t=$TEST_DIR/t.json
runs 0 "$ct2mr" register --fixed "$CT" --moving "$reference" --out "$t" --png "$TEST_DIR/t.png"
[ "$(head -c 4 "$TEST_DIR/t.png" | tail -c 3)" = PNG ] || fail "no picture"
grep -q '"verdict":.*"OK"' "$t" && grep -q moving_from_fixed "$t" || fail "verdict: $(cat "$t")"
runs 0 "$ct2mr" register --json --fixed "$reference" --moving "$CT" --out "$t" # swapped inside
says '"verdict":"OK"'
zcat "$reference" >"$TEST_DIR/large.nii"
for at in 80 84 88 280 300 320; do # pixdim and the diagonal of the s-form: 2 mm instead of 1
    printf '\x00\x00\x00\x40' | dd "of=$TEST_DIR/large.nii" bs=1 "seek=$at" conv=notrunc 2>/dev/null
done
rm "$t"
runs 1 "$ct2mr" register --fixed "$CT" --moving "$TEST_DIR/large.nii" --out "$t"
says "REG_QUALITY: "
grep -q '"verdict":.*"REG_QUALITY"' "$t" && grep -q moving_from_fixed "$t" || fail "verdict: $(cat "$t")"
runs 1 "$ct2mr" mask --brain --reference "$TEST_DIR/large.nii" --out "$TEST_DIR/brain.nii.gz" "$CT"
says "REG_QUALITY: "
runs 0 "$ct2mr" mask --brain --reference "$reference" --png "$TEST_DIR/b.png" --json \
    --out "$TEST_DIR/brain.nii.gz" "$CT"
says '"kind":"brain"'
[ "$(head -c 4 "$TEST_DIR/b.png" | tail -c 3)" = PNG ] || fail "no picture"
{
    head -c 352 "$TEST_DIR/large.nii"
    head -c "$(($(stat -c %s "$TEST_DIR/large.nii") - 352))" /dev/zero
} >"$TEST_DIR/empty.nii"
rm "$t"
runs 1 "$ct2mr" register --json --fixed "$CT" --moving "$TEST_DIR/empty.nii" --out "$t"
says '{"verdict":"REG_OVERLAP"'
grep -q '"verdict":.*"REG_OVERLAP"' "$t" || fail "verdict: $(cat "$t")"

# Nothing that is read is replaced, and no output by another.
zcat "$reference" >"$TEST_DIR/t1.nii"
sum=$(sha256sum "$TEST_DIR/t1.nii" "$CT"/*0001.dcm)
for out in "$TEST_DIR/t1.nii" "$CT/IM0001.dcm" "$CT/new.nii"; do
    runs 2 "$ct2mr" mask --reference "$TEST_DIR/t1.nii" --out "$out" "$CT"
    runs 2 "$ct2mr" mask --out "$TEST_DIR/m.nii" --png "$out" --reference "$TEST_DIR/t1.nii" "$CT"
    runs 2 "$ct2mr" register --fixed "$CT" --moving "$TEST_DIR/t1.nii" --out "$out"
    [ "$out" = "$TEST_DIR/t1.nii" ] || runs 2 "$ct2mr" window --out "$out" "$CT"
done
[ "$(sha256sum "$TEST_DIR/t1.nii" "$CT"/*0001.dcm)" = "$sum" ] || fail "what was read has changed"
[ ! -e "$CT/new.nii" ] || fail "a file among the images"
runs 2 "$ct2mr" mask --out "$TEST_DIR/one" --png "$TEST_DIR/../$(basename "$TEST_DIR")/one" "$CT"
runs 2 "$ct2mr" register --fixed "$CT" --moving "$reference" --out "$TEST_DIR/one" --png "$TEST_DIR/one"
echo old >"$TEST_DIR/old.nii.gz"
runs 1 "$ct2mr" mask --out "$TEST_DIR/old.nii.gz" "$TEST_DIR/empty.nii"
[ ! -e "$TEST_DIR/old.nii.gz" ] || fail "an older mask is left after a failure"

# Pixels said to be 1.2 times as wide: the head registers, its brain is none.
cp -r "$CT" "$TEST_DIR/wide"
dcmodify -nb -m "PixelSpacing=1.1484375\\1.1484375" "$TEST_DIR"/wide/*.dcm 2>/dev/null || fail "dcmodify"
runs 1 "$ct2mr" run --model etc/models/demo-t1-w16.safetensors --out "$TEST_DIR/wide.out" "$TEST_DIR/wide"
says "MASK: brain of "
exit 0
