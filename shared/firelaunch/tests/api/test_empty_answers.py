"""An answer without a word fails with its cause: it is paid, never stored as complete, and in no later prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch.errors import SettingsError
from firelaunch.llm.types import Chunk, Source
from firelaunch.server.app import App
from firelaunch.store.base import Set
from firelaunch.testing.apps import SETTINGS, events, sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.turns.turn import Turn

THOUGHT = Reply((), usage=(10, 0, 100), finish="length")


@pytest.mark.parametrize(
    ("reply", "code", "tries"),
    [
        (THOUGHT, "output_limit_reached", 1),
        (Reply((" \n",), finish="content_filter"), "answer_filtered", 1),
        (Reply((), finish="SAFETY"), "answer_filtered", 1),
        (Reply(()), "empty_answer", 4),
        (Reply((), finish="error"), "empty_answer", 4),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
def test_an_empty_answer_fails_with_its_cause_and_each_call_is_paid(
    model_app: App, model: ModelServer, reply: Reply, code: str, tries: int, streamed: bool
) -> None:
    model.default = reply
    ada = sign_in(model_app, "ada")
    chat = ada.new_chat()
    if streamed:
        name, told = list(events(ada.stream(chat, "hello")))[-1]
        assert name == "error"
        error = told["error"]
    else:
        answer = ada.send(chat, "hello")
        assert answer.status_code == 502
        error = answer.get_json()["error"]
    assert error["code"] == code
    assert len(model.requests) == tries
    usage = ada.get("/v1/usage").get_json()
    assert usage["output_tokens"] == tries * reply.usage[2]  # type: ignore[index]
    assert usage["reserved_micro_usd"] == 0
    messages = ada.get(f"/v1/chats/{chat}").get_json()["messages"]
    assert [message["role"] for message in messages] == ["user"]


def test_the_next_prompt_holds_no_empty_answer_also_where_one_was_stored_before(
    model_app: Any, model: ModelServer
) -> None:
    ada = sign_in(model_app, "ada")
    chat = ada.new_chat()
    model.script = [THOUGHT]
    ada.send(chat, "first")
    services = model_app.services
    scope = services.store.scope.of("ada")
    stored = {"role": "assistant", "text": " ", "status": "complete", "created_at": services.clock()}
    services.store.commit([Set(scope.message(chat, "r" + "0" * 32 + "-a"), stored)])
    ada.send(chat, "second")
    assert [message["content"] for message in model.requests[-1]["messages"]] == ["You are Demo.", "first\n\nsecond"]


def silent(turn: Turn) -> Iterator[Chunk]:
    yield Chunk("")


def sourced(turn: Turn) -> Iterator[Chunk]:
    yield Chunk(source=Source("a", "A source"))


def test_a_workflow_that_says_nothing_fails_and_one_that_shows_a_source_has_answered(make_app: Any) -> None:
    ada = sign_in(make_app(answer=silent), "ada")
    assert ada.send(ada.new_chat(), "hello").get_json()["error"]["code"] == "empty_answer"
    bob = sign_in(make_app(answer=sourced), "bob")
    assert bob.send(bob.new_chat(), "hello").status_code == 200


def test_a_models_effort_and_allowance_come_from_the_settings(make_app: Any, model: ModelServer) -> None:
    settings = SETTINGS.replace("thinking_tokens = 0", "thinking_tokens = 700")
    for effort, limit in (("", 800), ('effort = "none"', 100), ('effort = { "gpt-5.4-mini" = "low" }', 800)):
        app = make_app(
            settings.replace("[prompts]", effort + "\n\n[prompts]"), OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url
        )
        ada = sign_in(app, "ada")
        assert ada.send(ada.new_chat(), "hello").status_code == 200
        assert model.requests[-1]["max_completion_tokens"] == limit
        assert model.requests[-1].get("reasoning_effort") == {"": None}.get(effort, "none" if limit == 100 else "low")


def test_an_effort_for_a_model_that_is_not_named_stops_the_start(make_app: Any) -> None:
    settings = SETTINGS.replace("[prompts]", 'effort = { "gpt-5.4-mni" = "low" }\n\n[prompts]')
    with pytest.raises(SettingsError, match=r"models.openai.effort names 'gpt-5.4-mni'.*gpt-5.4-mini"):
        make_app(settings)
