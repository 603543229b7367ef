# Trains a classifier on a chosen fraction of its data, under SageMaker's /opt/ml contract. `make image` builds it with
# the machine's own package settings; `docker build -t subset-trainer .` (BuildKit) does where none are needed.
#
# BASE_IMAGE  any Debian- or Ubuntu-based image whose python3 is 3.11 or newer. It brings the operating system and
#             cuda-compat; the CUDA libraries come with torch's wheels.
# CUDA        13 (torch 2.14) or 12 (torch 2.9, CUDA 12.8: Volta GPUs, drivers from 525). For drivers older than that
#             take a CUDA 12 base as well, for its cuda-compat: BASE_IMAGE=nvidia/cuda:12.8.1-base-ubuntu24.04.
# EFA         for several hosts that reach each other by EFA: the version of AWS's installer (such as 1.43.2), which
#             brings libfabric and NCCL's plugin, and in EFA_SHA256 the digest of its archive. NCCL finds them by itself.
# Secrets     pip.conf, apt.conf and ca-bundle, all optional: see docker/with-build-settings.sh.
ARG BASE_IMAGE=nvidia/cuda:13.0.3-base-ubuntu24.04

# What has compilers: sagemaker-training is a source distribution with a C file in it.
FROM ${BASE_IMAGE} AS builder
COPY docker/with-build-settings.sh /usr/local/bin/with-build-settings
RUN --mount=type=secret,id=apt.conf --mount=type=secret,id=ca-bundle,mode=0444 \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    with-build-settings apt-get update \
    && with-build-settings apt-get install -y --no-install-recommends gcc libc6-dev python3 python3-dev python3-venv

COPY docker/requirements/build.txt /build/requirements/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca-bundle --mount=type=cache,target=/root/.cache/pip \
    python3 -c 'import sys; assert sys.version_info >= (3, 11), f"the base image has Python {sys.version}, not 3.11"' \
    && python3 -m venv /opt/venv \
    && with-build-settings /opt/venv/bin/pip install --require-hashes -r /build/requirements/build.txt

# Not installed in the image: script mode alone puts it on Python's path, for a script's requirements.txt.
FROM builder AS installer
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca-bundle --mount=type=cache,target=/root/.cache/pip \
    sed -n '/^pip==/,/[^\\]$/p' /build/requirements/build.txt >/build/pip.txt \
    && with-build-settings /opt/venv/bin/pip download --no-deps --require-hashes -r /build/pip.txt --dest /opt/pip

FROM builder AS libraries
ARG CUDA=13
COPY docker/requirements/cuda${CUDA}.txt /build/requirements/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca-bundle --mount=type=cache,target=/root/.cache/pip \
    with-build-settings /opt/venv/bin/pip install --require-hashes --no-build-isolation \
        -r /build/requirements/cuda${CUDA}.txt
COPY docker/requirements/cords.txt /build/requirements/
COPY docker/cords /build/cords
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca-bundle --mount=type=cache,target=/root/.cache/pip \
    with-build-settings /opt/venv/bin/python /build/cords/install.py
# Of no use here: other packages' tests, static libraries where there is no linker, and Arrow's headers and its network
# protocol, which nothing but pyarrow.flight loads.
RUN find /opt/venv/lib -type d -name tests -prune -exec rm -r {} + \
    && find /opt/venv/lib -name '*.a' -delete \
    && find /opt/venv/lib -path '*/pyarrow/*flight*' -delete \
    && rm -r /opt/venv/lib/python3*/site-packages/pyarrow/include \
    && rm -r /opt/venv/bin/pip* /opt/venv/lib/python3*/site-packages/pip /opt/venv/lib/python3*/site-packages/pip-*.dist-info

FROM builder AS package
COPY container_src /build/container_src
RUN /opt/venv/bin/pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /build/wheels \
        /build/container_src/subset_selection /build/container_src

# What runs, with the security updates that the base image has not. No program keeps another user's rights.
FROM ${BASE_IMAGE} AS runtime
RUN --mount=type=bind,from=builder,source=/usr/local/bin/with-build-settings,target=/usr/local/bin/with-build-settings \
    --mount=type=secret,id=apt.conf --mount=type=secret,id=ca-bundle,mode=0444 \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    with-build-settings apt-get update \
    && with-build-settings apt-get upgrade -y --no-install-recommends \
    && with-build-settings apt-get install -y --no-install-recommends ca-certificates python3 \
    && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +
ARG EFA=
ARG EFA_SHA256=
RUN --mount=type=bind,source=docker/efa.sh,target=/mnt/efa.sh \
    --mount=type=bind,from=builder,source=/usr/local/bin/with-build-settings,target=/usr/local/bin/with-build-settings \
    --mount=type=secret,id=apt.conf --mount=type=secret,id=ca-bundle,mode=0444 \
    --mount=type=cache,target=/var/cache/apt,sharing=locked --mount=type=cache,target=/var/lib/apt,sharing=locked \
    [ -z "${EFA}" ] || { with-build-settings bash /mnt/efa.sh "${EFA}" "${EFA_SHA256}" \
        && find / -xdev -type f -perm /6000 -exec chmod ug-s {} +; }
# The large layer: it depends on the locks, not on this project's code.
COPY --from=libraries /opt/venv /opt/venv
COPY --from=installer /opt/pip /opt/pip
ENV PATH=/opt/venv/bin:$PATH
RUN --mount=type=bind,from=package,source=/build/wheels,target=/mnt/wheels \
    --mount=type=bind,from=builder,source=/opt/venv,target=/mnt/builder \
    /mnt/builder/bin/python -m pip --python /opt/venv/bin/python install --no-cache-dir --no-deps --no-index /mnt/wheels/*.whl
COPY docker/entrypoint.sh /usr/local/bin/with-cuda-compat
COPY docker/size.py /usr/local/bin/image-size

# The bill of materials. What makes it stays in this stage.
FROM builder AS sbom
COPY docker/requirements/sbom.txt /build/requirements/
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca-bundle --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/sbom \
    && with-build-settings /opt/sbom/bin/pip install --require-hashes -r /build/requirements/sbom.txt
COPY docker/sbom.py /build/
RUN --mount=type=bind,from=runtime,source=/,target=/mnt/runtime \
    /opt/sbom/bin/python /build/sbom.py /mnt/runtime /build/sbom.cdx.json

FROM runtime
COPY --from=sbom /build/sbom.cdx.json /usr/share/doc/subset-trainer/sbom.cdx.json

ARG CUDA=13
# The CUDA libraries of the wheels, not the base image's: only the places where a driver may be mounted stay.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    PYTHONUNBUFFERED=1 \
    SUBSET_TRAINER_CUDA=${CUDA}
ENTRYPOINT ["with-cuda-compat"]
CMD ["train"]

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="subset-trainer" \
      org.opencontainers.image.description="Trains a classifier on a chosen fraction of its data, under Amazon SageMaker's training contract" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      subset-trainer.cuda="${CUDA}"
