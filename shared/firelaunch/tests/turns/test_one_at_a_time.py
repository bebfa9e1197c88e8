"""Edits, new answers and continuations have the chat for themselves, and a decision means the call that it was on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from firelaunch import Tool
from firelaunch.llm.types import Chunk, Message
from firelaunch.testing.apps import SETTINGS, User, events, sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn

RAN: list[tuple[str, int]] = []
HANGS = Reply(("Well", ", well"), hang_after=1)
Made = Callable[..., User]


def pay(to: str, amount: int) -> str:
    """Pay somebody.

    Args:
        to: who is paid.
        amount: how much.
    """
    RAN.append((to, amount))
    return "paid"


def answer(turn: Turn) -> Iterator[Chunk]:
    messages: list[Message] = [*turn.history, {"role": "user", "content": turn.text}]
    yield from turn.llm.stream(messages, tools=[Tool(pay, approve=True)])


@pytest.fixture
def made(make_app: Any, model: ModelServer) -> Made:
    RAN.clear()

    def make(settings: str = SETTINGS, workflow: Any = answer) -> User:
        return sign_in(make_app(settings, answer=workflow, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")

    return make


def pays(to: str, amount: int, words: tuple[str, ...] = ("Sure.",)) -> Reply:
    return Reply(words, calls=[("pay", json.dumps({"to": to, "amount": amount}))], finish="tool_calls")


def ask(user: User, chat: str, **body: Any) -> Any:
    return user.post(f"/v1/chats/{chat}/messages", body)


def listed(user: User, chat: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = user.get(f"/v1/chats/{chat}").get_json()["messages"]
    return found


def begun(user: User, chat: str, **body: Any) -> Iterator[Any]:
    """Begin to stream an answer, and return its further events."""
    stream = events(user.post(f"/v1/chats/{chat}/messages", body, Accept="text/event-stream"))
    assert "delta" in (name for name, _ in stream)
    return stream


def stop(user: User, chat: str, stream: Iterator[Any]) -> None:
    user.post(f"/v1/chats/{chat}/stop")
    assert list(stream)[-1][0] in {"done", "error"}


def decisions(message: dict[str, Any], approved: bool = True) -> dict[str, Any]:
    waiting = [use["id"] for use in message["tools"] if use["approve_until"]]
    return {"continues": message["id"], "approvals": [{"id": call, "approved": approved} for call in waiting]}


@pytest.mark.parametrize("kind", ["edit", "again", "continue"])
@pytest.mark.parametrize("running", ["message", "edit", "again", "continue"])
def test_nothing_is_replaced_or_continued_while_an_answer_is_on_its_way(
    made: Made, model: ModelServer, running: str, kind: str
) -> None:
    ada = made()
    chat = ada.new_chat()
    model.script = [Reply(("Half",), finish="length"), HANGS]
    ask(ada, chat, text="One")
    question, cut = listed(ada, chat)
    bodies: dict[str, dict[str, Any]] = {
        "message": {"text": "Two"},
        "edit": {"replaces": question["id"], "text": "Eins"},
        "again": {"replaces": question["id"]},
        "continue": {"continues": cut["id"]},
    }
    stream = begun(ada, chat, **bodies[running])
    refused = ask(ada, chat, **bodies[kind])
    assert refused.get_json()["error"]["code"] in {"request_in_progress", "conflict"}
    assert len(model.requests) == 2
    stop(ada, chat, stream)
    assert ask(ada, chat, replaces=question["id"], text="Now").status_code == 200
    assert [message["text"] for message in listed(ada, chat)] == ["Now", "Hello from the model."]
    kept = ada.get(f"/v1/chats/{chat}?replaced=true").get_json()
    assert kept["message_count"] == len([each for each in kept["messages"] if each["id"][-2:] not in {"ru", "ra"}])


def test_a_decision_on_a_call_that_was_answered_anew_is_no_decision_on_the_new_call(
    made: Made, model: ModelServer
) -> None:
    ada = made()
    chat = ada.new_chat()
    model.script = [pays("Bob", 20), pays("Eve", 99_999)]
    first = ask(ada, chat, text="Pay Bob").get_json()["message"]
    ask(ada, chat, replaces=listed(ada, chat)[0]["id"])
    assert ask(ada, chat, **decisions(first)).get_json()["error"]["code"] == "conflict"
    assert RAN == []
    second = listed(ada, chat)[-1]
    assert ask(ada, chat, **decisions(second)).status_code == 200
    assert RAN == [("Eve", 99_999)]


@pytest.mark.parametrize("most", [0, 4, 12])
def test_a_call_that_was_replaced_cannot_be_approved(made: Made, model: ModelServer, most: int) -> None:
    ada = made(SETTINGS.replace("[limits]", f"[limits]\nhistory_messages = {most}"))
    chat = ada.new_chat()
    for text in ("One", "Two", "Three"):
        ask(ada, chat, text=text)
    model.script = [pays("Bob", 20), Fault(400)]
    held = ask(ada, chat, text="Pay Bob").get_json()["message"]
    assert ask(ada, chat, replaces=listed(ada, chat)[0]["id"], text="Never mind").status_code == 502
    assert ask(ada, chat, **decisions(held)).get_json()["error"]["code"] == "conflict"
    assert RAN == []


def test_a_later_edit_replaces_all_that_followed_also_when_much_was_replaced_before(
    made: Made, model: ModelServer
) -> None:
    ada = made(SETTINGS.replace("[limits]", "[limits]\nhistory_messages = 4"))
    chat = ada.new_chat()
    for number in range(6):
        ask(ada, chat, text=str(number))
    questions = [message for message in listed(ada, chat) if message["role"] == "user"]
    model.script = [Fault(400)]
    ask(ada, chat, replaces=questions[3]["id"], text="E3")
    ask(ada, chat, replaces=questions[0]["id"], text="E0")
    assert [message["text"] for message in listed(ada, chat)] == ["E0", "Hello from the model."]


def test_a_deleted_chats_approved_calls_run_no_more(make_app: Any, model: ModelServer) -> None:
    RAN.clear()
    chats: list[str] = []

    def forget(to: str, amount: int) -> str:
        """Forget.

        Args:
            to: x.
            amount: y.
        """
        ada.delete(f"/v1/chats/{chats[0]}")
        return "gone"

    def work(turn: Turn) -> Iterator[Chunk]:
        tools = [Tool(forget, approve=True), Tool(pay, approve=True)]
        yield from turn.llm.stream([{"role": "user", "content": turn.text}], tools=tools)

    ada = sign_in(make_app(answer=work, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chats.append(ada.new_chat())
    arguments = json.dumps({"to": "x", "amount": 1})
    model.script = [Reply(("Sure.",), calls=[("forget", arguments), ("pay", arguments)], finish="tool_calls")]
    held = ask(ada, chats[0], text="Both").get_json()["message"]
    assert ask(ada, chats[0], **decisions(held)).status_code == 404
    assert (RAN, len(model.requests)) == ([], 1)


def test_a_decision_reaches_the_first_stream_with_tools_and_one_that_reaches_none_can_be_sent_again(
    made: Made, model: ModelServer
) -> None:
    offers = [True, False, True]

    def work(turn: Turn) -> Iterator[Chunk]:
        asked: list[Message] = [{"role": "user", "content": turn.text}]
        yield from turn.llm.stream(asked)
        if offers.pop(0):
            yield from turn.llm.stream(asked, tools=[Tool(pay, approve=True)])

    ada = made(workflow=work)
    chat = ada.new_chat()
    model.script = [Reply(("Hm. ",)), pays("Bob", 1)]
    held = ask(ada, chat, text="Pay").get_json()["message"]
    assert ask(ada, chat, **decisions(held)).status_code == 500
    assert RAN == []
    assert ask(ada, chat, **decisions(held)).status_code == 200
    assert RAN == [("Bob", 1)]


def test_contradicting_decisions_on_one_call_are_refused(made: Made, model: ModelServer) -> None:
    ada = made()
    chat = ada.new_chat()
    model.script = [pays("Bob", 20)]
    held = ask(ada, chat, text="Pay").get_json()["message"]
    (call,) = [use["id"] for use in held["tools"]]
    both = [{"id": call, "approved": False}, {"id": call, "approved": True}]
    assert ask(ada, chat, continues=held["id"], approvals=both).status_code == 400
    assert RAN == []


def test_a_key_makes_a_repeated_replacement_count_once(made: Made, model: ModelServer) -> None:
    ada = made()
    chat = ada.new_chat()
    ask(ada, chat, text="One")
    question = listed(ada, chat)[0]["id"]

    def replace(key: str, **body: Any) -> Any:
        return ada.post(f"/v1/chats/{chat}/messages", {"replaces": question, **body}, Idempotency_Key=key)

    first = replace("k1").get_json()
    assert replace("k1").get_json() == first
    assert len(model.requests) == 2
    replace("k2", text="Two")
    assert replace("k2", text="Two").status_code == 200
    assert len(model.requests) == 3
    assert replace("k1").get_json()["error"]["code"] == "conflict"
    assert listed(ada, chat)[0]["text"] == "Two"
