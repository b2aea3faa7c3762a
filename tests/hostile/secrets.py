"""H67: a job that shows the secrets in its own environment, as they are and in other forms."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

from jobs import Reason
from tests.hostile.items import Item, Seen, js

SECRET = 's3cr3t/with+more "and" &=é'
PEM = (
    "-----BEGIN KEY-----\n"
    + "\n".join(base64.b64encode(bytes([n] * 36)).decode() for n in range(4))
    + "\n-----END KEY-----\n"
)
NAME = "name-of-a-secret-file"
ENV = {"API_TOKEN": SECRET, "PRIVATE_PEM": PEM, "NAME_KEY": NAME}
SHOW = """
import fs from "node:fs"
const { API_TOKEN: secret, PRIVATE_PEM: pem, NAME_KEY: name } = process.env
const pause = () => new Promise((done) => setTimeout(done, 30))
const raw = Buffer.from(secret)
for (const half of [secret.slice(0, 7), secret.slice(7), "\\n"]) { process.stdout.write(half); await pause() }
console.log("in", `prefix${secret}suffix`, JSON.stringify({ secret }), encodeURIComponent(secret), new URLSearchParams({ secret }))
for (const lead of ["", "x", "xy"]) console.log(Buffer.from(lead + secret).toString("base64"), Buffer.from(lead + secret).toString("base64url"))
console.log(raw.toString("hex"), raw.toString("hex").toUpperCase())
console.error(pem); console.error(pem.split("\\n").map((line) => `  | ${line}`).join("\\n"))
process.stdout.write("y".repeat(16380) + secret + "\\n")
fs.mkdirSync("dist"); fs.writeFileSync(`dist/${name}.txt`, ""); fs.symlinkSync("/etc", `dist/${name}`)
END
"""
FAIL = SHOW.replace("END", "throw Error(`cannot log in with ${secret} ${pem}`)")
KEEP = SHOW.replace("END", "fs.writeFileSync('dist/ok.txt', '')")


def forms() -> list[str]:
    """The secrets as they are, and in the forms that programs print."""
    raw = SECRET.encode()
    return [
        SECRET, NAME, json.dumps(SECRET)[1:-1], json.dumps(SECRET, ensure_ascii=False)[1:-1], quote(SECRET, safe=""),
        quote_plus(SECRET), raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode(),
        *(base64.b64encode(lead + raw).decode()[4:-4] for lead in (b"x", b"xy")),
        base64.urlsafe_b64encode(raw).decode().rstrip("="), *(line for line in PEM.splitlines() if len(line) > 30),
        SECRET[:12],
    ]  # fmt: skip


def masked(seen: Seen) -> None:
    """Neither record, log, message nor names of files show a secret in any form."""
    text = seen.everything()
    assert [form for form in forms() if form in text] == []
    assert "***" in text


def name_is_skipped(seen: Seen) -> None:
    """A file whose name holds a secret is not kept; the others are."""
    assert set(seen.artifacts) == {"ok.txt"}, list(seen.artifacts)


def request_is_not_shown(seen: Seen) -> None:
    """No answer repeats the environment, nor what the request's files hold."""
    assert "API_TOKEN" not in json.dumps(seen.record["result"]["usage"])
    assert not {"env", "data", "projectFiles"} & seen.record.keys()


ITEMS = (
    js("H67", "shows its secrets in every form, and crashes with them", FAIL, data={"env": ENV},
       reason=Reason.BUILD_FAILED, checks=(masked, request_is_not_shown), quick=True),
    js("H67", "puts its secrets into names of files", KEEP, data={"env": ENV}, checks=(masked, name_is_skipped)),
    Item(number="H67", what="prints a secret one character a line, reversed, or encrypted",
         cannot="such a program cannot be hindered: masking is for accidents (docs/security.md)"),
)  # fmt: skip
