"""Packages that installs share: loaded once for a tenant, of use whatever else changes, out of reach of all jobs."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from executor import Executor, Larder, Wish, cellar
from executor.images import NODE, PYTHON, Images
from executor.parcels import Parcel
from jobs import Conclusion, Result
from tests.engine_cases import ENGINE_URL, Bench, Recorder

pytestmark = pytest.mark.engine

EXAMPLE = Path(__file__).parents[2] / "examples" / "react-app"
SAY = "import ms from 'ms'; console.log('ms', ms('2 days'))"


@pytest.fixture
def larder(tmp_path: Path) -> Larder:
    return Larder(tmp_path / "dependencies", 1 << 30, 3_600)


@pytest.fixture
def caching(
    images: Images, client: docker.DockerClient, larder: Larder, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    """Runs jobs that share what they install; afterwards all of it goes. Its parameter: where workspaces are."""
    service, wish = f"test-{secrets.token_hex(4)}", Wish(workspace=getattr(request, "param", "auto"))
    executor = Executor(ENGINE_URL, images, service=service, larder=larder, wish=wish)
    made = Bench(executor, client)
    yield made
    executor.close()
    assert made.left_over() == []
    client.volumes.get(cellar.volume_of(service)).remove(force=True)


def run(bench: Bench, files: dict[str, str], tenant: str = "", **options: Any) -> tuple[Result, Recorder]:
    """A job that must succeed, and what was heard of it, once its packages are kept."""
    watch = Recorder()
    result = bench.run(files, watch=watch, job=replace(bench.job(), tenant=tenant), **options)
    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert bench.left_over() == []
    return result, watch


def project(build: str = SAY, **versions: str) -> dict[str, str]:
    """A project with small dependencies, whose build is this script."""
    manifest = {"type": "module", "scripts": {"build": "node build.mjs"}, "dependencies": versions or {"ms": "2.1.3"}}
    return {"package.json": json.dumps(manifest), "build.mjs": build}


def listed(larder: Larder) -> list[Parcel]:
    return [Parcel.read(json.loads(file.read_text())) for file in sorted(larder.folder.rglob("*.parcel"))]


def received(result: Result) -> int:
    size: int = result.detail["usage"]["networkReceivedBytes"]
    return size


def locked(bench: Bench, images: Images) -> dict[str, str]:
    """The example with a lockfile that has addresses, as npm writes it for others."""
    image, environment = images.ensure(bench.client, NODE), {"HOME": "/tmp", **images.registry_environment}
    said: bytes = bench.client.containers.run(image, "npm config get registry", environment=environment, remove=True)
    files = {name: (EXAMPLE / name).read_text() for name in ("package.json", "package-lock.json")}
    lockfile = json.loads(files["package-lock.json"])
    for path, entry in lockfile["packages"].items():
        if path:
            name = path.rpartition("node_modules/")[2]
            file = f"{name.rpartition('/')[2]}-{entry['version']}.tgz"
            entry["resolved"] = f"{said.decode().strip().rstrip('/')}/{name}/-/{file}"
    return {**files, "package-lock.json": json.dumps(lockfile)}


def test_one_changed_dependency(caching: Bench, images: Images) -> None:
    """An install of the same but for one package loads that one alone, and the build sees all of them."""
    files = locked(caching, images)
    first, _ = run(caching, files, command="node -e 0")
    manifest = json.loads(files["package.json"])
    manifest["dependencies"]["ms"] = "2.1.3"
    changed = {**files, "package.json": json.dumps(manifest)}
    look = "console.log(['react', 'vite', 'ms'].map((name) => require(name + '/package.json').name).join())"
    second, watch = run(caching, changed, command=f'node -e "{look}"')
    fresh, _ = run(caching, changed, command="node -e 0", use_cache=False)

    assert second.detail["cache"]["dependencies"] == "miss"
    assert second.detail["cache"]["offeredPackages"] >= 20
    assert "react,vite,ms" in watch.text("stdout")
    assert received(first) > 10 << 20
    assert received(second) < received(fresh) / 20
    assert caching.executor._tally.taken()["cache_hits|packages"] == second.detail["cache"]["offeredPackages"]


@pytest.mark.parametrize("caching", ["memory", "disk"], indirect=True)
def test_without_a_lockfile(caching: Bench, larder: Larder) -> None:
    """Then the registry says which packages are wanted, and those that are there are not loaded; nor kept twice."""
    run(caching, project(ms="2.1.3", picocolors="1.1.1"))
    result, watch = run(caching, project(ms="2.1.3"))
    count = caching.executor._tally.taken()

    assert result.detail["cache"]["offeredPackages"] == 2
    assert count["cache_hits|packages"] == 1
    assert "ms 172800000" in watch.text("stdout")
    assert [len(parcel.tarballs) for parcel in listed(larder)] == [2]


def test_tenants_have_their_own(caching: Bench, larder: Larder) -> None:
    """No tenant finds what another's jobs loaded, and each has a folder of its own."""
    mine, _ = run(caching, project(), tenant="a")
    theirs, _ = run(caching, project(ms="2.1.3", picocolors="1.1.1"), tenant="b")
    again, _ = run(caching, project(ms="2.1.3", picocolors="1.1.0"), tenant="a")

    assert "offeredPackages" not in mine.detail["cache"]
    assert "offeredPackages" not in theirs.detail["cache"]
    assert again.detail["cache"]["offeredPackages"] == 1
    assert sorted(len(parcel.tarballs) for parcel in listed(larder)) == [1, 1, 2]


ATTACK = """
import fs from 'fs'; import path from 'path';
const cache = process.env.HOME + '/.npm/_cacache/content-v2/sha512';
const links = fs.readdirSync(cache, { recursive: true }).map((name) => path.join(cache, name))
  .filter((name) => fs.lstatSync(name).isSymbolicLink());
console.log('links', links.length);
const real = fs.realpathSync(links[0]);
const tries = {
  write: () => fs.writeFileSync(links[0], 'evil'),
  append: () => fs.appendFileSync(real, 'evil'),
  remove: () => fs.rmSync(real),
  rename: () => fs.renameSync(real, real + '2'),
  chmod: () => fs.chmodSync(real, 0o777),
  add: () => fs.writeFileSync(path.dirname(real) + '/evil', ''),
  list: () => fs.readdirSync('/deps'),
};
for (const [name, go] of Object.entries(tries)) {
  try { go(); console.log('DONE', name); } catch (error) { console.log('refused', name, error.code); }
}
fs.rmSync(links[0]); fs.writeFileSync(links[0], 'mine');
console.log('mine', fs.readFileSync(links[0], 'utf8'));
"""


def contents(bench: Bench, images: Images, larder: Larder) -> dict[str, str]:
    """Digest by name of all that is kept of packages."""
    image = images.ensure(bench.client, PYTHON)
    mounts = {cellar.volume_of(bench.executor._service): {"bind": "/deps", "mode": "ro"}}
    found: dict[str, str] = {}
    for parcel in listed(larder):
        command = ["sh", "-c", f"cd /deps/{parcel.folder} && sha512sum *"]
        said: bytes = bench.client.containers.run(image, command, user="0:0", volumes=mounts, remove=True)
        found |= {line.split()[1]: line.split()[0] for line in said.decode().splitlines()}
    return found


def test_no_job_alters_what_another_gets(caching: Bench, images: Images, larder: Larder) -> None:
    """A job can replace a link of its own, and nothing of what the next job finds behind its."""
    run(caching, project())
    _, watch = run(caching, project(ATTACK, ms="^2.1.3"))
    kept = contents(caching, images, larder)

    assert "links 1" in watch.text("stdout")
    assert "DONE" not in watch.text("stdout")
    assert watch.text("stdout").count("refused") == 7
    assert "mine mine" in watch.text("stdout")
    assert kept
    assert kept == {name: name for name in kept}


FORGE = """
import fs from 'fs'; import path from 'path'; import crypto from 'crypto';
const cache = process.env.HOME + '/.npm/_cacache/content-v2/sha512';
const list = 'node_modules/.package-lock.json';
const made = JSON.parse(fs.readFileSync(list, 'utf8'));
const put = (content, digest) => {
  const hex = digest.toString('hex'), place = path.join(cache, hex.slice(0, 2), hex.slice(2, 4), hex.slice(4));
  fs.mkdirSync(path.dirname(place), { recursive: true });
  fs.writeFileSync(place, content);
  made.packages['node_modules/' + hex] = { integrity: 'sha512-' + digest.toString('base64') };
};
put('evil', Buffer.from('WANTED', 'hex'));
for (let at = 0; at < 100; at++) {
  const junk = Buffer.alloc(1 << 20, String(at));
  put(junk, crypto.createHash('sha512').update(junk).digest());
}
fs.writeFileSync(list, JSON.stringify(made));
"""


def test_a_job_cannot_forge(caching: Bench, images: Images, larder: Larder) -> None:
    """A job's packages are copied after its code had them: what that makes up has no place but under its own digest,
    and no more of it is kept than the install received.
    """
    wanted = hashlib.sha512(b"what another job will want").hexdigest()
    result, _ = run(caching, project(FORGE.replace("WANTED", wanted)))
    kept = contents(caching, images, larder)

    assert wanted not in kept
    assert kept == {name: name for name in kept}
    assert sum(parcel.size for parcel in listed(larder)) <= received(result)


def test_a_parcel_that_is_gone_costs_a_download(caching: Bench, images: Images, larder: Larder) -> None:
    """What was removed while it was still listed is loaded again, and replaces the link."""
    run(caching, project())
    (parcel,) = listed(larder)
    mounts = {cellar.volume_of(caching.executor._service): {"bind": "/deps", "mode": "rw"}}
    image = images.ensure(caching.client, PYTHON)
    caching.client.containers.run(
        image, ["rm", "-r", f"/deps/{parcel.folder}"], user="0:0", volumes=mounts, remove=True
    )
    result, watch = run(caching, project(ms="^2.1.3"))

    assert result.detail["cache"]["offeredPackages"] == 1
    assert "ms 172800000" in watch.text("stdout")
    assert len(listed(larder)) == 2


def test_with_scripts_nothing_is_kept(caching: Bench, larder: Larder) -> None:
    """An install that runs the packages' scripts finds what others loaded, and leaves nothing; no cache, neither."""
    run(caching, project(ms="2.1.2"), install_scripts=True)
    assert listed(larder) == []
    run(caching, project())
    scripts, _ = run(caching, project(), install_scripts=True)
    off, _ = run(caching, project(), use_cache=False)

    assert scripts.detail["cache"] == {"offeredPackages": 1, "offeredBytes": listed(larder)[0].size}
    assert "cache" not in off.detail
    assert len(listed(larder)) == 1


def test_what_is_old_goes(caching: Bench, larder: Larder, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an install used stays, what none used for long is given up, and removed."""
    run(caching, project())
    run(caching, project(ms="2.1.2"))
    for file in larder.folder.rglob("*.parcel"):
        os.utime(file, (0, 0))
    run(caching, project(ms="^2.1.3"))
    caching.executor.sweep(lambda job, fence: True)
    assert [len(parcel.tarballs) for parcel in listed(larder)] == [1]

    monkeypatch.setattr(cellar, "GRACE_S", 0)
    caching.executor.sweep(lambda job, fence: True)
    again, _ = run(caching, project(ms="~2.1.2"))
    assert again.detail["cache"]["offeredPackages"] == 1


def test_room_is_for_both(caching: Bench, larder: Larder) -> None:
    """Trees and parcels share their room; the longest unused go first."""
    run(caching, project())
    run(caching, project(ms="2.1.2"))
    files = [*larder.folder.rglob("*.parcel"), *larder.folder.rglob("*.json")]
    for at, file in enumerate(files):
        os.utime(file, (1e9 + at, 1e9 + at))
    newest = json.loads(files[-1].read_text())
    ground = caching.executor._ground
    assert ground
    ground.cellar._max_bytes, ground.cellar._max_age_s = newest["size"], 1e10
    caching.executor.sweep(lambda job, fence: True)

    assert [file for file in files if file.exists()] == [files[-1]]


def test_a_volume_that_was_removed(caching: Bench, larder: Larder) -> None:
    """Parcels in a volume that somebody removed are offered to nobody."""
    run(caching, project())
    caching.client.volumes.get(cellar.volume_of(caching.executor._service)).remove(force=True)
    again, _ = run(caching, project(ms="^2.1.3"))

    assert again.detail["cache"] == {"dependencies": "miss"}
    assert listed(larder) == []
