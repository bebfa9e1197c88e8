"""A turn of several model steps: which models it may call, what each step costs, and the record of each call."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from firelaunch.errors import BudgetExceeded, FirelaunchError, SettingsError
from firelaunch.llm.types import Chunk, FinishedCall, Message, TokenCounts
from firelaunch.metering.call_records import calls_of_request
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Query, Set
from firelaunch.testing.apps import SETTINGS, events, sign_in, write_app
from firelaunch.testing.models import Action, Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks.erase import erasure_of
from firelaunch.worker.tasks.notify import NOTIFY, Notify
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

ADA = Scope("demo", "ada")
CHAT, CHEAP, FALLBACK, OTHER = "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5-mini", "gpt-5.4"
MODELS = SETTINGS.replace('fallback = ["gpt-5-mini"]', f'fallback = ["gpt-5-mini"]\nothers = ["{OTHER}"]')


class Topic(BaseModel):
    name: Literal["food", "travel"]


def asked(turn: Turn) -> list[Message]:
    return [{"role": "user", "content": turn.text}]


def says(data: Any, usage: tuple[int, int, int] = (100, 0, 20)) -> Reply:
    return Reply([json.dumps(data)], usage)


def usage_of(app: App, user: Scope = ADA) -> Any:
    services = app.services  # type: ignore[attr-defined]
    return services.store.get(user.usage(services.metering.today())).data


def calls(app: App, request_id: str) -> list[dict[str, Any]]:
    store = app.services.store  # type: ignore[attr-defined]
    return calls_of_request(store, store.scope, request_id)


def test_each_step_of_a_turn_calls_the_model_that_it_names_and_has_a_record(make_app: Any, model: ModelServer) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        topic = turn.llm.extract(Topic, asked(turn), model="cheap", purpose="classify")
        draft = turn.llm.complete(asked(turn), model=OTHER, purpose="draft")
        instructions = turn.prompt("chat", app_name=f"{topic.name} {draft}")
        yield from turn.llm.stream([{"role": "system", "content": instructions}, *asked(turn)])

    app = make_app(MODELS, answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    for send, streamed in ((ada.send, False), (ada.stream, True)):
        model.requests.clear()
        model.script = [says({"name": "food"}), Reply(["A draft."], (50, 10, 5)), Reply(usage=(10, 0, 4))]
        response = send(chat, "What shall I eat?")
        done = dict(events(response))["done"] if streamed else response.get_json()
        assert model.models_called() == [CHEAP, OTHER, CHAT]
        assert model.requests[-1]["messages"][0]["content"] == "You are food A draft.."
        assert [bool(request.get("stream")) for request in model.requests] == [False, False, streamed]
        found = calls(app, done["message"]["request_id"])
        assert [(call["step"], call["purpose"], call["model"], call["prompt"]) for call in found] == [
            (1, "classify", CHEAP, None), (2, "draft", OTHER, None), (3, "turn", CHAT, "chat@1"),
        ]  # fmt: skip
        assert [call["first_token_at"] is not None for call in found] == [False, False, streamed]
        assert [call["finish"] for call in found] == ["stop"] * 3
        assert sum(call["cost_micro_usd"] for call in found) == done["usage"]["cost_micro_usd"] > 0
        assert done["usage"]["model"] == CHAT
        record = app.services.store.get(ADA.request(done["message"]["request_id"])).data
        assert (record["calls"], "prompt" in record) == (3, False)


def test_outside_of_a_turn_a_call_names_the_prompt_that_its_messages_were_made_from(
    make_app: Any, model: ModelServer
) -> None:
    app = make_app(MODELS, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    llm = app.services.llm
    done = llm.complete([{"role": "user", "content": "x"}], scope=ADA, prompt="chat", purpose="report")
    [call] = calls(app, done.request_id)
    assert (call["prompt"], call["purpose"], call["model"]) == ("chat@1", "report", CHAT)
    plain = llm.complete([{"role": "user", "content": "x"}], scope=ADA)
    assert [call["prompt"] for call in calls(app, plain.request_id)] == [None]
    with pytest.raises(SettingsError, match="nothing"):
        llm.complete([{"role": "user", "content": "x"}], scope=ADA, prompt="nothing")


def test_a_model_that_the_settings_do_not_name_is_refused_by_name_before_any_call(
    make_app: Any, model: ModelServer, caplog: Any
) -> None:
    app = make_app(
        MODELS,
        answer=lambda turn: [Chunk(turn.llm.complete(asked(turn), model="gpt-9"))],
        OPENAI_API_KEY="k",
        OPENAI_BASE_URL=model.base_url,
    )
    ada = sign_in(app, "ada")
    assert ada.send(ada.new_chat(), "Hello").status_code == 500
    assert model.requests == []
    for name in ("'gpt-9'", "'chat'", "'cheap'", repr(CHAT), repr(OTHER), "others"):
        assert name in caplog.text
    with pytest.raises(ValueError, match="gpt-9"):
        app.services.llm.complete([{"role": "user", "content": "x"}], scope=ADA, model="gpt-9")


def test_over_the_soft_cap_the_cheap_model_answers_whatever_model_a_step_names(
    make_app: Any, model: ModelServer
) -> None:
    app = make_app(
        MODELS.replace('daily_usd = "0.50"', 'daily_usd = "0.50"\ncheaper_model_at_percent = 0'),
        answer=lambda turn: turn.llm.stream(asked(turn), model=OTHER),
        OPENAI_API_KEY="k",
        OPENAI_BASE_URL=model.base_url,
    )
    ada = sign_in(app, "ada")
    assert ada.send(ada.new_chat(), "Hello").get_json()["usage"]["cheaper_model"]
    assert model.models_called() == [CHEAP]


def test_a_laptop_without_a_key_answers_with_its_one_model_in_the_place_of_each(make_app: Any) -> None:
    app = make_app(MODELS, answer=lambda turn: [Chunk(turn.llm.complete(asked(turn), model=OTHER))])
    ada = sign_in(app, "ada")
    done = ada.send(ada.new_chat(), "Hello").get_json()
    assert [call["model"] for call in calls(app, done["message"]["request_id"])] == ["offline"]


def test_a_dear_model_is_called_only_as_far_as_the_day_covers_it(make_app: Any, model: ModelServer) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        yield Chunk("Well: ")
        yield Chunk(turn.llm.complete(asked(turn), model=OTHER))

    tight = MODELS.replace('daily_usd = "0.50"', 'daily_usd = "0.0009"\ncheaper_model_at_percent = 100')
    tight = tight.replace("[limits]", "[limits]\nprompt_tokens = 100")
    app = make_app(tight, answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    refused = ada.send(ada.new_chat(), "Hello")
    assert refused.get_json()["error"]["code"] == "budget_exceeded"
    assert model.requests == []
    assert (usage_of(app)["cost_micro_usd"], usage_of(app)["reservations"]) == (0, {})


def test_a_failed_try_has_a_record_of_its_own_that_costs_nothing(make_app: Any, model: ModelServer) -> None:
    app = make_app(answer=lambda turn: turn.llm.stream(asked(turn)), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    model.script = [Fault(404), Reply()]
    ada = sign_in(app, "ada")
    done = ada.send(ada.new_chat(), "Hello").get_json()
    found = calls(app, done["message"]["request_id"])
    assert [(call["step"], call["model"], call["error"], call["cost_micro_usd"] > 0) for call in found] == [
        (1, CHAT, "model_failed", False), (1, FALLBACK, None, True),
    ]  # fmt: skip


def test_a_request_that_is_sent_again_keeps_the_records_of_what_its_first_try_cost(
    make_app: Any, model: ModelServer
) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        yield Chunk(turn.llm.complete(asked(turn)))
        yield from turn.llm.stream(asked(turn))

    app = make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    model.script = [Reply(), Fault(400)]
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    assert ada.send(chat, "Hello", Idempotency_Key="k1").status_code == 502
    done = ada.send(chat, "Hello", Idempotency_Key="k1").get_json()
    found = calls(app, done["message"]["request_id"])
    assert len(found) == 4
    assert sum(call["cost_micro_usd"] for call in found) == usage_of(app)["cost_micro_usd"]


Kind = Literal["complete", "extract", "stream"]
STEPS = st.lists(
    st.tuples(st.sampled_from(["complete", "extract", "stream"]), st.sampled_from([None, "cheap", "chat", OTHER])),
    min_size=1,
    max_size=4,
)
USAGE = st.none() | st.tuples(st.integers(1, 900), st.just(0), st.integers(1, 90))
REPLIES = st.builds(Reply, st.just(('{"name": "food"}',)), USAGE)
BROKEN = st.builds(lambda usage, at: Reply(("One", " two", " three."), usage, cut_after=at), USAGE, st.integers(0, 3))
FAULTS = st.sampled_from([Fault(500), Fault(429), Fault(404), Fault(400), Fault(0), Fault(200, body="nothing")])
SCRIPTS = st.lists(st.one_of(REPLIES, REPLIES, BROKEN, FAULTS), max_size=8)


class World:
    """One app whose workflow makes the steps that it is told to."""

    def __init__(self, folder: Path, model: ModelServer) -> None:
        self.steps: list[tuple[Kind, str | None]] = []
        path = write_app(folder, MODELS.replace("[limits]", "[limits]\non_disconnect = 'stop'"))
        services = build(Settings.load(path, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}))
        # Pauses between tries would be most of the test's time.
        self.services = replace(services, gateway=replace(services.gateway, pause=lambda *_: None))
        self.app = App("steps")
        self.app.services = self.services  # type: ignore[attr-defined]
        init_app(self.app, self.services, self.answer)

    def answer(self, turn: Turn) -> Iterator[Chunk]:
        for kind, model in self.steps:
            if kind == "extract":
                yield Chunk(turn.llm.extract(Topic, asked(turn), model=model).name)
            elif kind == "complete":
                yield Chunk(turn.llm.complete(asked(turn), model=model))
            else:
                yield from turn.llm.stream(asked(turn), model=model)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ModelServer() as model:
        made = World(tmp_path_factory.mktemp("steps"), model)
        made.model = model  # type: ignore[attr-defined]
        yield made
        made.services.store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, script=SCRIPTS, streamed=st.booleans(), leaves_after=st.none() | st.integers(1, 4))
def test_the_calls_of_a_turn_cost_together_what_the_turn_and_the_day_do_whatever_happens(
    world: World, steps: Any, script: list[Action], streamed: bool, leaves_after: int | None
) -> None:
    """Failures, retries, fallbacks, answers that break off, and clients that leave."""
    world.steps = steps
    world.model.script = list(script)  # type: ignore[attr-defined]
    world.services.gateway.breaker.succeeded(CHAT)
    user = sign_in(world.app, "ada")
    before = _spent(world)
    response = (user.stream if streamed else user.send)(user.new_chat(), "Hello?")
    if streamed:
        for number, _ in enumerate(events(response)):
            if leaves_after is not None and number >= leaves_after:
                break
        response.close()
    newest = world.services.store.query(Query("apps/demo/requests"))
    record = max(newest, key=lambda document: document.update_time)
    found = calls(world.app, record.id)
    assert record.data["state"] == "settled"
    assert record.data["calls"] == len(found)
    assert sum(call["cost_micro_usd"] for call in found) == record.data["usage"]["cost_micro_usd"]
    for kind in ("input_tokens", "cached_input_tokens", "output_tokens"):
        assert sum(call[kind] for call in found) == record.data["usage"][kind]
    assert record.data["usage"]["cost_micro_usd"] == _spent(world) - before
    assert usage_of(world.app)["reservations"] == {}
    assert all(call["error"] is not None or call["finish"] is not None for call in found)


def _spent(world: World) -> int:
    with suppress(AttributeError):
        return int(usage_of(world.app)["cost_micro_usd"])
    return 0


def test_a_turn_of_more_calls_than_one_commit_holds_has_a_record_of_each(make_app: Any, model: ModelServer) -> None:
    steps = 900

    def answer(turn: Turn) -> Iterator[Chunk]:
        for _ in range(steps):
            turn.llm.meter.cover(1)
            turn.llm.meter.spend(FinishedCall(CHEAP, TokenCounts(1, output=1), 1, 0.1))
            turn.llm.meter.release(1)
        yield Chunk("Done.")

    app = make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    done = ada.send(ada.new_chat(), "Hello").get_json()
    assert done["usage"]["cost_micro_usd"] == steps == usage_of(app)["cost_micro_usd"]
    assert len(calls(app, done["message"]["request_id"])) == steps


def test_tools_that_call_models_side_by_side_are_covered_together_and_each_is_billed(
    make_app: Any, model: ModelServer
) -> None:
    both = threading.Barrier(2, timeout=30)

    def answer(turn: Turn) -> Iterator[Chunk]:
        def think(about: str) -> str:
            """Think about something."""
            both.wait()
            return turn.llm.complete([{"role": "user", "content": about}], purpose="think")

        yield from turn.llm.stream(asked(turn), tools=[think])

    app = make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    two = [("think", '{"about": "food"}'), ("think", '{"about": "travel"}')]
    model.script = [Reply((), (10, 0, 4), calls=two), Reply(pace=0.05), Reply(pace=0.05), Reply()]
    ada = sign_in(app, "ada")
    done = ada.send(ada.new_chat(), "Hello").get_json()
    found = calls(app, done["message"]["request_id"])
    assert sorted(call["purpose"] for call in found) == ["think", "think", "turn", "turn"]
    assert sum(call["cost_micro_usd"] for call in found) == usage_of(app)["cost_micro_usd"]


def test_two_calls_at_a_time_reserve_the_sum_of_their_worst_cases(make_app: Any) -> None:
    seen: list[int] = []

    def answer(turn: Turn) -> Iterator[Chunk]:
        meter = turn.llm.meter
        meter.cover(300_000)
        meter.cover(150_000)
        with pytest.raises(BudgetExceeded):
            meter.cover(100_000)
        seen.append(sum(item["micro_usd"] for item in usage_of(app)["reservations"].values()))
        meter.release(300_000)
        meter.cover(100_000)
        meter.release(250_000)
        yield Chunk("Done.")

    app = make_app(answer=answer)
    ada = sign_in(app, "ada")
    assert ada.send(ada.new_chat(), "Hello").status_code == 200
    assert seen == [450_000]


def test_a_call_that_ends_after_its_turn_was_settled_is_billed_all_the_same(make_app: Any, model: ModelServer) -> None:
    turns: list[Turn] = []

    def answer(turn: Turn) -> Iterator[Chunk]:
        turns.append(turn)
        yield from turn.llm.stream(asked(turn))

    app = make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    done = ada.send(ada.new_chat(), "Hello").get_json()
    turns[0].llm.complete([{"role": "user", "content": "late"}], purpose="late")
    found = calls(app, done["message"]["request_id"])
    assert [call["purpose"] for call in found] == ["turn", "late"]
    assert sum(call["cost_micro_usd"] for call in found) == usage_of(app)["cost_micro_usd"]
    assert usage_of(app)["reservations"] == {}


def test_a_turn_has_its_users_scope_and_store_and_reaches_nobody_elses(make_app: Any) -> None:
    seen: list[Any] = []

    def answer(turn: Turn) -> Iterator[Chunk]:
        seen.extend([turn.scope, turn.caller and turn.caller.role])
        turn.store.commit([Set(f"{turn.scope.root}/notes/n1", {"text": turn.text})])
        for path in ("apps/demo/users/bob/notes/n1", "apps/demo/jobs/j1", "apps/demo"):
            with pytest.raises(FirelaunchError):
                turn.store.get(path)
        yield Chunk("Noted.")

    app = make_app(answer=answer)
    ada = sign_in(app, "ada", role="editor")
    assert ada.send(ada.new_chat(), "Buy tea").status_code == 200
    assert seen == [ADA, "editor"]
    assert app.services.store.get("apps/demo/users/ada/notes/n1").data == {"text": "Buy tea"}


class Reminder(Record):
    text: str


REMINDERS: Collection[Reminder] = Collection("reminders", Reminder, owner="user")


def test_a_tool_keeps_records_of_the_turns_user_alone(make_app: Any, model: ModelServer) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        def remind(text: str) -> list[str]:
            """Keep a reminder."""
            turn.data(REMINDERS).add(Reminder(text=text))
            return [reminder.text for reminder in turn.data(REMINDERS).list().items]

        yield from turn.llm.stream(asked(turn), tools=[remind])

    app = make_app(answer=answer, collections=[REMINDERS], OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    for uid in ("ada", "bob"):
        model.script = [Reply((), (10, 0, 4), calls=[("remind", json.dumps({"text": f"of {uid}"}))])]
        user = sign_in(app, uid)
        assert user.send(user.new_chat(), "Remind me").status_code == 200
        assert json.loads(model.requests[-1]["messages"][-1]["content"]) == [f"of {uid}"]


def test_a_turn_enqueues_a_job_of_its_user(make_app: Any) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        yield Chunk(turn.enqueue(NOTIFY, Notify(title="Later"), key="k").uid or "")

    app = make_app(answer=answer)
    ada = sign_in(app, "ada")
    assert ada.send(ada.new_chat(), "Remind me").get_json()["message"]["text"] == "ada"
    assert [job["kind"] for job in ada.get("/v1/jobs").get_json()["items"]] == ["notify"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_writes_nothing_for_a_user_who_was_erased_while_it_worked(make_app: Any, streamed: bool) -> None:
    """Also where the steps of a stream run on other threads than its request did."""
    outcome: list[str] = []

    def answer(turn: Turn) -> Iterator[Chunk]:
        yield Chunk("One moment. ")
        erasure_of(app.services).run("ada")
        try:
            turn.store.commit([Set(f"{turn.scope.root}/notes/n1", {"text": "late"})])
        except FirelaunchError as error:
            outcome.append(type(error).__name__)
        yield Chunk("Done.")

    app = make_app(answer=answer)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    response = (ada.stream if streamed else ada.send)(chat, "Hello")
    read = threading.Thread(target=lambda: list(response.response))
    read.start()
    read.join()
    assert outcome == ["Fenced"]
    assert list(app.services.store.tree(ADA.root)) == []


def test_admins_list_the_calls_of_a_request_or_of_a_user_in_pages_and_others_do_not(
    make_app: Any, model: ModelServer
) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        turn.llm.complete(asked(turn))
        yield from turn.llm.stream(asked(turn))

    app = make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada, bob, admin = sign_in(app, "ada"), sign_in(app, "bob"), sign_in(app, "root", role="admin")
    sent = [user.send(user.new_chat(), "Hello").get_json()["message"]["request_id"] for user in (ada, bob, ada)]
    of_one = admin.get(f"/v1/ops/requests/{sent[1]}/calls").get_json()["items"]
    assert [(call["uid"], call["step"]) for call in of_one] == [("bob", 1), ("bob", 2)]
    seen, cursor = [], ""
    while cursor is not None:
        page = admin.get(f"/v1/ops/users/ada/calls?limit=3{cursor and f'&cursor={cursor}'}").get_json()
        seen += page["items"]
        cursor = page["next_cursor"]
    assert [call["request"] for call in seen] == [sent[2]] * 2 + [sent[0]] * 2
    assert [datetime.fromisoformat(call["finished_at"]) for call in seen] == sorted(
        (datetime.fromisoformat(call["finished_at"]) for call in seen), reverse=True
    )
    for path in (f"requests/{sent[0]}", "users/ada"):
        assert ada.get(f"/v1/ops/{path}/calls").status_code == 403
    assert admin.get("/v1/ops/users/ada/calls?cursor=x").status_code == 400
