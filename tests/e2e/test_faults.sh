#!/bin/bash
# timeout: 600
# What goes wrong in a department, each with its documented state and code, and nothing lost.
. tests/e2e/lib.sh
need storescu storescp sqlite3
make_ct

fresh() { # fresh [CONFIG LINE...]
    rm -rf "$TEST_DIR/spool" "$TEST_DIR"/ct2mr.db* "$TEST_DIR/tps"
    write_config "$@"
    mkdir -p "$TEST_DIR/tps"
}
expect() { # expect ID STATE CODE SECONDS
    wait_state "$1" "$2" "$4"
    [ "$(job_code "$1")" = "$3" ] || fail "job $1: code $(job_code "$1"), not $3"
    echo "# $2 $3"
}
incoming() { find "$TEST_DIR/spool/incoming" -type f | wc -l; }
part=$TEST_DIR/part

echo "# wrong configurations: refused with line and column, the old one stays on SIGHUP"
fresh
sed -i 's/  port: .*/  port: 99999/' "$config"
"$ct2mrd" -c "$config" >"$TEST_DIR/out" 2>&1 && fail "a wrong port is accepted"
grep -q 'CONFIG_RANGE.*ct2mr.yaml:[0-9]*:[0-9]*' "$TEST_DIR/out" || fail "no line and column: $(cat "$TEST_DIR/out")"
"$ct2mr" config check "$config" >/dev/null 2>&1
[ $? = 1 ] || fail "config check: verdict"
"$ct2mrd" -c "$TEST_DIR/none.yaml" >"$TEST_DIR/out" 2>&1
[ $? = 78 ] || fail "no configuration: systemd would start it again and again"
grep -q CONFIG_FILE "$TEST_DIR/out" || fail "no configuration: $(cat "$TEST_DIR/out")"
fresh
start_node
"$ct2mrd" -c "$config" >"$TEST_DIR/out" 2>&1 && fail "two daemons on one spool"
grep -q 'DAEMON_RUNS: it holds' "$TEST_DIR/out" || fail "second daemon: $(cat "$TEST_DIR/out")"
echo "nonsense: 1" >>"$config"
kill -HUP "$node_pid"
wait_for 5 grep -q 'config.reload.*CONFIG_KEY' "$TEST_DIR/node.log" || fail "bad reload is not logged"
"$ct2mr" ready >/dev/null 2>&1 || fail "a bad reload stopped the node, or blinds ct2mr"
"$ct2mr" status 2>"$TEST_DIR/out" | grep -q 'the last reload was refused' || fail "status does not warn"
grep -q 'warning: CONFIG_KEY: .*nonsense' "$TEST_DIR/out" || fail "no warning: $(cat "$TEST_DIR/out")"
kill_node TERM

echo "# the TPS is down for a while"
fresh "send.retry_first_s: 4" "send.retry_max_s: 4"
start_node
send_ct || fail "storescu"
expect 1 RETRY SEND_CONNECT 60
start_tps
wait_state 1 DONE 60
[ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
stop_tps
kill_node TERM

echo "# no destination yet: the result is held, never DONE; one is added, and it is released"
fresh
cp "$config" "$TEST_DIR/with.yaml"
sed -i '/^destinations:/,$d' "$config"
start_node
send_ct || fail "storescu"
expect 1 HELD DEST_NONE 60
"$ct2mr" status | grep -q 'WARNING.*no destination' || fail "status does not warn"
"$ct2mr" job release 1 >/dev/null 2>&1
[ $? = 4 ] || fail "released to nobody"
cp "$TEST_DIR/with.yaml" "$config"
kill -HUP "$node_pid"
start_tps
released() { "$ct2mr" job release 1 >/dev/null 2>&1; }
wait_for 5 released || fail "release"
wait_state 1 DONE 60
[ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
echoscu -aet SCANNER -aec WRONG 127.0.0.1 "$node_port" >/dev/null 2>&1 && fail "a wrong called AE title is accepted"
grep -q 'receiver.rejected.*called AE title' "$TEST_DIR/node.log" || fail "a rejected association is not logged"
stop_tps
kill_node TERM

echo "# unknown and corrupt model file; mended, then retried"
for kind in MODEL_NOT_FOUND MODEL_FORMAT; do
    [ $kind = MODEL_FORMAT ] && head -c 3000000 etc/models/demo-t1-w16.safetensors >"$TEST_DIR/model.safetensors"
    fresh "model.path: $TEST_DIR/model.safetensors"
    start_node
    start_tps
    send_ct || fail "storescu"
    expect 1 FAILED $kind 60
    [ "$(incoming)" = "$N_CT" ] || fail "images lost"
    cp etc/models/demo-t1-w16.safetensors "$TEST_DIR/model.safetensors"
    "$ct2mr" job retry 1 >/dev/null || fail "job retry"
    wait_state 1 DONE 60
    [ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
    rm "$TEST_DIR/model.safetensors"
    stop_tps
    kill_node TERM
done

echo "# a missing slice: waits, then fails; the late slice makes it whole"
rm -rf "$part"
cp -r "$CT" "$part"
late=$(find "$part" -name '*.dcm' | sort | sed -n 50p)
mv "$late" "$TEST_DIR/late.dcm"
fresh "series.wait_s: 3"
start_tps
start_node
send_ct "$part" || fail "storescu"
expect 1 WAITING SERIES_GAP 30
expect 1 FAILED SERIES_GAP 30
[ "$(tps_count)" = 0 ] || fail "images were sent from a series with a gap"
send_ct "$TEST_DIR/late.dcm" || fail "storescu of the late slice"
wait_state "$(sql 'select max(id) from job')" DONE 60
[ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
kill_node TERM

echo "# a slice that comes while the rest is waiting"
fresh
start_node
send_ct "$part" || fail "storescu"
expect 1 WAITING SERIES_GAP 30
send_ct "$TEST_DIR/late.dcm" || fail "storescu of the late slice"
wait_state 1 DONE 60
kill_node TERM

echo "# an association cut in the middle: what was acknowledged is kept, the rest is waited for"
fresh
start_node
# In order, as scanners send: the first half is one regular volume. Each image 20 times, so that the
# association is still open when it is cut.
mapfile -t in_order < <(find "$CT" -name '*.dcm' | sort)
(exec storescu -aet SCANNER -aec CT2MR --repeat 20 127.0.0.1 "$node_port" "${in_order[@]}" >/dev/null 2>&1) &
sender=$!
some() { [ "$(sql 'select count(*) from image')" -ge 20 ]; }
wait_for 20 some || fail "nothing arrives"
kill -9 "$sender" || fail "the sender was done before it could be cut"
expect 1 WAITING SERIES_CUT 10
kept=$(incoming)
[ "$kept" -ge 20 ] || fail "acknowledged images lost"
[ "$kept" -lt "$N_CT" ] || fail "the whole series came before it was cut"
send_ct || fail "storescu"
wait_state 1 DONE 60
[ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
kill_node TERM

echo "# all images, then an abort instead of a release: given up, and taken up when it is sent again"
fresh "series.wait_s: 3"
start_node
storescu -aet SCANNER -aec CT2MR --abort +sd 127.0.0.1 "$node_port" "$CT" >/dev/null 2>&1
expect 1 WAITING SERIES_CUT 10
expect 1 FAILED SERIES_CUT 10
send_ct || fail "storescu"
wait_state 1 DONE 60
[ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
kill_node TERM

echo "# an image refused within the association: it may be one that is missed; a person decides"
fresh "series.wait_s: 3"
start_node
cp "${in_order[9]}" "$TEST_DIR/bad.dcm"
dcmodify -nb -gin -ea '(0028,0010)' "$TEST_DIR/bad.dcm" || fail "dcmodify"
storescu -aet SCANNER -aec CT2MR -nh 127.0.0.1 "$node_port" "$TEST_DIR/bad.dcm" "${in_order[@]}" >/dev/null 2>&1
expect 1 FAILED SERIES_CUT 20
"$ct2mr" job retry 1 >/dev/null || fail "retry"
wait_state 1 DONE 60
[ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
stop_tps
kill_node TERM

echo "# the same image with other content: refused with C111H, the job is quarantined"
fresh "series.quiet_s: 5" "series.max_quiet_s: 6"
start_node
send_ct || fail "storescu"
cp "$(find "$CT" -name '*.dcm' | sort | sed -n 10p)" "$TEST_DIR/other.dcm"
dcmodify -nb -m '(0028,1052)=-1000' "$TEST_DIR/other.dcm" || fail "dcmodify"
send_ct "$TEST_DIR/other.dcm"
expect 1 QUARANTINED SERIES_CONFLICT 10
[ "$(incoming)" = "$N_CT" ] || fail "the first version is gone"
kill_node TERM

echo "# another patient in the same series: kept as evidence, quarantined"
fresh "series.quiet_s: 5" "series.max_quiet_s: 6"
start_node
send_ct "$part" || fail "storescu"
cp "$TEST_DIR/late.dcm" "$TEST_DIR/other.dcm"
dcmodify -nb -m '(0010,0020)=SOMEBODY' "$TEST_DIR/other.dcm" || fail "dcmodify"
send_ct "$TEST_DIR/other.dcm" || fail "the image must be taken"
expect 1 QUARANTINED SERIES_PATIENT 10
grep -q SOMEBODY "$TEST_DIR/node.log" && fail "patient ID in the log"
kill_node TERM

echo "# a full disk: images are refused, never half stored; room again, and the job goes on"
mkdir -p "$TEST_DIR/small"
trap 'cleanup; umount -l "$TEST_DIR/small" 2>/dev/null' EXIT
if mount -t tmpfs -o size=10m tmpfs "$TEST_DIR/small" 2>/dev/null; then
    fresh "spool.path: $TEST_DIR/small/spool"
    start_node
    start_tps
    send_ct && : # storescu goes on or stops after a refusal; both are fine
    full=$(find "$TEST_DIR/small/spool/incoming" -type f | wc -l)
    [ "$full" -lt "$N_CT" ] && [ "$full" -gt 0 ] || fail "the disk did not become full: $full"
    grep -q 'A700' "$TEST_DIR/node.log" || fail "no A700H"
    mount -o remount,size=64m "$TEST_DIR/small"
    send_ct || fail "storescu after making room"
    wait_state "$(sql 'select max(id) from job')" DONE 90
    [ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
    kill_node TERM
    stop_tps

    # room for the images, not for the result
    umount "$TEST_DIR/small"
    mount -t tmpfs -o size=17m tmpfs "$TEST_DIR/small"
    fresh "spool.path: $TEST_DIR/small/spool" "job.attempts: 1"
    start_node
    start_tps
    send_ct || fail "storescu"
    expect 1 FAILED DISK_FULL 60
    mount -o remount,size=64m "$TEST_DIR/small"
    "$ct2mr" job retry 1 >/dev/null || fail "job retry"
    wait_state 1 DONE 60
    [ "$(tps_count)" = "$N_CT" ] || fail "TPS holds $(tps_count)"
    kill_node TERM
    umount "$TEST_DIR/small"
else
    echo "# skipped part: a small tmpfs cannot be mounted here"
fi
exit 0
