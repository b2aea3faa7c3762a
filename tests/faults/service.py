"""A whole service for one test: Redis, the stock Huey command as often as wanted, the API, and the three ledgers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import requests

import config
import stack
from jobs import Job, Request
from store import Store
from submission import Options
from tests.faults.client import Client
from tests.faults.ledger import RunLedger, Submissions, Verdict, judge
from tests.faults.redis_server import RedisServer
from tests.faults.sink import Sink
from webhook import new_secret

ROOT = Path(__file__).parents[2]
SCRIPTED = "tests.faults.worker.huey"
REAL = "tasks.huey"


class Service:
    """Made by running(). Workers that are killed are started again, as a supervisor would."""

    def __init__(self, folder: Path, huey: str, settings: Mapping[str, str]) -> None:
        """`huey` is what the consumer is told to import; `settings` are variables that differ from the defaults."""
        self.folder = folder
        self.redis = RedisServer(folder / "redis")
        self.ledger = RunLedger(folder / "runs")
        self.sink = Sink()
        self.sent = Submissions()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.prefix = settings.get("REDIS_PREFIX", "cw")
        self.store = Store(self.redis.url, prefix=self.prefix)
        self._huey = huey
        self._settings = dict(settings)
        self._started: list[subprocess.Popen[bytes]] = []
        self._told_to_end: set[int] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self.given_up = False  # a worker ended that nobody killed or told to

    @property
    def settings(self) -> dict[str, str]:
        """The variables of every process."""
        return {
            "REDIS_URL": self.redis.url,
            "DATA_DIR": str(self.folder / "data"),
            "CONVEX_SITE_URL": f"http://127.0.0.1:{self.sink.port}",
            "WEBHOOK_SECRET": self._secret,
            "MAX_CONCURRENT_WORKERS": "2",
            "LEASE_SECONDS": "1.5",
            "SHUTDOWN_GRACE_SECONDS": "5",
            "RETRY_BASE_SECONDS": "0.2",
            "RETRY_CAP_SECONDS": "1",
            "RESULT_CACHE_HOURS": "0",  # every job is to run
            **self._settings,
        }

    @contextlib.contextmanager
    def serve(self, workers: int) -> Iterator[Service]:
        """Run Redis, the receiver and that many workers; all end with the block."""
        self._secret = new_secret()
        with self.sink.serve():
            self.redis.start()
            tender = threading.Thread(target=self._tend, name="supervisor")
            try:
                for _ in range(workers):
                    self.start_worker()
                tender.start()
                yield self
            finally:
                self._over.set()
                if tender.ident:
                    tender.join()
                for process in self._started:
                    process.kill()
                    process.wait()
                self.store.close()
                self.redis.stop()

    def start_worker(self, **settings: str) -> subprocess.Popen[bytes]:
        """One more worker process, with these settings of its own."""
        variables = {**self.settings, **settings}
        command = stack.worker_command(config.load(variables))
        worker = self.start([self._huey if part == REAL else part for part in command], variables)
        with self._lock:
            self.workers.append(worker)
        return worker

    def start(self, command: list[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """A process of the service; its output goes to this service's log."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # noqa: TID251
        environment = {**inherited, **variables, "CHAOS_LEDGER": str(self.ledger.path), "PYTHONPATH": str(ROOT)}
        with (self.folder / "service.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._started.append(process)
        return process

    def start_api(self, app: str = "app:wsgi()") -> Client:
        """The API on a free port, as gunicorn serves it; a caller of it, once it is healthy."""
        port = stack.free_port()
        command = [stack.venv("gunicorn"), "-c", "gunicorn.conf.py", app]
        self.api = self.start(command, {**self.settings, "PORT": str(port)})
        url = f"http://127.0.0.1:{port}"
        self.until(lambda: is_healthy(url), 15, "a healthy API")
        return Client(url, self.sent)

    # --- faults -------------------------------------------------------------------------------------------------------

    def living(self) -> list[subprocess.Popen[bytes]]:
        """The workers that run now."""
        with self._lock:
            return [worker for worker in self.workers if worker.poll() is None]

    def kill(self, worker: subprocess.Popen[bytes]) -> float:
        """kill -9; answers the moment. Another one is started in its place."""
        worker.kill()
        moment = time.monotonic()
        worker.wait()
        return moment

    def signal(self, worker: subprocess.Popen[bytes], number: int) -> None:
        """Send a signal that is meant to end it; no other is started in its place."""
        self._told_to_end.add(worker.pid)
        worker.send_signal(number)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def add(self, request: Request, options: Options | None = None) -> Job:
        """Submit a job, and note that it was acknowledged."""
        job = self.store.submit(request, options or Options()).job
        self.sent.acknowledged.append(job.id)
        return job

    def until(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait for a condition; fail with the end of the service's log after `seconds`."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert not self.given_up, f"a worker ended by itself\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}\n{self.log_tail()}"
            time.sleep(0.02)

    def ended(self, job_id: str, seconds: float = 15) -> Job:
        """The record of a job once it has ended."""
        self.until(lambda: self.store.get(job_id).status.is_final, seconds, f"end of {job_id}")
        return self.store.get(job_id)

    def started(self, job_id: str, times: int = 1, seconds: float = 15) -> float:
        """The moment of a job's nth start, once it has happened."""
        self.until(lambda: len(self.ledger.starts(job_id)) >= times, seconds, f"start {times} of {job_id}")
        return self.ledger.starts(job_id)[times - 1].at_s

    def settle(self, seconds: float = 30, zombies: Callable[[], list[str]] = list) -> Verdict:
        """Wait until the receiver has the end of every job, then give the verdict."""
        with contextlib.suppress(AssertionError):  # what is missing is for the verdict to say
            self.until(self._at_rest, seconds, "rest")
        ghosts = [job_id for job_id in self.sent.acknowledged if not self.store.get(job_id).status.is_final]
        verdict = judge(self.sent, self.ledger.steps(), self.sink.posts, ghosts, zombies())
        assert verdict.clean(), f"{verdict}\n{verdict!r}\n{self.log_tail()}"
        return verdict

    def log_tail(self) -> str:
        """The end of what the processes printed."""
        return (self.folder / "service.log").read_text(errors="replace")[-6000:]

    def _at_rest(self) -> bool:
        reported = {post.job_id for post in self.sink.results()}
        busy = sum(queue[name] for queue in self.store.stats().values() for name in ("waiting", "delayed", "active"))
        return busy == 0 and reported.issuperset(self.sent.acknowledged)

    def _tend(self) -> None:
        while not self._over.wait(0.05):
            with self._lock:
                ended = [worker for worker in self.workers if worker.poll() is not None]
                self.workers = [worker for worker in self.workers if worker.poll() is None]
            for worker in ended:
                if worker.returncode >= 0 and worker.pid not in self._told_to_end:
                    self.given_up = True
                elif worker.pid not in self._told_to_end:
                    self.start_worker()


def is_healthy(url: str) -> bool:
    """Whether the API answers, and says so."""
    with contextlib.suppress(requests.RequestException):
        return requests.get(f"{url}/api/health", timeout=2).ok
    return False


@contextlib.contextmanager
def running(workers: int = 2, huey: str = SCRIPTED, **settings: str) -> Iterator[Service]:
    """A running service in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="cw-faults-") as folder,
        Service(Path(folder), huey, settings).serve(workers) as service,
    ):
        yield service
