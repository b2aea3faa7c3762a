"""A job's own values do not show in what is said about it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from executor.masking import Masker
from executor.output import CUT, Log
from jobs import Conclusion, Limits, OutputChunk, Result
from tests.engine_cases import LIMITS

SECRET = "s3cr/et+Wört&42"
PEM = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA75\nq2Wc8Vbn4tRk1LmZ0x\n-----END KEY-----"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False).replace("/", "\\/"),
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower().replace("w", "W"),
        quote_plus(SECRET),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_forms(form: str) -> None:
    """A value is masked as it is, and as JSON, URL, hex and base64 show it."""
    shown = Masker({"API_KEY": SECRET})(f"before {form} after")

    assert shown.replace('"', "") == "before *** after"


@pytest.mark.parametrize("around", [("a", "z"), ("ab", "yz"), ("abc", "xyz"), ("", ":user")])
def test_base64_of_more(around: tuple[str, str]) -> None:
    """A value inside something longer is masked in its base64 too, at whatever place it begins."""
    encoded = base64.b64encode(f"{around[0]}{SECRET}{around[1]}".encode()).decode()

    shown = Masker({"TOKEN": SECRET})(encoded)

    assert "***" in shown
    # What is left of the value are the bits that share a character with a neighbour: under one byte at each end.
    assert len(shown.replace("***", "")) <= len(base64.b64encode("".join(around).encode())) + 4


def test_long_base64() -> None:
    """Base64 that is broken into lines, as for PEM and MIME, is masked line by line."""
    value = "key-" + "0123456789abcdefghij" * 8
    encoded = base64.encodebytes(value.encode()).decode()

    shown = Masker({"K": value})(encoded)

    assert shown.splitlines() == ["***"] * len(encoded.splitlines())


def test_several_lines() -> None:
    """Of a value with several lines each is masked, since a log is made of lines, and no line is lost."""
    assert Masker({"PRIVATE_KEY": PEM})(f"{PEM}\n") == "***\n***\n***\n***\n"


def test_longer_first() -> None:
    """A value that begins like another is masked as a whole."""
    assert Masker({"A": "password1", "B": "password1-and-more"})("password1-and-more password1") == "*** ***"


def test_words_of_any_log() -> None:
    """Short values, and words that are said all the time, are left alone unless their name speaks of a secret."""
    mask = Masker({"CI": "true", "NODE_ENV": "production", "TOKEN": "ab12", "PASSWORD": "abc"})

    assert mask("true production ab12 abc") == "true production *** abc"


def test_secret_in_a_name() -> None:
    """A file's name shows a secret only if the variable's name speaks of one: others may well be names of pages."""
    mask = Masker({"API_KEY": SECRET, "VITE_START_PAGE": "dashboard"})

    assert mask.shows_secret(f"assets/{SECRET.encode().hex()}.txt")
    assert not mask.shows_secret("dashboard/index.html")


def test_nothing_to_hide() -> None:
    """Without variables nothing is changed."""
    assert Masker({})("a *** b") == "a *** b"


def logged(written: list[bytes], environment: dict[str, str], limits: Limits = LIMITS) -> tuple[str, str]:
    """(the log, its tail) of what a program wrote."""
    chunks: list[OutputChunk] = []
    log = Log(limits, 0, chunks.append, Masker(environment))
    log.begin("building")
    for data in written:
        log.feed("stdout", data)
    tail_before_end = log.tail
    log.close()
    return "".join(chunk.text for chunk in chunks), tail_before_end


def test_split_over_writes() -> None:
    """However a value is cut into writes, it does not show."""
    line = f"the key is {SECRET}!\n".encode()

    text, tail = logged([line[at : at + 1] for at in range(len(line))], {"KEY": SECRET})

    assert (text, tail) == ("the key is ***!\n", "the key is ***!")


def test_colours_inside() -> None:
    """A value that terminal escapes cut apart does not come together again in the message."""
    written = f"{SECRET[:6]}\x1b[0m{SECRET[6:]}\n".encode()

    _, tail = logged([written], {"KEY": SECRET})

    assert tail == "***"


def test_cut_line() -> None:
    """Where a long line is cut, no beginning of a value is left."""
    limits = Limits(512, 1, 1, 1, 1, 1, log_line_bytes=300)
    written = b"x" * 290 + SECRET.encode() + b"y" * 900 + b"\n"

    text, _ = logged([written], {"KEY": SECRET}, limits)

    assert text == "x" * 290 + "***" + CUT + "\n"


def test_line_count() -> None:
    """Masking changes no line numbers: the chunks still hold the lines that they say."""
    chunks: list[OutputChunk] = []
    log = Log(LIMITS, 0, chunks.append, Masker({"PRIVATE_KEY": PEM}))
    log.begin("building")
    log.feed("stdout", f"{PEM}\n{PEM}\n".encode())
    log.close()

    assert [(chunk.lines, chunk.text.count("\n")) for chunk in chunks] == [(8, 8)]


def test_result() -> None:
    """A value shows nowhere in a result: not in its message, command, tail, file names or figures."""
    result = Result(
        Conclusion.FAILURE,
        message=f"`deploy {SECRET}` failed",
        command=f"deploy {SECRET}",
        output_tail=SECRET,
        skipped=({"path": f"dist/{SECRET}", "reason": "symlink"},),
        detail={"egress": {f"{SECRET}:443": 1}, "list": [SECRET, 5], "none": None},
    )

    shown = Masker({"KEY": SECRET}).result(result)

    assert SECRET not in repr(shown)
    assert shown.detail == {"egress": {"***:443": 1}, "list": ["***", 5], "none": None}


def test_speed() -> None:
    """A hundred variables cost under a second for as much text as a log keeps."""
    import time

    mask = Masker({f"V{at}": f"value-number-{at:04}" for at in range(100)})
    text = "some words of a log, nothing else\n" * (5 << 20 >> 5)
    began = time.process_time()

    mask(text)

    assert time.process_time() - began < 2
