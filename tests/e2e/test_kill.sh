#!/bin/bash
# timeout: 900
# kill -9 of the daemon, a receive child, the worker and a send child, each at three moments. After
# restart (of what was killed; the sender repeats what was not acknowledged) the TPS holds every
# image exactly once.
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

run_case() { # run_case NAME: a fresh spool, the kill, then the verdict
    rm -rf "$TEST_DIR/spool" "$TEST_DIR"/ct2mr.db* "$TEST_DIR/tps"
    mkdir -p "$TEST_DIR/tps"
    start_node
    "$1" "$2"
    send_until_accepted
    wait_state "$(sql 'select max(id) from job')" DONE 120
    [ "$(tps_count)" = "$N_CT" ] || fail "$1 $2: TPS holds $(tps_count) of $N_CT"
    [ -z "$(find "$TEST_DIR/spool/tmp" -type f)" ] || fail "$1 $2: part files left"
    [ "$(find "$TEST_DIR/spool/incoming" -type f | wc -l)" = "$N_CT" ] || fail "$1 $2: incoming"
    [ "$(sql "select count(*) from job where state = 8")" = 1 ] || fail "$1 $2: not one job DONE"
    kill_node TERM
    echo "# $1 $2: every image once"
}

daemon_receiving() { # after N images
    send_ct &
    wait_for 30 stored "$1" || fail "nothing arrives"
    kill_node 9
    wait %?send_ct 2>/dev/null
    restart
}
receive_child() {
    send_ct &
    wait_for 30 stored "$1" || fail "nothing arrives"
    zygote=$(pgrep -P "$node_pid" -f -- --zygote)
    pkill -9 -P "$zygote"
    wait %?send_ct 2>/dev/null
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
daemon_computing() { # after step $1
    send_until_accepted
    wait_for 60 step_done "$1" || fail "no step $1"
    kill_node 9
    restart
}
sending() { sender_pid=$(pgrep -P "$node_pid" -f -- --sender); }
tps_holds() { [ "$(tps_count)" -ge "$1" ]; }
sender() { # after $1 images are on the TPS
    send_until_accepted
    wait_for 60 sending || fail "nothing is sent"
    wait_for 60 tps_holds "$1" || fail "nothing arrives at the TPS"
    kill -9 "$sender_pid" 2>/dev/null || fail "the sender had ended before it was killed"
}

write_config
start_tps
for n in 1 30 100; do run_case daemon_receiving "$n"; done
for n in 1 30 100; do run_case receive_child "$n"; done
for step in start align infer; do run_case worker "$step"; done
for step in load restore write; do run_case daemon_computing "$step"; done
stop_tps # a delivery takes a fifth of a second: too short to be met; a slow TPS makes it four
start_tps --exec-on-reception "sleep 0.03" --exec-sync
for n in 1 10 60; do run_case sender "$n"; done
exit 0
