"""``[schedules]``: cron's ticks, also where clocks change, and what is refused at start."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from firelaunch.errors import SettingsError
from firelaunch.settings.app import Settings
from firelaunch.settings.schedules import Cron
from firelaunch.testing.apps import SETTINGS, write_app
from hypothesis import given, settings
from hypothesis import strategies as st

BERLIN = "Europe/Berlin"


def loaded(folder: Path, entry: str) -> Settings:
    return Settings.load(write_app(folder, f"{SETTINGS}\n[schedules]\n{entry}\n"), {})


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_schedule_is_read_with_its_defaults(tmp_path: Path) -> None:
    schedules = loaded(tmp_path, 'weekly = { cron = "0  7 * * MON", zone = "Europe/Berlin", each = "user" }').schedules
    assert (schedules["weekly"].cron, schedules["weekly"].each) == ("0 7 * * MON", "user")
    nightly = loaded(tmp_path, 'nightly = { cron = "30 2 * * *" }').schedules["nightly"]
    assert (nightly.zone, nightly.each) == ("UTC", "app")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ('weekly = { cron = "61 * * * *" }', "schedules.weekly.cron is '61"),
        ('weekly = { cron = "* * * *" }', "five fields"),
        ('weekly = { cron = "0 0 * * * *" }', "five fields"),
        ('weekly = { cron = "" }', "five fields"),
        ('weekly = { cron = "@daily" }', "five fields"),
        ('weekly = { cron = "0 0 L * *" }', "five fields"),
        ('weekly = { cron = "0 0 * * 5L" }', "five fields"),
        ('weekly = { cron = "0 0 * * 5#2" }', "five fields"),
        ('weekly = { cron = "0 0 31 2 *" }', "schedules.weekly.cron"),
        ('weekly = { cron = "*/0 * * * *" }', "schedules.weekly.cron"),
        ('weekly = { cron = "0 7 * * 1", zone = "Europe/Brelin" }', "schedules.weekly.zone is 'Europe/Brelin'"),
        ('weekly = { cron = "0 7 * * 1", zone = "../../etc/passwd" }', "time zone"),
        ('weekly = { cron = "0 7 * * 1", zone = "" }', "time zone"),
        ('weekly = { cron = "0 7 * * 1", zone = "+02:00" }', "time zone"),
        ('weekly = { cron = "0 7 * * 1", each = "users" }', "schedules.weekly.each"),
        ('weekly = { corn = "0 7 * * 1" }', "did you mean"),
        ('weekly = { zone = "UTC" }', "schedules.weekly.cron is missing"),
    ],
)
def test_an_entry_that_will_not_do_ends_the_start_and_is_named(tmp_path: Path, entry: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        loaded(tmp_path, entry)


@pytest.mark.parametrize("cron", ["0 7 * * 1", "*/15 9-17 * * MON-FRI", "0 0 1 JUL *", "5,35 * 1-7 * *", "0 0 29 2 *"])
def test_what_cloud_scheduler_takes_is_taken(tmp_path: Path, cron: str) -> None:
    assert loaded(tmp_path, f'weekly = {{ cron = "{cron}" }}').schedules["weekly"].cron == cron


def test_an_hour_that_clocks_leave_out_has_its_tick_right_after_it() -> None:
    cron = Cron("30 2 * * *", BERLIN)  # on 2026-03-29 clocks go from 02:00 to 03:00
    assert cron.next(utc("2026-03-28T12:00")) == utc("2026-03-29T01:00")
    assert cron.last(utc("2026-03-29T00:59")) == utc("2026-03-28T01:30")
    assert cron.last(utc("2026-03-29T01:00")) == utc("2026-03-29T01:00")
    assert cron.next(utc("2026-03-29T01:00")) == utc("2026-03-30T00:30")


def test_an_hour_that_comes_twice_has_its_tick_once() -> None:
    cron = Cron("30 2 * * *", BERLIN)  # on 2026-10-25 clocks go from 03:00 back to 02:00
    assert cron.next(utc("2026-10-24T12:00")) == utc("2026-10-25T00:30")
    assert cron.next(utc("2026-10-25T00:30")) == utc("2026-10-26T01:30")
    for minute in ("00:31", "01:15", "01:30", "02:30"):
        assert cron.last(utc(f"2026-10-25T{minute}")) == utc("2026-10-25T00:30"), minute


def test_an_hourly_tick_comes_each_hour_whatever_clocks_do() -> None:
    for day in ("2026-03-29", "2026-10-25"):
        cron = Cron("0 * * * *", BERLIN)
        ticks = cron.between(utc(f"{day}T00:00") - timedelta(minutes=1), utc(f"{day}T04:00"), 100)
        assert ticks == [utc(f"{day}T0{hour}:00") for hour in range(4)]


_CRONS = st.builds(
    "{} {} {} {} {}".format,
    st.sampled_from(["0", "30", "*/20", "5,45", "*"]),
    st.sampled_from(["2", "1-3", "*", "*/6", "0,2"]),
    st.sampled_from(["*", "1", "28-31", "*/5"]),
    st.sampled_from(["*", "3,10", "3-4"]),
    st.sampled_from(["*", "0", "MON-FRI"]),
)
_ZONES = st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Sydney", "Asia/Kolkata", "Africa/Casablanca"])
_CHANGES = [
    datetime(2026, month, day, tzinfo=UTC) for month, day in ((3, 8), (3, 29), (4, 4), (10, 4), (10, 25), (11, 1))
]
_TIMES = st.builds(
    lambda day, seconds: day + timedelta(seconds=seconds), st.sampled_from(_CHANGES), st.integers(-90_000, 120_000)
)


@settings(max_examples=150, deadline=None)
@given(_CRONS, _ZONES, _TIMES)
def test_ticks_are_the_same_forwards_and_backwards(expression: str, zone: str, at: datetime) -> None:
    cron = Cron(expression, zone)
    following = cron.next(at)
    assert following > at
    assert cron.last(following) == following
    assert cron.last(at) <= at
    assert cron.next(cron.last(at)) == following
    assert cron.between(cron.last(at), following, 10) == []
    ticks = [following]
    for _ in range(5):
        ticks.append(cron.next(ticks[-1]))
    assert cron.between(at, ticks[-1] + timedelta(seconds=1), 100) == ticks
    assert cron.between(at, ticks[-1], 3) == ticks[2:5]


def test_an_app_without_schedules_imports_nothing_for_them(tmp_path: Path) -> None:
    path = write_app(tmp_path)
    code = (
        "import sys; from pathlib import Path; from firelaunch import Settings;"
        f"Settings.load(Path({str(path)!r}), {{}}); print('cronsim' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
