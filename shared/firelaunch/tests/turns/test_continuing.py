"""An answer that was cut goes on where it stopped: one message, one text, and the books of both requests."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Update
from firelaunch.testing.apps import SETTINGS, User, events, sign_in, write_app
from firelaunch.testing.chat_rules import template_refusal
from firelaunch.testing.models import Fault, ModelServer, Reply
from hypothesis import given, settings
from hypothesis import strategies as st

CUT = Reply(("Hello", " fr"), finish="length")
REST = Reply(("om", " the model."))


@pytest.fixture
def ada(model_app: App) -> User:
    return sign_in(model_app, "ada")


def cut_answer(ada: User, model: ModelServer, reply: Reply = CUT) -> tuple[str, dict[str, Any]]:
    """Send a message whose answer is cut, and return the chat and the answer."""
    chat = ada.new_chat()
    model.script = [reply]
    list(events(ada.stream(chat, "Hello?")))
    return chat, messages(ada, chat)[-1]


def messages(ada: User, chat: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ada.get(f"/v1/chats/{chat}").get_json()["messages"]
    return found


def go_on(ada: User, chat: str, answer: dict[str, Any], **headers: str) -> Any:
    return ada.post(f"/v1/chats/{chat}/messages", {"continues": answer["id"]}, **headers)


def test_a_cut_answer_goes_on_as_one_message_whose_usage_is_that_of_both_calls(ada: User, model: ModelServer) -> None:
    chat, cut = cut_answer(ada, model)
    assert (cut["text"], cut["status"], cut["finish"]) == ("Hello fr", "incomplete", "length")
    model.script = [REST]
    model.refusal = template_refusal
    answer = go_on(ada, chat, cut).get_json()
    assert answer["message"]["text"] == "Hello from the model."
    assert (answer["message"]["id"], answer["message"]["status"], answer["message"]["finish"]) == (
        cut["id"],
        "complete",
        "stop",
    )
    told = [(each["role"], each["content"]) for each in model.requests[-1]["messages"]]
    assert told[:3] == [("system", "You are Demo."), ("user", "Hello?"), ("assistant", "Hello fr")]
    assert (len(told), told[3][0]) == (4, "user")
    assert answer["usage"]["output_tokens"] == 4
    assert answer["message"]["usage"]["output_tokens"] == 8
    stored = messages(ada, chat)
    assert stored[-1] == answer["message"]
    assert [each["role"] for each in stored] == ["user", "assistant"]
    assert ada.get(f"/v1/chats/{chat}").get_json()["message_count"] == 2
    usage = ada.get("/v1/usage").get_json()
    assert (usage["output_tokens"], usage["reserved_micro_usd"], usage["requests"]) == (8, 0, 2)
    assert usage["cost_micro_usd"] == answer["message"]["usage"]["cost_micro_usd"]


def test_a_stream_brings_the_new_pieces_alone_and_the_whole_message_at_its_end(ada: User, model: ModelServer) -> None:
    chat, cut = cut_answer(ada, model)
    model.script = [REST]
    said = list(events(go_on(ada, chat, cut, Accept="text/event-stream")))
    assert said[0][1]["message_id"] == cut["id"]
    assert "".join(data["text"] for name, data in said if name == "delta") == "om the model."
    assert said[-1][1]["message"]["text"] == "Hello from the model."


@pytest.mark.parametrize("reply", [Reply(cut_after=2), Reply(("Hello", " fr"), finish="error"), Reply(finish="hm")])
def test_an_answer_that_broke_off_or_ended_for_no_known_reason_goes_on_too(
    ada: User, model: ModelServer, reply: Reply
) -> None:
    chat, cut = cut_answer(ada, model, reply)
    assert cut["status"] == "incomplete"
    model.script = [REST]
    assert go_on(ada, chat, cut).get_json()["message"]["text"] == cut["text"] + "om the model."


def test_an_answer_can_be_cut_again_and_goes_on_again(ada: User, model: ModelServer) -> None:
    chat, cut = cut_answer(ada, model)
    model.script = [Reply(("om", " the"), finish="length"), Reply((" model.",))]
    assert go_on(ada, chat, cut).get_json()["message"]["finish"] == "length"
    answer = go_on(ada, chat, cut).get_json()["message"]
    assert (answer["text"], answer["status"]) == ("Hello from the model.", "complete")


def test_what_cannot_go_on_is_refused_and_no_model_is_called(model_app: App, ada: User, model: ModelServer) -> None:
    chat, cut = cut_answer(ada, model)
    bob = sign_in(model_app, "bob")
    calls = len(model.requests)
    path = f"/v1/chats/{chat}/messages"
    refusals = {
        "both": (ada.post(path, {"continues": cut["id"], "text": "x"}), 400),
        "neither": (ada.post(path, {}), 400),
        "approvals alone": (ada.post(path, {"text": "x", "approvals": [{"id": "a", "approved": True}]}), 400),
        "no call waits": (
            ada.post(path, {"continues": cut["id"], "approvals": [{"id": "a", "approved": True}]}),
            409,
        ),
        "another user's": (bob.post(path, {"continues": cut["id"]}), 404),
        "a user's message": (ada.post(path, {"continues": cut["id"][:-1] + "u"}), 404),
        "no id": (ada.post(path, {"continues": "../x"}), 404),
        "one of another chat": (ada.post(f"/v1/chats/{ada.new_chat()}/messages", {"continues": cut["id"]}), 404),
    }
    assert {name: answer.status_code for name, (answer, _) in refusals.items()} == {
        name: status for name, (_, status) in refusals.items()
    }
    assert len(model.requests) == calls
    ada.send(chat, "And now?")
    calls = len(model.requests)
    assert go_on(ada, chat, cut).get_json()["error"]["code"] == "conflict"  # no longer the latest
    assert go_on(ada, chat, messages(ada, chat)[-1]).get_json()["error"]["code"] == "conflict"  # whole
    assert len(model.requests) == calls


def test_a_repeated_request_with_its_key_is_answered_once(ada: User, model: ModelServer) -> None:
    chat, cut = cut_answer(ada, model)
    model.script = [REST]
    first = go_on(ada, chat, cut, Idempotency_Key="k").get_json()
    calls = len(model.requests)
    assert go_on(ada, chat, cut, Idempotency_Key="k").get_json() == first
    again = list(events(go_on(ada, chat, cut, Idempotency_Key="k", Accept="text/event-stream")))
    assert "".join(data["text"] for name, data in again if name == "delta") == "om the model."
    assert len(model.requests) == calls


def test_two_requests_at_a_time_do_not_both_go_on(ada: User, model: ModelServer) -> None:
    chat, cut = cut_answer(ada, model)
    model.script = [Reply(("om",), hang_after=1)]
    first = go_on(ada, chat, cut, Accept="text/event-stream")
    stream = events(first)
    assert next(stream)[0] == "start"
    assert go_on(ada, chat, cut).get_json()["error"]["code"] == "request_in_progress"
    ada.post(f"/v1/chats/{chat}/stop")
    assert list(stream)[-1][0] == "done"
    model.script = [Reply((" the model.",))]
    assert go_on(ada, chat, cut).get_json()["message"]["text"] == "Hello from the model."


def test_a_continuation_that_fails_leaves_the_answer_as_it_was(ada: User, model: ModelServer) -> None:
    chat, cut = cut_answer(ada, model)
    model.script = [Fault(400)]
    assert go_on(ada, chat, cut).status_code == 502
    kept = messages(ada, chat)[-1]
    assert (kept["text"], kept["status"]) == (cut["text"], "incomplete")
    model.script = [REST]
    assert go_on(ada, chat, kept).get_json()["message"]["text"] == "Hello from the model."


def test_after_a_crash_the_answer_can_go_on_once_its_reservation_has_expired(
    model_app: Any, ada: User, model: ModelServer
) -> None:
    chat, cut = cut_answer(ada, model)
    store = model_app.services.store
    path = store.scope.of("ada").chat(chat)
    now, request = model_app.services.clock(), "r" + "0" * 32
    store.commit([Update(path, {f"running.{request}": now.replace(year=now.year + 1)})])
    assert go_on(ada, chat, cut).get_json()["error"]["code"] == "request_in_progress"
    store.commit([Update(path, {f"running.{request}": now.replace(year=now.year - 1)})])
    model.script = [REST]
    assert go_on(ada, chat, cut).status_code == 200
    assert store.get(path).data["running"] == {}


@settings(max_examples=20)
@given(pieces=st.lists(st.text("ab\n é", min_size=1, max_size=5).filter(str.strip), min_size=2, max_size=5))
def test_however_often_it_is_cut_the_text_is_whole_and_each_call_is_paid_once(pieces: list[str]) -> None:
    with TemporaryDirectory() as folder, ModelServer() as model:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        services = build(Settings.load(write_app(Path(folder), SETTINGS), environ))
        app = App("test")
        init_app(app, services, _answer)
        ada = sign_in(app, "ada")
        chat, answer = cut_answer(ada, model, Reply((pieces[0],), finish="length"))
        for piece in pieces[1:-1]:
            model.script = [Reply((piece,), finish="length")]
            assert go_on(ada, chat, answer).status_code == 200
        model.script = [Reply((pieces[-1],))]
        message = go_on(ada, chat, answer).get_json()["message"]
        assert (message["text"], message["status"]) == ("".join(pieces), "complete")
        usage = ada.get("/v1/usage").get_json()
        assert message["usage"]["cost_micro_usd"] == usage["cost_micro_usd"]
        assert message["usage"]["output_tokens"] == 4 * len(pieces)
        services.store.close()


def _answer(turn: Any) -> Any:
    yield from turn.llm.stream([*turn.history, {"role": "user", "content": turn.text}])
