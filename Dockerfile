# One image for the API, the worker and the controller.  glibc: the CEL library has no wheel for musl.
FROM python:3.11-slim-bookworm AS build

WORKDIR /src
RUN python -m venv /opt/broker
COPY requirements/server.txt requirements/server.txt
RUN /opt/broker/bin/pip install --no-cache-dir --require-hashes -r requirements/server.txt
COPY pyproject.toml README.md LICENSE ./
COPY api_spec api_spec
COPY adapters adapters
COPY policies policies
COPY broker broker
RUN /opt/broker/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim-bookworm

COPY --from=build /opt/broker /opt/broker
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/broker broker \
    && install --directory --owner broker --mode 0700 /var/lib/broker-blobs
ENV PATH=/opt/broker/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BROKER_DATA_DIR=/var/lib/broker
USER 10001
EXPOSE 8080
CMD ["broker", "api"]
