"""What a project is made with, from its package.json and its files."""

from __future__ import annotations

from typing import Any

import pytest

from executor import detect

MODULE = "import test from 'node:test'"


def dev(*names: str, **versions: str) -> dict[str, Any]:
    return {"devDependencies": dict.fromkeys(names, "*") | versions}


@pytest.mark.parametrize(
    ("packages", "found"),
    [
        (("vite", "react"), {"framework": "vite", "library": "react"}),
        (("next", "react"), {"framework": "next", "library": "react"}),
        (("vite", "@sveltejs/kit", "svelte"), {"framework": "sveltekit", "library": "svelte"}),
        (("vite", "astro"), {"framework": "astro"}),
        (("vue",), {"library": "vue"}),
        ((), {}),
    ],
)
def test_framework(packages: tuple[str, ...], found: dict[str, str]) -> None:
    """A framework that is built on another is the one that is named."""
    assert detect.framework(dev(*packages)) == found


RUNNERS: list[tuple[dict[str, str], dict[str, Any], str | None]] = [
    ({"src/a.test.ts": ""}, dev("vitest", "vite"), "vitest"),
    ({"src/__tests__/a.tsx": ""}, dev("jest"), "jest"),
    ({"test/a.js": ""}, dev("mocha"), "mocha"),
    ({"src/a.ts": ""}, dev("vitest"), None),
    ({"a.test.mjs": MODULE}, {}, "node"),
    ({"test/a.js": "const t = require('node:test')"}, {}, "node"),
    ({"a.test.js": "no runner"}, {}, None),
    ({"a.js": MODULE}, {}, None),
]


@pytest.mark.parametrize(("files", "manifest", "runner"), RUNNERS)
def test_test_runner(files: dict[str, str], manifest: dict[str, Any], runner: str | None) -> None:
    """The runner that is installed, or Node's own, and only if there are tests for it."""
    assert detect.test_runner(files, manifest) == runner


LINTERS: list[tuple[set[str], dict[str, Any], tuple[str, ...]]] = [
    ({"eslint.config.js"}, dev("eslint"), ("eslint",)),
    ({"eslint.config.ts", ".eslintrc"}, dev("eslint"), ("eslint",)),
    ({".eslintrc.json"}, dev("eslint"), ("eslint-old",)),
    (set(), {**dev("eslint"), "eslintConfig": {}}, ("eslint-old",)),
    (set(), dev("eslint"), ()),
    ({"eslint.config.js"}, {}, ()),
    ({"sub/eslint.config.js"}, dev("eslint"), ()),
    ({"biome.jsonc"}, dev("@biomejs/biome"), ("biome",)),
    ({".oxlintrc.json", "eslint.config.mjs"}, dev("oxlint", "eslint"), ("eslint", "oxlint")),
    (set(), dev("oxlint"), ("oxlint",)),
]


@pytest.mark.parametrize(("files", "manifest", "linters"), LINTERS)
def test_linters(files: set[str], manifest: dict[str, Any], linters: tuple[str, ...]) -> None:
    """A linter counts if it is installed, and configured where it must be."""
    assert detect.linters(files, manifest) == linters


ROOT = '{"files": [], /* see */ "references": [{"path": "./tsconfig.app.json"}, {"path": "convex"}],} // end'


@pytest.mark.parametrize(
    ("files", "checked"),
    [
        ({"tsconfig.json": "{}", "convex/tsconfig.json": "{}"}, ("tsconfig.json", "convex/tsconfig.json")),
        (
            {"tsconfig.json": ROOT, "tsconfig.app.json": "{}", "convex/tsconfig.json": "{}"},
            ("tsconfig.app.json", "convex/tsconfig.json"),
        ),
        (
            {"tsconfig.json": '{"references": [{"path": "a"}]}', "a/tsconfig.json": "{}"},
            ("tsconfig.json", "a/tsconfig.json"),
        ),
        ({"tsconfig.json": '{"files": [], "references": [{"path": "../x"}, 7]}'}, ("tsconfig.json",)),
        ({"tsconfig.json": "no JSON"}, ("tsconfig.json",)),
        ({"tsconfig.base.json": "{}"}, ()),
    ],
)
def test_type_checks(files: dict[str, str], checked: tuple[str, ...]) -> None:
    """Every tsconfig.json is checked; one that only refers to others stands for them."""
    assert detect.type_checks(files) == checked


def test_relaxed_json() -> None:
    """Comments and trailing commas go, except in texts."""
    text = '{"a": "// no, /* comment */", /* b */ "c": ["x,}",], // d\n}'

    assert detect.relaxed(text) == {"a": "// no, /* comment */", "c": ["x,}"]}
    assert detect.relaxed("[]") == detect.relaxed("{") == detect.relaxed("[" * 100_000) == {}


READS = [
    ("src/a.ts", "import.meta.env.VITE_X", True),
    ("src/a.vue", "import.meta.env['VITE_X']", True),
    ("index.html", "<title>%VITE_X%</title>", True),
    ("src/a.ts", "import.meta.env.VITE_X ?? 'd'", False),
    ("src/a.ts", "import.meta.env.VITE_X || 'd'", False),
    ("src/a.ts", "import.meta.env.MODE", False),
    ("src/a.ts", "new C(import.meta.env.VITE_X as string)", True),
    ("src/a.ts", "f(import.meta.env.VITE_X!)", True),
    ("src/a.ts", "import.meta.env?.VITE_X.trim()", True),
    ("src/a.ts", "import.meta.env.VITE_X?.trim()", True),
    ("src/a.ts", "(import.meta.env.VITE_X as string | undefined) ?? 'd'", False),
    ("src/a.ts", "import.meta.env['VITE_X']! || 'd'", False),
    ("src/a.ts", "import.meta.env.VITE_X ? a : b", False),
    ("src/a.ts", "import.meta.env.VITE_X && report()", False),
    ("src/a.ts", "const { VITE_X, MODE } = import.meta.env", True),
    ("src/a.ts", "const { VITE_X: url } = import.meta.env", True),
    ("src/a.ts", "const { VITE_X = 'd' } = import.meta.env", False),
    ("src/a.ts", "const { VITE_X } = import.meta.env.nested", False),
    ("src/a.ts", "  // import.meta.env.VITE_X", False),
    ("src/a.ts", "/**\n * import.meta.env.VITE_X\n */", False),
    ("src/a.ts", "const u = 'http://a/' + import.meta.env.VITE_X", True),
    ("src/a.test.ts", "import.meta.env.VITE_X", False),
    ("README.md", "import.meta.env.VITE_X", False),
]


@pytest.mark.parametrize(("path", "text", "missing"), READS)
def test_missing_env(path: str, text: str, missing: bool) -> None:
    """A variable that sources read without a default is missing."""
    assert detect.missing_env({path: text}, dev("vite"), {}) == (("VITE_X",) if missing else ())


@pytest.mark.parametrize(
    ("files", "environment"),
    [
        ({}, {"VITE_X"}),
        ({".env": "A=1\nVITE_X=1\n"}, set()),
        ({".env.production": "export VITE_X = 1"}, set()),
        ({"vite.config.ts": "define: {'import.meta.env.VITE_X': '1'}"}, set()),
    ],
)
def test_env_that_is_set(files: dict[str, str], environment: set[str]) -> None:
    """A variable of the job, of an .env file or of Vite's configuration is not missing."""
    sources = {"src/a.ts": "import.meta.env.VITE_X"}

    assert detect.missing_env({**sources, **files}, dev("vite"), environment) == ()
    assert detect.missing_env({**sources, ".env.development": "VITE_X=1"}, dev("vite"), set()) == ("VITE_X",)
    assert detect.missing_env(sources, {}, set()) == ()


@pytest.mark.parametrize(
    ("command", "mode"),
    [
        ("vite build", "production"),
        ("vite build --mode staging", "staging"),
        ("tsc && vite build --mode=development", "development"),
        ("vite build -m 'test'", "test"),
        ("make --mode", "production"),
    ],
)
def test_mode(command: str, mode: str) -> None:
    """The mode of a build decides which .env files count."""
    files = {"src/a.ts": "import.meta.env.VITE_X", f".env.{mode}": "VITE_X=1"}

    assert detect.mode(command) == mode
    assert detect.missing_env(files, dev("vite"), (), mode) == ()
    assert detect.missing_env(files, dev("vite"), (), "other") == ("VITE_X",)


@pytest.mark.parametrize(
    "text",
    [
        '"' + '\\"' * 300_000,
        "/*" * 300_000,
        "," * 300_000,
        '"\\',
        "\n" * 300_000,
        '["' * 300_000,
        "{VITE_" * 60_000,
        "{" * 300_000,
        "import.meta.env.VITE_X as " * 20_000,
        " " * 300_000,
        "// " * 100_000,
    ],
)
def test_endless_texts(text: str) -> None:
    """A text of half-open strings and comments takes no more time than it has characters."""
    assert detect.relaxed(text) == {}
    assert set(detect.missing_env({".env": text, "a.ts": text}, dev("vite"), set())) <= {"VITE_X"}
