"""A project's files as a request holds them: texts, bytes in base64, and one tree laid over another."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidRequest
from executor.archive import pack
from intake import Bounds, parse
from jobs import Request
from origins import Source
from tree import Tree, decoded_length

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
BOUNDS = Bounds(max_files=4, max_project_bytes=600)


def encoded(content: bytes) -> dict[str, str]:
    return {"encoding": "base64", "content": base64.b64encode(content).decode()}


def submission(files: dict[str, Any], **data: Any) -> bytes:
    return json.dumps({"type": "build", "data": {"projectFiles": files, **data}}).encode()


def mistakes(body: bytes, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        parse(body, BOUNDS, **options)
    return [(mistake.pointer, mistake.detail) for mistake in caught.value.mistakes]


def test_bytes_travel_as_base64() -> None:
    """A file given in base64 reaches the workspace byte for byte; one that is text is text to the service too."""
    files = {"logo.png": encoded(PNG), "package.json": encoded(b"{}"), "a.txt": "é"}

    request, _ = parse(submission(files), BOUNDS)

    assert request.files == {"package.json": "{}", "a.txt": "é"}
    assert request == Request.from_bytes(request.to_bytes())
    with tarfile.open(fileobj=io.BytesIO(b"".join(pack(request.files, {}, request.binary)))) as tar:
        packed = {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}  # type: ignore[union-attr]
    assert packed == {"project/logo.png": PNG, "project/package.json": b"{}", "project/a.txt": "é".encode()}


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.binary(max_size=40)))
def test_contents_survive(contents: dict[str, bytes]) -> None:
    """Whatever bytes files have, a tree gives them back, knows how many they are, and JSON can carry it."""
    tree = Tree.of(contents)

    back = {path: text.encode() for path, text in tree.files.items()}
    back |= {path: base64.b64decode(text) for path, text in tree.binary.items()}
    assert back == contents
    assert tree.bytes == sum(map(len, contents.values()))
    assert json.loads(json.dumps(tree.files)) == tree.files
    assert Tree.from_json({path: encoded(content) for path, content in contents.items()}) == tree


@given(st.binary(max_size=50))
def test_decoded_length(content: bytes) -> None:
    """The length of what base64 stands for is known without decoding it."""
    assert decoded_length(base64.b64encode(content).decode()) == len(content)


@pytest.mark.parametrize(
    "value",
    [
        {"encoding": "base64", "content": "%%%%"},
        {"encoding": "base64", "content": "YQ"},
        {"encoding": "base64", "content": "Y Q=="},
        {"encoding": "base64", "content": "é"},
        {"encoding": "base64", "content": 1},
        {"encoding": "hex", "content": "00"},
        {"content": "YQ=="},
        {"encoding": "base64", "content": "YQ==", "mode": 493},
        [],
        None,
    ],
)
def test_odd_contents(value: object) -> None:
    """Anything but a text or base64 in its one form is a mistake at the file."""
    ((pointer, detail),) = mistakes(submission({"a/b.png": value}))

    assert pointer == "#/data/projectFiles/a~1b.png"
    assert "base64" in detail


def test_limits_count_decoded_bytes() -> None:
    """600 bytes are 800 in base64, and fit; one more does not."""
    assert parse(submission({"a": encoded(bytes(600))}), BOUNDS)[0].files == {"a": "\0" * 600}
    assert mistakes(submission({"a": encoded(b"\xff" * 300), "b": "x" * 301})) == [
        ("#/data/projectFiles", "The files of projectFiles hold 601 bytes in all; at most 600 are accepted.")
    ]


# --- sources ----------------------------------------------------------------------------------------------------------

UPLOAD = "upload-" + "0" * 32


def test_files_are_put_into_a_source() -> None:
    """What the body holds wins over what the source has, whether the one or the other is binary."""
    base = Tree({"a": "old", "b": "old"}, {"c": "/w==", "d": "/w=="}, {"dependencies": {"react": "^19"}})
    asked: list[Source] = []

    def bring(source: Source) -> Tree:
        asked.append(source)
        return base

    request, _ = parse(submission({"a": encoded(b"\xfe"), "c": "new"}, uploadId=UPLOAD), BOUNDS, bring)

    assert asked == [Source("uploadId", UPLOAD)]
    assert (request.files, request.binary) == ({"b": "old", "c": "new"}, {"d": "/w==", "a": "/g=="})
    assert request.dependencies == {"dependencies": {"react": "^19"}}


@pytest.mark.parametrize(
    ("base", "detail"),
    [
        (Tree({"a/b": ""}), "This path is both a file and the folder of another file."),
        (Tree(dict.fromkeys("bcde", "")), "uploadId has 5 files; at most 4 are accepted."),
        (Tree({"b": "x" * 600}), "The files of uploadId hold 601 bytes in all; at most 600 are accepted."),
    ],
)
def test_limits_hold_for_the_whole(base: Tree, detail: str) -> None:
    """A source and the body's files together are one project under the usual limits."""
    found = mistakes(submission({"a": "x"}, uploadId=UPLOAD), bring=lambda _: base)

    assert found[0][0].startswith("#/data/uploadId")
    assert found[0][1] == detail


@pytest.mark.parametrize(
    ("data", "attached", "pointer"),
    [
        ({"uploadId": UPLOAD, "fromJob": "job-" + "0" * 32}, False, "#/data/fromJob"),
        ({"uploadId": UPLOAD}, True, "#/data/uploadId"),
        ({"uploadId": "upload-1"}, False, "#/data/uploadId"),
        ({"uploadId": "../" + UPLOAD}, False, "#/data/uploadId"),
        ({"fromJob": "job-1"}, False, "#/data/fromJob"),
        ({"snapshotUrl": "file:///etc/passwd"}, False, "#/data/snapshotUrl"),
        ({"snapshotUrl": "https://a b"}, False, "#/data/snapshotUrl"),
        ({"projectFiles": {}}, False, "#/data/projectFiles"),
        ({}, False, "#/data/projectFiles"),
    ],
)
def test_mistakes_in_sources(data: dict[str, Any], attached: bool, pointer: str) -> None:
    """One source at most, each in its form; nothing is brought while anything is wrong."""

    def bring(_: Source) -> Tree:
        raise AssertionError("brought")

    found = mistakes(json.dumps({"type": "build", "data": data}).encode(), bring=bring, attached=attached)

    assert [where for where, _ in found] == [pointer]


@pytest.mark.parametrize("glob", ["/etc/*", "../*", "a//b", "node_modules/**", "dist/**x", "", "a" * 201, "x\0"])
def test_odd_globs(glob: str) -> None:
    """A glob stays in the project, and says so by its form."""
    ((pointer, _),) = mistakes(submission({"a": ""}, artifacts=["dist/**", glob]))

    assert pointer == "#/data/artifacts/1"
