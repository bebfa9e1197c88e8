"""A plan's limit of documents, and the library's: exact, whoever puts up how many at one moment."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, embedded_site
from firelaunch.documents.catalog import DocumentSource
from firelaunch.errors import TooMany
from firelaunch.scope import Scope
from firelaunch.services.bundle import Services
from firelaunch.store.base import DocumentStore, Query
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import sign_in

ADA, BOB, LIBRARY = Scope("demo", "ada"), Scope("demo", "bob"), Scope("demo")
MOST = 5
LIMITED = JOB_SETTINGS.replace('daily_usd = "0.50"', f'daily_usd = "0.50"\ndocuments = {MOST}')
LIMITED += f"\n[documents]\nlibrary = {MOST}\n"


@pytest.fixture(params=["sqlite", "emulator"])
def instances(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Services]]:
    """Two instances of one app on one database. Nothing does their jobs, so that documents stay as they are put up."""
    store: DocumentStore
    if request.param == "emulator":
        store = request.getfixturevalue("emulator_store")
    else:
        store = SQLiteStore(tmp_path / "data.sqlite3")
    with (
        embedded_site(tmp_path / "one", store, settings=LIMITED, started=False) as one,
        embedded_site(tmp_path / "two", store, settings=LIMITED, started=False) as two,
    ):
        yield [one.services, two.services]


def put_up(services: Services, scope: Scope, name: str) -> bool:
    """Whether there was room."""
    try:
        services.documents.add(scope, DocumentSource("file", name), io.BytesIO(name.encode()))
    except TooMany:
        return False
    return True


def count(services: Services, scope: Scope) -> int:
    return services.store.count(Query(scope.documents()))


@pytest.mark.parametrize("scope", [ADA, LIBRARY], ids=["a user's", "the library's"])
def test_of_many_put_up_at_one_moment_at_two_instances_as_many_as_there_is_room_for_are_taken(
    instances: list[Services], scope: Scope
) -> None:
    put_up(instances[0], scope, "first")
    with ThreadPoolExecutor(12) as threads:
        taken = list(threads.map(lambda n: put_up(instances[n % 2], scope, f"{n}.md"), range(24)))
    assert taken.count(True) == MOST - 1
    assert count(instances[0], scope) == MOST
    assert put_up(instances[1], scope, "first"), "what is there can be replaced"
    assert put_up(instances[1], BOB, "his"), "another's room is another's"


def test_what_is_deleted_makes_room_for_as_many(instances: list[Services]) -> None:
    documents = instances[0].documents
    for n in range(MOST):
        assert put_up(instances[0], ADA, f"{n}")

    def change(n: int) -> None:
        if n < 2:
            documents.delete(ADA, DocumentSource("file", str(n)).id)
        else:
            put_up(instances[n % 2], ADA, f"new-{n}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(change, range(10)))
    while put_up(instances[0], ADA, f"rest-{count(instances[0], ADA)}"):
        pass
    assert count(instances[0], ADA) == MOST


def test_one_name_put_up_many_times_at_once_is_one_document(instances: list[Services]) -> None:
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda n: put_up(instances[n % 2], ADA, "same"), range(8)))
    assert count(instances[0], ADA) == 1


def test_an_upload_over_the_limit_is_refused_over_the_api(tmp_path: Path) -> None:
    with embedded_site(tmp_path, settings=LIMITED, started=False) as site:
        ada = sign_in(site.app, "ada")
        answers: list[Any] = [ada.upload(f"{n}.md", b"text") for n in range(MOST + 1)]
    assert [answer.status_code for answer in answers[:-1]] == [202] * MOST
    assert answers[-1].get_json()["error"]["code"] == TooMany.code
