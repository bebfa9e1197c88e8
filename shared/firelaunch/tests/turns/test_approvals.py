"""A tool's call that needs approval runs once, after the user approved it, whatever is killed or repeated meanwhile."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from firelaunch import Tool
from firelaunch.errors import StoreError
from firelaunch.llm.types import Chunk, Message
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Update
from firelaunch.testing.apps import SETTINGS, User, events, run_jobs, sign_in, write_app
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn
from hypothesis import given, settings
from hypothesis import strategies as st

RAN: list[tuple[str, int]] = []


def pay(to: str, amount: int) -> str:
    """Pay somebody.

    Args:
        to: who is paid.
        amount: how much.
    """
    RAN.append((to, amount))
    return f"paid {amount} to {to}"


def look_up(name: str) -> dict[str, str]:
    """Look somebody up."""
    return {"name": name}


def workflow_with(*tools: Any) -> Callable[[Turn], Iterator[Chunk]]:
    def answer(turn: Turn) -> Iterator[Chunk]:
        messages: list[Message] = [
            {"role": "system", "content": "You are Demo."},
            *turn.history,
            {"role": "user", "content": turn.text},
        ]
        yield from turn.llm.stream(messages, tools=tools)

    return answer


def asks(*calls: tuple[str, dict[str, Any]], words: tuple[str, ...] = ()) -> Reply:
    return Reply(words, calls=[(name, json.dumps(arguments)) for name, arguments in calls], finish="tool_calls")


PAY = asks(("pay", {"to": "Bob", "amount": 20}), words=("One moment.",))


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RAN.clear()


Made = Callable[..., tuple[Any, User]]


@pytest.fixture
def made(make_app: Any, model: ModelServer) -> Made:
    def make(*tools: Any, settings: str = SETTINGS) -> tuple[Any, User]:
        tools = tools or (Tool(pay, approve=True), look_up)
        app = make_app(settings, answer=workflow_with(*tools), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
        return app, sign_in(app, "ada")

    return make


def held(ada: User, model: ModelServer, reply: Reply = PAY) -> tuple[str, dict[str, Any]]:
    """Send a message whose answer waits, and return the chat and the answer."""
    chat = ada.new_chat()
    model.script = [reply]
    answer = ada.send(chat, "Pay Bob.")
    assert answer.status_code == 200, answer.get_data(as_text=True)
    return chat, answer.get_json()["message"]


def waiting(message: dict[str, Any]) -> list[str]:
    return [use["id"] for use in message["tools"] if use["approve_until"] is not None]


def decide(
    ada: User, chat: str, message: dict[str, Any], approved: bool = True, reason: str = "", **headers: str
) -> Any:
    decisions = [{"id": call, "approved": approved, "reason": reason} for call in waiting(message)]
    return ada.post(f"/v1/chats/{chat}/messages", {"continues": message["id"], "approvals": decisions}, **headers)


def latest(ada: User, chat: str) -> dict[str, Any]:
    message: dict[str, Any] = ada.get(f"/v1/chats/{chat}").get_json()["messages"][-1]
    return message


def results(model: ModelServer) -> list[str]:
    """The tool results that the last request to the model holds."""
    return [each["content"] for each in model.requests[-1]["messages"] if each["role"] == "tool"]


def test_the_answer_ends_with_a_call_that_waits_and_nothing_stays_reserved(made: Made, model: ModelServer) -> None:
    _, ada = made()
    chat, message = held(ada, model)
    assert (message["text"], message["status"], message["finish"]) == ("One moment.", "incomplete", "tool_calls")
    (use,) = message["tools"]
    assert (use["name"], use["input"], use["output"], use["error"]) == ("pay", {"to": "Bob", "amount": 20}, None, None)
    assert RAN == []
    assert ada.get("/v1/usage").get_json()["reserved_micro_usd"] == 0
    assert latest(ada, chat) == message


def test_an_approved_call_runs_once_and_the_answer_goes_on(made: Made, model: ModelServer) -> None:
    _, ada = made()
    chat, message = held(ada, model)
    answer = decide(ada, chat, message).get_json()["message"]
    assert RAN == [("Bob", 20)]
    assert results(model) == ["paid 20 to Bob"]
    assert (answer["id"], answer["status"]) == (message["id"], "complete")
    assert answer["text"] == "One moment.\n\nHello from the model."
    (use,) = answer["tools"]
    assert (use["output"], use["error"], use["approve_until"]) == ("paid 20 to Bob", None, None)
    calls = len(model.requests)
    assert decide(ada, chat, message).get_json()["message"] == answer
    assert decide(ada, chat, message, approved=False).get_json()["error"]["code"] == "idempotency_key_reused"
    assert (RAN, len(model.requests)) == ([("Bob", 20)], calls)


def test_a_refused_call_does_not_run_and_the_model_learns_why(made: Made, model: ModelServer) -> None:
    _, ada = made()
    chat, message = held(ada, model)
    answer = decide(ada, chat, message, approved=False, reason="Too much.").get_json()["message"]
    assert RAN == []
    (told,) = results(model)
    assert told.endswith("Too much.")
    assert answer["tools"][0]["error"] == "denied"


def test_a_predicate_decides_and_one_that_fails_means_that_the_call_waits(made: Made, model: ModelServer) -> None:
    _, ada = made(Tool(pay, approve=lambda to, amount: 100 // amount < 10))
    for amount, waits in ((5, False), (20, True), (0, True)):
        RAN.clear()
        _, message = held(ada, model, asks(("pay", {"to": "Bob", "amount": amount})))
        assert (bool(waiting(message)), RAN) == (waits, [] if waits else [("Bob", amount)])


def test_other_calls_of_the_step_run_at_once_and_the_model_gets_all_results(made: Made, model: ModelServer) -> None:
    _, ada = made()
    calls = [("look_up", {"name": "Bob"}), ("pay", {"to": "Bob", "amount": 1}), ("pay", {"to": "Eve", "amount": 2})]
    chat, message = held(ada, model, asks(*calls))
    assert [use["output"] for use in message["tools"]] == [{"name": "Bob"}, None, None]
    first, second = waiting(message)
    path, ours = f"/v1/chats/{chat}/messages", {"continues": message["id"]}
    one = [{"id": first, "approved": True}]
    assert ada.post(path, ours | {"approvals": one}).get_json()["error"]["code"] == "conflict"
    assert ada.post(path, ours).get_json()["error"]["code"] == "conflict"
    both = [*one, {"id": second, "approved": False}]
    assert ada.post(path, ours | {"approvals": both}).status_code == 200
    assert RAN == [("Bob", 1)]
    assert results(model)[:2] == ['{"name": "Bob"}', "paid 1 to Bob"]
    assert len(results(model)) == 3


def test_a_call_after_the_approved_one_waits_anew_and_the_model_sees_both(made: Made, model: ModelServer) -> None:
    _, ada = made()
    chat, message = held(ada, model)
    model.script = [asks(("pay", {"to": "Eve", "amount": 3}))]
    message = decide(ada, chat, message).get_json()["message"]
    assert (len(message["tools"]), len(waiting(message))) == (2, 1)
    assert decide(ada, chat, message).get_json()["message"]["status"] == "complete"
    assert results(model) == ["paid 20 to Bob", "paid 3 to Eve"]
    assert RAN == [("Bob", 20), ("Eve", 3)]


def test_another_instance_goes_on_and_another_user_cannot(made: Made, model: ModelServer) -> None:
    app, ada = made()
    chat, message = held(ada, model)
    eve = sign_in(app, "eve")
    assert decide(eve, chat, message).status_code == 404
    other, _ = made()
    assert decide(sign_in(other, "ada"), chat, message).get_json()["message"]["status"] == "complete"
    assert RAN == [("Bob", 20)]


def test_the_time_to_approve_ends(made: Made, model: ModelServer) -> None:
    app, ada = made()
    chat, message = held(ada, model)
    store = app.services.store
    path = store.scope.of("ada").message(chat, message["id"])
    (use,) = store.get(path).data["tools"]
    store.commit([Update(path, {"tools": [use | {"approve_until": app.services.clock() - timedelta(seconds=1)}]})])
    assert "over" in decide(ada, chat, message).get_json()["error"]["message"]
    assert RAN == []


def test_a_new_message_lets_the_call_go(made: Made, model: ModelServer) -> None:
    _, ada = made()
    chat, message = held(ada, model)
    assert ada.send(chat, "Never mind.").status_code == 200
    assert decide(ada, chat, message).get_json()["error"]["code"] == "conflict"
    assert RAN == []


def test_a_failure_after_the_call_keeps_its_result_for_the_next_try(made: Made, model: ModelServer) -> None:
    _, ada = made()
    chat, message = held(ada, model)
    model.script = [Fault(400)]
    assert decide(ada, chat, message).status_code == 502
    answer = decide(ada, chat, message).get_json()["message"]
    assert (RAN, answer["status"]) == ([("Bob", 20)], "complete")
    assert results(model) == ["paid 20 to Bob"]


def test_a_decision_that_has_its_answer_leaves_no_call_and_no_result_behind(made: Made, model: ModelServer) -> None:
    app, ada = made()
    chat, message = held(ada, model)
    record = app.services.store.scope.of("ada").request(message["request_id"])
    model.script = [Fault(400)]
    assert decide(ada, chat, message).status_code == 502
    kept = app.services.store.get(record).data
    assert "paid 20 to Bob" in kept["ran"]["c0"]["result"]
    assert decide(ada, chat, message).status_code == 200
    assert {"held", "ran"}.isdisjoint(app.services.store.get(record).data)
    assert decide(ada, chat, message).status_code == 200  # a repeated decision gets the same answer
    assert RAN == [("Bob", 20)]


def test_a_call_whose_result_was_lost_is_not_run_again(made: Made, model: ModelServer) -> None:
    app, ada = made()
    chat, message = held(ada, model)
    with LostAfter(app, lambda write: any(key.endswith(".result") for key in write.data)):
        assert decide(ada, chat, message).status_code >= 500
    answer = decide(ada, chat, message).get_json()["message"]
    assert (RAN, answer["tools"][0]["error"]) == ([("Bob", 20)], "unknown_outcome")


class LostAfter:
    """A database that takes no write which ``matches``."""

    def __init__(self, app: Any, matches: Callable[[Any], bool]) -> None:
        self._store, self._matches = app.services.store, matches
        self._commit = self._store.commit

    def __enter__(self) -> None:
        def commit(writes: Any) -> Any:
            if any(type(write) is Update and self._matches(write) for write in writes):
                raise StoreError(reason="lost")
            return self._commit(writes)

        self._store.commit = commit

    def __exit__(self, *_: object) -> None:
        del self._store.commit


def test_a_step_that_nobody_sees_cannot_ask_anybody(made: Made, make_app: Any, model: ModelServer) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        yield Chunk(turn.llm.complete([{"role": "user", "content": turn.text}], tools=[Tool(pay, approve=True)]))

    ada = sign_in(make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    _, message = held(ada, model)
    assert (RAN, message["status"]) == ([], "complete")
    assert "approval" in results(model)[0]


def test_a_stream_tells_of_the_call_and_of_its_result(made: Made, model: ModelServer) -> None:
    _, ada = made()
    chat = ada.new_chat()
    model.script = [PAY]
    said = list(events(ada.stream(chat, "Pay Bob.")))
    assert [name for name, _ in said] == ["start", "delta", "tool_call", "tool_approval", "done"]
    message = said[-1][1]["message"]
    said = list(events(decide(ada, chat, message, Accept="text/event-stream")))
    assert [name for name, _ in said][:2] == ["start", "tool_result"]
    assert said[1][1]["output"] == "paid 20 to Bob"
    assert "".join(data["text"] for name, data in said if name == "delta") == "\n\nHello from the model."


def writes_claim(part: str | None, write: Update) -> bool:
    return part is not None and any(name.startswith("ran") and name.endswith(part) for name in write.data)


CALLS = st.lists(st.tuples(st.sampled_from(["pay", "look_up"]), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=25)
@given(calls=CALLS, tries=st.lists(st.sampled_from(["ok", "refused", "result lost", "claim lost"]), max_size=3))
def test_no_call_runs_twice_or_unapproved_and_the_model_is_never_left_without_a_result(
    calls: list[tuple[str, bool]], tries: list[str]
) -> None:
    RAN.clear()
    with TemporaryDirectory() as folder, ModelServer() as model:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        app: Any = App("test")
        app.services = build(Settings.load(write_app(Path(folder), SETTINGS), environ))
        init_app(app, app.services, workflow_with(Tool(pay, approve=True), look_up))
        ada = sign_in(app, "ada")
        arguments: dict[str, Any] = {"look_up": {"name": "Bob"}}
        asked = [(name, arguments.get(name, {"to": f"p{n}", "amount": n})) for n, (name, _) in enumerate(calls)]
        chat, message = held(ada, model, asks(*asked))
        approved = {f"p{n}" for n, (name, yes) in enumerate(calls) if name == "pay" and yes}
        decisions = [
            {"id": use["id"], "approved": use["input"]["to"] in approved}
            for use in message["tools"]
            if use["approve_until"]
        ]
        if not decisions:
            assert message["status"] == "complete"
            return
        body = {"continues": message["id"], "approvals": decisions}
        for kind in [*tries, "ok"]:
            lost = {"result lost": ".result", "claim lost": ".at"}.get(kind)
            model.script = [Fault(400)] if kind == "refused" else []
            with LostAfter(
                app, lambda write, lost=lost: lost and any(k.startswith("ran") and k.endswith(lost) for k in write.data)
            ):
                status = ada.post(f"/v1/chats/{chat}/messages", body).status_code
            if status == 200:
                break
        assert status == 200
        assert len(RAN) == len(set(RAN))
        assert {to for to, _ in RAN} <= approved
        if "result lost" not in tries:
            assert {to for to, _ in RAN} == approved
        assert len(results(model)) == len(calls)
        assert ada.get("/v1/usage").get_json()["reserved_micro_usd"] == 0
        app.services.store.close()


def test_an_export_has_no_output_that_the_app_does_not_show(made: Made, model: ModelServer) -> None:
    def look_inside(name: str) -> str:
        """Look."""
        return "HIDDEN-1"

    app, ada = made(Tool(pay, approve=True), Tool(look_inside, shown=False))
    held(ada, model, asks(("look_inside", {"name": "x"}), ("pay", {"to": "Bob", "amount": 1})))
    export = ada.post("/v1/me/exports").get_json()["id"]
    run_jobs(app)
    with zipfile.ZipFile(io.BytesIO(ada.get(f"/v1/me/exports/{export}/file").data)) as archive:
        found = b"".join(archive.read(name) for name in archive.namelist())
    assert b"Bob" in found
    assert b"HIDDEN-1" not in found
