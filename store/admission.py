"""How jobs come in: submitted by a caller, run anew, or replayed; and when they are turned away."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Sequence
from typing import Any

from errors import ChefError, IdempotencyConflict, JobNotFound, QueueFull, QuotaExceeded, RateLimited, StoreUnavailable
from jobs import QUEUES, Job, Request, Status, new_id
from store.connection import Connection, translated
from store.rating import rates_argument, taken_of
from store.reading import Reading
from store.records import job_from_reply
from store.together import Together
from store.values import Rules, Submitted
from submission import Options

#: Share of the server's memory beyond which nothing new is taken in, so that what is inside can end.
MEMORY_SHARE = 0.8
MEMORY_SEEN_S = 1.0
#: How many submissions share a call: it takes Redis 2 ms, or 10 with projects of 100 KB, and nobody else gets in.
MOST_TOGETHER = 32


class MemoryGauge(Connection):
    """Knows, to the second, whether the server has room for new jobs."""

    _memory_seen_at = float("-inf")
    _memory_share = 0.0

    def memory_share(self) -> float:
        """How much of its memory the server uses, 0 to 1 and beyond; 0 if it has no bound. At most a second old."""
        if time.monotonic() - self._memory_seen_at > MEMORY_SEEN_S:
            with translated():
                memory = self._redis.info("memory")
            self._memory_share = memory["used_memory"] / memory["maxmemory"] if memory["maxmemory"] else 0.0
            self._memory_seen_at = time.monotonic()
        return self._memory_share


class Admission(MemoryGauge, Reading):
    """Each way in is one script call: when it returns, the job is kept whole; when it raises, nothing is kept.

    Threads that submit while a call is under way share the next one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._add: Together[list[Any], Any] = Together(self._add_all, MOST_TOGETHER)

    def add(self, request: Request) -> Job:
        """Take a job in without any options."""
        return self.submit(request, Options()).job

    def submit(self, request: Request, options: Options) -> Submitted:
        """Take a job in, or find the one that this submission means again.

        Raises:
            IdempotencyConflict: The key was used with another body.
            QueueFull: The queue is full, or is being drained.
            QuotaExceeded, RateLimited: The tenant, or the caller, has had as much as it may have.
            StoreUnavailable: Also when Redis has used four fifths of its memory.
        """
        self._require_memory()
        job_id = options.job_id or new_id()
        outcome = _outcome(request, options, job_id, self.rules, self._add(_arguments(request, options, job_id)))
        if isinstance(outcome, ChefError):
            raise outcome
        return outcome

    def submit_all(self, submissions: Sequence[tuple[Request, Options]]) -> list[Submitted | ChefError]:
        """Take several in, in one step; for each what submit returns or raises. StoreUnavailable is raised."""
        self._require_memory()
        named = [(request, options, options.job_id or new_id()) for request, options in submissions]
        answers = self._add_all([_arguments(*each) for each in named])
        return [_outcome(*each, self.rules, answer) for each, answer in zip(named, answers, strict=True)]

    def _add_all(self, jobs: Sequence[list[Any]]) -> Any:
        return self._run("add", *itertools.chain.from_iterable(jobs))

    def _require_memory(self) -> None:
        if self.memory_share() > MEMORY_SHARE:
            raise StoreUnavailable("Redis is short of memory: no new jobs until some have ended and were removed")

    def rerun(self, job_id: str, *, idempotency_key: str = "", trace: str = "") -> Job:
        """A new job with the same request, tags, metadata, retry rule and receivers as an old one, finished or not.

        Raises:
            JobNotFound, QueueFull: As get and submit do.
            MoveRefused: What it asks for cannot be read.
        """
        old = self.get(job_id)
        options = Options(
            idempotency_key=idempotency_key,
            tags=old.tags,
            metadata=old.metadata,
            retry=old.retry,
            webhook=old.webhook,
            replay_of=job_id,
            tenant=old.tenant,
            trace=trace,
        )
        return self.submit(self.known_request(job_id), options).job

    def replay(self, job_id: str, *, trace: str = "") -> Job:
        """Run a dead letter's job anew and take the letter off the list. Repeated, it answers the same new job.

        Raises:
            JobNotFound: There is no such dead letter.
        """
        # No caller has such a key: an HTTP header holds no line break.
        repeated = f"\nreplay of {job_id}"
        tenant = self.get(job_id).tenant
        with translated():
            listed = self._redis.zscore(self._key("dead"), job_id) is not None
            known = listed or self._redis.exists(self._key("idempotency", of_tenant(tenant, repeated)))
        if not known:
            raise JobNotFound(f"no dead letter {job_id}")
        job = self.rerun(job_id, idempotency_key=repeated, trace=trace)
        with translated():
            self._redis.zrem(self._key("dead"), job_id)
        return job


def of_tenant(tenant: str, name: str) -> str:
    """A name that a caller chose, apart from the same name of another tenant; lua/common.lua has the same."""
    return f"{tenant}\n{name}" if tenant else name


def _quota_exceeded(which: str, wait_ms: int, rules: Rules) -> QuotaExceeded:
    bound = {
        "queued": f"{rules.quota_queued:,} jobs that wait",
        "cpu": f"{rules.quota_cpu_ms // 1000:,} seconds of CPU time in an hour",
        "bytes": f"{rules.quota_bytes:,} bytes of finished jobs that are kept",
    }[which]
    error = QuotaExceeded(f"The tenant has its quota of {which}: {bound}.")
    error.retry_after_s = -(-wait_ms // 1000) or error.retry_after_s
    return error


def _outcome(request: Request, options: Options, job_id: str, rules: Rules, reply: Any) -> Submitted | ChefError:
    """What became of one submission, as lua/add.lua answered."""
    outcome, answer, taken = reply
    try:
        rated = taken_of(options.rates, taken)
    except RateLimited as error:
        return error
    if outcome == b"new":
        return Submitted(_new_job(request, options, job_id, answer), created=True, taken=rated)
    if outcome in (b"again", b"known"):
        return Submitted(job_from_reply(answer), outcome == b"again", rated)
    return _refusal(outcome.decode(), answer, QUEUES[request.type], rules)


def _refusal(outcome: str, answer: Any, queue: str, rules: Rules) -> ChefError:
    """Why a submission was not taken in."""
    if outcome == "quota":
        return _quota_exceeded(answer[0].decode(), answer[1], rules)
    if outcome == "conflict":
        return IdempotencyConflict(f"the idempotency key belongs to {answer.decode()}, which had another body")
    if outcome == "full":
        return QueueFull(f"{answer} jobs wait in the queue {queue}, which is its bound")
    reason = answer.decode().partition("|")[2]
    return QueueFull(f"the queue {queue} takes no new jobs: {reason or 'it is being drained'}")


def _new_job(request: Request, options: Options, job_id: str, added: Sequence[Any]) -> Job:
    """The record of a job that has just been taken in; `added` are the fields that only the script knows."""
    pairs = iter(added)
    moments: dict[str, Any] = {name.decode(): int(number) for name, number in zip(pairs, pairs, strict=True)}
    return Job(
        id=job_id,
        type=request.type,
        status=Status.PENDING,
        priority=request.priority,
        chat_id=request.chat_id,
        tags=options.tags,
        metadata=options.metadata,
        retry=options.retry,
        webhook=options.webhook,
        replay_of=options.replay_of,
        tenant=options.tenant,
        trace=options.trace,
        **moments,
    )


def _arguments(request: Request, options: Options, job_id: str) -> list[str | int | bytes]:
    """What lua/add.lua is told of one job; the record's fields come last, the first five of them in this order."""
    fields: list[str | int] = [
        "queue", QUEUES[request.type],
        "type", request.type.value,
        "priority", request.priority,
        "chat_id", request.chat_id,
        "tenant", options.tenant,
    ]  # fmt: skip
    if asks := request.asks:
        fields += "asks", " ".join(asks)
    if options.tags:
        fields += "tags", json.dumps(options.tags)
    if options.metadata:
        fields += "metadata", json.dumps(options.metadata)
    if options.retry:
        fields += "retry", json.dumps(options.retry.to_json())
    if options.webhook is not None:
        fields += "webhook", json.dumps(options.webhook)
    if options.trace:
        fields += "trace", options.trace
    if options.replay_of:
        fields += "replay_of", options.replay_of
    arguments = [
        job_id,
        request.to_bytes(),
        options.idempotency_key,
        options.body_hash,
        options.fingerprint,
        options.delay_ms,
        options.run_at_ms,
        options.expires_in_ms,
        "1" if options.supersede else "",
        rates_argument(options.rates),
        *fields,
    ]
    return [len(arguments), *arguments]
