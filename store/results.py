"""Where a result can be found again: the newest successful job for each fingerprint of work, for a while."""

from __future__ import annotations

from store.connection import Connection, translated


class Results(Connection):
    """Nothing depends on what is kept here: what is forgotten is done again."""

    def remember_result(self, fingerprint: str, job_id: str, seconds: int) -> None:
        """Let later jobs with this fingerprint find this job, for so long."""
        with translated():
            self._redis.set(self._key("result", fingerprint), job_id, ex=seconds)

    def known_result(self, fingerprint: str) -> str | None:
        """The id of a job that did this work; it may have been removed since."""
        with translated():
            known = self._redis.get(self._key("result", fingerprint))
        return known.decode() if known else None
