"""The fault runs at full size: python -m tests.faults.chaos [name ...] prints the table of docs/reliability.md.

CHAOS_SEED=<number> replays a run's random choices. Takes about twenty minutes; ends with 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from tests.faults import engine_scenarios, receivers, scenarios
from tests.faults.scenarios import Outcome

FULL_OUTAGE = receivers.Size(jobs=500, clock=240, kill_every_s=5)
Run = Callable[[], Outcome]

RUNS: dict[str, tuple[str, Run]] = {
    "worker-killed": ("worker, kill -9", partial(scenarios.random_kills, jobs=400, kills=30)),
    "worker-frozen": ("worker, SIGSTOP for 1.5 leases", partial(scenarios.random_freezes, jobs=200, freezes=12)),
    "worker-restarted": ("worker, SIGTERM and replaced", partial(scenarios.rolling_restarts, jobs=120, rounds=5)),
    "poison": ("job that kills its worker", partial(scenarios.poison, poisons=3, neighbours=100)),
    "idle": ("worker, kill -9, nothing else to do", partial(scenarios.idle_recoveries, times=3, lease_s=15)),
    "quiet": ("none: jobs that say nothing", partial(scenarios.quiet_jobs, ms=60_000, lease_s=15)),
    "cancels": ("cancel around start and end", partial(scenarios.racing_cancels, jobs=300)),
    "api-killed": ("API process, kill -9", partial(scenarios.api_kills, kills=20)),
    "redis-killed": ("Redis, kill -9, down for 1 s", partial(scenarios.redis_kills, jobs=200, kills=6, down_s=1)),
    "receiver-away": (
        "receiver away for 6 h, worker, kill -9 every 5 s",
        partial(receivers.receiver_away, FULL_OUTAGE),
    ),
    "submissions": ("Redis, kill -9 under submissions", partial(scenarios.submissions_kept, kills=10)),
    "partition": ("Redis silent for one worker", partial(scenarios.silent_partition, lease_s=15)),
    "containers": ("worker, kill -9, real containers", partial(engine_scenarios.container_kills, jobs=40, kills=10)),
    "engine-away": ("engine refuses connections", partial(engine_scenarios.engine_away, jobs=12, seconds=10)),
    "engine-killed": ("dockerd, kill -9", partial(engine_scenarios.engine_harmed, "kill", jobs=12, seconds=5)),
    "engine-frozen": ("dockerd, SIGSTOP", partial(engine_scenarios.engine_harmed, "freeze", jobs=12, seconds=20)),
    "engine-stopped": ("dockerd, SIGTERM", partial(engine_scenarios.engine_harmed, "stop", jobs=12, seconds=5)),
}
HEAD = (
    "fault",
    "load",
    "lost",
    "ended twice",
    "failed",
    "run again",
    "back after (s): median, worst",
    "note",
    "command",
)


def main() -> int:
    """Run what was named, or everything; 1 if a run broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(RUNS)}; all if none is named")
    chosen = parser.parse_args().names or list(RUNS)
    if unknown := set(chosen) - set(RUNS):
        parser.error(f"no such run: {', '.join(sorted(unknown))}")
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores")
    rows = [found for name in chosen if (found := row(name)) is not None]
    print(line(HEAD), line(["---"] * len(HEAD)), *rows, sep="\n")
    return 0 if len(rows) == len(chosen) else 1


def row(name: str) -> str | None:
    """The row of a run in the table; None if it broke a promise, which is printed."""
    fault, run = RUNS[name]
    print(f"{name}: {fault}", flush=True)
    try:
        outcome = run()
    except Exception:  # noqa: BLE001  (the other runs are worth having)
        traceback.print_exc()
        return None
    verdict = outcome.verdict
    command = f"`CHAOS_SEED={outcome.seed} … {name}`"
    counts = [len(verdict.lost), len(verdict.finished_twice), outcome.failed, verdict.reruns]
    found = line([fault, outcome.load, *map(str, counts), spread(outcome.recovery_s), outcome.note, command])
    print(found, flush=True)
    return found


def spread(seconds: list[float]) -> str:
    """Median and maximum."""
    return f"{sorted(seconds)[len(seconds) // 2]:.1f}, {max(seconds):.1f}" if seconds else ""


def line(cells: list[str] | tuple[str, ...]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
