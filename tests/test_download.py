"""Files fetched for a job: from named hosts alone, once, under caps."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import download
from download import Downloads, Failed, NotAllowed

CONTENT = bytes(range(256)) * 40


@contextlib.contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server on the loopback that answers every GET so; its host:port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(OSError):
                answer(self)

        def log_message(self, *_: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def send(content: bytes, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content_Length": str(len(content)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def test_whole() -> None:
    """A file of an allowed place comes whole, as it is on the wire."""
    with server(send(CONTENT, Content_Encoding="gzip")) as place:
        assert Downloads({place}).get(f"http://{place}/api/storage/1?x=y", len(CONTENT)) == CONTENT


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (send(b"", 404), "it answers 404"),
        (send(b"", 302, Location="http://127.0.0.1:1/"), "it answers 302"),
        (send(b"", 204), "it answers 204"),
        (send(CONTENT + b"x"), "it sends more than 10,240 bytes"),
        (send(CONTENT, Content_Length="20000"), "it broke off|IncompleteRead"),
    ],
)
def test_anything_but_the_file(answer: Callable[[BaseHTTPRequestHandler], None], why: str) -> None:
    """Redirects, other statuses, too much and too little are told apart in words."""
    with server(answer) as place, pytest.raises(Failed, match=why):
        Downloads({place}).get(f"http://{place}/", len(CONTENT))


def test_slow() -> None:
    """A server that sends a byte now and then holds nobody longer than the deadline."""

    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.1)

    began = time.monotonic()
    with server(drip) as place, pytest.raises(Failed, match=r"nothing whole within 0\.5 s"):
        Downloads({place}, deadline_s=0.5).get(f"http://{place}/", 1000)
    assert time.monotonic() - began < 9


@pytest.mark.parametrize(
    "address",
    [
        "http://other.example/",
        "http://good.example:81/",
        "http://good.example@other.example/",
        "http://good.example\\@other.example/",
        "http://good.example#@other.example/",
        "http://good.example.other.example/",
        "ftp://good.example/",
        "file:///etc/passwd",
        "http://[::1]/",
        "http:///good.example",
        "http://good.example/\r\nHost: x",
        "http://127.0.0.1/",
        "",
    ],
)
def test_other_places(address: str) -> None:
    """Only the hosts of the settings are asked, whatever an address looks like."""
    with pytest.raises(NotAllowed):
        Downloads({"good.example"}).check(address)


@pytest.mark.parametrize(
    "address",
    ["https://good.example/a", "http://GOOD.example", "https://good.example:443/", "http://good.example:80/a?b=%20"],
)
def test_allowed_places(address: str) -> None:
    """A host without a port means those of http and https."""
    Downloads({"good.example"}).check(address)
    Downloads({"other.example", "good.example"}).check(address)


def test_none() -> None:
    """Without any place the refusal names the settings."""
    with pytest.raises(NotAllowed, match="SNAPSHOT_HOSTS nor CONVEX_URL"):
        Downloads(set()).check("https://x.example/")


def test_name_that_leads_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """An allowed public name that leads to a private address is not asked, however it does so."""
    home = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr("outbound.socket.getaddrinfo", lambda *_, **__: home)

    with pytest.raises(Failed, match=r"leads to 127\.0\.0\.1, which is private"):
        Downloads({"good.example"}).get("http://good.example/", 10)


def test_too_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow servers hold a few threads and no more."""
    monkeypatch.setattr(download, "AT_ONCE", 1)
    begun, go_on = threading.Event(), threading.Event()

    def wait(handler: BaseHTTPRequestHandler) -> None:
        begun.set()
        go_on.wait(5)
        send(CONTENT)(handler)

    with server(wait) as place:
        downloads = Downloads({place})
        first = threading.Thread(target=lambda: downloads.get(f"http://{place}/", len(CONTENT)))
        first.start()
        begun.wait(5)
        with pytest.raises(Failed, match="too many"):
            downloads.get(f"http://{place}/", 10)
        go_on.set()
        first.join()
        assert downloads.get(f"http://{place}/", len(CONTENT)) == CONTENT
