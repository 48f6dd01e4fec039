# The image of any service: docker build --build-arg SERVICE=catalogue -t storefront-catalogue .
# Needs BuildKit (DOCKER_BUILDKIT=1 before Docker 23).

ARG PYTHON_IMAGE=python:3.11.17-slim-bookworm


FROM ${PYTHON_IMAGE} AS build

WORKDIR /build
ENV PIP_CACHE_DIR=/var/cache/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYC_INVALIDATION_MODE=UNCHECKED_HASH \
    UV_CACHE_DIR=/var/cache/uv \
    UV_LINK_MODE=copy

# hadolint ignore=DL3008 # any version of `strip` does, and none of it is in the image
RUN apt-get update -qq \
    && apt-get install -qq --yes --no-install-recommends binutils >/dev/null \
    && rm -rf /var/lib/apt/lists/*

COPY scripts/uv.sh scripts/
COPY requirements/uv.txt requirements/
RUN --mount=type=cache,target=/var/cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    python -m venv .venv \
    && .venv/bin/python -m pip install --quiet --require-hashes -r requirements/uv.txt \
    && python -m venv --without-pip /opt/storefront

# Then out goes what runs nothing: symbols for debuggers (Cython's modules have up to seven times their size of them),
# sources of what is compiled, the test suites of packages, and what no service can reach or has a use for: cffi's
# compiler, pydantic's first version, SQLAlchemy's asyncio, and of Google's packages the other way to sign and
# all that is for gRPC and aiohttp, which are not installed.
ARG SERVICE
COPY requirements/${SERVICE}.txt requirements/
# hadolint ignore=DL3003 # the folder has Python's version in its name
RUN --mount=type=cache,target=/var/cache/uv \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    sh scripts/uv.sh pip install --quiet --python /opt/storefront/bin/python \
        --compile-bytecode --require-hashes --only-binary :all: -r "requirements/${SERVICE}.txt" \
    && cd /opt/storefront/lib/python3*/site-packages \
    && find . -name '*.so' -not -path '*.libs/*' -exec strip --strip-all {} + \
    && find . -type f -regex '.*\.\(c\|cpp\|h\|proto\|pxd\|pyi\|pyx\)' -delete \
    && rm -rf docs alembic/testing certifi/tests sqlalchemy/testing sqlalchemy/ext/asyncio pydantic/v1 \
        cffi proto pyasn1 pyasn1_modules pycparser \
        google/_async_resumable_media google/api google/gapic google/logging google/longrunning google/type \
        google/api_core/gapic_v1 google/api_core/operations_v1 google/api_core/resumable_transfer google/auth/aio \
        google/cloud/_storage* google/cloud/location google/cloud/storage/_experimental google/cloud/storage/asyncio

COPY requirements/dev.txt requirements/
COPY chassis chassis
COPY functions functions
COPY services/${SERVICE} services/${SERVICE}
RUN --mount=type=cache,target=/var/cache/uv \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    for project in chassis functions/redirect "services/${SERVICE}"; do \
        sh scripts/uv.sh build --quiet --wheel --require-hashes --build-constraints requirements/dev.txt \
            --out-dir wheels "${project}" || exit; \
    done \
    && sh scripts/uv.sh pip install --quiet --python /opt/storefront/bin/python \
        --compile-bytecode --no-index --find-links wheels "storefront-${SERVICE}"


FROM ${PYTHON_IMAGE}

RUN groupadd --gid 10001 storefront \
    && useradd --uid 10001 --gid 10001 --no-log-init --no-create-home --home-dir /app --shell /usr/sbin/nologin storefront

COPY --from=build /opt/storefront /opt/storefront

# Python's own images have no bytecode of the standard library, and a service cannot write any. What is imported here
# gets it; without, a start takes a second more of CPU time and each health check three times as much.
ARG SERVICE
RUN /opt/storefront/bin/python -c "import concurrent.futures.thread, encodings.idna, runpy; \
import gunicorn.app.wsgiapp, gunicorn.glogging, prometheus_client.multiprocess, chassis.probe, chassis.worker, ${SERVICE}"

WORKDIR /app
ENV PATH=/opt/storefront/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONFIG_DIR=/app \
    LISTEN_HOST=0.0.0.0
USER 10001:10001

HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["python", "-m", "chassis.probe"]
CMD ["python", "-m", "chassis.serve"]

ARG VERSION=1.0.0
ARG COMMIT=unknown
ENV SERVICE=${SERVICE} \
    APP_VERSION=${VERSION} \
    COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="storefront-${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.licenses="Apache-2.0"
