#!/bin/bash
# timeout: 600
# A real GPU: the self-test, jobs through the daemon whose images are those of a new process, bit for
# bit, and those of the CPU but for rounding, kill -9 of the worker while it works, and a GPU whose
# memory others have taken.
. tests/e2e/lib.sh
need storescu storescp sqlite3 dcmodify dcmdump pgrep od
export CT2MR_PLUGIN_DIR=$B
model=etc/models/demo-t1-w16.safetensors
"$ct2mr" gpu list >"$TEST_DIR/gpus" 2>&1 || skip "no GPU: $(cat "$TEST_DIR/gpus")"
sed 's/^/# /' "$TEST_DIR/gpus"
make_ct

"$ct2mr" gpu selftest --model $model >"$TEST_DIR/out" 2>&1 || fail "self-test: $(cat "$TEST_DIR/out")"
sed 's/^/# /' "$TEST_DIR/out"

send() { # send N: another patient
    cp -r "$CT" "$TEST_DIR/ct$1"
    dcmodify -nb -m "RescaleIntercept=$1" -m "PatientID=P$1" -m "StudyInstanceUID=1.2.3.$1" \
        -m "SeriesInstanceUID=1.2.3.$1.1" -m "FrameOfReferenceUID=1.2.3.$1.2" -gin \
        "$TEST_DIR/ct$1"/*.dcm 2>/dev/null || fail "dcmodify"
    send_ct "$TEST_DIR/ct$1" || fail "storescu"
}
on_gpu() { "$ct2mr" job show "$1" | grep -q 'backend cuda in f16' || fail "job $1 was not on the GPU"; }
run() { # run BACKEND PRECISION PATIENT
    "$ct2mr" run --backend "$1" --precision "$2" --out "$TEST_DIR/$1$3" "$TEST_DIR/ct$3" >"$TEST_DIR/out" 2>&1 ||
        fail "run on $1: $(cat "$TEST_DIR/out")"
}
write_config "model.backend: cuda" "model.precision: f16" "job.worker_idle_s: 300" "job.attempts: 2"
start_tps
start_node
send 1
wait_state 1 DONE 60
on_gpu 1
send 2
wait_state 2 DONE 60
on_gpu 2
run cuda f16 2
for mr in "$TEST_DIR"/cuda2/MR*.dcm; do
    cmp -s "$mr" "$TEST_DIR"/spool/jobs/2-*/"${mr##*/}" || fail "the daemon's ${mr##*/} differs"
done
echo "# the second job of a worker: the bits of a new process"

# Pixel values of both series, in the order of the files.
run cpu f32 2
pixels() { dcmdump +W "$2" "$1" >/dev/null; }
for folder in cuda2 cpu2; do
    mkdir "$TEST_DIR/$folder.raw"
    for mr in "$TEST_DIR/$folder"/MR*.dcm; do pixels "$mr" "$TEST_DIR/$folder.raw"; done
    cat "$TEST_DIR/$folder.raw"/*.raw >"$TEST_DIR/$folder.pixels"
done
paste <(od -An -v -tu2 -w2 "$TEST_DIR/cuda2.pixels") <(od -An -v -tu2 -w2 "$TEST_DIR/cpu2.pixels") |
    awk '{ d = $1 - $2; s += d * d; d = d < 0 ? -d : d; if (d > most) most = d; if ($2 > range) range = $2 }
        END { rms = sqrt(s / NR); printf "# %d pixels, GPU against CPU: RMS %.2f, at most %d of %d\n", NR, rms, most, range
            exit !(NR > 1000000 && range > 500 && rms < 0.002 * range && most < 0.1 * range) }' || fail "the GPU's pixels are not the CPU's"

# kill -9 of the worker once the series is aligned: the second attempt does it.
step_done() { [ "$(sql "select count(*) from event where job_id=$1 and kind='step' and step='$2'")" -ge 1 ]; }
send 3 &
wait_for 30 step_done 3 align || fail "job 3 does not begin"
pkill -9 -P "$node_pid" -f -- --worker
wait_state 3 DONE 60
[ "$(sql "select attempt from job where id=3")" = 2 ] || echo "# job 3 was done before the kill"
on_gpu 3
[ "$(tps_count)" = $((3 * N_CT)) ] || fail "TPS holds $(tps_count)"
echo "# kill -9 of a worker on the GPU: nothing lost"
exit 0
