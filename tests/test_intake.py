"""What a submission may hold, and how each mistake in it is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InvalidRequest, Mistake
from form import MAX_MISTAKES
from intake import Bounds, parse
from jobs import JobType, Request
from npm import package_fault, version_fault
from paths import path_fault

BOUNDS = Bounds(max_files=5, max_project_bytes=100)


def body_of(**data: Any) -> bytes:
    return json.dumps({"type": "build", "data": {"projectFiles": {"a.txt": "hi"}, **data}}).encode()


def accepted(body: bytes) -> Request:
    return parse(body, BOUNDS)[0]


def mistakes_in(body: bytes, bounds: Bounds = BOUNDS) -> list[Mistake]:
    with pytest.raises(InvalidRequest) as caught:
        parse(body, bounds)
    return caught.value.mistakes


def only(body: bytes) -> Mistake:
    (mistake,) = mistakes_in(body)
    return mistake


def test_smallest_submission() -> None:
    """A type and one file are enough; priority is 5 unless given."""
    request = accepted(b'{"type":"lint","data":{"projectFiles":{"a.txt":"hi"}}}')

    assert request == Request(type=JobType.LINT, files={"a.txt": "hi"}, priority=5)


def test_everything_is_taken_over() -> None:
    """Every field arrives under its inner name; strategy is accepted and dropped."""
    request = accepted(
        json.dumps(
            {
                "type": "test",
                "priority": 20,
                "data": {
                    "chatId": "chat 1 ☃",
                    "projectFiles": {"src/a.ts": "x"},
                    "dependencies": {"react": "^18"},
                    "command": "vite build",
                    "testCommand": "vitest run",
                    "env": {"VITE_KEY": ""},
                    "strategy": "webcontainer",
                    "installScripts": True,
                },
            }
        ).encode()
    )

    assert request == Request(
        type=JobType.TEST,
        priority=20,
        files={"src/a.ts": "x"},
        chat_id="chat 1 ☃",
        dependencies={"dependencies": {"react": "^18"}},
        command="vite build",
        test_command="vitest run",
        env={"VITE_KEY": ""},
        install_scripts=True,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b'{"type":"build"',
        b"[" * 50_000,
        b'{"type":' * 50_000,
        b'{"priority":NaN}',
        b'{"priority":-Infinity}',
        b'{"priority":' + b"9" * 5_000 + b"}",
        b'\xef\xbb\xbf{"type":"build"}',
        '{"type":"build"}'.encode("utf-16"),
        '{"type":"build"}'.encode("utf-16-le"),
        b'{"type":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"type":"\xed\xa0\x80"}',
        b'{"type":"\xff"}',
        b'{"type":"build"} {}',
        b'{"type":"build","type":"build"}',
        b'{"type":"build","\\u0074ype":"build"}',
        b'{"data":{"projectFiles":{"a":"x","a":"y"}}}',
        b"null",
        b"[]",
        b'"text"',
        b"5",
    ],
    ids=lambda body: repr(body[:24]),
)
def test_not_a_json_object(body: bytes) -> None:
    """What is not one JSON object in UTF-8 with unique keys and standard numbers is one mistake of the whole body."""
    mistake = only(body)

    assert mistake.pointer == "#"
    assert mistake.detail.startswith("The body must be")


@pytest.mark.parametrize("priority", ["true", "false", "0", "21", "-1", '"high"', '"5"', "5.5", "1e400", "null", "[]"])
def test_priority(priority: str) -> None:
    """A priority is a whole number from 1 to 20 and nothing that resembles one."""
    mistake = only(b'{"type":"build","priority":%s,"data":{"projectFiles":{"a":""}}}' % priority.encode())

    assert mistake.pointer == "#/priority"
    assert "priority must be a whole number from 1 to 20" in mistake.detail


@pytest.mark.parametrize(
    ("data", "pointer", "detail"),
    [
        ({"projectFiles": None}, "#/data/projectFiles", "projectFiles must be a map of file paths"),
        ({"projectFiles": ["a"]}, "#/data/projectFiles", "projectFiles must be a map of file paths"),
        ({"projectFiles": {}}, "#/data/projectFiles", "projectFiles is empty"),
        ({"projectFiles": {"a": 1}}, "#/data/projectFiles/a", "content of a file must be a string"),
        ({"projectFiles": {"a": "ü" * 51}}, "#/data/projectFiles", "102 bytes in all; at most 100"),
        ({"projectFiles": dict.fromkeys("abcdef", "")}, "#/data/projectFiles", "6 files; at most 5"),
        ({"projectFiles": {"a": "", "a/b": ""}}, "#/data/projectFiles/a", "both a file and the folder"),
        ({"projectFiles": {"a/b": "", "a/b/c/d": ""}}, "#/data/projectFiles/a~1b", "both a file and the folder"),
        ({"command": "x" * 4_097}, "#/data/command", "command must be a string of at most 4,096 characters"),
        ({"command": "a\0b"}, "#/data/command", "without NUL"),
        ({"testCommand": ["npm"]}, "#/data/testCommand", "testCommand must be a string"),
        ({"chatId": "x" * 201}, "#/data/chatId", "chatId must be a string of at most 200"),
        ({"chatId": "a\nb"}, "#/data/chatId", "without control characters"),
        ({"chatId": 7}, "#/data/chatId", "chatId must be a string"),
        ({"strategy": 7}, "#/data/strategy", "strategy must be a string"),
        ({"installScripts": "yes"}, "#/data/installScripts", "installScripts must be true or false"),
        ({"colour": "red"}, "#/data/colour", "no such field here; known are projectFiles, uploadId"),
        ({"env": []}, "#/data/env", "env must be a map"),
        ({"env": {"A-B": ""}}, "#/data/env/A-B", "letters, digits and underscores"),
        ({"env": {"": ""}}, "#/data/env/", "letters, digits and underscores"),
        ({"env": {"A": 1}}, "#/data/env/A", "must be a string without NUL"),
        ({"env": {"A": "x\0"}}, "#/data/env/A", "must be a string without NUL"),
        ({"env": {"A": "x" * 65_536}}, "#/data/env", "65,537 bytes in all; at most 65,536"),
        ({"env": {f"V{i}": "" for i in range(101)}}, "#/data/env", "101 variables; at most 100"),
        ({"dependencies": []}, "#/data/dependencies", "dependencies must be a map"),
        ({"dependencies": {"react": 18}}, "#/data/dependencies/react", "version of a package must be a string"),
        ({"dependencies": {"../x": "1"}}, "#/data/dependencies/..~1x", "not a package name"),
        (
            {"dependencies": {"dependencies": None}},
            "#/data/dependencies/dependencies",
            "must be a map of package names",
        ),
        (
            {"dependencies": {"devDependencies": {"vite": "file:../vite"}}},
            "#/data/dependencies/devDependencies/vite",
            "git, file, link, workspace and URL sources are not accepted",
        ),
        ({"dependencies": {"dependencies": {}, "react": "18"}}, "#/data/dependencies/react", "are known here"),
        ({"dependencies": {f"p{i}": "1" for i in range(1_001)}}, "#/data/dependencies", "1,001 packages"),
        (
            {"dependencies": {"peerDependencies": {f"p{i}": "1" for i in range(1_001)}}},
            "#/data/dependencies/peerDependencies",
            "1,001 packages here; at most 1,000",
        ),
        ({f"field{i}": 1 for i in range(64)}, "#/data", "65 fields; at most 64"),
    ],
)
def test_one_mistake_in_data(data: dict[str, Any], pointer: str, detail: str) -> None:
    """Each field has its own sentence, which names the field or the limit, and a pointer to the place."""
    mistake = only(body_of(**data))

    assert mistake.pointer == pointer
    assert detail in mistake.detail


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (b'{"data":{"projectFiles":{"a":""}}}', "#/type", "type is missing: it must be one of build, test, lint"),
        (b'{"type":"deploy","data":{"projectFiles":{"a":""}}}', "#/type", "type must be one of build"),
        (b'{"type":["build"],"data":{"projectFiles":{"a":""}}}', "#/type", "type must be one of build"),
        (b'{"type":"build"}', "#/data", "data is missing"),
        (b'{"type":"build","data":"x"}', "#/data", "data must be an object with projectFiles"),
        (b'{"type":"build","data":{}}', "#/data/projectFiles", "projectFiles is missing"),
        (b'{"type":"build","data":{"projectFiles":{"a":""}},"Type":1}', "#/Type", "known are type, priority, data"),
    ],
)
def test_one_mistake_outside(body: bytes, pointer: str, detail: str) -> None:
    """The outer object has its own sentences in the same form."""
    mistake = only(body)

    assert mistake.pointer == pointer
    assert detail in mistake.detail


@pytest.mark.parametrize(
    "path",
    [
        "",
        "../x",
        "/x",
        "/",
        "a/../../b",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a\0b",
        "a//b",
        "a/",
        "C:\\x",
        "c:/x",
        "a\\b",
        "a\nb",
        "a\x1b[2Jb",
        "a\x9bb",
        "é" * 128,
        "/".join("a" * 33),
        "a/" * 20 + "b" * 1_000,
        "node_modules/.bin/vite",
        "packages/a/node_modules/b/index.js",
        "Node_Modules/x",
        ".git/config",
        "sub/.git",
        "Package.json",
        "apps/web/PACKAGE.JSON",
    ],
    ids=ascii,
)
def test_refused_paths(path: str) -> None:
    """A path that is not canonical, relative and POSIX, or that policy keeps out, is refused with its place."""
    mistakes = mistakes_in(body_of(projectFiles={path: ""}))

    assert [mistake.detail.split()[:2] for mistake in mistakes] == [["The", "path"]]
    assert mistakes[0].pointer.startswith("#/data/projectFiles/")
    assert mistakes[0].pointer.isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "src/App.tsx",
        ".env.production",
        "...",
        "..a/b..",
        "src/[id]/(group)/@slot/page.tsx",
        "é" * 127,
        "/".join("a" * 32),
        ".gitignore",
        ".github/workflows/ci.yml",
        "not_node_modules/x",
        "packages/a/package.json",
        "a b/ü~%.txt",
        "-rf",
        "$(id)",
    ],
    ids=ascii,
)
def test_accepted_paths(path: str) -> None:
    """Every other name is a name, however odd."""
    assert accepted(body_of(projectFiles={path: ""})).files == {path: ""}


@given(st.text(max_size=40))
def test_accepted_paths_stay_inside(path: str) -> None:
    """No text that is accepted as a path leaves the folder it is joined to, or has a second spelling."""
    if path_fault(path) is None:
        segments = path.split("/")
        assert not {"", ".", ".."} & set(segments)
        assert not set(path) & {"\0", "\\", "\n"}


@pytest.mark.parametrize("name", ["react", "@types/node", "JSONStream", "a.b-c_d~e", "7zip", "constructor", "x" * 214])
def test_package_names(name: str) -> None:
    """npm's names, scoped and old ones with capitals included, are accepted."""
    assert package_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *("", ".x", "_x", "-rf", "--config=x", "a b", "a/b", "@a", "@/b", "@a/.b", "../x", "a@1", "{0}", "é", "a\n"),
        *("x" * 215, "$(id)", "`id`", "%(x)s", "node_modules", "favicon.ico"),
    ],
)
def test_refused_package_names(name: str) -> None:
    """What is not a name in npm's grammar is refused."""
    assert package_fault(name)


@pytest.mark.parametrize(
    "version",
    [
        *("", "*", "x", "1", "1.x", "1.2.3", "v1.2.3", "=1.2.3", "^18.2.0", "~1.2", "~>1.2", ">=1.2.3 <2", "> 1 <= 2"),
        *("1.2 - 2.3.4", "1.x || >=2.5.0 || 5.0.0 - 7.2.3", "^1.2.3-beta.1+build.5", " ^1.0.0 ", "1.2.3||2"),
        *("latest", "next", "beta-2", "v1-lts", "npm:react@^18", "npm:@scope/pkg@1.x", "npm:react", "npm:@scope/pkg"),
    ],
)
def test_versions(version: str) -> None:
    """Semver ranges, tags and aliases of registry packages are accepted."""
    assert version_fault(version) is None


@pytest.mark.parametrize(
    "version",
    [
        *("git+ssh://git@host/x.git", "git://x", "github:user/repo", "user/repo", "https://host/x.tgz", "file:../x"),
        *("link:x", "workspace:*", "portal:x", "patch:x", "../x", "./x", "~/x", "/x", "x.tgz", "X.TAR.GZ", "C:\\x"),
        *("npm:", "npm:../x@1", "npm:react@file:x", "npm:npm:react@1", ">=", "^^1", "1 2 -", "1.2.3.4", "latest || 1"),
        *("--config=x", "-rf", "$(id)", "; id", "é", "1\n2", "{0.__class__}", "1" * 257, "^1.2.3 " * 30 + "!"),
    ],
)
def test_refused_versions(version: str) -> None:
    """Sources other than a registry, options, shell text and broken ranges are refused."""
    assert version_fault(version)


def test_dependency_shapes() -> None:
    """A flat map means runtime dependencies, a nested one keeps its sections, empty ones vanish."""
    flat = accepted(body_of(dependencies={"react": "^18", "dependencies": "1.0.0"}))
    nested = accepted(body_of(dependencies={"dependencies": {"react": "^18"}, "peerDependencies": {}}))
    empty = accepted(body_of(dependencies={}))

    assert flat.dependencies == {"dependencies": {"react": "^18", "dependencies": "1.0.0"}}
    assert nested.dependencies == {"dependencies": {"react": "^18"}}
    assert empty.dependencies == {}


def test_all_mistakes_at_once() -> None:
    """One answer names the mistakes of all fields, whatever part of the body they are in."""
    body = {
        "type": "deploy",
        "priority": 0,
        "data": {
            "projectFiles": {"../x": 1, "a": "", "a/b": ""},
            "dependencies": {"React!": "file:x"},
            "env": {"1": 1},
            "extra": 1,
        },
    }

    pointers = [mistake.pointer for mistake in mistakes_in(json.dumps(body).encode())]

    assert pointers == [
        "#/type",
        "#/priority",
        "#/data/extra",
        "#/data/projectFiles/..~1x",
        "#/data/projectFiles/..~1x",
        "#/data/projectFiles/a",
        "#/data/dependencies/React!",
        "#/data/dependencies/React!",
        "#/data/env/1",
        "#/data/env/1",
    ]


def test_list_of_mistakes_is_bounded() -> None:
    """Beyond fifty, mistakes are counted and not listed."""
    mistakes = mistakes_in(body_of(projectFiles={f"/{i}": "" for i in range(1_000)}), Bounds(max_files=2_000))

    assert len(mistakes) == MAX_MISTAKES + 1
    assert mistakes[-1] == Mistake("#", "950 more mistakes are not listed.")


def test_no_value_is_quoted() -> None:
    """A value never comes back in a mistake; a key does, in pointer form: printable, and cut when it is long."""
    secret = "sk-live-0123456789"
    body = body_of(
        projectFiles={"/a": secret, "b\x1b[2J\n": 1, "/" + "k" * 100_000: ""},
        env={"KEY!": secret},
        command=f"{secret}\0",
        dependencies={"react": f"file:{secret}"},
        chatId=f"{secret}\n",
        strategy=[secret],
    )

    mistakes = mistakes_in(body)

    assert secret not in repr(mistakes)
    assert "#/data/projectFiles/b%1B%5B2J%0A" in {mistake.pointer for mistake in mistakes}
    assert max(len(mistake.pointer) for mistake in mistakes) < 300


@given(st.binary(max_size=60) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5), st.lists))
def test_anything_else_is_a_mistake(value: Any) -> None:
    """No body makes the reader fail in another way than with a list of mistakes."""
    body = value if isinstance(value, bytes) else json.dumps({"type": value, "data": {"projectFiles": value}}).encode()

    assert mistakes_in(body)
