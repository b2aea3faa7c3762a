"""Pure: what a project is made with, by its package.json and the names of its files, and what it lacks."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Manifest = Mapping[str, Any]

#: By the package that tells; what is built on another comes before it.
FRAMEWORKS = {
    "next": "next",
    "nuxt": "nuxt",
    "astro": "astro",
    "@sveltejs/kit": "sveltekit",
    "@tanstack/react-start": "tanstack-start",
    "@react-router/dev": "react-router",
    "@remix-run/dev": "remix",
    "@angular/core": "angular",
    "gatsby": "gatsby",
    "react-scripts": "create-react-app",
    "@vue/cli-service": "vue-cli",
    "vite": "vite",
    "parcel": "parcel",
    "webpack": "webpack",
}
LIBRARIES = ("react", "vue", "svelte", "solid-js", "preact", "lit")
MAX_CHECKS = 20
_KINDS = ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies")

_TEST_FILE = re.compile(r"(?:.*/)?(?:__tests__/.+|[^/]+[.-](?:test|spec))\.[cm]?[jt]sx?")
_NODE_TEST_FILE = re.compile(r"(?:.*/)?(?:test/.+|test|test-[^/]+|[^/]+[._-]test)\.[cm]?[jt]s")
_USES_NODE_TEST = re.compile(r"""(?:from|require\(|import)\s*['"]node:test['"]""")

_ESLINT_FLAT = re.compile(r"eslint\.config\.[cm]?[jt]s")
_ESLINT_OLD = re.compile(r"\.eslintrc(?:\.(?:c?js|json|ya?ml))?")
_BIOME = re.compile(r"\.?biome\.jsonc?")
_OXLINT = re.compile(r"\.oxlintrc\.jsonc?|oxlint\.config\.ts")

# What has no end goes to the end of the text, or every beginning of one would be searched for its end again.
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*"?)|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_TRAILING = re.compile(r'("(?:[^"\\]|\\.)*"?)|,(?=\s*[}\]])', re.DOTALL)

_SOURCE = re.compile(r".+\.(?:[cm]?[jt]sx?|vue|svelte|astro|html)")
_CONFIG = re.compile(r"(?:.*/)?vite\.config\.[cm]?[jt]s")
#: A variable that is asked for, or has a default beside it, is not missed; a cast or a bracket may stand between.
_READ = re.compile(
    r"""import\.meta\.env(?:\??\.|(?:\?\.)?\[['"])(VITE_\w+)\b(?!['"\]]*!?(?:\s{1,9}as\s[\w |]{1,40}?)?\s{0,9}\)?"""
    r"""\s{0,99}(?:\?(?!\.)|\|\||&&))|%(VITE_\w+)%"""
)
_UNPACKED = re.compile(r"\{([^{}]{1,500})\}\s{0,9}=\s{0,9}import\.meta\.env\b(?!\.)")
_UNPACKED_NAME = re.compile(r"\s*(VITE_\w+)\b(?![^=]*=)")
_COMMENT_LINE = re.compile(r"^[ \t]*(?://|\*|/\*).*$", re.MULTILINE)
_MODE = re.compile(r"\s(?:--mode|-m)[ =]['\"]?([\w.-]+)")
_SET = re.compile(r"^[ \t]*(?:export[ \t]+)?(VITE_\w+)[ \t]*=", re.MULTILINE)


def packages(manifest: Manifest) -> dict[str, str]:
    """All packages that a manifest asks for, with their versions."""
    found: dict[str, str] = {}
    for kind in _KINDS:
        wanted = manifest.get(kind)
        found |= {name: str(version) for name, version in wanted.items()} if isinstance(wanted, dict) else {}
    return found


def framework(manifest: Manifest) -> dict[str, str]:
    """{framework, library}, each only if it is known."""
    wanted = packages(manifest)
    names = {
        "framework": next((name for package, name in FRAMEWORKS.items() if package in wanted), ""),
        "library": next((name for name in LIBRARIES if name in wanted), ""),
    }
    return {kind: name for kind, name in names.items() if name}


def major(version: str) -> int:
    """The first number of a version range; 0 if it has none."""
    found = re.search(r"\d{1,6}", version)
    return int(found[0]) if found else 0


def test_runner(files: Mapping[str, str], manifest: Manifest) -> str | None:
    """The runner of a project that has tests but no script for them: its program, or node for node:test."""
    wanted = packages(manifest)
    if runner := next((name for name in ("vitest", "jest", "mocha") if name in wanted), None):
        has_tests = any(_TEST_FILE.fullmatch(path) or path.startswith("test/") for path in files)
        return runner if has_tests else None
    mine = (text for path, text in files.items() if _NODE_TEST_FILE.fullmatch(path))
    return "node" if any(_USES_NODE_TEST.search(text) for text in mine) else None


def linters(files: Collection[str], manifest: Manifest) -> tuple[str, ...]:
    """The linters that are installed and configured: eslint, eslint-old (.eslintrc), biome, oxlint."""
    wanted = packages(manifest)
    names = {path for path in files if "/" not in path}
    is_old = "eslintConfig" in manifest or _has(names, _ESLINT_OLD)
    eslint = "eslint" if _has(names, _ESLINT_FLAT) else "eslint-old" if is_old else None
    found = (
        eslint if "eslint" in wanted else None,
        "biome" if "@biomejs/biome" in wanted and _has(names, _BIOME) else None,
        "oxlint" if "oxlint" in wanted and (_has(names, _OXLINT) or not eslint) else None,
    )
    return tuple(name for name in found if name)


def type_checks(files: Mapping[str, str]) -> tuple[str, ...]:
    """The tsconfig files to check, in order: every tsconfig.json, and what one refers to that has no files itself."""
    found: dict[str, None] = {}
    roots = (path for path in files if posixpath.basename(path) == "tsconfig.json")
    for path in sorted(roots, key=lambda each: (each.count("/"), each)):
        config = relaxed(files[path])
        referred = [target for target in _references(path, config) if target in files]
        is_root_only = config.get("files") == [] and "include" not in config
        found |= dict.fromkeys(referred if is_root_only and referred else (path,))
    return tuple(found)[:MAX_CHECKS]


def relaxed(text: str) -> dict[str, Any]:
    """JSON with comments and trailing commas; {} if it is not even that."""
    plain = _COMMENT.sub(lambda match: match[1] or " ", text.removeprefix("\ufeff"))
    try:
        found = json.loads(_TRAILING.sub(lambda match: match[1] or "", plain))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def mode(command: str) -> str:
    """The mode that a command builds in, by Vite's option for it."""
    found = _MODE.search(command)
    return found[1] if found else "production"


def missing_env(
    files: Mapping[str, str], manifest: Manifest, environment: Collection[str], mode: str = "production"
) -> tuple[str, ...]:
    """VITE_* variables that a Vite project's sources read, without a default, and that nothing sets in this mode.

    Such a project builds, and is broken: the variable is undefined in it.
    """
    if "vite" not in packages(manifest):
        return ()
    known = set(environment)
    for name in (".env", ".env.local", f".env.{mode}", f".env.{mode}.local"):
        known.update(_SET.findall(files.get(name, "")))
    configs = "".join(text for path, text in files.items() if _CONFIG.fullmatch(path))
    used = {name for path, text in files.items() if _is_source(path) for name in _names(text)}
    return tuple(sorted(name for name in used - known if name not in configs))[:100]


def _has(names: Collection[str], pattern: re.Pattern[str]) -> bool:
    return any(map(pattern.fullmatch, names))


def _references(path: str, config: Mapping[str, Any]) -> Iterator[str]:
    entries = config.get("references")
    for entry in entries if isinstance(entries, list) else ():
        target = entry.get("path") if isinstance(entry, dict) else None
        if isinstance(target, str):
            joined = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
            yield joined if joined.endswith(".json") else f"{joined}/tsconfig.json"


def _is_source(path: str) -> bool:
    return bool(_SOURCE.fullmatch(path)) and not _CONFIG.fullmatch(path) and not _TEST_FILE.fullmatch(path)


def _names(text: str) -> Iterator[str]:
    """The variables that a source reads without a default."""
    code = _COMMENT_LINE.sub("", text)
    yield from (name for found in _READ.findall(code) for name in found if name)
    for names in _UNPACKED.findall(code):
        yield from (found[1] for part in names.split(",") if (found := _UNPACKED_NAME.match(part)))
