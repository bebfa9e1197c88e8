"""Records of the whole app that name a user go, or name nobody, when the user is erased: each collection says which."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch import Collection, Record, UserId
from firelaunch.errors import Fenced, ScopeViolation, SettingsError
from firelaunch.records.collection import user_fields
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.store.base import Document, DocumentStore, Set
from firelaunch.store.fence import UserField, begun_at
from firelaunch.store.scoped import ScopedStore
from firelaunch.testing.apps import sign_in
from firelaunch.worker.tasks import erase as erase_module
from firelaunch.worker.tasks import user_data as kept_module
from firelaunch.worker.tasks.erase import erasure_of
from firelaunch.worker.tasks.user_data import KeptDocuments
from pydantic import BaseModel


class Loan(Record):
    tool: str
    borrower: UserId
    lender: UserId


class Review(Record):
    text: str
    author: UserId | None = None


loans = Collection("loans", Loan, owner="app", on_erase="delete")
reviews = Collection("reviews", Review, owner="app", on_erase="anonymize")


@pytest.fixture(params=["sqlite", "firestore"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    store: DocumentStore | None = request.getfixturevalue("emulator_store") if request.param == "firestore" else None
    declared = Declared(collections=(loans, reviews))
    with embedded_site(tmp_path, store, started=False, declared=declared) as made:
        yield made


def test_an_erasure_deletes_or_anonymizes_what_names_the_user_and_nothing_else(site: Site) -> None:
    data = site.services.data
    for borrower, lender in (("ada", "bob"), ("bob", "ada"), ("bob", "eve")):
        data(loans).add(Loan(tool="saw", borrower=borrower, lender=lender), id=f"{borrower}-{lender}")
    for author in ("ada", "bob", None):
        data(reviews).add(Review(text=f"by {author}", author=author), id=str(author))
    erasure = erasure_of(site.services)
    found = erasure.report("ada").found
    assert (found["loans"], found["reviews"]) == (2, 1)
    erasure.run("ada")
    assert [loan.id for loan in data(loans).list().items] == ["bob-eve"]
    kept = {review.text: review for review in data(reviews).list().items}
    assert {text: review.author for text, review in kept.items()} == {"by ada": None, "by bob": "bob", "by None": None}
    assert (kept["by bob"].id, kept["by None"].id) == ("bob", "None")
    assert kept["by ada"].id != "ada", "the id named the user"
    assert erasure.report("ada").found == {}


def test_an_anonymized_record_has_no_id_that_names_the_user_and_keeps_one_that_does_not(site: Site) -> None:
    data = site.services.data
    ids = {"2026-03-01_ada": False, "ada": False, "ada:saw": False, "adam": True, "nevada-7": True, "x": True}
    for name in ids:
        data(reviews).add(Review(text=name, author="ada"), id=name)
    erasure_of(site.services).run("ada")
    kept = {review.text: review for review in data(reviews).list().items}
    assert {name: kept[name].id == name for name in ids} == ids
    assert {review.author for review in kept.values()} == {None}


def test_a_record_that_somebody_deletes_meanwhile_does_not_break_an_erasure_off(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = site.services.data
    for number in range(3):
        data(reviews).add(Review(text="mine", author="ada"), id=f"r{number}")

    def racing(store: ScopedStore, kept: KeptDocuments) -> Iterator[list[Document]]:
        for page in kept_module.pages(store, kept):
            if kept.name == "reviews":
                data(reviews).delete("r1")
            yield page

    monkeypatch.setattr(erase_module, "pages", racing)
    erasure_of(site.services).run("ada")
    assert [(review.id, review.author) for review in data(reviews).list().items] == [("r0", None), ("r2", None)]


def test_a_record_that_names_an_erased_user_is_not_added_by_work_that_began_before(site: Site) -> None:
    data, began = site.services.data, datetime.now(UTC)
    kept = data(reviews).add(Review(text="mine", author="bob"))
    erasure_of(site.services).run("ada")
    with begun_at(began - timedelta(seconds=5)):
        with pytest.raises(Fenced):
            data(loans).add(Loan(tool="saw", borrower="bob", lender="ada"))
        with pytest.raises(Fenced):
            data(reviews).update(kept.id, {"author": "ada"})
        with pytest.raises(Fenced):
            data(loans).transaction(lambda tx: tx.add(Loan(tool="saw", borrower="ada", lender="bob")))
    assert data(loans).list().items == []
    with begun_at(datetime.now(UTC) + timedelta(seconds=5)):  # who came back is a new user
        data(loans).add(Loan(tool="saw", borrower="bob", lender="ada"))


def test_an_export_holds_the_apps_records_that_name_the_user(site: Site) -> None:
    ada, data = sign_in(site.app, "ada"), site.services.data
    data(reviews).add(Review(text="by ada", author="ada"))
    data(reviews).add(Review(text="by bob", author="bob"))
    job = ada.post("/v1/me/exports").get_json()
    for each in site.services.jobs.due(10):
        site.runner.run(each)
    archive = _archive(ada, job)
    (review,) = json.loads(archive["of_the_app/reviews.author.json"])
    assert review["data"]["text"] == "by ada"


def _archive(ada: Any, job: dict[str, Any]) -> dict[str, bytes]:
    answer = ada.get(f"/v1/me/exports/{job['id']}/file")
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


class Plain(Record):
    owner_uid: str


class Hidden(Record):
    people: tuple[UserId, ...] = ()


class Person(BaseModel):
    uid: UserId


class Nested(Record):
    person: Person | None = None


class Nameless(Record):
    text: str


@pytest.mark.parametrize(
    ("model", "owner", "on_erase", "message"),
    [
        (Loan, "app", None, "Loan.borrower names a user. Say what an erasure"),
        (Loan, "app", "anonymize", "Loan.borrower cannot be anonymized: make it UserId | None = None"),
        (Loan, "app", "keep", "on_erase is 'delete' or 'anonymize', not 'keep'"),
        (Loan, "user", "delete", "Loan.borrower names a user in records that belong to another one"),
        (Plain, "app", None, "Plain.owner_uid looks like a user's id. Give it the type UserId"),
        (Hidden, "app", "delete", "Hidden.people holds user ids inside a list or a model"),
        (Nested, "app", "delete", "Nested.person holds user ids inside a list or a model"),
        (Nameless, "app", "delete", "on_erase is set, and Nameless has no field of type UserId"),
    ],
)
def test_a_declaration_that_would_leave_a_user_behind_is_refused(
    model: type[Record], owner: Any, on_erase: Any, message: str
) -> None:
    with pytest.raises(SettingsError, match=r"^collection 'things': ") as refused:
        Collection("things", model, owner=owner, on_erase=on_erase)
    assert message in refused.value.message


def test_the_fields_of_the_apps_collections_that_name_users_are_found() -> None:
    assert user_fields([loans, reviews, Collection("notes", Nameless)]) == [
        UserField("loans", "borrower", "delete"),
        UserField("loans", "lender", "delete"),
        UserField("reviews", "author", "anonymize"),
    ]


def test_writes_that_are_in_no_such_collection_are_as_they_were(site: Site) -> None:
    store = site.services.store
    root = store.scope.root
    erasure_of(site.services).run("ada")
    with begun_at(datetime.now(UTC) - timedelta(minutes=1)):
        store.commit([Set(root, {"borrower": "ada"}), Set(f"{root}/loans/1/below/2", {"borrower": "ada"})])
        with pytest.raises(Fenced):
            store.commit([Set(f"{root}/loans/1", {"borrower": "ada"})])


def test_only_the_whole_apps_store_declares_them(site: Site) -> None:
    with pytest.raises(ScopeViolation):
        site.services.store.within(Scope("demo", "ada")).declare_users([])
