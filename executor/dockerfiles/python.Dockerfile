# Image of the keeper, which runs Python's standard library alone, and of the Python jobs: Python and pip.
ARG BASE
FROM ${BASE}
COPY rootfs/ /
RUN set -eu; \
    if ! python3 -m pip --version 2>/dev/null; then \
        apt-get update; apt-get install --yes --no-install-recommends python3-pip; apt-get clean; rm -rf /var/lib/apt/lists/*; \
    fi; \
    export PIP_CERT=/etc/ssl/certs/ca-certificates.crt; \
    # Where pip goes, in its own words: what an install may reach, as in the image of the Node jobs. The index and the
    # files have different hosts.
    cd /tmp; python3 -m pip download -vvv --no-cache-dir --no-deps --only-binary :all: six >log 2>&1 || { cat log; exit 1; }; \
    grep -E 'location\(s\) to search|^ *\* http|Fetching project page|Added six' log | grep -oE 'https?://[^/ ]+' | \
        sort -u >/etc/registries; \
    test -s /etc/registries; cat /etc/registries; rm -f /tmp/*
RUN set -eu; slot=0; while [ "$slot" -lt 256 ]; do uid=$((20000 + slot)); \
        echo "job$slot:x:$uid:$uid::/work/home:/bin/sh" >>/etc/passwd; echo "job$slot:x:$uid:" >>/etc/group; \
        slot=$((slot + 1)); \
    done; mkdir -m 1777 /work; python3 --version
