FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --create-home --uid 10001 meterhouse \
    && mkdir /data \
    && chown meterhouse:meterhouse /data

WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY app ./app
COPY clickhouse ./clickhouse
COPY postgres ./postgres
RUN pip install -c requirements.lock '.[demo]' && rm -rf /src/*

USER meterhouse
WORKDIR /data
ENV METERHOUSE_HOST=0.0.0.0 \
    METERHOUSE_PORT=3000 \
    METERHOUSE_DATA_DIR=/data/meterhouse
EXPOSE 3000
STOPSIGNAL SIGTERM

# Without an argument: everything in this one container, its data in /data.
ENTRYPOINT ["meterhouse"]
CMD ["up"]
