"""Installed dependencies that jobs share: there at once for the next job, and out of reach of all of them."""

from __future__ import annotations

import io
import json
import os
import secrets
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.volumes import Volume

from calls import Call
from executor import Executor, Larder, cellar, dependencies
from executor.images import PYTHON, Images
from executor.packing import NAME
from jobs import Conclusion, Job, JobType, Phase, Request, Result
from tests.engine_cases import ENGINE_URL, LIMITS, Bench, Recorder

pytestmark = pytest.mark.engine


def project(build: str, version: str = "2.1.3", **more: Any) -> dict[str, str]:
    """A project with one small dependency, whose build is this script."""
    manifest = {"type": "module", "scripts": {"build": "node build.mjs"}, "dependencies": {"ms": version}, **more}
    return {"package.json": json.dumps(manifest), "build.mjs": build}


SAY = "import ms from 'ms'; console.log('ms', ms('2 days'))"


@pytest.fixture
def larder(tmp_path: Path) -> Larder:
    return Larder(tmp_path / "dependencies", 1 << 30, 3_600)


@pytest.fixture
def caching(images: Images, client: docker.DockerClient, larder: Larder) -> Iterator[Bench]:
    """Runs jobs that share what they install; afterwards all of it goes."""
    service = f"test-{secrets.token_hex(4)}"
    executor = Executor(ENGINE_URL, images, service=service, larder=larder)
    made = Bench(executor, client)
    yield made
    executor.close()
    assert made.left_over() == []
    for found in client.volumes.list(filters={"label": f"{cellar.LABEL}.service={service}"}):
        found.remove(force=True)


def trees(larder: Larder) -> list[Path]:
    """The list of what is shared."""
    return sorted(larder.folder.rglob("*.json"))


def kept(larder: Larder, *endings: str) -> set[str]:
    """The folders that are listed: of trees, of packages, or given up."""
    files = [file for ending in endings for file in larder.folder.rglob(f"*.{ending}")]
    return {json.loads(file.read_text())["folder"] for file in files}


def run(bench: Bench, files: dict[str, str], **options: Any) -> tuple[Result, Recorder]:
    """A build that must succeed, and what was heard of it."""
    watch = Recorder()
    result = bench.run(files, watch=watch, **options)
    assert result.conclusion is Conclusion.SUCCESS, result.message
    return result, watch


def test_the_second_job_installs_nothing(caching: Bench, larder: Larder) -> None:
    """The first job fills, the second finds: no install, the same packages, and the record says what was saved."""
    first, _ = run(caching, project(SAY))
    second, watch = run(caching, project(SAY + "; console.log('other code')"))

    assert first.detail["cache"] == {"dependencies": "miss"}
    assert second.detail["cache"]["dependencies"] == "hit"
    assert second.detail["cache"]["savedMs"] > 0
    assert Phase.INSTALLING not in [phase for _, phase in watch.steps]
    assert "ms 172800000" in watch.text("stdout")
    assert "which saves" in watch.text("system")
    assert len(trees(larder)) == 1


def test_other_inputs_are_another_tree(caching: Bench, larder: Larder) -> None:
    """Another version is installed anew; another script or name of the project is not."""
    run(caching, project(SAY))
    other, watch = run(caching, project(SAY, version="2.1.2"))
    same, _ = run(caching, project(SAY, name="renamed"))

    assert other.detail["cache"]["dependencies"] == "miss"
    assert "ms 172800000" in watch.text("stdout")
    assert same.detail["cache"]["dependencies"] == "hit"
    assert len(trees(larder)) == 2


ATTACK = """
import fs from 'fs'; import path from 'path';
const real = fs.realpathSync('node_modules/ms/index.js');
const tries = {
  write: () => fs.writeFileSync(real, 'module.exports = () => 666'),
  append: () => fs.appendFileSync(real, '//'),
  remove: () => fs.rmSync(path.dirname(real), { recursive: true }),
  rename: () => fs.renameSync(path.dirname(real), path.dirname(real) + '2'),
  chmod: () => fs.chmodSync(real, 0o777),
  add: () => fs.writeFileSync(real.split('/node_modules')[0] + '/node_modules/evil.js', ''),
  list: () => fs.readdirSync('/deps'),
};
for (const [name, go] of Object.entries(tries)) {
  try { go(); console.log('DONE', name); } catch (error) { console.log('refused', name, error.code); }
}
fs.rmSync('node_modules/ms'); fs.mkdirSync('node_modules/ms');
fs.writeFileSync('node_modules/ms/package.json', '{"type":"module","main":"index.js"}');
fs.writeFileSync('node_modules/ms/index.js', 'export default () => 666');
console.log('mine', (await import('ms')).default());
"""


def test_no_job_alters_what_another_gets(caching: Bench) -> None:
    """A job can change its own node_modules, and nothing of what the next job finds there."""
    run(caching, project(SAY))
    attack, watch = run(caching, project(ATTACK))
    after, seen = run(caching, project(SAY))

    assert attack.detail["cache"]["dependencies"] == after.detail["cache"]["dependencies"] == "hit"
    assert "DONE" not in watch.text("stdout")
    assert watch.text("stdout").count("refused") == 7
    assert "mine 666" in watch.text("stdout")
    assert "ms 172800000" in seen.text("stdout")


def test_a_job_that_fills_cannot_poison(caching: Bench) -> None:
    """What a job does to its own dependencies after the install does not get into the tree that it filled."""
    change = "import fs from 'fs'; fs.writeFileSync('node_modules/ms/index.js', 'module.exports = () => 666')"
    run(caching, project(change))
    after, seen = run(caching, project(SAY))

    assert after.detail["cache"]["dependencies"] == "hit"
    assert "ms 172800000" in seen.text("stdout")


def test_at_the_same_time(caching: Bench, larder: Larder) -> None:
    """Two jobs that install the same at once both succeed, and one tree is kept."""
    with ThreadPoolExecutor(2) as pool:
        jobs = [caching.job(), caching.job()]
        slots = iter((7, 8))

        def one(job: Job) -> Result:
            request = Request(JobType.BUILD, files=project(SAY))
            return caching.executor.run(job, request, LIMITS, next(slots), Recorder())

        ended = list(pool.map(one, jobs))

    assert [result.conclusion for result in ended] == [Conclusion.SUCCESS] * 2
    assert len(trees(larder)) == 1


def test_refused_for_one_job(caching: Bench, larder: Larder) -> None:
    """A job that wants no cache neither finds nor fills."""
    off, _ = run(caching, project(SAY), use_cache=False)

    assert "cache" not in off.detail
    assert trees(larder) == []


def test_a_tree_whose_volume_is_gone(caching: Bench, client: docker.DockerClient) -> None:
    """A volume that somebody removed is no hit, and is made anew."""
    run(caching, project(SAY))
    caching.left_over()
    volume(caching).remove(force=True)
    again, _ = run(caching, project(SAY))

    assert again.detail["cache"] == {"dependencies": "miss"}


def volume(bench: Bench) -> Volume:
    """Where the trees of the bench's executor are."""
    return bench.client.volumes.get(cellar.volume_of(bench.executor._service))


def folders(bench: Bench, images: Images) -> list[str]:
    """What is in it, which root may ask."""
    image = images.ensure(bench.client, PYTHON)
    mounts = {volume(bench).name: {"bind": "/deps", "mode": "ro"}}
    said: bytes = bench.client.containers.run(image, "ls /deps", user="0:0", volumes=mounts, remove=True)
    return said.decode().split()


def test_what_is_old_goes(caching: Bench, larder: Larder, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep gives up what nobody used for long, removes it once no job can be about to use it, and keeps the rest."""
    run(caching, project(SAY))
    run(caching, project(SAY, version="2.1.2"))
    caching.left_over()
    old, new = trees(larder)
    os.utime(old, (0, 0))
    packages = kept(larder, "parcel")

    caching.executor.sweep(lambda job, fence: True)
    assert trees(larder) == [new]
    assert set(folders(caching, images)) == kept(larder, "json", "going") | packages
    assert len(folders(caching, images)) == 4
    monkeypatch.setattr(cellar, "GRACE_S", 0)
    caching.executor.sweep(lambda job, fence: True)
    assert set(folders(caching, images)) == kept(larder, "json") | packages
    assert sorted(larder.folder.rglob("*.going")) == []


def test_a_tree_that_was_not_finished_goes(
    caching: Bench, larder: Larder, images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an install left in the volume that could not be shared is removed, too."""
    monkeypatch.setattr(dependencies, "FILLER", dependencies.FILLER + "sys.exit('no room')")
    run(caching, project(SAY))
    caching.left_over()
    assert trees(larder) == []
    assert set(folders(caching, images)) == kept(larder, "going", "parcel")
    assert len(kept(larder, "going")) == 1

    monkeypatch.setattr(cellar, "GRACE_S", 0)
    caching.executor.sweep(lambda job, fence: True)
    assert set(folders(caching, images)) == kept(larder, "parcel")


def test_a_version_of_a_function_has_its_own(caching: Bench) -> None:
    """What is packed for later calls holds its dependencies themselves, also when others share them."""
    call = Call("node", "index.mjs", "handler", name="durations", version=1)
    files = {"index.mjs": "import ms from 'ms'\nexport const handler = (event) => ms(event)"}
    wanted = {"dependencies": {"ms": "2.1.3"}}
    packed = []
    for _ in range(2):
        watch = Recorder()
        caching.run(files, watch=watch, kind=JobType.FUNCTION, call=call, dependencies=wanted)
        with tarfile.open(fileobj=io.BytesIO(watch.files[NAME])) as tar:
            packed.append("project/node_modules/ms/index.js" in tar.getnames())

    assert packed == [True, True]


def test_an_analysis_asks_the_registry_itself(caching: Bench, larder: Larder) -> None:
    """An analysis is told which packages are outdated by its own install, also when others share theirs."""
    run(caching, project(SAY))
    result = caching.run(project(SAY), kind=JobType.ANALYZE)

    assert "cache" not in result.detail
    assert "outdated" in result.detail["analysis"]["dependencies"]
    assert len(trees(larder)) == 1
