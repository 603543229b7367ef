#!/usr/bin/env bash
# Makes a base image out of this Debian or Ubuntu machine's own release and package mirror, for machines that reach no
# container registry, and prints its name. An image of that name is used as it is: `docker rmi` it to make a new one.
# It holds no driver compatibility libraries. Needs root and debootstrap; the docker command may be given as DOCKER.
set -euo pipefail
docker=${DOCKER:-docker}

. /etc/os-release
release=${VERSION_CODENAME:-}
if [[ -z $release || ! ${ID:-} =~ ^(debian|ubuntu)$ ]]; then
    echo "A base image can only be made on Debian or Ubuntu, and this is ${PRETTY_NAME:-another system}: name one with BASE_IMAGE=…" >&2
    exit 1
fi
image=subset-trainer-base:$release
if "$docker" image inspect "$image" >/dev/null 2>&1; then
    echo "$image"
    exit
fi
if [[ $(id -u) != 0 ]] || ! command -v debootstrap >/dev/null; then
    echo "To make a base image, run as root with debootstrap installed (apt-get install debootstrap), or name one with BASE_IMAGE=…" >&2
    exit 1
fi

# "URL suite component" of what this machine's apt reads, for the release, its updates and its security fixes.
sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$release" '$1 ~ /^https?:/ && $3 == "main" &&
        ($2 == release || $2 == release "-updates" || $2 == release "-security")' | sort -u)
mirror=$(awk -v release="$release" '$2 == release { print $1; exit }' <<<"$sources")
if [[ -z $mirror ]]; then
    echo "This machine's apt sources name no http mirror for $release, from which a base image could be made" >&2
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "Making the base image $image from the packages of $release" >&2
if ! debootstrap --variant=minbase --include=ca-certificates "$release" "$work/root" "$mirror" >"$work/log" 2>&1; then
    tail -n 20 "$work/log" >&2
    echo "debootstrap failed: its last lines are above" >&2
    exit 1
fi
sed 's/^/deb /' <<<"$sources" >"$work/root/etc/apt/sources.list"
# The build reads the package lists anew.
rm -rf "$work"/root/var/{cache/apt,lib/apt/lists,log}/*
tar -C "$work/root" -c . | "$docker" import --change 'CMD ["bash"]' - "$image" >/dev/null
echo "$image"
