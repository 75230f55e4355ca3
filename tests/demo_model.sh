#!/bin/bash
# The demonstration model from nothing: a head simulated from Colin27 -> packed file -> training -> report.
#   demo_model.sh BUILD [MINUTES]
# With a GPU in 9 minutes, which is how the delivered model was made; on processors in 82, for less (0070).
# Everything lands in build/demo-model. The validation slices are those of seed 12345, never trained on.
set -eu
ct2mr=$1/ct2mr
out=build/demo-model
mkdir -p "$out"
precision=f32
grep -q avx512_bf16 /proc/cpuinfo && precision=bf16 # three steps in the time of two
minutes=82 slices=500
engine=(--backend cpu --precision "$precision" --batch 4 --lr 0.002 --epoch-slices 4000)
if "$ct2mr" gpu list 2>/dev/null | grep -q '^0 '; then
    minutes=9 slices=1000
    engine=(--backend cuda --precision f16 --batch 32 --lr 0.003 --epoch-slices 16000)
fi
minutes=${2:-$minutes}
"$ct2mr" help train >/dev/null 2>&1 || {
    echo "demo-model: this ct2mr cannot train" >&2
    exit 1
}
"$ct2mr" simulate --pack "$out/train.pack" --cases 20 --slices "$slices" --seed 1 --overwrite # 3.3 or 6.6 GB
"$ct2mr" simulate --pack "$out/validation.pack" --slices 40 --seed 12345 --overwrite
"$ct2mr" train --data "$out/train.pack" --out "$out/demo-t1-w16.safetensors" --overwrite \
    --arch drunet-34 --width 16 --minutes "$minutes" --epochs 100000 --validation 0.1 --augment flip --f16 "${engine[@]}" \
    --label "DEMONSTRATION ONLY - trained on simulated CT of one head - not for clinical use" \
    --licence "same terms as the Colin27 data in mricron-data; model weights made by this project" \
    --envelope '{"body_part":"HEAD","age_years":[18,90],"slice_thickness_mm":[0.5,5.0],"pixel_spacing_mm":[0.3,1.2],"kvp":[100,140]}'
"$ct2mr" eval --model "$out/demo-t1-w16.safetensors" --data "$out/validation.pack" --min-masked 0 \
    --out "$out/report.html"
