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

# The kernels, compiled for a processor of the named level, not for the one that builds. numpy comes
# once more, for the headers that it has lost.
FROM packages AS kernels
COPY scripts/image-compiler scripts/
RUN scripts/image-compiler
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/clipcurate/bin/python install -q -c constraints.txt numba setuptools \
 && pip --python /opt/clipcurate/bin/python install -q -c constraints.txt --force-reinstall --no-deps numpy
ARG KERNELS_CPU=x86-64-v3
COPY clipcurate clipcurate
RUN mkdir /opt/kernels \
 && /opt/clipcurate/bin/python -m clipcurate.kernels.ahead --cpu "${KERNELS_CPU}" --output /opt/kernels

FROM packages AS program
COPY LICENSE README.md ./
COPY clipcurate clipcurate
COPY services services
COPY --from=kernels /opt/kernels /opt/kernels
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/clipcurate/bin/python install -q --no-deps . \
 && cp /opt/kernels/* /opt/clipcurate/lib/python3*/site-packages/clipcurate/kernels/

FROM python AS runtime
ENV PATH=/opt/clipcurate/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
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
# COMPILER=1 is for torch.compile, which wants a compiler, and sources of torch and triton, where it runs.
FROM packages AS trainer-packages
ARG TORCH_INDEX=""
ARG COMPILER=""
RUN --mount=type=cache,target=/root/.cache/pip \
    scripts/image-requirements languages s3 tracing train kubernetes >requirements.txt \
 && pip --python /opt/clipcurate/bin/python install -q -c constraints.txt -r requirements.txt \
      ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} \
 && scripts/image-slim /opt/clipcurate ${COMPILER:+torch triton}

FROM trainer-packages AS trainer-program
COPY LICENSE README.md ./
COPY clipcurate clipcurate
COPY services services
COPY --from=kernels /opt/kernels /opt/kernels
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/clipcurate/bin/python install -q --no-deps . \
 && cp /opt/kernels/* /opt/clipcurate/lib/python3*/site-packages/clipcurate/kernels/

FROM runtime AS trainer
ARG COMPILER=""
USER 0:0
RUN --mount=type=bind,source=scripts/image-compiler,target=/tmp/image-compiler \
    test -z "${COMPILER}" || /tmp/image-compiler
USER 10001:10001
COPY --from=trainer-program /opt/clipcurate /opt/clipcurate
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
