# Image of the proxy between an install and the package registries: Squid, and socat for its Unix socket.
ARG BASE
FROM ${BASE}
COPY rootfs/ /
RUN set -eu; \
    apt-get update; apt-get install --yes --no-install-recommends squid-openssl socat openssl; \
    rm -rf /var/lib/apt/lists/*; \
    # Squid looks at a TLS greeting only on a port that has a certificate. No client is ever shown this one.
    openssl req -x509 -newkey rsa:2048 -nodes -days 36500 -subj /CN=unused -keyout /etc/squid/unused.pem \
        -out /tmp/unused.crt 2>/dev/null; \
    cat /tmp/unused.crt >>/etc/squid/unused.pem; rm /tmp/unused.crt; \
    chown proxy /etc/squid/unused.pem; chmod 400 /etc/squid/unused.pem; \
    mkdir -m 755 /run/egress; chown proxy:proxy /run/egress
