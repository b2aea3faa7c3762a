"""One delivery by HTTP, against receivers that are real servers, kind and hostile."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import standardwebhooks

from events import Endpoint
from webhook import Outcome, Sender, Verdict

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()

Answer = Callable[[socket.socket], None]


class Server:
    """A TCP server whose connections are each handled by `answer`, after one whole request was read."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: list[bytes] = []
        self.connections = 0
        self.open: list[socket.socket] = []
        self.ended = threading.Event()  # set when a connection is over
        self._thread = threading.Thread(target=self._accept)

    def _accept(self) -> None:
        threads = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            self.connections += 1
            self.open.append(connection)
            threads.append(threading.Thread(target=self._serve, args=(connection,)))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while request := read_request(connection):
                self.requests.append(request)
                self._answer(connection)
        self.ended.set()

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()


def read_request(connection: socket.socket) -> bytes:
    """One request with its body, or nothing at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (block := connection.recv(65_536)):
            return b""
        data += block
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(
        next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    )
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def says(status: str, *headers: str, body: str = "ok") -> Answer:
    """A well-behaved answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", body]
    return lambda connection: connection.sendall("\r\n".join(lines).encode())


def post(url: str, *, deadline_s: float = 5.0, ca_bundle: str = "", private: bool = False, times: int = 1) -> Outcome:
    endpoint = Endpoint(url, (SECRET,), {"result": "/hooks/result"}, ca_bundle, private)
    with contextlib.closing(Sender(endpoint, deadline_s=deadline_s)) as sender:
        return [sender.post("msg_1", "result", b'{"a":"\xc3\xa4"}') for _ in range(times)][-1]


def test_delivery_is_signed_json() -> None:
    """A delivery is a POST of exactly the body, with a signature that the reference library accepts."""
    with Server(says("200 OK")) as server:
        outcome = post(server.url)

    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert (outcome.verdict, outcome.status, outcome.note) == (Verdict.ACCEPTED, 200, "HTTP 200 ok")
    assert head.startswith(b"POST /hooks/result HTTP/1.1\r\n")
    assert headers["Content-Type"] == "application/json"
    assert headers["Accept-Encoding"] == "identity"
    standardwebhooks.Webhook(SECRET).verify(body, headers)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("200 OK", "accepted"), ("201 Created", "accepted"), ("204 No Content", "accepted"), ("299 Fine", "accepted"),
        ("301 Moved", "retry"), ("304 Not Modified", "retry"), ("400 Bad", "give_up"), ("401 No", "give_up"),
        ("404 Not Found", "retry"), ("408 Late", "retry"), ("409 Conflict", "retry"), ("410 Gone", "disabled"),
        ("413 Large", "give_up"), ("422 Wrong", "give_up"), ("425 Early", "retry"), ("429 Many", "retry"),
        ("500 Oops", "retry"), ("503 Busy", "retry"), ("600 What", "retry"),
    ],
)  # fmt: skip
def test_verdicts(status: str, verdict: str) -> None:
    """Only 2xx is success; 410 disables; refusals that will not pass give up; everything else is tried again."""
    with Server(says(status, body="")) as server:
        outcome = post(server.url)

    assert (outcome.verdict, outcome.status) == (verdict, int(status[:3]))


def test_redirects_are_not_followed() -> None:
    """A redirect is a failure; the place it names is never asked."""
    with Server(says("200 OK")) as elsewhere, Server(says("307 Go", f"Location: {elsewhere.url}/")) as server:
        outcome = post(server.url)

    assert outcome.verdict is Verdict.RETRY
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("999999", 86_400), ("-5", 0), ("soon", 0), ("", 0), ("1e3", 0),
     ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400), ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
     ("Thu, 99 Jan 99999999999 00:00:00 GMT", 0)],
)  # fmt: skip
def test_retry_after(header: str, seconds: int) -> None:
    """Retry-After is honoured up to a day; nonsense asks for nothing."""
    with Server(says("429 Many", f"Retry-After: {header}")) as server:
        outcome = post(server.url)

    assert (outcome.verdict, outcome.retry_after_s) == (Verdict.RETRY, seconds)


def test_retry_after_date() -> None:
    """Retry-After may be a date."""
    with Server(says("503 Busy", f"Retry-After: {email.utils.formatdate(time.time() + 60, usegmt=True)}")) as server:
        outcome = post(server.url)

    assert 58 <= outcome.retry_after_s <= 61


def trickle(connection: socket.socket) -> None:
    """One byte at a time, for ever, fast enough that no wait for a byte is ever long."""
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def trickling_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    trickle(connection)


def trickling_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 500 Oops\r\nContent-Length: 1000000\r\n\r\n")
    trickle(connection)


def trickling_last_body(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.0 500 Oops\r\n\r\n")
    trickle(connection)


def endless_continue(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        time.sleep(0.02)


def silent(connection: socket.socket) -> None:
    connection.recv(1)


@pytest.mark.parametrize("answer", [trickling_headers, trickling_body, trickling_last_body, endless_continue, silent])
def test_deadline_is_total(answer: Answer) -> None:
    """The deadline bounds the whole try, however the receiver spreads its bytes, and the connection is dropped."""
    with Server(answer) as server:
        outcome = post(server.url, deadline_s=0.5)

        assert server.ended.wait(5)

    assert outcome.verdict is Verdict.RETRY
    assert 400 <= outcome.duration_ms < 1_500
    assert outcome.note in ("no answer within 0.5 s", "HTTP 500 " + outcome.note[9:])


def test_deadline_bounds_the_tls_handshake(tmp_path: Path) -> None:
    """A receiver that trickles its TLS handshake is cut off as well."""

    def handshake(connection: socket.socket) -> None:
        connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
        trickle(connection)

    with RawServer(handshake) as server:
        outcome = post(f"https://127.0.0.1:{server.port}", deadline_s=0.5)

    assert (outcome.status, outcome.note) == (0, "no answer within 0.5 s")
    assert outcome.duration_ms < 1_500


class RawServer(Server):
    """A server that answers before it has read a whole request."""

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65_536)
            self._answer(connection)


def test_deadline_bounds_connecting() -> None:
    """A receiver whose port takes no connection ends with the deadline too."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        outcome = post(f"http://127.0.0.1:{port}", deadline_s=0.5)
        for each in waiting:
            each.close()

    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, 0)
    assert 400 <= outcome.duration_ms < 1_500


def test_large_answer() -> None:
    """Of an answer of 1 GB no more than 64 KB is read, and the status still counts."""
    sent = 0

    def large(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(10_000):
            sent += connection.send(bytes(100_000))

    with Server(large) as server:
        outcome = post(server.url)

    assert outcome.verdict is Verdict.ACCEPTED
    assert sent < 20_000_000  # what fits into the sockets' buffers
    assert outcome.duration_ms < 2_000


def test_gzip_bomb() -> None:
    """A compressed answer is not unpacked."""
    body = base64.b64encode(b"\x1f\x8b" + bytes(3_000)).decode()

    with Server(says("200 OK", "Content-Encoding: gzip", body=body)) as server:
        outcome = post(server.url)

    assert outcome.verdict is Verdict.ACCEPTED
    assert outcome.note.startswith(f"HTTP 200 {body[:50]}")


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 ", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\xff" * 70_000])
def test_broken_answers(answer: bytes) -> None:
    """A connection dropped early and an answer that is not HTTP are failures to be tried again."""

    def drop(connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    with Server(drop) as server:
        outcome = post(server.url)

    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, 0)
    assert outcome.note.startswith("no answer: ")
    assert len(outcome.note) <= 220


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid", "http://" + "a" * 70 + ".invalid"])
def test_unreachable(url: str) -> None:
    """A receiver that cannot be reached is a failure to be tried again, and the note says why."""
    outcome = post(url)

    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, 0)
    assert outcome.note.startswith("no answer: ")


def test_note_is_one_printable_line() -> None:
    """What a receiver answers reaches our log as one short printable line."""
    with Server(says("400 Bad", body="a\r\nb\x1b[2Jc\0" + "d" * 1_000)) as server:
        outcome = post(server.url)

    assert outcome.note.startswith("HTTP 400 a b[2Jcddd")
    assert outcome.note.isprintable()
    assert len(outcome.note) <= 220


def test_connection_is_kept() -> None:
    """Deliveries of one thread share a connection, and one that the receiver closed is opened again."""
    with Server(says("200 OK")) as server:
        post(server.url, times=3)
        assert (server.connections, len(server.requests)) == (1, 3)

    with Server(says("200 OK", "Connection: close")) as server:
        assert post(server.url, times=2).verdict is Verdict.ACCEPTED
        assert len(server.requests) == 2


def test_deadline_bounds_a_kept_connection() -> None:
    """The deadline holds on a connection that an earlier delivery left open."""
    answers = iter([says("200 OK"), trickling_headers])

    def answer(connection: socket.socket) -> None:
        next(answers)(connection)

    with Server(answer) as server:
        outcome = post(server.url, deadline_s=0.5, times=2)

    assert server.connections == 1
    assert outcome.note == "no answer within 0.5 s"


def test_environment_does_not_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies of the environment are not used: a webhook goes where the settings say."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    with Server(says("200 OK")) as server:
        assert post(server.url).verdict is Verdict.ACCEPTED


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    subject = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    subprocess.run([*command, *subject, "-keyout", file, "-out", f"{file}.crt"], check=True, capture_output=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@contextlib.contextmanager
def tls_receiver(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as tls:
            read_request(tls)
            says("200 OK", "Connection: close")(tls)

    class TlsServer(Server):
        def _serve(self, connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                self._answer(connection)

    with TlsServer(answer) as server:
        yield f"https://127.0.0.1:{server.port}"


def test_tls_is_verified(certificate: Path) -> None:
    """An unknown certificate is refused; one whose authority is in the given bundle is accepted."""
    with tls_receiver(certificate) as url:
        refused = post(url)
        accepted = post(url, ca_bundle=f"{certificate}.crt")

    assert (refused.verdict, refused.status) == (Verdict.RETRY, 0)
    assert "CERTIFICATE_VERIFY_FAILED" in refused.note
    assert accepted.verdict is Verdict.ACCEPTED


# --- where to ---------------------------------------------------------------------------------------------------------


def names_lead_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Every name leads to these addresses, at the port it is asked for; the list of names that were looked up."""
    asked: list[str] = []

    def look_up(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        families = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(families[":" in each], socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"])
def test_public_name_with_a_private_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """A name in public DNS that leads into the machine or its network is not connected to, and the note says why."""
    with Server(says("200 OK")) as server:
        names_lead_to(monkeypatch, address)
        outcome = post(f"http://hooks.example.com:{server.port}")

        assert server.connections == 0

    assert (outcome.verdict, outcome.status) == (Verdict.RETRY, 0)
    assert f"hooks.example.com leads to {address}, which is private" in outcome.note


def test_private_address_where_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the settings allow it, and for a name without a dot in any case, a private address is connected to."""
    with Server(says("200 OK")) as server:
        names_lead_to(monkeypatch, "127.0.0.1")
        allowed = post(f"http://hooks.example.com:{server.port}", private=True)
        local = post(f"http://convex-backend:{server.port}")

    assert (allowed.verdict, local.verdict) == (Verdict.ACCEPTED, Verdict.ACCEPTED)
    assert b"\r\nHost: hooks.example.com:" in server.requests[0]


def test_checked_address_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is looked up once for a connection, so it cannot lead elsewhere between check and use."""
    asked = names_lead_to(monkeypatch, "127.0.0.1")

    with Server(says("200 OK", "Connection: close")) as server:
        post(f"http://hooks.example.com:{server.port}", private=True, times=2)

    assert asked == ["hooks.example.com"] * 2
