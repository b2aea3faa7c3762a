"""The whole battery: python -m tests.hostile [number ...] [--runtime NAME] prints the table of docs/security.md.

Takes about five minutes; ends with 1 if anything was harmed, or an item did not end as it should.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time

from tests.hostile import engines
from tests.hostile.battery import Row, run
from tests.hostile.ground import standing
from tests.hostile.table import ITEMS

HEAD = ("item", "what the job does", "outcome", "s", "everything else")


def main() -> int:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="number", help="such as H01; all if none is named")
    parser.add_argument("--runtime", default="", help="run the jobs' code with this runtime, in an engine of its own")
    chosen = parser.parse_args()
    if unknown := set(chosen.numbers) - {item.number for item in ITEMS}:
        parser.error(f"no such item: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped then, too
    began, rows = time.monotonic(), []
    with contextlib.ExitStack() as parts:
        engine = parts.enter_context(engines.with_runtime(chosen.runtime)) if chosen.runtime else engines.USUAL
        ground = parts.enter_context(standing(chosen.runtime, engine))
        print(line(HEAD), line(["---"] * len(HEAD)), sep="\n", flush=True)
        for item in ITEMS:
            if not chosen.numbers or item.number in chosen.numbers:
                rows.append(run(ground, item))
                print(shown(rows[-1]), flush=True)
    print(f"\n{summary(rows)}; {time.monotonic() - began:.0f} s")
    return 1 if any(row.faults for row in rows) else 0


def shown(row: Row) -> str:
    """A row in Markdown."""
    ran = bool(row.seconds)
    took, rest = (f"{row.seconds:.1f}", row.canaries) if ran or row.faults else ("", "")
    return line([row.item.number, row.item.what, ("**BAD** " if row.faults else "") + row.outcome, took, rest])


def summary(rows: list[Row]) -> str:
    """How many did what."""
    bad, silent = sum(bool(row.faults) for row in rows), sum(row.outcome.startswith("not run") for row in rows)
    return f"{len(rows)} rows: {len(rows) - bad - silent} as expected, {bad} bad, {silent} not run (each says why)"


def line(cells: list[str] | tuple[str, ...]) -> str:
    """A row in Markdown."""
    return f"| {' | '.join(cell.replace('|', '/').replace(chr(10), ' ') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(main())
