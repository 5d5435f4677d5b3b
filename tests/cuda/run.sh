#!/usr/bin/env bash
# All checks of a CUDA device in one go, in at most eight minutes: needs torch for CUDA, Numba and what
# requirements/vehicle.txt names, no network, no Open3D. Prints a summary as it goes; figures go to OUT/cuda.json.
#
#   tests/cuda/run.sh [OUT] [--device cuda|cpu] [--minutes 8] [--only STAGE ...]
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:-runs/cuda}
shift || true
mkdir -p "$out"
export PYTHONPATH="$PWD:$PWD/tests/support${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
exec "${PYTHON:-python3}" tests/cuda/run.py --out "$out" "$@"
