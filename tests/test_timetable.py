"""When a schedule is due."""

from __future__ import annotations

import datetime as dt
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

import timetable
from timetable import GRACE_MS, MOST_CAUGHT_UP, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE_MS = 60_000
JOB: dict[str, Any] = {"type": "build", "data": {"projectFiles": {"a.txt": "secret text"}, "env": {"TOKEN": "hush"}}}


def ms(*moment: int, zone: dt.tzinfo = dt.UTC, fold: int = 0) -> int:
    """A moment as Unix milliseconds."""
    return int(dt.datetime(*moment, tzinfo=zone, fold=fold).timestamp() * 1000)  # type: ignore[arg-type,misc]


def berlin(moment_ms: int) -> str:
    """A moment as clocks in Berlin show it."""
    return dt.datetime.fromtimestamp(moment_ms / 1000, BERLIN).strftime("%d %H:%M %Z")


def ticks(after_ms: int, number: int, **when: Any) -> list[str]:
    """The next ticks of a schedule in Berlin."""
    return [
        berlin(tick) for tick in islice(Schedule("s", JOB, time_zone="Europe/Berlin", **when).ticks(after_ms), number)
    ]


def test_the_hour_that_is_left_out() -> None:
    """In spring a run at half past two happens once, right after the gap; a run of every half hour misses nothing."""
    eve = ms(2026, 3, 28, 12, zone=BERLIN)
    night = ms(2026, 3, 29, 1, 15, zone=BERLIN)

    assert ticks(eve, 3, cron="30 2 * * *") == ["29 03:00 CEST", "30 02:30 CEST", "31 02:30 CEST"]
    assert ticks(night, 3, cron="*/30 * * * *") == ["29 01:30 CET", "29 03:00 CEST", "29 03:30 CEST"]


def test_the_hour_that_comes_twice() -> None:
    """In autumn a run at half past two happens once, one of every half hour goes on through both hours."""
    eve = ms(2026, 10, 24, 12, zone=BERLIN)
    night = ms(2026, 10, 25, 1, 45, zone=BERLIN)

    assert ticks(eve, 2, cron="30 2 * * *") == ["25 02:30 CEST", "26 02:30 CET"]
    assert ticks(night, 5, cron="*/30 * * * *") == [
        "25 02:00 CEST", "25 02:30 CEST", "25 02:00 CET", "25 02:30 CET", "25 03:00 CET",
    ]  # fmt: skip


def test_the_same_wall_time_on_both_sides() -> None:
    """A daily run keeps its time on the wall over a change, so it comes 23 and 25 hours after the one before."""
    schedule = Schedule("s", JOB, cron="0 9 * * *", time_zone="Europe/Berlin")
    spring = list(islice(schedule.ticks(ms(2026, 3, 28, 0, zone=BERLIN)), 2))
    autumn = list(islice(schedule.ticks(ms(2026, 10, 24, 0, zone=BERLIN)), 2))

    assert [(pair[1] - pair[0]) // 3_600_000 for pair in (spring, autumn)] == [23, 25]


def test_interval_keeps_its_beat() -> None:
    """An interval counts from when the schedule was made, whatever is asked when."""
    schedule = Schedule("s", JOB, every_s=90, created_ms=1_000)

    assert list(islice(schedule.ticks(1_000), 3)) == [91_000, 181_000, 271_000]
    assert schedule.after(91_000) == 181_000
    assert schedule.after(90_999) == 91_000


def test_once() -> None:
    """A schedule for one moment has one tick."""
    schedule = Schedule("s", JOB, at_ms=5_000)

    assert (schedule.after(4_999), schedule.after(5_000)) == (5_000, 0)


@pytest.mark.parametrize(("catch_up", "made_up"), [("none", 0), ("last", 1), ("all", 10)])
def test_ticks_that_were_missed(catch_up: timetable.CatchUp, made_up: int) -> None:
    """After a silence, none, the last or all of the late ticks are made up for, and the next is in the future."""
    schedule = Schedule("s", JOB, every_s=60, next_ms=MINUTE_MS, catch_up=catch_up)
    now = 10 * MINUTE_MS + 30_000 + GRACE_MS
    run, following = schedule.missed(now)
    late = [tick for tick in run if tick < now - GRACE_MS]

    assert following > now
    assert [tick for tick in run if tick not in late] == [11 * MINUTE_MS]
    assert len(late) == (0 if catch_up == "last" else made_up)  # the one that is on time is the last


def test_last_of_the_missed() -> None:
    """With none on time, the last one that was missed is made up for."""
    schedule = Schedule("s", JOB, every_s=3600, next_ms=3_600_000, catch_up="last")
    run, following = schedule.missed(10 * 3_600_000 - 1)

    assert run == [9 * 3_600_000]
    assert following == 10 * 3_600_000


@given(st.integers(1, 10**6), st.integers(0, 10**9), st.sampled_from(timetable.CATCH_UPS))
def test_catching_up_is_bounded(every_s: int, silence_s: int, catch_up: timetable.CatchUp) -> None:
    """However long the silence, at most a hundred ticks are run, in order, and the schedule goes on after now."""
    schedule = Schedule("s", JOB, every_s=every_s, next_ms=every_s * 1000, catch_up=catch_up)
    now = schedule.next_ms + silence_s * 1000
    run, following = schedule.missed(now)

    assert len(run) <= MOST_CAUGHT_UP
    assert run == sorted(set(run))
    assert following > now


def test_what_is_shown() -> None:
    """The next runs are told, of the template what it is, and nothing of its files or its env."""
    schedule = Schedule("s", JOB, every_s=60, next_ms=60_000)
    shown = schedule.to_json()

    assert shown["nextRuns"][:2] == ["1970-01-01T00:01:00.000Z", "1970-01-01T00:02:00.000Z"]
    assert shown["job"] == {"type": "build", "chatId": None, "files": 1}
    assert "secret" not in str(shown) + repr(schedule)
    assert Schedule.from_bytes(schedule.to_bytes()) == schedule


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        ({"cron": "0 0 * * *", "everySeconds": 5}, "#"),
        ({"cron": "61 * * * *"}, "#/cron"),
        ({"cron": "0 0 30 2 *"}, "#/cron"),
        ({"cron": 5}, "#/cron"),
        ({"cron": "0 0 * * *", "timeZone": "Mars/Olympus"}, "#/timeZone"),
        ({"cron": "0 0 * * *", "timeZone": "../../etc/passwd"}, "#/timeZone"),
        ({"everySeconds": 0}, "#/everySeconds"),
        ({"everySeconds": True}, "#/everySeconds"),
        ({"everySeconds": 1e9}, "#/everySeconds"),
        ({"at": "2030-01-01T00:00:00"}, "#/at"),
        ({"at": "2001-01-01T00:00:00Z"}, "#/at"),
        ({"everySeconds": 5, "overlap": "maybe"}, "#/overlap"),
        ({"everySeconds": 5, "catchUp": "some"}, "#/catchUp"),
        ({"everySeconds": 5, "paused": "yes"}, "#/paused"),
        ({"everySeconds": 5, "name": "a\nb"}, "#/name"),
        ({"everySeconds": 5, "job": []}, "#/job"),
        ({"everySeconds": 5, "interval": 5}, "#/interval"),
    ],
)
def test_mistakes(body: dict[str, Any], pointer: str) -> None:
    """What is wrong is named by its place, and nothing is made."""
    made, mistakes = timetable.parse({"job": JOB, **body}, "s", ms(2026, 1, 1))

    assert made is None
    assert pointer in [mistake.pointer for mistake in mistakes]


def test_all_mistakes_at_once() -> None:
    """Every mistake of a body is told together."""
    _, mistakes = timetable.parse({"cron": "x", "overlap": 1, "paused": 1}, "s", 0)

    assert {mistake.pointer for mistake in mistakes} == {"#/cron", "#/overlap", "#/paused", "#/job"}
