# Two images: `--target lb` is the load balancer, `--target backend` the demo server behind it.
# Both run as user 65532 on a read-only root; nothing in them is written at run time.
ARG BASE_IMAGE=docker.io/library/python:3.11-slim

# What both build stages do: packages by hash and only as wheels, so that nothing of them runs at build time, then the
# byte code. It is not checked against the sources when it is loaded, so times that a copy changes don't matter; a
# read-only root could not store it anew. The client's classes for each kind of object, which podlb never loads, are
# left out: 49 MB, and half of the time of a build.
FROM ${BASE_IMAGE} AS lb-build
RUN python3 -m venv --without-pip /opt/podlb
COPY deploy/lb.lock /tmp/lock
RUN python3 -m pip --python /opt/podlb/bin/python install --no-cache-dir --no-compile --no-deps \
        --only-binary :all: --require-hashes --requirement /tmp/lock \
    && python3 -m pip --python /opt/podlb/bin/python check
COPY lb /tmp/source/lb
RUN site="$(/opt/podlb/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && cp -R /tmp/source/lb "$site" \
    && /opt/podlb/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/kubernetes/.*/(api|models)/[a-z]' "$site"

FROM ${BASE_IMAGE} AS backend-build
RUN python3 -m venv --without-pip /opt/podlb
COPY deploy/backend.lock /tmp/lock
RUN python3 -m pip --python /opt/podlb/bin/python install --no-cache-dir --no-compile --no-deps \
        --only-binary :all: --require-hashes --requirement /tmp/lock \
    && python3 -m pip --python /opt/podlb/bin/python check
COPY backend /tmp/source/backend
RUN site="$(/opt/podlb/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && cp -R /tmp/source/backend "$site" \
    && /opt/podlb/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash "$site"

FROM ${BASE_IMAGE} AS backend
ARG VERSION=unknown
LABEL org.opencontainers.image.title="podlb-backend" \
      org.opencontainers.image.description="A demo server that says which pod it is, carries load and misbehaves on request" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=backend-build /opt/podlb /opt/podlb
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/opt/podlb/bin/python", "-m", "backend"]

FROM ${BASE_IMAGE} AS lb
ARG VERSION=unknown
LABEL org.opencontainers.image.title="podlb-lb" \
      org.opencontainers.image.description="An HTTP load balancer for Kubernetes pods" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=lb-build /opt/podlb /opt/podlb
USER 65532:65532
EXPOSE 8080 8082
ENTRYPOINT ["/opt/podlb/bin/python", "-m", "lb"]
