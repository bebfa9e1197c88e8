"""What a model thinks is shown where the settings say so, and is never part of an answer or of a later prompt."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import pytest
from firelaunch.llm.types import Message
from firelaunch.testing.apps import SETTINGS, sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.turns.guardrails import checked, no_secret

SHOWN = SETTINGS.replace("[models.openai]\n", "[models.openai]\nshow_thinking = true\n")
THOUGHT = Reply(("Well", ", hello."), thoughts="Let me think.", thinking_tokens=2)


def parts_of(stream: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]


@pytest.fixture
def ada(make_app: Any, model: ModelServer) -> Any:
    model.default = THOUGHT
    return sign_in(make_app(SHOWN, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")


def test_a_stream_tells_what_the_model_thinks_before_what_it_says(ada: Any) -> None:
    chat = ada.new_chat()
    stream = ada.stream(chat, "Hi").text
    names = [line[7:] for line in stream.splitlines() if line.startswith("event: ")]
    assert [name for name, _ in groupby(names)] == ["start", "thinking", "delta", "done"]  # pieces come as they come
    done = parts_of(stream)[-1]["message"]
    assert (done["text"], done["thinking"]) == ("Well, hello.", "Let me think.")
    kept = ada.get(f"/v1/chats/{chat}").json["messages"][-1]
    assert (kept["text"], kept["thinking"]) == ("Well, hello.", "Let me think.")


def test_usechat_gets_reasoning_parts_that_begin_and_end(ada: Any) -> None:
    body = {"id": "c1", "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
    parts = parts_of(ada.post("/v1/chat", body).text)
    told: list[tuple[str, str, str | None]] = []
    for part in parts:
        if "id" in part and told and told[-1][0] == part["type"] == "text-delta":
            told[-1] = (*told[-1][:2], f"{told[-1][2]}{part['delta']}")
        elif "id" in part:
            told.append((part["type"], part["id"], part.get("delta")))
    assert told == [
        ("reasoning-start", "reasoning-1", None), ("reasoning-delta", "reasoning-1", "Let me think."),
        ("reasoning-end", "reasoning-1", None), ("text-start", "text-1", None),
        ("text-delta", "text-1", "Well, hello."), ("text-end", "text-1", None),
    ]  # fmt: skip


def test_no_later_prompt_has_what_the_model_thought(ada: Any, model: ModelServer) -> None:
    chat = ada.new_chat()
    for text in ("Hi", "And?"):
        ada.send(chat, text)
    assert "Well, hello." in json.dumps(model.requests[-1])
    assert "Let me think." not in json.dumps(model.requests)


def test_thinking_is_not_shown_unless_the_settings_say_so_and_is_paid_all_the_same(
    make_app: Any, model: ModelServer
) -> None:
    model.default = THOUGHT
    ada = sign_in(make_app(OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chat = ada.new_chat()
    stream = ada.stream(chat, "Hi").text
    assert "think" not in stream
    assert parts_of(stream)[-1]["usage"]["output_tokens"] == 4


def test_an_answer_that_is_checked_before_it_is_shown_shows_no_thinking(make_app: Any, model: ModelServer) -> None:
    def careful(turn: Any) -> Any:
        messages: list[Message] = [{"role": "user", "content": turn.text}]
        yield from checked(turn.llm.stream(messages), no_secret)

    model.default = THOUGHT
    ada = sign_in(make_app(SHOWN, answer=careful, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chat = ada.new_chat()
    stream = ada.stream(chat, "Hi").text
    assert "Let me think." not in stream
    assert parts_of(stream)[-1]["message"]["text"] == "Well, hello."
