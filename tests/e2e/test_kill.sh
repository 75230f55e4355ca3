#!/bin/bash
# timeout: 900
# kill -9 of the daemon, a receive child, the worker and a send child, each at three moments, of one
# series where it may be so often. After restart (of what was killed; the sender repeats what was not
# acknowledged) the TPS holds every image exactly once.
. tests/e2e/lib.sh
need storescu storescp sqlite3 pgrep
make_ct

# Stores the whole series, again and again until storescu says that everything was accepted.
send_until_accepted() {
    local end=$((SECONDS + 60))
    until send_ct; do
        [ $SECONDS -ge $end ] && fail "the series is never accepted"
        sleep 0.2
    done
}
stored() { [ "$(sql 'select count(*) from image')" -ge "$1" ]; }
child() { pgrep -f "ct2mr $1" | while read -r p; do # of this test's daemon only
    grep -qz "$TEST_DIR" "/proc/$p/cmdline" && echo "$p"; done; }
child_runs() { [ -n "$(child "$1")" ]; }
step_done() { [ "$(sql "select count(*) from event where kind='step' and step='$1'")" -ge 1 ]; }
restart() {
    wait "$node_pid" 2>/dev/null
    start_node
}

run_case() { # run_case NAME MOMENT...: a fresh spool, the kills, then the verdict
    rm -rf "$TEST_DIR/spool" "$TEST_DIR"/ct2mr.db* "$TEST_DIR/tps"
    mkdir -p "$TEST_DIR/tps"
    start_node
    "$@"
    send_until_accepted
    wait_state "$(sql 'select max(id) from job')" DONE 120
    [ "$(tps_count)" = "$N_CT" ] || fail "$*: TPS holds $(tps_count) of $N_CT"
    [ -z "$(find "$TEST_DIR/spool/tmp" -type f)" ] || fail "$*: part files left"
    [ "$(find "$TEST_DIR/spool/incoming" -type f | wc -l)" = "$N_CT" ] || fail "$*: incoming"
    [ "$(sql "select count(*) from job where state = 8")" = 1 ] || fail "$*: not one job DONE"
    kill_node TERM
    echo "# $*: every image once"
}

daemon_receiving() { # each time after so many images in all
    for n in "$@"; do
        send_ct &
        wait_for 30 stored "$n" || fail "nothing arrives"
        kill_node 9
        wait %?send_ct 2>/dev/null
        restart
    done
}
kill_receivers() { pkill -9 -P "$(pgrep -P "$node_pid" -f -- --zygote)"; }
receive_child() {
    for n in "$@"; do
        send_ct &
        wait_for 30 stored "$n" || fail "nothing arrives"
        wait_for 2 kill_receivers || echo "# $n: the series had just arrived"
        wait %?send_ct 2>/dev/null
    done
}
worker() { # after step $1
    send_until_accepted
    if [ "$1" = start ]; then
        wait_for 60 child_runs --worker || fail "no worker"
    else
        wait_for 60 step_done "$1" || fail "no step $1"
    fi
    kill -9 "$(child --worker)" 2>/dev/null || echo "# $1: the worker had just ended"
}
daemon_computing() { # each time after that step
    send_until_accepted
    for step in "$@"; do
        wait_for 60 step_done "$step" || fail "no step $step"
        kill_node 9
        restart
    done
}
sending() { sender_pid=$(pgrep -P "$node_pid" -f -- --sender); }
tps_holds() { [ "$(tps_count)" -ge "$1" ]; }
sender() { # each time after so many images are on the TPS
    send_until_accepted
    for n in "$@"; do
        wait_for 60 sending || fail "nothing is sent"
        wait_for 60 tps_holds "$n" || fail "nothing arrives at the TPS"
        kill -9 "$sender_pid" 2>/dev/null || fail "the sender had ended before it was killed"
    done
}

write_config
start_tps
run_case daemon_receiving 1 30 100
run_case receive_child 1 30 100
for step in start align infer; do run_case worker "$step"; done
run_case daemon_computing load restore write
stop_tps # a delivery takes a fifth of a second: too short to be met; a slow TPS makes it four
start_tps --exec-on-reception "sleep 0.03" --exec-sync
run_case sender 1 10 60
exit 0
