#!/bin/sh
# Runs a command of the image's build with the building machine's package settings. They arrive as BuildKit secrets,
# each of them optional, so that no layer holds them: pip.conf, apt.conf, and ca-bundle for a proxy that signs with
# its own certificate. build.sh collects them.
secrets=/run/secrets
if [ -s $secrets/pip.conf ]; then
    export PIP_CONFIG_FILE=$secrets/pip.conf
fi
if [ -s $secrets/ca-bundle ]; then
    export PIP_CERT=$secrets/ca-bundle SSL_CERT_FILE=$secrets/ca-bundle
fi
if [ -s $secrets/apt.conf ]; then
    export APT_CONFIG=$secrets/apt.conf
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_PROGRESS_BAR=off DEBIAN_FRONTEND=noninteractive
exec "$@"
