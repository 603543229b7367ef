#!/usr/bin/env bash
# Runs tiers of the tests one after the other and sums up: tests/run.sh PYTHON TIER…
# The summary gives each tier's counts and time, and the ten slowest tests of all.
#
# All but local_mode run in a worker for each processor, at most WORKERS (8), with one thread of arithmetic each.
# WORKERS=0 runs them in one process, as `pytest tests/unit` does.
#
# The tiers image and local_mode need Docker. It is started where it can be (docker/engine.sh), and the image is built
# (docker/build.sh) while the tiers before them run; that is quick where nothing changed. Without Docker these tiers are
# skipped, or, with REQUIRE_DOCKER=1, a tier that is skipped counts as failed. SUBSET_TRAINER_IMAGE names the image to the
# tests.
#
# The tier soak goes on for SOAK_MINUTES (a whole number; by default it does what it must), and is ended 25 minutes later.
set -uo pipefail
cd "$(dirname "$0")/.."
python=$1
shift

results=$(mktemp -d)
trap '[[ -z ${preparing:-} ]] || kill "$preparing"; rm -rf "$results"' EXIT
summary=() failed=0
processors=$(nproc)
workers=${WORKERS:-$((processors < 8 ? processors : 8))}

# What a tier's report says: its counts, on the second line the reasons of its skipped tests.
read_report() {
    "$python" - "$1" <<'PYTHON'
import sys
import xml.etree.ElementTree as ElementTree

cases = ElementTree.parse(sys.argv[1]).getroot().findall(".//testcase")
skips = [case.find("skipped") for case in cases if case.find("skipped") is not None]
bad = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
print(len(cases) - len(skips) - bad, len(skips), bad)
print("; ".join(sorted({skip.get("message", "") for skip in skips if skip is not None})))
PYTHON
}

# The ten tests of these reports that took longest, with their seconds.
slowest() {
    "$python" - "$@" <<'PYTHON'
import sys
import xml.etree.ElementTree as ElementTree

cases = [case for path in sys.argv[1:] for case in ElementTree.parse(path).getroot().findall(".//testcase")]
for case in sorted(cases, key=lambda case: -float(case.get("time", 0)))[:10]:
    place = case.get("classname", "").removeprefix("tests.").replace(".", "/")
    print(f"{float(case.get('time', 0)):7.1f} s  {place}::{case.get('name')}")
PYTHON
}

record() { # tier, outcome, detail
    summary+=("$(printf '%-11s %-8s %s' "$1" "$2" "$3")")
    if [[ $2 == failed || ($2 == skipped && ${REQUIRE_DOCKER:-} == 1) ]]; then
        failed=1
    fi
}

# Beside the first tiers: what it says comes when a tier needs it.
prepare_docker() {
    if ! docker/engine.sh 2>"$results/engine"; then
        echo absent >"$results/docker"
    elif ! docker/build.sh; then
        echo unbuilt >"$results/docker"
    else
        echo ready >"$results/docker"
        echo "The image was ready after $((SECONDS - began)) s"
    fi
}
if [[ " $* " == *" image "* || " $* " == *" local_mode "* ]]; then
    # apt-get takes one caller at a time, and the engine's packages come from it, too.
    [[ " $* " != *" functional "* ]] || tests/chromium.sh || true
    began=$SECONDS
    prepare_docker >"$results/preparing" 2>&1 </dev/null &
    preparing=$!
fi

for tier in "$@"; do
    echo
    echo "== $tier"
    if [[ $tier == image || $tier == local_mode ]]; then
        if [[ -n ${preparing:-} ]]; then
            wait "$preparing"
            preparing=
            cat "$results/engine" "$results/preparing"
        fi
        docker_state=$(cat "$results/docker")
        if [[ $docker_state == absent ]]; then
            record "$tier" skipped "$(tail -n 1 "$results/engine")"
            continue
        elif [[ $docker_state == unbuilt ]]; then
            record "$tier" failed "the image could not be built"
            continue
        fi
        export SUBSET_TRAINER_IMAGE=${TAG:-subset-trainer}
    fi
    if [[ $tier == functional ]]; then
        # Its tests of pages skip where there is no browser, and say so.
        tests/chromium.sh || true
    fi
    bound=() together=()
    if [[ $tier == soak ]]; then
        bound=(timeout --kill-after=60 "$((25 + ${SOAK_MINUTES:-0}))m")
    fi
    # `make soak` has a pool of its own; the SDK's local mode takes one port, and removes what has ended.
    if [[ $workers -gt 1 && $tier != local_mode && ! ($tier == soak && -n ${SOAK_MINUTES:-}) ]]; then
        # A worker that has done its tests takes over some of another's.
        bound+=(env OMP_NUM_THREADS=1) together=(--numprocesses "$workers" --dist worksteal)
    fi
    began=$SECONDS
    "${bound[@]}" "$python" -m pytest "tests/$tier" "${together[@]}" -rs --junitxml="$results/$tier.xml" </dev/null
    status=$?
    took="$((SECONDS - began)) s"
    if [[ ! -s $results/$tier.xml ]]; then
        record "$tier" failed "pytest ended with $status and no report"
        continue
    fi
    { read -r passed skipped bad && read -r reasons; } < <(read_report "$results/$tier.xml")
    counts="$passed passed, $skipped skipped, $bad failed, $took"
    if [[ $status != 0 ]]; then
        record "$tier" failed "$counts"
    elif [[ $passed == 0 ]]; then
        record "$tier" skipped "$reasons"
    else
        record "$tier" passed "$counts${reasons:+ (skipped: $reasons)}"
    fi
done

reports=("$results"/*.xml)
if [[ -e ${reports[0]} ]]; then
    echo
    echo "== The slowest tests"
    slowest "${reports[@]}"
fi
echo
echo "== Summary"
printf '%s\n' "${summary[@]}"
echo "$SECONDS s in all"
if [[ $failed == 1 && ${REQUIRE_DOCKER:-} == 1 ]]; then
    echo "REQUIRE_DOCKER=1: a tier that failed or was skipped fails the run"
fi
exit "$failed"
