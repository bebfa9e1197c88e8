"""A compromised service of app ``alpha`` reads and changes nothing of another app through what it was handed."""

from __future__ import annotations

import gc
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from firelaunch.chats.store import Chats
from firelaunch.errors import Unauthenticated
from firelaunch.identity import DevIdentity
from firelaunch.scope import Scope
from firelaunch.services.build import build, build_store
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.base import DocumentStore, Query, Set
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, write_app

from compromised.attempts import ATTEMPTS, CHAT, MINE, SECRET, Attempt

OTHERS = ("beta", "alpha-2", "alph")
"""Apps whose data is not alpha's; two of them have names that begin, or go on, like its own."""

DOCUMENTS = (
    "apps/{app}",
    "apps/{app}/members/ada",
    "apps/{app}/users/ada",
    "apps/{app}/users/ada/chats/c1",
    "apps/{app}/users/ada/chats/beta-chat",
    "apps/{app}/users/ada/chats/c1/messages/m1",
    "apps/{app}/users/ada/chats/c1/messages/beta-message",
    "apps/{app}/users/ada/usage/2026-01-31",
    "apps/{app}/requests/r1",
    "apps/{app}/calls/r1-1",
)
THEIRS = {
    document.format(app=app): {"title": SECRET, "text": SECRET, "plan": SECRET, "n": 1}
    for app in OTHERS
    for document in DOCUMENTS[: None if app == "beta" else 4]
}
PLACES = sorted({path.rpartition("/")[0] for path in THEIRS})


def world(store: DocumentStore) -> Mapping[str, Any]:
    """All that the other apps have."""
    _, found = store.read([], [Query(place) for place in PLACES])
    return {d.path: d.data for documents in found for d in documents if d.path != "apps/alpha"}


@pytest.fixture(scope="module", params=["sqlite", "firestore"])
def raw(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocumentStore]:
    """The one database of all apps, as Firestore's shared database is. No attempt may change it, so all share it."""
    store: Any
    if request.param == "firestore":
        store = request.getfixturevalue("firestore_emulator").store(f"demo-{secrets.token_hex(8)}")
    else:
        store = SQLiteStore(tmp_path_factory.mktemp("compromised") / "data.sqlite3")
    store.commit([Set(path, data) for path, data in THEIRS.items()])
    yield store
    store.close()


@pytest.fixture(scope="module")
def alpha(raw: DocumentStore, tmp_path_factory: pytest.TempPathFactory) -> Services:
    return build(alphas_settings(tmp_path_factory.mktemp("alpha")), store=raw)


def alphas_settings(folder: Path, more: str = "", **environ: str) -> Settings:
    text = SETTINGS.replace('id = "demo"', 'id = "alpha"') + more
    return Settings.load(write_app(folder, text), {"FIRELAUNCH_DATA": str(folder / "data"), **environ})


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_the_attempt_gets_and_changes_nothing_of_another_app(
    raw: DocumentStore, alpha: Services, attempt: Attempt
) -> None:
    furnish(alpha)

    got = outcome(attempt, alpha)

    assert SECRET not in repr(got)
    assert not isinstance(got, MISTAKES), "the attempt itself is wrong, and shows nothing"
    assert world(raw) == THEIRS


MISTAKES = (NameError, ImportError, AssertionError)


def outcome(attempt: Attempt, services: Services) -> Any:
    try:
        return attempt(services)
    except Exception as error:  # whatever it fails with must not carry the data
        return error


def furnish(services: Services) -> None:
    """What alpha's user has."""
    now = services.clock()
    mine = {"title": "Mine", "text": "Mine", "role": "user", "created_at": now, "updated_at": now}
    services.store.commit([Set(f"{MINE}/chats/c1", mine), Set(f"{MINE}/chats/c1/messages/m1", mine)])


class NoWall(ScopedStore):
    """The adapter as it is, in the place of the walled store."""

    def __init__(self, store: DocumentStore) -> None:
        self.scope = Scope("alpha")
        self._raw = store

    def __getattribute__(self, name: str) -> Any:
        own = {"scope", "_raw", "__class__", "__dict__", "__init__", "__reduce_ex__"}
        return super().__getattribute__(name) if name in own else getattr(self._raw, name)


def test_without_the_wall_the_attempts_of_each_kind_get_through(tmp_path: Path) -> None:
    """So that the table is known to try what would work."""
    through = dict.fromkeys(("get", "query", "set", "delete all", "scope", "turn"), 0)
    for number, (name, attempt) in enumerate(ATTEMPTS.items()):
        kind = next((kind for kind in through if kind in name), None)
        if kind is None or ("path: " in name and "as it is" not in name):
            continue
        raw = SQLiteStore(tmp_path / f"{number}.sqlite3")
        raw.commit([Set(path, data) for path, data in THEIRS.items()])
        open_ = build(alphas_settings(tmp_path / "app"), store=raw)
        store = NoWall(raw)
        open_ = replace(
            open_, store=store, chats=Chats(store, open_.clock), metering=replace(open_.metering, store=store)
        )
        furnish(open_)
        through[kind] += SECRET in repr(outcome(attempt, open_)) or world(raw) != THEIRS
        raw.close()
    assert all(through.values()), through


BACK_DOORS: dict[str, Callable[[Services, Path], Any]] = {
    "a mangled name": lambda services, _: services.store._ScopedStore__store,  # type: ignore[attr-defined]
    "the collector of garbage": lambda services, _: next(
        found
        for found in gc.get_objects()
        if isinstance(found, SQLiteStore) and found in gc.get_referents(services.store.__dict__)
    ),
    "a store of one's own making": lambda _, data: SQLiteStore(data),
}


@pytest.mark.parametrize("door", BACK_DOORS.values(), ids=BACK_DOORS.keys())
def test_python_itself_is_no_wall(tmp_path: Path, door: Callable[[Services, Path], Any]) -> None:
    """Said so that nobody counts on it: code in the process can take the credentials, and then IAM alone is left."""
    data = tmp_path / "data.sqlite3"
    shared = SQLiteStore(data)
    shared.commit([Set(CHAT, {"title": SECRET})])
    alpha = build(alphas_settings(tmp_path / "app"), store=shared)

    assert door(alpha, data).get(CHAT).data == {"title": SECRET}


def test_in_a_database_of_its_own_even_the_raw_store_holds_nothing_of_another_app(
    firestore_emulator: Any, firestore_project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left is a client of another database, which IAM refuses to the service's account."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    firestore_emulator.store(firestore_project).commit([Set(CHAT, {"title": SECRET})])
    settings = alphas_settings(
        tmp_path,
        '\n[cloud]\ndatabase = "dedicated"\n',
        FIRELAUNCH_MODE="emulators",
        FIRESTORE_EMULATOR_HOST=firestore_emulator.host,
        GOOGLE_CLOUD_PROJECT=firestore_project,
    )
    store = build_store(settings)
    assert store.get(CHAT) is None
    assert store.query(Query("apps")) == []
    store.close()


def test_a_token_that_alpha_makes_is_none_to_beta_even_under_the_same_key() -> None:
    key = b"k" * 32
    for role in ("member", "admin"):
        with pytest.raises(Unauthenticated):
            DevIdentity("beta", key).verify(DevIdentity("alpha", key).issue("ada", role))


def test_the_table_has_each_way_in_and_each_attempt_has_a_name_of_its_own() -> None:
    rooms = {name.partition(":")[0] for name in ATTEMPTS}
    assert rooms >= {"path", "object", "filter", "field", "scope", "id", "turn"}
    assert len(ATTEMPTS) > 500
