#!/usr/bin/env bash
# Makes sure that there is a browser to look at pages with: on Debian, as root, it installs chromium. Exits with 1 and
# one sentence where there is none and it cannot.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit
done
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "No Chromium was found, and only root on Debian can install it: sudo apt-get install chromium" >&2
    exit 1
fi
echo "Installing chromium" >&2
log=$(mktemp)
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } \
    >"$log" 2>&1 </dev/null; then
    echo "chromium could not be installed: $(tail -n 1 "$log")" >&2
    exit 1
fi
