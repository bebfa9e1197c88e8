"""firestore.indexes.json holds what the queries in the code need, and no more: the emulator would not ask for it."""

from __future__ import annotations

import ast
import json
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from firelaunch.billing.base import Event, Owner
from firelaunch.membership.invites import Invites
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build, build_store
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.store.indexes import OWN_INDEXES
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.testing.stripe import StripeServer
from firelaunch.worker.tasks.erase import erasure_of
from index_need import Need, Unreadable, composite_index, queries
from shop import Shop
from support import ROOT, TEMPLATE

INDEXES = json.loads((ROOT / "firestore.indexes.json").read_text())
ADAPTERS = {
    "store/firestore.py",
    "store/sqlite.py",
    "store/sqlite_queries.py",
    "store/base.py",
    "store/indexes.py",
    "store/limits.py",
    "records/cursors.py",
    "records/migration.py",
    "records/queries.py",
    "records/records.py",
    "store/fence.py",
    "store/scoped.py",
    "rag/index/firestore.py",
    "rag/index/firestore_words.py",
    "rag/index/vertex.py",
}
"""Hand queries on, or make them of what an app declares, or speak Firestore's own language; the only ones that do."""

EXPIRES = "delete_at"
"""The field that a TTL policy reads, wherever a document has one."""

WRITERS_OF_EXPIRY = {
    "turns/admit.py",
    "metering/model_calls.py",
    "metering/call_records.py",
    "metering/sums.py",
    "metering/ceiling.py",
    "membership/invites.py",
    "jobs/queue.py",
    "turns/batch.py",
    "billing/webhooks.py",
    "services/groups.py",
    "worker/tasks/erase.py",
    "worker/tasks/merge.py",
    "worker/tasks/user_move.py",
    "store/audit.py",
}
"""Files that write it; each is made to do so in the test of the TTL policies."""


def sources() -> Iterator[tuple[str, Path]]:
    for root in (ROOT / "shared" / "firelaunch" / "src" / "firelaunch", ROOT / "functions", TEMPLATE / "app"):
        for path in sorted(root.rglob("*.py")):
            yield str(path.relative_to(root)), path


def needs() -> list[Need]:
    return [need for name, path in sources() if name not in ADAPTERS for need in queries(path)]


def described(indexes: list[dict[str, Any]]) -> list[str]:
    keys = ("collectionGroup", "queryScope", "fields")
    return sorted(json.dumps({key: index[key] for key in keys}) for index in indexes)


def test_the_file_holds_the_composite_indexes_that_the_queries_need_and_no_others() -> None:
    assert len(needs()) >= 3
    assert described(INDEXES["indexes"]) == sorted({index for need in needs() if (index := composite_index(need))})


def test_the_embedded_store_knows_these_indexes_and_no_others() -> None:
    assert described(INDEXES["indexes"]) == described([index.definition() for index in OWN_INDEXES])


def test_no_query_uses_a_field_whose_index_is_switched_off() -> None:
    off = {(item["collectionGroup"], item["fieldPath"]) for item in INDEXES["fieldOverrides"] if not item["indexes"]}
    # A composite index serves its query by itself (https://cloud.google.com/firestore/docs/query-data/index-overview).
    alone = [need for need in needs() if composite_index(need) is None]
    assert not off & {(need.collection, field) for need in alone for field in need.fields}


def test_only_the_adapters_speak_to_firestore_past_the_port() -> None:
    """So that no query is overlooked. ``_delete_below`` there reads whole trees by name, which needs no index."""
    raw = {"where", "order_by", "find_nearest", "collection_group", "FieldFilter", "StructuredQuery"}
    for name, path in sources():
        if name not in ADAPTERS and not name.startswith(("testing/", "rules/")):
            used = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
            assert not used & raw, f"{name} uses {used & raw}"


def test_every_kind_of_document_that_expires_has_a_ttl_policy_and_nothing_else_has(tmp_path: Path) -> None:
    writers = {name for name, path in sources() if f'"{EXPIRES}"' in path.read_text()}
    assert writers == WRITERS_OF_EXPIRY, "exercise the new writer below, and name it above"

    expiring = collections_with(EXPIRES, after_one_of_each(tmp_path))
    policies = [item for item in INDEXES["fieldOverrides"] if item.get("ttl")]

    assert expiring == {
        "requests",
        "calls",
        "sums",
        "user_sums",
        "draws",
        "invites",
        "jobs",
        "items",
        "billing_events",
        "erasures",
        "audit",
        "audit_names",
    }
    assert expiring == {item["collectionGroup"] for item in policies}
    assert all(item["fieldPath"] == EXPIRES and item["indexes"] == [] for item in policies), "a time that only grows"


def test_firebase_json_names_files_that_are_there_and_one_database_of_closed_rules() -> None:
    """An array of databases would have firebase-tools' emulator start with open rules."""
    settings = json.loads((ROOT / "firebase.json").read_text())
    assert isinstance(settings["firestore"], dict)
    for name in (*settings["firestore"].values(), *settings["storage"].values()):
        assert (ROOT / name).is_file()
    assert json.loads((ROOT / ".firebaserc.example").read_text())["projects"]["default"]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("Query(scope.chats(), order=(Order('updated_at', descending=True),))", None),
        ("Query(scope.chats(), where=[Filter('archived', '==', False), Filter('title', '==', 'x')])", None),
        ("Query(f'apps/{app}/jobs', where=(Filter('at', '<', now),), order=(Order('at'),))", None),
        ("Query(scope.chats(), (Filter('archived', '==', False),), ORDER)", ["archived ASC", "updated_at DESC"]),
        ("Query('apps/demo/jobs', where=[Filter('state', 'in', s), Filter('at', '<', t)])", ["state ASC", "at ASC"]),
        ("Query('apps/demo/jobs', order=[Order('state'), Order('at', True)])", ["state ASC", "at DESC"]),
    ],
)
def test_the_need_is_read_from_a_query(tmp_path: Path, query: str, fields: list[str] | None) -> None:
    path = tmp_path / "some.py"
    path.write_text(f"ORDER = (Order('updated_at', descending=True),)\nfound = store.query({query})\n")
    (need,) = queries(path)
    index = json.loads(composite_index(need) or "null")
    said = index and [f"{field['fieldPath']} {field['order'].removesuffix('ENDING')}" for field in index["fields"]]
    assert said == fields


@pytest.mark.parametrize("query", ["Query(path)", "Query(scope.chats(), where=filters())", "Query(f'apps/{name}')"])
def test_a_query_that_cannot_be_read_fails_rather_than_being_overlooked(tmp_path: Path, query: str) -> None:
    path = tmp_path / "some.py"
    path.write_text(f"store.query({query})\n")
    with pytest.raises(Unreadable):
        list(queries(path))


def after_one_of_each(folder: Path) -> Path:
    """The database of an app that used each of what expires: a turn, a batch, an invitation, an event, a merge..."""
    bounded = (
        SETTINGS + '[budget]\ndaily_usd = "5"\nguests_daily_usd = "5"\n[prices.offline]\ninput = "1"\noutput = "1"\n'
    )
    bounded += '[plans.guest]\nrequests_per_minute = 5\ndaily_usd = "1"\n'
    bounded = bounded.replace("[plans.free]\n", "[plans.free]\ngroups = 1\n")
    settings = Settings.load(write_app(folder, bounded), {"FIRELAUNCH_DATA": str(folder / "data")})
    store = build_store(settings)
    services: Services = build(settings, store=store)
    app = App("test")
    init_app(app, services, lambda turn: turn.llm.stream([{"role": "user", "content": turn.text}]))
    ada = sign_in(app, "ada")
    assert ada.send(ada.new_chat(), "Hello").status_code == 200
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert ada.post("/v1/extract", {"text": "Hello", "schema": schema}).status_code == 200
    batch = ada.post("/v1/batches", {"inputs": [{"text": "Hello"}], "budget_micro_usd": 100_000}).get_json()
    app.runner.run(batch["id"])
    Invites(store, "demo", services.clock).create("member", uses=1, valid_for=timedelta(hours=1), by="root")
    group = ada.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    assert ada.post(f"/v1/groups/{group}/invites").status_code == 201
    owner = Owner("demo", None)
    with StripeServer() as stripe:
        Shop(stripe, store).inbox.receive(Event("evt_1", "invented", services.clock(), owner, None))
    erasure_of(services).run("bob")
    guest = sign_in(app, "guest", guest=True)
    assert guest.send(guest.new_chat(), "Hello").status_code == 200
    merge = ada.post("/v1/me/merge", {"guest_token": guest.token}).get_json()
    app.runner.run(merge["id"])
    store.close()
    return next(folder.rglob("*.sqlite3"))


def collections_with(field: str, database: Path) -> set[str]:
    with sqlite3.connect(database) as connection:
        rows = connection.execute("SELECT collection, data FROM documents").fetchall()
    connection.close()
    return {collection.rpartition("/")[2] for collection, data in rows if f'"{field}"' in data}
