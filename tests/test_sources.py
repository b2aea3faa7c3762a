"""Where dependencies may come from."""

from __future__ import annotations

import json

import pytest

from executor.sources import refused, refused_requirement

ALLOWED = frozenset({"registry.test:443", "mirror.test:4873"})


def wanting(version: str, where: str = "package.json", kind: str = "dependencies") -> dict[str, str]:
    return {where: json.dumps({kind: {"thing": version}})}


@pytest.mark.parametrize(
    "version",
    [
        *("^1.2.3", "latest", "*", "npm:@scope/other@^2", "workspace:^", "catalog:", ">=1 <2 || 3.x"),
        *("https://registry.test/thing/-/thing-1.0.0.tgz", "http://mirror.test:4873/thing.tgz"),
        *("file:packages/thing", "file:./thing.tgz", "link:../project/../thing", "./thing"),
    ],
)
def test_allowed(version: str) -> None:
    """Versions, aliases, workspaces, allowed hosts and folders of the project are taken."""
    assert refused(wanting(version, "packages/one/package.json"), ALLOWED) is None


@pytest.mark.parametrize("kind", ["dependencies", "devDependencies", "optionalDependencies"])
@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("git+ssh://git@host.test/x.git", "git"),
        ("git://host.test/x.git#v1", "git"),
        ("git@host.test:me/x.git", "git"),
        ("github:me/x", "git"),
        ("me/x", "git"),
        ("me/x#semver:^1", "git"),
        ("https://host.test/x.tgz", "EGRESS_ALLOW"),
        ("HTTPS://host.test/x.tgz", "EGRESS_ALLOW"),
        ("http://registry.test/x.tgz", "EGRESS_ALLOW"),
        ("https://registry.test:8443/x.tgz", "EGRESS_ALLOW"),
        ("https://registry.test@host.test/x.tgz", "EGRESS_ALLOW"),
        ("http://169.254.169.254/x.tgz", "EGRESS_ALLOW"),
        ("http://[::1", "EGRESS_ALLOW"),
        ("file:../..", "outside"),
        ("file:/etc", "outside"),
        ("link:../../x", "outside"),
        ("../x", "outside"),
        ("~/x", "outside"),
    ],
)
def test_refused(version: str, why: str, kind: str) -> None:
    """Git, other hosts and folders outside the project are refused, with the place, the package and the reason."""
    sentence = refused(wanting(version, kind=kind), ALLOWED)

    assert sentence is not None
    assert sentence.startswith("package.json: thing comes from ")
    assert why in sentence


@pytest.mark.parametrize(
    ("lockfile", "text"),
    [
        ("package-lock.json", '{"packages": {"node_modules/x": {"resolved": "URL"}}}'),
        ("npm-shrinkwrap.json", '{"dependencies": {"x": {"resolved" : "URL"}}}'),
        ("pnpm-lock.yaml", "packages:\n  x@1:\n    resolution: {integrity: sha512-x, tarball: URL}\n"),
        ("yarn.lock", '# yarn lockfile v1\nx@^1:\n  version "1.0.0"\n  resolved "URL#1234"\n'),
        ("yarn.lock", '"x@^1":\n  version: 1.0.0\n  resolution: "x@URL"\n'),
        ("bun.lock", '{"packages": {"x": ["x@URL", {}, "sha"]}}'),
        ("bun.lock", '{"packages": {"x": ["@a/x@1.0.0", "URL", {}, "sha"]}}'),
    ],
)
def test_lockfiles(lockfile: str, text: str) -> None:
    """Every lockfile's own way to say where a package came from is read."""
    for url in ("https://host.test/x-1.0.0.tgz", "http://127.0.0.1:6379/x.tgz"):
        sentence = refused({lockfile: text.replace("URL", url)}, ALLOWED)
        assert sentence is not None
        assert sentence.startswith(f"{lockfile}: a package comes from '{url}")
    assert refused({lockfile: text.replace("URL", "https://registry.test/x-1.0.0.tgz")}, ALLOWED) is None


@pytest.mark.parametrize(
    ("lockfile", "text"),
    [
        ("package-lock.json", '{"x": {"resolved": "git+ssh://git@host.test/x.git#abc"}}'),
        ("yarn.lock", '"x@git":\n  resolution: "x@https://host.test/x.git#commit=abc"\n'),
        ("pnpm-lock.yaml", "x:\n  resolution: {commit: abc, repo: git@host.test:me/x.git, type: git}\n"),
    ],
)
def test_git_in_lockfiles(lockfile: str, text: str) -> None:
    """A repository in a lockfile is refused."""
    assert refused({lockfile: text}, ALLOWED) is not None


@pytest.mark.parametrize(
    ("lockfile", "text"),
    [
        ("package-lock.json", '{"x": {"resolved": "packages/a", "link": true, "funding": "https://pay.test"}}'),
        (
            "yarn.lock",
            '"f@patch:":\n  resolution: "f@patch:f@npm%3A~2.3#optional!builtin<compat/f>::version=2.3&h=1"\n',
        ),
        ("yarn.lock", '"x@workspace:.":\n  resolution: "x@workspace:."\n'),
        ("bun.lock", '{"packages": {"x": ["x@6.0.0", "", {"bin": ["x"]}, "sha512-a/b=="]}}'),
    ],
)
def test_harmless_lockfiles(lockfile: str, text: str) -> None:
    """Links within the project, patches and homepages are no sources."""
    assert refused({lockfile: text}, ALLOWED) is None


def test_unreadable_manifest() -> None:
    """A package.json of a dependency's fixture that is no JSON object is nobody's list of dependencies."""
    assert refused({"a/package.json": "{", "b/package.json": "[]", "c/package.json": "[" * 100_000}, ALLOWED) is None


@pytest.mark.parametrize(
    "line",
    [
        "", "# a remark", "requests", "requests==2.32.3  # why", "requests[socks]>=2,<3",
        "numpy~=2.0; python_version > '3.9'",
        "tomli==2.0.1 \\\n    --hash=sha256:00aa \\\n    --hash=sha256:11bb", "ruamel.yaml (>=0.18)",
    ],
)  # fmt: skip
def test_requirements(line: str) -> None:
    """What names a package of the index is taken."""
    assert refused_requirement(f"flask\n{line}\n") is None


@pytest.mark.parametrize(
    "line",
    [
        "git+https://example.test/x.git", "x @ git+ssh://git@example.test/x", "x @ https://example.test/x.whl",
        "https://example.test/x.whl", "file:///etc/x", "x @ file:///work/project/x", "./x", "../x", "x/", "x.whl",
        "x.tar.gz",
        "-e .", "--editable=./x", "-r others.txt", "-c others.txt", "--index-url https://example.test/simple",
        "-i https://example.test", "--extra-index-url=https://example.test", "--find-links x", "--no-binary :all:",
        "--trusted-host example.test", "--pre", "requests --global-option=x", "requests --config-settings=x", "C:\\x",
    ],
)  # fmt: skip
def test_refused_requirements(line: str) -> None:
    """What comes from elsewhere, what would be built here, and options that lead to either are refused."""
    sentence = refused_requirement(f"flask\n{line}\n")

    assert sentence
    assert f"requirements.txt: {line}" in sentence


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "thing @ SOURCE"),
        ("requirements.txt", "SOURCE"),
        ("requirements-dev.txt", "-e SOURCE#egg=thing"),
        ("requirements/dev.txt", "--index-url SOURCE"),
        ("sub/constraints.txt", "--extra-index-url=SOURCE"),
        ("requirements.txt", "--find-links SOURCE # there"),
        ("pyproject.toml", '[project]\ndependencies = ["thing @ SOURCE"]'),
        ("pyproject.toml", '[project.optional-dependencies]\ndev = ["thing@SOURCE"]'),
        ("pyproject.toml", "[dependency-groups]\ndev = [\"thing @ SOURCE ; python_version > '3'\"]"),
        ("pyproject.toml", '[build-system]\nrequires = ["thing @ SOURCE"]'),
        ("pyproject.toml", '[tool.uv.sources]\nthing = { url = "SOURCE" }'),
        ("pyproject.toml", '[[tool.uv.index]]\nname = "x"\nurl = "SOURCE"'),
        ("pyproject.toml", '[[tool.poetry.source]]\nname = "x"\nurl = "SOURCE"'),
        ("pyproject.toml", '[tool.poetry.dependencies]\nthing = { url = "SOURCE" }'),
        ("pyproject.toml", '[tool.uv]\nfind-links = ["SOURCE"]\ndev-dependencies = []'),
        ("uv.toml", '[[index]]\nurl = "SOURCE"'),
        ("uv.lock", '[[package]]\nname = "thing"\nsource = { registry = "SOURCE" }'),
        ("uv.lock", '[[package]]\nwheels = [{ url = "SOURCE", hash = "sha256:0" }]'),
        ("poetry.lock", '[package.source]\ntype = "legacy"\nurl = "SOURCE"'),
    ],
)
def test_sources_of_python(file: str, text: str) -> None:
    """Every way of a Python project to name a place is read."""
    sentence = refused({file: text.replace("SOURCE", "https://host.test/simple/thing-1.0.tar.gz")}, ALLOWED)

    assert sentence is not None
    assert sentence.startswith(f"{file}: a package comes from 'https://host.test/simple/thing-1.0.tar.gz")
    assert refused({file: text.replace("SOURCE", "https://registry.test/simple/thing-1.0.tar.gz")}, ALLOWED) is None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "thing @ git+https://host.test/x.git"),
        ("requirements.txt", "-e git+ssh://git@host.test/x.git#egg=x"),
        ("requirements.txt", "thing @ file:///etc"),
        ("pyproject.toml", '[tool.uv.sources]\nthing = { git = "https://registry.test/x" }'),
        ("pyproject.toml", '[tool.uv.sources]\nthing = { path = "../x" }'),
        ("pyproject.toml", '[tool.poetry.dependencies]\nthing = { git = "https://registry.test/x" }'),
        ("pyproject.toml", '[tool.poetry.dependencies]\nthing = { path = "/etc" }'),
        ("uv.lock", '[[package]]\nsource = { git = "https://registry.test/x#abc" }'),
        ("poetry.lock", '[package.source]\ntype = "git"\nurl = "https://registry.test/x"'),
    ],
)
def test_git_and_outside_in_python(file: str, text: str) -> None:
    """Repositories, and folders outside of the project, are refused there as well."""
    assert refused({file: text}, ALLOWED) is not None


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements.txt", "idna==3.6  # https://host.test/why\n-r more.txt\nrich[x]>=13 ; os_name == 'posix'"),
        (
            "pyproject.toml",
            '[project]\nurls = { home = "https://host.test" }\n[tool.poetry.urls]\nurl = "https://h.test"',
        ),
        ("pyproject.toml", '[tool.other]\nurl = "https://host.test"\n[tool.uv.sources]\nx = { path = "libs/x" }'),
        ("pyproject.toml", "not TOML at all"),
        ("docs/notes.txt", "see https://host.test"),
        ("uv.lock", '[[package]]\nsource = { editable = "." }\n'),
    ],
)
def test_harmless_in_python(file: str, text: str) -> None:
    """Remarks, homepages and folders of the project are no sources."""
    assert refused({file: text}, ALLOWED) is None
