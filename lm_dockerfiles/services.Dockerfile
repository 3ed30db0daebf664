# Image of edgelm's services: controller, player and node service are the same image with other
# arguments. The build context "wheel" holds edgelm's wheel; build-images.sh makes it.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS built
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/edgelm
COPY requirements/services.txt /tmp/requirements/
RUN /opt/edgelm/bin/pip install --require-hashes --requirement /tmp/requirements/services.txt
COPY --from=wheel edgelm-*.whl /tmp/wheel/
RUN /opt/edgelm/bin/pip install --no-deps /tmp/wheel/edgelm-*.whl

FROM ${BASE} AS services
LABEL org.opencontainers.image.title="edgelm services" \
      org.opencontainers.image.description="Controller, player and node service of a testbed" \
      org.opencontainers.image.licenses="Apache-2.0"
# The root may be read-only: state is in /var/lib/edgelm, and libraries keep what they must in /tmp.
ENV PATH=/opt/edgelm/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
RUN install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/edgelm
USER 10001:10001
VOLUME /var/lib/edgelm
WORKDIR /var/lib/edgelm
COPY --from=built /opt/edgelm /opt/edgelm
ARG REVISION=unknown
LABEL org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["edgelm"]
