"""The conditions of storage.rules, held against attempts.

The storage emulator is not to be had without a download of its own. Both kinds of rules are one language with one
engine, and an upload's path has the shape of a document's, so the Firestore emulator runs the file after three words
are replaced. That shows its syntax, its matches and its conditions; what Cloud Storage calls a create it does not show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from firelaunch.rag.files import CLIENTS_FOLDERS
from firelaunch.store.reserved_paths import kept
from firelaunch.testing.emulator import Emulator, unsigned_token
from rules_tester.client import Operation, RestClient
from support import ROOT

ADA = {"sub": "ada", "apps": {"demo": "member"}}
MOST_BYTES = 20 * 1024 * 1024
PDF = {"size": 1000, "contentType": "application/pdf"}
OWN = "apps/demo/users/ada/uploads"
JPEG = {"size": 1000, "contentType": "image/jpeg"}
PICTURES = "apps/demo/users/ada/pictures"

Allowed = Callable[..., bool]


def transposed(source: str) -> str:
    words = {
        "service firebase.storage": "service cloud.firestore",
        "/b/{bucket}/o": "/databases/{database}/documents",
        "request.resource.": "request.resource.data.",
    }
    for ours, theirs in words.items():
        assert ours in source
        source = source.replace(ours, theirs)
    return source


RULES = transposed((ROOT / "storage.rules").read_text())


@pytest.fixture
def allowed(firestore_emulator: Emulator, firestore_project: str) -> Iterator[Allowed]:
    firestore_emulator.load_rules(firestore_project, RULES)
    rest = RestClient(firestore_emulator.host, firestore_project)
    rest.put({f"{OWN}/there": PDF, "apps/demo/users/ada/other/there": PDF})

    def ask(kind: Any, path: str, data: Mapping[str, Any] = PDF, claims: Mapping[str, Any] | None = ADA) -> bool:
        token = None if claims is None else unsigned_token(firestore_project, claims)
        return rest.allowed(Operation(kind, path, data if kind in {"create", "set", "update"} else {}), token)

    yield ask
    rest.close()


def test_a_user_uploads_a_new_file_and_reads_it(allowed: Allowed) -> None:
    assert allowed("create", f"{OWN}/new")
    assert allowed("get", f"{OWN}/there")


def test_a_file_that_is_there_is_not_overwritten_changed_removed_or_listed(allowed: Allowed) -> None:
    for kind in ("set", "update", "delete"):
        assert not allowed(kind, f"{OWN}/there"), kind
    assert not allowed("list", OWN)


def test_a_file_is_not_overwritten_even_where_that_counts_as_a_create(
    firestore_emulator: Emulator, firestore_project: str, allowed: Allowed
) -> None:
    firestore_emulator.load_rules(firestore_project, RULES.replace("allow create:", "allow create, update:"))
    assert allowed("set", f"{OWN}/another")
    assert not allowed("set", f"{OWN}/there")
    assert allowed("set", f"{PICTURES}/lunch", JPEG)
    assert not allowed("set", f"{PICTURES}/lunch", JPEG)


@pytest.mark.parametrize(
    "claims",
    [
        None,
        {"sub": "ada"},
        {"sub": "bob", "apps": {"demo": "admin"}},
        {"sub": "ada", "apps": {"other": "admin"}},
        {"sub": "ada", "apps": ["demo"]},
        {"sub": "ada", "apps": "demo"},
        {"sub": "ada", "apps": None},
        {"sub": "ada", "apps": {"demo": True}},
        {"sub": "ada", "apps": {"demo": ""}},
    ],
    ids=str,
)
def test_nobody_else_uploads_or_reads(allowed: Allowed, claims: Mapping[str, Any] | None) -> None:
    assert not allowed("create", f"{OWN}/new", claims=claims)
    assert not allowed("get", f"{OWN}/there", claims=claims)


def test_a_file_has_twenty_mebibytes_at_most(allowed: Allowed) -> None:
    assert allowed("create", f"{OWN}/most", {**PDF, "size": MOST_BYTES})
    assert not allowed("create", f"{OWN}/more", {**PDF, "size": MOST_BYTES + 1})


@pytest.mark.parametrize(
    "kind", ["image/svg+xml", "application/x-sh", "application/octet-stream", "text/javascript", ""]
)
def test_a_file_of_a_kind_that_is_not_listed_is_refused(allowed: Allowed, kind: str) -> None:
    assert allowed("create", f"{OWN}/good", {**PDF, "contentType": "text/plain"})
    assert not allowed("create", f"{OWN}/bad", {**PDF, "contentType": kind})


def test_the_folders_that_an_erasure_empties_are_those_that_clients_upload_to() -> None:
    assert set(re.findall(r"/users/\{uid\}/(\w+)/\{name\}", RULES)) == set(CLIENTS_FOLDERS)


def test_a_user_uploads_new_pictures_for_themselves_alone(allowed: Allowed) -> None:
    assert allowed("create", f"{PICTURES}/lunch", JPEG)
    assert allowed("get", f"{PICTURES}/lunch")
    for claims in (None, {"sub": "bob", "apps": {"demo": "admin"}}, {"sub": "ada", "apps": {"other": "member"}}):
        assert not allowed("create", f"{PICTURES}/dinner", JPEG, claims)
        assert not allowed("get", f"{PICTURES}/lunch", claims=claims)
    for kind in ("set", "update", "delete"):
        assert not allowed(kind, f"{PICTURES}/lunch", JPEG), kind
    assert not allowed("list", PICTURES)


@pytest.mark.parametrize(
    "wrong", [{"contentType": "image/svg+xml"}, {"contentType": "text/html"}, {"size": 10 * 2**20 + 1}]
)
def test_a_picture_is_of_a_kind_that_no_browser_runs_and_has_ten_mebibytes_at_most(
    allowed: Allowed, wrong: Mapping[str, Any]
) -> None:
    assert allowed("create", f"{PICTURES}/most", {**JPEG, "size": 10 * 2**20})
    assert not allowed("create", f"{PICTURES}/wrong", {**JPEG, **wrong})


@pytest.mark.parametrize(
    "path",
    [
        "apps/demo/users/ada/other/there",
        "apps/demo/users/bob/uploads/new",
        "apps/demo/users/ada/uploads/new/deeper/new",
        "apps/other/users/ada/uploads/new",
        "apps/demo/uploads/new",
        "users/ada/uploads/new",
        # What the service stores of a document: the file, and its text.
        "apps/demo/users/ada/documents/d/0f3a.text",
        "apps/demo/library/d/0f3a",
        *("/".join(["apps", "demo", *place[2:]]).replace("**", "x/y").replace("*", "ada") for place in kept()),
    ],
)
def test_every_other_place_is_closed(allowed: Allowed, path: str) -> None:
    for kind in ("create", "get", "update", "delete"):
        assert not allowed(kind, path if len(path.split("/")) % 2 == 0 else f"{path}/x"), kind
