#!/bin/bash
# timeout: 600
# Workers on GPUs (two, emulated): a worker stays for the next job, two GPUs take two jobs at a time,
# a worker that had other patients gives the bytes of a new process, kill -9 of one that waits or
# works loses nothing, another model file is taken up, one that is idle ends.
. tests/e2e/lib.sh
need storescu storescp sqlite3 pgrep dcmodify
[ -f "$B/tests/plugin/ct2mr_cuda.so" ] || skip "no CUDA toolkit: the backend was not built"
make_ct
export CT2MR_PLUGIN_DIR=$B/tests/plugin CT2MR_CACHE_DIR=$TEST_DIR/cache CT2MR_EMULATED_GPUS=2

# The demonstration model on a coarse grid: the emulator is slow.
coarse() { # coarse LABEL OUT
    "$ct2mr" model import --grid 32x8 --label "$1" --out "$2" etc/models/demo-t1-w16.safetensors \
        >/dev/null || fail "model import"
}
coarse "one" "$TEST_DIR/model.safetensors"

# Another patient: N HU denser, everything under new UIDs.
make_patient() { # make_patient N
    cp -r "$CT" "$TEST_DIR/ct$1"
    dcmodify -nb -m "RescaleIntercept=$1" -m "PatientID=P$1" -m "StudyInstanceUID=1.2.3.$1" \
        -m "SeriesInstanceUID=1.2.3.$1.1" -m "FrameOfReferenceUID=1.2.3.$1.2" -gin \
        "$TEST_DIR/ct$1"/*.dcm 2>/dev/null || fail "dcmodify"
}
for n in 1 2 3 4 5 6; do make_patient $n; done

write() { # write IDLE_S
    write_config "model.path: $TEST_DIR/model.safetensors" "model.precision: f16" \
        "job.worker_idle_s: $1" "job.attempts: 3"
}
workers() { pgrep -P "$node_pid" -f -- --worker | sort; }
n_workers() { workers | wc -l; }
n_workers_is() { [ "$(n_workers)" = "$1" ]; }
running_is() { [ "$(sql "select count(*) from job where state = 4")" = "$1" ]; }
job_exists() { [ "$(sql "select count(*) from job where id = $1")" = 1 ]; }
step_done() { [ "$(sql "select count(*) from event where job_id=$1 and kind='step' and step='$2'")" -ge 1 ]; }
send() { send_ct "$TEST_DIR/ct$1" || fail "storescu"; }
attempts() { sql "select attempt from job where id=$1"; }
compare() { # compare JOB PATIENT: the job's bytes are those of a new process
    "$ct2mr" run --out "$TEST_DIR/run$2" "$TEST_DIR/ct$2" >"$TEST_DIR/run.log" || fail "ct2mr run"
    grep -q 'backend cuda in f16' "$TEST_DIR/run.log" || fail "ct2mr run was not on the GPU"
    local mr n=0
    for mr in "$TEST_DIR/run$2"/MR*.dcm; do
        cmp -s "$mr" "$TEST_DIR"/spool/jobs/"$1"-*/"${mr##*/}" || fail "job $1 differs in ${mr##*/}"
        n=$((n + 1))
    done
    [ $n = "$N_CT" ] || fail "$n images"
}

write 300
start_tps
start_node
send 1
wait_state 1 DONE 120
"$ct2mr" job show 1 | grep -q 'backend cuda in f16' || fail "job 1 was not on the GPU"
n_workers_is 1 || fail "$(n_workers) workers after one job"
first=$(workers)

# Two at a time; the first worker takes one of them.
send 2 &
wait_for 20 job_exists 2 || fail "no second job"
send 3
wait %?send
wait_for 60 n_workers_is 2 || fail "no second worker"
workers | grep -qx "$first" || fail "the first worker did not stay"
wait_for 60 running_is 2 || fail "never two jobs at a time"
wait_state 2 DONE 120
wait_state 3 DONE 120
both=$(workers)
[ "$(echo "$both" | wc -l)" = 2 ] || fail "two workers do not stay"
compare 2 2
compare 3 3
echo "# two GPUs, two jobs at a time, the same bytes as new processes"

# A model file that was replaced is taken up by a worker that stays.
coarse "two" "$TEST_DIR/new" && mv "$TEST_DIR/new" "$TEST_DIR/model.safetensors"
send 4
wait_state 4 DONE 120
[ "$(workers)" = "$both" ] || fail "other workers for another model"
[ "$(sql "select model_digest from job where id=4")" = \
    "$(sha256sum "$TEST_DIR/model.safetensors" | cut -d' ' -f1)" ] || fail "the old model was used"

# kill -9: of both while they wait, then of one while it works.
# shellcheck disable=SC2086 # a list of pids
kill -9 $both
wait_for 10 n_workers_is 0 || fail "killed workers are still there"
send 5
wait_for 60 step_done 5 align || fail "job 5 does not begin"
kill -9 "$(workers)"
wait_state 5 DONE 120
[ "$(attempts 5)" = 2 ] || fail "job 5 took $(attempts 5) attempts"
compare 5 5
[ "$(tps_count)" = $((5 * N_CT)) ] || fail "TPS holds $(tps_count)"
echo "# kill -9 of waiting and working workers: nothing lost"

# A worker that waits too long ends, the daemon goes on.
n_workers_is 1 || fail "$(n_workers) workers before the reload"
write 1
kill -HUP "$node_pid"
wait_for 10 n_workers_is 0 || fail "a reload leaves the worker with what it had"
send 6
wait_state 6 DONE 120
wait_for 20 n_workers_is 0 || fail "an idle worker does not end"
"$ct2mr" ready >/dev/null || fail "the daemon has gone"
exit 0
