"""Many requests of one user at once, over HTTP, on SQLite and on the Firestore emulator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from firelaunch.errors import BudgetExceeded, Contention
from firelaunch.metering.reservations import Day
from firelaunch.scope import Scope
from firelaunch.server.app import App
from firelaunch.store.base import Filter, Query
from firelaunch.testing.apps import SETTINGS, User, events, sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply


@pytest.fixture(params=["embedded", "emulators"])
def app(request: pytest.FixtureRequest, make_app: Callable[..., App], model: ModelServer) -> Callable[[str], App]:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url, "FIRELAUNCH_MODE": request.param}
    if request.param == "emulators":
        host = request.getfixturevalue("firestore_emulator").host
        environ["FIRESTORE_EMULATOR_HOST"] = host
        environ["GOOGLE_CLOUD_PROJECT"] = request.getfixturevalue("firestore_project")
        # The client library reads the emulator's host from the process's environment, as it does in a real process.
        request.getfixturevalue("monkeypatch").setenv("FIRESTORE_EMULATOR_HOST", host)
    return lambda settings=SETTINGS: make_app(settings, **environ)


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda n=n: results.append(work(n))) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_the_loop_is_the_same_on_every_store(app: Callable[..., App]) -> None:
    made = app()
    ada, bob = sign_in(made, "ada"), sign_in(made, "bob")
    chat = ada.new_chat()
    assert (
        ada.send(chat, "Once", Idempotency_Key="k").get_json() == ada.send(chat, "Once", Idempotency_Key="k").get_json()
    )
    assert [name for name, _ in events(ada.stream(chat, "Twice"))][-1] == "done"
    found = ada.get(f"/v1/chats/{chat}?limit=3").get_json()
    assert [m["text"] for m in found["messages"]] == ["Hello from the model.", "Twice", "Hello from the model."]
    earlier = ada.get(f"/v1/chats/{chat}?limit=3&cursor={found['next_cursor']}").get_json()
    assert [m["text"] for m in earlier["messages"]] == ["Once"]
    assert ada.patch(f"/v1/chats/{chat}", {"title": "New"}).get_json()["title"] == "New"
    assert bob.get(f"/v1/chats/{chat}").status_code == 404
    spent = ada.get("/v1/usage").get_json()
    assert (spent["requests"], spent["cost_micro_usd"], spent["reserved_micro_usd"]) == (2, 52, 0)
    assert ada.delete(f"/v1/chats/{chat}").status_code == 204
    assert ada.get("/v1/chats").get_json()["items"] == []


def test_thirty_two_requests_at_once_lose_no_message_and_no_cent(app: Callable[..., App], model: ModelServer) -> None:
    model.default = Reply(pace=0.01)
    made = app()
    ada = sign_in(made, "ada")
    chat = ada.new_chat()

    def send(number: int) -> int:
        status: int = User(made.test_client(), ada.token).send(chat, f"message {number}").status_code
        return status

    assert at_once(32, send) == [200] * 32
    found = ada.get(f"/v1/chats/{chat}?limit=100").get_json()
    said = sorted(m["text"] for m in found["messages"] if m["role"] == "user")
    assert said == sorted(f"message {n}" for n in range(32))
    assert (found["message_count"], len(found["messages"])) == (64, 64)
    spent = ada.get("/v1/usage").get_json()
    assert (spent["requests"], spent["cost_micro_usd"], spent["reserved_micro_usd"]) == (32, 32 * 26, 0)


def test_the_minutes_limit_and_the_days_budget_hold_under_thirty_two_at_once(
    app: Callable[..., App], model: ModelServer
) -> None:
    model.default = Reply(usage=(4_000, 0, 100), pace=0.02)
    made = app(SETTINGS.replace('"0.50"', '"0.02"'))
    ada = sign_in(made, "ada")
    chat = ada.new_chat()

    def send(_: int) -> int:
        status: int = User(made.test_client(), ada.token).send(chat, "Hello").status_code
        return status

    statuses = at_once(32, send)
    assert set(statuses) == {200, 429}
    spent = ada.get("/v1/usage").get_json()
    assert spent["cost_micro_usd"] <= 20_000
    assert spent["reserved_micro_usd"] == 0
    assert spent["requests"] == statuses.count(200) == len(model.requests)


def test_a_groups_own_day_is_exact_under_sixty_four_spenders_and_no_members_day_pays(
    app: Callable[..., App], model: ModelServer
) -> None:
    model.default = Reply(usage=(5, 0, 100), pace=0.02)
    made: Any = app(SETTINGS.replace('"0.50"', '"0.01"\ncheaper_model_at_percent = 100'))
    group, ada = Scope("demo").of_group("g1"), Scope("demo", "ada")
    llm = made.services.within(group).llm

    def spend(_: int) -> bool:
        with suppress(BudgetExceeded, Contention):
            llm.complete([{"role": "user", "content": "Hello"}])
            return True
        return False

    paid = at_once(64, spend).count(True)
    day = made.services.metering.today()
    of_group, of_member = made.services.store.get_many([group.usage(day), ada.usage(day)])
    spent = of_group.data["cost_micro_usd"]
    assert 0 < paid < 64
    calls = made.services.store.query(Query(group.calls(), where=(Filter("uid", "==", group.uid),)))
    assert (len(calls), len(model.requests), of_member) == (paid, paid, None)
    assert spent == sum(call.data["cost_micro_usd"] for call in calls)
    assert 5_000 < spent <= 10_000
    assert Day.of(of_group).reservations(made.services.clock(), expired=False) == {}


def test_a_failed_send_that_is_repeated_keeps_one_copy_of_each_message(
    app: Callable[..., App], model: ModelServer
) -> None:
    ada = sign_in(app(), "ada")
    chat = ada.new_chat()
    for fault in (Reply(cut_after=1), Fault(400), Reply()):
        model.script = [fault]
        list(events(ada.stream(chat, "Try", Idempotency_Key="key-1")))
    found = ada.get(f"/v1/chats/{chat}").get_json()
    assert [m["text"] for m in found["messages"]] == ["Try", "Hello from the model."]
    assert found["message_count"] == 2
    assert [m["role"] for m in model.requests[-1]["messages"]] == ["system", "user"]


def test_an_app_with_a_database_of_its_own_leaves_the_shared_one_untouched(
    make_app: Callable[..., App], firestore_emulator: Any, firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)
    environ = {
        "FIRELAUNCH_MODE": "emulators",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,
        "GOOGLE_CLOUD_PROJECT": firestore_project,
    }
    own = sign_in(make_app(SETTINGS + '[cloud]\ndatabase = "dedicated"\n', **environ), "ada")
    shared = sign_in(make_app(**environ), "ada")
    chat = own.new_chat()
    assert own.send(chat, "Mine").status_code == 200
    assert shared.get(f"/v1/chats/{chat}").status_code == 404
    assert shared.get("/v1/chats").get_json()["items"] == []
    assert firestore_emulator.store(firestore_project).get(f"apps/demo/users/ada/chats/{chat}") is None
    assert firestore_emulator.store(firestore_project, "demo").get(f"apps/demo/users/ada/chats/{chat}") is not None
