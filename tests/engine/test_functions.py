"""Functions in their sandboxes: what they return, what they do instead of returning, and versions made once."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

import calls
from calls import Call, Package
from jobs import Conclusion, JobType, Reason, Result
from tests.engine_cases import Bench, Recorder

pytestmark = pytest.mark.engine

MEGABYTE = 1 << 20
#: An installation takes two seconds, and a minute on a machine that does much else.
PATIENT = {"total_s": 250.0, "install_s": 200.0}


def call(
    bench: Bench, files: dict[str, str], handler: str = "index.handler", event: Any = None, **options: Any
) -> Result:
    """Run one call of a function."""
    runtime = "python" if any(path.endswith(".py") for path in files) else "node"
    file, export = calls.found(handler, runtime, files)
    return bench.run(files, kind=JobType.FUNCTION, call=Call(runtime, file, export, event), **options)


def node(bench: Bench, body: str, event: Any = None, **options: Any) -> Result:
    """Call an asynchronous function with this body."""
    return call(
        bench, {"index.mjs": f"export const handler = async (event, context) => {{ {body} }}"}, event=event, **options
    )


def python(bench: Bench, body: str, event: Any = None, **options: Any) -> Result:
    """Call a function with this body."""
    return call(bench, {"main.py": f"def handler(event, context):\n    {body}\n"}, "main.handler", event, **options)


def value(result: Result) -> Any:
    """What a function that must have returned did return."""
    assert result.conclusion is Conclusion.SUCCESS, (result.reason, result.message)
    return result.detail["function"]["value"]


def error(result: Result) -> dict[str, Any]:
    """The error of a function that must have failed."""
    assert result.conclusion is Conclusion.FAILURE, result
    found: dict[str, Any] = result.detail["function"]["error"]
    return found


EVENT: dict[str, Any] = {
    "text": "häß 🦊 \u2028",
    "numbers": [1, -2.5, 1e21, 0],
    "none": None,
    "deep": {"a": [[]]},
    "": True,
}


@pytest.mark.parametrize("call_with", [node, python])
def test_event_comes_back(bench: Bench, call_with: Any) -> None:
    """A value goes in as JSON and comes out as the same value; beside it are the duration and the log."""
    watch = Recorder()
    say = "console.log('seen')" if call_with is node else "print('seen')"

    result = call_with(bench, f"{say}; return event", EVENT, watch=watch)

    assert value(result) == EVENT
    assert 0 < result.detail["function"]["durationMs"] < 10_000
    assert watch.text("stdout") == "seen\n"
    assert [phase.name for phase in result.phases] == ["preparing", "invoking", "collecting"]


@pytest.mark.parametrize("call_with", [node, python])
def test_context(bench: Bench, call_with: Any) -> None:
    """The second argument names the job and the moment at which it is ended."""
    job = bench.job()
    before = time.time()

    context = value(call_with(bench, "return context", job=job, limits={"command_s": 20.0}))

    assert context["jobId"] == job.id
    assert before + 20 <= context["deadlineMs"] / 1000 <= time.time() + 20


MODULES = {
    "src/deep.mjs": "import { seven } from './number.mjs'\nexport const f = seven",
    "src/number.mjs": "export const seven = async () => 7",
}
TYPED = "interface A { n: number }\nexport function handler(event: A): number { return 7 }"
PACKAGE = {
    "app/__init__.py": "N = 7",
    "app/main.py": "from . import N\nfrom app import other\ndef f(e, c):\n    return other.n",
    "app/other.py": "from app import N as n",
}


@pytest.mark.parametrize(
    ("files", "handler"),
    [
        ({"index.js": "exports.handler = () => 7"}, "index.handler"),
        ({"index.cjs": "module.exports = { handler: () => 7 }"}, "index.handler"),
        ({"index.js": "export default () => 7"}, "index.default"),
        ({"index.cjs": "module.exports = () => 7"}, "index.default"),
        (MODULES, "src/deep.f"),
        ({"index.ts": TYPED}, "index.handler"),
        ({"package.json": '{"type": "module"}', "index.js": "export const handler = () => 7"}, "index.handler"),
        ({"main.py": "async def handler(event, context):\n    return 7"}, "main.handler"),
        ({"json.py": "def handler(event, context):\n    return 7"}, "json.handler"),
        (PACKAGE, "app/main.f"),
    ],
)
def test_handlers(bench: Bench, files: dict[str, str], handler: str) -> None:
    """ESM, CommonJS, default exports, TypeScript, modules of the project, asynchronous or not: all are called."""
    assert value(call(bench, files, handler)) == 7


def test_throws(bench: Bench) -> None:
    """An exception comes back with its type, its message and its stack, which names the function's own file alone."""
    body = "const fail = () => { throw new RangeError('not that many: ü') }; fail()"

    result = node(bench, body)

    assert (result.reason, result.exit_code) == (Reason.FUNCTION_FAILED, None)
    assert "RangeError: not that many: ü" in result.message
    found = error(result)
    assert (found["kind"], found["type"], found["message"]) == ("thrown", "RangeError", "not that many: ü")
    assert "at fail (index.mjs:1:" in found["stack"]
    assert "invoke.mjs" not in found["stack"]


def test_raises(bench: Bench) -> None:
    """The same in Python."""
    result = python(bench, "return {}['missing']")

    assert result.reason is Reason.FUNCTION_FAILED
    assert (error(result)["type"], error(result)["message"]) == ("KeyError", "'missing'")
    assert 'File "main.py", line 2, in handler' in error(result)["stack"]
    assert "invoke.py" not in error(result)["stack"]


FOR_EVER = "await new Promise(() => setInterval(() => {}, 99))"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("throw 'a text'", "string"),
        ("throw null", "object"),
        (f"setTimeout(() => {{ throw new TypeError('later') }}); {FOR_EVER}", "TypeError"),
        (f"Promise.reject(new SyntaxError('unseen')); {FOR_EVER}", "SyntaxError"),
        ("await new Promise(() => {})", "Unsettled"),
    ],
)
def test_unusual_throws(bench: Bench, body: str, kind: str) -> None:
    """What is thrown later, unseen, or is no error at all ends the call as well; so does a promise without a future."""
    assert error(node(bench, body))["type"] == kind


@pytest.mark.parametrize("files", [{"index.mjs": "export const handler = ("}, {"main.py": "import nowhere"}])
def test_file_that_cannot_be_loaded(bench: Bench, files: dict[str, str]) -> None:
    """A file that cannot be loaded is the function's failure, told like any other."""
    handler = "main.handler" if "main.py" in files else "index.handler"

    found = error(call(bench, files, handler))

    assert found["type"] in {"SyntaxError", "ModuleNotFoundError"}


@pytest.mark.parametrize("files", [{"index.mjs": "export const other = 1"}, {"main.py": "handler = 1"}])
def test_missing_export(bench: Bench, files: dict[str, str]) -> None:
    """A file without the export ends with a reason of its own."""
    result = call(bench, files, "main.handler" if "main.py" in files else "index.handler")

    assert result.reason is Reason.HANDLER_NOT_FOUND
    assert "handler" in result.message


@pytest.mark.parametrize("body", [FOR_EVER, "for (;;);"])
def test_never_returns(bench: Bench, body: str) -> None:
    """A function that never returns, idle or busy, is ended at its limit."""
    result = node(bench, body, limits={"command_s": 2.0})

    assert (result.conclusion, result.reason) == (Conclusion.TIMEOUT, Reason.TIMEOUT)
    assert "2 s" in result.message


@pytest.mark.parametrize(
    ("call_with", "body"), [(node, "return 'x'.repeat(5 << 20)"), (python, "return 'x' * (5 << 20)")]
)
def test_five_megabytes(bench: Bench, call_with: Any, body: str) -> None:
    """A value beyond a megabyte is not taken, and the reason says how large it was."""
    result = call_with(bench, body)

    assert result.reason is Reason.RESULT_TOO_LARGE
    assert str((5 << 20) + 2) in result.message


def test_just_a_megabyte(bench: Bench) -> None:
    """A value of exactly a megabyte as JSON is taken whole."""
    assert value(node(bench, f"return 'ü'.repeat({(MEGABYTE - 2) // 2})")) == "ü" * ((MEGABYTE - 2) // 2)


@pytest.mark.parametrize(
    ("call_with", "body", "words"),
    [
        (node, "return { a: [1, NaN] }", "NaN"),
        (node, "return -Infinity", "-Infinity"),
        (node, "return { big: 2n ** 70n }", "BigInt"),
        (node, "const a = {}; a.self = a; return a", "circular"),
        (node, "return () => 1", "function"),
        (node, "let a = []; for (let i = 0; i < 500; i++) a = [a]; return a", "levels deep"),
        (python, "return float('nan')", "JSON compliant"),
        (python, "return {1, 2}", "set is not JSON serializable"),
        (python, "a = []; a.append(a); return a", "Circular"),
        (python, "return 10 ** 5000", ""),
    ],
)
def test_values_that_are_not_json(bench: Bench, call_with: Any, body: str, words: str) -> None:
    """What JSON does not have is refused with words that say what it was."""
    result = call_with(bench, body)

    assert result.reason is Reason.RESULT_INVALID, result
    assert words in result.message


@pytest.mark.parametrize(("call_with", "body"), [(node, "return undefined"), (node, "return null"), (python, "pass")])
def test_nothing_returned(bench: Bench, call_with: Any, body: str) -> None:
    """A function without a value has null for one."""
    assert value(call_with(bench, body)) is None


@pytest.mark.parametrize(
    ("call_with", "body", "code"),
    [
        (node, "process.exit(0)", 0),
        (node, "process.exit(3)", 3),
        (python, "raise SystemExit(0)", 0),
        (python, "import os; os._exit(9)", 9),
    ],
)
def test_exits(bench: Bench, call_with: Any, body: str, code: int) -> None:
    """A function that ends its process has not returned, whatever its exit code."""
    result = call_with(bench, body)

    assert result.reason is Reason.FUNCTION_EXITED
    assert "ended its process before it returned" in result.message
    if code:
        assert result.exit_code == code


def test_memory(bench: Bench) -> None:
    """A function that takes more memory than it may have is told apart from one that fails."""
    result = node(
        bench, "const kept = []; for (;;) kept.push(Buffer.alloc(16 << 20, 1))", limits={"memory_bytes": 128 << 20}
    )

    assert (result.conclusion, result.reason) == (Conclusion.OOM, Reason.OUT_OF_MEMORY)


def test_output_is_no_answer(bench: Bench) -> None:
    """Whatever a function prints, changes or leaves running, its value is what it returns."""
    body = """
      console.log('{"durationMs":0,"value":"forged"}'); console.log('::set-output name=value::forged')
      setInterval(() => {}, 1000); process.on('exit', () => console.log('bye')); JSON.stringify = () => '"forged"'
      process.stdout.write('\\u001b]0;title\\u0007'); return 'real'"""

    assert value(node(bench, body)) == "real"


@pytest.mark.parametrize("report", ["[]", '{"durationMs":1}', "{", '{"value":1e999}', '{"value":NaN}', "\\xff"])
def test_forged_report(bench: Bench, report: str) -> None:
    """A report that a function writes itself is read with the same care, and a broken one is no value."""
    write = f"writeFileSync('/work/reports/function.json', Buffer.from('{report}', 'latin1'))"

    result = node(bench, f"(await import('node:fs')).{write}; process.exit(0)")

    assert result.reason is Reason.RESULT_INVALID


def test_dependency_of_node(bench: Bench) -> None:
    """A package is installed and used."""
    wanted = {"dependencies": {"ms": "2.1.3"}}

    result = call(bench, {"index.mjs": DAYS}, event="2 days", dependencies=wanted, limits=PATIENT)

    assert value(result) == 172_800_000
    assert "installing" in [phase.name for phase in result.phases]


def test_dependency_of_python(bench: Bench) -> None:
    """A package of the index is installed, beside those that requirements.txt lists, and used."""
    source = "import six, tomli_w\ndef handler(event, context):\n    return [six.__version__, tomli_w.dumps(event)]"
    files = {"main.py": source, "requirements.txt": "tomli_w==1.2.0\n"}

    wanted = {"dependencies": {"six": "==1.17.0"}}

    result = call(bench, files, "main.handler", {"a": 1}, dependencies=wanted, limits=PATIENT)

    assert value(result) == ["1.17.0", "a = 1\n"]


def test_unknown_dependency(bench: Bench) -> None:
    """A package that the index does not have fails the installation and is named."""
    wanted = {"dependencies": {"this-package-does-not-exist-3f9a": "==1.0"}}

    result = python(bench, "return 1", dependencies=wanted, limits=PATIENT)

    assert result.reason is Reason.INSTALL_FAILED
    assert "this-package-does-not-exist-3f9a" in result.message


DAYS = "import ms from 'ms'\nexport const handler = (event) => ms(event)"
DAYS_IN_PYTHON = "import six\ndef handler(event, context):\n    return 172800000 if six.PY3 else 0"


@pytest.mark.parametrize(
    ("runtime", "files", "wanted"),
    [("node", {"index.mjs": DAYS}, {"ms": "2.1.3"}), ("python", {"index.py": DAYS_IN_PYTHON}, {"six": ""})],
)
def test_version(bench: Bench, runtime: str, files: dict[str, str], wanted: dict[str, str]) -> None:
    """A version is installed once; calls begin with its tree, without files and without an installation."""
    (file,) = files
    watch, made = Recorder(), Call(runtime, file, "handler", name="days", version=1)
    result = bench.run(
        files,
        kind=JobType.FUNCTION,
        watch=watch,
        call=made,
        limits=PATIENT,
        dependencies={"dependencies": wanted},
    )
    assert result.conclusion is Conclusion.SUCCESS, result.message
    (tree,) = result.artifacts

    for _ in range(2):
        package = Package(bench.ran[0], 1, tree.sha256, tree.size)
        again = replace(made, package=package, event="2 days")
        answered = bench.run({}, kind=JobType.FUNCTION, call=again, tree=[watch.files[tree.path]])
        assert value(answered) == 172_800_000
        assert [phase.name for phase in answered.phases] == ["preparing", "invoking", "collecting"]
        assert answered.detail["call"] == {"runtime": runtime, "handler": "index.handler", "name": "days", "version": 1}


def test_version_that_cannot_be_loaded(bench: Bench) -> None:
    """A version whose handler is not there is not made."""
    result = bench.run(
        {"index.mjs": ""}, kind=JobType.FUNCTION, call=Call("node", "index.mjs", "handler", name="broken", version=1)
    )

    assert (result.reason, result.artifacts) == (Reason.HANDLER_NOT_FOUND, ())
