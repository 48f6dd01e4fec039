# The image of any service: docker build --build-arg SERVICE=catalogue -t storefront-catalogue .
# Needs BuildKit (DOCKER_BUILDKIT=1 before Docker 23).

ARG PYTHON_IMAGE=python:3.11.17-slim-bookworm


FROM ${PYTHON_IMAGE} AS build

WORKDIR /build
ENV PIP_CACHE_DIR=/var/cache/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_CACHE_DIR=/var/cache/uv \
    UV_LINK_MODE=copy

COPY scripts/uv.sh scripts/
COPY requirements/uv.txt requirements/
RUN --mount=type=cache,target=/var/cache \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv .venv \
    && .venv/bin/python -m pip install --quiet --require-hashes -r requirements/uv.txt \
    && python -m venv --without-pip /opt/storefront

ARG SERVICE
COPY requirements/${SERVICE}.txt requirements/
RUN --mount=type=cache,target=/var/cache \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh scripts/uv.sh pip install --quiet --python /opt/storefront/bin/python \
        --require-hashes --only-binary :all: -r "requirements/${SERVICE}.txt"

COPY requirements/dev.txt requirements/
COPY chassis chassis
COPY services/${SERVICE} services/${SERVICE}
RUN --mount=type=cache,target=/var/cache \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    for project in chassis "services/${SERVICE}"; do \
        sh scripts/uv.sh build --quiet --wheel --require-hashes --build-constraints requirements/dev.txt \
            --out-dir wheels "${project}" || exit; \
    done \
    && sh scripts/uv.sh pip install --quiet --python /opt/storefront/bin/python --no-deps --no-index wheels/*.whl \
    && /opt/storefront/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/storefront/lib


FROM ${PYTHON_IMAGE}

RUN groupadd --gid 10001 storefront \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /app --shell /usr/sbin/nologin storefront

COPY --from=build /opt/storefront /opt/storefront

WORKDIR /app
ENV PATH=/opt/storefront/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONFIG_DIR=/app \
    LISTEN_HOST=0.0.0.0
USER 10001:10001

HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["python", "-m", "chassis.probe"]
CMD ["python", "-m", "chassis.serve"]

ARG SERVICE
ARG VERSION=1.0.0
ARG COMMIT=unknown
ENV SERVICE=${SERVICE} \
    APP_VERSION=${VERSION} \
    COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="storefront-${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
