#!/usr/bin/env bash
# Installs libfabric with its EFA provider, and NCCL's plugin for it, into the image: efa.sh VERSION SHA256
#
# The kernel's part comes with the instance. The archive is AWS's own, and its digest must be the one given.
set -euo pipefail
version=$1 sha256=$2
[[ $sha256 =~ ^[0-9a-f]{64}$ ]] || { echo "EFA_SHA256: expected the SHA-256 of aws-efa-installer-$version.tar.gz" >&2; exit 1; }

apt-get update
apt-get install -y --no-install-recommends curl
folder=$(mktemp -d)
cd "$folder"
curl --fail --silent --show-error --location --output efa.tar.gz \
    "https://efa-installer.amazonaws.com/aws-efa-installer-$version.tar.gz"
echo "$sha256  efa.tar.gz" | sha256sum --check --quiet
tar -xf efa.tar.gz
cd aws-efa-installer
./efa_installer.sh --yes --skip-kmod --skip-limit-conf --no-verify
find /opt/amazon -name '*.so*' -printf '%h\n' | sort -u >/etc/ld.so.conf.d/efa.conf
ldconfig
cd /
rm -rf "$folder"
