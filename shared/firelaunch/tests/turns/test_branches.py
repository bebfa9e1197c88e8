"""An edited message, or a new answer to an earlier one, replaces what followed. All of it stays stored and paid."""

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
from firelaunch.testing.models import Fault, ModelServer, Reply
from hypothesis import given, settings
from hypothesis import strategies as st

HELLO = "Hello from the model."


@pytest.fixture
def ada(model_app: App) -> User:
    return sign_in(model_app, "ada")


def chat_of(ada: User, *texts: str) -> str:
    chat = ada.new_chat()
    for text in texts:
        assert ada.send(chat, text).status_code == 200
    return chat


def listed(ada: User, chat: str, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ada.get(f"/v1/chats/{chat}?limit=100{query}").get_json()["messages"]
    return found


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["text"] for message in messages]


def replace(ada: User, chat: str, message: dict[str, Any], text: str | None = None, **headers: str) -> Any:
    body = {"replaces": message["id"]} | ({} if text is None else {"text": text})
    return ada.post(f"/v1/chats/{chat}/messages", body, **headers)


def prompt(model: ModelServer) -> list[str]:
    """What the model was shown last, without the instructions."""
    return [message["content"] for message in model.requests[-1]["messages"][1:]]


def test_an_edit_replaces_the_message_and_all_that_followed(ada: User, model: ModelServer) -> None:
    chat = chat_of(ada, "One", "Two", "Three")
    before = ada.get("/v1/usage").get_json()["cost_micro_usd"]
    question = listed(ada, chat)[2]
    answer = replace(ada, chat, question, "Zwei").get_json()
    assert prompt(model) == ["One", HELLO, "Zwei"]
    messages = listed(ada, chat)
    assert texts(messages) == ["One", HELLO, "Zwei", HELLO]
    assert messages[2]["id"] == question["id"]
    assert messages[3] == answer["message"]
    assert ada.get("/v1/usage").get_json()["cost_micro_usd"] == before + answer["usage"]["cost_micro_usd"]
    ada.send(chat, "Four")
    assert prompt(model) == ["One", HELLO, "Zwei", HELLO, "Four"]


def test_what_was_replaced_stays_and_is_listed_when_asked_for(ada: User) -> None:
    chat = chat_of(ada, "One", "Two")
    replace(ada, chat, listed(ada, chat)[0], "Eins")
    everything = listed(ada, chat, "&replaced=true")
    assert sorted(texts([m for m in everything if m.get("replaced")])) == sorted(["One", HELLO, "Two", HELLO])
    assert texts([m for m in everything if not m.get("replaced")]) == ["Eins", HELLO]


def test_any_answer_is_made_anew(ada: User, model: ModelServer) -> None:
    chat = chat_of(ada, "One", "Two")
    model.script = [Reply(("Once more.",))]
    assert replace(ada, chat, listed(ada, chat)[0]).status_code == 200
    assert texts(listed(ada, chat)) == ["One", "Once more."]
    assert HELLO in texts(listed(ada, chat, "&replaced=true"))


def test_a_repeated_edit_counts_once_and_one_back_and_forth_each_time(ada: User, model: ModelServer) -> None:
    chat = chat_of(ada, "One")
    question = listed(ada, chat)[0]
    first = replace(ada, chat, question, "Two").get_json()
    calls = len(model.requests)
    assert replace(ada, chat, question, "Two").get_json() == first
    assert len(model.requests) == calls
    for text in ("One", "Two", "One"):
        assert replace(ada, chat, question, text).get_json()["message"]["id"] == first["message"]["id"]
        assert texts(listed(ada, chat)) == [text, HELLO]
    assert len(model.requests) == calls + 3


def test_what_cannot_be_replaced_is_refused(model_app: App, ada: User, model: ModelServer) -> None:
    chat = chat_of(ada, "One", "Two")
    one, first_answer, two, _ = listed(ada, chat)
    replace(ada, chat, one, "Eins")
    calls = len(model.requests)
    assert replace(ada, chat, two, "Zwei").get_json()["error"]["code"] == "conflict"
    assert replace(ada, chat, first_answer, "x").status_code == 404
    assert replace(sign_in(model_app, "bob"), chat, one, "x").status_code == 404
    assert replace(ada, chat, {"id": "r" + "0" * 32 + "-u"}, "x").status_code == 404
    assert replace(ada, chat, {"id": "../../x"}, "x").status_code == 404
    assert len(model.requests) == calls


def test_an_edit_whose_answer_fails_keeps_the_edited_message(ada: User, model: ModelServer) -> None:
    chat = chat_of(ada, "One", "Two")
    model.script = [Fault(400)]
    assert replace(ada, chat, listed(ada, chat)[0], "Eins").status_code == 502
    assert texts(listed(ada, chat)) == ["Eins"]
    assert replace(ada, chat, listed(ada, chat)[0]).status_code == 200
    assert texts(listed(ada, chat)) == ["Eins", HELLO]


def test_an_edit_is_refused_while_the_message_is_being_edited(ada: User, model: ModelServer) -> None:
    chat = chat_of(ada, "One")
    model.script = [Reply(("Hm",), hang_after=1)]
    stream = events(replace(ada, chat, listed(ada, chat)[0], "Two", Accept="text/event-stream"))
    assert next(stream)[0] == "start"
    assert replace(ada, chat, listed(ada, chat)[0], "Two").get_json()["error"]["code"] == "request_in_progress"
    ada.post(f"/v1/chats/{chat}/stop")
    list(stream)


def test_a_summary_of_what_was_replaced_goes(make_app: Any, model_app: Any, ada: User) -> None:
    chat = chat_of(ada, "One", "Two")
    store, scope = model_app.services.store, model_app.services.store.scope.of("ada")
    path = scope.chat(chat)
    store.commit([Update(path, {"summary": "They said Two.", "summary_until": model_app.services.clock()})])
    replace(ada, chat, listed(ada, chat)[2], "Zwei")
    assert store.get(path).data["summary"] == ""


STEPS = st.lists(
    st.one_of(st.just(("send", 0)), st.tuples(st.sampled_from(["edit", "again"]), st.integers(0, 6))),
    min_size=1,
    max_size=9,
)


@settings(max_examples=30)
@given(steps=STEPS, most=st.sampled_from([0, 2, 5, 40]))
def test_the_prompt_and_the_list_are_the_chat_as_it_is_now_and_nothing_said_is_lost(
    steps: list[tuple[str, int]], most: int
) -> None:
    with TemporaryDirectory() as folder, ModelServer() as model:
        toml = SETTINGS.replace("[limits]", f"[limits]\nhistory_messages = {most}")
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        services = build(Settings.load(write_app(Path(folder), toml), environ))
        app = App("test")
        init_app(app, services, _answer)
        ada = sign_in(app, "ada")
        chat, now, ever = ada.new_chat(), [], []  # type: ignore[var-annotated]
        for number, (kind, at) in enumerate(steps):
            question, reply = f"q{number}", f"a{number}"
            model.script = [Reply((reply,))]
            asked = [message for message in listed(ada, chat) if message["role"] == "user"]
            if kind == "send" or not asked:
                now += [question, reply]
                assert ada.send(chat, question).status_code == 200
            else:
                at %= len(asked)
                question = question if kind == "edit" else asked[at]["text"]
                now = [*now[: 2 * at], question, reply]
                text = question if kind == "edit" else None
                assert replace(ada, chat, asked[at], text).status_code == 200
            ever += [question, reply]
            assert texts(listed(ada, chat)) == now
            shown = prompt(model)
            assert shown == now[len(now) - 1 - len(shown) : -1]
            assert len(shown) >= min(len(now) - 1, most - most // 2 - 1)
            paged, cursor = [], ""
            while cursor is not None:
                page = ada.get(f"/v1/chats/{chat}?limit=2{cursor}").get_json()
                paged = texts(page["messages"]) + paged
                cursor = None if page["next_cursor"] is None else f"&cursor={page['next_cursor']}"  # type: ignore[assignment]
            assert paged == now
        assert set(texts(listed(ada, chat, "&replaced=true"))) == set(ever)
        services.store.close()


def _answer(turn: Any) -> Any:
    yield from turn.llm.stream(
        [{"role": "system", "content": "x"}, *turn.history, {"role": "user", "content": turn.text}]
    )
