# Shared by the end-to-end tests and the demonstration: a node on loopback with a scratch spool, a
# stand-in TPS, waiting for states. Source it; $B is the build folder, $TEST_DIR the scratch folder.
# shellcheck shell=bash

set -u
B=${B:-build/release}
ct2mr=$B/ct2mr
ct2mrd=$B/ct2mrd
CRANIUM=/usr/share/doc/invesalius-examples/examples/Cranium.inv3
PATH=$PATH:/usr/sbin:/sbin # an ordinary user's has them not; Debian's Orthanc is there
export TCP_NODELAY=1 # the DCMTK tools leave Nagle's algorithm on otherwise
export CT2MR_CACHE_DIR=$TEST_DIR/cache
pids=()

skip() {
    echo "# skipped: $*"
    exit 77
}
fail() {
    echo "# FAILED: $*"
    [ -f "$TEST_DIR/node.log" ] && tail -40 "$TEST_DIR/node.log" | sed 's/^/# node: /'
    exit 1
}
need() {
    for tool in "$@"; do command -v "$tool" >/dev/null || skip "$tool is not installed"; done
}
# runs CODE COMMAND...: the exit code is CODE; stdout and stderr are in $TEST_DIR/out.
runs() {
    local want=$1
    shift
    "$@" >"$TEST_DIR/out" 2>&1
    local got=$?
    [ $got = "$want" ] || fail "exit $got, not $want, from $*: $(cat "$TEST_DIR/out")"
}
says() { grep -qF -- "$1" "$TEST_DIR/out" || fail "no '$1' in: $(cat "$TEST_DIR/out")"; }
cleanup() {
    for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null; done
    wait 2>/dev/null
}
trap cleanup EXIT

free_port() {
    local port
    while :; do
        port=$((10000 + RANDOM % 20000)) # below the range of outgoing connections
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}
# wait_for SECONDS COMMAND...: until the command succeeds. SECONDS of a quiet machine: where tests run
# beside each other it may take three times as long.
wait_for() {
    local end=$((SECONDS + 3 * $1))
    shift
    until "$@" 2>/dev/null; do
        [ $SECONDS -ge $end ] && return 1
        sleep "${pause:-0.1}"
    done
}
port_open() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The real head as a CT series; made once per build, by the program under test. Of scripts that run
# beside each other one makes it, the others wait.
make_ct() {
    CT=$B/testdata/ct-$(sha256sum "$ct2mr" | cut -c1-12)
    mkdir -p "$B/testdata"
    exec {ct_lock}>"$B/testdata/lock"
    flock "$ct_lock"
    if [ ! -d "$CT" ]; then
        [ -f "$CRANIUM" ] || skip "invesalius-examples is not installed"
        rm -rf "$CT.part" "$B"/testdata/ct-*
        mkdir -p "$CT.part"
        "$ct2mr" import "$CRANIUM" --out "$CT.part" >/dev/null || fail "import"
        mv "$CT.part" "$CT"
    fi
    exec {ct_lock}>&-
    # shellcheck disable=SC2034 # used by the scripts that source this
    N_CT=$(find "$CT" -name '*.dcm' | wc -l)
}

# as_measured FOLDER: takes from a synthetic MR what it says of itself, so that it serves as an MR.
as_measured() {
    dcmodify -nb -ea "(0020,4000)" -ea "(0008,2111)" -ea "(0008,001c)" \
        -m "(0008,1090)=Scanner" "$1"/*.dcm || fail "dcmodify"
}

# write_config [LINE...]: the node's configuration; each LINE is "section.key: value" and wins.
write_config() {
    node_port=${node_port:-$(free_port)}
    tps_port=${tps_port:-$(free_port)}
    declare -A options=(
        [spool.path]=$TEST_DIR/spool [db.path]=$TEST_DIR/ct2mr.db
        [control.socket]=$TEST_DIR/control.sock
        [listen.address]=127.0.0.1 [listen.port]=$node_port [listen.min_free_mib]=1
        [series.quiet_s]=1 [series.max_quiet_s]=3 [series.wait_s]=600
        [model.path]=etc/models/demo-t1-w16.safetensors
        [send.retry_first_s]=1 [send.retry_max_s]=2 [send.timeout_s]=10
    )
    local line
    for line in "$@"; do options[${line%%:*}]=${line#*: }; done
    config=$TEST_DIR/ct2mr.yaml
    {
        local key section=
        while read -r key; do
            [ "${key%%.*}" != "$section" ] && section=${key%%.*} && echo "$section:"
            echo "  ${key#*.}: ${options[$key]}"
        done < <(printf '%s\n' "${!options[@]}" | LC_ALL=C sort)
        echo "destinations:"
        echo "  - name: tps"
        echo "    ae_title: TPS"
        echo "    host: 127.0.0.1"
        echo "    port: $tps_port"
    } >"$config"
    export CT2MR_CONFIG=$config
}

# Up and listening; `ready` also wants a model, which some tests take away.
listening() {
    local reply
    reply=$("$ct2mr" status --json) && [[ $reply == *'"pid"'* && $reply != *'not listening'* ]]
}
start_node() {
    "$ct2mrd" -c "$config" >>"$TEST_DIR/node.log" 2>&1 &
    node_pid=$!
    pids+=("$node_pid")
    wait_for 10 listening || fail "the node does not listen"
}
kill_node() { # kill_node SIGNAL
    kill "-$1" "$node_pid"
    wait "$node_pid" 2>/dev/null
}
start_tps() { # start_tps [OPTION...] of storescp
    mkdir -p "$TEST_DIR/tps"
    storescp -aet TPS -od "$TEST_DIR/tps" "$@" "$tps_port" >"$TEST_DIR/tps.log" 2>&1 &
    tps_pid=$!
    pids+=("$tps_pid")
    wait_for 10 port_open "$tps_port" || fail "the stand-in TPS does not listen"
}
stop_tps() {
    kill -9 "$tps_pid" 2>/dev/null
    wait "$tps_pid" 2>/dev/null
}
tps_count() { find "$TEST_DIR/tps" -type f | wc -l; }
send_ct() { # send_ct [FOLDER]
    storescu -aet SCANNER -aec CT2MR +sd 127.0.0.1 "$node_port" "${1:-$CT}" \
        >"$TEST_DIR/storescu.log" 2>&1
}

sql() { sqlite3 -readonly "$TEST_DIR/ct2mr.db" "$1"; }
# The first of its kind in the object is the job's own; deliveries and events come after it.
job_field() { "$ct2mr" job show "$2" --json | grep -o "\"$1\":\"[A-Z_]*\"" | head -1 | cut -d'"' -f4; }
job_state() { job_field state "${1:-1}"; }
job_code() { job_field code "${1:-1}"; }
job_is() { [ "$(job_state "$1")" = "$2" ]; }
wait_state() { # wait_state ID STATE SECONDS; each look is a start of ct2mr: no more than needed
    pause=0.4 wait_for "$3" job_is "$1" "$2" || fail "job $1 is $(job_state "$1") $(job_code "$1"), not $2"
}
