"""The HTTP API in process: how logs and artifacts are read."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from api import joblog, logview
from artifacts import Shelf
from errors import StorageFailed
from jobs import Conclusion, Job, Result, iso
from store import Store
from tests.api_cases import FILES, Client, chunk, client, finish
from tests.store_cases import claimed


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.fixture
def api(store: Store, shelf: Shelf) -> Client:
    return client(store, shelf)


@pytest.fixture
def running(store: Store) -> Job:
    return claimed(store)


@pytest.fixture
def built(store: Store, shelf: Shelf, running: Job) -> Job:
    return finish(store, shelf, running, FILES)


# --- logs -------------------------------------------------------------------------------------------------------------


def test_log_of_a_running_job(api: Client, store: Store, running: Job) -> None:
    """The log is plain text, and says where to go on reading and that it is not complete."""
    store.append_log(running.id, running.fence, [chunk(0, "one", "zwei ü"), chunk(2, "three", stream="stderr")])

    answer = api.get(f"/api/jobs/{running.id}/logs")

    assert answer.text == "one\nzwei ü\nthree\n"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Next-Offset"] == "3"
    assert answer.headers["X-Log-Complete"] == "false"


@pytest.mark.parametrize(
    ("offset", "text"), [(0, "one\ntwo\nthree\n"), (1, "two\nthree\n"), (2, "three\n"), (3, ""), (99, "")]
)
def test_log_from_an_offset(api: Client, store: Store, running: Job, offset: int, text: str) -> None:
    """An offset is a line number, in the middle of what was stored together or beyond the end."""
    store.append_log(running.id, running.fence, [chunk(0, "one", "two"), chunk(2, "three")])

    answer = api.get(f"/api/jobs/{running.id}/logs?offset={offset}")

    assert answer.text == text
    assert answer.headers["X-Next-Offset"] == str(max(offset, 3))


def test_log_of_an_ended_job(api: Client, store: Store, running: Job) -> None:
    """Once the job has ended, the log says that it is complete."""
    store.append_log(running.id, running.fence, [chunk(0, "one")])
    store.finish(running.id, running.fence, Result(Conclusion.SUCCESS))

    assert api.get(f"/api/jobs/{running.id}/logs").headers["X-Log-Complete"] == "true"


def test_log_as_objects(api: Client, store: Store, running: Job) -> None:
    """As NDJSON, asked for by name or by Accept, every line is an object, and a gap is one too."""
    store.append_log(
        running.id, running.fence, [chunk(0, "a\x1b[2J"), chunk(101, "b", stream="stderr", dropped=(100, 4_000))]
    )
    time = "2023-11-14T22:13:20.123Z"

    named = api.get(f"/api/jobs/{running.id}/logs?format=ndjson")
    accepted = api.get(f"/api/jobs/{running.id}/logs", headers={"Accept": "application/x-ndjson"})

    assert named.body == accepted.body
    assert named.content_type == "application/x-ndjson"
    assert [json.loads(line) for line in named.body.splitlines()] == [
        {"line": 0, "time": time, "phase": "building", "stream": "stdout", "text": "a\x1b[2J"},
        {"dropped": {"lines": 100, "bytes": 4_000}},
        {"line": 101, "time": time, "phase": "building", "stream": "stderr", "text": "b"},
    ]


def test_gap_in_text(api: Client, store: Store, running: Job) -> None:
    """In text a gap is one line that counts what is missing from the offset on."""
    store.append_log(running.id, running.fence, [chunk(0, "a"), chunk(1_501, "b", dropped=(1_500, 4_000))])
    path = f"/api/jobs/{running.id}/logs"

    whole = api.get(path).text
    part = api.get(f"{path}?offset=1500").text
    after = api.get(f"{path}?offset=1501").text

    assert whole == "a\n[1,500 lines are missing here: the log was too long to keep them]\nb\n"
    assert part == "[1 lines are missing here: the log was too long to keep them]\nb\n"
    assert after == "b\n"


def test_terminal_codes(api: Client, store: Store, running: Job) -> None:
    """In text colours stay; what else a terminal would act on is shown as a picture of itself."""
    hostile = "\x1b[31mred\x1b[0m \x1b[2J \x1b]8;;http://x\x07 \x9b1A \x7f a\rb\ttab\r"
    store.append_log(running.id, running.fence, [chunk(0, hostile)])

    text = api.get(f"/api/jobs/{running.id}/logs").text

    assert text == "\x1b[31mred\x1b[0m ␛[2J ␛]8;;http://x␇ \ufffd1A ␡ a␍b\ttab\r\n"


def test_long_log(api: Client, store: Store, running: Job) -> None:
    """A log of several pages comes in one answer, in order."""
    for first in range(0, 3_000, 1_000):
        line = "x" * 900
        store.append_log(
            running.id, running.fence, [chunk(first, *(f"{n} {line}" for n in range(first, first + 1_000)))]
        )

    lines = api.get(f"/api/jobs/{running.id}/logs").text.splitlines()

    assert [int(line.split()[0]) for line in lines] == list(range(3_000))


@pytest.fixture
def mixed(store: Store, running: Job) -> str:
    """The address of a log with two phases and two streams, in pieces of one to three lines."""
    pieces = [chunk(0, "one", "two", "three"), chunk(3, "four", stream="stderr"), chunk(4, "five", "six")]
    pieces += [replace(chunk(6, "seven"), phase="collecting"), chunk(7, "eight", stream="stderr")]
    store.append_log(running.id, running.fence, pieces)
    return f"/api/jobs/{running.id}/logs"


@pytest.mark.parametrize(
    ("query", "text", "following"),
    [
        ("from=1&to=2", "two", 2),
        ("from=2&to=5", "three four five", 5),
        ("from=5&to=99", "six seven eight", 8),
        ("from=5&to=3", "", 5),
        ("tail=1", "eight", 8),
        ("tail=4", "five six seven eight", 8),
        ("tail=7", "two three four five six seven eight", 8),
        ("tail=99", "one two three four five six seven eight", 8),
        ("stream=stderr", "four eight", 8),
        ("phase=collecting", "seven", 8),
        ("tail=2&stream=stdout", "six seven", 8),
        ("tail=2&to=5", "four five", 5),
        ("tail=2&to=2", "one two", 2),
        ("tail=3&from=6&to=7", "seven", 7),
        ("tail=9&from=5", "six seven eight", 8),
        ("tail=1&to=99", "eight", 8),
        ("tail=2&phase=building&stream=stdout", "five six", 8),
        ("from=1&to=5&stream=stdout", "two three five", 5),
    ],
)
def test_parts_of_a_log(api: Client, mixed: str, query: str, text: str, following: int) -> None:
    """A range, the end, one phase, one stream, or these together; in both forms the same lines."""
    answer = api.get(f"{mixed}?{query}")
    objects = [json.loads(line) for line in api.get(f"{mixed}?{query}&format=ndjson").body.splitlines()]

    assert answer.text.split() == text.split()
    assert [each["text"] for each in objects] == text.split()
    assert answer.headers["X-Next-Offset"] == str(following)
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    assert [words[each["line"]] for each in objects] == text.split()


def test_pieces_of_a_log_are_sent_together(api: Client, store: Store, running: Job) -> None:
    """What a job printed line by line is not sent line by line: each block costs a call to the network."""
    pieces = [chunk(number, f"line {number} {'x' * 100}") for number in range(1_500)]
    store.append_log(running.id, running.fence, pieces)

    blocks = list(joblog._together(logview.as_text(store.log(running.id), 0)))

    assert b"".join(blocks) == b"".join(piece.text.encode() for piece in pieces)
    assert api.get(f"/api/jobs/{running.id}/logs").body == b"".join(blocks)
    assert [len(block) >= joblog.SENT_BYTES for block in blocks] == [True, True, False]


def test_tail_of_an_empty_log(api: Client, running: Job) -> None:
    """The end of a log without lines is empty."""
    assert api.get(f"/api/jobs/{running.id}/logs?tail=5").body == b""
    assert api.get(f"/api/jobs/{running.id}?include=logs").json["logs"]["text"] == ""


def test_long_tail(api: Client, store: Store, running: Job) -> None:
    """The end of a log of many pages is read from the end."""
    store.append_log(running.id, running.fence, [chunk(n, f"line{n}") for n in range(1_000)])

    assert api.get(f"/api/jobs/{running.id}/logs?tail=250").text.split() == [f"line{n}" for n in range(750, 1_000)]


def test_saved_log(api: Client, running: Job) -> None:
    """A log can come as a file to save."""
    address = f"/api/jobs/{running.id}/logs?download=true"

    assert f'attachment; filename="{running.id}.log"' in api.get(address).headers["Content-Disposition"]
    assert f"{running.id}.ndjson" in api.get(f"{address}&format=ndjson").headers["Content-Disposition"]


def test_record_with_log(api: Client, mixed: str) -> None:
    """A record can include the end of the log."""
    record = api.get(mixed.replace("/logs", "?include=logs,result")).json

    assert record["logs"]["text"].split() == ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def test_log_that_is_removed_meanwhile(api: Client, store: Store, redis_url: str, running: Job) -> None:
    """A log whose lines have been removed is empty, and the answer ends."""
    store.append_log(running.id, running.fence, [chunk(0, "one")])
    with redis.Redis.from_url(redis_url) as client:
        client.delete(f"cw:log:{running.id}")

    assert api.get(f"/api/jobs/{running.id}/logs").body == b""


@pytest.mark.parametrize(
    "query",
    [
        "offset=-1",
        "offset=x",
        "offset=1.5",
        "offset=",
        "offset=²",
        "offset=" + "9" * 13,
        "format=html",
        "tail=0",
        "phase=x",
        "stream=stdin",
        "download=maybe",
        "lines=5",
    ],
)
def test_bad_log_queries(api: Client, running: Job, query: str) -> None:
    """A query that makes no sense is a 400 problem that names the parameter."""
    answer = api.get(f"/api/jobs/{running.id}/logs?{query}", status=400)

    assert answer.json["errors"][0]["pointer"] == "?" + query.partition("=")[0]


# --- artifacts --------------------------------------------------------------------------------------------------------


def test_list_of_artifacts(api: Client, built: Job) -> None:
    """The list has path, size, checksum and address of every artifact, and following the addresses gives the bytes."""
    answer = api.get(f"/api/jobs/{built.id}/artifacts").json

    got = {artifact["path"]: api.get(artifact["href"]).body for artifact in answer["artifacts"]}
    assert got == FILES
    assert answer["totalBytes"] == sum(map(len, FILES.values()))
    assert {a["path"]: a["sha256"] for a in answer["artifacts"]} == {
        path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()
    }


def test_download(api: Client, built: Job) -> None:
    """A file comes as a download under its own name that no browser runs, sniffs or embeds."""
    headers = api.get(f"/api/jobs/{built.id}/artifacts/assets/app%20%C3%BC.js").headers

    assert headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert headers["Content-Disposition"] == "attachment; filename=\"app _.js\"; filename*=UTF-8''app%20%C3%BC.js"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert headers["ETag"] == f'"{hashlib.sha256(FILES["assets/app ü.js"]).hexdigest()}"'


def test_unknown_types_are_bytes(api: Client, built: Job) -> None:
    """An extension that is not well known is served as bytes."""
    assert api.get(f"/api/jobs/{built.id}/artifacts/data.bin").content_type == "application/octet-stream"


@pytest.mark.parametrize("path", ["nope", "../index.html", "..%2f..%2fetc%2fpasswd", "index.html/", "assets", "%00"])
def test_unknown_artifacts(api: Client, built: Job, path: str) -> None:
    """Only what the job's record lists is served; everything else is 404."""
    answer = api.get(f"/api/jobs/{built.id}/artifacts/{path}", status=404)

    assert answer.json["code"] in ("artifact_not_found", "not_found")


def test_removed_artifacts(api: Client, shelf: Shelf, built: Job) -> None:
    """A file that is listed and gone is 404, alone and in the archive."""
    shelf.remove(built.id)

    for address in ("artifacts/index.html", "artifacts.tar.gz"):
        assert api.get(f"/api/jobs/{built.id}/{address}", status=404).json["code"] == "artifact_not_found"


def test_not_modified(api: Client, built: Job) -> None:
    """A caller who has the file already is told so, whichever way the tag is written."""
    path = f"/api/jobs/{built.id}/artifacts/index.html"
    tag = api.get(path).headers["ETag"]

    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = api.get(path, headers={"If-None-Match": given}, status=304)
        assert (answer.body, answer.headers["ETag"]) == (b"", tag)
    api.get(path, headers={"If-None-Match": '"other"'}, status=200)


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("0-0", 0, 1),
        ("10-19", 10, 20),
        ("204799-", 204_799, 204_800),
        ("-5", 204_795, 204_800),
        ("-999999", 0, 204_800),
        ("100000-999999", 100_000, 204_800),
    ],
)
def test_ranges(api: Client, built: Job, wanted: str, start: int, end: int) -> None:
    """A range is answered with 206 and exactly its bytes."""
    answer = api.get(f"/api/jobs/{built.id}/artifacts/data.bin", headers={"Range": f"bytes={wanted}"}, status=206)

    assert answer.body == FILES["data.bin"][start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/204800"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=5-1", "bytes=-", "bytes=a-b", "lines=0-1", "bytes 0-1", ""])
def test_other_ranges(api: Client, built: Job, wanted: str) -> None:
    """Several ranges, other units and nonsense are answered with the whole file."""
    answer = api.get(f"/api/jobs/{built.id}/artifacts/data.bin", headers={"Range": wanted}, status=200)

    assert answer.body == FILES["data.bin"]


@pytest.mark.parametrize(("path", "wanted"), [("data.bin", "204800-"), ("data.bin", "-0"), ("empty.txt", "0-")])
def test_ranges_beyond_the_end(api: Client, built: Job, path: str, wanted: str) -> None:
    """A range that begins beyond the end is 416, with the file's size."""
    answer = api.get(f"/api/jobs/{built.id}/artifacts/{path}", headers={"Range": f"bytes={wanted}"}, status=416)

    assert answer.headers["Content-Range"] == f"bytes */{len(FILES[path])}"
    assert answer.json["code"] == "range_unsatisfiable"


def test_if_range(api: Client, built: Job) -> None:
    """A range of a file that has changed meanwhile is answered with the whole new file."""
    path = f"/api/jobs/{built.id}/artifacts/data.bin"
    tag = api.get(path).headers["ETag"]

    api.get(path, headers={"Range": "bytes=0-1", "If-Range": tag}, status=206)
    for other in ('"other"', f"W/{tag}", "Tue, 14 Nov 2023 22:13:20 GMT"):
        api.get(path, headers={"Range": "bytes=0-1", "If-Range": other}, status=200)


def test_archive(api: Client, built: Job) -> None:
    """All artifacts come as one tar.gz."""
    answer = api.get(f"/api/jobs/{built.id}/artifacts.tar.gz")

    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(answer.body))) as tar:
        got = {member.name: file.read() for member in tar if (file := tar.extractfile(member))}
    assert got == FILES
    assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="{built.id}.tar.gz"')


def test_zip(api: Client, built: Job) -> None:
    """All artifacts come as one zip, for systems that have no tar."""
    answer = api.get(f"/api/jobs/{built.id}/artifacts.zip")

    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert archive.testzip() is None
    assert answer.content_type == "application/zip"
    assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="{built.id}.zip"')
    assert "sandbox" in answer.headers["Content-Security-Policy"]


def test_what_is_kept_and_until_when(api: Client, built: Job, store: Store) -> None:
    """The list says what each file is, when they all go, and how much of the quota is used."""
    listed = api.get(f"/api/jobs/{built.id}/artifacts").json

    assert {artifact["path"]: artifact["type"] for artifact in listed["artifacts"]}["index.html"].startswith(
        "text/html"
    )
    assert listed["expiresAt"] == iso(built.finished_ms + 30 * 86_400_000)
    assert listed["keptBytes"] == store.kept_bytes() > sum(map(len, FILES.values()))
    assert listed["quotaBytes"] == 5 << 30


def test_failing_archive(store: Store, built: Job, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An archive that cannot begin is a 500 problem with all headers, and the log has the reason."""

    class Failing(Shelf):
        def tar_gz(self, *_: object) -> Iterator[bytes]:
            raise StorageFailed("disk 7 fails")
            yield b""

    answer = client(store, Failing(tmp_path)).get(f"/api/jobs/{built.id}/artifacts.tar.gz", status=500)

    assert answer.json["code"] == "internal_error"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "disk 7" not in answer.text
    assert "disk 7 fails" in caplog.text


def test_job_without_artifacts(api: Client, running: Job) -> None:
    """A job that has produced nothing has an empty list and an empty archive."""
    listed = api.get(f"/api/jobs/{running.id}/artifacts").json
    archive = api.get(f"/api/jobs/{running.id}/artifacts.tar.gz").body

    room = {"expiresAt": None, "keptBytes": 0, "quotaBytes": 5 << 30}
    assert listed == {"jobId": running.id, "artifacts": [], "totalBytes": 0, **room}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getmembers() == []


@pytest.mark.parametrize("path", ["a\r\nX-Evil: 1.js", 'a"; x="b.svg', "<script>.html", "a;b%.txt"])
def test_hostile_names(api: Client, store: Store, shelf: Shelf, running: Job, path: str) -> None:
    """No name that a job chooses for a file reaches into the headers of its download."""
    finish(store, shelf, running, {path: b"x"})

    (artifact,) = api.get(f"/api/jobs/{running.id}/artifacts").json["artifacts"]
    answer = api.get(artifact["href"])

    assert answer.body == b"x"
    assert "X-Evil" not in answer.headers
    assert answer.headers["Content-Disposition"].count('"') == 2
