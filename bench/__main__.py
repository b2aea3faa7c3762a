"""All benchmarks, or some of them.

    python -m bench [build] [changed] [row] [profile] [http] [access] [queue] [--rounds N]

Takes about twenty minutes in all and prints Markdown: what bench/README.md shows.
"""

from __future__ import annotations

import argparse
import sys
import time

from bench import access, build, changed, http, measure, profile, queue, row
from errors import SetupError

PARTS = {
    "build": build.run, "changed": changed.run, "row": row.run, "profile": profile.run, "http": http.run,
    "access": access.run, "queue": queue.run,
}  # fmt: skip


def main() -> int:
    """Run the parts that are asked for, one after the other; 1 if one cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="What the service costs, beside others.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them if none is named")
    parser.add_argument("--rounds", type=int, default=3, help="how often the contenders take turns (default: 3)")
    wanted = parser.parse_args()
    if unknown := set(wanted.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    try:
        for part in wanted.parts or PARTS:
            before, began = measure.surroundings(), time.monotonic()
            print(f"{part}:", flush=True)
            table = PARTS[part](wanted.rounds)
            took = f"took {time.monotonic() - began:.0f} s; load average then {measure.load()}"
            print(f"\n## {part}\n\n{before}; {wanted.rounds} rounds; {took}\n\n{table}\n", flush=True)
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
