#!/usr/bin/env bash
# Fills benchmarks/RESULTS-GPU.md on a machine with a GPU, piece by piece.
#
#   benchmarks/gpu.sh all                  # every piece but the single recipes, 25 minutes in all
#   benchmarks/gpu.sh smoke exact speed    # these pieces; each takes 8 minutes at most
#   benchmarks/gpu.sh recipe-denoising_fashion    # one recipe of configs/gpu/ in full
#   benchmarks/gpu.sh all --tiny           # the same steps on a CPU, in some minutes, into a folder of its own
#
# Pieces: machine smoke exact tests start speed sampling evaluation recipes, in this order of worth, and recipe-NAME. What a piece has
# found is kept beside the table, in gpu/ with its log: started again it does what is left or failed, with --again all of it.
# Options: --to FOLDER (in place of benchmarks/), --peers PYTHON (one with torch), --seconds N (for a piece), --recipe-seconds N.
# $PYTHON is the interpreter; by default that of .venv, or python3. Nothing is installed.
cd "$(dirname "$0")/.." || exit
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
to=benchmarks pieces=() options=()
while [ $# -gt 0 ]; do
  case $1 in
    --tiny) options+=("$1"); [ "$to" = benchmarks ] && to=${TMPDIR:-/tmp}/aecli-gpu-tiny ;;
    --again) options+=("$1") ;;
    --to) to=$2; shift ;;
    --*) options+=("$1" "$2"); shift ;;
    all) pieces+=(machine smoke exact tests start speed sampling evaluation recipes) ;;
    *) pieces+=("$1") ;;
  esac
  shift
done
[ ${#pieces[@]} -gt 0 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$to/gpu"
for piece in "${pieces[@]}"; do
  timeout -k 15 480 "$python" benchmarks/gpu.py "$piece" --to "$to" "${options[@]}" 2>&1 | tee -a "$to/gpu/$piece.log"
done
echo "$to/RESULTS-GPU.md"
