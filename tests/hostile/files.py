"""H34-H44: names, links, sizes and reports made to mislead whoever takes the results."""

from __future__ import annotations

import io
import json
import tarfile

import form
from jobs import JobType, Reason
from tests.hostile.items import Item, Seen, perl, sh


def pointer(path: str) -> str:
    """How a mistake names a file of the request."""
    return form.pointer_to("data", "projectFiles", path)


def only_good(seen: Seen) -> None:
    assert seen.artifacts == {"good.txt": b"good\n"}, list(seen.artifacts)
    assert set(seen.skipped.values()) == {"symlink"}, seen.skipped
    assert len(seen.skipped) == 8, seen.skipped


def own_or_nothing(seen: Seen) -> None:
    assert set(seen.artifacts.items()) <= {("a.txt", b"own\n")}, list(seen.artifacts)


def report_is_invalid(seen: Seen) -> None:
    invalid = {found["report"] for found in seen.record["result"]["reportInvalid"]}
    assert "0-node.xml" in invalid <= {"0-node.xml", "0-node.lcov"}, invalid
    assert seen.phase_s["collecting"] < 5, seen.phase_s


def kinds(seen: Seen) -> None:
    assert set(seen.artifacts) == {"one.txt", "two.txt", "setuid.txt"}, list(seen.artifacts)
    expected = {"pipe": "fifo", "socket": "socket", "locked.txt": "unreadable", "closed": "unreadable"}
    assert seen.skipped == expected, seen.skipped
    assert seen.phase_s["collecting"] < 5, seen.phase_s


def names_are_data(seen: Seen) -> None:
    """Every kept file can be fetched by its name and is in the archive; what has no name in Unicode is skipped."""
    assert len(seen.artifacts) == 20, list(seen.artifacts)
    odd = {path: content[:80] for path, content in seen.artifacts.items() if content != b"x"}
    assert not odd, odd
    assert sorted(seen.skipped.values()) == ["name is not UTF-8", "name too long"], seen.skipped
    with tarfile.open(fileobj=io.BytesIO(seen.get("/artifacts.tar.gz").content)) as packed:
        names = {member.name for member in packed}
        assert names == set(seen.artifacts), names ^ set(seen.artifacts)
        assert all(member.isreg() and ".." not in member.name.split("/") for member in packed)


def served_as_it_is(seen: Seen) -> None:
    for name in ("bomb.html.gz", "page.html"):
        answer = seen.get(f"/artifacts/{name}")
        assert answer.headers.get("Content-Encoding", "identity") == "identity", answer.headers
        assert answer.headers["X-Content-Type-Options"] == "nosniff", answer.headers
        assert answer.headers["Content-Disposition"].startswith("attachment"), answer.headers
    assert seen.artifacts["bomb.html.gz"][:2] == b"\x1f\x8b"


def kept_whole(seen: Seen) -> None:
    assert [len(content) for content in seen.artifacts.values()] == [4 << 20, 4 << 20]


def kept_nothing(seen: Seen) -> None:
    assert seen.artifacts == {}


def not_growing(seen: Seen) -> None:
    """The writer is dead before anything is taken, so size and content agree."""
    (listed,) = seen.record["artifacts"]
    assert len(seen.artifacts["growing.txt"]) == listed["size"]


def no_nonsense(seen: Seen) -> None:
    """A report that is no report is called invalid, or its numbers are bounded; the exit code alone decides."""
    result = seen.record["result"]
    numbers = [value for kind in ("tests", "lint") for value in result.get(kind, {}).values() if isinstance(value, int)]
    assert all(0 <= value <= 10_000_000 for value in numbers), result
    assert result.get("reportInvalid") or result["selfReported"], result
    assert len(json.dumps(seen.record)) < 2 << 20
    assert seen.phase_s["collecting"] < 20, seen.phase_s


def failed_all_the_same(seen: Seen) -> None:
    assert seen.record["result"]["selfReported"] is True
    assert seen.record["result"]["tests"]["failed"] == 0


def lint(what: str, forge: str, reason: Reason | None = None) -> Item:
    """A linter of the project's own whose report is what `forge` makes."""
    package = {"scripts": {"lint": "node eslint.js"}}
    source = f"const put = (text) => require('fs').writeFileSync(process.argv.at(-1), text);\n{forge}"
    return Item(number="H44", what=what, kind=JobType.LINT, checks=(no_nonsense,), reason=reason,
                files={"package.json": json.dumps(package), "eslint.js": source})  # fmt: skip


def run_tests(number: str, what: str, script: str, *checks: object, reason: Reason | None = None) -> Item:
    """A test run whose traces `script` replaces afterwards."""
    package = {"scripts": {"test": "node --test && sh attack.sh"}}
    files = {
        "package.json": json.dumps(package),
        "attack.sh": script,
        "a.test.js": "require('node:test')('a', () => 0)",
    }
    return Item(number=number, what=what, kind=JobType.TEST, files=files, reason=reason, checks=checks)  # type: ignore[arg-type]


LINKS = """
mkdir -p dist/sub; echo good >dist/good.txt
ln -s /etc/shadow dist/a; ln -s ../../../../../etc/passwd dist/b; ln -s /proc/self/environ dist/c
ln -s /work/home dist/sub/d; ln -s / dist/root; ln -s good.txt dist/e; ln -s @FOLDER@/planted dist/planted
ln -s @FOLDER@/data dist/data
"""
SWAP = """
(trap '' HUP TERM; while :; do
    rm -rf dist; ln -s /etc dist; rm -f dist; ln -s @FOLDER@/data/artifacts dist; rm -f dist; mkdir dist; echo own >dist/a.txt
done) & sleep 1
"""
REPLACED = """
rm -rf /work/tools /work/home /work/reports/*; ln -s /etc /work/tools; ln -s /etc /work/home
mkfifo /work/reports/0-node.xml; mkfifo /work/reports/other; mkdir /work/reports/x.json
"""
IS_A_LINK = "rm -rf /work/reports; ln -s @FOLDER@ /work/reports"
KINDS = """
mkdir -p dist/closed; mkfifo dist/pipe; echo one >dist/one.txt; ln dist/one.txt dist/two.txt
echo s >dist/setuid.txt; chmod 6755 dist/setuid.txt; echo l >dist/locked.txt; chmod 0 dist/locked.txt
echo c >dist/closed/c.txt; chmod 0 dist/closed
perl -e 'use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un("dist/socket"))'
"""
NAMES = r"""
mkdir "dist"; my $deep = "dist";
my @names = ("new\nline", "esc\e[31m", "-rf", "end ", "dot.", "x" x 255, "\xe2\x80\xaeexe.txt", "CON", "\xc3\xa9", "e\xcc\x81",
    "Case", "case", "q'u\"ote", "%2e%2e", "..%2fup", "semi;colon", "back\\slash", "<img src=x>", "a\rb", "\$(id)", "\xff\xfe");
for (@names) { open my $file, ">", "dist/$_" or die "$!"; print $file "x" }
for (1 .. 5) { $deep .= "/" . "d" x 250; mkdir $deep }
open my $file, ">", "$deep/x"; print $file "x"; close $file;
"""
PATHS = ("../x", "/etc/x", "a/../../b", "C:\\x", "a\0b", "", ".", "a//b", "a/", ".git/config", "node_modules/.bin/vite",
         "Package.JSON", "x\nSet-Cookie: a", "é/../../x", "d/" * 40 + "x", "y" * 300)  # fmt: skip
BOMB = """
mkdir dist; head -c 500m /dev/zero | gzip -9 >dist/bomb.html.gz; cp dist/bomb.html.gz dist/page.html
"""
GROWING = """
mkdir dist; (trap '' TERM HUP; while :; do echo more >>dist/growing.txt; done) & sleep 0.5
"""
ENTITIES = """
cat >/work/reports/0-node.xml <<'END'
<?xml version="1.0"?><!DOCTYPE t [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY f SYSTEM "file:///etc/passwd">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;">]>
<testsuites><testcase name="&e;&f;" file="/etc/passwd"/></testsuites>
END
"""
FORGED = """
echo '<testsuites><testcase name="x" file="a.js"/></testsuites>' >/work/reports/0-node.xml; echo evil >/work/outside; exit 1
"""

ITEMS = (
    sh("H34", "puts links to secrets into its output", LINKS, checks=(only_good,), quick=True),
    sh("H35", "swaps its output folder for a link while it is collected", SWAP, checks=(own_or_nothing,)),
    run_tests("H36", "puts links and pipes where reports and tools are", REPLACED, report_is_invalid),
    run_tests("H36", "makes the folder of reports a link", IS_A_LINK, report_is_invalid),
    sh("H37", "leaves a pipe, a socket, unreadable and setuid files, and a second name", KINDS, checks=(kinds,),
       not_under="pipes and sockets in gVisor never reach a file system"),
    perl("H38", "gives its files names that mislead terminals, shells, browsers and file systems", NAMES,
         checks=(names_are_data,), quick=True),
    Item(number="H39", what="is sent with paths that lead elsewhere", files=dict.fromkeys(PATHS, "x"),
         refused=tuple(map(pointer, PATHS)), quick=True),
    Item(number="H40", what="is sent with a path that is file and folder", files={"a": "", "a/b": ""},
         refused=(pointer("a"),)),
    Item(number="H40", what="is sent as 100,000 files", files={f"f{n}": "" for n in range(100_000)},
         refused=("#/data/projectFiles",)),
    Item(number="H40", what="is sent as one file of 18 MB", files={"f": "x" * (18 << 20)}, refused=("#",)),
    Item(number="H40", what="is sent with a path of 1 MB", files={"p" * (1 << 20): "x"}, refused=(pointer("p" * (1 << 20)),)),
    Item(number="H40", what="is sent with contents that are no text", data={"projectFiles": {"a": 1, "b": None, "c": ["x"]}},
         refused=tuple(map(pointer, "abc"))),
    Item(number="H41", what="answers with a hostile tar",
         cannot="the service reads no tar; frames that lie are fed to their reader in tests/test_collect.py"),
    sh("H42", "makes a bomb of its output", BOMB, checks=(served_as_it_is,)),
    sh("H43", "fills its output to the last byte", "mkdir dist; head -c 4m /dev/zero | tee dist/a >dist/b",
       checks=(kept_whole,)),
    sh("H43", "puts one byte more into its output", "mkdir dist; head -c 8388609 /dev/zero >dist/a",
       reason=Reason.ARTIFACT_TOO_LARGE, checks=(kept_nothing,)),
    sh("H43", "lets a file grow while it is collected", GROWING, checks=(not_growing,)),
    run_tests("H44", "reports entities that grow and read files", ENTITIES, no_nonsense),
    lint("reports 100,000 levels of JSON", "put('['.repeat(1e5))"),
    lint("reports numbers that are none", """put('[{"filePath": "/etc/passwd", "errorCount": -3, "messages": [{"line": 1e400, """
         """"column": -1, "severity": 2, "message": "<img onerror=x>", "ruleId": "__proto__", "endLine": NaN}]}]')""",
        Reason.LINT_FAILED),
    lint("reports a million issues", """put(JSON.stringify([{filePath: 'a.js', messages:
         Array(1e6).fill({line: 1, column: 1, severity: 1, message: 'm'})}]))"""),
    lint("reports 60 MB", "put('[' + ' '.repeat(6e7) + ']')"),
    run_tests("H44b", "edits its report after the run, and fails", FORGED, failed_all_the_same, reason=Reason.TESTS_FAILED),
)  # fmt: skip
