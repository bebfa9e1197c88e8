"""Scoped functions as they are deployed: real functions-framework processes, called over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from firelaunch.scope import Scope
from firelaunch.store.base import Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.certificates import CertificateServer
from support import served_function

Start = Callable[..., str]
ADA, BOB = Scope("demo", "ada"), Scope("demo", "bob")


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two apps' folders."""
    made = []
    for name in ("demo", "other"):
        write_app(tmp_path / name, SETTINGS.replace('id = "demo"', f'id = "{name}"'))
        made.append(tmp_path / name)
    return made


@pytest.fixture
def start(folders: list[Path], tmp_path: Path) -> Iterator[Start]:
    """Starts a function that serves both apps."""
    apps = ", ".join(map(str, folders))
    with ExitStack() as stack:
        yield lambda name, **more: stack.enter_context(served_function(name, tmp_path, **{"APPS": apps, **more}))


@pytest.fixture
def stores(folders: list[Path]) -> Iterator[dict[str, SQLiteStore]]:
    made = {path.name: SQLiteStore(path / ".firelaunch" / "data.sqlite3") for path in folders}
    yield made
    for store in made.values():
        store.close()


def post(url: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{url}/{path}", json={} if body is None else body, headers=named, trust_env=False, timeout=60)


def jobs(store: SQLiteStore, app: str = "demo") -> list[dict[str, Any]]:
    return [dict(found.data) for path in store.tree(f"apps/{app}/jobs") if (found := store.get(path))]


@pytest.mark.parametrize(
    ("name", "kind", "payload"),
    [("rollup_usage", "rollup", {"days": 2}), ("expire_reservations", "expire", {"days": 2})],
)
def test_the_scheduler_puts_one_job_off_in_each_app_however_often_it_asks(
    start: Start, stores: dict[str, SQLiteStore], name: str, kind: str, payload: Any
) -> None:
    url = start(name)
    when = {"X_CloudScheduler_ScheduleTime": "2026-03-02T00:30:00Z"}
    first, again = post(url, "apps/-", **when), post(url, "apps/-", **when)
    assert (first.status_code, first.json()) == (200, again.json())
    assert set(first.json()["apps"]) == {"demo", "other"}
    for app, store in stores.items():
        (job,) = jobs(store, app)
        assert (job["kind"], job["uid"], json.loads(job["payload"])) == (kind, None, payload)
    post(url, "apps/demo", X_CloudScheduler_ScheduleTime="2026-03-03T00:30:00Z")
    assert [len(jobs(store, app)) for app, store in stores.items()] == [2, 1]


def test_what_no_pattern_matches_or_no_app_serves_is_refused(start: Start, stores: dict[str, SQLiteStore]) -> None:
    url = start("notify")
    said = {"title": "Ready"}
    attempts = [
        (404, "apps/elsewhere/users/ada/notifications", said),
        (404, "apps/demo/users/ada", said),
        (404, "apps/demo/users/ada/notifications/n1", said),
        (404, "apps/demo/users/../notifications", said),
        (404, "apps/demo/users/__x__/notifications", said),
        (404, "", said),
        (400, "apps/demo/users/a%07/notifications", said),
        (400, "apps/demo/users/ada/notifications", {}),
        (400, "apps/demo/users/ada/notifications", {"title": "x", "uid": "bob"}),
        (400, "apps/demo/users/ada/notifications", {"title": "x", "data": {"google.a": "b"}}),
        (400, "apps/demo/users/ada/notifications", [1]),
        (413, "apps/demo/users/ada/notifications", {"title": "x" * 70_000}),
    ]
    for status, path, body in attempts:
        answer = post(url, path, body)
        assert answer.status_code == status, (path, answer.text)
        assert answer.json()["error"]["request_id"] == answer.headers["X-Request-Id"]
    assert jobs(stores["demo"]) == []
    done = post(url, "apps/demo/users/ada/notifications", {**said, "data": {"chat": "c1"}})
    assert done.status_code == 200
    (job,) = jobs(stores["demo"])
    assert (job["kind"], job["uid"]) == ("notify", "ada")


def test_an_erasure_is_counted_dry_and_else_put_off_as_a_job_of_the_app(
    start: Start, stores: dict[str, SQLiteStore]
) -> None:
    url = start("erase_user")
    chat = {"title": "t", "message_count": 1}
    stores["demo"].commit([Set(ADA.chat("c1"), chat), Set(ADA.message("c1", "m1"), {"text": "x"})])
    stores["other"].commit([Set(Scope("other", "ada").chat("c1"), chat)])
    dry = post(url, "apps/-/erasures/ada", {"dry_run": True})
    assert dry.json() == {
        "apps": {
            "demo": {"found": {"chats": 1, "messages": 1}, "stripe_customer": None},
            "other": {"found": {"chats": 1}, "stripe_customer": None},
        }
    }
    assert jobs(stores["demo"]) == []
    done = post(url, "apps/demo/erasures/ada")
    (job,) = jobs(stores["demo"])
    assert done.status_code == 200
    assert (job["kind"], job["uid"], json.loads(job["payload"])) == ("erase", None, {"uid": "ada"})
    assert jobs(stores["other"], "other") == []
    assert post(url, "apps/demo/erasures/ada", {"dry_run": "no"}).status_code == 400


def test_where_a_caller_is_named_nobody_else_is_heard(start: Start, stores: dict[str, SQLiteStore]) -> None:
    """With the wrong key, of another account, for another function, too old, or without a token."""
    from fakes.cloud_tasks import CloudTasksServer

    with CertificateServer() as certificates, CloudTasksServer(certificates=certificates) as google:
        url = start("expire_reservations", INVOKER="caller@p.iam.gserviceaccount.com", INVOKER_AUDIENCE="https://f")
        for header in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": f"Bearer {google.token('a@b', 'https://f')}"},
        ):
            answer = post(url, "apps/demo", **header)
            assert answer.status_code in {401, 503}, answer.text
    assert jobs(stores["demo"]) == []


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "APPS is not set"),
        ({"APPS": "nowhere"}, "is not there"),
        ({"APPS": "{demo}, {demo}"}, "two folders of the app"),
        ({"APPS": "{demo}", "K_SERVICE": "f"}, "FIRELAUNCH_MODE=cloud"),
        (
            {"APPS": "{demo}", "K_SERVICE": "f", "FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345"},
            "INVOKER is not set",
        ),
        ({"APPS": "{demo}", "INVOKER": "a@b"}, "INVOKER_AUDIENCE is not set"),
    ],
)
def test_it_serves_nothing_where_it_would_be_open_or_blind(
    folders: list[Path], environ: dict[str, str], said: str
) -> None:
    from firelaunch.errors import SettingsError
    from firelaunch.functions.wiring import build_host

    given = {key: value.replace("{demo}", str(folders[0])) for key, value in environ.items()}
    with pytest.raises(SettingsError, match=said):
        build_host(given)


NOW = datetime.now(UTC)
OLD = NOW - timedelta(hours=2)
