#!/usr/bin/env bash
# Builds the image with this machine's own package settings: `make image`, or docker/build.sh.
#
#   TAG=name:tag     the image's name (subset-trainer, or subset-trainer:cuda12)
#   CUDA=12          the lock for CUDA 12.8 instead of CUDA 13's
#   BASE_IMAGE=name  the base image; without it NVIDIA's CUDA base where its registry answers, else one that is made
#                    from this machine's Debian or Ubuntu packages (docker/base-image.sh)
#
# Further arguments go to `docker build`. What the machine's pip and apt are set to reaches the build as secrets.
set -euo pipefail
cd "$(dirname "$0")/.."

cuda=${CUDA:-13}
case $cuda in
    13) tag=${TAG:-subset-trainer} nvidia_base=$(sed -n 's/^ARG BASE_IMAGE=//p' Dockerfile) ;;
    12) tag=${TAG:-subset-trainer:cuda12} nvidia_base=nvidia/cuda:12.8.1-base-ubuntu24.04 ;;
    *)
        echo "CUDA is $cuda; it must be 13 or 12" >&2
        exit 1
        ;;
esac

# A docker command that can build with BuildKit: by its buildx plugin, or, up to version 22, by itself.
docker=
for candidate in docker /usr/bin/docker; do
    command -v "$candidate" >/dev/null || continue
    if "$candidate" buildx version >/dev/null 2>&1; then
        docker=$candidate build=(buildx build --load)
        # SageMaker refuses the media type of attestations.
        "$candidate" buildx build --help 2>/dev/null | grep -q -- --provenance && build+=(--provenance=false)
        break
    fi
    version=$("$candidate" version --format '{{.Client.Version}}' 2>/dev/null || true)
    if [[ $version =~ ^([0-9]+)\. && ${BASH_REMATCH[1]} -ge 19 && ${BASH_REMATCH[1]} -le 22 ]]; then
        docker=$candidate build=(build)
        break
    fi
done
if [[ -z $docker ]]; then
    echo "No docker command here can build with BuildKit: install Docker's buildx plugin" >&2
    exit 1
fi
if ! timeout 20 "$docker" info >/dev/null 2>&1; then
    echo "No Docker engine answers: start it, or run docker/engine.sh as root on Debian or Ubuntu" >&2
    exit 1
fi

# Measured, in MB: what pip downloads, the environment in the layer that installs it, and the same in the image. What is
# left of an earlier build counts as there, as it is used again. An engine elsewhere has its own disk.
root=$("$docker" info --format '{{.DockerRootDir}}')
cached=$("$docker" system df --format '{{.Type}} {{.Size}}' | awk '
    /^Build Cache/ { size = $3; factor = size ~ /GB$/ ? 1000 : size ~ /MB$/ ? 1 : 0; printf "%d", size * factor }')
if [[ -d $root && ${DOCKER_HOST:-unix:} == unix:* ]]; then
    needed=$((14600 - ${cached:-0}))
    ((needed <= 0)) || docker/space.sh "Building $tag" "$root" "$needed"
fi

base=${BASE_IMAGE:-}
if [[ -z $base ]]; then
    if "$docker" image inspect "$nvidia_base" >/dev/null 2>&1 || timeout 600 "$docker" pull "$nvidia_base" >&2; then
        base=$nvidia_base
    else
        echo "$nvidia_base cannot be pulled: taking a base image made of this machine's packages" >&2
        base=$(DOCKER=$docker docker/base-image.sh)
    fi
fi

secrets=$(mktemp -d)
trap 'rm -rf "$secrets"' EXIT
docker/build-settings.sh "$secrets"

arguments=(--build-arg "BASE_IMAGE=$base" --build-arg "CUDA=$cuda" --tag "$tag")
for secret in pip.conf apt.conf ca-bundle; do
    [[ -s $secrets/$secret ]] && arguments+=(--secret "id=$secret,src=$secrets/$secret")
done
# These arguments are predefined in Docker, which keeps them out of the image.
for proxy in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    [[ -n ${!proxy:-} ]] && arguments+=(--build-arg "$proxy")
done
revision=$(git rev-parse --verify --quiet HEAD 2>/dev/null || echo unknown)
if [[ $revision != unknown && -n $(git status --porcelain -- Dockerfile docker container_src 2>/dev/null) ]]; then
    revision+=-modified
fi
version=$(sed -n 's/^version = "\(.*\)"/\1/p' container_src/pyproject.toml)
arguments+=(--build-arg "REVISION=$revision" --build-arg "VERSION=$version")

echo "Building $tag for CUDA $cuda on $base" >&2
DOCKER_BUILDKIT=1 "$docker" "${build[@]}" "${arguments[@]}" "$@" .
# The image that had this name before, where the new one differs: 6 GB that nobody can name any more.
"$docker" image prune --force --filter label=org.opencontainers.image.title=subset-trainer >/dev/null || true
