#!/bin/bash
# timeout: 300
# What a volume named on the command line is taken for: a CT is no reference, in any command; an MR's
# numbers may be of any size; what is neither is asked for; after a failure no older result is left.
. tests/e2e/lib.sh
head=/usr/share/mricron/templates/ch2.nii.gz
[ -f "$head" ] || skip "mricron-data is not installed"
make_ct
write_config
model=etc/models/demo-t1-w16.safetensors
ct=$TEST_DIR/ct.nii mr=$TEST_DIR/mr.nii t=$TEST_DIR/t.json png=$TEST_DIR/t.png
runs 0 "$ct2mr" simulate --ct "$ct" --mr "$mr"
# slope BYTES FILE NEW: the header says another slope (float32, little endian).
slope() {
    cp "$2" "$3"
    printf '%b' "$1" | dd "of=$3" bs=1 seek=112 conv=notrunc 2>/dev/null
}

# A CT as the reference, as NIfTI and as DICOM.
for reference in "$ct" "$CT"; do
    why="it is a CT, an MR is needed"
    [ -d "$reference" ] && why="is MR Image Storage"
    runs 1 "$ct2mr" check --model $model --reference "$reference" "$CT"
    says "REFERENCE: " && says "$why"
    runs 1 "$ct2mr" run --model $model --reference "$reference" --out "$TEST_DIR/no" "$CT"
    says "REFERENCE: " && says "$why"
    runs 1 "$ct2mr" mask --brain --reference "$reference" --out "$TEST_DIR/m.nii.gz" "$CT"
    says "REFERENCE: " && says "$why"
    [ ! -e "$TEST_DIR/no" ] && [ ! -e "$TEST_DIR/m.nii.gz" ] || fail "a refused command left something"
    echo "case,ct,mr" >"$TEST_DIR/l.csv" && echo "a,$ct,$mr" >>"$TEST_DIR/l.csv"
    runs 1 "$ct2mr" pack --cases "$TEST_DIR/l.csv" --out "$TEST_DIR/p.pack" --target T1 --reference "$reference"
    says "REFERENCE: " && says "$why"
    write_config "align.reference: $reference"
    runs 1 "$ct2mr" config check
    says "REFERENCE: " && says "$why"
done
write_config "align.reference: $head"
runs 0 "$ct2mr" config check
says "valid"

# The reference's numbers 0..1 and 0..1e6: the same as the head it is.
for size in '\x81\x80\x80\x3b' '\x00\x00\x7a\x45'; do # 1/255, 4000
    zcat "$head" >"$TEST_DIR/plain.nii"
    slope "$size" "$TEST_DIR/plain.nii" "$TEST_DIR/scaled.nii"
    runs 0 "$ct2mr" mask --brain --json --reference "$TEST_DIR/scaled.nii" --out "$TEST_DIR/m.nii.gz" "$CT"
    runs 0 "$ct2mr" register --fixed "$CT" --moving "$TEST_DIR/scaled.nii" --out "$t"
    says "fixed is CT, moving is MR"
    [[ $(grep -o '"score_mm":.*' "$t") =~ ([0-9.]+) ]] || fail "no score in $(cat "$t")"
    echo "# score ${BASH_REMATCH[1]} mm"
done

# What a volume is: seen, said, or asked for. HU times 0.3 are nothing clear.
slope '\x9a\x99\x99\x3e' "$ct" "$TEST_DIR/odd.nii"
rm -f "$t"
runs 1 "$ct2mr" register --fixed "$TEST_DIR/odd.nii" --moving "$mr" --out "$t"
says "NIFTI: the numbers are neither clearly a CT's in HU nor an MR's (say it with --fixed-is ct|mr)"
[ ! -e "$t" ] || fail "a failure left a result"
runs 0 "$ct2mr" register --json --fixed "$ct" --moving "$mr" --out "$t"
says '"fixed_is":"CT","moving_is":"MR"'
cp "$t" "$TEST_DIR/there.json"
runs 0 "$ct2mr" register --json --fixed "$mr" --moving "$ct" --fixed-is mr --moving-is ct --out "$t"
says '"fixed_is":"MR","moving_is":"CT"'
# It is the same registration, told the other way round.
# matrix NAME FILE, number NAME FILE: from what register wrote.
matrix() { tr -d ' \t\n' <"$2" | grep -o "\"$1\":\[\[[^\"]*\]\]" | cut -d: -f2; }
number() { sed -n "s/.*\"$1\":[[:space:]]*\([-0-9.e]*\).*/\1/p" "$2"; }
forth=$(matrix moving_from_fixed "$TEST_DIR/there.json") back=$(matrix fixed_from_moving "$TEST_DIR/there.json")
[ -n "$forth" ] && [ -n "$back" ] && [ "$forth" != "$back" ] || fail "no two matrices: $forth, $back"
[ "$(matrix fixed_from_moving "$t")" = "$forth" ] && [ "$(matrix moving_from_fixed "$t")" = "$back" ] ||
    fail "there and back are not each other's inverse"
for pair in "determinant determinant" "scale_min scale_max" "scale_max scale_min"; do
    awk -v a="$(number "${pair% *}" "$TEST_DIR/there.json")" -v b="$(number "${pair#* }" "$t")" \
        'BEGIN { exit !(a != b && a * b > 0.999999 && a * b < 1.000001) }' || fail "$pair are not reciprocal"
done
runs 0 "$ct2mr" register --json --fixed "$mr" --moving "$mr" --moving-is mr --out "$t"
says '"fixed_is":"MR","moving_is":"MR"'
runs 2 "$ct2mr" register --fixed "$mr" --moving "$ct" --fixed-is pet --out "$t"
says "--fixed-is is ct or mr"
for command in mask window; do
    runs 1 "$ct2mr" $command --out "$TEST_DIR/w.nii.gz" "$mr"
    says "HU_SCALE: this is an MR, a CT is needed"
    runs 1 "$ct2mr" $command --out "$TEST_DIR/w.nii.gz" "$TEST_DIR/odd.nii"
    says "say it with --is-ct"
    [ ! -e "$TEST_DIR/w.nii.gz" ] || fail "a refused $command left something"
done
runs 0 "$ct2mr" window --is-ct --preset bone --out "$TEST_DIR/w.nii.gz" "$TEST_DIR/odd.nii"

# DICOM MR: the synthetic one of the CT.
runs 0 "$ct2mr" run --model $model --out "$TEST_DIR/dicom" "$CT"
rm "$TEST_DIR/dicom/qa.png"
runs 0 "$ct2mr" register --json --fixed "$CT" --moving "$TEST_DIR/dicom" --out "$t" --png "$png"
says '"fixed_is":"CT","moving_is":"MR"'
as_measured "$TEST_DIR/dicom"
runs 0 "$ct2mr" mask --brain --reference "$TEST_DIR/dicom" --out "$TEST_DIR/m.nii.gz" "$CT"

# After a failure, or a refusal without a transform: nothing of an earlier run.
cp "$t" "$TEST_DIR/kept.json"
[ -s "$png" ] || fail "no picture"
echo "no volume" >"$TEST_DIR/bad.nii"
runs 1 "$ct2mr" register --fixed "$CT" --moving "$TEST_DIR/bad.nii" --out "$t" --png "$png"
[ ! -e "$t" ] && [ ! -e "$png" ] || fail "an older result is left"
cp "$TEST_DIR/kept.json" "$t"
runs 2 "$ct2mr" register --fixed "$ct" --moving "$mr" --out "$mr"
[ "$(stat -c %s "$mr")" -gt 352 ] || fail "the input was removed"
slope '\x00\x00\x00\x00' "$mr" "$TEST_DIR/empty.nii" # slope 0: not scaled; then no voxel but 0
truncate -s 352 "$TEST_DIR/empty.nii" && truncate -s "$(stat -c %s "$mr")" "$TEST_DIR/empty.nii"
runs 1 "$ct2mr" register --fixed "$CT" --moving "$TEST_DIR/empty.nii" --out "$t" --png "$png"
says "REG_OVERLAP" && says "no picture: there is no transform"
grep -q '"verdict":.*"REG_OVERLAP"' "$t" || fail "verdict: $(cat "$t")"
# What is no file is never replaced; a picture that cannot be written leaves no mask.
mkfifo "$TEST_DIR/fifo.nii.gz" && mkdir "$TEST_DIR/folder"
for out in "$TEST_DIR/fifo.nii.gz" "$TEST_DIR/folder"; do
    runs 1 "$ct2mr" window --out "$out" "$ct"
    says "IO: " && says "not a file"
    runs 1 "$ct2mr" register --fixed "$ct" --moving "$mr" --out "$out"
    says "not a file"
done
[ -p "$TEST_DIR/fifo.nii.gz" ] || fail "the pipe was replaced"
runs 1 "$ct2mr" mask --out "$TEST_DIR/left.nii.gz" --png "$TEST_DIR/none/m.png" "$ct"
[ ! -e "$TEST_DIR/left.nii.gz" ] || fail "a mask without its picture"
# Two at once to one file: each writes a file of its own, the last one whole stays.
"$ct2mr" window --preset brain --out "$TEST_DIR/both.nii.gz" "$ct" >/dev/null &
"$ct2mr" window --preset bone --out "$TEST_DIR/both.nii.gz" "$ct" >/dev/null
wait $!
gzip -t "$TEST_DIR/both.nii.gz" || fail "two writers made one broken file"
exit 0
