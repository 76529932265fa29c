# One node of the gateway, its hot path compiled. From the root of the repository:
#   docker build --file deploy/docker/gateway.Dockerfile --tag realtime-gateway .
# Arguments, limits and what may be read-only: docs/topics/images.md.

# Both are to be of one kind: what the first builds, the second runs. A release pins them: BASE_DIGEST=@sha256:...
ARG BUILD_BASE=python:3.11-bookworm
ARG BUILD_BASE_DIGEST=
ARG BASE=python:3.11-slim-bookworm
ARG BASE_DIGEST=

FROM ${BUILD_BASE}${BUILD_BASE_DIGEST} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements/base.txt requirements/compile.txt requirements/
# The secret is for those with an index of their own: --secret id=pip,src=pip.conf
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes -r requirements/base.txt -r requirements/compile.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --require-hashes -r requirements/base.txt \
    && /opt/tools/bin/pip --python /opt/venv/bin/python uninstall --yes setuptools
COPY LICENSE README.md pyproject.toml setup.py ./
COPY auth_service auth_service
COPY gateway gateway
# 0: as it is written, where two minutes of compiling are too long; see decision 18
ARG GATEWAY_COMPILE=1
# One distribution holds both programs; the auth service is no business of this image.
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --no-index /wheels/*.whl \
    && rm -r /opt/venv/bin/auth-service /opt/venv/lib/python3*/site-packages/auth_service

FROM ${BASE}${BASE_DIGEST}
ARG BASE
ARG REVISION=
ARG VERSION=
LABEL org.opencontainers.image.title="realtime-gateway" \
      org.opencontainers.image.description="A node of the realtime gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/venv /opt/venv
# All that a file of settings should not have to say: the rest of the defaults holds.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    GATEWAY_HTTP_SERVER__ADDRESS=0.0.0.0
WORKDIR /
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["gateway", "health"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
