# The generator of load. From the root of the repository:
#   docker build --file deploy/docker/load.Dockerfile --tag realtime-gateway-load .
#   docker run realtime-gateway-load run fan-out --target http://gateway.example:8000 --tokens ...
# Arguments, limits and what may be read-only: docs/topics/images.md.

# Both are to be of one kind: what the first builds, the second runs. A release pins them: BASE_DIGEST=@sha256:...
ARG BUILD_BASE=python:3.11-bookworm
ARG BUILD_BASE_DIGEST=
ARG BASE=python:3.11-slim-bookworm
ARG BASE_DIGEST=

FROM ${BUILD_BASE}${BUILD_BASE_DIGEST} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY requirements/load.txt requirements/
# The secret is for those with an index of their own: --secret id=pip,src=pip.conf
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /opt/tools \
    && /opt/tools/bin/pip install --require-hashes -r requirements/load.txt \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --require-hashes -r requirements/load.txt \
    && /opt/tools/bin/pip --python /opt/venv/bin/python uninstall --yes setuptools
COPY LICENSE README.md pyproject.toml setup.py ./
COPY auth_service auth_service
COPY gateway gateway
COPY loadtests loadtests
# The kit is no part of the distribution, and takes the vocabulary of the gateway from it.
RUN /opt/tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/tools/bin/pip --python /opt/venv/bin/python install --no-deps --no-index /wheels/*.whl \
    && rm -r /opt/venv/bin/gateway /opt/venv/bin/auth-service /opt/venv/lib/python3*/site-packages/auth_service \
    && cp -r loadtests /opt/venv/lib/python3*/site-packages/ \
    && /opt/venv/bin/python -m compileall -q /opt/venv/lib/python3*/site-packages/loadtests \
    && install --directory --owner=10001 --group=10001 /reports

FROM ${BASE}${BASE_DIGEST}
ARG BASE
ARG REVISION=
ARG VERSION=
LABEL org.opencontainers.image.title="realtime-gateway-load" \
      org.opencontainers.image.description="Load tests for the realtime gateway: puts load on it and audits every message" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /opt/venv /opt/venv
# A volume that is mounted here takes over whom it belongs to.
COPY --from=build --chown=10001:10001 /reports /reports
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
WORKDIR /reports
USER 10001:10001
# As Ctrl-C: it settles, and reports what was measured until then.
STOPSIGNAL SIGINT
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "loadtests"]
CMD ["list"]
