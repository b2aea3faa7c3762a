# Image of the keeper, which runs Python's standard library alone (-I -S), and of the Python jobs: Python, pip, uv, ruff,
# and the test tools for projects that bring none. What a project installs goes before all of them.
ARG BASE
FROM ${BASE}
COPY rootfs/ /
ARG INDEX=""
ARG UV=0.13.9
ARG RUFF=0.17.6
ARG PYTEST=9.2.0
ARG COVERAGE=7.17.4
ARG XMLRUNNER=4.0.0
ARG EDITABLES=0.5
RUN set -eu; \
    if ! python3 -m pip --version 2>/dev/null; then \
        apt-get update; apt-get install --yes --no-install-recommends python3-pip; apt-get clean; rm -rf /var/lib/apt/lists/*; \
    fi; \
    export PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1; \
    if [ -n "$INDEX" ]; then export PIP_INDEX_URL="$INDEX"; fi; \
    # Where pip goes, in its own words: what an install may reach, as in the image of the Node jobs. The index and the
    # files have different hosts.
    cd /tmp; python3 -m pip download -vvv --no-deps --only-binary :all: six >log 2>&1 || { cat log; exit 1; }; \
    grep -E 'location\(s\) to search|^ *\* http|Fetching project page|Added six' log | grep -oE 'https?://[^/ ]+' | \
        sort -u >/etc/registries; \
    test -s /etc/registries; cat /etc/registries; rm -f /tmp/*; \
    # uv and ruff are programs, in a place of their own.
    install="python3 -m pip install --quiet --only-binary :all: --root-user-action ignore"; \
    $install --target /opt/tools "uv==$UV" "ruff==$RUFF"; \
    for program in uv uvx ruff; do ln -s "/opt/tools/bin/$program" /usr/local/bin/; done; \
    # Test tools, and what hatchling wants for a project in place, run on the project's Python, so they are Python's
    # own; a virtual environment sees them last.
    site=$(python3 -c "import site; print(site.getsitepackages()[0])"); \
    $install --target "$site" "pytest==$PYTEST" "coverage==$COVERAGE" "unittest-xml-reporting==$XMLRUNNER" \
        "editables==$EDITABLES"; rm -rf "$site/bin"; \
    [ -e /usr/local/bin/python ] || ln -s "$(command -v python3)" /usr/local/bin/python; \
    for module in pytest coverage; do \
        printf '#!/bin/sh\nexec python -m %s "$@"\n' "$module" >"/usr/local/bin/$module"; chmod 755 "/usr/local/bin/$module"; \
    done; \
    # poetry.lock is read by executor/poetry.py, and installed by uv.
    printf '#!/bin/sh\n[ "$1" = run ] && shift && exec "$@"\necho "of poetry there is only: poetry run" >&2; exit 127\n' \
        >/usr/local/bin/poetry; chmod 755 /usr/local/bin/poetry; \
    # As bytecode now: at run time the image is read-only.
    python3 -m compileall -q "$site" >/dev/null; python3 -m pytest --version; uv --version; ruff --version
RUN set -eu; slot=0; while [ "$slot" -lt 256 ]; do uid=$((20000 + slot)); \
        echo "job$slot:x:$uid:$uid::/work/home:/bin/sh" >>/etc/passwd; echo "job$slot:x:$uid:" >>/etc/group; \
        slot=$((slot + 1)); \
    done; mkdir -m 1777 /work; mkdir -m 1733 /deps
