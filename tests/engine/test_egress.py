"""What an install can reach, tried from inside one: its own scripts run as the most hostile of packages would."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from executor import EgressRules, Executor
from executor.images import Images
from jobs import Conclusion, Reason, Result
from tests.engine_cases import ENGINE_URL, SERVICE, Bench, Recorder

pytestmark = pytest.mark.engine

DEPENDENCIES = {"picocolors": "1.1.1"}

#: Tells, for every target, what a TCP connection, a name look-up, or a request to the proxy comes to.
PROBE = """
import dns from "node:dns/promises"
import fs from "node:fs"
import net from "node:net"
import os from "node:os"
import tls from "node:tls"

const order = JSON.parse(fs.readFileSync("order.json", "utf8"))
const connect = (options) => new Promise((done) => {
    const socket = net.connect(options, () => done(socket)).on("error", (error) => done(error.code))
    socket.setTimeout(4000, () => { socket.destroy(); done("silent") })
})
const said = {}
const say = (name, what) => { said[name] = String(what) }

say("interfaces", Object.keys(os.networkInterfaces()).join())
for (const [host, port] of order.connect) {
    const socket = await connect({ host, port })
    say(`${host}:${port}`, socket.destroy ? (socket.destroy(), "open") : socket)
}
for (const name of order.resolve) say(name, await dns.lookup(name).then((found) => found.address, (e) => e.code))

const ask = async (text, greeting) => {
    const socket = await connect({ host: "127.0.0.1", port: 3128 })
    socket.on("error", () => {})
    socket.write(text)
    const answer = await new Promise((done) => {
        socket.once("data", done).once("close", () => done("closed")).once("timeout", () => done("silent"))
    })
    const status = String(answer).split(" ")[1] ?? String(answer)
    if (!greeting || status !== "200") { socket.destroy(); return status }
    return new Promise((done) => {
        const secure = tls.connect({ socket, servername: greeting, rejectUnauthorized: false })
        secure.on("secureConnect", () => { secure.destroy(); done("through") })
        secure.on("error", () => done("ended")); secure.on("close", () => done("ended"))
    })
}
for (const [target, greeting] of order.tunnel) {
    const text = `CONNECT ${target} HTTP/1.1\\r\\nHost: ${target}\\r\\n\\r\\n`
    say(`CONNECT ${target} ${greeting}`, await ask(text, greeting))
}
for (const url of order.get)
    say(`GET ${url}`, await ask(`GET ${url} HTTP/1.1\\r\\nHost: ${new URL(url).host}\\r\\n\\r\\n`))
console.log("SAID " + JSON.stringify(said))
"""


def probe(bench: Bench, order: dict[str, Any], **options: Any) -> tuple[dict[str, str], Result]:
    """What the probe says when it runs as a package's own script during the install."""
    package = {"scripts": {"preinstall": "node probe.mjs", "build": "true"}, "dependencies": DEPENDENCIES}
    wanted = {"connect": [], "resolve": [], "tunnel": [], "get": [], **order}
    files = {"package.json": json.dumps(package), "probe.mjs": PROBE, "order.json": json.dumps(wanted)}
    watch = Recorder()
    result = bench.run(files, watch=watch, install_scripts=True, **options)
    assert "SAID " in watch.text(), watch.text()
    return json.loads(watch.text().split("SAID ")[1].splitlines()[0]), result


@pytest.fixture(scope="module")
def registry(executor: Executor, images: Images, client: docker.DockerClient) -> str:
    """The host of npm's registry, as npm in the image names it."""
    told = client.containers.run(images.ensure(client, "chef-runner-node"), ["npm", "config", "get", "registry"],
                                 network_mode="none", remove=True)  # fmt: skip
    return told.decode().strip().split("//")[1].strip("/")


@pytest.fixture
def host_service() -> Iterator[int]:
    """A port on every address of the host, as a careless service has one."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


def host_addresses() -> list[str]:
    listed = json.loads(subprocess.run(["ip", "-json", "-4", "address"], capture_output=True, check=True).stdout)
    return [address["local"] for link in listed for address in link["addr_info"]]


def test_no_network(bench: Bench, host_service: int) -> None:
    """An install has no interface but its loopback: no host, no neighbour, no metadata service and no name server."""
    addresses = [*host_addresses(), "172.17.0.1", "172.17.0.2", "169.254.169.254", "1.1.1.1", "10.0.0.1"]
    outside = [address for address in addresses if not address.startswith("127.")]

    said, result = probe(
        bench,
        {
            "connect": [*((address, host_service) for address in addresses), *((a, 53) for a in outside), ("::1", 53)],
            "resolve": ["example.com", "host.docker.internal", "metadata.google.internal"],
        },
    )

    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert said.pop("interfaces") == "lo"
    assert set(said.values()) <= {"ENETUNREACH", "ECONNREFUSED", "EADDRNOTAVAIL", "EAI_AGAIN", "ENOTFOUND"}, said
    assert {said[f"{address}:{host_service}"] for address in outside} == {"ENETUNREACH"}


def test_proxy(bench: Bench, registry: str, host_service: int) -> None:
    """The proxy lets through to the registry's name on its port with its own greeting, and to nothing else."""
    denied = [
        *("example.com:443", f"{registry}:80", f"{registry}:22", f"{registry}.example.com:443"),
        *("1.1.1.1:443", "127.0.0.1:443", f"172.17.0.1:{host_service}", "169.254.169.254:80", "[::1]:443"),
        *("localhost:443", "metadata.google.internal:80", "x.secret-in-a-name.example.com:443"),
    ]

    said, result = probe(
        bench,
        {
            "tunnel": [
                *((target, "") for target in denied),
                *((f"{registry}:443", name) for name in (registry, "example.com")),
            ],
            "get": ["http://example.com/", f"http://{registry}/", f"http://172.17.0.1:{host_service}/", "ftp://x/"],
        },
    )

    assert said.pop(f"CONNECT {registry}:443 {registry}") == "through"
    assert said.pop(f"CONNECT {registry}:443 example.com") == "ended"
    said.pop("interfaces")
    assert {what for what, answer in said.items() if answer not in {"407", "400", "403", "closed"}} == set()
    assert result.detail["egress"][f"{registry}:443"] >= 3
    assert result.detail["egress"]["example.com:443"] == 1


def test_blocked_places_are_told(bench: Bench) -> None:
    """Where an install asks for a host that is not allowed, the log and the record name it."""
    watch = Recorder()
    files = {"package.json": json.dumps({"scripts": {"build": "true"}, "dependencies": DEPENDENCIES})}
    files[".yarnrc.yml"] = 'npmRegistryServer: "https://elsewhere.test"\n'
    files["yarn.lock"] = "__metadata:\n  version: 8\n  cacheKey: 10c0\n"

    result = bench.run(files, watch=watch)

    assert result.reason is Reason.INSTALL_FAILED
    assert "not reached, because not allowed: elsewhere.test:443" in watch.text("system")
    assert result.detail["egress"].keys() == {"elsewhere.test:443"}


@pytest.mark.parametrize("version", ["git+https://example.com/x.git", "http://example.com/x.tgz", "file:../.."])
def test_refused_sources(bench: Bench, version: str) -> None:
    """A dependency from git, another host or outside the project is refused before anything starts."""
    watch = Recorder()

    result = bench.run({"package.json": json.dumps({"dependencies": {"x": version}})}, command="true", watch=watch)

    assert (result.conclusion, result.reason) == (Conclusion.FAILURE, Reason.DEPENDENCY_SOURCE_NOT_ALLOWED)
    assert version in result.message
    assert watch.text() == ""


@pytest.fixture
def with_rules(images: Images, client: docker.DockerClient) -> Iterator[Callable[[EgressRules], Bench]]:
    """Benches with rules of their own."""
    made: list[Bench] = []

    def with_rules(rules: EgressRules) -> Bench:
        made.append(Bench(Executor(ENGINE_URL, images, service=SERVICE, rules=rules), client))
        return made[-1]

    yield with_rules
    for bench in made:
        bench.executor.close()
        assert bench.left_over() == []


@pytest.mark.parametrize(
    ("rules", "said"), [(EgressRules(received_bytes=5_000), "received"), (EgressRules(sent_bytes=500), "sent")]
)
def test_byte_caps(with_rules: Callable[[EgressRules], Bench], rules: EgressRules, said: str) -> None:
    """An install that moves more than it may is ended, and the message says which way."""
    bench = with_rules(rules)

    result = bench.run({"package.json": json.dumps({"dependencies": {"vite": "8"}})}, command="true")

    assert result.reason is Reason.INSTALL_FAILED
    assert f"it {said} more than" in result.message


def test_name_that_leads_inside(with_rules: Callable[[EgressRules], Bench]) -> None:
    """An allowed name is not let through to an address that is not public, unless its network was named."""
    target = "http://localhost:3128"  # the proxy's own loopback: the most inside there is

    said, _ = probe(with_rules(EgressRules(allow=(target,))), {"get": [target]})

    assert said[f"GET {target}"] == "407"


def test_proxy_ends_with_its_worker(images: Images, client: docker.DockerClient, tmp_path: Path) -> None:
    """A worker that is killed leaves no proxy behind."""
    service = f"{SERVICE}-killed"
    program = f"""
import sys, time, pathlib
from executor import Executor
from executor.images import Images
from executor.sandbox import Guard
from tests.engine_cases import ENGINE_URL, LIMITS
executor = Executor(ENGINE_URL, Images(pathlib.Path({str(tmp_path)!r})), service={service!r})
print(executor._settled(LIMITS).egress.door(Guard(lambda: False, ())).proxy, flush=True)
time.sleep(60)
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}  # noqa: TID251  (the worker sees what we see)
    worker = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=root, env=environment)
    assert worker.stdout
    proxy = worker.stdout.readline().decode().strip()
    assert client.containers.get(proxy).status == "running"

    worker.send_signal(signal.SIGKILL)
    worker.communicate()

    deadline = time.monotonic() + 10
    while client.api.containers(filters={"id": proxy}):
        assert time.monotonic() < deadline, "the proxy is still there"
        time.sleep(0.1)
