# Nadi in a container: one image, one process per container (see docker-compose.yml), or all of
# them together by its default command.

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/nadi
WORKDIR /src
COPY requirements.lock ./
RUN /opt/nadi/bin/pip install --no-deps --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY gateway gateway
COPY workers workers
COPY adapters adapters
COPY models models
COPY migrations migrations
RUN /opt/nadi/bin/pip install --no-deps --no-build-isolation . \
    && /opt/nadi/bin/python -m compileall -q /opt/nadi

FROM python:3.12-slim
RUN groupadd --system --gid 10001 nadi \
    && useradd --system --uid 10001 --gid nadi --no-create-home --home-dir /var/lib/nadi nadi \
    && install -d -m 0700 -o nadi -g nadi /var/lib/nadi
COPY --from=build /opt/nadi /opt/nadi
ENV PATH=/opt/nadi/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MALLOC_ARENA_MAX=2 \
    NADI_DATA_DIR=/var/lib/nadi \
    NADI_HOST=0.0.0.0
# The root file system may be read-only: only the data folder and /tmp are written to.
WORKDIR /var/lib/nadi
VOLUME /var/lib/nadi
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-m", "gateway.cli.healthy", "http://127.0.0.1:8080/health/ready"]
CMD ["nadi", "up"]
