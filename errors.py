"""Everything that can go wrong, as one tree. HTTP numbers live in app.py, retry rules in jobs.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rates import Taken


class ChefError(Exception):
    """Base of all errors this project raises on purpose. `code` is the stable name a program can test for."""

    code = "internal_error"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a request: where (a JSON pointer into the body) and what."""

    pointer: str
    detail: str


class InvalidRequest(ChefError):
    """The request cannot be accepted; `mistakes` names every field at once."""

    code = "invalid_request"

    def __init__(self, mistakes: list[Mistake]) -> None:
        """Keep all mistakes; the exception's text is the first ones in one line."""
        self.mistakes = mistakes
        shown = "; ".join(f"{m.pointer or '#'}: {m.detail}" for m in mistakes[:3])
        more = f" (and {len(mistakes) - 3} more)" if len(mistakes) > 3 else ""
        super().__init__(shown + more)


class SourceNotFound(InvalidRequest):
    """What a job names as the source of its files is not there, or no more."""

    code = "source_not_found"


class SourceNotAllowed(InvalidRequest):
    """The settings do not let jobs have files from there."""

    code = "source_not_allowed"


class SourceNotReady(InvalidRequest):
    """The job whose files are wanted has not ended."""

    code = "source_not_ready"


class SourceUnavailable(InvalidRequest):
    """Another server, which has the files, does not give them."""

    code = "source_unavailable"


class NotFound(ChefError):
    """There is nothing of that name."""

    code = "not_found"


class Unauthorized(ChefError):
    """The caller has no key, or one that opens nothing. One text for all of them: what is wrong is not told."""

    code = "unauthorized"

    def __init__(self, message: str = "This needs a valid API key: send it as Authorization: Bearer cw_…") -> None:
        super().__init__(message)


class Forbidden(ChefError):
    """The caller's key is good, but not for this."""

    code = "forbidden"


class JobNotFound(ChefError):
    """There is no such job, or it was removed."""

    code = "job_not_found"


class ArtifactNotFound(ChefError):
    """The job has no artifact of that path."""

    code = "artifact_not_found"


class FunctionNotFound(ChefError):
    """There is no function of that name, or no such version of it."""

    code = "function_not_found"


class FunctionNotReady(ChefError):
    """The function, or the version, cannot be called: it is still being made, or could not be made."""

    code = "function_not_ready"


class FunctionQuota(ChefError):
    """There are as many functions as there may be."""

    code = "function_quota"


class MoveRefused(ChefError):
    """The job's status does not allow this move (see jobs.TRANSITIONS)."""

    code = "move_refused"


class IdempotencyConflict(ChefError):
    """The idempotency key was used before with another body."""

    code = "idempotency_conflict"


class QueueFull(ChefError):
    """The queue holds its maximum of waiting jobs; try again after `retry_after_s`."""

    code = "queue_full"

    def __init__(self, message: str, retry_after_s: int = 30) -> None:
        """Say which queue, its bound, and when to come back (seconds)."""
        self.retry_after_s = retry_after_s
        super().__init__(message)


class QuotaExceeded(ChefError):
    """The tenant has as much of something as it may have; try again after `retry_after_s`."""

    code = "quota_exceeded"

    def __init__(self, message: str, retry_after_s: int = 30) -> None:
        """Say which quota, and when to come back (seconds)."""
        self.retry_after_s = retry_after_s
        super().__init__(message)


class RateLimited(ChefError):
    """Too many requests; `taken` is how all buckets of this request stand, `wait_s` when there is one in them again."""

    code = "rate_limited"

    def __init__(self, full: Taken, wait_s: float, taken: tuple[Taken, ...] = ()) -> None:
        """`full` is the limit that was reached."""
        self.rate = full.rate
        self.wait_s = wait_s
        self.taken = taken
        self.retry_after_s = max(1, math.ceil(wait_s))
        limit = f"at most {full.rate.per_minute:,} requests a minute are taken for each {full.rate.policy}"
        super().__init__(f"Too many requests: {limit}. Try again in {self.retry_after_s} s.")


class StoreUnavailable(ChefError):
    """Redis does not answer, or refuses writes. Nothing is known about the call's effect."""

    code = "store_unavailable"


class DiskLow(ChefError):
    """The disk that keeps jobs and artifacts is nearly full; what runs goes on, nothing new is taken in."""

    code = "disk_low"


class StoreUnsuitable(ChefError):
    """Redis answers but cannot keep the promises made here (evicts, no AOF, replica, too old)."""

    code = "store_unsuitable"


class LeaseLost(ChefError):
    """This run no longer owns its job: another worker took over, or the job is over."""

    code = "lease_lost"


class RunStopped(ChefError):
    """The run was told to stop (cancelled, or its lease is lost); its containers are gone and there is no result."""

    code = "run_stopped"


class EngineFault(ChefError):
    """The Docker Engine, not the job, failed; `reason` is the jobs.Reason value to record."""

    code = "engine_fault"

    def __init__(self, reason: str, message: str) -> None:
        """`reason` is one of the infrastructure reasons of jobs.Reason."""
        self.reason = reason
        super().__init__(message)


class ImageUnavailable(EngineFault):
    """An image can neither be found, pulled nor built."""

    def __init__(self, message: str) -> None:
        """Say which image and what was tried."""
        super().__init__("image_pull_failed", message)


class StorageFailed(ChefError):
    """The disk that keeps artifacts failed: full, read-only, or a kept file is damaged. Infrastructure, so retried."""

    code = "storage_failed"
    #: The jobs.Reason value to record.
    reason = "storage_failed"


class SignatureMismatch(ChefError):
    """A webhook's signature is missing, malformed, stale or made with another secret; the text says which."""

    code = "signature_mismatch"


class SetupError(ChefError):
    """A setting is wrong or the machine lacks something; the text says what to do about it."""

    code = "setup_error"
