#!/bin/sh
# Runs a command, with NVIDIA's forward-compatibility libraries (cuda-compat, from the base image) in front where the
# host's driver is older than this image's CUDA needs. With a newer driver they would take the place of a libcuda that
# is newer than they are, and fail. And with a place for temporary files.

# The image's own programs, which handle SIGTERM. One may be stopped before it has begun: the kernel lets the first
# process of a container ignore the signal unless it has a handler.
case "${1:-}" in
    train | serve) own=yes ;;
    *) own= ;;
esac
if [ -n "$own" ]; then
    trap 'exit 0' TERM
fi

case "$SUBSET_TRAINER_CUDA" in
    12) needed=525 ;;
    *) needed=580 ;;
esac
compat=/usr/local/cuda/compat

if [ -r /proc/driver/nvidia/version ]; then
    driver=$(sed -n 's/^NVRM version:.* \([0-9][0-9]*\)\.[0-9.]* .*/\1/p' /proc/driver/nvidia/version)
elif command -v nvidia-smi >/dev/null; then
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | sed -n '1s/^\([0-9]*\)\..*/\1/p')
else
    driver=
fi

if [ -n "$driver" ] && [ "$driver" -lt "$needed" ] && [ -e "$compat/libcuda.so.1" ]; then
    echo "The NVIDIA driver ($driver) is older than CUDA $SUBSET_TRAINER_CUDA needs ($needed): using $compat" >&2
    export LD_LIBRARY_PATH="$compat${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi

# Where the root file system is read-only, shared memory is what every container can write to.
if [ -z "$TMPDIR" ] && [ ! -w /tmp ]; then
    export TMPDIR=/dev/shm
fi
# CORDS imports matplotlib, which complains where it finds no place for its cache.
if [ ! -w "${HOME:-/}" ]; then
    export MPLCONFIGDIR="${MPLCONFIGDIR:-${TMPDIR:-/tmp}/matplotlib}"
fi
# Blocked, the signal waits for the program's own handler, which Python takes a moment to come to.
if [ -n "$own" ] && env --block-signal=TERM true 2>/dev/null; then
    exec env --block-signal=TERM "$@"
fi
exec "$@"
