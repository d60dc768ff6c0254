# syntax=docker/dockerfile:1
# One image for everything: `spoolhouse up` (the default), or `spoolhouse api` and `spoolhouse worker` apart.

FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/spoolhouse
# The locked packages first: they change seldom, and this layer is then reused.
COPY requirements.lock ./
RUN /opt/spoolhouse/bin/pip install --no-cache-dir --disable-pip-version-check \
    --require-hashes --only-binary=:all: --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY streams streams
COPY processors processors
COPY projections projections
COPY api api
RUN /opt/spoolhouse/bin/pip install --no-cache-dir --no-index --no-build-isolation --no-deps .

FROM python:3.12-slim
COPY --from=build /opt/spoolhouse /opt/spoolhouse
RUN useradd --uid 1000 --user-group --create-home spoolhouse \
    && install --directory --owner=spoolhouse --group=spoolhouse /data /inbox /downloads
USER 1000:1000
WORKDIR /data
ENV PATH=/opt/spoolhouse/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SPOOLHOUSE_DATA=/data \
    SPOOLHOUSE_HOST=0.0.0.0 \
    SPOOLHOUSE_PORT=8000
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["spoolhouse", "up"]
