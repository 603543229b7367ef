#!/usr/bin/env bash
# Makes sure that a Docker engine answers and that local mode finds docker compose. Where there is none, and this is
# Debian or Ubuntu and we are root, it installs what is missing (docker.io, docker-compose, debootstrap) and starts
# the engine. Exits with 1 and one sentence on stderr where it cannot.
set -euo pipefail

fail() {
    echo "$1" >&2
    exit 1
}

answers() {
    command -v docker >/dev/null && timeout 20 docker info >/dev/null 2>&1
}

has_compose() {
    command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1
}

missing=()
command -v docker >/dev/null && { answers || command -v dockerd >/dev/null; } || missing+=(docker.io)
{ command -v docker >/dev/null && has_compose; } || missing+=(docker-compose)
if ! command -v debootstrap >/dev/null && [[ $(id -u) == 0 ]]; then
    missing+=(debootstrap)
fi
if ! answers || ! has_compose; then
    [[ $(id -u) == 0 ]] || fail "No Docker engine with docker compose answers, and only root can start one: start Docker, or run as root"
    command -v apt-get >/dev/null || fail "No Docker engine with docker compose answers, and this is not Debian or Ubuntu: install and start Docker"
fi
if [[ ${#missing[@]} -gt 0 && $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "Installing ${missing[*]}" >&2
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}" iptables; } \
        >"$log" 2>&1 </dev/null; then
        tail -n 5 "$log" >&2
        fail "apt-get could not install ${missing[*]}: its last lines are above"
    fi
    rm -f "$log"
fi
answers && exit

log=/var/log/dockerd.log
if [[ -d /run/systemd/system ]]; then
    systemctl start docker >/dev/null 2>&1 || true
else
    # A stale pid file of an engine that was killed keeps a new one from starting.
    [[ -f /var/run/docker.pid ]] && ! kill -0 "$(cat /var/run/docker.pid)" 2>/dev/null && rm -f /var/run/docker.pid
    echo "Starting dockerd, which logs to $log" >&2
    setsid nohup dockerd >"$log" 2>&1 </dev/null &
    engine=$!
fi
for _ in $(seq 60); do
    answers && exit
    sleep 1
    # An engine that has given up will not answer later.
    [[ -z ${engine:-} ]] || kill -0 "$engine" 2>/dev/null || break
done
[[ -f $log ]] && tail -n 5 "$log" >&2
fail "The Docker engine was started and does not answer"
