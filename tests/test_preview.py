"""Links to what was built: who can make them, what they lead to, and what a page may do there."""

from __future__ import annotations

import stat
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import config
import tickets
from app import create_app
from artifacts import Shelf
from jobs import Job, JobType, Request, new_id
from pages import NoPage, Site
from store import Store
from tests.api_cases import UNKNOWN, Client, client, finish
from tests.store_cases import claimed
from tickets import TicketInvalid, Tickets

PAGE = b'<script type="module" crossorigin src="/assets/a.js"></script><a href="/about">x</a><img src="//cdn/x.png">'
FILES = {
    "index.html": PAGE,
    "assets/a.js": b"import('./b.js'); const l = `/assets/logo.png`, other = '/assets/none.png'",
    "assets/logo.png": b"\x89PNG\xff",
    "assets/s.css": b"p { background: url(/assets/logo.png) }",
    "docs/index.html": b"docs",
    "data.bin": bytes(1000),
}


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    return client(store, shelf)


@pytest.fixture
def built(store: Store, shelf: Shelf) -> Job:
    store.add(Request(JobType.BUILD, {"a": ""}))
    return finish(store, shelf, claimed(store), FILES)


def link(api: Client, job: Job) -> str:
    answer = api.post(f"/api/jobs/{job.id}/preview", status=201)
    return str(answer.json["url"]).removeprefix("http://localhost:80")


# --- tickets ----------------------------------------------------------------------------------------------------------


def test_ticket(tmp_path: Path) -> None:
    """A ticket stands for its job until its moment, in every process that has the key; it can be a host's name."""
    job_id, key = new_id(), tmp_path / "data" / "key"
    ticket = Tickets(key).make(job_id, 1_000)

    assert Tickets(key).job_id(ticket, 999.9) == job_id
    with pytest.raises(TicketInvalid, match="time of this preview is over"):
        Tickets(key).job_id(ticket, 1_000)
    with pytest.raises(TicketInvalid, match="no such preview"):
        Tickets(tmp_path / "other").job_id(ticket, 0)
    assert len(ticket) == tickets.LENGTH <= 63
    assert ticket.isalnum()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


@given(st.data())
def test_forged_tickets(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """No change of a ticket makes another one, and no text makes the reader fail in another way."""
    key = tmp_path_factory.mktemp("t") / "key"
    key.write_bytes(bytes(32))
    made = Tickets(key)
    ticket = made.make(UNKNOWN, 2_000_000_000)
    at = data.draw(st.integers(0, len(ticket) - 2))
    other = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz234567").filter(lambda each: each != ticket[at]))

    for forged in (ticket[:at] + other + ticket[at + 1 :], data.draw(st.text(max_size=60)), ticket[1:], ticket + "a"):
        with pytest.raises(TicketInvalid):
            made.job_id(forged, 0)


def test_one_key(tmp_path: Path) -> None:
    """Processes that begin at the same time end up with one key."""
    made = [Tickets(tmp_path / "key") for _ in range(8)]
    job_id, found = new_id(), []
    threads = [threading.Thread(target=lambda each=each: found.append(each.make(job_id, 9))) for each in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


# --- pages ------------------------------------------------------------------------------------------------------------


def test_addresses() -> None:
    """Files, folders and names without .html are found; other pages belong to the router, other files to none."""
    site = Site(["dist/index.html", "dist/a.js", "dist/docs/index.html", "dist/about.html", "other.txt"])
    expected = {
        "": "index.html", "a.js": "a.js", "docs/": "docs/index.html", "docs": "docs/index.html", "about": "about.html",
        "index.html": "index.html",
    }  # fmt: skip

    assert {path: site.file(path, navigates=False) for path in expected} == {
        path: f"dist/{name}" for path, name in expected.items()
    }
    assert site.file("users/7", navigates=True) == "dist/index.html"
    assert site.file("users/7", navigates=False) is None
    assert site.file("other.txt", navigates=False) is None


def test_no_page() -> None:
    """Without an index.html there is nothing to see."""
    with pytest.raises(NoPage):
        Site(["a.js", "index.htm"])


@pytest.mark.parametrize(
    ("name", "text", "moved"),
    [
        ("index.html", '<a href="/about">', '<a href="/p/about">'),
        ("index.html", '<a href="//x/y"><a href="about"><a href="https://x/">', None),
        ("index.html", '<meta content="/logo.png">', '<meta content="/p/logo.png">'),
        ("index.html", '<img srcset="/logo.png 1x, /a%20b.png 2x">', '<img srcset="/p/logo.png 1x, /p/a%20b.png 2x">'),
        (
            "x.css",
            "url(/logo.png) url('/logo.png') url(/none.png)",
            "url(/p/logo.png) url('/p/logo.png') url(/none.png)",
        ),
        ("x.js", "`/logo.png`+'/logo.png'+\"/none\"", "`/p/logo.png`+'/p/logo.png'+\"/none\""),
        ("x.js", "a/logo.png/i; '/logo.pngx'; x = '/about'", None),
        ("x.js", "_=`modulepreload`,v=function(e){return`/`+e}", "_=`modulepreload`,v=function(e){return`/p/`+e}"),
        ("x.js", 'a="modulepreload",b=e=>"/"+e;c="/"+e', 'a="modulepreload",b=e=>"/p/"+e;c="/"+e'),
        ("x.js", "", None),
    ],
)
def test_moved(name: str, text: str, moved: str | None) -> None:
    """Absolute addresses of the site's own files follow it; everything else stays as it is."""
    site = Site(["index.html", "logo.png", "a b.png", "x.js", "x.css"])

    assert site.moved(name, text, "/p/") == (text if moved is None else moved)


@given(st.text(max_size=200))
def test_any_text_can_be_moved(text: str) -> None:
    """Moving to where it is changes nothing, and any text can be moved."""
    site = Site(["index.html", "a"])

    assert site.moved("index.html", text, "/") == text
    site.moved("a.js", text, "/p/")


def test_long_texts_are_moved_quickly() -> None:
    """Two megabytes of anything take half a second."""
    site = Site(["index.html"])
    began = time.process_time()
    for text in ("'/a" * 700_000, "modulepreload`,a=function(" * 80_000, " href=" * 350_000, "a" * (2 << 20)):
        site.moved("index.html", text, "/p/")
    assert time.process_time() - began < 20


# --- over HTTP --------------------------------------------------------------------------------------------------------


def test_preview(api: Client, built: Job) -> None:
    """A link leads to the site, in a sandbox that lets scripts run and has no origin."""
    answer = api.post(f"/api/jobs/{built.id}/preview", status=201)
    assert answer.json["expiresAt"].endswith("Z")
    path = str(answer.json["url"]).removeprefix("http://localhost:80")

    page = api.get(path)

    assert f'src="{path}assets/a.js"' in page.text
    assert f'href="{path}about"' in page.text
    assert page.content_type == "text/html"
    policy = page.headers["Content-Security-Policy"]
    assert "allow-scripts" in policy
    assert "allow-same-origin" not in policy
    assert "top-navigation" not in policy
    assert page.headers["Access-Control-Allow-Origin"] == "*"
    assert page.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in page.headers
    assert "Content-Disposition" not in page.headers
    script = api.get(f"{path}assets/a.js")
    assert script.content_type == "text/javascript"
    assert script.text == f"import('./b.js'); const l = `{path}assets/logo.png`, other = '/assets/none.png'"
    assert api.get(f"{path}assets/logo.png").body == FILES["assets/logo.png"]
    assert api.get(f"{path}docs/").text == "docs"


def test_addresses_of_the_router(api: Client, built: Job) -> None:
    """A person who goes to a page of the site's router gets the site; a script that asks for nothing gets 404."""
    path = link(api, built)

    assert "assets/a.js" in api.get(f"{path}users/7", headers={"Accept": "text/html,*/*"}).text
    assert api.get(f"{path}assets/none.js", status=404).json["code"] == "artifact_not_found"
    assert api.get(path.rstrip("/"), status=307).headers["Location"].endswith(path)


def test_caches_and_ranges(api: Client, built: Job) -> None:
    """What a browser has is not sent again, and a video can be wound forward."""
    path = link(api, built)

    tag = api.get(path).headers["ETag"]
    api.get(path, headers={"If-None-Match": tag}, status=304)
    part = api.get(f"{path}data.bin", headers={"Range": "bytes=10-19"}, status=206)
    assert part.headers["Content-Range"] == "bytes 10-19/1000"
    assert tag != api.get(f"/api/jobs/{built.id}/artifacts/index.html").headers["ETag"]


def test_strange_links(api: Client, built: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up, late and outlived links lead nowhere, and nothing but GET is there."""
    path = link(api, built)

    assert api.get("/preview/" + "a" * 52 + "/", status=404).json["code"] == "preview_not_found"
    api.post(path, status=405)
    now = time.time()
    monkeypatch.setattr("api.preview.time.time", lambda: now + 3_601)
    assert "over" in api.get(path, status=404).json["detail"]


def test_removed_job(api: Client, built: Job) -> None:
    """A link does not outlive its job."""
    path = link(api, built)
    api.delete(f"/api/jobs/{built.id}", status=204)

    assert api.get(path, status=404).json["code"] == "preview_not_found"


def test_nothing_to_see(api: Client, store: Store, shelf: Shelf) -> None:
    """Unknown jobs, unfinished ones, and those without a page have no preview."""
    waiting = store.add(Request(JobType.BUILD, {"a": ""}))

    assert api.post(f"/api/jobs/{UNKNOWN}/preview", status=404)
    assert api.post("/api/jobs/x/preview", status=404)
    assert api.post(f"/api/jobs/{waiting.id}/preview", status=409).json["code"] == "move_refused"
    done = finish(store, shelf, claimed(store), {"a.js": b""})
    assert "index.html" in api.post(f"/api/jobs/{done.id}/preview", status=404).json["detail"]


def test_the_log_holds_no_link(api: Client, built: Job, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads the service's log cannot open what was previewed."""
    caplog.set_level("INFO")
    path = link(api, built)

    api.get(f"{path}assets/a.js")

    said = [repr(record.__dict__) for record in caplog.records]
    assert not any(path.split("/")[2] in each for each in said)
    assert any("/preview/…/assets/a.js" in each for each in said)


def test_own_hosts(store: Store, shelf: Shelf, built: Job, tmp_path: Path) -> None:
    """With hosts of their own, previews are as they were built, may have storage, and the API is not there."""
    settings = config.load({"DATA_DIR": str(tmp_path), "PREVIEW_URL": "https://*.pre.example:8443"})
    api = Client(create_app(settings, store, shelf, store.submit))

    url = api.post(f"/api/jobs/{built.id}/preview", status=201).json["url"]

    host = url.removeprefix("https://").rstrip("/")
    assert url == f"https://{host}/"
    assert host.endswith(".pre.example:8443")
    page = api.get("/", headers={"Host": host})
    assert page.body == PAGE
    assert "allow-same-origin" in page.headers["Content-Security-Policy"]
    assert api.get("/assets/a.js", headers={"Host": host}).body == FILES["assets/a.js"]
    assert api.get("/api/jobs", headers={"Host": host, "Accept": "text/html"}).body == PAGE
    api.post("/api/jobs", headers={"Host": host}, status=405)
    assert api.get("/", headers={"Host": "x.pre.example:8443"}, status=404).json["code"] == "preview_not_found"
    assert api.get("/", headers={"Host": "pre.example:8443"}, status=421).json["code"] == "host_refused"
