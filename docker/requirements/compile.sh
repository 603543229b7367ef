#!/usr/bin/env bash
# Recompiles every lock from the .in files: `make lock`. Extra arguments go to uv, for example --upgrade.
# The locks hold for Python 3.11 and newer, carry hashes, and name no index.
set -euo pipefail
cd "$(dirname "$0")"

compile() {
    "${UV:-uv}" pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --allow-unsafe --no-header --no-annotate "$@"
}

compile build.in -o build.txt "${@}"
compile cords.in --no-deps -o cords.txt "${@}"
compile sdk3.in -c build.txt -o sdk3.txt "${@}"
compile audit.in -c build.txt -o audit.txt "${@}"
compile sbom.in -c build.txt -o sbom.txt "${@}"
for cuda in 13 12; do
    compile image.in "torch-cuda$cuda.in" -c build.txt -o "cuda$cuda.txt" "${@}"
    # Constrained by the image's lock: the tests run against what the image has.
    compile image.in "torch-cuda$cuda.in" build.in dev.in -c "cuda$cuda.txt" -c build.txt -o "dev-cuda$cuda.txt" "${@}"
done
compile consolidation.in -c dev-cuda13.txt -o consolidation.txt "${@}"
