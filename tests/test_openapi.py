"""The description of the API: whole, current, and true of the running service."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from api import reference
from api.answers import PROBLEMS
from api.described import OPERATIONS
from artifacts import Shelf
from store import Store
from tests.api_cases import Client, client
from tests.server_cases import running_server

ROOT = Path(__file__).parent.parent
#: Bodies of functions and schedules have rules that no schema says, and an archive is more than its bytes. Streams have
#: no end that could be waited for; tests/test_streams.py is about them.
BYTES = {"application/gzip", "application/zip", "application/octet-stream", "*/*"}
#: So are the keys: the first that is made ends the service without one.
LEFT_OUT = "events$|functions|schedules|uploads$|keys"


@pytest.fixture
def api(store: Store, tmp_path: Path) -> Client:
    return client(store, Shelf(tmp_path))


@pytest.fixture
def document(api: Client) -> dict[str, Any]:
    body: dict[str, Any] = api.get("/api/openapi.json").json
    return body


def test_every_route_is_described(api: Client, document: dict[str, Any]) -> None:
    """Each route of the application is an operation of the description, and there are no others."""
    routes = {(route.method.lower(), re.sub(r"<(\w+)[^>]*>", r"{\1}", route.rule)) for route in api.app.routes}
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}

    assert {(method, path) for method, path in routes if not path.startswith("/api/v1")} == described
    assert {(method, path.replace("/api/v1", "/api")) for method, path in routes if path.startswith("/api")} == {
        (method, path) for method, path in described if path.startswith("/api")
    }
    assert len(described) == len(OPERATIONS)


def test_every_operation_has_an_example(document: dict[str, Any]) -> None:
    """Each operation has an example of its body if it takes one, and of its answer if that is text or JSON."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            contents = [operation.get("requestBody", {}).get("content", {})]
            contents += [answer.get("content", {}) for answer in operation["responses"].values()]
            for media, content in (pair for each in contents for pair in each.items()):
                if media not in (
                    "application/problem+json",
                    "application/gzip",
                    "application/zip",
                    "*/*",
                    "application/octet-stream",
                ):
                    assert content.get("examples"), f"{method} {path} {media}"


def test_problems_are_those_that_there_are() -> None:
    """What an operation is said to be refused with is a code that answers have."""
    assert {code for operation in OPERATIONS.values() for code in operation.problems} <= PROBLEMS.keys()


def test_ids_are_unique(document: dict[str, Any]) -> None:
    """Every operation has a name of its own, from which clients are made."""
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]

    assert len(names) == len(set(names))
    assert all(re.fullmatch("[A-Za-z_]+", name) for name in names)


class Page(HTMLParser):
    """Collects what a page would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.headings = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.headings += tag == "h3"
        if tag in ("script", "img", "iframe", "link") or "src" in given or any(name.startswith("on") for name in given):
            self.fetched.append(tag)


def test_page(api: Client, document: dict[str, Any]) -> None:
    """The page has every operation, needs nothing from elsewhere, and its own style passes its policy."""
    answer = api.get("/docs")
    page = Page()
    page.feed(answer.text)

    assert page.fetched == []
    assert page.headings == len(OPERATIONS)
    assert "<code>host_refused</code>" in answer.text
    assert "`host_refused`" not in answer.text
    assert f"'{reference.STYLE_HASH}'" in answer.headers["Content-Security-Policy"]
    assert "script" not in answer.headers["Content-Security-Policy"]
    assert f"<style>{reference.STYLE}</style>" in answer.text


def test_written_reference() -> None:
    """docs/api.md is what `make api` makes."""
    made = subprocess.run([sys.executable, "cli.py", "reference"], cwd=ROOT, capture_output=True, text=True, check=True)

    assert (ROOT / "docs" / "api.md").read_text() == made.stdout, "run make api"


@pytest.mark.timeout(180)
@pytest.mark.e2e
def test_service_is_as_described(tmp_path: Path) -> None:
    """Schemathesis, with all its checks and requests good and bad, finds the service to be what it says of itself."""
    with running_server("tests.serving:patient()", MAX_WAIT="0", MAX_QUEUED_JOBS="1000000") as server:
        schema = f"http://127.0.0.1:{server.port}/api/openapi.json"
        tool = str(Path(sys.executable).parent / "schemathesis")
        bounds = ["--max-examples", "5", "--seed", "1", "--generation-database", "none", "--request-timeout", "60"]
        bounds += ["--phases", "examples,coverage,fuzzing", "--exclude-path-regex", LEFT_OUT]
        command = [tool, "--config-file", str(ROOT / "tests" / "data" / "schemathesis.toml"), "run", schema, *bounds]
        run = subprocess.run(
            [*command, "--continue-on-failure", "--no-color"], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    generated = re.search(r"(\d+) generated", run.stdout)
    assert run.returncode == 0, run.stdout[-8_000:] + run.stderr[-2_000:]
    assert generated
    assert int(generated[1]) >= 1_500
