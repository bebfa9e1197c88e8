"""Paths lead where they should and nowhere else, on whatever a client names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import InvalidId, ScopeViolation
from firelaunch.scope import Scope, check_app_id, check_id, check_uid
from firelaunch.store.base import Create, Delete, Query, Set, Update
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from hypothesis import given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")


def test_paths_are_those_of_the_data_model() -> None:
    assert ADA.message("c1", "m1") == "apps/demo/users/ada/chats/c1/messages/m1"
    assert ADA.usage("2026-11-21") == "apps/demo/users/ada/usage/2026-11-21"
    assert ADA.request("r1") == "apps/demo/requests/r1"
    assert Scope("demo").root == "apps/demo"


@pytest.mark.parametrize(
    "bad", ["", "Demo", "1demo", "demo-", "-demo", "de_mo", "de/mo", "d" * 50, "dé", "..", "a b", None]
)
def test_an_app_id_is_a_cloud_run_service_name(bad: Any) -> None:
    with pytest.raises(InvalidId):
        check_app_id(bad)
    with pytest.raises(InvalidId):
        Scope(bad)


@pytest.mark.parametrize("good", ["a", "demo", "my-app-2", "d" * 49])
def test_a_cloud_run_service_name_is_an_app_id(good: str) -> None:
    assert check_app_id(good) == good


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "__x__", "____", "x" * 129, "a\x00", "a\n", "\ud800", 5, None])
def test_a_uid_that_firestore_would_not_take_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidId):
        check_uid(bad)


@pytest.mark.parametrize("good", ["ada", "google|123", "a.b@example.com", "Ж", "_x_", "x" * 128, "a b"])
def test_a_uid_that_firebase_may_issue_is_taken(good: str) -> None:
    assert check_uid(good) == good


def test_a_scope_without_a_user_has_no_users_paths() -> None:
    with pytest.raises(ScopeViolation):
        Scope("demo").chats()


@given(st.text(max_size=80))
def test_any_text_as_an_id_is_refused_or_stays_one_segment_of_its_own(text: str) -> None:
    try:
        path = ADA.chat(text)
    except InvalidId:
        return
    assert path == f"apps/demo/users/ada/chats/{check_id(text)}"
    assert path.count("/") == 5
    assert text.isascii()


@given(uid=st.text(max_size=140), chat=st.text(max_size=70))
def test_two_users_never_share_a_path(uid: str, chat: str) -> None:
    try:
        theirs = Scope("demo", uid).chat(chat)
    except InvalidId:
        return
    assert theirs.startswith(f"{ADA.root}/") == (uid == "ada")


OUTSIDE = [
    "apps/other/users/ada",
    "apps/demo2/users/ada",
    "apps",
    "other/demo/users/ada",
    "apps/demo/../other/users/ada",
    "apps/demo//users",
    "apps/demo/users/./ada",
    "/apps/demo/users/ada",
    "apps/demo/users/ada/",
    "apps/demo/__x__/ada",
    "",
    "apps/other",
    "apps\x00/demo",
]


@pytest.fixture
def walled(tmp_path: Path) -> Any:
    raw = SQLiteStore(tmp_path / "data.sqlite3")
    raw.commit([Create("apps/other/users/ada", {"n": 1}), Create("apps/demo/users/ada", {"n": 1})])
    yield ScopedStore(raw, Scope("demo")), raw
    raw.close()


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_scoped_store_reaches_no_path_of_another_app_by_any_method(walled: Any, path: str) -> None:
    store, raw = walled
    before = raw.query(Query("apps/other/users"))
    inside = "apps/demo/users/ada"
    attempts = [
        lambda: store.get(path),
        lambda: store.get_many([inside, path]),
        lambda: store.read([path], []),
        lambda: store.read([inside], [Query(path)]),
        lambda: store.query(Query(path)),
        lambda: store.query(Query(f"{path}/chats")),
        lambda: store.count(Query(path)),
        lambda: store.delete_tree(path),
        lambda: store.transaction(lambda transaction: transaction.get(path)),
        lambda: store.transaction(lambda transaction: transaction.query(Query(path))),
        lambda: store.transaction(lambda transaction: transaction.write(Set(path, {}))),
        *(
            lambda write=write: store.commit([Set(inside, {"n": 2}), write])
            for write in (Set(path, {}), Create(path, {}), Update(path, {"n": 2}), Delete(path))
        ),
    ]
    for attempt in attempts:
        with pytest.raises(ScopeViolation):
            attempt()
    assert raw.query(Query("apps/other/users")) == before
    assert raw.get(inside).data == {"n": 1}


def test_a_scoped_store_takes_a_document_for_a_document_and_a_collection_for_a_collection(walled: Any) -> None:
    store, _ = walled
    with pytest.raises(ScopeViolation):
        store.get("apps/demo/users")
    with pytest.raises(ScopeViolation):
        store.query(Query("apps/demo/users/ada"))
    assert store.get("apps/demo/users/ada").data == {"n": 1}
    assert store.delete_tree("apps/demo/users") == 1


class TwoFaced(str):
    """Splits into other segments than it holds."""

    def split(self, *_: Any, **__: Any) -> list[str]:
        return ["apps", "demo", "users", "ada"]


def test_a_string_that_is_more_than_a_string_is_no_path_and_no_id(walled: Any) -> None:
    store, _ = walled
    for attempt in (lambda: store.get(TwoFaced("apps/other/users/ada")), lambda: store.delete_tree(TwoFaced("x"))):
        with pytest.raises(ScopeViolation):
            attempt()
    for check in (check_id, check_uid, check_app_id):
        with pytest.raises(InvalidId):
            check(TwoFaced("demo"))


@pytest.mark.parametrize("day", ["2026-1-1", "2026-01-01/../x", "\u0662026-01-01", TwoFaced("2026-01-01"), "", None])
def test_a_day_is_written_in_ten_ascii_characters(day: Any) -> None:
    with pytest.raises(InvalidId):
        ADA.usage(day)
