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

# tag FILE TAG: the value as dcmdump prints it
tag() { dcmdump +P "$2" "$1" 2>/dev/null | head -1 | sed -E 's/^[^[]*\[(.*)\].*/\1/'; }
declare -A ct_by_ipp
for image in "$CT"/*; do ct_by_ipp[$(tag "$image" 0020,0032)]=$image; done
series=
for mr in "$TEST_DIR"/tps/*; do
    ct=${ct_by_ipp[$(tag "$mr" 0020,0032)]:-}
    [ -n "$ct" ] || fail "an MR image lies where no CT image is"
    unset "ct_by_ipp[$(tag "$mr" 0020,0032)]"
    for t in 0010,0010 0010,0020 0020,000d 0020,0052 0020,0037 0028,0030 0018,0050 0028,0010; do
        [ "$(tag "$mr" $t)" = "$(tag "$ct" $t)" ] || fail "attribute $t differs from the CT's"
    done
    [ "$(tag "$mr" 0008,0060)" = MR ] || fail "modality"
    [ "$(tag "$mr" 0008,001c)" = YES ] || fail "not marked synthetic"
    series=$(printf '%s\n%s' "$series" "$(tag "$mr" 0020,000e)" | sort -u | sed '/^$/d')
done
[ "$(wc -l <<<"$series")" = 1 ] || fail "more than one MR series"

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
[ "$(sql 'select count(*) from jobs')" = 1 ] || fail "a repeated series made a job"
[ "$(find "$TEST_DIR/spool/incoming" -type f | wc -l)" = "$N_CT" ] || fail "duplicates were kept"

# Offline, same configuration: the same bytes.
"$ct2mr" run --out "$TEST_DIR/run" "$CT" >/dev/null || fail "ct2mr run"
for mr in "$TEST_DIR"/run/MR*.dcm; do
    cmp -s "$mr" "$TEST_DIR/spool/jobs/1-1/${mr##*/}" || fail "ct2mr run differs in ${mr##*/}"
done

# Nothing of the patient in the log, the job's texts or file names.
grep -q 'TRIAL' "$TEST_DIR/node.log" && fail "patient name in the log"
find "$TEST_DIR/spool" | grep -q 'TRIAL' && fail "patient name in a path"
"$ct2mr" job log 1 | grep -q 'TRIAL' && fail "patient name in events"
uid=$(tag "$(find "$CT" -name '*.dcm' | head -1)" 0020,000e)
grep -qF "$uid" "$TEST_DIR/node.log" && fail "raw series UID in the log"

kill_node TERM
"$ct2mr" jobs | grep -q DONE || fail "jobs cannot be read while the daemon is down"
"$ct2mr" ready >/dev/null
[ $? = 3 ] || fail "ready must exit 3 while the daemon is down"
exit 0
