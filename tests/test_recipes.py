"""From a request to a plan of commands."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from executor import installers
from executor.recipes import RECIPES, Plan, Unworkable, Work, merge, plan
from jobs import JobType, Reason, Request
from tests import chef_project

BERRY_LOCK = "__metadata:\n  version: 8\n"
PACKAGE = {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "^8"}}
INSTALLS = [
    ({}, "npm", ["npm install --no-audit --no-fund --ignore-scripts"]),
    (
        {"package-lock.json": "{}"},
        "npm",
        ["npm ci --no-audit --no-fund --ignore-scripts", "npm install --no-audit --no-fund --ignore-scripts"],
    ),
    (
        {"npm-shrinkwrap.json": "{}"},
        "npm",
        ["npm ci --no-audit --no-fund --ignore-scripts", "npm install --no-audit --no-fund --ignore-scripts"],
    ),
    (
        {"pnpm-lock.yaml": ""},
        "pnpm",
        [
            "pnpm install --frozen-lockfile --ignore-scripts --ignore-pnpmfile",
            "pnpm install --no-frozen-lockfile --ignore-scripts --ignore-pnpmfile",
        ],
    ),
    (
        {"yarn.lock": "# yarn lockfile v1"},
        "yarn",
        [
            "yarn install --non-interactive --frozen-lockfile --ignore-scripts",
            "yarn install --non-interactive --ignore-scripts",
        ],
    ),
    (
        {"yarn.lock": BERRY_LOCK},
        "yarn",
        ["yarn install --immutable --mode=skip-build", "yarn install --no-immutable --mode=skip-build"],
    ),
    (
        {"bun.lock": "{}"},
        "bun",
        ["bun install --frozen-lockfile --ignore-scripts", "bun install --no-frozen-lockfile --ignore-scripts"],
    ),
]


def request(files: dict[str, str] | None = None, package: Any = PACKAGE, **fields: Any) -> Request:
    given = {"package.json": json.dumps(package)} if package is not None else {}
    return Request(type=fields.pop("type", JobType.BUILD), files={**given, **(files or {})}, **fields)


def work(made: Plan) -> Work:
    """The only work of a plan."""
    (found,) = made.works
    return found


@pytest.mark.parametrize(("lockfile", "tool", "commands"), INSTALLS, ids=lambda value: str(value)[:24])
def test_lockfile_chooses_the_tool(lockfile: dict[str, str], tool: str, commands: list[str]) -> None:
    """The lockfile decides who installs: first as locked, then, if that is refused, without the lock."""
    made = plan(request(lockfile))

    assert list(made.install) == commands
    assert work(made).command == f"{tool} run build"


def test_berry_is_another_program() -> None:
    """A lockfile of Yarn 2 or later is read by that Yarn, one of Yarn 1 by Yarn 1."""
    assert "/opt/yarn-berry/bin" in plan(request({"yarn.lock": BERRY_LOCK})).environment["PATH"]
    assert "PATH" not in plan(request({"yarn.lock": ""})).environment


def test_install_scripts_on_request() -> None:
    """Install scripts are off unless the request wants them."""
    made = plan(request(install_scripts=True))

    assert made.install == ("npm install --no-audit --no-fund",)
    assert made.install_scripts
    assert not plan(request()).install_scripts


def test_every_type_has_a_recipe() -> None:
    """No job type is without a row in the table; functions have a file of their own."""
    assert {*RECIPES, JobType.FUNCTION} == set(JobType)


def test_no_package_json() -> None:
    """A project without package.json is taken to be a Vite page."""
    made = plan(request({"index.html": ""}, package=None))

    manifest = json.loads(made.files["package.json"])
    assert manifest["scripts"] == {"dev": "vite", "build": "vite build", "preview": "vite preview"}
    assert (manifest["name"], manifest["private"], manifest["type"]) == ("chef-project", True, "module")
    assert manifest["devDependencies"] == {"vite": "^8"}
    assert work(made).command == "npm run build"


def test_package_json_stays_as_it_is() -> None:
    """A package.json that needs no change keeps every byte."""
    text = '{ "scripts": {"build": "x"},\n\n "dependencies": {"a": "1"} }'

    made = plan(Request(JobType.BUILD, {"package.json": text}, dependencies={"dependencies": {"a": "1"}}))

    assert made.files["package.json"] == text


MERGES: list[tuple[dict[str, Any], dict[str, dict[str, str]], dict[str, Any], bool]] = [
    ({}, {}, {}, False),
    ({}, {"dependencies": {"a": "1"}}, {"dependencies": {"a": "1"}}, True),
    ({"dependencies": {"a": "1"}}, {"dependencies": {"a": "2"}}, {"dependencies": {"a": "2"}}, True),
    ({"dependencies": {"a": "1"}}, {"dependencies": {"a": "1"}}, {"dependencies": {"a": "1"}}, False),
    ({"devDependencies": {"a": "1"}}, {"dependencies": {"a": "1"}}, {"devDependencies": {"a": "1"}}, False),
    ({"devDependencies": {"a": "1"}}, {"dependencies": {"a": "2"}}, {"devDependencies": {"a": "2"}}, True),
    ({"dependencies": {"a": "1"}}, {"devDependencies": {"b": "2"}},
     {"dependencies": {"a": "1"}, "devDependencies": {"b": "2"}}, True),
    ({"devDependencies": {"a": "1"}}, {"peerDependencies": {"a": "2"}},
     {"devDependencies": {"a": "1"}, "peerDependencies": {"a": "2"}}, True),
]  # fmt: skip


@pytest.mark.parametrize(("manifest", "wanted", "expected", "changed"), MERGES)
def test_merge(
    manifest: dict[str, Any], wanted: dict[str, dict[str, str]], expected: dict[str, Any], changed: bool
) -> None:
    """The request's versions win; a package keeps its place; equal versions change nothing."""
    assert merge(manifest, wanted) is changed
    assert manifest == expected


def test_changed_manifest_needs_no_frozen_install() -> None:
    """When packages were added the lockfile cannot match, so the strict install is not even tried."""
    made = plan(request({"package-lock.json": "{}"}, dependencies={"dependencies": {"react": "^19"}}))

    assert made.install == ("npm install --no-audit --no-fund --ignore-scripts",)
    assert json.loads(made.files["package.json"])["dependencies"] == {"react": "^19"}


def test_nothing_to_install() -> None:
    """Without any dependency there is no install."""
    assert plan(request(package={"scripts": {"build": "node x.js"}, "dependencies": {}})).install == ()


@pytest.mark.parametrize(
    "package", ['{"scripts": }', "[]", '"x"', "", "[" * 100_000, '{"scripts": []}', '{"dependencies": 1}']
)
def test_broken_package_json(package: str) -> None:
    """A package.json that is none makes the project invalid, before anything is started."""
    with pytest.raises(Unworkable, match=r"package\.json") as unworkable:
        plan(Request(JobType.BUILD, {"package.json": package}))

    assert unworkable.value.reason is Reason.INVALID_PROJECT


def test_broken_package_json_says_where() -> None:
    """The message has the place of the mistake."""
    with pytest.raises(Unworkable, match="line 1 column 13"):
        plan(Request(JobType.BUILD, {"package.json": '{"scripts": }'}))


COMMANDS = [
    (JobType.BUILD, {"command": "make"}, "make"),
    (JobType.BUILD, {}, "npm run build"),
    (JobType.TEST, {"test_command": "ava", "command": "other"}, "ava"),
    (JobType.TEST, {"command": "ava"}, "ava"),
    (JobType.TEST, {}, "npm run test"),
    (JobType.LINT, {"command": "standard"}, "standard"),
    (JobType.LINT, {}, "npm run lint"),
]


@pytest.mark.parametrize(("job_type", "fields", "command"), COMMANDS)
def test_command(job_type: JobType, fields: dict[str, Any], command: str) -> None:
    """The caller's own command wins over the package's script."""
    package = {"scripts": {"build": "b", "test": "t", "lint": "l"}}

    assert work(plan(request(package=package, type=job_type, **fields))).command == command


@pytest.mark.parametrize("job_type", [JobType.BUILD, JobType.TEST, JobType.LINT])
@pytest.mark.parametrize(
    "scripts", [{}, {"build": "", "test": " ", "lint": ""}, {"build": 1, "test": None, "lint": []}]
)
def test_no_command(job_type: JobType, scripts: dict[str, Any]) -> None:
    """With neither command nor script there is nothing to run, and the message names both."""
    with pytest.raises(
        Unworkable, match=r"no script named '(build|test|lint)'.*no (command|testCommand)"
    ) as unworkable:
        plan(request(package={"scripts": scripts}, type=job_type))

    assert unworkable.value.reason is Reason.COMMAND_NOT_FOUND


NO_TEST = 'echo "Error: no test specified" && exit 1'
CHEF_LINT = "tsc -p convex -noEmit && tsc -p . -noEmit && convex dev --once && vite build"
TS_FILES = {"tsconfig.json": "{}", "convex/tsconfig.json": "{}"}
DEFAULTS: list[tuple[JobType, dict[str, str], dict[str, Any], list[str]]] = [
    (JobType.TEST, {"a.test.js": ""}, {"devDependencies": {"vitest": "^4"}}, ["vitest run --run"]),
    (JobType.TEST, {"a.test.js": "import 'node:test'"}, {"scripts": {"test": NO_TEST}}, ["node --test --test-"]),
    (JobType.LINT, {"eslint.config.js": ""}, {"devDependencies": {"eslint": "^9"}}, ["eslint . --format json"]),
    (JobType.LINT, {".eslintrc": ""}, {"devDependencies": {"eslint": "^8"}}, ["eslint . --ext .js"]),
    (JobType.LINT, {".eslintrc": ""}, {"devDependencies": {"eslint": "^9"}}, ["ESLINT_USE_FLAT_CONFIG=false eslint"]),
    (JobType.LINT, {"biome.json": ""}, {"devDependencies": {"@biomejs/biome": "^2"}}, ["biome lint . --max-"]),
    (JobType.LINT, {}, {"devDependencies": {"oxlint": "^1"}}, ["oxlint --ignore-pattern=node_modules --format json"]),
    (
        JobType.LINT,
        TS_FILES,
        {"devDependencies": {"typescript": "^5"}, "scripts": {"lint": CHEF_LINT}},
        ["code=0 ; tsc --noEmit -p tsconfig.json", "tsc --noEmit -p convex/tsconfig.json"],
    ),
    (JobType.LINT, TS_FILES, {"devDependencies": {"typescript": "^5"}, "scripts": {"lint": "x"}}, ["npm run lint"]),
    (JobType.LINT, {"a.js": ""}, {}, ["/opt/checks/node_modules/.bin/oxlint -c /work/tools/oxlint.json --ignore"]),
    (JobType.LINT, {"tsconfig.json": "{}", "a.ts": ""}, {}, ["/opt/checks/node_modules/.bin/oxlint"]),
    (JobType.LINT, {"tsconfig.json": "{}"}, {"devDependencies": {"vue-tsc": "3", "typescript": "6"}}, ["vue-tsc --no"]),
    (
        JobType.LINT,
        {"tsconfig.json": "{}", "a/tsconfig.json": '{"include": ["**/*.svelte"]}'},
        {"devDependencies": {"svelte-check": "4", "typescript": "6"}},
        ["code=0 ; tsc --noEmit -p tsconfig.json", "svelte-check --tsconfig a/tsconfig.json --output machine-verbose"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("job_type", "files", "package", "parts"), DEFAULTS)
def test_default_command(job_type: JobType, files: dict[str, str], package: dict[str, Any], parts: list[str]) -> None:
    """Without a script that can run here, the tools that the project has are called."""
    made = plan(request(files, package=package, type=job_type))

    assert work(made).command.startswith(parts[0])
    assert all(part in work(made).command for part in parts)


def test_no_tests() -> None:
    """A project without tests says so."""
    with pytest.raises(Unworkable, match="no tests: ") as unworkable:
        plan(request(package={"devDependencies": {"vitest": "^4"}}, type=JobType.TEST))

    assert unworkable.value.reason is Reason.COMMAND_NOT_FOUND


def test_berry_runs_its_scripts() -> None:
    """With Yarn's own way to store packages, only its scripts find programs, so they are left as they are."""
    made = plan(request({"yarn.lock": BERRY_LOCK}, package={"scripts": {"test": "vitest"}}, type=JobType.TEST))

    assert (work(made).command, work(made).reports) == ("yarn run test", ())


def test_facts_of_a_build() -> None:
    """A build tells its framework and the variables that it misses; a test does not."""
    package = {"scripts": {"build": "b", "test": "t"}, "devDependencies": {"vite": "^8", "react": "^19"}}
    files = {"src/a.ts": "import.meta.env.VITE_CONVEX_URL"}

    made = plan(request(files, package=package))

    assert work(made).facts == {"framework": "vite", "library": "react", "missingEnv": ["VITE_CONVEX_URL"]}
    assert made.notes == ("VITE_CONVEX_URL is not set, so it is undefined in the build: add it to env",)
    assert work(plan(request(files, package=package, type=JobType.TEST))).facts == {}
    assert "missingEnv" not in work(plan(request(files, package=package, env={"VITE_CONVEX_URL": "u"}))).facts


OUT_DIRS = [
    ("vite.config.ts", "build: { outDir: 'public_html' }", ("public_html",)),
    ("vite.config.mjs", 'build: { "outDir": "./web/out/" }', ("web/out",)),
    ("vite.config.js", "build: { outDir: '../outside' }", ()),
    ("vite.config.js", "build: { outDir: '/etc' }", ()),
    ("vite.config.js", "build: { outDir: `${base}/x` }", ()),
    ("vite.config.js", "build: {}", ()),
    ("sub/vite.config.js", "build: { outDir: 'x' }", ()),
]


@pytest.mark.parametrize(("path", "text", "folders"), OUT_DIRS)
def test_output_folders(path: str, text: str, folders: tuple[str, ...]) -> None:
    """A folder named in Vite's configuration comes before the usual ones, unless it is outside the project."""
    assert work(plan(request({path: text}))).outputs == (*folders, "dist", "build", "out", ".output")


def test_only_builds_have_output() -> None:
    """Tests and lints keep no files."""
    assert work(plan(request(package={"scripts": {"test": "t"}}, type=JobType.TEST))).outputs == ()


def test_submitted_node_modules_and_git() -> None:
    """Files in node_modules and .git are not used, and the log says so."""
    made = plan(
        request({"node_modules/.bin/vite": "evil", "a/node_modules/x.js": "", ".git/config": "", "src/a.ts": ""})
    )

    assert set(made.files) == {"package.json", "src/a.ts"}
    assert made.notes == ("2 files in node_modules are ignored", "1 files in .git are ignored")


def test_npmrc() -> None:
    """An .npmrc keeps what lays out node_modules; what could send the installer elsewhere is dropped, and named."""
    npmrc = "registry=http://evil/\nlegacy-peer-deps = true\n# note=1\nscript-shell=./x\n//evil/:_authToken=secret\n"

    made = plan(request({".npmrc": npmrc}))

    assert made.files[".npmrc"] == "legacy-peer-deps = true\n"
    assert made.notes == (".npmrc: ignored registry, script-shell, //evil/:_authToken",)


SAID = [
    ("npm error code EUSAGE\nnpm error Missing: x", True, False),
    ("ERR_PNPM_OUTDATED_LOCKFILE  Cannot install", True, False),
    ("error Your lockfile needs to be updated, but yarn was run with `--frozen-lockfile`.", True, False),
    ("YN0028: The lockfile would have been modified by this install", True, False),
    ("error: lockfile had changes, but lockfile is frozen", True, False),
    ("npm error code ENOTFOUND\nnpm error network request failed", False, True),
    ("npm error code E503", False, True),
    ("npm error code E404\nnpm error 404 Not Found", False, False),
    ("npm warn ECONNRESET, trying again\nnpm error code ERESOLVE", False, False),
    ("npm warn ECONNRESET, trying again\nnpm error code ECONNRESET", False, True),
    ("npm error code ETARGET\nnpm error notarget No matching version", False, False),
    ("getaddrinfo EAI_AGAIN host.example", False, True),
    ("ERR_PNPM_FETCH_404  GET x: Not Found", False, False),
    ("ERR_PNPM_META_FETCH_FAIL  request failed, reason: ENOTFOUND", False, True),
    ("There appears to be trouble with your network connection. Retrying...", False, True),
    ("error: ConnectionRefused downloading package manifest", False, True),
    ("a program failed", False, False),
]


@pytest.mark.parametrize(("text", "refused", "unreachable"), SAID)
def test_what_installers_say(text: str, refused: bool, unreachable: bool) -> None:
    """A refused lockfile, a registry out of reach, and the project's own mistakes are told apart."""
    found = set(installers.SIGNS.findall(text))

    assert installers.refused_lockfile(found) is refused
    assert installers.registry_unreachable(found) is unreachable


@pytest.mark.parametrize(
    ("yaml", "kept"),
    [
        ("nodeLinker: node-modules\n", "nodeLinker: node-modules\n"),
        ("yarnPath: ./evil.cjs\nnodeLinker: pnp\n", "nodeLinker: pnp\n"),
        ("plugins:\n  - path: ./evil.cjs\n    spec: x\nnpmScopes:\n  mine:\n    npmRegistryServer: https://mine.test\n",
         "npmScopes:\n  mine:\n    npmRegistryServer: https://mine.test\n"),
        ("plugins:\n- ./evil.cjs\n", ""), ("{plugins: [./evil.cjs]}\n", ""), ('"plugins":\n  - ./evil.cjs\n', ""),
        ("? plugins\n: [./evil.cjs]\n", ""), ("nodeLinker: pnp\rplugins: [./evil.cjs]", "nodeLinker: pnp\n"),
        ("nodeLinker: pnp\u2028plugins: [./evil.cjs]", "nodeLinker: pnp\n"),
        ("---\nplugins: [x]\n--- {plugins: [x]}", ""),
        ("\tplugins: [x]\n", ""), ("<<: {plugins: [x]}\n", ""), ("plugins : [x]\n", ""),
    ],
)  # fmt: skip
def test_yarn_settings(yaml: str, kept: str) -> None:
    """Of Yarn's settings only those stay that neither load code of the project nor lead the install elsewhere."""
    made = plan(request({".yarnrc.yml": yaml, "yarn.lock": "__metadata:\n"}, package=PACKAGE))

    assert made.files[".yarnrc.yml"] == kept
    assert (kept == yaml) != any("ignored" in note for note in made.notes)


def test_chef_project() -> None:
    """A project as Chef makes it is linted by its type checks, and its build misses what only the platform sets."""
    lint = work(plan(Request(JobType.LINT, chef_project.FILES)))
    build = work(plan(Request(JobType.BUILD, chef_project.FILES)))

    checked = re.findall(r"tsc --noEmit -p (\S+)", lint.command)
    assert checked == ["tsconfig.app.json", "tsconfig.node.json", "convex/tsconfig.json"]
    assert build.command == "npm run build"
    assert build.facts == {"framework": "vite", "library": "react", "missingEnv": ["VITE_CONVEX_URL"]}
    with pytest.raises(Unworkable, match="no tests"):
        plan(Request(JobType.TEST, chef_project.FILES))
