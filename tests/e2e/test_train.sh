#!/bin/bash
# timeout: 120
# From simulated pairs to a model: train, Ctrl-C, resume to the same bits, verify, evaluate, infer.
. tests/e2e/lib.sh
ct2mr=$(realpath "$ct2mr")
cd "$TEST_DIR" || exit 1
need sha256sum
"$ct2mr" simulate --pack p.pack --slices 12 --seed 1 >out 2>&1 || {
    grep -q mricron out && skip "mricron-data is not installed"
    fail "simulate: $(cat out)"
}
train=("$ct2mr" train --data p.pack --width 4 --epochs 4 --epoch-slices 4 --batch 2 --validation 0
    --label "a test" --licence none --envelope '{"kvp":[80,140]}')

"${train[@]}" --out whole.safetensors >out 2>&1 || fail "train: $(cat out)"
grep -q "all epochs done: 4 epochs, 8 steps" out || fail "no end in: $(cat out)"
[ "$(wc -l <whole.csv)" = 5 ] || fail "curves: $(cat whole.csv)"
head -c 8 whole.png | grep -q PNG || fail "whole.png is no picture"

# SIGINT after the first epoch; the same command with --resume gives the same file.
"${train[@]}" --out cut.safetensors >out 2>&1 &
pid=$!
wait_for 60 test -e cut.csv || fail "no epoch in a minute"
kill -INT $pid
wait $pid
code=$?
if [ $code = 5 ]; then
    "${train[@]}" --out cut.safetensors >out 2>&1 && fail "began anew over a checkpoint"
    "${train[@]}" --out cut.safetensors --resume >out 2>&1 || fail "resume: $(cat out)"
elif [ $code != 0 ]; then # it may have been over
    fail "exit $code after SIGINT: $(cat out)"
fi
cmp -s whole.safetensors cut.safetensors || fail "the resumed training gives another model"

# One that would take hours: each signal saves it, at once (SIGHUP not where whoever started this
# ignores it: nohup is to be obeyed).
for signal in INT TERM HUP; do
    env --default-signal=HUP "${train[@]}" --epochs 100000 --out $signal.safetensors >out 2>&1 &
    pid=$!
    wait_for 60 test -e $signal.csv || fail "no epoch in a minute"
    kill -$signal $pid
    wait $pid
    code=$?
    [ $code = 5 ] || fail "exit $code after SIG$signal: $(cat out)"
done

# The data is cut under it: said, and what was saved stays.
cp p.pack short.pack
"${train[@]}" --data short.pack --epochs 100000 --out short.safetensors >out 2>&1 &
pid=$!
wait_for 60 test -e short.csv || fail "no epoch in a minute"
truncate -s 8192 short.pack
wait $pid
code=$?
[ $code = 1 ] && grep -q "the packed file became shorter" out && [ -e short.checkpoint ] ||
    fail "exit $code with the data cut: $(cat out)"

"$ct2mr" model verify whole.safetensors >out 2>&1 || fail "verify: $(cat out)"
"$ct2mr" model show --json whole.safetensors >out 2>&1 || fail "show: $(cat out)"
grep -q '"data":"'"$(sha256sum p.pack | cut -c1-64)"'"' out || fail "no digest of the data: $(cat out)"
# What the model was trained on is no test of it.
"$ct2mr" eval --data p.pack --model whole.safetensors >out 2>&1 || fail "eval: $(cat out)"
grep -q "NOT A TEST: the model was trained on 1 of these 1 cases" out || fail "eval: $(cat out)"
"$ct2mr" eval --data p.pack --model whole.safetensors --min-masked 90 >out 2>&1
[ $? = 2 ] && grep -q "a mask below 90 % of the image" out || fail "eval --min-masked: $(cat out)"
"$ct2mr" eval --data p.pack --model whole.safetensors --out r.html --png pictures >out 2>&1 ||
    fail "eval --png: $(cat out)"
head -c 8 pictures/feature-maps.png | grep -q PNG && head -c 8 pictures/slice-*.png | grep -q PNG ||
    fail "eval --png: $(ls pictures)"
echo '<!DOCTYPE html><p>mine' >mine.html
"$ct2mr" eval --data p.pack --model whole.safetensors --out mine.html >out 2>&1
[ $? = 2 ] && grep -q mine mine.html || fail "eval --out replaced another page: $(cat out)"
"$ct2mr" eval --data p.pack --model whole.safetensors --out r.html --png pictures >out 2>&1
[ $? = 0 ] && fail "eval --png mixed two reports' pictures"
cp p.pack mine.pack
"$ct2mr" eval --data p.pack --model whole.safetensors --out mine.pack >out 2>&1
[ $? = 2 ] && cmp -s p.pack mine.pack || fail "eval --out replaced a packed file: $(cat out)"
"$ct2mr" eval --unseen --data p.pack --model whole.safetensors >out 2>&1
[ $? = 2 ] && grep -q "was trained on all of these cases" out || fail "eval --unseen: $(cat out)"
"$ct2mr" simulate --pack q.pack --slices 4 --seed 2 >out 2>&1 || fail "simulate: $(cat out)"
"$ct2mr" simulate --pack q.pack --slices 4 --seed 2 >out 2>&1
[ $? = 2 ] && grep -q "q.pack exists: --overwrite replaces it" out || fail "simulate: $(cat out)"
"$ct2mr" simulate --pack q.pack --slices 4 --seed 2 --overwrite >out 2>&1 || fail "$(cat out)"
"$ct2mr" eval --unseen --data q.pack --model whole.safetensors >out 2>&1 || fail "eval: $(cat out)"
grep -q "none of these 1 cases is known to have been trained on" out || fail "eval: $(cat out)"
exit 0
