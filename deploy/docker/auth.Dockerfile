# The auth service. From the root of the repository:
#   docker build --file deploy/docker/auth.Dockerfile --tag realtime-gateway-auth .
# Arguments, limits and what may be read-only: docs/topics/images.md.

# Both are to be of one kind: what the first builds, the second runs. A release pins them: BASE_DIGEST=@sha256:...
ARG BUILD_BASE=python:3.11-bookworm
ARG BUILD_BASE_DIGEST=
ARG BASE=python:3.11-slim-bookworm
ARG BASE_DIGEST=

FROM ${BUILD_BASE}${BUILD_BASE_DIGEST} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements/base.txt requirements/
# The secret is for those with an index of their own: --secret id=pip,src=pip.conf
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes -r requirements/base.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --require-hashes -r requirements/base.txt \
    && /opt/tools/bin/pip --python /opt/venv/bin/python uninstall --yes setuptools
COPY LICENSE README.md pyproject.toml setup.py ./
COPY auth_service auth_service
COPY gateway gateway
# One distribution holds both programs; the gateway is no business of this image.
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --no-index /wheels/*.whl \
    && rm -r /opt/venv/bin/gateway /opt/venv/lib/python3*/site-packages/gateway \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/auth

FROM ${BASE}${BASE_DIGEST}
ARG BASE
ARG REVISION=
ARG VERSION=
LABEL org.opencontainers.image.title="realtime-gateway-auth" \
      org.opencontainers.image.description="The auth service of the realtime gateway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/venv /opt/venv
# A volume that is mounted here takes over whom it belongs to. SQLite and the keys are here unless settings say otherwise.
COPY --from=build --chown=10001:10001 /var/lib/auth /var/lib/auth
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /var/lib/auth
USER 10001:10001
EXPOSE 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["auth-service", "health"]
ENTRYPOINT ["auth-service"]
CMD ["serve", "--host", "0.0.0.0"]
