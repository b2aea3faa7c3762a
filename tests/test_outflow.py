"""The bound on answers that take long to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from api import outflow
from api.outflow import Busy, Streams
from artifacts import Shelf
from store import Store
from tests.api_cases import FILES, client, finish
from tests.store_cases import claimed


class Body:
    def __init__(self) -> None:
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return iter((b"a", b"b"))

    def close(self) -> None:
        self.closed += 1


def test_places_come_back() -> None:
    """A body that was sent, closed in the middle, or never begun gives its place back, once."""
    places = Streams(1)
    for use in (list, lambda held: next(iter(held)), lambda held: None):
        body = Body()
        held = places.hold(body)
        with pytest.raises(Busy):
            places.hold(Body())
        use(held)
        held.close()  # type: ignore[attr-defined]
        assert body.closed == 1


def test_refused_body_is_closed() -> None:
    """A body for which there is no place is closed: it may hold a file."""
    body = Body()
    with pytest.raises(Busy):
        Streams(0).hold(body)

    assert body.closed == 1


@pytest.mark.parametrize(
    "rest", ["/logs", "/artifacts/index.html", "/artifacts/empty.txt", "/artifacts.tar.gz", "/artifacts.zip"]
)
def test_downloads_give_their_places_back(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rest: str
) -> None:
    """Logs, files and archives can be had again and again, whole, in part, by HEAD and when they are empty."""
    monkeypatch.setattr(outflow, "downloads", Streams(1))
    shelf = Shelf(tmp_path)
    api = client(store, shelf)
    job = finish(store, shelf, claimed(store), FILES)
    for _ in range(3):
        assert api.get(f"/api/jobs/{job.id}{rest}").status_code == 200
        assert api.head(f"/api/jobs/{job.id}{rest}").status_code == 200
        api.get(f"/api/jobs/{job.id}{rest}", headers={"Range": "bytes=9999999-"}, expect_errors=True)


def test_busy(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With all places taken, a download is 503 with a moment to come back, and everything else goes on."""
    monkeypatch.setattr(outflow, "downloads", Streams(0))
    shelf = Shelf(tmp_path)
    api = client(store, shelf)
    job = finish(store, shelf, claimed(store), FILES)
    answer = api.get(f"/api/jobs/{job.id}/artifacts/index.html", status=503)

    assert (answer.json["code"], answer.headers["Retry-After"]) == ("busy", "5")
    assert api.get(f"/api/jobs/{job.id}").status_code == 200
