#!/bin/bash
# timeout: 300
# A GPU (emulated) fails its self-test: the CPU computes, the job is DONE, there is an alert in its
# events and in the log, and `ct2mr status` says what is out of service until a self-test passes.
# Without a fallback the job fails, with the same alert.
. tests/e2e/lib.sh
need storescu storescp sqlite3 dcmodify
[ -f "$B/tests/plugin/ct2mr_cuda.so" ] || skip "no CUDA toolkit: the backend was not built"
make_ct
export CT2MR_PLUGIN_DIR=$B/tests/plugin CT2MR_EMULATED_FAULT=$TEST_DIR/fault

# The demonstration model on a coarse grid: the emulator is slow.
"$ct2mr" model import --grid 32x8 --label "coarse" --out "$TEST_DIR/model.safetensors" \
    etc/models/demo-t1-w16.safetensors >/dev/null || fail "model import"
write() { # write BACKEND
    write_config "model.path: $TEST_DIR/model.safetensors" "model.precision: f16" \
        "model.backend: $1" "job.worker_idle_s: 1" "job.attempts: 1"
}
send() { # send N: another patient
    cp -r "$CT" "$TEST_DIR/ct$1"
    dcmodify -nb -m "PatientID=P$1" -m "StudyInstanceUID=1.2.3.$1" \
        -m "SeriesInstanceUID=1.2.3.$1.1" -m "FrameOfReferenceUID=1.2.3.$1.2" -gin \
        "$TEST_DIR/ct$1"/*.dcm 2>/dev/null || fail "dcmodify"
    send_ct "$TEST_DIR/ct$1" || fail "storescu"
}
alerts() { sql "select count(*) from event where job_id=$1 and kind='alert' and status=706"; }

write auto
touch "$CT2MR_EMULATED_FAULT"
start_tps
start_node
"$ct2mr" status >"$TEST_DIR/status"
grep -q 'out of service' "$TEST_DIR/status" && fail "out of service before any job"
send 1
wait_state 1 DONE 120
"$ct2mr" job show 1 | grep -q 'backend cpu in f32' || fail "job 1 was not on the CPU"
[ "$(alerts 1)" = 1 ] || fail "$(alerts 1) alerts of job 1"
"$ct2mr" job log 1 | grep -q ' alert .*SELF_TEST backend cuda is out of service in f16.*conv1' ||
    fail "job log has no alert"
grep -q 'level=1 event=alert job=1 .*code=SELF_TEST.*out of service' "$TEST_DIR/node.log" ||
    fail "no alert in the log"
"$ct2mr" status >"$TEST_DIR/status" || fail "status"
grep 'WARNING.*backend cuda is out of service' "$TEST_DIR/status" || fail "status does not say it"
"$ct2mr" status --json | grep -q '"warnings":\["worker 0: backend cuda is out of service' ||
    fail "status --json does not say it"

rm "$CT2MR_EMULATED_FAULT" # the card is well again
send 2
wait_state 2 DONE 120
"$ct2mr" job show 2 | grep -q 'backend cuda in f16' || fail "job 2 was not on the GPU"
[ "$(alerts 2)" = 0 ] || fail "an alert of job 2"
"$ct2mr" status >"$TEST_DIR/status"
grep 'out of service' "$TEST_DIR/status" && fail "still out of service"

write cuda
kill_node TERM
touch "$CT2MR_EMULATED_FAULT"
start_node
send 3
wait_state 3 FAILED 120
[ "$(job_code 3)" = SELF_TEST ] || fail "job 3: $(job_code 3)"
[ "$(alerts 3)" = 1 ] || fail "$(alerts 3) alerts of job 3"
"$ct2mr" status >"$TEST_DIR/status"
grep -q 'WARNING.*backend cuda is out of service' "$TEST_DIR/status" || fail "status does not say it"
exit 0
