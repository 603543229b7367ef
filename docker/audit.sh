#!/usr/bin/env bash
# Looks for known vulnerabilities in what the image is made of: `make audit`, or docker/audit.sh PIP_AUDIT [LOCK…].
#
# The locks' Python packages are looked up by pip-audit at OSV, a public database of vulnerabilities, without
# installing them. Of the image's Debian or Ubuntu packages those are listed that wait for an update; TAG names the image
# (subset-trainer). What ECR's scan reports about them is the gate in front of the image's tag: see SECURITY.md.
#
# Exit code: 0 nothing was found, 1 something was, 2 something could not be looked at and nothing was found elsewhere.
set -uo pipefail
cd "$(dirname "$0")/.."
pip_audit=$1
shift
[[ $# -gt 0 ]] || set -- build cuda13 cuda12 cords sbom
image=${TAG:-subset-trainer}
found=0 unknown=0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for lock in "$@"; do
    # Without pip, nothing is resolved or installed: a lock with hashes is complete.
    "$pip_audit" --requirement "docker/requirements/$lock.txt" --disable-pip --require-hashes \
        --vulnerability-service osv --progress-spinner off --timeout 15 \
        --format columns --output "$work/report" 2>"$work/errors"
    status=$?
    if [[ $status == 0 ]]; then
        echo "docker/requirements/$lock.txt: no known vulnerabilities"
    elif [[ -s $work/report ]]; then
        echo "docker/requirements/$lock.txt: known vulnerabilities"
        cat "$work/report"
        found=1
    else
        reason=$(tail -n 1 "$work/errors" | cut -c 1-200)
        echo "docker/requirements/$lock.txt: not looked at, because OSV did not answer: $reason"
        unknown=1
    fi
    rm -f "$work/report"
done

if ! docker image inspect "$image" >/dev/null 2>&1; then
    echo "The image's packages: not looked at, because there is no image $image here (TAG names another)"
    unknown=1
else
    mkdir "$work/settings"
    docker/build-settings.sh "$work/settings"
    options=()
    for proxy in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
        [[ -n ${!proxy:-} ]] && options+=(-e "$proxy")
    done
    if docker run --rm --user 0:0 --entrypoint sh "${options[@]}" \
        -v "$work/settings:/run/secrets:ro" \
        -v "$PWD/docker/with-build-settings.sh:/usr/local/bin/with-build-settings:ro" \
        "$image" -c 'with-build-settings apt-get update -qq --error-on=any && with-build-settings apt-get --simulate dist-upgrade' \
        >"$work/packages" 2>"$work/errors" </dev/null; then
        if grep '^Inst [^ ]* \[' "$work/packages" >"$work/updates"; then
            echo "The image's packages: $(wc -l <"$work/updates") wait for an update: build the image again, with --no-cache or on a newer base"
            sed 's/^Inst /  /' "$work/updates"
            found=1
        else
            echo "The image's packages: none waits for an update"
        fi
    else
        reason=$(tail -n 1 "$work/errors" | cut -c 1-200)
        echo "The image's packages: not looked at, because its package lists cannot be fetched: $reason"
        unknown=1
    fi
fi

[[ $found == 0 ]] || exit 1
[[ $unknown == 0 ]] || exit 2
