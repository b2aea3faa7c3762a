"""Finds jobs by what they are, over the indexes that the moves keep: never a scan of all keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from jobs import Job
from store.connection import Connection, translated
from store.records import readable
from store.values import Page, Query

#: One script call looks at so many jobs (about 1 ms of the server's time), one page at so many in all.
LOOKED_AT_ONCE = 1_000
LOOKED_AT = 20_000
#: What may be large in a record, and is seldom wanted in a list.
HEAVY = frozenset({"result", "artifacts", "attempts"})
_ALL = tuple(field.name for field in fields(Job))


class Listing(Connection):
    """Lists of jobs, and several at once."""

    def find(self, query: Query, without: frozenset[str] = frozenset()) -> Page:
        """The next page of what `query` asks for; the records lack the fields named in `without`.

        With filters that few jobs pass, or a text, a page ends after LOOKED_AT jobs at the latest.
        """
        found: list[bytes] = []
        ceiling = (query.to_ms + 1) * 1000 if query.to_ms else 0
        below = min(filter(None, (query.below, ceiling)), default=0)
        for _ in range(LOOKED_AT // LOOKED_AT_ONCE):
            reached, _, *ids = self._run(
                "list",
                query.tenant,
                query.limit - len(found),
                below or "+inf",
                query.from_ms * 1000 if query.from_ms else "-inf",
                LOOKED_AT_ONCE,
                query.text.lower(),
                *(query.indexes or ("all",)),
            )
            found += ids
            below = int(reached or 0)
            if not below or len(found) == query.limit:
                break
        jobs = self.get_many([job_id.decode() for job_id in found], without)
        return Page(tuple(job for job in jobs if job), below)

    def get_many(self, job_ids: Sequence[str], without: frozenset[str] = frozenset()) -> list[Job | None]:
        """The record of each id, None where there is none; one round trip."""
        wanted = [name for name in _ALL if name not in without]
        with translated(), self._pipeline() as pipe:
            for job_id in job_ids:
                if without:
                    pipe.hmget(self._key("job", job_id), wanted)
                else:
                    pipe.hgetall(self._key("job", job_id))
            records = pipe.execute()
        if without:
            records = [_present(wanted, values) for values in records]
        return [readable(record) for record in records]


def _present(names: Sequence[str], values: Sequence[bytes | None]) -> dict[bytes, bytes]:
    return {name.encode(): value for name, value in zip(names, values, strict=True) if value is not None}
