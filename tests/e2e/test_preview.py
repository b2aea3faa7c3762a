"""A real Vite build of a React app, looked at with a real browser: it renders, and it cannot reach anything of ours."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
import requests

import config
from app import create_app
from artifacts import Shelf
from jobs import JobType, Request
from store import Store
from tests.api_cases import finish
from tests.e2e.browser import shown
from tests.e2e.conftest import Client, example
from tests.store_cases import claimed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
#: What the page finds out about where it is, written into itself; and a part that comes later, with its own style.
PROBE = """
const tell = (name: string, value: string) => document.body.setAttribute("data-" + name, value);
const attempt = (name: string, action: () => unknown) => {
  try { tell(name, "got " + String(action())) } catch (error) { tell(name, (error as Error).name) }
};
tell("origin", window.origin);
attempt("storage", () => localStorage.length);
attempt("cookie", () => document.cookie);
fetch(API + "/api/stats").then((answer) => tell("api", "got " + answer.status), (error) => tell("api", error.name));
import("./Later").then(({ later }) => later(tell), (error) => tell("later", String(error)));
"""
LATER = """
import "./later.css";
import logo from "./logo.png";
export function later(tell: (name: string, value: string) => void) {
  const image = new Image();
  image.onload = () => tell("image", image.width + "x" + image.height);
  image.onerror = () => tell("image", "error");
  image.src = logo;
  document.body.append(image);
  tell("later", getComputedStyle(document.body).borderTopStyle);
}
"""


def project(api: str) -> dict[str, Any]:
    """The example with the probe in it; the picture is larger than what Vite puts into the script."""
    files: dict[str, Any] = dict(example("react-app"))
    files["src/main.tsx"] += f"const API = {api!r};\n{PROBE}"
    files["src/Later.ts"] = LATER
    files["src/vite-env.d.ts"] = '/// <reference types="vite/client" />\n'
    files["src/later.css"] = "body { border-top: 1px dashed }"
    files["src/logo.png"] = {"encoding": "base64", "content": base64.b64encode(PNG + bytes(5000)).decode()}
    return files


@pytest.fixture(scope="module")
def built(service: Any) -> str:
    """The id of a job that built the project."""
    client = Client(service)
    data = {"projectFiles": project(service.url)}
    body = {"type": "build", "data": data, "limits": {"commandTimeoutMs": 120_000}}
    answer = requests.post(f"{service.url}/api/jobs", json=body, timeout=10)
    record = client.ended(answer.json()["jobId"], 200)
    assert record["conclusion"] == "success", record["message"]
    return str(record["jobId"])


def told(document: str) -> dict[str, str]:
    """What the page found out."""
    return dict(re.findall(r'data-(\w+)="([^"]*)"', document))


def test_below_the_api(client: Client, built: str, tmp_path: Path) -> None:
    """The page renders with all its parts, although it was built for the root, and its origin is nobody's."""
    link = requests.post(f"{client.service.url}/api/jobs/{built}/preview", timeout=10).json()["url"]

    document = shown(link, tmp_path)

    assert "<h1>Kitchen timer</h1>" in document
    assert told(document) == {
        "origin": "null",
        "storage": "SecurityError",
        "cookie": "SecurityError",
        "api": "TypeError",
        "later": "dashed",
        "image": "1x1",
    }


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def own_hosts(client: Client, built: str, store: Store, tmp_path: Path) -> Iterator[str]:
    """A link of a service that has PREVIEW_URL, to the same files."""
    listed = client.get(f"{built}/artifacts").json()["artifacts"]
    files = {each["path"]: client.get(f"{built}/artifacts/{each['path']}").content for each in listed}
    shelf = Shelf(tmp_path / "artifacts")
    store.add(Request(JobType.BUILD, {"a": ""}))
    job = finish(store, shelf, claimed(store), files)
    with make_server("127.0.0.1", 0, lambda *_: [], Server, Quiet) as server:
        variables = {"DATA_DIR": str(tmp_path), "PREVIEW_URL": f"http://*.localhost:{server.server_port}"}
        server.set_app(create_app(config.load(variables), store, shelf, store.submit))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        answer = requests.post(f"http://127.0.0.1:{server.server_port}/api/jobs/{job.id}/preview", timeout=10)
        yield str(answer.json()["url"])
        server.shutdown()
        thread.join()


def test_on_a_host_of_its_own(own_hosts: str, tmp_path: Path) -> None:
    """With a host of its own the page has storage, that host's alone, and still nothing of the API."""
    document = shown(own_hosts, tmp_path / "profile")

    assert "<h1>Kitchen timer</h1>" in document
    assert told(document) == {
        "origin": own_hosts.rstrip("/"),
        "storage": "got 0",
        "cookie": "got ",
        "api": "TypeError",
        "later": "dashed",
        "image": "1x1",
    }
