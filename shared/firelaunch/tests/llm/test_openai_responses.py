"""OpenAI's Responses API, and when it is asked in place of chat completions; test_contract.py has the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from firelaunch.errors import ModelError, ModelUnavailable
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.providers.openai_responses import OpenAIProvider, OpenAIResponsesProvider, _Reader
from firelaunch.llm.types import FinishedCall, Message
from firelaunch.llm.wire.relay import read
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.http import HttpAnswer
from firelaunch.testing.models import ModelServer
from firelaunch.testing.openai_responses import ResponsesReply, ResponsesServer
from hypothesis import given
from hypothesis import strategies as st

ASK: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]


def note(text: str) -> str:
    """Take a note."""
    return text


class Meter:
    def __init__(self) -> None:
        self.calls: list[FinishedCall] = []

    def cover(self, micro_usd: int) -> None: ...

    def release(self, micro_usd: int) -> None: ...

    def spend(self, call: FinishedCall) -> None:
        self.calls.append(call)

    def reuse(self, model: str) -> None: ...


@pytest.fixture
def server() -> Iterator[ResponsesServer]:
    with ResponsesServer() as made:
        yield made


def session(provider: Any, effort: Any = None, *, model: str = "gpt-6-luna", streamed: bool = True, **more: Any) -> Any:
    gateway = Gateway(provider, Prices("openai", {}), [], 50, 2_000, lambda _: effort, pause=lambda *_: None, **more)
    return gateway.answering(Meter(), model, 30, streamed=streamed)


@pytest.mark.parametrize(
    ("model", "effort", "tools", "responses"),
    [
        ("gpt-6-luna", "low", True, True), ("gpt-6-luna", "none", True, False), ("gpt-6-luna", None, True, False),
        ("gpt-6-luna", "high", False, False), ("gpt-5-pro", None, False, True), ("gpt-4.1", "low", True, False),
    ],
)  # fmt: skip
def test_a_model_that_thinks_beside_tools_is_asked_by_responses_and_others_by_chat_completions(
    server: ResponsesServer, model: str, effort: Any, tools: bool, responses: bool
) -> None:
    with ModelServer() as chat:
        both = OpenAIProvider(
            OpenAICompatibleProvider("openai", "k", chat.base_url),
            OpenAIResponsesProvider("openai", "k", server.base_url, "flex"),
        )
        list(session(both, effort, model=model).stream(ASK, tools=[note] if tools else []))
        assert (len(server.requests), len(chat.requests)) == ((1, 0) if responses else (0, 1))
    if responses:
        assert server.requests[0][1]["service_tier"] == "flex"


@pytest.mark.parametrize("streamed", [False, True])
def test_encrypted_thoughts_go_back_before_the_calls_that_came_after_them(
    server: ResponsesServer, streamed: bool
) -> None:
    call = ("note", {"text": "caf\u00e9"})
    server.replies = [ResponsesReply(("Look.",), "I think.", calls=[call, call]), ResponsesReply((), calls=[call])]
    provider = OpenAIResponsesProvider("openai", "k", server.base_url)
    chunks = list(session(provider, "low", streamed=streamed, show_thinking=True).stream(ASK, tools=[note]))
    assert "".join(chunk.text for chunk in chunks) == "Look.\n\nHello from OpenAI."
    assert "".join(chunk.thought for chunk in chunks) == "I think."
    path, body = server.requests[-1]
    kinds = [item.get("type", item.get("role")) for item in body["input"]]
    results = ["function_call_output"]
    assert kinds == [
        "user", "assistant", "reasoning", "function_call", "function_call", *results * 2, "function_call", *results,
    ]  # fmt: skip
    assert body["input"][2]["encrypted_content"] == "encrypted-" + "I think."[::-1]
    assert (path, body["instructions"], body["reasoning"]) == (
        "v1/responses", "Be brief.", {"effort": "low", "summary": "auto"},
    )  # fmt: skip


def test_a_response_that_fails_is_tried_again_unless_words_have_gone_out(server: ResponsesServer) -> None:
    provider = OpenAIResponsesProvider("openai", "k", server.base_url)
    server.replies = [ResponsesReply((), failed=True)]
    assert "".join(chunk.text for chunk in session(provider).stream(ASK)) == "Hello from OpenAI."
    server.replies = [ResponsesReply(failed=True)]
    with pytest.raises(ModelUnavailable):
        list(session(provider).stream(ASK))


def test_a_refusal_in_words_is_said_and_ends_as_one(server: ResponsesServer) -> None:
    server.default = ResponsesReply(("I cannot.",), refusal=True)
    for streamed in (True, False):
        asked = session(OpenAIResponsesProvider("openai", "k", server.base_url), streamed=streamed)
        assert "".join(chunk.text for chunk in asked.stream(ASK)) == "I cannot."
        assert asked.finish == "content_filter"


def test_an_effort_that_a_model_does_not_know_gives_way_to_the_nearest(server: ResponsesServer) -> None:
    message = "Unsupported value: 'reasoning.effort' does not support 'minimal' with this model."
    server.script = [HttpAnswer(400, {"error": {"message": message, "param": "reasoning.effort"}})]
    provider = OpenAIResponsesProvider("openai", "k", server.base_url)
    for _ in range(2):
        list(session(provider, "minimal").stream(ASK))
    assert [body["reasoning"]["effort"] for _, body in server.requests] == ["minimal", "low", "low"]


def test_openais_own_server_is_asked_by_both_and_another_one_by_chat_completions(tmp_path: Any) -> None:
    path = write_app(tmp_path, SETTINGS)
    own = build(Settings.load(path, {"OPENAI_API_KEY": "k"}))
    other = build(Settings.load(path, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://localhost:1/v1"}))
    assert isinstance(own.gateway.provider, OpenAIProvider)
    assert isinstance(other.gateway.provider, OpenAICompatibleProvider)


WORDS = ["type", "delta", "output_index", "item", "response", "output", "content", "usage", "status", "summary", "text"]
WORDS += ["call_id", "name", "arguments", "encrypted_content", "incomplete_details", "reason", "input_tokens", "error"]
KINDS = ["response.output_text.delta", "response.output_item.added", "response.output_item.done", "response.completed"]
KINDS += [
    "response.function_call_arguments.delta",
    "response.failed",
    "function_call",
    "reasoning",
    "message",
    "failed",
]
faulty = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from(KINDS)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)),
    max_leaves=8,
)
events = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=dict.fromkeys(WORDS[1:], faulty))


@given(st.lists(events, max_size=3))
def test_json_of_another_form_is_a_chunk_or_a_models_error(documents: list[dict[str, Any]]) -> None:
    reader = _Reader("gpt-6-luna")
    for document in documents:
        for parse in (reader.event, reader.answer):
            try:
                chunk = read(parse, json.loads(json.dumps(document)))
            except ModelError:
                continue
            assert isinstance(chunk.text, str)
