"""What tests on a real Docker Engine share: a watch that remembers, and a bench that runs jobs."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import docker

from executor import Executor
from executor.spec import LABEL
from jobs import Artifact, Job, JobType, Limits, OutputChunk, Phase, Request, Result, Status, new_id

ENGINE_URL = os.environ.get("DOCKER_HOST")  # noqa: TID251  (tests may ask)
#: Other services may share the engine; theirs must not sweep our jobs.
SERVICE = f"test-{secrets.token_hex(4)}"
LIMITS = Limits(
    memory_bytes=512 << 20, cpus=1.0, pids=128, total_s=50.0, install_s=45.0, command_s=30.0, collect_s=10.0
)


#: What is removed beside the jobs is gone by then.
CALM_S = 5.0


@dataclass
class Recorder:
    """A watch that remembers what it was told; `stop_when` decides when the run is told to stop."""

    stop_when: Callable[[Recorder], bool] = lambda recorder: False
    chunks: list[OutputChunk] = field(default_factory=list)
    steps: list[tuple[int, Phase]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def output(self, chunk: OutputChunk) -> None:
        self.chunks.append(chunk)

    def progress(self, percent: int, phase: Phase) -> None:
        self.steps.append((percent, phase))

    def stopped(self) -> bool:
        return self.stop_when(self)

    def keep(self, path: str, blocks: Iterable[bytes]) -> Artifact:
        content = self.files[path] = b"".join(blocks)
        return Artifact(path, len(content), hashlib.sha256(content).hexdigest())

    def text(self, stream: str = "") -> str:
        return "".join(chunk.text for chunk in self.chunks if stream in {"", chunk.stream})


@dataclass
class Bench:
    """Runs jobs, and knows which it ran."""

    executor: Executor
    client: docker.DockerClient
    ran: list[str] = field(default_factory=list)

    def run(
        self,
        files: dict[str, str],
        *,
        watch: Recorder | None = None,
        job: Job | None = None,
        limits: dict[str, float] | None = None,
        kind: JobType = JobType.BUILD,
        tree: Sequence[bytes] = (),
        **request: object,
    ) -> Result:
        job = job or self.job()
        wanted = Request(type=kind, files=files, **request)  # type: ignore[arg-type]
        bounds = replace(LIMITS, **limits) if limits else LIMITS  # type: ignore[arg-type]
        return self.executor.run(job, wanted, bounds, 7, watch or Recorder(), tree)

    def script(self, source: str, **options: object) -> Result:
        """Run a build whose only command is this JavaScript."""
        files = {"package.json": '{"type":"module","scripts":{"build":"node build.mjs"}}', "build.mjs": source}
        return self.run(files, **options)  # type: ignore[arg-type]

    def job(self, fence: int = 1) -> Job:
        self.ran.append(new_id())
        return Job(self.ran[-1], JobType.BUILD, Status.ACTIVE, priority=5, created_ms=0, fence=fence)

    def objects(self) -> list[str]:
        """Names of the containers and workspaces of the service that are there now."""
        filters = {"label": [f"{LABEL}=1", f"{LABEL}.service={self.executor._service}"]}
        containers = self.client.api.containers(all=True, filters=filters)
        volumes = self.client.api.volumes(filters=filters)["Volumes"] or []
        return [found["Names"][0].lstrip("/") for found in containers] + [found["Name"] for found in volumes]

    def left_over(self, of: str = "") -> list[str]:
        """The same, of those with this in their names, once none are left or it has taken too long."""
        deadline = time.monotonic() + CALM_S
        while (found := [name for name in self.objects() if of in name]) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found
