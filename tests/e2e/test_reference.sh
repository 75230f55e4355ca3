#!/bin/bash
# timeout: 180
# A site's own reference: a folder of DICOM MR images serves, whichever way its slices run; one that is
# no MR is refused.
. tests/e2e/lib.sh
need dcmdump dcmodify
make_ct
model=etc/models/demo-t1-w16.safetensors

# The synthetic MR of the first run, once it does not say so, is an MR of that head; DICOM's slices run left and back (LP), those
# that the model was trained on right and front (RA).
runs 0 "$ct2mr" run --model $model --out "$TEST_DIR/mr" "$CT"
rm "$TEST_DIR/mr/qa.png"
runs 1 "$ct2mr" run --model $model --reference "$TEST_DIR/mr" --out "$TEST_DIR/no" "$CT"
says "REFERENCE: it says that it was computed from other images"
as_measured "$TEST_DIR/mr"
runs 0 "$ct2mr" run --model $model --reference "$TEST_DIR/mr" --out "$TEST_DIR/yes" "$CT"
n=$(find "$TEST_DIR/yes" -name '*.dcm' | wc -l)
[ "$n" = "$N_CT" ] || fail "$n images for $N_CT"
# Near the first run's images: the head was not shown upside down.
pixels() {
    mkdir "$2"
    for mr in "$1"/MR*.dcm; do dcmdump +W "$2" "$mr" >/dev/null; done
    cat "$2"/*.raw | od -An -v -tu2 -w2
}
paste <(pixels "$TEST_DIR/mr" "$TEST_DIR/raw1") <(pixels "$TEST_DIR/yes" "$TEST_DIR/raw2") |
    awk '$1 > 0 || $2 > 0 { n++; x += $1; y += $2; xx += $1 * $1; yy += $2 * $2; xy += $1 * $2 }
        END { r = (n * xy - x * y) / sqrt((n * xx - x * x) * (n * yy - y * y))
            printf "# correlation with the MR by the default reference %.3f\n", r; exit !(r > 0.8) }' || fail "another head"

# What the reference is decides the UIDs, not what its files are called.
uid() { dcmdump +P 0020,000e "$1"/MR0001.dcm | sed 's/.*\[\(.*\)\].*/\1/'; }
i=0
for file in "$TEST_DIR"/mr/*.dcm; do mv "$file" "$TEST_DIR/mr/$((i++)).x"; done
runs 0 "$ct2mr" run --model $model --reference "$TEST_DIR/mr" \
    --out "$TEST_DIR/again" "$CT"
[ -n "$(uid "$TEST_DIR/yes")" ] || fail "no UID"
[ "$(uid "$TEST_DIR/yes")" = "$(uid "$TEST_DIR/again")" ] || fail "renamed files: other UIDs"

runs 1 "$ct2mr" run --model $model --reference "$CT" --out "$TEST_DIR/no" "$CT"
says "REFERENCE: none of $N_CT files is MR Image Storage"
says "align.reference"
