#!/usr/bin/env bash
# Everything about ftcl.dp that needs a GPU, in one call of about ten minutes:
#
#     bash benchmarks/dp/gpu.sh [FOLDER]        default: benchmarks/dp/results/gpu
#
# The tests on the GPU, launches and CUDA graphs, the benchmark, and how far it is from the machine's bounds.
# Each prints to the terminal and into a file of FOLDER; one that fails or misses a goal lets the others go on.
# PYTHON names another interpreter than python3. It needs torch with CUDA, triton, numpy, pytest and hypothesis;
# pysdtw, numba and matplotlib take part if they are there.
set -uo pipefail
folder=$(realpath -m "${1:-benchmarks/dp/results/gpu}")
python=${PYTHON:-python3}
cd "$(dirname "$0")/../.." || exit 2

"$python" - <<'CHECK' || exit 2
import importlib, sys
for name in ("torch", "triton", "numpy", "pytest", "hypothesis"):
    try:
        importlib.import_module(name)
    except ImportError as error:
        sys.exit(f"gpu.sh needs {name}: {error}")
import torch
if not torch.cuda.is_available():
    sys.exit("gpu.sh needs a GPU, but torch.cuda.is_available() is False here")
for name in ("pysdtw", "numba", "matplotlib"):
    try:
        importlib.import_module(name)
    except Exception as error:
        print(f"without {name}: {type(error).__name__}: {error}")
CHECK

mkdir -p "$folder" || exit 2
failed=()

step() { # name of the step, then its command
    local name=$1
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    "$@" 2>&1 | tee "$folder/$name.txt" || failed+=("$name")
}

step tests "$python" -m pytest -q -p no:cacheprovider tests/ftcl/dp tests/ftcl/losses
step checks "$python" -m benchmarks.dp.gpu_checks
step times "$python" -m benchmarks.dp --device cuda --out "$folder/cuda.csv" --plot "$folder/dp_growth_gpu.svg"
step bound "$python" -m benchmarks.dp.bound --times "$folder/cuda.csv"

printf '\nresults: %s\n' "$folder"
if ((${#failed[@]})); then
    printf 'failed: %s\n' "${failed[*]}" >&2
    exit 1
fi
