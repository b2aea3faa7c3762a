"""How jobs end and why: conclusions, and the closed list of reasons with the class that decides about retries."""

from __future__ import annotations

from enum import StrEnum


class Conclusion(StrEnum):
    """How a job ended, in one word."""

    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    TIMEOUT = "timeout"
    OOM = "oom"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class ReasonClass(StrEnum):
    """Whose doing an end was; this decides about retries."""

    USER = "user"
    LIMIT = "limit"
    INFRASTRUCTURE = "infrastructure"
    CALLER = "caller"


class Reason(StrEnum):
    """Why a job did not succeed: a closed list, each with its class and conclusion."""

    INSTALL_FAILED = "install_failed"
    BUILD_FAILED = "build_failed"
    TESTS_FAILED = "tests_failed"
    LINT_FAILED = "lint_failed"
    COMMAND_NOT_FOUND = "command_not_found"
    INVALID_PROJECT = "invalid_project"
    HANDLER_NOT_FOUND = "handler_not_found"
    FUNCTION_FAILED = "function_failed"
    FUNCTION_EXITED = "function_exited"
    RESULT_INVALID = "result_invalid"
    DEPENDENCY_SOURCE_NOT_ALLOWED = "dependency_source_not_allowed"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    OUTPUT_LIMIT = "output_limit"
    ARTIFACT_TOO_LARGE = "artifact_too_large"
    RESULT_TOO_LARGE = "result_too_large"
    WORKER_LOST = "worker_lost"
    RUNTIME_UNAVAILABLE = "runtime_unavailable"
    IMAGE_PULL_FAILED = "image_pull_failed"
    CONTAINER_START_FAILED = "container_start_failed"
    REGISTRY_UNREACHABLE = "registry_unreachable"
    STORAGE_FAILED = "storage_failed"
    INTERNAL_ERROR = "internal_error"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"
    FUNCTION_REMOVED = "function_removed"

    @property
    def reason_class(self) -> ReasonClass:
        """The class this reason belongs to."""
        return _CLASS_OF.get(self, ReasonClass.CALLER)  # a newer release's: only callers' reasons come from elsewhere

    @property
    def conclusion(self) -> Conclusion:
        """The conclusion a job ends with for this reason."""
        return _CONCLUSION_OF.get(self, _CONCLUSION_OF_CLASS[self.reason_class])


_REASONS_OF: dict[ReasonClass, tuple[Reason, ...]] = {
    ReasonClass.USER: (
        Reason.INSTALL_FAILED,
        Reason.BUILD_FAILED,
        Reason.TESTS_FAILED,
        Reason.LINT_FAILED,
        Reason.COMMAND_NOT_FOUND,
        Reason.INVALID_PROJECT,
        Reason.HANDLER_NOT_FOUND,
        Reason.FUNCTION_FAILED,
        Reason.FUNCTION_EXITED,
        Reason.RESULT_INVALID,
        Reason.DEPENDENCY_SOURCE_NOT_ALLOWED,
    ),
    ReasonClass.LIMIT: (
        Reason.TIMEOUT,
        Reason.OUT_OF_MEMORY,
        Reason.DISK_FULL,
        Reason.OUTPUT_LIMIT,
        Reason.ARTIFACT_TOO_LARGE,
        Reason.RESULT_TOO_LARGE,
    ),
    ReasonClass.INFRASTRUCTURE: (
        Reason.WORKER_LOST,
        Reason.RUNTIME_UNAVAILABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.CONTAINER_START_FAILED,
        Reason.REGISTRY_UNREACHABLE,
        Reason.STORAGE_FAILED,
        Reason.INTERNAL_ERROR,
    ),
    ReasonClass.CALLER: (Reason.CANCELLED, Reason.SUPERSEDED, Reason.EXPIRED, Reason.FUNCTION_REMOVED),
}
_CLASS_OF = {reason: kind for kind, reasons in _REASONS_OF.items() for reason in reasons}
_CONCLUSION_OF_CLASS: dict[ReasonClass, Conclusion] = {
    ReasonClass.USER: Conclusion.FAILURE,
    ReasonClass.LIMIT: Conclusion.FAILURE,
    ReasonClass.INFRASTRUCTURE: Conclusion.ERROR,
    ReasonClass.CALLER: Conclusion.CANCELLED,
}
_CONCLUSION_OF: dict[Reason, Conclusion] = {
    Reason.TIMEOUT: Conclusion.TIMEOUT,
    Reason.OUT_OF_MEMORY: Conclusion.OOM,
    Reason.EXPIRED: Conclusion.EXPIRED,
}
