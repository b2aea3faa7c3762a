# Stands in for the official Redis image where no image registry can be reached (see deploy/images).
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends redis-server redis-tools && \
    rm -rf /var/lib/apt/lists/* && install -d -o redis -g redis /data
USER redis
WORKDIR /data
VOLUME /data
