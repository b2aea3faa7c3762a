# Image of the Node jobs: Node, four package managers and the checkers of analyses, read-only while a job runs.
ARG BASE
FROM ${BASE}
# The host's CA bundle, and Node itself where the base has none (see executor/images.py).
COPY rootfs/ /
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
ARG REGISTRY=""
ARG PNPM=10.34.8
ARG YARN=1.22.22
ARG YARN_BERRY=4.18.1
ARG BUN=1.4.5
# What checks a project that brings no tool of its own: a linter, a finder of unused packages, a reader of source maps.
ARG OXLINT=1.94.0
ARG KNIP=6.44.2
ARG SOURCEMAP_CODEC=1.6.0
RUN set -eu; \
    if ! command -v node >/dev/null; then \
        apt-get update; apt-get install --yes --no-install-recommends nodejs npm; rm -rf /var/lib/apt/lists/*; \
    fi; \
    if [ -n "$REGISTRY" ]; then export npm_config_registry="$REGISTRY"; fi; \
    install="npm install --global --force --no-audit --no-fund --loglevel=error"; \
    $install "pnpm@$PNPM" "yarn@$YARN" "bun@$BUN"; \
    $install --prefix /opt/yarn-berry "@yarnpkg/cli-dist@$YARN_BERRY"; \
    # Off the PATH, so that they never stand in for the ones of a project.
    mkdir /opt/checks; npm install --prefix /opt/checks --no-audit --no-fund --loglevel=error \
      "oxlint@$OXLINT" "knip@$KNIP" "@jridgewell/sourcemap-codec@$SOURCEMAP_CODEC"; \
    # Where each package manager goes, in its own words: what an install may reach (bun goes where npm goes).
    if [ -n "$REGISTRY" ]; then export YARN_REGISTRY="$REGISTRY" YARN_NPM_REGISTRY_SERVER="$REGISTRY"; fi; \
    cd /tmp; { npm config get registry; pnpm config get registry; yarn config get registry; \
      /opt/yarn-berry/bin/yarn config get npmRegistryServer; } | grep ^http | sort -u >/etc/registries; \
    test -s /etc/registries; cat /etc/registries; \
    rm -rf /root/.npm /tmp/*
# One user per slot, so that os.userInfo() works; any of them may write in /work, whose mode a new volume takes over. In
# /deps they may make folders, which none of them can list.
RUN set -eu; slot=0; while [ "$slot" -lt 256 ]; do uid=$((20000 + slot)); \
        echo "job$slot:x:$uid:$uid::/work/home:/bin/sh" >>/etc/passwd; echo "job$slot:x:$uid:" >>/etc/group; \
        slot=$((slot + 1)); \
    done; mkdir -m 1777 /work; mkdir -m 1733 /deps
# What npm compiles at its start, kept where Node looks for it: in a folder for each user. While a job runs the image is
# read-only, so nobody adds to it.
ENV NODE_COMPILE_CACHE=/opt/compile-cache
RUN set -eu; mkdir /tmp/warm; cd /tmp/warm; echo '{"private":true,"scripts":{"x":"true"}}' >package.json; \
    for time in 1 2; do npm run x; npm install --offline --no-audit --no-fund --ignore-scripts; done >/dev/null; \
    cd /; rm -rf /tmp/warm /root/.npm; \
    for made in /opt/compile-cache/*-0; do \
        if [ -d "$made" ]; then \
            chmod -R a+rX /opt/compile-cache; slot=0; \
            while [ "$slot" -lt 256 ]; do ln -s "${made##*/}" "${made%-0}-$((20000 + slot))"; slot=$((slot + 1)); done; \
        fi; \
    done
