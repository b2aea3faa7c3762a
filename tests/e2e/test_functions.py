"""Functions over HTTP: called with their code, and kept under a name."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
import requests

from tests.e2e.conftest import Client, example

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
#: Half a second, or three with an installation; a minute on a machine that does much else.
PATIENCE_S = 240
DOUBLE = {"index.mjs": "export const handler = (event) => { console.log('called'); return event * 2 }"}


class Named:
    """A function of this test's own."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.name = f"test-{uuid.uuid4().hex[:8]}"

    def ask(self, method: str, path: str = "", body: Any = None, name: str = "") -> requests.Response:
        url = f"{self.client.service.url}/api/functions/{name or self.name}{path}"
        return requests.request(method, url, json=body, timeout=90)

    def put(self, source: str, **fields: Any) -> dict[str, Any]:
        """Keep a version; what became of it once its job has ended."""
        body = {"runtime": "node", "handler": "index.handler", "files": {"index.mjs": source}, **fields}
        answer = self.ask("PUT", "?wait=60", body)
        assert answer.status_code in {201, 202}, answer.text
        if answer.status_code == 202:  # on a machine that does much else
            self.client.ended(answer.json()["jobId"], PATIENCE_S)
        return dict(self.version(answer.json()["version"]))

    def version(self, number: int) -> dict[str, Any]:
        versions = self.ask("GET").json()["versions"]
        return next(dict(each) for each in versions if each["version"] == number)

    def invoke(self, event: Any = None) -> dict[str, Any]:
        """Call it; the record once the job has ended."""
        answer = self.ask("POST", "/invoke?wait=60", {"event": event})
        assert answer.status_code in {200, 202}, answer.text
        return (
            dict(answer.json()) if answer.status_code == 200 else self.client.ended(answer.json()["jobId"], PATIENCE_S)
        )

    def value(self, event: Any = None) -> Any:
        record = self.invoke(event)
        assert record["conclusion"] == "success", record
        return record["result"]["function"]["value"]

    @property
    def current(self) -> int:
        return int(self.ask("GET").json()["current"])


@pytest.fixture
def named(client: Client) -> Any:
    """A name that no function has yet; what the test keeps under it goes afterwards."""
    made = Named(client)
    yield made
    made.ask("DELETE")


def call(client: Client, data: dict[str, Any]) -> dict[str, Any]:
    """Submit a function job and wait for its end."""
    answer = requests.post(f"{client.service.url}/api/jobs", json={"type": "function", "data": data}, timeout=10)
    assert answer.status_code == 201, answer.text
    return client.ended(answer.json()["jobId"], PATIENCE_S)


@pytest.mark.parametrize(
    ("folder", "runtime", "handler"),
    [("function-node", "node", "index.handler"), ("function-python", "python", "main.handler")],
)
def test_examples(client: Client, folder: str, runtime: str, handler: str) -> None:
    """The examples run with their dependencies, and the webhook tells the value."""
    files = {path: text for path, text in example(folder).items() if not path.endswith(".sh")}
    event = {"name": "Ada", "after": "2 days"}

    record = call(client, {"runtime": runtime, "files": files, "handler": handler, "event": event})

    assert record["conclusion"] == "success", record
    value = record["result"]["function"]["value"]
    assert value["greeting"] == "Hello, Ada!"
    assert value["milliseconds"] == 172_800_000
    (told,) = client.webhooks(record["jobId"])
    assert (told["body"]["type"], told["body"]["result"]["function"]["value"]) == ("function", value)


def test_life_of_a_function(named: Named, client: Client) -> None:
    """A version is made, called, replaced, called again by rolling back, and gone with the function."""
    first = named.put("export const handler = (event) => ({ version: 1, event })")
    assert (first["version"], first["state"]) == (1, "ready"), first
    assert named.value({"ü": [1]}) == {"version": 1, "event": {"ü": [1]}}

    second = named.put("import ms from 'ms'\nexport const handler = (event) => ms(event)", dependencies={"ms": "2.1.3"})
    assert (second["version"], second["state"]) == (2, "ready"), second
    record = named.invoke("2 days")
    assert record["conclusion"] == "success", record
    assert record["result"]["function"]["value"] == 172_800_000
    assert "installing" not in [phase["name"] for phase in record["result"]["phases"]]
    assert record["result"]["call"]["version"] == 2

    rolled = named.ask("POST", "/rollback", {"version": 1})
    assert (rolled.status_code, rolled.json()["current"]) == (200, 1)
    assert named.value(1) == {"version": 1, "event": 1}

    listed = requests.get(f"{client.service.url}/api/functions", timeout=10).json()["functions"]
    (mine,) = [each for each in listed if each["name"] == named.name]
    assert (mine["current"], mine["runtime"], mine["handler"]) == (1, "node", "index.handler")

    assert named.ask("DELETE").status_code == 204
    assert named.ask("POST", "/invoke").json()["code"] == "function_not_found"


def test_failed_version(named: Named) -> None:
    """A version that cannot be loaded says why and never becomes the one that is called."""
    broken = named.put("import 'nowhere'\nexport const handler = () => 1")
    assert (broken["state"], broken["reason"]) == ("failed", "function_failed"), broken
    assert "nowhere" in broken["message"]
    refused = named.ask("POST", "/invoke")
    assert (refused.status_code, refused.json()["code"]) == (409, "function_not_ready")

    assert named.put("export const handler = () => 'good'")["state"] == "ready"
    assert named.put("export const other = 1")["reason"] == "handler_not_found"
    assert named.value() == "good"
    assert [version["state"] for version in named.ask("GET").json()["versions"]] == ["failed", "ready", "failed"]


def test_python_function(named: Named) -> None:
    """A Python function keeps its dependencies too, and its exception comes back."""
    source = "import six\ndef handler(event, context):\n    return six.text_type(1 / event)"
    fields = {"runtime": "python", "handler": "main.handler", "files": {"main.py": source}}

    assert named.put("", **fields, dependencies={"six": "1.17.0"})["state"] == "ready"
    assert named.value(4) == "0.25"
    failed = named.invoke(0)
    assert (failed["reason"], failed["result"]["function"]["error"]["type"]) == ("function_failed", "ZeroDivisionError")


def test_time_limit_and_variables(named: Named) -> None:
    """What was said about time and variables when a version was kept holds for each call; a value of env is masked."""
    env = {"API_TOKEN": "tok-123456789"}
    source = """export const handler = async (event) => {
      if (event === 'wait') await new Promise(() => setInterval(() => {}, 1000))
      return process.env.API_TOKEN.length + ' ' + process.env.API_TOKEN }"""

    assert named.put(source, env=env, timeoutMs=4000)["state"] == "ready"

    assert named.value() == "13 ***"
    assert named.invoke("wait")["reason"] == "timeout"
    assert env["API_TOKEN"] not in named.ask("GET").text


def test_asynchronous_call(named: Named, client: Client) -> None:
    """Without ?wait= a call is answered at once with its job; the same Idempotency-Key is the same call."""
    named.put(DOUBLE["index.mjs"])
    url = f"{client.service.url}/api/functions/{named.name}/invoke"
    headers = {"Idempotency-Key": uuid.uuid4().hex}

    answers = [requests.post(url, json={"event": 21}, headers=headers, timeout=10) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [202, 202]
    (job_id,) = {answer.json()["jobId"] for answer in answers}
    assert answers[0].headers["Location"] == f"/api/jobs/{job_id}"
    assert client.ended(job_id, PATIENCE_S)["result"]["function"]["value"] == 42
    assert "called" in client.get(f"{job_id}/logs").text


def test_versions_at_the_same_time(named: Named) -> None:
    """Versions that are kept at once all have numbers of their own, and the newest is the one that is called."""
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(named.put(f"export const handler = () => {n}")))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer["version"] for answer in answers) == [1, 2, 3, 4]
    assert {answer["state"] for answer in answers} == {"ready"}
    assert named.current == 4


def test_removed_before_the_call_runs(named: Named, client: Client) -> None:
    """A call that waits while its function is removed ends with a reason of its own."""
    named.put(DOUBLE["index.mjs"])
    base = client.service.url
    requests.post(f"{base}/api/queues/functions/pause", timeout=10)
    try:
        job_id = named.ask("POST", "/invoke", {"event": 1}).json()["jobId"]
        assert named.ask("DELETE").status_code == 204
    finally:
        requests.post(f"{base}/api/queues/functions/resume", timeout=10)

    record = client.ended(job_id, PATIENCE_S)
    assert (record["status"], record["reason"]) == ("failed", "function_removed")


def test_five_megabytes(client: Client) -> None:
    """A value that is too large ends the job with the reason, and the record stays small."""
    data = {"runtime": "node", "handler": "a.f", "files": {"a.mjs": "export const f = () => 'x'.repeat(5 << 20)"}}

    record = call(client, data)

    assert (record["conclusion"], record["reason"]) == ("failure", "result_too_large")
    assert len(str(record)) < 10_000
