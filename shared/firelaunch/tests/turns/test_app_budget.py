"""The app's own budget, as turns, extractions and admins meet it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import SettingsError
from firelaunch.metering.pool import Pool
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Query, Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, events, run_jobs, sign_in, write_app
from firelaunch.testing.models import ModelServer, Reply

APP = Scope("demo")


def with_budget(**dollars: str) -> str:
    lines = [f'{name} = "{amount}"' for name, amount in dollars.items()]
    return "\n".join([SETTINGS, "[budget]", *lines, ""])


def pool_of(app: Any) -> Pool:
    metering = app.services.metering
    assert metering.ceiling is not None
    metering.ceiling.close()
    pool: Pool = metering.ceiling.pool(metering.today())
    return pool


def today(app: Any) -> str:
    return str(app.services.metering.today())


def paid(app: Any, uid: str) -> int:
    return int(app.services.store.get(APP.of(uid).usage(today(app))).data["cost_micro_usd"])


class Trips:
    """A store that counts round trips, and notes which documents were read and written."""

    def __init__(self, store: SQLiteStore) -> None:
        self._store = store
        self.made: list[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in {"get", "get_many", "query", "read", "commit", "transaction"}:
            return method

        def call(first: Any, *more: Any) -> Any:
            several = [] if callable(first) else first  # a transaction's work
            paths = [first] if isinstance(first, str) else [getattr(each, "path", str(each)) for each in several]
            self.made.append([name, *paths])
            return method(first, *more)

        return call


def test_a_turn_keeps_its_round_trips_also_when_it_leases_a_slice(tmp_path: Path, model: ModelServer) -> None:
    store = Trips(SQLiteStore(tmp_path / "data.sqlite3"))
    path = write_app(tmp_path, with_budget(daily_usd="1"))
    services = build(
        Settings.load(path, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}),
        store=store,  # type: ignore[arg-type]
    )
    seen: list[int] = []

    def answer(turn: Any) -> Any:
        seen.append(len(store.made))
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])

    app = App("trips")
    init_app(app, services, answer)
    user = sign_in(app, "ada")
    chat = user.new_chat()
    leased = 0
    for _ in range(12):
        store.made.clear()
        seen.clear()
        assert user.send(chat, "Hello").status_code == 200
        assert (seen, len(store.made)) == ([2], 3)
        leased += any("/budget/" in path and "/draws/" not in path for path in store.made[1])
    assert 1 <= leased < 12, "a slice lasts for some turns"
    store.close()


@pytest.mark.parametrize("paid_by", ["writer", "group"])
def test_a_turn_in_a_groups_chat_takes_as_many_round_trips(tmp_path: Path, model: ModelServer, paid_by: str) -> None:
    store = Trips(SQLiteStore(tmp_path / "data.sqlite3"))
    text = f'{SETTINGS}groups = 1\n[groups]\nchats_paid_by = "{paid_by}"\nchats_on_erase = "delete"\n'
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    services = build(Settings.load(write_app(tmp_path, text), environ), store=store)  # type: ignore[arg-type]
    seen: list[int] = []

    def answer(turn: Any) -> Any:
        seen.append(len(store.made))
        yield from turn.llm.stream([{"role": "user", "content": turn.text}])

    app = App("trips")
    init_app(app, services, answer)
    user = sign_in(app, "ada")
    group = user.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    chat = user.post("/v1/chats", {"group": group}).get_json()["id"]
    for _ in range(3):
        store.made.clear()
        seen.clear()
        assert user.post(f"/v1/chats/{chat}/messages", {"text": "Hi", "group": group}).status_code == 200
        assert (seen, len(store.made)) == ([2], 3)
        member = f"apps/demo/groups/{group}/members/ada"
        assert [member in made for made in store.made] == [True, True, False]
    store.close()


def test_what_a_turn_costs_is_in_the_pool_to_the_micro_dollar(make_app: Any, model: ModelServer) -> None:
    app = make_app(with_budget(daily_usd="1", monthly_usd="2"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    user = sign_in(app, "ada")
    chat = user.new_chat()
    for _ in range(3):
        assert user.send(chat, "Hello").status_code == 200
    events(user.stream(chat, "Hello"))
    assert user.post("/v1/extract", {"text": "Hello", "schema": {"type": "object", "properties": {}}}).status_code in {
        200,
        502,
    }
    pool = pool_of(app)
    assert pool.spent("day", today(app)) == pool.spent("month", today(app)) == paid(app, "ada") > 0
    assert pool.used("day", today(app)) == paid(app, "ada")


def test_an_app_whose_budget_is_used_up_says_so_and_until_when(make_app: Any, model: ModelServer) -> None:
    app = make_app(with_budget(daily_usd="0.000001"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    user = sign_in(app, "ada")
    chat = user.new_chat()
    refused = user.send(chat, "Hello")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "app_budget_exceeded")
    assert "midnight UTC" in refused.get_json()["error"]["message"]
    assert 0 < int(refused.headers["Retry-After"]) <= 86_400
    assert model.requests == []


def test_steps_of_a_turn_that_the_apps_budget_does_not_cover_are_not_made(make_app: Any, model: ModelServer) -> None:
    def answer(turn: Any) -> Any:
        for _ in range(100):
            turn.llm.complete([{"role": "user", "content": turn.text}])
        yield from ()

    model.script += [Reply(usage=(15, 0, 90))] * 100
    app = make_app(with_budget(daily_usd="0.02"), answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    user = sign_in(app, "ada")
    refused = user.send(user.new_chat(), "Hello")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "app_budget_exceeded")
    assert 1 < len(model.requests) < 100
    assert 0 < pool_of(app).used("day", today(app)) == paid(app, "ada") <= 20_000


def test_near_the_apps_ceiling_the_cheap_model_answers(make_app: Any, model: ModelServer) -> None:
    app = make_app(with_budget(daily_usd="0.05"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    user = sign_in(app, "ada")
    chat = user.new_chat()
    path = APP.budget(today(app))
    app.services.store.commit([Set(path, {"days": {f"d{today(app)[8:]}": {"spent": 41_000}}, "slices": {}})])
    answered = user.send(chat, "Hello").get_json()
    assert answered["usage"]["cheaper_model"] is True
    assert answered["usage"]["model"] == "gpt-5.4-nano"


def test_guests_cost_no_more_than_their_budget_and_others_go_on(make_app: Any, model: ModelServer) -> None:
    text = with_budget(daily_usd="1", guests_daily_usd="0.000001")
    guest = '\n[plans.guest]\nrequests_per_minute = 100\ndaily_usd = "0.05"\n'
    app = make_app(text + guest, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    app.services.store.commit([Set(APP.of("gil").root, {"plan": "guest"})])
    visitor, user = sign_in(app, "gil"), sign_in(app, "ada")
    refused = visitor.send(visitor.new_chat(), "Hello").get_json()["error"]
    assert refused["code"] == "app_budget_exceeded"
    assert "for guests" in refused["message"]
    assert user.send(user.new_chat(), "Hello").status_code == 200


def test_guests_have_no_plan_without_a_budget(tmp_path: Path) -> None:
    guest = '\n[plans.guest]\nrequests_per_minute = 100\ndaily_usd = "0.05"\n'
    with pytest.raises(SettingsError, match="guests_daily_usd"):
        Settings.load(write_app(tmp_path, SETTINGS + guest), {})


def test_each_admin_is_notified_once_when_a_ceiling_is_reached(make_app: Any, model: ModelServer) -> None:
    app = make_app(with_budget(daily_usd="0.000001"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    app.services.store.commit(
        [Set(APP.of(uid).member(), {"role": role}) for uid, role in (("ada", "admin"), ("bob", "member"))]
    )
    user = sign_in(app, "bob")
    for _ in range(3):
        user.send(user.new_chat(), "Hello")
    run_jobs(app)
    jobs = [each.data for each in app.services.store.query(Query(APP.jobs()))]
    told = [each for each in jobs if each["kind"] == "notify"]
    assert [each["uid"] for each in told] == ["ada"] * 3
    assert [percent for percent in (50, 80, 100) if any(f"{percent} %" in each["payload"] for each in told)] == [
        50,
        80,
        100,
    ]
    assert {each["state"] for each in jobs} == {"succeeded"}


def test_admins_see_what_is_left_of_each_ceiling(make_app: Any, model: ModelServer) -> None:
    app = make_app(
        with_budget(daily_usd="1", guests_daily_usd="0.5"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url
    )
    user, admin = sign_in(app, "ada"), sign_in(app, "root", role="admin")
    user.send(user.new_chat(), "Hello")
    pool_of(app)
    shown = admin.get("/v1/ops/budget").get_json()
    assert shown["month"] is None
    assert shown["day"]["spent_micro_usd"] == paid(app, "ada")
    assert (shown["day"]["ceiling_micro_usd"], shown["guests"]["ceiling_micro_usd"]) == (1_000_000, 500_000)
    assert (
        shown["day"]["leased_micro_usd"]
        == shown["day"]["given_up_micro_usd"]
        == shown["guests"]["spent_micro_usd"]
        == 0
    )
    assert datetime.fromisoformat(shown["day"]["resets_at"]).hour == 0
    assert user.get("/v1/ops/budget").status_code == 403
