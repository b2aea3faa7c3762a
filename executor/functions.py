"""Pure: a function job -> its plan. Its answer is a report that our caller writes; what the function prints is its log.

The caller (tools/invoke.mjs, tools/invoke.py) runs in the sandbox beside the function, so the answer is the function's
own word; that it is one, and JSON, and small, is decided outside (reports/function.py).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calls import shown_name
from executor import installers, recipes, sources, spec
from executor.commands import REPORTS, Report
from executor.images import NODE, PYTHON
from executor.recipes import Plan, Work
from executor.reports.function import MAX_VALUE_BYTES
from jobs import Call, JobType, Phase, Reason, Request

TOOL = "function"
REPORT = Report("function.json", TOOL, TOOL)
#: Below the project, so that it is packed with it; invoke.py looks for modules there.
PACKAGES = ".packages"
_TOOLS = Path(__file__).parent / "tools"
#: A tree is packed without links, so these lay out modules without them; the others do so by themselves.
_WITHOUT_LINKS = {"pnpm": {"npm_config_node_linker": "hoisted"}, "yarn": {"YARN_NODE_LINKER": "node-modules"}}
_REASONS = {
    "thrown": Reason.FUNCTION_FAILED,
    "handler": Reason.HANDLER_NOT_FOUND,
    "value": Reason.RESULT_INVALID,
    "size": Reason.RESULT_TOO_LARGE,
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs the functions of one language: the image, our caller, and the command that starts it."""

    image: str
    caller: str
    program: str


RUNTIMES = {
    "node": Runtime(NODE, "invoke.mjs", "node"),
    "python": Runtime(PYTHON, "invoke.py", "python3 -u"),
}


def planned(request: Request) -> Plan:
    """What to do for a job of any type. Raises recipes.Unworkable."""
    return plan(request, request.call) if request.call else recipes.plan(request)


def plan(request: Request, call: Call) -> Plan:
    """What to do for a function job. Raises recipes.Unworkable."""
    runtime = RUNTIMES[call.runtime]
    version = {"name": shown_name(call.name), "version": call.version} if call.name else {}
    work = Work(
        type=JobType.FUNCTION,
        command=f"{runtime.program} {spec.WORK}/tools/{runtime.caller}",
        phase=Phase.INVOKING,
        failed=Reason.FUNCTION_EXITED,
        outputs=(".",) if call.makes_version else (),
        reports=(REPORT,),
        facts={"call": {"runtime": call.runtime, "handler": call.handler, **version}},
        fault=fault,
    )
    tools = {runtime.caller: (_TOOLS / runtime.caller).read_text(), "call.json": _order(call)}
    return replace(_project(request, call), image=runtime.image, works=(work,), tools=tools)


def fault(detail: Mapping[str, Any]) -> tuple[Reason, str] | None:
    """Why a call that ended well has no value all the same: the reason, and a sentence; None if it has one."""
    answer = detail.get(TOOL)
    if answer is None:
        why = next((each["reason"] for each in detail.get("reportInvalid", ())), "")
        if why == "it was not written":
            return Reason.FUNCTION_EXITED, "the function ended its process before it returned"
        return Reason.RESULT_INVALID, f"the answer cannot be used: {why}"
    if error := answer.get("error"):
        sentence = error["message"]
        if error["kind"] == "thrown":
            sentence = f"the function threw {error['type']}: {sentence}"
        return _REASONS[error["kind"]], sentence
    return None


def _order(call: Call) -> str:
    """What the caller reads."""
    return json.dumps(
        {
            "file": call.file,
            "export": call.export,
            "event": call.event,
            "check": call.makes_version,
            "report": f"{REPORTS}/{REPORT.path}",
            "maxBytes": MAX_VALUE_BYTES,
        }
    )


def _project(request: Request, call: Call) -> Plan:
    """The files, and how their dependencies are installed, if there are any."""
    bare = Plan(files=dict(request.files), image=NODE, install=(), environment={}, works=())
    if call.package:
        return replace(bare, files={})
    if call.runtime == "python":
        return replace(bare, install=_pip(request, call), environment={"PIP_CERT": spec.CA_BUNDLE})
    if "package.json" not in request.files and not request.dependencies:
        return bare
    # As a test's: nothing is added to a package.json, and one that is made does not say which kind of modules it has.
    files = {"package.json": '{"private": true}', **request.files}
    made = recipes.plan(replace(request, type=JobType.TEST, files=files, command="true"))
    layout = _WITHOUT_LINKS.get(installers.chosen(files, files).name, {})
    return replace(made, environment={**made.environment, **layout})


def _pip(request: Request, call: Call) -> tuple[str, ...]:
    """One command, or none. Without installScripts only wheels are taken: nothing of a package runs.

    Raises recipes.Unworkable: requirements.txt asks for more than packages of the index.
    """
    wanted = [f"{name}{specifier}" for name, specifier in request.dependencies.get("dependencies", {}).items()]
    listed = ["-r", "requirements.txt"] if "requirements.txt" in request.files else []
    if refused := sources.refused_requirement(request.files.get("requirements.txt", "")):
        raise recipes.Unworkable(Reason.DEPENDENCY_SOURCE_NOT_ALLOWED, refused)
    if not wanted and not listed:
        return ()
    options = ["--quiet", "--no-cache-dir", "--no-compile", "--disable-pip-version-check", "--root-user-action=ignore"]
    scripts = [] if request.install_scripts else ["--only-binary", ":all:"]
    pip = shlex.join(["python3", "-m", "pip", "install", *options, *scripts, "--target", PACKAGES, *listed, *wanted])
    if not call.makes_version:
        return (pip,)
    # Compiled once for all calls. Unchecked, because files that are unpacked have another time than when compiled.
    compiled = f"python3 -m compileall -qq --invalidation-mode unchecked-hash {PACKAGES}"
    return (f"{pip} && {{ {compiled} || true; }}",)
