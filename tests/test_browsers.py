"""Browsers: which names the service answers to, and which web pages may use it."""

from __future__ import annotations

from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest

import config
from app import create_app
from artifacts import Shelf
from errors import SetupError
from store import Store
from tests.api_cases import UNKNOWN, Client

PAGE = "https://app.example.com"


def service(store: Store, folder: Path, **settings: str) -> Client:
    return Client(create_app(config.load(settings), store, Shelf(folder), store.submit))


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Client:
    return service(store, tmp_path, PUBLIC_URL="https://jobs.example.com:8443", CORS_ORIGINS=PAGE)


OURS = ["localhost", "localhost:3001", "127.0.0.1:3001", "[::1]:3001", "192.0.2.1", "api", "worker.local", "localhost.",
        "jobs.example.com", "JOBS.example.com:8443", "jobs.example.com."]  # fmt: skip


@pytest.mark.parametrize("host", OURS)
def test_own_names(api: Client, host: str) -> None:
    """Addresses, names without public DNS, and the name of PUBLIC_URL are answered to."""
    assert api.get("/", headers={"Host": host}).status_code == 200


STRANGE = ["evil.example.com", "127.0.0.1.evil.example.com", "localhost.evil.com", "evil.com:3001", "a b", "", "x/y",
           "localhost@evil.com", "localhost, evil.com", "[::1", "jobs.example.com.evil.com", "<script>"]  # fmt: skip


@pytest.mark.parametrize("host", STRANGE)
@pytest.mark.parametrize("path", ["/", "/api/health", "/nowhere"])
def test_rebound_names(api: Client, host: str, path: str) -> None:
    """A name that somebody else's DNS leads here is 421 everywhere: no page can read what it gets through one."""
    answer = api.get(path, headers={"Host": host}, status=421)

    assert answer.json["code"] == "host_refused"
    assert host not in answer.text or len(host) < 4


def test_missing_host(api: Client) -> None:
    """HTTP/1.1 needs a Host; older clients have none."""
    seen: list[str] = []
    for protocol in ("HTTP/1.1", "HTTP/1.0"):
        environ: dict[str, object] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_PROTOCOL": protocol}
        setup_testing_defaults(environ)
        del environ["HTTP_HOST"]
        list(api.app(environ, lambda status, headers, exc_info=None: seen.append(status)))

    assert [status[:3] for status in seen] == ["400", "200"]


def test_allowed_hosts(store: Store, tmp_path: Path) -> None:
    """ALLOWED_HOSTS names further ones, or lets any through."""
    named = service(store, tmp_path, ALLOWED_HOSTS="a.example.com, b.example.com")
    anything = service(store, tmp_path, ALLOWED_HOSTS="*")

    assert named.get("/", headers={"Host": "b.example.com"}).status_code == 200
    assert named.get("/", headers={"Host": "c.example.com"}, status=421)
    assert anything.get("/", headers={"Host": "c.example.com"}).status_code == 200


STATE_CHANGES = [
    ("POST", "/api/jobs"), ("POST", "/api/queues/all/pause"), ("POST", f"/api/jobs/{UNKNOWN}/cancel"),
    ("DELETE", f"/api/jobs/{UNKNOWN}"), ("POST", "/api/webhooks/test"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), STATE_CHANGES)
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:81", "https://app.example.com.evil.com"]
)
def test_strange_pages_change_nothing(api: Client, store: Store, method: str, path: str, origin: str) -> None:
    """What a page of another origin sends is refused before anything is done, whatever type its body has."""
    for body_type in ("application/json", "text/plain", ""):
        headers = {"Origin": origin, "Content-Type": body_type}
        answer = api.request(path, method=method, headers=headers, expect_errors=True)
        assert (answer.status_code, answer.json["code"]) == (403, "origin_refused")
        assert "Access-Control-Allow-Origin" not in answer.headers

    assert store.closures().paused == {}


def test_own_pages(api: Client) -> None:
    """A page that the service itself served may use it."""
    assert api.post_json("/api/queues/all/resume", {}, headers={"Origin": "http://localhost:80"}).status_code == 200


def test_no_cors_by_default(store: Store, tmp_path: Path) -> None:
    """Without the setting, no answer lets a page of another origin read it, and a preflight is refused."""
    api = service(store, tmp_path)
    preflight = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    answers = [
        api.get("/api/stats", headers={"Origin": PAGE}),
        api.options("/api/jobs", headers=preflight, expect_errors=True),
    ]

    assert answers[1].status_code == 405
    assert not [name for answer in answers for name in answer.headers if name.startswith("Access-Control")]


def test_allowed_pages(api: Client) -> None:
    """A page of an allowed origin asks first, sends, and reads the answer, its headers, and errors too."""
    preflight = api.options("/api/jobs", headers={"Origin": PAGE, "Access-Control-Request-Method": "POST"})
    sent = api.post_json("/api/jobs", {}, headers={"Origin": PAGE}, status=400)

    assert preflight.status_code == 204
    assert preflight.headers["Access-Control-Allow-Origin"] == sent.headers["Access-Control-Allow-Origin"] == PAGE
    assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in preflight.headers
    assert "X-Request-Id" in sent.headers["Access-Control-Expose-Headers"]
    assert sent.headers["Vary"] == api.get("/").headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("variable", "value"),
    [("CORS_ORIGINS", "*"), ("CORS_ORIGINS", "app.example.com"), ("CORS_ORIGINS", "https://a.com/"),
     ("ALLOWED_HOSTS", "https://a.com"), ("ALLOWED_HOSTS", "a.com:80"), ("TRUSTED_PROXIES", "10.0.0.0/99"),
     ("TRUSTED_PROXIES", "proxy"), ("RATE_LIMIT_KEY", "-1"), ("QUOTA_BYTES", "much")],
)  # fmt: skip
def test_wrong_settings(variable: str, value: str) -> None:
    """A setting that cannot be meant is refused by its name at the start."""
    with pytest.raises(SetupError, match=variable):
        config.load({variable: value})
