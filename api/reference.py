"""The description of the API for people: a page that needs nothing from elsewhere, and docs/api.md."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from typing import Any

STYLE = """\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;color:#1b1b1b;background:#fff}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f3f3f3;padding:.6rem;overflow:auto}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc}h3 code{background:none}table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.2rem .6rem .2rem 0;border-bottom:1px solid #eee}
summary{cursor:pointer}nav a{margin-right:1rem}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}pre{background:#242424}a{color:#8ab4f8}}
"""
STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
#: The page may use its own style and nothing else.
POLICY = f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def operations(document: dict[str, Any]) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Group -> (method and path, operation), in the order of the routes."""
    groups: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append((f"{method.upper()} {path}", operation))
    return groups


def answers(operation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The answers of an operation but for those that every one has."""
    return [(status, each) for status, each in operation["responses"].items() if each["description"] not in _EVERYWHERE]


#: Said once, above all operations.
_EVERYWHERE = {
    "The address is longer than 4,094 bytes": 414,
    "The head of the request is too large": 431,
    "Something went wrong here (`internal_error`)": 500,
    "The job store does not answer (`store_unavailable`)": 503,
}
_SAID_ONCE = "Every operation may also be answered {}.".format(
    ", ".join(f"{status} ({text[0].lower()}{text[1:]})" for text, status in _EVERYWHERE.items())
)


# --- the page ---------------------------------------------------------------------------------------------------------


def page(document: dict[str, Any]) -> bytes:
    """HTML, without scripts."""
    title = f"{document['info']['title']} {document['info']['version']}"
    groups = operations(document)
    links = "".join(f'<a href="#{_slug(group)}">{_text(group)}</a>' for group in groups)
    about = (
        "".join(f"<p>{_text(part)}</p>" for part in document["info"]["description"].split("\n\n"))
        + f"<p>{_text(_SAID_ONCE)}</p>"
    )
    body = "".join(_group(name, each) for name, each in groups.items()) + _schemas(document)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><h1>{_text(title)}</h1>{about}<p><a href='/api/openapi.json'>openapi.json</a></p><nav>{links}</nav>"
        f"{body}</body></html>"
    ).encode()


def _group(name: str, listed: list[tuple[str, dict[str, Any]]]) -> str:
    return f'<h2 id="{_slug(name)}">{_text(name)}</h2>' + "".join(_operation(*each) for each in listed)


def _operation(name: str, operation: dict[str, Any]) -> str:
    parts = [f"<h3><code>{_text(name)}</code></h3><p>{_text(operation['summary'])}</p>"]
    parts.append(f"<p>Scope: {_text(operation['x-scope'])}</p>")
    if parameters := operation.get("parameters"):
        rows = "".join(f"<tr><td><code>{_text(each['name'])}</code><td>{_text(_about(each))}" for each in parameters)
        parts.append(f"<table>{rows}</table>")
    if body := operation.get("requestBody"):
        parts.append(f"<details><summary>Body</summary>{_example(next(iter(body['content'].values())))}</details>")
    parts += [_answer(status, answer) for status, answer in answers(operation)]
    return "".join(parts)


def _answer(status: str, answer: dict[str, Any]) -> str:
    contents = list(answer.get("content", {}).values())
    title = f"{_text(status)} {_text(answer['description'])}"
    shown = _example(contents[0]) if contents else ""
    return f"<details><summary>{title}</summary>{shown}</details>" if shown else f"<p>{title}</p>"


def _example(content: dict[str, Any]) -> str:
    if "examples" not in content:
        return ""
    return f"<pre>{html.escape(_shown(content['examples']['example']['value']))}</pre>"


def _schemas(document: dict[str, Any]) -> str:
    listed = "".join(
        f"<details><summary><code>{_text(name)}</code></summary><pre>{html.escape(_shown(schema))}</pre></details>"
        for name, schema in sorted(document["components"]["schemas"].items())
    )
    return f'<h2 id="models">Models</h2>{listed}'


def _slug(name: str) -> str:
    return name.lower().replace(" ", "-")


def _text(text: str) -> str:
    """Text as HTML; what stands between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _about(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    rule = ", ".join(map(str, schema["enum"])) if "enum" in schema else schema["type"]
    where = {"path": "in the path", "query": "", "header": "header"}[parameter["in"]]
    return "; ".join(filter(None, (where, parameter.get("description", ""), rule)))


# --- docs/api.md ------------------------------------------------------------------------------------------------------


def markdown(document: dict[str, Any]) -> str:
    """The same as Markdown, shorter: what there is, and one example of each."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield "# The API"
    yield ""
    yield "<!-- made by `make api` from the service's own description; tests/test_openapi.py compares -->"
    yield from ("", *document["info"]["description"].rstrip().split("\n"), "")
    yield from (_SAID_ONCE, "", "A running service has this as a page at `/docs`, for programs at `/api/openapi.json`.")
    for group, listed in operations(document).items():
        yield from ("", f"## {group}")
        for name, operation in listed:
            yield from ("", f"### `{name}`", "", f"{operation['summary']} Scope: {operation['x-scope']}.")
            yield from _details(operation)


def _details(operation: dict[str, Any]) -> Iterator[str]:
    parameters = [each for each in operation.get("parameters", ()) if each["in"] != "path"]
    if parameters:
        yield from ("", "| parameter | meaning |", "|---|---|")
        yield from (f"| `{each['name']}` | {_about(each).replace('|', chr(92) + '|')} |" for each in parameters)
    for content in operation.get("requestBody", {}).get("content", {}).values():
        example = content["examples"]["example"]["value"] if "examples" in content else "the bytes of an archive"
        yield from ("", "Body:", "", "```json", _shown(example), "```")
    yield ""
    for status, answer in answers(operation):
        yield f"- {status}: {answer['description']}"
