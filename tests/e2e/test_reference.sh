#!/bin/bash
# timeout: 180
# A site's own reference: a folder of DICOM MR images serves; one whose slices run another way than
# those of the model's training, or that is no MR, is refused.
. tests/e2e/lib.sh
make_ct
model=etc/models/demo-t1-w16.safetensors

# The synthetic MR of the first run is an MR of that head; DICOM's slices run left and back (LP).
runs 0 "$ct2mr" run --model $model --out "$TEST_DIR/mr" "$CT"
rm "$TEST_DIR/mr/qa.png"
runs 1 "$ct2mr" run --model $model --reference "$TEST_DIR/mr" --out "$TEST_DIR/no" "$CT"
says "REFERENCE: the model was trained on slices that run to RA, the reference's run to LP"
[ ! -e "$TEST_DIR/no" ] || fail "a refused run left something"
runs 0 "$ct2mr" model import --axes LP --out "$TEST_DIR/lp.safetensors" $model
runs 0 "$ct2mr" run --model "$TEST_DIR/lp.safetensors" --reference "$TEST_DIR/mr" \
    --out "$TEST_DIR/yes" "$CT"
n=$(find "$TEST_DIR/yes" -name '*.dcm' | wc -l)
[ "$n" = "$N_CT" ] || fail "$n images for $N_CT"

# What the reference is decides the UIDs, not what its files are called.
uid() { dcmdump +P 0020,000e "$1"/MR0001.dcm | sed 's/.*\[\(.*\)\].*/\1/'; }
i=0
for file in "$TEST_DIR"/mr/*.dcm; do mv "$file" "$TEST_DIR/mr/$((i++)).x"; done
runs 0 "$ct2mr" run --model "$TEST_DIR/lp.safetensors" --reference "$TEST_DIR/mr" \
    --out "$TEST_DIR/again" "$CT"
[ -n "$(uid "$TEST_DIR/yes")" ] || fail "no UID"
[ "$(uid "$TEST_DIR/yes")" = "$(uid "$TEST_DIR/again")" ] || fail "renamed files: other UIDs"

runs 1 "$ct2mr" run --model $model --reference "$CT" --out "$TEST_DIR/no" "$CT"
says "REFERENCE: none of $N_CT files is MR Image Storage"
says "align.reference"
