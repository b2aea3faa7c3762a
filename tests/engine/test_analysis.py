"""Analyses and lints of real projects with their own tools: each figure is what the tool itself says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from jobs import Conclusion, JobType, Reason
from tests import chef_project
from tests.engine_cases import Bench, Recorder

pytestmark = pytest.mark.engine

#: The official templates of Vite, as `npm create vite` unpacks them.
CREATE_VITE = "create-vite@9.3.0"
LIMITS = {"memory_bytes": 1 << 30, "total_s": 280.0, "install_s": 200.0, "command_s": 200.0}


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the official templates."""
    folder = tmp_path_factory.mktemp("create-vite")
    subprocess.run(["npm", "pack", "--silent", CREATE_VITE], cwd=folder, check=True, timeout=60)
    subprocess.run(["tar", "-xzf", next(folder.glob("*.tgz")).name], cwd=folder, check=True)
    return folder / "package"


def project(templates: Path, name: str) -> dict[str, str]:
    """One template as project files; the bytes of a picture do not matter to any tool."""
    root = templates / f"template-{name}"
    return {
        _named(path.relative_to(root)): path.read_text(errors="replace") for path in root.rglob("*") if path.is_file()
    }


def _named(path: Path) -> str:
    return str(path.with_name("." + path.name.removeprefix("_")) if path.name.startswith("_") else path)


def changed(files: dict[str, str], **more: Any) -> dict[str, str]:
    """The files with further packages in their package.json."""
    package = json.loads(files["package.json"])
    for kind, names in more.items():
        package[kind] = {**package.get(kind, {}), **names}
    return {**files, "package.json": json.dumps(package)}


def said(bench: Bench, files: dict[str, str], command: str) -> dict[str, bytes]:
    """What a command writes into dist/ in the same sandbox, whatever it ends with."""
    watch = Recorder()
    result = bench.run(files, command=f"mkdir -p dist; {command}; true", limits=LIMITS, watch=watch)
    assert result.conclusion is Conclusion.SUCCESS, result.message
    return watch.files


def analysis(bench: Bench, files: dict[str, str], **options: Any) -> dict[str, Any]:
    result = bench.run(files, kind=JobType.ANALYZE, limits=LIMITS, **options)
    assert result.conclusion is Conclusion.SUCCESS, result.message
    assert "reportInvalid" not in result.detail
    found: dict[str, Any] = result.detail["analysis"]
    return found


def test_everything_that_is_wrong(bench: Bench, templates: Path) -> None:
    """Vite, React and TypeScript with known mistakes: every part finds what its tool finds."""
    files = changed(project(templates, "react-ts"), dependencies={"clsx": "1.2.1", "is-odd": "3.0.1"})
    files["src/bad.ts"] = (
        "import type x from 'ms'\nimport isOdd from 'is-odd'\nexport const a: string = isOdd(x)\ndebugger\n"
    )
    files["src/main.tsx"] = "import { a } from './bad'\nconsole.log(a)\n" + files["src/main.tsx"]
    del files[".gitignore"]  # which need not be sent
    tools = (
        "tsc --noEmit -p tsconfig.app.json --pretty false >dist/tsc.txt",
        "oxlint --ignore-pattern=node_modules --format json >dist/oxlint.json",
        "npm ls --all --parseable --long >dist/ls.txt",
        "vite build --outDir dist/app",
    )
    own = said(bench, files, "; ".join(tools))

    found = analysis(bench, files, command="vite build")

    check_types(found["types"], own["tsc.txt"].decode().replace("/work/project/", "").splitlines())
    oxlint = json.loads(own["oxlint.json"])["diagnostics"]
    assert oxlint
    assert [(each["filename"], each["code"], each["severity"], each["message"]) for each in oxlint] == [
        (each["file"], each["rule"], each["severity"], each["message"]) for each in found["lint"]["issues"]
    ]
    check_dependencies(found["dependencies"], own["ls.txt"].decode().splitlines()[1:])
    check_bundle(found["bundle"], {path[4:]: len(each) for path, each in own.items() if path.startswith("app/")})


def check_types(found: dict[str, Any], tsc: list[str]) -> None:
    shown = [
        f"{each['file']}({each['line']},{each['column']}): error {each['rule']}: {each['message']}"
        for each in found["issues"]
    ]
    assert [line.partition("\n")[0] for line in shown] == [line for line in tsc if line.startswith("src/")]
    assert found["errors"] == len(shown) >= 2


def check_dependencies(found: dict[str, Any], installed: list[str]) -> None:
    assert found["unused"]["packages"] == [{"name": "clsx", "dev": False}]
    assert found["missing"]["packages"] == [{"name": "ms", "file": "src/bad.ts", "line": 1}]
    assert found["unresolved"]["imports"] == []
    (clsx,) = [each for each in found["outdated"]["packages"] if each["name"] == "clsx"]
    assert (clsx["current"], clsx["wanted"], clsx["major"]) == ("1.2.1", "1.2.1", True)
    assert found["duplicates"]["installed"] == len({line.split(":")[1] for line in installed})
    assert found["licenses"]["licenses"][0]["license"] == "MIT"
    assert found["licenses"]["unknown"] == []


def check_bundle(found: dict[str, Any], built: dict[str, int]) -> None:
    """Each chunk has the size of the built file; its modules make up nearly all of it."""
    assert {chunk["file"]: chunk["bytes"] for chunk in found["chunks"]}.items() <= built.items()
    assert found["bytes"] == sum(built.values())
    script = found["chunks"][0]
    assert script["file"].endswith(".js")
    assert 0.95 < sum(module["bytes"] for module in script["modules"]) / script["bytes"] <= 1
    assert script["modules"][0]["file"].startswith("node_modules/react-dom/")
    assert found["packages"][0]["name"] == "react-dom"
    assert {"", "react", "scheduler", "is-odd"} <= {each["name"] for each in found["packages"]}


@pytest.mark.parametrize(
    ("name", "component", "library"),
    [("vue-ts", "src/Bad.vue", "@vue/runtime-core"), ("svelte-ts", "src/Bad.svelte", "svelte")],
)
def test_official_templates(bench: Bench, templates: Path, name: str, component: str, library: str) -> None:
    """A template's own checker finds what is wrong in a component and nothing else; it builds, and uses all it has."""
    files = project(templates, name)
    files[component] = '<script lang="ts">\nconst n: number = "text"\nconsole.log(n)\n</script>\n'

    found = analysis(bench, files, command="vite build")

    assert [(each["file"], each["line"], each["column"], each["rule"]) for each in found["types"]["issues"]] == [
        (component, 2, 7, "TS2322")
    ]
    assert found["dependencies"]["missing"] == {"packages": []}
    assert found["dependencies"]["unused"] == {"packages": []}
    assert library in {each["name"] for each in found["bundle"]["packages"]}


def test_chef_project(bench: Bench) -> None:
    """A project as Chef makes it: all its type checks run but the script that needs a deployment, and it is built."""
    package = json.loads(chef_project.FILES["package.json"])
    del package["devDependencies"]["eslint"]  # a hundred packages, for no rule
    files = {**chef_project.FILES, "package.json": json.dumps(package)}
    files |= {"src/bad.ts": "export const a: string = 1\n", "convex/bad.ts": "export const b: string = 1\n"}

    found = analysis(bench, files)

    assert [(each["file"], each["rule"]) for each in found["types"]["issues"]] == [
        ("src/bad.ts", "TS2322"), ("convex/bad.ts", "TS2322"),
    ]  # fmt: skip
    assert (found["lint"]["errors"], found["lint"]["warnings"]) == (0, 0)
    assert found["dependencies"]["unused"]["packages"] == found["dependencies"]["missing"]["packages"] == []
    majors = {each["name"] for each in found["dependencies"]["outdated"]["packages"] if each["major"]}
    assert {"vite", "typescript", "@vitejs/plugin-react"} <= majors
    assert {"", "react-dom", "convex", "clsx"} <= {each["name"] for each in found["bundle"]["packages"]}


def test_own_rules(bench: Bench) -> None:
    """A project of plain JavaScript without any linter is checked by rules of ours; warnings alone do not fail it."""
    wrong = "export const f = (a) => a === NaN ? nowhere : 1\n"
    files = {
        "dist/made.js": wrong,
        "src/a.js": wrong,
        "src/b.jsx": "import x from 'y'\nexport const B = () => document.title\n",
    }

    result = bench.run(files, kind=JobType.LINT)
    fine = bench.run({"src/b.jsx": files["src/b.jsx"]}, kind=JobType.LINT)

    assert result.reason is Reason.LINT_FAILED, result.message
    issues = result.detail["lint"]["issues"]
    assert {(each["file"], each["line"], each["column"], each["rule"], each["severity"]) for each in issues} == {
        ("src/a.js", 1, 31, "eslint(use-isnan)", "error"),
        ("src/a.js", 1, 37, "eslint(no-undef)", "error"),
        ("src/b.jsx", 1, 8, "eslint(no-unused-vars)", "warning"),
    }  # fmt: skip
    assert fine.conclusion is Conclusion.SUCCESS, fine.message
    assert (fine.detail["lint"]["errors"], fine.detail["lint"]["warnings"]) == (0, 1)


def test_nothing_to_install(bench: Bench) -> None:
    """Without packages the files are counted, and each other part says why it is not there."""
    found = analysis(bench, {"a.txt": "one\ntwo", "b/c.txt": "three\n", "empty": ""})

    counts = {each["type"]: (each["files"], each["bytes"], each["lines"]) for each in found["files"]["types"]}
    assert counts[".txt"] == (2, 13, 3)
    assert counts[""] == (1, 0, 0)
    assert found["files"]["files"] == 4  # with the package.json that was made
    assert found["bundle"]["skipped"].startswith("nothing builds")
    assert all(part["skipped"] == "the project has no packages" for part in found["dependencies"].values())


def test_a_build_that_fails(bench: Bench) -> None:
    """Its last words are told, what it left running is not waited for, and the job is a success as an analysis."""
    found = analysis(bench, {"a.txt": "one"}, command="setsid sleep 300 & echo no such thing >&2; exit 3")

    assert found["bundle"] == {"skipped": "the build failed (exit code 3): no such thing"}
