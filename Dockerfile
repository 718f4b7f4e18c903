# One image for every part of Meltproof: head, gateways, dispatchers, decoders. `make image` builds and
# tries it; docs/image.md has what it needs to run.
#
#   docker build --target cpu -t meltproof .            with the embedded model's weights
#   docker build --target cuda -t meltproof:cuda .      for NVIDIA GPUs; the driver comes from the host
#   docker build --target cuda-without-weights ...      24 MB less, for checkpoints of your own
#
# BASE needs Python 3.11 or 3.12 with venv, and apt. PIP_OPTIONS and TORCH_OPTIONS go to pip install,
# such as --index-url of a mirror, or --no-index --find-links of mounted wheels.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM scratch AS code
COPY pyproject.toml README.md LICENSE NOTICE /app/
COPY serve_app /app/serve_app
COPY deployments /app/deployments
COPY dispatch /app/dispatch
COPY autoscaling /app/autoscaling
COPY engine /app/engine
COPY jobs /app/jobs
COPY meltproof_temporal /app/meltproof_temporal
COPY studio /app/studio
COPY configs /app/configs

# Every dependency is a wheel: nothing is compiled, so nothing is left behind by a stage that builds.
FROM ${BASE} AS base
# wget: the probes that the KubeRay operator puts into its pods call it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates wget \
    && rm -rf /var/lib/apt/lists/* /var/log/* \
    && python3 -m venv /opt/venv \
    && mkdir -p /etc/meltproof /var/lib/meltproof && chown 1000:1000 /var/lib/meltproof
# Nothing is written outside of /tmp and /var/lib/meltproof: the root may be read-only.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 RAY_USAGE_STATS_ENABLED=0 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /app
CMD ["meltproof", "--help"]

# What is to be installed. torch comes by itself, since the variants differ in where it comes from.
# Layers after it are made again when this list changes, not with every change of pyproject.toml.
FROM base AS wanted
COPY pyproject.toml /opt/
RUN python -c "import tomllib; \
project = tomllib.load(open('/opt/pyproject.toml', 'rb')); \
wanted = project['build-system']['requires'] + project['project']['dependencies']; \
print('\n'.join(name for name in wanted if not name.startswith('torch')))" > /opt/wanted.txt

FROM base AS cpu-without-weights
ARG TORCH_OPTIONS="--index-url https://download.pytorch.org/whl/cpu"
ARG PIP_OPTIONS=""
COPY constraints.txt /opt/
COPY --from=wanted /opt/wanted.txt /opt/
RUN pip install ${TORCH_OPTIONS} -c /opt/constraints.txt torch \
    && pip install ${PIP_OPTIONS} -c /opt/constraints.txt -r /opt/wanted.txt
COPY --from=code /app /app
RUN pip install --no-build-isolation --no-deps -e . && python -m compileall -q /app
USER 1000:1000

FROM cpu-without-weights AS cpu
COPY weights weights

# PyPI's torch carries CUDA; the NVIDIA container runtime mounts the host's driver.
FROM base AS cuda-without-weights
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG TORCH_OPTIONS=""
ARG PIP_OPTIONS=""
COPY constraints.txt /opt/
COPY --from=wanted /opt/wanted.txt /opt/
RUN pip install ${TORCH_OPTIONS} -c /opt/constraints.txt torch \
    && pip install ${PIP_OPTIONS} -c /opt/constraints.txt -r /opt/wanted.txt
COPY --from=code /app /app
RUN pip install --no-build-isolation --no-deps -e . && python -m compileall -q /app
USER 1000:1000

FROM cuda-without-weights AS cuda
COPY weights weights
