#!/bin/bash
# timeout: 300
# The main job on a real head: storescu -> ct2mrd -> storescp. One MR per CT slice, in the CT's
# study and frame of reference, position and spacing byte for byte the CT's, dciodvfy clean but for
# the attribute it does not know, the head where the CT's head is, a second sending is a no-op, and
# `ct2mr run` gives the same files.
. tests/e2e/lib.sh
need storescu storescp dcmdump
make_ct
write_config
start_tps
start_node

"$ct2mr" status >/dev/null || fail "status"
echoscu -aec CT2MR 127.0.0.1 "$node_port" || fail "C-ECHO"
send_ct || fail "storescu"
wait_state 1 DONE 200
[ "$(tps_count)" = "$N_CT" ] || fail "$(tps_count) MR images for $N_CT CT images"

# table FOLDER TAG...: one sorted line per image with the values of the tags as dcmdump prints them
table() {
    local folder=$1 tag prints=()
    shift
    for tag in "$@"; do prints+=(+P "$tag"); done
    find "$folder" -type f -print0 | xargs -0 dcmdump +F -q "${prints[@]}" |
        awk '/^# dcmdump/ { if (line) print line; line = "image" }
             /^\(/ { sub(/ *#.*/, ""); line = line " " $0 } END { print line }' | LC_ALL=C sort
}
# patient, study, frame of reference, position, orientation, spacing, thickness, rows, columns
same="0010,0010 0010,0020 0010,0030 0010,0040 0020,000d 0020,0052 0020,0032 0020,0037 0028,0030
      0018,0050 0028,0010 0028,0011"
# shellcheck disable=SC2086
diff <(table "$CT" $same) <(table "$TEST_DIR/tps" $same) >"$TEST_DIR/diff" ||
    fail "attributes differ from the CT's: $(head -2 "$TEST_DIR/diff")"
[ "$(table "$TEST_DIR/tps" 0020,000e 0008,0060 0008,001c | sort -u | wc -l)" = 1 ] || fail "more than one MR series"
table "$TEST_DIR/tps" 0008,0060 0008,001c | sort -u | grep -q 'MR.*YES' || fail "not marked as synthetic MR"

if command -v dciodvfy >/dev/null; then
    for mr in "$TEST_DIR"/tps/*; do dciodvfy "$mr" 2>&1; done | grep '^Error' |
        grep -v '(0x0008,0x001c)' >"$TEST_DIR/errors" && fail "dciodvfy: $(head -3 "$TEST_DIR/errors")"
else
    echo "# skipped part: dciodvfy is not installed"
fi
[ -s "$(echo "$TEST_DIR"/spool/jobs/*/qa.png)" ] || fail "no QA picture"

# The same series again: every image is a known one, nothing happens.
send_ct || fail "storescu, second time"
sleep 2
[ "$(sql 'select count(*) from job')" = 1 ] || fail "a repeated series made a job"
[ "$(find "$TEST_DIR/spool/incoming" -type f | wc -l)" = "$N_CT" ] || fail "duplicates were kept"

# Offline, same configuration: the same bytes.
"$ct2mr" run --out "$TEST_DIR/run" "$CT" >/dev/null || fail "ct2mr run"
for mr in "$TEST_DIR"/run/MR*.dcm; do
    cmp -s "$mr" "$TEST_DIR/spool/jobs/1-1/${mr##*/}" || fail "ct2mr run differs in ${mr##*/}"
done

# Its own MR is neither an MR to train on nor a reference.
printf 'case,ct,mr\na,%s,%s\n' "$(realpath "$CT")" "$TEST_DIR/tps" >"$TEST_DIR/cases.csv"
runs 1 "$ct2mr" pack --cases "$TEST_DIR/cases.csv" --target T1 --out "$TEST_DIR/own.pack"
says "line 2 left out: PACK_CASE: the MR says that it was computed from other images"
runs 1 "$ct2mr" mask "$CT" --out "$TEST_DIR/mask.nii.gz" --brain --reference "$TEST_DIR/tps"
says "it says that it was computed from other images"

# Nothing of the patient in the log, the job's texts or file names.
grep -q 'TRIAL' "$TEST_DIR/node.log" && fail "patient name in the log"
find "$TEST_DIR/spool" | grep -q 'TRIAL' && fail "patient name in a path"
"$ct2mr" job log 1 | grep -q 'TRIAL' && fail "patient name in events"
uid=$(table "$CT" 0020,000e | sed 's/.*\[\(.*\)\].*/\1/' | head -1)
[ -n "$uid" ] || fail "no series UID"
grep -qF "$uid" "$TEST_DIR/node.log" && fail "raw series UID in the log"

kill_node TERM
"$ct2mr" jobs | grep -q DONE || fail "jobs cannot be read while the daemon is down"
"$ct2mr" ready >/dev/null
[ $? = 3 ] || fail "ready must exit 3 while the daemon is down"
exit 0
