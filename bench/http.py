"""Requests per second and their times: the API, the same gunicorn without an application, and two APIs beside it.

They are Fastify with BullMQ, and Flask with RQ under the same gunicorn. POST takes jobs of 1 KB and 100 KB, batch a
hundred of 1 KB with one request; GET reads the record of a waiting job, and a log of 100 KB. wrk sends, over 16
connections that stay open. All servers are up all the time and measured in turns, on one Redis server.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import requests

import machine
from bench import measure, nodejs
from bench.redis_server import Server, private_server
from jobs import OutputChunk
from stack import ROOT, free_port, venv
from store import Store

CONNECTIONS = 16
SECONDS = 2
SMALL, LARGE = 1_000, 100_000
BATCH = 100
#: Where wrk's script writes a number, so that no two jobs are the same.
NUMBER = "@number@"


@dataclass(frozen=True)
class Serving:
    """A server's address for jobs, and the group that its processes are in."""

    url: str
    group: int


@dataclass(frozen=True)
class Contender:
    """Something that takes jobs: its server, and how Redis syncs its file meanwhile."""

    name: str
    server: Serving
    sync: str
    has_logs: bool = True


@dataclass(frozen=True)
class Figures:
    """What wrk says of one measurement: requests in all and per second, their times, and how many were refused."""

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    refused: int


@dataclass(frozen=True)
class Turn:
    """One measurement, with the CPU time of each request (µs) in the server's processes and in Redis."""

    figures: Figures
    server_us: float
    redis_us: float


def run(rounds: int) -> str:
    """The table."""
    if not shutil.which("wrk"):
        machine.apt_install("wrk")
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="cw-bench-")))
        server = parts.enter_context(private_server(folder))
        contenders = started(parts, folder, server)
        turns = {
            f"{request} | {contender.name}": partial(turn, request, contender, server, folder)
            for request in ("POST 1 KB", "POST 100 KB", "batch of 100 × 1 KB", "GET job", "GET log 100 KB")
            for contender in contenders
            if is_fair(request, contender)
        }
        measured = measure.in_turns(rounds, turns)
    head = "request | what | requests/s | p50 ms | p99 ms | CPU µs, server | CPU µs, Redis"
    return measure.table(head, [row(name, figures) for name, figures in measured.items()], names=2)


def is_fair(request: str, contender: Contender) -> bool:
    """Reads do not wait for the disk, so one setting is enough; BullMQ keeps logs of another kind."""
    if "log" in request and not contender.has_logs:
        return False
    return not request.startswith("GET") or contender.sync == "everysec"


def row(name: str, turns: list[Turn]) -> list[str]:
    """One line of the table."""
    if refused := sum(turn.figures.refused for turn in turns):
        measure.say(f"{name}: {refused} answers were not 2xx")
    return [
        *name.split(" | "),
        measure.spread(turn.figures.per_second for turn in turns),
        measure.spread((turn.figures.p50_ms for turn in turns), 1),
        measure.spread((turn.figures.p99_ms for turn in turns), 1),
        measure.spread(turn.server_us for turn in turns),
        measure.spread(turn.redis_us for turn in turns),
    ]


def started(parts: ExitStack, folder: Path, server: Server) -> list[Contender]:
    """All servers, up."""
    ours = {"REDIS_URL": server.url(0), "DATA_DIR": str(folder / "data"), "MAX_QUEUED_JOBS": "1000000"}
    environment = {**os.environ, **ours, "LOG_LEVEL": "WARNING"}
    gunicorn = [venv("gunicorn"), "-c", "gunicorn.conf.py"]
    floor = serve(parts, [*gunicorn, "bench.http:floor"], environment, folder / "floor.log")
    service = serve(parts, [*gunicorn, "app:wsgi()"], environment, folder / "service.log")
    theirs = nodejs.environment(folder) | {"BENCH_URL": server.url(5)}
    command = [nodejs.binary(), str(nodejs.installed(folder) / "fastify.mjs")]
    fastify = serve(parts, command, theirs, folder / "fastify.log")
    rq = {**environment, "BENCH_URL": server.url(6)}
    flask = serve(parts, [*gunicorn, "bench.flask_rq:app"], rq, folder / "flask.log")
    return [
        Contender("gunicorn alone", floor, "everysec"),
        Contender("Chef Workers, always", service, "always"),
        Contender("Chef Workers, everysec", service, "everysec"),
        Contender("Fastify + BullMQ, everysec", fastify, "everysec", has_logs=False),
        Contender("Fastify + BullMQ, always", fastify, "always", has_logs=False),
        Contender("Flask + RQ, everysec", flask, "everysec", has_logs=False),
    ]


def serve(parts: ExitStack, command: list[str], environment: Mapping[str, str], log: Path) -> Serving:
    """Start a server on a free port."""
    port = free_port()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**environment, "PORT": str(port)}, stdout=sink, stderr=sink, start_new_session=True
        )
    parts.callback(machine.stop_process, process)
    machine.wait_until(lambda: answers(f"http://127.0.0.1:{port}"), process, command[0], log)
    return Serving(f"http://127.0.0.1:{port}/api/jobs", process.pid)


def answers(url: str) -> bool:
    """True once something listens."""
    try:
        return bool(requests.get(url, timeout=1).status_code)
    except requests.RequestException:
        return False


def turn(request: str, contender: Contender, server: Server, folder: Path) -> Turn:
    """One measurement, on an empty Redis server."""
    server.empty()
    server.sync(contender.sync)
    url, payload = asked(request, contender, server)
    group = contender.server.group
    server_s, redis_s = measure.cpu_s(group), server.cpu_s()
    figures = wrk(url, folder, payload)
    server_s, redis_s = measure.cpu_s(group) - server_s, server.cpu_s() - redis_s
    return Turn(figures, server_s / figures.requests * 1e6, redis_s / figures.requests * 1e6)


def asked(request: str, contender: Contender, server: Server) -> tuple[str, str]:
    """Address and body of the requests; what a GET reads is there then."""
    url = contender.server.url
    if request.startswith("POST"):
        return url, body(LARGE if "100 KB" in request else SMALL)
    if request.startswith("batch"):
        jobs = ", ".join(body(SMALL).replace(NUMBER, f"{NUMBER}-{n}") for n in range(BATCH))
        return f"{url}/batch", f'{{"jobs": [{jobs}]}}'
    if contender.name.startswith("gunicorn"):
        return url + ("/logs" if "log" in request else ""), ""
    sent = body(SMALL).replace(NUMBER, "")
    answer = requests.post(url, sent, headers={"content-type": "application/json"}, timeout=5)
    job_url = f"{url}/{answer.json()['jobId']}"
    if "log" in request:
        write_log(server)
        return f"{job_url}/logs", ""
    return job_url, ""


def body(size: int) -> str:
    """A build job's body of about `size` bytes, in files of 2 KB: source code, which packs like source code."""
    length = min(2_000, size)
    code = "".join(path.read_text() for path in sorted(ROOT.glob("*.py")))
    pieces = [code[number * length : (number + 1) * length] for number in range(size // length)]
    files = {f"src/file{number}.ts": piece.replace(NUMBER, "") for number, piece in enumerate(pieces)}
    return json.dumps({"type": "build", "data": {"chatId": f"chat{NUMBER}", "projectFiles": files}})


def write_log(server: Server) -> None:
    """Claim the one job that waits, and give it 100 KB of output."""
    store = Store(server.url(0))
    job = store.claim("bench").job
    if job is None:
        raise RuntimeError("nothing waits")
    text = ("x" * 79 + "\n") * 25
    chunks = [OutputChunk(25 * n, 25, 0, "building", "stdout", text) for n in range(LARGE // len(text))]
    store.append_log(job.id, job.fence, chunks)
    store.close()


def wrk(url: str, folder: Path, payload: str = "") -> Figures:
    """Load for SECONDS."""
    script = folder / "request.lua"
    script.write_text(post_script(folder, payload) if payload else "")
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", "-s", str(script), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Figures(
        int(found(r"(\d+) requests in", output)),
        float(found(r"Requests/sec:\s+([\d.]+)", output)),
        milliseconds(found(r"50%\s+([\d.]+\w+)", output)),
        milliseconds(found(r"99%\s+([\d.]+\w+)", output)),
        int(found(r"Non-2xx or 3xx responses: (\d+)", output, "0")),
    )


def post_script(folder: Path, payload: str) -> str:
    """wrk's own language: POST the payload with a number in it that counts up."""
    (folder / "body").write_text(payload)
    return f"""
local parts = {{}}
for part in (io.open('{folder}/body'):read('*a') .. '{NUMBER}'):gmatch('(.-){NUMBER}') do parts[#parts + 1] = part end
local number, headers = 0, {{ ['Content-Type'] = 'application/json' }}
request = function()
  number = number + 1
  return wrk.format('POST', nil, headers, table.concat(parts, number))
end
"""


def found(pattern: str, text: str, default: str = "") -> str:
    """The first group of a pattern that is there, or has a default."""
    match = re.search(pattern, text)
    if not match and not default:
        raise RuntimeError(f"wrk does not say {pattern}:\n{text}")
    return match[1] if match else default


def milliseconds(text: str) -> float:
    """wrk's 812.00us, 3.21ms or 1.02s in ms."""
    number, unit = re.findall(r"([\d.]+)(us|ms|s)$", text)[0]
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def floor(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Reads the body, answers as much as the service would: what gunicorn alone costs."""
    environ["wsgi.input"].read()
    size = {"POST": 150}.get(environ["REQUEST_METHOD"], LARGE if environ["PATH_INFO"].endswith("/logs") else SMALL)
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(size))])
    return [b" " * size]
