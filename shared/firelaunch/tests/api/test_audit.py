"""The audit log: what admins and Stripe change is told, in the same commit, and stays told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from firelaunch.errors import ScopeViolation, StoreError
from firelaunch.scope import Scope
from firelaunch.server.app import App
from firelaunch.store.audit import audit_writes
from firelaunch.store.base import Create, Delete, Set, Update
from firelaunch.store.scoped import ScopedStore
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, sign_in
from firelaunch.testing.stripe import StripeServer
from firelaunch.worker.tasks.erase import erasure_of
from shop import Shop

PLANS = SETTINGS + "[plans.pro]\nrequests_per_minute = 5\ndaily_usd = '5'\n"
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def told(admin: Any, **query: Any) -> list[dict[str, Any]]:
    """The entries, newest first."""
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    items: list[dict[str, Any]] = admin.get(f"/v1/ops/audit?{asked}").get_json()["items"]
    return items


def facts(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[name] for name in ("by", "what", "whom", "before", "after"))


def test_grants_are_told_with_who_whom_and_what_was_before(make_app: Callable[..., App]) -> None:
    app = make_app(PLANS)
    ada, root = sign_in(app, "ada"), sign_in(app, "root", role="admin")
    for plan in ("pro", "pro", None):
        answer = root.put("/v1/ops/users/ada/plan", {"plan": plan})
    root.post("/v1/ops/users/bob/credit", {"micro_usd": 70}, Idempotency_Key="k")
    root.post("/v1/ops/users/bob/credit", {"micro_usd": 70}, Idempotency_Key="k")
    entries = told(root)
    assert [facts(entry) for entry in entries] == [
        ("root", "credit.granted", "bob", {"micro_usd": 0, "owed_micro_usd": 0}, {"given_micro_usd": 70}),
        ("root", "plan.granted", "ada", {"plan": "pro"}, {"plan": None}),
        ("root", "plan.granted", "ada", {"plan": None}, {"plan": "pro"}),
    ], "what changes nothing is not told"
    assert entries[1]["request_id"] == answer.headers["X-Request-Id"]
    assert [entry["what"] for entry in told(root, whom="ada")] == ["plan.granted"] * 2
    assert ada.get("/v1/ops/audit").status_code == 403
    pages = root.get("/v1/ops/audit?limit=2").get_json()
    rest = root.get(f"/v1/ops/audit?limit=2&cursor={pages['next_cursor']}").get_json()
    assert pages["items"] + rest["items"] == entries


def test_what_stripe_changes_is_told_and_what_it_repeats_is_not(make_app: Callable[..., App]) -> None:
    app = make_app(PLANS)
    root = sign_in(app, "root", role="admin")
    with StripeServer() as stripe:
        shop = Shop(stripe, app.services.store, ("demo",))  # type: ignore[attr-defined]
        subscription = shop.subscribe()
        stripe.account.cancel_in_portal(subscription)
        shop.send_all()
        stripe.account.change(subscription, status="canceled")
        shop.send_all()
    paid = {"status": "active", "prices": ["price_pro"]}
    assert [facts(entry) for entry in told(root)] == [
        ("stripe", "subscription.changed", "ada", paid, {"subscription": subscription}),
        ("stripe", "subscription.changed", "ada", None, {"subscription": subscription, **paid}),
    ]


def test_exports_that_admins_make_are_told_and_those_of_users_are_not(make_app: Callable[..., App]) -> None:
    app = make_app(PLANS)
    ada, root = sign_in(app, "ada"), sign_in(app, "root", role="admin")
    for user in (ada, root, root):
        assert user.post("/v1/me/exports").status_code == 202
    root.get("/v1/ops/ratings")
    root.get("/v1/ops/ratings?contents=true")
    assert [(entry["by"], entry["what"], entry["whom"]) for entry in told(root)] == [
        ("root", "ratings.exported", None),
        ("root", "data.exported", "root"),
    ]


def test_no_change_without_its_entry(make_app: Callable[..., App], monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_app(PLANS)
    root = sign_in(app, "root", role="admin")
    commit = SQLiteStore.commit

    def refuse(store: SQLiteStore, writes: Any) -> Any:
        if any("/audit/" in write.path for write in writes):
            raise StoreError
        return commit(store, writes)

    monkeypatch.setattr(SQLiteStore, "commit", refuse)
    assert root.put("/v1/ops/users/ada/plan", {"plan": "pro"}).status_code == 500
    assert root.post("/v1/ops/users/ada/credit", {"micro_usd": 5}).status_code == 500
    assert app.services.store.get("apps/demo/users/ada") is None  # type: ignore[attr-defined]


def test_nothing_but_an_addition_reaches_the_log_not_even_an_erasure(make_app: Callable[..., App]) -> None:
    app = make_app(PLANS)
    root = sign_in(app, "root", role="admin")
    root.put("/v1/ops/users/ada/plan", {"plan": "pro"})
    before = told(root)
    store: ScopedStore = app.services.store  # type: ignore[attr-defined]
    path = Scope("demo").audit_entry(before[0]["id"])
    for write in (Update(path, {"by": "x"}), Set(path, {}), Set(path, {}, merge=True), Delete(path)):
        with pytest.raises(ScopeViolation):
            store.commit([write])
        with pytest.raises(ScopeViolation):
            store.transaction(lambda tx, write=write: tx.write(write))  # type: ignore[misc]
    for tree in (path, Scope("demo").audit(), "apps/demo"):
        with pytest.raises(ScopeViolation):
            store.delete_tree(tree)
    with pytest.raises(ScopeViolation):
        store.within(Scope("demo", "ada")).commit(audit_writes(Scope("demo"), "made.up", "ada", NOW))
    erasure_of(app.services).run("ada")  # type: ignore[attr-defined]
    assert [facts(entry)[:2] for entry in told(root)] == [("root", "plan.granted")]
    assert told(root)[0]["whom"] != "ada", "whose hash it is went with the user"
    assert told(root, whom="ada") == told(root)
    store.commit([Create(Scope("demo").audit_entry("later"), {"at": NOW, "by": "root", "what": "x"})])
    assert len(told(root)) == 2
