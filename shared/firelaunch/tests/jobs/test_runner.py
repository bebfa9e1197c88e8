"""Pauses between tries, and the registry of kinds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.errors import FirelaunchError
from firelaunch.jobs import Kind
from firelaunch.scope import Scope
from firelaunch.shutdown import Shutdown
from firelaunch.worker import Handlers, JobRun, Runner
from pydantic import BaseModel

ADA = Scope("demo", "ada")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SETTINGS = (
    JOB_SETTINGS.replace("max_attempts = 3", "max_attempts = 9")
    .replace("backoff_seconds = 0.02", "backoff_seconds = 4")
    .replace("backoff_max_seconds = 0.1", "backoff_max_seconds = 60")
)


class Note(BaseModel):
    text: str = ""


NOTE = Kind("note", Note)


@pytest.fixture
def clock() -> list[datetime]:
    """The time now, to be set."""
    return [NOW]


@pytest.fixture
def site(tmp_path: Path, clock: list[datetime]) -> Iterator[Site]:
    with embedded_site(tmp_path, clock=lambda: clock[0], settings=SETTINGS, started=False) as made:
        yield made


def pauses(site: Site, clock: list[datetime], jitter: float, error: Exception) -> list[float]:
    """Seconds from each failed try to the next one's time."""
    handlers = Handlers()
    runner = Runner(site.services, handlers, Shutdown(), jitter=lambda: jitter)

    @handlers.on(NOTE)
    def handle(run: JobRun, _: Note) -> None:
        raise error

    job = site.services.jobs.enqueue(ADA, NOTE, Note())
    found: list[float] = []
    while (left := site.job(ADA, job.id)).state == "queued":
        assert left.due_at is not None
        found.append((left.due_at - clock[0]).total_seconds())
        clock[0] = left.due_at
        runner.run(job.id)
    return found[1:]


def test_the_longest_pause_doubles_up_to_a_limit_and_the_pause_is_any_share_of_it(
    site: Site, clock: list[datetime]
) -> None:
    longest = [4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    assert pauses(site, clock, 1.0, OSError()) == longest
    assert pauses(site, clock, 0.25, OSError()) == [pause / 4 for pause in longest]


def test_a_pause_that_the_failure_asks_for_comes_on_top_and_is_limited_too(site: Site, clock: list[datetime]) -> None:
    assert pauses(site, clock, 0.0, FirelaunchError(retry_after=7)) == [7.0] * 8
    assert pauses(site, clock, 0.0, FirelaunchError(retry_after=10_000)) == [60.0] * 8


@pytest.mark.parametrize("name", ["", "Note", "a-b", "1a", "a" * 33, "a/b", "ä"])
def test_a_kind_has_a_name_that_means_the_same_everywhere(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Kind(name, Note)


@pytest.mark.parametrize("seconds", [0, -1, 1741])
def test_a_kind_takes_no_longer_than_cloud_tasks_waits(seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds"):
        Kind("note", Note, seconds=seconds)


def test_a_kind_has_one_handler() -> None:
    handlers = Handlers()
    handlers.on(NOTE)(lambda _, __: None)
    with pytest.raises(ValueError, match="two handlers"):
        handlers.on(Kind("note", Note))(lambda _, __: None)
    with pytest.raises(ValueError, match="two handlers"):
        Handlers(handlers).on(NOTE)(lambda _, __: None)
