"""Settings: names, units, what follows from them, and how mistakes are told."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

import config
from errors import SetupError

ROOT = Path(__file__).parent.parent
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"o" * 24).decode()


def mistakes(environ: dict[str, str]) -> list[str]:
    with pytest.raises(SetupError) as caught:
        config.load(environ)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def named(environ: dict[str, str]) -> list[str]:
    return [line.partition(":")[0] for line in mistakes(environ)]


def test_defaults() -> None:
    """With nothing set, the service listens on 127.0.0.1:3001, posts nowhere and looks for Redis itself."""
    settings = config.load({})

    assert (settings.host, settings.port) == ("127.0.0.1", 3001)
    assert settings.site_url is None
    assert settings.webhook_secrets == ()
    assert settings.configured_redis_url is None
    assert settings.redis_url == "redis://localhost:6379/0"
    assert settings.data_dir == Path(".data")


def test_limits_have_base_units() -> None:
    """Sizes arrive as bytes and milliseconds as seconds in the limits of a sandbox."""
    environ = {
        "WORKER_MEMORY_LIMIT": "2g",
        "WORKER_CPU_LIMIT": "1.5",
        "WORKER_TIMEOUT": "600000",
        "LOG_LINE_BYTES": "8K",
    }
    limits = config.load({**environ, "COMMAND_TIMEOUT": "90000", "ARTIFACT_MAX_BYTES": "1048577"}).limits

    assert (limits.memory_bytes, limits.cpus, limits.total_s) == (2 << 30, 1.5, 600.0)
    assert (limits.install_s, limits.command_s) == (180.0, 90.0)
    assert (limits.log_line_bytes, limits.artifact_bytes) == (8 << 10, 1_048_577)


def test_default_limits() -> None:
    """The defaults are those of the original service where it had any."""
    limits = config.load({}).limits

    assert (limits.memory_bytes, limits.cpus, limits.pids, limits.total_s) == (512 << 20, 1.0, 256, 300.0)
    assert (limits.log_head_bytes, limits.log_tail_bytes, limits.log_line_bytes) == (4 << 20, 1 << 20, 16 << 10)


def test_phases_follow_a_shorter_whole() -> None:
    """A lower WORKER_TIMEOUT lowers the defaults of its phases instead of contradicting them."""
    limits = config.load({"WORKER_TIMEOUT": "60000"}).limits

    assert (limits.total_s, limits.install_s, limits.command_s) == (60.0, 60.0, 60.0)


@pytest.mark.parametrize("text", ["512", "512 m", "m", "-1m", "1.5g", "512q", "1e9m", "0", "\u0665m"])
def test_wrong_sizes(text: str) -> None:
    """A size that is no number with an optional k, m or g, or is too small for Docker, is a mistake."""
    assert named({"WORKER_MEMORY_LIMIT": text}) == ["WORKER_MEMORY_LIMIT"]


def test_every_mistake_at_once() -> None:
    """All mistakes are listed together, those between two variables included, each with the variable's name."""
    environ = {
        "PORT": "eighty",
        "LOG_LEVEL": "chatty",
        "WORKER_TIMEOUT": "60000",
        "INSTALL_TIMEOUT": "60001",
        "COMMAND_TIMEOUT": "soon",
        "MAX_PROJECT_BYTES": "20m",
        "MAX_BODY_BYTES": "10m",
        "RETRY_BASE_SECONDS": "9",
        "RETRY_CAP_SECONDS": "3",
        "LEASE_SECONDS": "nan",
        "CONVEX_URL": "https://convex.example.com",
        "REDIS_URL": "http://x",
        "DOCKER_HOST": "here",
        "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
    }

    found = named(environ)

    right = {"WORKER_TIMEOUT", "MAX_PROJECT_BYTES", "RETRY_BASE_SECONDS", "CONVEX_URL"}
    assert sorted(found) == sorted({*environ, "CONVEX_SITE_URL", "WEBHOOK_SECRET"} - right)


def test_mistakes_hide_values() -> None:
    """Neither the message nor the exceptions behind it show a secret's value."""
    with pytest.raises(SetupError) as caught:
        config.load(
            {"REDIS_URL": "hunter2", "WEBHOOK_SECRET": "hunter2", "CONVEX_URL": "https://u:hunter2@x.convex.cloud"}
        )

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_repr_hides_secrets() -> None:
    """A settings object can be printed without showing a password or a signing secret."""
    settings = config.load({"REDIS_PASSWORD": "hunter2", "WEBHOOK_SECRET": SECRET})

    assert "hunter2" not in repr(settings)
    assert SECRET not in repr(settings)


def test_settings_do_not_change() -> None:
    """Settings are read once: nothing can be assigned later."""
    with pytest.raises(ValueError, match="frozen"):
        config.load({}).port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_URL": "rediss://u:p@r:1/3", "REDIS_HOST": "other"}, "rediss://u:p@r:1/3"),
        ({"REDIS_HOST": "redis"}, "redis://redis:6379/0"),
        ({"REDIS_PORT": "7000"}, "redis://localhost:7000/0"),
        ({"REDIS_HOST": "::1", "REDIS_PASSWORD": "a/b@c:d"}, "redis://:a%2Fb%40c%3Ad@[::1]:6379/0"),
    ],
)
def test_redis_address(environ: dict[str, str], url: str) -> None:
    """REDIS_URL wins; else any of the parts makes the address an explicit one."""
    assert config.load(environ).configured_redis_url == url


@pytest.mark.parametrize(
    ("given", "site"),
    [
        ("https://happy-otter-123.convex.cloud", "https://happy-otter-123.convex.site"),
        ("https://happy-otter-123.convex.cloud/", "https://happy-otter-123.convex.site"),
        ("http://127.0.0.1:3210", "http://127.0.0.1:3211"),
        ("https://[::1]:3210", "https://[::1]:3211"),
    ],
)
def test_site_follows(given: str, site: str) -> None:
    """The address of HTTP actions is derived for Convex's cloud and for the standard port of a self-hosted one."""
    assert config.load({"CONVEX_URL": given, "WEBHOOK_SECRET": SECRET}).site_url == site


@pytest.mark.parametrize(
    "given",
    [
        "https://api.example.com",
        "https://x.convex.cloud.example.com",
        "http://x.convex.cloud",
        "https://x.convex.cloud/y",
    ],
)
def test_site_in_doubt(given: str) -> None:
    """Where the address of HTTP actions cannot be known, the mistake names the variable to set."""
    assert named({"CONVEX_URL": given, "WEBHOOK_SECRET": SECRET}) == ["CONVEX_SITE_URL"]
    explicit = {"CONVEX_URL": given, "CONVEX_SITE_URL": "https://site.example.com/http/", "WEBHOOK_SECRET": SECRET}
    assert config.load(explicit).site_url == "https://site.example.com/http"


@pytest.mark.parametrize(
    "given",
    [
        "ftp://x",
        "x.convex.site",
        "https://",
        "https://u:p@x",
        "https://x?y=1",
        "https://x#y",
        "https://x:99999",
        "http://a b",
    ],
)
def test_wrong_sites(given: str) -> None:
    """An address that is not plain http(s), or carries more than a place, is a mistake."""
    assert named({"CONVEX_SITE_URL": given, "WEBHOOK_SECRET": SECRET}) == ["CONVEX_SITE_URL"]


def test_secret_is_needed_for_a_receiver() -> None:
    """Results are never posted unsigned: an address without a secret is a mistake."""
    assert named({"CONVEX_SITE_URL": "https://x.convex.site"}) == ["WEBHOOK_SECRET"]


def test_secrets_rotate() -> None:
    """Several secrets may be given, separated by commas or spaces, and keep their order."""
    assert config.load({"WEBHOOK_SECRET": f"{SECRET}, {OTHER_SECRET}"}).webhook_secrets == (SECRET, OTHER_SECRET)


@pytest.mark.parametrize("secret", ["hello", "whsec_", "whsec_!!!!", "whsec_c2hvcnQ=", SECRET + ",x", SECRET[6:], ","])
def test_wrong_secrets(secret: str) -> None:
    """A secret that is no whsec_ and base64 of 24 to 64 bytes is a mistake, wherever in the list it stands."""
    assert named({"WEBHOOK_SECRET": secret}) == ["WEBHOOK_SECRET"]


@pytest.mark.parametrize("path", ["hooks", "/a b", "/a?b", "/a\r\nx: y", ""])
def test_hook_paths(path: str) -> None:
    """A webhook's path is a plain absolute path; an empty variable means the default."""
    environ = {"WEBHOOK_RESULT_PATH": path}

    if path:
        assert named(environ) == ["WEBHOOK_RESULT_PATH"]
    else:
        assert config.load(environ).webhook_result_path == "/api/v1/hooks/worker-result"


def test_body_holds_a_project() -> None:
    """The bound on a request's body grows with the bound on projects, unless it is given."""
    assert config.load({"MAX_PROJECT_BYTES": "20m"}).body_bytes == 30 << 20
    assert config.load({"MAX_BODY_BYTES": "11m"}).body_bytes == 11 << 20


def test_empty_and_foreign_variables() -> None:
    """Empty variables count as not set, and variables of other programs do not matter."""
    settings = config.load({"PORT": "", "CONVEX_URL": "", "HOME": "/root", "CONVEX_DEPLOY_KEY": "prod:x|y"})

    assert settings == config.load({})
    assert "prod:x|y" not in repr(settings)


def test_environment_and_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.env` in the working folder is read, and the environment wins over it."""
    (tmp_path / ".env").write_text("PORT=4000\nMAX_FILES=7\nUNKNOWN=1\n#LOG_LEVEL=ERROR\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "4001")

    settings = config.load()

    assert (settings.port, settings.max_files, settings.log_level) == (4001, 7, "INFO")


def test_env_file_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mistakes in `.env` are told like others, and one that is no text at all is told too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("MAX_FILES=many\n")
    with pytest.raises(SetupError, match="MAX_FILES"):
        config.load()

    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError, match=r"\.env: cannot be read"):
        config.load()


def test_programs_end_with_code_2(tmp_path: Path) -> None:
    """A program that loads wrong settings prints every mistake, without a traceback, and ends with code 2."""
    command = [sys.executable, "-c", "import config; config.load_or_exit()"]
    environ = {"PYTHONPATH": str(ROOT), "PORT": "x", "MAX_FILES": "0"}

    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines()[1:]] == ["PORT", "MAX_FILES"]


def test_endpoints() -> None:
    """The address of Convex is the default endpoint; further ones have names, secrets and, if need be, paths."""
    further = {"ops-1": {"url": "http://ops:1/x/", "secret": f"{OTHER_SECRET} {SECRET}", "resultPath": "/r"}}
    endpoints = config.load(
        {
            "CONVEX_URL": "http://127.0.0.1:3210",
            "WEBHOOK_SECRET": f"{SECRET} {OTHER_SECRET}",
            "WEBHOOK_ENDPOINTS": json.dumps(further),
            "WEBHOOK_ALLOW_PRIVATE": "true",
        }
    ).endpoints

    convex, other = endpoints["default"], endpoints["ops-1"]
    assert convex.url + convex.paths["result"] == "http://127.0.0.1:3211/api/v1/hooks/worker-result"
    assert convex.url + convex.paths["progress"] == "http://127.0.0.1:3211/api/v1/hooks/worker-progress"
    assert (convex.secrets, convex.private) == ((SECRET, OTHER_SECRET), True)
    assert (other.url, other.secrets, other.private) == ("http://ops:1/x", (OTHER_SECRET, SECRET), True)
    assert other.paths == {"result": "/r", "progress": "/api/v1/hooks/worker-progress"}
    assert SECRET not in repr(endpoints)
    assert config.load({}).endpoints == {}


GOOD = {"url": "https://x", "secret": SECRET}


@pytest.mark.parametrize(
    "given",
    [
        "x", "[]", '"x"', "null", {"a": {}}, {"a": "https://x"}, {"a": {"url": "https://x"}}, {"a": {"secret": SECRET}},
        {"A b": GOOD}, {"": GOOD}, {"none": GOOD}, {"a" * 33: GOOD}, {"a.b": GOOD}, {"a": {**GOOD, "more": "x"}},
        {"a": {**GOOD, "url": "ftp://x"}}, {"a": {**GOOD, "url": "https://u:p@x"}},
        {"a": {**GOOD, "secret": "hunter2"}}, {"a": {**GOOD, "url": 1}}, {"a": {**GOOD, "resultPath": "x"}},
        {f"e{n}": GOOD for n in range(21)},
        {"default": GOOD},
    ],
)  # fmt: skip
def test_wrong_endpoints(given: object) -> None:
    """Endpoints that are no JSON object of well-named, complete receivers are a mistake, and no secret is shown."""
    text = given if isinstance(given, str) else json.dumps(given)
    environ = {"CONVEX_SITE_URL": "https://x", "WEBHOOK_SECRET": SECRET, "WEBHOOK_ENDPOINTS": text}

    (mistake,) = mistakes(environ)

    assert mistake.startswith("WEBHOOK_ENDPOINTS: ")
    assert "hunter2" not in mistake
    assert SECRET not in mistake


def test_default_endpoint_without_convex() -> None:
    """Without an address of Convex, the receiver of jobs that choose none may be any."""
    environ = {"WEBHOOK_ENDPOINTS": json.dumps({"default": GOOD})}

    assert list(config.load(environ).endpoints) == ["default"]


def test_told_events() -> None:
    """Told are progress and the ends, unless the settings choose otherwise; progress can be left out by itself."""
    usual = {"job.progress", "job.completed", "job.failed", "job.cancelled"}

    assert config.load({}).told_events == usual
    assert config.load({"WEBHOOK_PROGRESS": "false"}).told_events == usual - {"job.progress"}
    chosen = config.load({"WEBHOOK_EVENTS": "job.queued, job.failed job.progress"}).told_events
    assert chosen == {"job.queued", "job.failed", "job.progress"}
    assert named({"WEBHOOK_EVENTS": "job.failed,job.done"}) == ["WEBHOOK_EVENTS"]


def test_env_example_is_current() -> None:
    """.env.example is what config.py prints."""
    printed = subprocess.run([sys.executable, "config.py"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert (ROOT / ".env.example").read_text() == printed


def test_env_example_lists_every_variable() -> None:
    """Every setting has a line and a description in .env.example, and its defaults taken as given change nothing."""
    lines = [line[1:].partition("=") for line in config.env_example().splitlines() if line[1:2].isupper()]

    assert {name for name, _, _ in lines} == {field.alias for field in config.Settings.model_fields.values()}
    assert all(field.description for field in config.Settings.model_fields.values())
    given = config.load({name: default for name, _, default in lines if not name.startswith("REDIS_")})
    assert given == config.load({})


def test_settings_are_grouped() -> None:
    """Settings adds no field to its groups, so that no variable can miss from .env.example."""
    grouped = [name for group in config.GROUPS for name in group.model_fields]

    assert sorted(grouped) == sorted(config.Settings.model_fields)


def test_services_are_told_apart() -> None:
    """Another Redis or prefix is another service to the engine; another password is not."""
    given = [
        {},
        {"REDIS_PASSWORD": "one"},
        {"REDIS_PREFIX": "other"},
        {"REDIS_HOST": "elsewhere"},
        {"REDIS_URL": "unix:///run/redis.sock"},
    ]
    names = [config.load(environ).service for environ in given]

    assert names[0] == names[1]
    assert len(set(names)) == 4


def test_uploads() -> None:
    """Files go to the deployment's address, asked for at a path of its own; other receivers get none."""
    environ = {"CONVEX_URL": "https://x.convex.cloud", "WEBHOOK_SECRET": SECRET, "CONVEX_UPLOAD": "artifacts"}
    further = {"WEBHOOK_ENDPOINTS": json.dumps({"ops": GOOD}), "WEBHOOK_UPLOAD_PATH": "/u"}

    endpoints = config.load({**environ, **further}).endpoints

    assert endpoints["default"].storage == "https://x.convex.cloud"
    assert endpoints["default"].paths["upload"] == "/u"
    assert (endpoints["ops"].storage, "upload" in endpoints["ops"].paths) == ("", False)
    assert "upload" not in config.load({**environ, "CONVEX_UPLOAD": "none"}).endpoints["default"].paths


def test_uploads_need_the_deployment() -> None:
    """With the address of HTTP actions alone there is nowhere to upload to, which is said at the start."""
    environ = {"CONVEX_SITE_URL": "https://x.convex.site", "WEBHOOK_SECRET": SECRET, "CONVEX_UPLOAD": "log"}

    assert named(environ) == ["CONVEX_UPLOAD"]
    assert named({**environ, "CONVEX_UPLOAD": "all"}) == ["CONVEX_UPLOAD"]


@pytest.mark.parametrize(
    ("text", "images"), [("node, python node", ("node", "python")), ("none", ()), ("python", ("python",))]
)
def test_parked_sandboxes(text: str, images: tuple[str, ...]) -> None:
    """Images are named in any order, each counts once; none is none."""
    assert config.load({"PARKED_SANDBOXES": text}).parked == images


def test_unknown_parked_sandboxes() -> None:
    """An image that jobs do not run in is a mistake."""
    (mistake,) = mistakes({"PARKED_SANDBOXES": "ruby"})
    assert "'ruby' is not node, python or none" in mistake
