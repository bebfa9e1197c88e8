"""Uploads are limited before a byte of them is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from firelaunch.errors import NoUploadRoom, RateLimited, TooManyUploads
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.services.upload_limits import Uploads
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app

ADA, BOB = Scope("demo", "ada"), Scope("demo", "bob")
Make = Callable[[str], Services]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Services] = []

    def services(more: str) -> Services:
        now = datetime(2026, 3, 1, 12, 0, 15, tzinfo=UTC)
        made.append(build(Settings.load(write_app(tmp_path, SETTINGS + more), {}), lambda: now))
        return made[-1]

    yield services
    for each in made:
        each.store.close()


def test_a_users_uploads_of_a_minute_are_counted_and_nobody_elses_with_them(make: Make) -> None:
    services = make("uploads_per_minute = 2\n")
    uploads = Uploads(services)
    uploads.count(ADA)
    uploads.count(ADA)
    with pytest.raises(RateLimited) as caught:
        uploads.count(ADA)
    assert caught.value.retry_after == 45
    uploads.count(BOB)
    day = services.store.get(ADA.usage("2026-03-01"))
    assert day is not None
    assert day.data["minute_uploads"] == 2


def test_an_instance_that_takes_one_request_at_a_time_takes_one_upload(make: Make) -> None:
    uploads = Uploads(make("[cloud]\nconcurrency = 1\n"))
    with uploads.place(ADA):
        with pytest.raises(TooManyUploads) as of_ada, uploads.place(ADA):
            pass
        with pytest.raises(NoUploadRoom) as of_all, uploads.place(BOB):
            pass
    assert (of_ada.value.retry_after, of_all.value.retry_after) == (5, 5)


def test_a_quarter_of_an_instances_requests_may_be_uploads_and_four_of_them_one_users(make: Make) -> None:
    uploads = Uploads(make("[cloud]\nconcurrency = 24\n"))
    with ExitStack() as held:
        for user in [ADA] * 4 + [BOB] * 2:
            held.enter_context(uploads.place(user))
        with pytest.raises(TooManyUploads), uploads.place(ADA):
            pass
        with pytest.raises(NoUploadRoom), uploads.place(BOB):
            pass
