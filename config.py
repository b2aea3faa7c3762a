"""Every setting of the service, read once from the environment and `.env`; all mistakes are reported together.

One class per group, one field per variable: the field's name in capitals is the variable's name. Convex's own
CONVEX_DEPLOY_KEY is deliberately not read: such a key may read and write everything in a deployment, and a machine
that runs other people's code must not hold it. Results go to a signed HTTP action instead (WEBHOOK_SECRET).
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import os
import re
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, InitSettingsSource, SettingsConfigDict

import receivers
from access import Conditions
from allowance import Allowance, Range
from errors import SetupError
from events import DEFAULT_ENDPOINT, USUAL_EVENTS, Endpoint, Event
from form import Bounds
from jobs import Limits, Quota

VERSION = "0.1.0"

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_INSTALL_MS = 180_000
_COMMAND_MS = 240_000


def _size(text: object) -> object:
    """Bytes from "512m", "2g", "16k" or a plain number; powers of 1024."""
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)b?", text.strip().lower())
    if not match:
        raise ValueError("is not a size; write bytes, or a number with k, m or g, such as 512m")
    return int(match[1]) * _UNITS[match[2]]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _redis_address(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


def _signing_secrets(value: SecretStr) -> SecretStr:
    receivers.signing_secrets(value.get_secret_value())
    return value


def _events(text: str) -> str:
    """Checks a list of events."""
    unknown = [name for name in text.replace(",", " ").split() if name not in set(Event)]
    if unknown:
        raise ValueError(f"is not a list of events; there are {', '.join(Event)}")
    return text


Bytes = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Milliseconds = Annotated[int, Field(ge=1_000, le=24 * 3_600_000)]
Seconds = Annotated[float, Field(ge=0, le=24 * 3_600, allow_inf_nan=False)]
Site = Annotated[str, AfterValidator(receivers.site)]
HookPath = Annotated[str, Field(pattern=r"^/[A-Za-z0-9._~/-]*$")]
RedisAddress = Annotated[SecretStr, AfterValidator(_redis_address)]
SigningSecrets = Annotated[SecretStr, AfterValidator(_signing_secrets)]
Events = Annotated[str, AfterValidator(_events)]


class _Group(BaseSettings):
    """Shared by all groups: an empty variable counts as not set, variables of other programs are left alone."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        validate_default=True,
        alias_generator=str.upper,
        hide_input_in_errors=True,
    )


class RedisSettings(_Group):
    """Redis: where jobs live. With none of these set, a server is looked for on this machine, or started."""

    redis_url_given: RedisAddress | None = Field(
        None, alias="REDIS_URL", description="Whole address (redis://, rediss://, unix://), instead of the next three."
    )
    redis_host: str = Field("localhost", description="Host name or address of the Redis server.")
    redis_port: int = Field(6379, ge=1, le=65_535, description="Its TCP port.")
    redis_password: SecretStr | None = Field(None, description="Its password, if it wants one.")
    redis_unsuitable: Literal["refuse", "serve"] = Field(
        "refuse",
        description="What to do with a Redis that evicts, has no append-only file, is a replica or too old: refuse to "
        "start, or serve and call the health degraded.",
    )
    redis_appendfsync: Literal["always", "everysec"] = Field(
        "always",
        description="How a Redis that is started here syncs: always (an accepted job survives a power cut) or everysec "
        "(four times faster, up to a second of accepted jobs lost with the power).",
    )
    redis_prefix: str = Field(
        "cw", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="What all keys of the service begin with."
    )


class ApiSettings(_Group):
    """HTTP API: where it listens and what it accepts."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 means every network of this machine.")
    publish: str = Field(
        "",
        pattern=r"^([0-9A-Za-z.-]*:|\[[0-9A-Fa-f:]+\]:)?[0-9]{1,5}$|^$",
        description="Where a container's port is published, such as 127.0.0.1:3001; then that, not HOST, is what "
        "others reach. docker-compose.yml publishes here.",
    )
    port: int = Field(3001, ge=1, le=65_535, description="TCP port to listen on.")
    public_url: Site | None = Field(
        None, description="Address of this API as its callers see it; links in webhooks begin with it."
    )
    preview_url: str | None = Field(
        None,
        pattern=r"^https?://\*\.[A-Za-z0-9.-]+(:[0-9]{1,5})?$",
        description="Address of previews with a * for a name of each one's own, such as https://*.preview.example.net, "
        "whose host leads here and is used for nothing else; default: below /preview/ of this API, with less allowed.",
    )
    preview_minutes: float = Field(
        60.0, ge=1, le=7 * 1_440, allow_inf_nan=False, description="How long a preview's link leads there (minutes)."
    )
    max_files: int = Field(2_000, ge=1, le=100_000, description="Most files a project may have.")
    max_project_bytes: Bytes = Field(10 << 20, description="Most bytes of a project's files together (size).")
    max_body_bytes: Bytes | None = Field(
        None, description="Most bytes of a request's body (size); default: MAX_PROJECT_BYTES and a half."
    )
    max_queued_jobs: int = Field(10_000, ge=1, le=1_000_000, description="Most jobs that may wait in one queue.")
    uploads_max_bytes: Bytes = Field(1 << 30, description="Most bytes of all uploads together (size).")
    snapshot_hosts: str = Field(
        "",
        description="Hosts, or host:port, that a job's snapshotUrl may lead to, separated by comma or space; default: "
        "those of CONVEX_URL and CONVEX_SITE_URL.",
    )
    max_wait: int = Field(
        60, ge=0, le=600, description="How long a request may wait for the end of a job (seconds); 0: not at all."
    )
    max_waiting: int = Field(
        64, ge=1, le=1_000, description="Most requests that may wait for the end of a job, in each of two processes."
    )
    max_streams: int = Field(1_000, ge=1, le=10_000, description="Most event streams in each of two processes.")
    same_request_is_same_job: bool = Field(
        True,
        description="Whether the same POST again within a minute, while the first job is not finished and without an "
        "Idempotency-Key, answers the same job (true or false).",
    )

    @field_validator("snapshot_hosts")
    @classmethod
    def _places(cls, value: str) -> str:
        for word in _words(value):
            if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?", word):
                raise ValueError(f"{word!r} is not a host or host:port")
        return value

    @field_validator("max_body_bytes")
    @classmethod
    def _holds_a_project(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value < info.data.get("max_project_bytes", 0):
            raise ValueError("must not be below MAX_PROJECT_BYTES")
        return value


class AccessSettings(_Group):
    """Access: who may use the API, from where and how much (docs/api-access.md). 0 means no bound."""

    allow_anonymous: bool = Field(
        False,
        description="Whether everybody who reaches the service may do everything while there are no API keys (true or "
        "false). Without it that holds for this machine alone: with HOST on a network, keys must be made first.",
    )
    rate_limit_key: int = Field(1_200, ge=0, le=1_000_000, description="Requests that one key may make in a minute.")
    rate_limit_address: int = Field(
        0, ge=0, le=1_000_000, description="Requests that may come from one address in a minute, with any keys or none."
    )
    rate_limit_failures: int = Field(
        10, ge=0, le=1_000_000, description="Attempts with a wrong key that one address may make in a minute."
    )
    quota_queued_jobs: int = Field(0, ge=0, le=1_000_000, description="Jobs of one tenant that may wait.")
    quota_cpu_seconds: int = Field(0, ge=0, description="CPU time that one tenant's jobs may use in an hour (seconds).")
    quota_bytes: Annotated[int, BeforeValidator(_size)] = Field(
        0, ge=0, description="What one tenant's finished jobs may take before it must remove some (size)."
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks of proxies whose X-Forwarded-For is believed, such as 127.0.0.1 or "
        "10.0.0.0/8, separated by comma or space.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names that the API answers to, beside that of PUBLIC_URL, addresses, and names without public DNS "
        "(localhost, names without a dot); * for any.",
    )
    cors_origins: str = Field(
        "", description="Origins of web pages that may use the API from a browser, such as https://app.example.com."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, value: str) -> str:
        for word in _words(value):
            ipaddress.ip_network(word)  # its own words say what is wrong
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _names(cls, value: str) -> str:
        for word in _words(value):
            if not re.fullmatch(r"\*|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", word):
                raise ValueError(f"{word!r} is not a host's name, or *")
        return value

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for word in _words(value):
            if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", word):
                raise ValueError(f"{word!r} is not an origin: write https://host or https://host:port")
        return value


class ConvexSettings(_Group):
    """Convex: where results are posted. With no address set, none are.

    CONVEX_DEPLOY_KEY is not read: it opens the whole deployment, and no machine that runs other people's code should
    hold it.
    """

    convex_url: Site | None = Field(None, description="Address of the Convex deployment, https://….convex.cloud.")
    convex_site_url: Site | None = Field(
        None,
        description="Address of its HTTP actions; needed only where it does not follow from CONVEX_URL "
        "(….convex.cloud gives ….convex.site, port 3210 gives 3211).",
    )
    webhook_secret: SigningSecrets | None = Field(
        None,
        description="Signing secrets, separated by comma or space, the newest first: whsec_ and the base64 of 24 to 64 "
        'random bytes, as from: echo "whsec_$(openssl rand -base64 32)". Needed as soon as an address is set.',
    )
    webhook_result_path: HookPath = Field("/api/v1/hooks/worker-result", description="Path that receives results.")
    webhook_progress_path: HookPath = Field("/api/v1/hooks/worker-progress", description="Path that receives progress.")
    webhook_upload_path: HookPath = Field(
        "/api/v1/hooks/worker-upload", description="Path that gives out addresses for uploads (see CONVEX_UPLOAD)."
    )
    convex_upload: Literal["none", "artifacts", "log"] = Field(
        "none",
        description="What is uploaded into Convex storage before a result is posted: none, artifacts (the first 64, in "
        "all 50 MB) or log (all that is kept of it). Needs CONVEX_URL.",
    )
    webhook_endpoints: SecretStr | None = Field(
        None,
        description="Further receivers, which jobs choose by name: a JSON object of the form "
        '{"name": {"url": "https://…", "secret": "whsec_…"}}, each with resultPath and progressPath if they differ. '
        "Without an address of Convex, the one called default is told about jobs that choose none.",
    )
    webhook_events: Events = Field(
        ",".join(event for event in Event if event in USUAL_EVENTS),
        description="What is posted: any of job.queued, job.started, job.progress, job.retrying (to the path for "
        "progress), job.completed, job.failed and job.cancelled (to the path for results).",
    )
    webhook_progress: bool = Field(True, description="Whether progress is posted too (true or false).")
    webhook_profile: Literal["chef", "full"] = Field(
        "chef",
        description="What a result's body holds: chef has the original service's fields output, error, logs and "
        "duration beside the others; full leaves out those that repeat another.",
    )
    webhook_allow_private: bool = Field(
        False,
        description="Whether the name of a receiver may lead to a private address (true or false). Addresses, names "
        "without a dot, and .local and .internal names always may.",
    )
    requests_ca_bundle: FilePath | None = Field(
        None, description="PEM file of the authorities that webhooks trust; default: the system's and certifi's."
    )

    @field_validator("convex_site_url")
    @classmethod
    def _known_or_derived(cls, value: str | None, info: ValidationInfo) -> str | None:
        convex_url = info.data.get("convex_url")
        return value if value or not convex_url else receivers.derived_site(convex_url)

    @field_validator("webhook_secret")
    @classmethod
    def _there_if_needed(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and (info.data.get("convex_url") or info.data.get("convex_site_url")):
            raise ValueError("must be set when CONVEX_URL or CONVEX_SITE_URL is: results are never posted unsigned")
        return value

    @field_validator("convex_upload")
    @classmethod
    def _knows_where(cls, value: str, info: ValidationInfo) -> str:
        if value != "none" and not info.data.get("convex_url"):
            raise ValueError("needs CONVEX_URL: files go to the deployment's own address, not to its HTTP actions")
        return value

    @field_validator("webhook_endpoints")
    @classmethod
    def _readable(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        named = receivers.endpoints(value.get_secret_value(), {"result": "/", "progress": "/"}) if value else {}
        if DEFAULT_ENDPOINT in named and (info.data.get("convex_url") or info.data.get("convex_site_url")):
            raise ValueError(f"endpoint {DEFAULT_ENDPOINT}: this is the one that CONVEX_URL or CONVEX_SITE_URL names")
        return value


class SandboxSettings(_Group):
    """Sandboxes: the Docker Engine and what one job may use."""

    docker_host: str | None = Field(
        None,
        pattern=r"^(unix|tcp|https?|ssh)://",
        description="Address of the Docker Engine; default: the local socket.",
    )
    worker_memory_limit: Bytes = Field(512 << 20, ge=64 << 20, description="Memory of one sandbox, swap off (size).")
    max_memory_limit: Bytes = Field(
        2 << 30, description="Most memory that a job may ask for, or get after running out (size)."
    )
    worker_disk_limit: Bytes = Field(
        1 << 30, ge=16 << 20, description="Room of one workspace (size); one file for each 4k."
    )
    max_disk_limit: Bytes = Field(4 << 30, description="Most room that a job may ask for (size).")
    worker_workspace: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description="Where workspaces are: memory (bounded by the kernel, charged beside the memory limit), disk "
        "(watched, and ended soon after the limit), or auto: memory if all slots' limits fit in 75 % of the machine's.",
    )
    worker_cpu_limit: float = Field(1.0, ge=0.1, le=1_024, allow_inf_nan=False, description="CPUs of one sandbox.")
    max_cpu_limit: float = Field(4.0, le=1_024, allow_inf_nan=False, description="Most CPUs that a job may ask for.")
    worker_pids_limit: int = Field(256, ge=16, le=32_768, description="Most processes and threads in one sandbox.")
    max_pids_limit: int = Field(1_024, le=32_768, description="Most processes that a job may ask for.")
    memory_budget: Bytes | None = Field(
        None,
        description="Memory of all jobs of one worker together, workspaces in memory included (size); a job that does "
        "not fit waits; default: 75 % of the engine's machine.",
    )
    cpu_budget: float | None = Field(
        None,
        ge=0.1,
        le=1_024,
        allow_inf_nan=False,
        description="CPUs of all jobs together; default: the engine's machine's, or WORKER_CPU_LIMIT for each slot.",
    )
    worker_output_limit: Bytes = Field(
        1 << 30, description="A job that prints more is ended (size); how much of it is kept is said below."
    )
    worker_timeout: Milliseconds = Field(300_000, description="Longest run of a job in all (milliseconds).")
    max_timeout: Milliseconds = Field(1_800_000, description="Longest run that a job may ask for (milliseconds).")
    install_timeout: Milliseconds | None = Field(
        None, description=f"Longest installation (milliseconds); default: {_INSTALL_MS}, but within WORKER_TIMEOUT."
    )
    command_timeout: Milliseconds | None = Field(
        None, description=f"Longest command (milliseconds); default: {_COMMAND_MS}, but within WORKER_TIMEOUT."
    )

    sandbox_runtime: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Runtime of the Docker Engine that runs the jobs' code, such as runsc; default: the engine's own.",
    )
    parked_sandboxes: str = Field(
        "node",
        description="Images (node, python) of which each slot has a sandbox waiting, started and empty, so that a job "
        "begins at once; some 30 MB each; none: none wait.",
    )
    kept_sandboxes: int = Field(
        0,
        ge=0,
        le=64,
        description="How many failed jobs' sandboxes are kept at a time, if the request says keepSandbox, to be looked "
        "into with docker exec; 0: none.",
    )
    kept_sandbox_minutes: int = Field(60, ge=1, le=1_440, description="How long each of them stays (minutes).")
    egress_allow: str = Field(
        "",
        description="What installs may reach beside the package registries: hosts, host:port or http:// addresses, "
        "separated by comma or space.",
    )
    egress_private: str = Field(
        "",
        description="Networks of one's own that allowed names may lead to, such as 10.1.2.0/24, separated by comma or "
        "space; names that lead to any other address that is not public are not let through.",
    )

    @field_validator("parked_sandboxes")
    @classmethod
    def _images(cls, value: str) -> str:
        for word in _words(value):
            if word not in {"node", "python", "none"}:
                raise ValueError(f"{word!r} is not node, python or none")
        return value

    @property
    def parked(self) -> tuple[str, ...]:
        """The images of which a sandbox waits in each slot."""
        return tuple(dict.fromkeys(word for word in _words(self.parked_sandboxes) if word != "none"))

    @field_validator("egress_allow")
    @classmethod
    def _hosts(cls, value: str) -> str:
        for word in _words(value):
            if not re.fullmatch(r"(https?://)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?/?", word):
                raise ValueError(f"{word!r} is not a host, host:port or http(s) address")
        return value

    @field_validator("egress_private")
    @classmethod
    def _networks(cls, value: str) -> str:
        for word in _words(value):
            ipaddress.ip_network(word)  # its own words say what is wrong
        return value

    @field_validator("install_timeout", "command_timeout")
    @classmethod
    def _within_the_whole(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value > info.data.get("worker_timeout", value):
            raise ValueError("must not be above WORKER_TIMEOUT")
        return value


class OutputSettings(_Group):
    """Output: what is kept of a run."""

    data_dir: Path = Field(Path(".data"), description="Folder for artifacts and for a Redis server started here.")
    min_free_disk: Annotated[int, BeforeValidator(_size)] = Field(
        512 << 20, ge=0, description="New jobs are refused while DATA_DIR's disk has less room than this (size)."
    )
    artifact_max_bytes: Bytes = Field(100 << 20, description="Most bytes of a job's artifacts together (size).")
    artifact_max_files: int = Field(2_000, ge=1, le=100_000, description="Most artifacts of a job.")
    log_head_bytes: Bytes = Field(4 << 20, description="How much of the beginning of a log is kept (size).")
    log_tail_bytes: Bytes = Field(1 << 20, description="How much of the end of a longer log is kept (size).")
    log_line_bytes: Bytes = Field(16 << 10, ge=256, description="Longest line of a log, the rest is cut (size).")


class FunctionSettings(_Group):
    """Functions: named ones, kept with their dependencies."""

    max_functions: int = Field(100, ge=0, le=100_000, description="How many there may be.")
    keep_function_versions: int = Field(
        5, ge=1, le=1_000, description="Versions of each that are kept; older ones make room, never the current one."
    )
    function_max_bytes: Bytes = Field(100 << 20, description="Most bytes of one version with its dependencies (size).")
    functions_max_bytes: Bytes = Field(2 << 30, description="Most bytes of all versions together (size).")


class CacheSettings(_Group):
    """Caches: what is kept so that it need not be done again."""

    dependency_cache_bytes: Annotated[int, BeforeValidator(_size)] = Field(
        5 << 30,
        ge=0,
        description="Room for installed dependencies and packages that jobs share, read-only (size); 0: none.",
    )
    dependency_cache_days: float = Field(
        14.0, gt=0, allow_inf_nan=False, description="How long those that nobody uses are kept (days)."
    )
    result_cache_hours: float = Field(
        24.0,
        ge=0,
        le=24 * 366,
        allow_inf_nan=False,
        description="For how long the same work (files, dependencies, commands, env, image) is answered with the "
        "earlier success (hours); 0: never. Versions that are not locked may have moved on in that time.",
    )


class RetentionSettings(_Group):
    """Retention: how long finished jobs are kept, with their requests, logs and artifacts; 0: no bound."""

    keep_days: float = Field(30.0, ge=0, allow_inf_nan=False, description="Age of the oldest (days).")
    keep_upload_hours: float = Field(
        24.0, gt=0, le=24 * 365, allow_inf_nan=False, description="Age of an upload (hours)."
    )
    keep_jobs: int = Field(10_000, ge=0, description="How many.")
    keep_bytes: Annotated[int, BeforeValidator(_size)] = Field(
        5 << 30, ge=0, description="How much they may take together (size)."
    )


class WorkerSettings(_Group):
    """Workers: how jobs are run and tried again."""

    max_concurrent_workers: int = Field(5, ge=1, le=256, description="Jobs that one worker process runs at a time.")
    max_concurrent_per_chat: int = Field(
        0, ge=0, le=256, description="Jobs of one chat that run at a time, over all workers; 0: no bound."
    )
    ageing_seconds: Seconds = Field(
        600.0, ge=1, description="A job that has waited this long gets its turn whatever its priority (seconds)."
    )
    lease_seconds: Seconds = Field(
        15.0, ge=1, description="After this long without a sign of life, a worker's job goes to another (seconds)."
    )
    shutdown_grace_seconds: Seconds = Field(
        30.0, description="How long running jobs may go on when a worker is told to stop (seconds)."
    )
    retry_attempts: int = Field(
        3, ge=1, le=100, description="Most attempts at a job when the machine, not the project, is at fault."
    )
    retry_base_seconds: Seconds = Field(2.0, description="Wait before the second attempt, doubled each time (seconds).")
    retry_cap_seconds: Seconds = Field(60.0, description="Longest wait between two attempts (seconds).")
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(lambda text: str(text).upper())
    ] = Field("INFO", description="Least weight of the service's own log lines: DEBUG, INFO, WARNING or ERROR.")
    log_format: Literal["console", "json"] = Field(
        "console", description="Form of these lines: console (text) or json (one object in each)."
    )

    @field_validator("retry_cap_seconds")
    @classmethod
    def _not_below_the_base(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("retry_base_seconds", 0):
            raise ValueError("must not be below RETRY_BASE_SECONDS")
        return value


class TraceSettings(_Group):
    """Traces: spans of requests, jobs and webhooks, for a collector that takes OTLP over HTTP (docs/operations.md).

    Further variables of OpenTelemetry (OTEL_TRACES_SAMPLER, OTEL_RESOURCE_ATTRIBUTES, and others) hold as well, from
    the environment alone.
    """

    otel_exporter_otlp_endpoint: Site | None = Field(
        None, description="Address of the collector, such as http://localhost:4318; without it no spans are made."
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        None, description="Headers that it wants, as name=value, separated by commas."
    )
    otel_service_name: str = Field("chef-workers", description="What spans call the service.")


#: All groups, in the order of .env.example.
GROUPS: tuple[type[_Group], ...] = (
    RedisSettings, ApiSettings, AccessSettings, ConvexSettings, SandboxSettings, OutputSettings, CacheSettings,
    FunctionSettings, RetentionSettings, WorkerSettings, TraceSettings,
)  # fmt: skip


class Settings(
    TraceSettings,
    WorkerSettings,
    RetentionSettings,
    FunctionSettings,
    CacheSettings,
    OutputSettings,
    SandboxSettings,
    ConvexSettings,
    AccessSettings,
    ApiSettings,
    RedisSettings,
):
    """All settings, checked, and what follows from them. Get one from load()."""

    @property
    def redis_url(self) -> str:
        """Address of Redis, from REDIS_URL or put together from the parts; holds the password, so never log it."""
        if self.redis_url_given:
            return self.redis_url_given.get_secret_value()
        host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
        password = f":{quote(self.redis_password.get_secret_value(), safe='')}@" if self.redis_password else ""
        return f"redis://{password}{host}:{self.redis_port}/0"

    @property
    def is_loopback(self) -> bool:
        """True if the API is there for this machine alone."""
        host = self.publish.rpartition(":")[0].strip("[]") if self.publish else self.host
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

    @property
    def conditions(self) -> Conditions:
        """On what conditions the API lets callers in."""
        public = urlsplit(self.public_url).hostname if self.public_url else None
        preview = urlsplit(self.preview_url).hostname if self.preview_url else None
        return Conditions(
            loopback=self.is_loopback,
            allow_anonymous=self.allow_anonymous,
            key_per_minute=self.rate_limit_key,
            address_per_minute=self.rate_limit_address,
            failures_per_minute=self.rate_limit_failures,
            trusted_proxies=tuple(map(ipaddress.ip_network, _words(self.trusted_proxies))),
            hosts=(*_words(self.allowed_hosts), *([public] if public else ()), *([preview] if preview else ())),
            origins=_words(self.cors_origins),
        )

    @property
    def configured_redis_url(self) -> str | None:
        """redis_url if any part of it is set, else None: then machine.redis_server looks for one itself."""
        parts = {"redis_url_given", "redis_host", "redis_port"}  # a password alone names no server
        return self.redis_url if self.model_fields_set & parts else None

    @property
    def site_url(self) -> str | None:
        """Address that webhooks are posted to, without a closing slash; None: no webhooks."""
        return self.convex_site_url

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The signing secrets, the newest first; empty when no address is set and none is given."""
        return receivers.signing_secrets(self.webhook_secret.get_secret_value()) if self.webhook_secret else ()

    @property
    def secret_values(self) -> tuple[str, ...]:
        """Everything that no log may show."""
        given = [value.get_secret_value() for value in dict(self).values() if isinstance(value, SecretStr)]
        signing = [secret for endpoint in self.endpoints.values() for secret in endpoint.secrets]
        password = urlsplit(self.redis_url).password
        return (*given, *signing, *self.webhook_secrets, *([password] if password else []))

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """Where webhooks can go, by name; empty: nowhere. Jobs that choose none are told to the one called default."""
        paths = {"result": self.webhook_result_path, "progress": self.webhook_progress_path}
        how = (str(self.requests_ca_bundle or ""), self.webhook_allow_private)
        convex = Endpoint(self.site_url, self.webhook_secrets, paths, *how) if self.site_url else None
        if convex and self.convex_upload != "none":
            upload = {"upload": self.webhook_upload_path}
            convex = replace(convex, paths=paths | upload, storage=self.convex_url or "")
        named = self.webhook_endpoints.get_secret_value() if self.webhook_endpoints else "{}"
        return ({DEFAULT_ENDPOINT: convex} if convex else {}) | receivers.endpoints(named, paths, *how)

    @property
    def otel_headers(self) -> str:
        """OTEL_EXPORTER_OTLP_HEADERS, which may hold a token."""
        return self.otel_exporter_otlp_headers.get_secret_value() if self.otel_exporter_otlp_headers else ""

    @property
    def told_events(self) -> frozenset[Event]:
        """What is posted."""
        chosen = {Event(name) for name in self.webhook_events.replace(",", " ").split()}
        return frozenset(chosen if self.webhook_progress else chosen - {Event.PROGRESS})

    @property
    def environment(self) -> dict[str, str]:
        """The settings that were given, as variables for a process started with them; holds the secrets."""
        fields = type(self).model_fields
        given = {fields[name].alias: getattr(self, name) for name in self.model_fields_set}
        return {str(variable): _plain(value) for variable, value in given.items() if value is not None}

    @property
    def function_quota(self) -> Quota:
        """How much the named functions may be."""
        return Quota(self.max_functions, self.keep_function_versions, self.functions_max_bytes)

    @property
    def body_bytes(self) -> int:
        """Most bytes of a request's body."""
        return self.max_body_bytes or self.max_project_bytes * 3 // 2

    @property
    def uploads_dir(self) -> Path:
        """Folder of the projects that were sent ahead of their jobs."""
        return self.data_dir / "uploads"

    @property
    def keep_upload_s(self) -> float:
        """KEEP_UPLOAD_HOURS in seconds."""
        return self.keep_upload_hours * 3_600

    @property
    def snapshot_places(self) -> frozenset[str]:
        """Where snapshots may be fetched from: hosts, with a port where it is not that of the scheme."""
        convex = [urlsplit(site).netloc for site in (self.convex_url, self.convex_site_url) if site]
        return frozenset(word.lower() for word in _words(self.snapshot_hosts) or convex)

    @property
    def service(self) -> str:
        """What tells this service from others at one Docker Engine: the same Redis and prefix are the same service."""
        place = self.redis_url.partition("://")[2].rpartition("@")[2]  # without the password, which may change
        return f"{self.redis_prefix}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"

    @property
    def lease_ms(self) -> int:
        """LEASE_SECONDS in milliseconds."""
        return int(self.lease_seconds * 1_000)

    @property
    def egress(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The hosts that installs may reach beside the registries, and the private networks that they may be in."""
        return _words(self.egress_allow), _words(self.egress_private)

    @property
    def bounds(self) -> Bounds:
        """What a submission may hold."""
        kept = self.kept_sandboxes > 0
        return Bounds(self.max_files, self.max_project_bytes, tuple(self.endpoints), self.allowance, kept)

    @property
    def allowance(self) -> Allowance:
        """Which limits one job may ask for; what every job gets may always be asked for."""
        usual = self.limits
        return {
            "memoryBytes": Range(64 << 20, max(usual.memory_bytes, self.max_memory_limit)),
            "diskBytes": Range(16 << 20, max(usual.disk_bytes, self.max_disk_limit)),
            "outputBytes": Range(1 << 10, usual.output_bytes),
            "cpus": Range(0.1, max(usual.cpus, self.max_cpu_limit)),
            "pids": Range(16, max(usual.pids, self.max_pids_limit)),
            "timeoutMs": Range(1_000, max(self.worker_timeout, self.max_timeout)),
            "installTimeoutMs": Range(1_000, max(self.worker_timeout, self.max_timeout)),
            "commandTimeoutMs": Range(1_000, max(self.worker_timeout, self.max_timeout)),
        }

    @property
    def limits(self) -> Limits:
        """What one sandbox may use."""
        return Limits(
            memory_bytes=self.worker_memory_limit,
            cpus=self.worker_cpu_limit,
            pids=self.worker_pids_limit,
            disk_bytes=self.worker_disk_limit,
            output_bytes=self.worker_output_limit,
            total_s=self.worker_timeout / 1000,
            install_s=(self.install_timeout or min(_INSTALL_MS, self.worker_timeout)) / 1000,
            command_s=(self.command_timeout or min(_COMMAND_MS, self.worker_timeout)) / 1000,
            artifact_bytes=self.artifact_max_bytes,
            artifact_files=self.artifact_max_files,
            log_head_bytes=self.log_head_bytes,
            log_tail_bytes=self.log_tail_bytes,
            log_line_bytes=self.log_line_bytes,
        )


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from the environment and a file, or from `environ` alone.

    The file is `.env` in the working folder, or the one that the variable SETTINGS_FILE names. It is read anew each
    time, unlike the environment of a process: what is to change at a reload belongs there.

    Raises:
        SetupError: Its text has one line per mistake, each with the variable's name and none with a value.
    """
    try:
        if environ is None:
            return Settings(_env_file=_settings_file())
        given = InitSettingsSource(Settings, {name: text for name, text in environ.items() if text})
        return Settings(_build_sources=((given,), {}))
    except ValidationError as error:
        # The place of a wrong default is the field's name, not the variable's; they differ in case alone.
        mistakes = [(str(each["loc"][0]).upper(), each["msg"]) for each in error.errors(include_input=False)]
    except (OSError, UnicodeDecodeError):
        mistakes = [(".env", "cannot be read as UTF-8 text")]
    # Raised out here, so that no traceback carries the first error along, which knows the values.
    lines = [f"  {name}: {message.removeprefix('Value error, ')}" for name, message in mistakes]
    raise SetupError("\n".join(["The settings hold mistakes:", *lines]))


def _settings_file() -> str:
    """Raises SetupError if there is none where SETTINGS_FILE says."""
    named = os.environ.get("SETTINGS_FILE")  # noqa: TID251  (this module is where settings are read)
    if named and not Path(named).is_file():
        raise SetupError("The settings hold mistakes:\n  SETTINGS_FILE: there is no such file")
    return named or ".env"


@functools.cache
def load_or_exit() -> Settings:
    """load(), for programs: mistakes go to standard error, and the program ends with code 2.

    Read once: gunicorn's processes have what its first one had when it began or was told to reload, whatever has become
    of the file when one of them is replaced.
    """
    try:
        return load()
    except SetupError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def env_example() -> str:
    """The text of .env.example: every variable with its meaning and, commented out, its default."""
    head = (
        "Settings of Chef Workers. Copy to .env and take the # from what you change; shown is the default. A size is "
        "a number of bytes, or has k, m or g (powers of 1024). Made by: python config.py > .env.example"
    )
    return _comment(head) + "".join(map(_group_example, GROUPS))


def _group_example(group: type[_Group]) -> str:
    rule = "# " + "-" * 98 + "\n"
    heading = "#\n".join(_comment(" ".join(part.split())) for part in (group.__doc__ or "").split("\n\n"))
    fields = (
        f"\n{_comment(field.description or '')}#{field.alias}={default_text(field)}\n"
        for field in group.model_fields.values()
    )
    return f"\n{rule}{heading}{rule}" + "".join(fields)


def _comment(text: str) -> str:
    return textwrap.fill(text, 100, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + "\n"


def default_text(field: FieldInfo) -> str:
    """A field's default as one would write it: sizes with their unit, whole seconds without a fraction."""
    value = field.default
    if value is None:
        return ""
    if "(size)" in (field.description or ""):
        unit = max((unit for unit, factor in _UNITS.items() if value % factor == 0), key=lambda unit: _UNITS[unit])
        return f"{value // _UNITS[unit]}{unit}"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    sys.stdout.write(env_example())
