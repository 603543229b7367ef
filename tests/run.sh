#!/usr/bin/env bash
# Runs tiers of the tests one after the other and sums up: tests/run.sh PYTHON TIER…
#
# The tiers image and local_mode need Docker. It is started where it can be (docker/engine.sh), and the image is built
# (docker/build.sh), which is quick where nothing changed. Without Docker these tiers are skipped, or, with
# REQUIRE_DOCKER=1, a tier that is skipped counts as failed. SUBSET_TRAINER_IMAGE names the image to the tests.
#
# The tier soak goes on for SOAK_MINUTES (a whole number; by default it does what it must), and is ended 25 minutes later.
set -uo pipefail
cd "$(dirname "$0")/.."
python=$1
shift

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
summary=() failed=0

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

record() { # tier, outcome, detail
    summary+=("$(printf '%-11s %-8s %s' "$1" "$2" "$3")")
    if [[ $2 == failed || ($2 == skipped && ${REQUIRE_DOCKER:-} == 1) ]]; then
        failed=1
    fi
}

docker_state=untried
prepare_docker() {
    [[ $docker_state == untried ]] || return 0
    if ! docker/engine.sh 2> >(tee "$results/engine" >&2); then
        docker_state=absent
    elif ! docker/build.sh; then
        docker_state=unbuilt
    else
        docker_state=ready
        export SUBSET_TRAINER_IMAGE=${TAG:-subset-trainer}
    fi
}

for tier in "$@"; do
    echo
    echo "== $tier"
    if [[ $tier == image || $tier == local_mode ]]; then
        prepare_docker
        if [[ $docker_state == absent ]]; then
            record "$tier" skipped "$(tail -n 1 "$results/engine")"
            continue
        elif [[ $docker_state == unbuilt ]]; then
            record "$tier" failed "the image could not be built"
            continue
        fi
    fi
    if [[ $tier == functional ]]; then
        # Its tests of pages skip where there is no browser, and say so.
        tests/chromium.sh || true
    fi
    bound=()
    if [[ $tier == soak ]]; then
        bound=(timeout --kill-after=60 "$((25 + ${SOAK_MINUTES:-0}))m")
    fi
    began=$SECONDS
    "${bound[@]}" "$python" -m pytest "tests/$tier" -rs --junitxml="$results/$tier.xml" </dev/null
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

echo
echo "== Summary"
printf '%s\n' "${summary[@]}"
if [[ $failed == 1 && ${REQUIRE_DOCKER:-} == 1 ]]; then
    echo "REQUIRE_DOCKER=1: a tier that failed or was skipped fails the run"
fi
exit "$failed"
