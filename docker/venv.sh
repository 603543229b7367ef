#!/usr/bin/env bash
# Makes a virtual environment from the locks: docker/venv.sh FOLDER LOCK. `make venv` and `make venv-sdk3` call it when
# needed. LOCK is 13 or 12, for what the image has with that CUDA and what the tests and the host side need, sdk3, for
# SageMaker's SDK 3 and MLflow's server, or audit, for pip-audit. PYTHON may name the interpreter.
# Where a compiler, Python's headers or its venv module are missing, it installs them if this is Debian or Ubuntu and
# we are root, and otherwise says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 lock=$2

# The first that runs: a name on PATH may be a shim that does not. The newest tested version is 3.13.
find_python() {
    local below candidate
    for below in 14 99; do
        for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.13 /usr/bin/python3}; do
            if "$candidate" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, $below))" 2>/dev/null; then
                echo "$candidate"
                return
            fi
        done
    done
}

# Debian's packages that are missing for the interpreter $1 ('' where there is none).
missing_packages() {
    if [[ -z $1 ]]; then
        echo gcc libc6-dev python3 python3-dev python3-venv
        return
    fi
    local name
    name=$("$1" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    command -v gcc >/dev/null || command -v cc >/dev/null || echo gcc libc6-dev
    "$1" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || echo "$name-dev"
    "$1" -c 'import ensurepip, venv' 2>/dev/null || echo "$name-venv"
}

python=$(find_python)
packages=$(missing_packages "$python" | xargs)
if [[ -n $packages ]]; then
    command="apt-get update && apt-get install -y $packages"
    if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
        echo "To install the locked requirements, Python 3.11 or newer, its headers and a C compiler are needed; on Debian or Ubuntu: sudo sh -c '$command'" >&2
        exit 1
    fi
    echo "Installing $packages" >&2
    apt-get update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null </dev/null
    python=$(find_python)
fi
if [[ -z $python || -n $(missing_packages "$python") ]]; then
    echo "No Python 3.11 or newer with its headers and venv module was found; name one with PYTHON=…" >&2
    exit 1
fi

# Measured, in MB, under Python 3.11. What is there and works is used again: an installation that broke off goes on.
case $lock in
    13) size=7700 ;;
    12) size=8800 ;;
    sdk3) size=1050 ;;
    *) size=100 ;;
esac
there=0
if "$folder/bin/python" -c '' 2>/dev/null; then
    there=$(($(du -sk "$folder" | cut -f 1) * 1024 / 1000000))
fi
missing=$((size - there))
if ((missing > size / 10)); then
    # pip lays all packages into its folder for temporary files, half of what they take installed, before the first one
    # is installed.
    docker/space.sh "Making $folder" "$folder" "$missing" "${TMPDIR:-/tmp}" $((missing / 2))
fi

echo "Making $folder with $("$python" --version) and the lock $lock" >&2
"$folder/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$folder"
install() {
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore "$folder/bin/python" -m pip install "$@"
}
install --quiet --require-hashes -r docker/requirements/build.txt
if [[ $lock == sdk3 || $lock == audit ]]; then
    install --require-hashes --no-build-isolation -r "docker/requirements/$lock.txt"
    exit
fi
install --require-hashes --no-build-isolation -r "docker/requirements/dev-cuda$lock.txt"
"$folder/bin/python" docker/cords/install.py
install --quiet --no-deps --no-build-isolation --editable container_src/subset_selection --editable container_src \
    --editable .
