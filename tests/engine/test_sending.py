"""Real runs of what was sent: bytes that arrive as they are, and files chosen by globs."""

from __future__ import annotations

import base64
import hashlib

import pytest

from jobs import Conclusion, JobType, Reason
from tests.engine_cases import Bench, Recorder

pytestmark = pytest.mark.engine

PICTURE = bytes(range(256)) * 500


def test_bytes_arrive(bench: Bench) -> None:
    """A picture is in the workspace byte for byte, beside the texts."""
    watch = Recorder()

    result = bench.run(
        {"package.json": "{}", "a.txt": "é"},
        binary={"public/logo.png": base64.b64encode(PICTURE).decode()},
        command="mkdir dist && sha256sum a.txt public/logo.png && cp public/logo.png dist",
        watch=watch,
    )

    assert result.conclusion is Conclusion.SUCCESS
    assert f"{hashlib.sha256(PICTURE).hexdigest()}  public/logo.png" in watch.text("stdout")
    assert watch.files == {"logo.png": PICTURE}


def test_chosen_files(bench: Bench) -> None:
    """Globs choose from the whole project in place of the output folder, and those that found nothing are named."""
    watch = Recorder()

    result = bench.run(
        {"package.json": "{}", "src/a.txt": "a"},
        command="mkdir -p dist reports node_modules; echo 1 > dist/x; echo 2 > reports/r.xml; echo 3 > node_modules/y",
        artifacts=("reports/*.xml", "src", "**/y", "none/**"),
        watch=watch,
    )

    assert result.conclusion is Conclusion.SUCCESS
    assert watch.files == {"reports/r.xml": b"2\n", "src/a.txt": b"a"}
    assert result.detail["unmatchedArtifacts"] == ["**/y", "none/**"]
    assert result.detail["outputDir"] == "."


@pytest.mark.parametrize("kind", [JobType.BUILD, JobType.TEST])
def test_files_of_a_failure(bench: Bench, kind: JobType) -> None:
    """Chosen files are kept of a run that failed, too: a report is wanted most when something is wrong."""
    command = "echo '<failures/>' > report.xml; exit 3"
    watch = Recorder()

    result = bench.run(
        {"package.json": "{}"}, kind=kind, command=command, test_command=command, artifacts=("report.xml",), watch=watch
    )

    assert result.reason in (Reason.BUILD_FAILED, Reason.TESTS_FAILED)
    assert result.exit_code == 3
    assert [artifact.path for artifact in result.artifacts] == ["report.xml"]
    assert watch.files == {"report.xml": b"<failures/>\n"}


def test_too_many_chosen_files(bench: Bench) -> None:
    """The caps of artifacts hold for chosen files, and the message says so."""
    result = bench.run(
        {"package.json": "{}"},
        command="head -c 5000 /dev/zero > big",
        artifacts=("big",),
        limits={"artifact_bytes": 4096},
    )

    assert result.reason is Reason.ARTIFACT_TOO_LARGE
    assert "the output that artifacts chooses holds more than 4,096 bytes" in result.message
