#!/bin/bash
# timeout: 300
# Orthanc as the TPS: every image arrives once, a repeated delivery makes no second object.
. tests/e2e/lib.sh
need storescu curl
orthanc=$(command -v Orthanc || true)
[ -n "$orthanc" ] || skip "Orthanc is not installed"
make_ct
write_config
http_port=$(free_port)
mkdir -p "$TEST_DIR/orthanc"
cat >"$TEST_DIR/orthanc.json" <<JSON
{ "Name": "tps", "StorageDirectory": "$TEST_DIR/orthanc", "IndexDirectory": "$TEST_DIR/orthanc",
  "DicomAet": "TPS", "DicomPort": $tps_port, "HttpPort": $http_port, "DicomCheckCalledAet": true,
  "RemoteAccessAllowed": false, "AuthenticationEnabled": false, "Plugins": [],
  "OverwriteInstances": false }
JSON
"$orthanc" "$TEST_DIR/orthanc.json" >"$TEST_DIR/orthanc.log" 2>&1 &
pids+=($!)
url=http://127.0.0.1:$http_port
wait_for 30 curl -sf "$url/statistics" >/dev/null || fail "Orthanc does not start"

start_node
"$ct2mr" dest echo tps || fail "C-ECHO to Orthanc"
send_ct || fail "storescu"
wait_state 1 DONE 200
count() { curl -sf "$url/statistics" | sed -n "s/.*\"$1\" : \([0-9]*\).*/\1/p"; }
[ "$(count CountInstances)" = "$N_CT" ] || fail "Orthanc holds $(count CountInstances) images"
[ "$(count CountSeries)" = 1 ] || fail "Orthanc holds $(count CountSeries) series"

# Forget that they were sent: the same objects go out again and stay the same objects.
kill_node TERM
sqlite3 "$TEST_DIR/ct2mr.db" "update delivery_image set state=1; update delivery set ended=0,
    next_try_ms=0; update job set state=6;"
start_node
wait_state 1 DONE 100
[ "$(count CountInstances)" = "$N_CT" ] || fail "a repeated delivery made new objects"
exit 0
