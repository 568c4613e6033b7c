#!/usr/bin/env bash
# The tests, the sanitizers and the benchmarks on the GPU of this machine. See usage below.
set -euo pipefail

usage() {
  cat <<'END'
usage: benchmarks/gpu.sh test | sanitize | bench  [FOLDER]

  test       every test that needs a GPU, and every operator against the reference
  sanitize   compute-sanitizer over every operator: memcheck, racecheck, initcheck, synccheck
  bench      all benchmarks of a GPU: gpu.json and gpu.md

Builds the libraries for the GPU that is present, into the checkout, then writes to FOLDER (default
benchmarks/results). Each ends within nine minutes and keeps what it has when it is stopped. Needs
a Python with torch, numpy and pytest, and to build cmake, a C++ compiler and nvcc.

  PYTHON=python3           the Python to use
  FREQOPS_LIBRARIES=DIR    copies _cpu.so and _cuda.so from there instead of building
  TORCH_CUDA_ARCH_LIST     instead of the GPU's own architecture
  FREQOPS_RESUME=1         bench goes on where gpu.json in FOLDER ends
  FREQOPS_FULL=1           bench compiles rivals for 8 pictures too, after those for 64 and 256
  FREQOPS_TABLES="a b"     bench measures these tables alone (benchmarks/gpu.py --help lists them)
  FREQOPS_SECONDS=520      when all of it ends
END
}

fail() {
  echo "gpu.sh: $*" >&2
  exit 1
}

mode=${1:-}
if [[ ! $mode =~ ^(test|sanitize|bench)$ || $# -gt 2 ]]; then
  [[ $mode =~ ^(-h|--help|help)$ ]] && { usage; exit 0; }
  usage >&2
  exit 2
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
seconds=${FREQOPS_SECONDS:-520}
[[ $seconds =~ ^[0-9]+$ ]] || fail "FREQOPS_SECONDS must be a number of seconds, got $seconds"
python=$(command -v "${PYTHON:-python3}") || fail "no ${PYTHON:-python3} here: set PYTHON"
python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python")
PATH=$(dirname "$python"):$PATH
for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda; do
  [[ -n $folder && -d $folder/bin ]] && PATH=$PATH:$folder/bin:$folder/compute-sanitizer
done
export PATH
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

# `timeout 0` sets no limit.
at_least_one() {
  echo $(($1 > 1 ? $1 : 1))
}

# Seconds that are left, less those given.
left() {
  at_least_one $((seconds - SECONDS - ${1:-0}))
}

# --- What is here ---------------------------------------------------------------------------------
# The GPU's architecture, then a line about it and one about torch.
found=$("$python" - <<'END'
import platform, sys
try:
    import numpy, pytest, torch
except ImportError as error:
    sys.exit(f"gpu.sh: {sys.executable} needs torch, numpy and pytest: {error}")
if not torch.cuda.is_available():
    cuda = f"built with CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    sys.exit(f"gpu.sh: torch {torch.__version__} ({cuda}) sees no GPU here: nothing was run")
p = torch.cuda.get_device_properties(0)
print(f"{p.major}.{p.minor}")
print(f"GPU       {p.name}, sm_{p.major}{p.minor}, {p.multi_processor_count} multiprocessors, "
      f"{p.total_memory / 2**30:.0f} GiB, {p.L2_cache_size / 1e6:.0f} MB of L2")
print(f"torch     {torch.__version__}, CUDA {torch.version.cuda}, "
      f"cuDNN {torch.backends.cudnn.version()}, Python {platform.python_version()}")
END
) || exit 1
capability=${found%%$'\n'*}

output=${2:-$root/benchmarks/results}
mkdir -p "$output"
output=$(cd "$output" && pwd)

query=(--query-gpu=driver_version --format=csv,noheader)
driver=$(nvidia-smi "${query[@]}" 2>/dev/null | head -n 1) || true
nvcc_version=$(nvcc --version 2>/dev/null | grep -o 'release.*') || true
facts="date      $(date -u '+%Y-%m-%d %H:%M') UTC
${found#*$'\n'}
driver    ${driver:-unknown}
nvcc      ${nvcc_version:-not found}"
echo "$facts"

# --- The libraries --------------------------------------------------------------------------------
if [[ -n ${FREQOPS_LIBRARIES:-} ]]; then
  given=$FREQOPS_LIBRARIES
  for library in _cpu.so _cuda.so; do
    [[ -f $given/$library ]] || fail "FREQOPS_LIBRARIES: $given has no $library"
  done
  # Those of this checkout are in their place.
  if [[ ! $given -ef $root/freqops ]]; then
    for library in _cpu.so _cuda.so; do
      cp "$given/$library" "$root/freqops/$library.part"
      mv "$root/freqops/$library.part" "$root/freqops/$library"
    done
    rm -f "$root/freqops/_build.json"
    if [[ -f $given/_build.json ]]; then cp "$given/_build.json" "$root/freqops/"; fi
  fi
  echo "libraries from $given"
else
  command -v cmake >/dev/null || fail "no cmake here: pip install cmake, or set FREQOPS_LIBRARIES"
  export TORCH_CUDA_ARCH_LIST=${TORCH_CUDA_ARCH_LIST:-$capability}
  generator="Unix Makefiles"
  command -v ninja >/dev/null && generator=Ninja
  build=$root/build/gpu
  log=$build.log
  mkdir -p "$build"
  echo "building for $TORCH_CUDA_ARCH_LIST with $generator, $(nproc) at a time; $log has the rest"
  start=$SECONDS
  if ! { cmake -S "$root" -B "$build" -G "$generator" -DPython_EXECUTABLE="$python" \
           -DFREQOPS_OUTPUT="$root/freqops" -DFREQOPS_CUDA=on \
           -DTORCH_CUDA_ARCH_LIST="$TORCH_CUDA_ARCH_LIST" &&
         timeout "$(left 30)" cmake --build "$build" --parallel "$(nproc)" --target _cpu _cuda; \
       } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    fail "building failed; FREQOPS_LIBRARIES=DIR takes libraries that are built already"
  fi
  echo "built in $((SECONDS - start)) s"
fi
cd "$root"
"$python" - <<'END' || fail "the libraries do not load, see above"
import sys, freqops
print(f"freqops   {freqops.__version__} in {freqops.__path__[0]}")
missing = freqops._library.MISSING
sys.exit(f"gpu.sh: {missing}" if missing else 0)
END

# --- test -----------------------------------------------------------------------------------------
run_tests() {
  local text=$output/gpu_test.txt status=0 checked=0
  { echo "$facts"; echo; } >"$text"
  echo "every operator against the reference"
  timeout "$(left 20)" "$python" benchmarks/exercise.py --device cuda --check --seconds 90 2>&1 |
    tee -a "$text" || checked=$?
  # By the mark alone: tests that are slow on a GPU are among them. Plugins that happen to be here
  # are left out.
  PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 timeout --kill-after=10 "$(left 10)" \
    "$python" -m pytest tests -m "gpu and not large" -p no:cacheprovider \
    --continue-on-collection-errors -q --durations=5 --junitxml="$output/gpu_test.xml" 2>&1 |
    tee -a "$text" || status=$?
  echo "exercise.py: exit $checked, pytest: exit $status, $SECONDS s" | tee -a "$text"
  echo "written to $text and gpu_test.xml"
  ((checked == 0 && status == 0))
}

# --- sanitize -------------------------------------------------------------------------------------
run_sanitizers() {
  local table=$output/gpu_sanitize.md tool log each begin status summary cases failed=0 options help
  command -v compute-sanitizer >/dev/null ||
    fail "no compute-sanitizer here: it comes with the CUDA toolkit"
  {
    echo "# compute-sanitizer over every operator"
    echo
    echo "Written by \`benchmarks/gpu.sh sanitize\`: \`benchmarks/exercise.py\` under each tool."
    echo "A tool that is stopped by its time has seen the cases that are counted."
    echo
    echo '```'
    echo "$facts"
    compute-sanitizer --version | grep -i version || true
    echo '```'
    echo
    echo "| tool | exit | summary | cases |"
    echo "| --- | --- | --- | --- |"
  } >"$table"
  # Errors that the CUDA interface returns and torch handles are none of ours.
  options=(--print-limit 50 --error-exitcode 99)
  help=$(compute-sanitizer --help 2>&1) || true
  [[ $help == *--report-api-errors* ]] && options+=(--report-api-errors no)
  local tools=(memcheck racecheck initcheck synccheck) remaining=4
  for tool in "${tools[@]}"; do
    # An equal share of what is left; a tool that needs less leaves it to the next. A third of it is
    # for torch to load, which takes long under the tools.
    each=$(at_least_one $(($(left 10) / remaining)))
    begin=$(at_least_one $((each * 2 / 3)))
    remaining=$((remaining - 1))
    log=$output/gpu_$tool.log
    echo "$tool, $each s"
    status=0
    # Without the cache every tensor is an allocation of its own, whose ends are watched.
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout --kill-after=10 "$each" \
      compute-sanitizer --tool "$tool" "${options[@]}" \
      "$python" benchmarks/exercise.py --device cuda --seconds "$begin" \
      >"$log" 2>&1 || status=$?
    summary=$(grep -E 'SUMMARY' "$log" | tail -n 1 | sed 's/^=* *//') || true
    cases=$(grep -E '^exercise:' "$log" | tail -n 1 | sed 's/^exercise: //') || true
    cases=${cases:-stopped before the end}
    echo "| $tool | $status | ${summary:-none} | $cases |" | tee -a "$table"
    ((status == 0)) || failed=1
  done
  echo "written to $table and gpu_*.log"
  ((failed == 0))
}

# --- bench ----------------------------------------------------------------------------------------
run_benchmarks() {
  local options=(-o "$output") status=0 tables
  [[ -n ${FREQOPS_RESUME:-} ]] && options+=(--resume)
  [[ -n ${FREQOPS_FULL:-} ]] && options+=(--full)
  if [[ -n ${FREQOPS_TABLES:-} ]]; then
    read -ra tables <<<"$FREQOPS_TABLES"
    options+=(--only "${tables[@]}")
  fi
  # No case begins in the last minute: compiling one takes that long.
  timeout --kill-after=10 "$(left 5)" "$python" benchmarks/gpu.py "${options[@]}" \
    --budget "$(left 65)" || status=$?
  if ((status == 124 || status == 137)); then
    echo "stopped by the time: $output/gpu.md and gpu.json hold what was measured"
    status=0
  fi
  return "$status"
}

case $mode in
  test) run_tests ;;
  sanitize) run_sanitizers ;;
  bench) run_benchmarks ;;
esac
