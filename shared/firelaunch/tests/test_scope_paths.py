"""Where each thing lies, for the app, a user and a group; and which of them has no such thing.

Data that is stored is found by these paths alone, so a path that changes loses it.
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from firelaunch.errors import InvalidId, ScopeViolation
from firelaunch.scope import (
    GROUP,
    Scope,
    check_collection_name,
    check_id,
    check_record_id,
    check_uid,
    is_record_text,
    record_text_id,
    split,
)
from hypothesis import given
from hypothesis import strategies as st

APP, ADA, TEAM = Scope("demo"), Scope("demo", "ada"), Scope("demo").of_group("g1")

_PATHS: list[tuple[str, tuple[Any, ...], tuple[str, ...]]] = [
    ("all_under_way", (), ("~/index",)),
    ("audit", (), ("~/audit",)),
    ("audit_entry", ("e1",), ("~/audit/e1",)),
    ("audit_name", (), ("", "~/audit_names/ufdee430d40bd57deeac186cd9790033d0f06f909", "")),
    ("batch_items", ("j1",), ("", "./batches/j1/items")),
    ("billing_event", ("evt_1",), ("~/billing_events/evt_1",)),
    ("budget", ("2026-11-21",), ("~/budget/2026-11",)),
    ("call", ("k1",), ("~/calls/k1",)),
    ("calls", (), ("~/calls",)),
    ("chat", ("c1",), ("", "./chats/c1")),
    ("chats", (), ("", "./chats")),
    ("chunks", (), ("~/chunks", "./chunks")),
    ("credit_entry", ("e1",), ("", "./credit_entries/e1")),
    ("device", ("d1",), ("", "./devices/d1", "")),
    ("device_owner", ("d1",), ("~/device_owners/d1",)),
    ("devices", (), ("", "./devices", "")),
    ("document", ("d0",), ("~/library/d0", "./documents/d0")),
    ("documents", (), ("~/library", "./documents")),
    ("documents_gate", (), ("~/gates/documents", "./gates/documents")),
    ("draw", ("2026-11-21", "r1"), ("~/budget/2026-11/draws/r1",)),
    ("draws", ("2026-11-21",), ("~/budget/2026-11/draws",)),
    (
        "erasure",
        (),
        (
            "",
            "~/erasures/0da49844190fe60ceed4b28f4bd0b0ceb25b71d1",
            "~/erasures/fa6f76ea7d737a875f1879d91e67c8ae9bafe848",
        ),
    ),
    ("export", ("j1",), ("", "./exports/j1")),
    ("exports", (), ("", "./exports")),
    ("group_member", ("bob",), ("", "", "./members/bob")),
    ("group_members", (), ("", "", "./members")),
    ("groups", (), ("~/groups",)),
    ("groups_gate", (), ("", "./gates/groups", "")),
    ("hour_sum", ("2026-11-21T09", 3), ("~/sums/2026-11-21T09-3",)),
    ("index_state", (), ("~/index/state",)),
    ("invite", ("i1",), ("~/invites/i1", "~/invites/i1", "./invites/i1")),
    ("job", ("j1",), ("~/jobs/j1",)),
    ("jobs", (), ("~/jobs",)),
    ("kept_file", ("f 1",), ("~/kept_files/f 1", "./kept_files/f 1")),
    ("kept_files", (), ("~/kept_files", "./kept_files")),
    ("member", (), ("", "~/members/ada", "")),
    ("members", (), ("~/members",)),
    ("membership", ("g1",), ("", "./memberships/g1", "")),
    ("memberships", (), ("", "./memberships", "")),
    ("memory", (), ("", "./memory/notes", "")),
    ("message", ("c1", "m1"), ("", "./chats/c1/messages/m1")),
    ("messages", ("c1",), ("", "./chats/c1/messages")),
    ("name_of_audit", ("u1",), ("~/audit_names/u1",)),
    ("postings", (), ("~/postings", "./postings")),
    ("record", ("notes", "é:1"), ("~/notes/é:1", "./notes/é:1")),
    ("record_texts", (), ("~/record_texts", "./record_texts")),
    ("records", ("notes",), ("~/notes", "./notes")),
    (
        "removal",
        ("bob",),
        (
            "~/removals/81b637d8fcd2c6da6359e6963113a1170de795e4",
            "~/removals/81b637d8fcd2c6da6359e6963113a1170de795e4",
            "./removals/81b637d8fcd2c6da6359e6963113a1170de795e4",
        ),
    ),
    ("request", ("r1",), ("~/requests/r1",)),
    ("requests", (), ("~/requests",)),
    ("rollup", ("2026-11-21",), ("~/rollups/2026-11-21",)),
    ("schedule", ("daily",), ("~/schedules/daily",)),
    ("schema", (), ("~/schema/version",)),
    (
        "source",
        ("d0",),
        (
            "~/sources/d4629a1f4f85833f260df5ee53ed33c68d8792c8",
            "~/sources/fecafe53b3dc7f2a2163d285e5ac25ca6b02ae3e",
            "~/sources/badcc76c9bc1134b81dbe5b27d5bb6b34d42cc86",
        ),
    ),
    ("sources", (), ("~/sources",)),
    ("sums", (), ("~/sums",)),
    ("under_way", ("k0",), ("~/index/k0",)),
    ("usage", ("2026-11-21",), ("", "./usage/2026-11-21")),
    (
        "user_sum",
        ("2026-11",),
        (
            "",
            "~/user_sums/2026-11-0da49844190fe60ceed4b28f4bd0b0ceb25b71d1",
            "~/user_sums/2026-11-fa6f76ea7d737a875f1879d91e67c8ae9bafe848",
        ),
    ),
    ("user_sums", (), ("~/user_sums",)),
    ("users", (), ("~/users",)),
    ("vector", ("k0",), ("~/vectors/k0",)),
    ("vectors", (), ("~/vectors",)),
]
"""The method, its arguments, and the paths of the app, of a user and of a group; the last one stands for those that are
not there. "~" is the app, "." the owner, and "" a refusal."""

ELSEWHERE = {"app_id", "uid", "group", "root", "of", "of_group", "plain"}


@pytest.mark.parametrize(("name", "arguments", "paths"), _PATHS, ids=[row[0] for row in _PATHS])
def test_each_thing_lies_where_it_always_lay_and_only_who_can_have_it_has_it(
    name: str, arguments: tuple[Any, ...], paths: tuple[str, ...]
) -> None:
    for number, owner in enumerate((APP, ADA, TEAM)):
        path = paths[min(number, len(paths) - 1)]
        if not path:
            with pytest.raises(ScopeViolation):
                getattr(owner, name)(*arguments)
        else:
            expected = path.replace("~", "apps/demo", 1) if path[0] == "~" else path.replace(".", owner.root, 1)
            assert getattr(owner, name)(*arguments) == expected


def test_the_table_has_every_path_that_a_scope_can_build() -> None:
    assert {row[0] for row in _PATHS} == {name for name in dir(Scope) if name[0] != "_"} - ELSEWHERE


def test_an_owners_root_is_their_document_and_a_groups_name_is_no_users() -> None:
    assert [each.root for each in (APP, ADA, TEAM)] == ["apps/demo", "apps/demo/users/ada", "apps/demo/groups/g1"]
    assert [each.group for each in (APP, ADA, TEAM)] == [None, None, "g1"]
    assert ADA.of("group~g1") == TEAM
    assert TEAM.of("ada") == ADA
    assert Scope("demo", "a.b@example.com").root == "apps/demo/users/a.b@example.com"
    with pytest.raises(FrozenInstanceError):
        ADA.uid = "bob"  # type: ignore[misc]


@pytest.mark.parametrize("bad", ["", "a/b", "__x__", "é", "..", "x" * 65])
def test_no_scope_is_of_a_group_whose_id_is_not_valid(bad: str) -> None:
    with pytest.raises(InvalidId):
        Scope("demo", GROUP + bad)
    with pytest.raises(InvalidId):
        APP.of_group(bad)


def test_a_scope_of_a_subclass_is_none_and_the_copy_of_one_is_checked_again() -> None:
    class Wide(Scope):
        pass

    with pytest.raises(ScopeViolation):
        Scope.plain(Wide("demo", "ada"))
    forged = Scope("demo", "ada")
    object.__setattr__(forged, "uid", "../other")
    with pytest.raises(InvalidId):
        Scope.plain(forged)
    assert Scope.plain(ADA) == ADA
    assert Scope.plain(ADA) is not ADA


class Text(str):
    """A string that may be another one each time."""


@pytest.mark.parametrize(
    "bad", ["", ".", "..", "a/b", "__x__", "a\x00", "a\x7f", "\ud800", "é" * 750 + "x", Text("a"), 5, None]
)
def test_a_record_has_no_id_that_firestore_would_not_take(bad: Any) -> None:
    with pytest.raises(InvalidId):
        check_record_id(bad)


@pytest.mark.parametrize("good", ["a", "...", "2026-01-01", "é" * 750, "_x_", "__x", "a b"])
def test_a_record_has_any_other_id(good: str) -> None:
    assert check_record_id(good) == good
    assert ADA.record("notes", good).endswith(f"/notes/{good}")


@pytest.mark.parametrize("bad", ["", "Notes", "1notes", "no-tes", "n" * 41, "é", "a/b", Text("notes"), None])
def test_a_collections_name_is_a_letter_and_at_most_39_more_characters(bad: Any) -> None:
    with pytest.raises(InvalidId):
        check_collection_name(bad)
    assert check_collection_name("n" * 40) == "n" * 40


@pytest.mark.parametrize("bad", ["", "__x__", "x" * 65, "a.b", "é", "a\n", Text("a"), None])
def test_an_id_of_ours_is_64_letters_digits_underscores_and_hyphens_at_most(bad: Any) -> None:
    with pytest.raises(InvalidId):
        check_id(bad)
    assert check_id("x" * 64) == "x" * 64


_BAD_DAYS = ["2026-1-1", "2026-01-01T00", "2026-01-01/x", "\u0662026-01-01", "", Text("2026-01-01"), None]


@pytest.mark.parametrize("bad", _BAD_DAYS)
@pytest.mark.parametrize("name", ["usage", "rollup", "budget", "draws", "user_sum"])
def test_a_day_is_written_in_one_way(name: str, bad: Any) -> None:
    with pytest.raises(InvalidId):
        getattr(ADA, name)(bad)


@pytest.mark.parametrize(
    ("hour", "shard"),
    [("2026-01-01", 0), ("2026-01-01T1", 0), (Text("2026-01-01T00"), 0), (None, 0), ("2026-01-01T00", -1)]
    + [("2026-01-01T00", shard) for shard in ("0", True, 1.0, None)],
)
def test_an_hours_sums_are_in_numbered_shards(hour: Any, shard: Any) -> None:
    with pytest.raises(InvalidId):
        APP.hour_sum(hour, shard)
    assert APP.hour_sum("2026-01-01T00", 0) == "apps/demo/sums/2026-01-01T00-0"


@pytest.mark.parametrize(
    "bad", ["a/" + "é" * 750 + "x", "a/\x00", "a/\ud800", "a//b", "a/.", "__x__/a", "", Text("a"), None]
)
def test_a_path_with_a_segment_that_firestore_would_not_take_is_none(bad: Any) -> None:
    with pytest.raises(ScopeViolation):
        split(bad)
    assert split("a/" + "é" * 750) == ["a", "é" * 750]


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_two_records_share_no_text_and_a_records_text_is_no_file(a: str, b: str, c: str, d: str) -> None:
    name, other = record_text_id(a, b), record_text_id(c, d)
    assert is_record_text(name)
    assert check_id(name) == name
    assert len(name) == 32
    assert (name == other) == (f"{a}/{b}" == f"{c}/{d}")
    assert not is_record_text(f"d{name[1:]}")
    assert not is_record_text(f"{name}0")
    assert ADA.document(name) == f"{ADA.root}/record_texts/{name}"


@given(st.text(max_size=140), st.text(max_size=140))
def test_no_two_owners_share_a_path_of_any_kind(one: str, other: str) -> None:
    try:
        first, second = Scope("demo", check_uid(one)), Scope("demo", check_uid(other))
    except InvalidId:
        return
    for build in (Scope.erasure, Scope.chats, Scope.documents, lambda scope: scope.usage("2026-01-01")):
        assert (build(first) == build(second)) == (one == other)
