"""A copy of a running Redis, made as docs/operations.md and deploy/backup say, holds every job of before it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import machine
from store import Store
from tests.store_cases import SUCCESS, next_job, request

STEPS = (Path(__file__).parent.parent / "deploy" / "backup").read_text()
SIZE = "auto-aof-rewrite-percentage"


@contextlib.contextmanager
def server(folder: Path) -> Iterator[Store]:
    """A store on a Redis whose files are in `folder`; the first use of an existing folder is a restore."""
    with tempfile.TemporaryDirectory(prefix="cw-redis-") as short:
        url = f"unix://{short}/redis.sock"
        options = ["--port", "0", "--unixsocket", f"{short}/redis.sock"]
        with machine.own_redis(machine.redis_binary(), folder, options, url), contextlib.closing(Store(url)) as store:
            yield store


@contextlib.contextmanager
def writing(store: Store, added: list[str]) -> Iterator[None]:
    """Jobs come in without a pause meanwhile."""
    over = threading.Event()

    def add() -> None:
        while not over.is_set():
            added.append(store.add(request(chat_id=f"chat-{len(added)}")).id)

    writer = threading.Thread(target=add)
    writer.start()
    try:
        yield
    finally:
        over.set()
        writer.join()


@pytest.mark.parametrize("command", ["CONFIG SET " + SIZE, "INFO persistence", "aof_rewrite_"])
def test_the_script_takes_these_steps(command: str) -> None:
    """What is tried here is what deploy/backup does."""
    assert command in STEPS


def test_copied_while_it_is_written(tmp_path: Path) -> None:
    """With rewrites held, the files of the append-only file are copied under load; another server goes on from them."""
    added: list[str] = []
    (tmp_path / "live").mkdir()
    with server(tmp_path / "live") as store:
        done = store.add(request(chat_id="done"))
        store.finish(done.id, next_job(store).fence, SUCCESS)
        running = store.add(request(chat_id="running"))
        next_job(store)
        store._redis.bgrewriteaof()
        with writing(store, added):
            store._redis.config_set(SIZE, 0)
            while any(
                store._redis.info("persistence")[name] for name in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")
            ):
                pass
            before = list(added)
            shutil.copytree(tmp_path / "live", tmp_path / "copy")
            store._redis.config_set(SIZE, 100)

    assert len(added) > len(before) > 0
    with server(tmp_path / "copy") as restored:
        restored.check_suitable()
        jobs = restored.get_many([*before, done.id, running.id], frozenset())
        assert all(jobs)
        assert [str(job.status) for job in jobs[-2:] if job] == ["completed", "active"]
        assert restored.claim("w").job
        kept = restored.stats()["builds"]
        assert len(before) <= kept["waiting"] + kept["active"] - 1 <= len(added)
