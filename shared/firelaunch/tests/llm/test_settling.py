"""What a call cost is settled whatever its provider sends: arbitrary output over a real socket, into both providers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from firelaunch.errors import FirelaunchError, ModelUnavailable
from firelaunch.llm.fields import MOST_TOKENS
from firelaunch.llm.gateway import Gateway, ModelSession
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.gemini import GeminiProvider
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.types import FinishedCall, Message, TokenCounts, text_bound, token_bound
from firelaunch.testing.models import ModelServer, Raw
from firelaunch.testing.provider_output import documents, encoded, gemini_documents
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ASK: list[Message] = [{"role": "user", "content": "Hello?"}]
OPENAI, GEMINI = "gpt-5.4-mini", "gemini-2.5-flash"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
SOCKETS = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Meter:
    """Takes down what is spent, and refuses what no database could add up."""

    def __init__(self, provider: str) -> None:
        self.prices = Prices(provider, {})
        self.calls: list[TokenCounts] = []

    def cover(self, micro_usd: int) -> None:
        assert 0 < micro_usd < 2**63

    def release(self, micro_usd: int) -> None: ...

    def spend(self, call: FinishedCall) -> None:
        tokens = call.tokens
        figures = (tokens.input, tokens.cached_input, tokens.cache_write, tokens.output, tokens.reasoning)
        assert all(type(figure) is int and 0 <= figure <= 3 * MOST_TOKENS for figure in figures), tokens
        assert tokens.cached_input + tokens.cache_write <= tokens.input
        assert tokens.reasoning <= tokens.output
        if call.charged:
            assert call.micro_usd == self.prices.cost(call.model, tokens) < 2**53
            self.calls.append(tokens)

    def reuse(self, model: str) -> None:
        raise AssertionError(model)


def answering(server: ModelServer, kind: str, *, streamed: bool) -> tuple[ModelSession, Meter]:
    if kind == "openai":
        provider: Any = OpenAICompatibleProvider("openai", "k", server.base_url)
    else:
        provider = GeminiProvider("vertex", lambda: "k", server.base_url)
    meter = Meter("openai" if kind == "openai" else "vertex")
    gateway = Gateway(provider, meter.prices, [], 50, pause=lambda *_: None)
    model = OPENAI if kind == "openai" else GEMINI
    return gateway.answering(meter, model, 20, streamed=streamed), meter


def sent(events: Sequence[Any], *, streamed: bool) -> Raw:
    if streamed:
        return Raw([STREAM, *[b"data: " + encoded(event) + b"\n\n" for event in events], b"data: [DONE]\n\n"])
    return Raw([JSON, encoded(events[0])])


def said(llm: ModelSession, tools: Sequence[Any] = ()) -> str:
    return "".join(chunk.text for chunk in llm.stream(ASK, tools=tools))


def note(text: str) -> str:
    """Take a note."""
    return text


def settled(server: ModelServer, kind: str, events: Sequence[Any], *, streamed: bool, tools: Sequence[Any]) -> None:
    """Play ``events`` to each call. Whatever is shown has been paid, and the answer ends in one of two ways."""
    server.default = sent(events, streamed=streamed)
    server.requests.clear()
    llm, meter = answering(server, kind, streamed=streamed)
    heard: list[str] = []
    with suppress(FirelaunchError):
        heard.extend(chunk.text for chunk in llm.stream(ASK, tools=tools))
    assert len(meter.calls) <= len(server.requests)
    if "".join(heard):
        assert meter.calls
    assert all(tokens.input > 0 for tokens in meter.calls)


@SOCKETS
@given(st.lists(documents, min_size=1, max_size=5), st.booleans(), st.sampled_from([(), (note,)]))
def test_openais_answer_is_settled_whatever_its_fields_are(
    model: ModelServer, events: list[Any], streamed: bool, tools: Any
) -> None:
    settled(model, "openai", events, streamed=streamed, tools=tools)


@SOCKETS
@given(st.lists(gemini_documents, min_size=1, max_size=5), st.booleans(), st.sampled_from([(), (note,)]))
def test_geminis_answer_is_settled_whatever_its_fields_are(
    model: ModelServer, events: list[Any], streamed: bool, tools: Any
) -> None:
    settled(model, "gemini", events, streamed=streamed, tools=tools)


@SOCKETS
@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from([b"", STREAM, JSON]), st.booleans())
@example([b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n', b"\xff\xfe\n\n"], STREAM, True)
@example([b"[" * 100_000], JSON, False)
@example([b'{"choices": [' + b"9" * 5_000 + b"]}"], JSON, False)
def test_bytes_that_are_no_answer_are_a_models_error(
    model: ModelServer, pieces: list[bytes], head: bytes, streamed: bool
) -> None:
    model.default = Raw([head, *pieces])
    for kind in ("openai", "gemini"):
        llm, _ = answering(model, kind, streamed=streamed)
        with pytest.raises(FirelaunchError):
            said(llm)


def word(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more}


def end(reason: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], **more}


def usage(asked: Any, answered: Any, total: Any = None, **details: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": total}
    return {"choices": [], "usage": {name: count for name, count in counts.items() if count is not None} | details}


def cache(read: int, written: int) -> dict[str, int]:
    return {"cached_tokens": read, "cache_write_tokens": written}


def only(model: ModelServer, *events: Any) -> TokenCounts:
    model.default = sent(events, streamed=True)
    llm, meter = answering(model, "openai", streamed=True)
    said(llm)
    (tokens,) = meter.calls
    return tokens


THOUGHT = TokenCounts(100, 0, 320, reasoning=300)
ASKED = token_bound(ASK)


@pytest.mark.parametrize(
    ("events", "tokens"),
    [
        ([usage(100_000, 500), usage(0, 0)], TokenCounts(100_000, 0, 500)),
        ([usage(100_000, 5), usage(100_000, 500, 100_500)], TokenCounts(100_000, 0, 500)),
        ([usage(100.0, 5.0)], TokenCounts(100, 0, 5)),
        # Reasoning that is no part of the completion, told by the total, or by being more than it.
        ([usage(100, 20, 420, completion_tokens_details={"reasoning_tokens": 300})], THOUGHT),
        ([usage(100, 20, completion_tokens_details={"reasoning_tokens": 300})], THOUGHT),
        ([usage(100, 320, 420, completion_tokens_details={"reasoning_tokens": 300})], THOUGHT),
        # Parts of the prompt, each at a price of its own.
        ([usage(100, 5, prompt_tokens_details=cache(60, 30))], TokenCounts(100, 60, 5, cache_write=30)),
        ([usage(100, 5, prompt_tokens_details=cache(600, 30))], TokenCounts(100, 100, 5)),
        ([usage(100, 5, prompt_tokens_details=[1])], TokenCounts(100, 0, 5)),
        # What is no figure is none: the rest counts, and a bound takes its place.
        ([usage(100, 2**80)], TokenCounts(100, 0, 6, estimated=True)),
        ([usage(100, -4)], TokenCounts(100, 0, 6, estimated=True)),
        ([usage(100, "4")], TokenCounts(100, 0, 6, estimated=True)),
        ([usage(100, None)], TokenCounts(100, 0, 6, estimated=True)),
        ([usage(None, 4)], TokenCounts(ASKED, 0, 4, estimated=True)),
        ([usage(True, [])], TokenCounts(ASKED, 0, 6, estimated=True)),
        ([usage(0, 0)], TokenCounts(ASKED, 0, 6, estimated=True)),
        ([{"choices": [], "usage": "none"}], TokenCounts(ASKED, 0, 6, estimated=True)),
        ([], TokenCounts(ASKED, 0, 6, estimated=True)),
    ],
)  # fmt: skip
def test_a_usage_is_read_as_its_provider_means_it(model: ModelServer, events: list[Any], tokens: TokenCounts) -> None:
    assert only(model, word("Well, "), end(), *events) == tokens


def test_usage_on_each_chunk_counts_once_and_its_last_word_is_what_counts(model: ModelServer) -> None:
    running = [word("Well", **usage(50, 1)), word("!", **usage(50, 2)), end(**usage(50, 2))]
    events = [{**event, "choices": event_choices(event)} for event in running]
    assert only(model, *events) == TokenCounts(50, 0, 2)


def event_choices(event: dict[str, Any]) -> Any:
    return event["choices"] or [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]


def test_tool_arguments_that_come_as_an_object_are_the_calls_arguments_and_paid(model: ModelServer) -> None:
    call = {"index": 0, "id": 7, "function": {"name": "note", "arguments": {"text": "caf\u00e9"}}}
    asks = [{"choices": [{"delta": {"tool_calls": [call]}}]}, end("tool_calls"), usage(100_000, 500)]
    for streamed in (True, False):
        whole = {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}], **usage(100_000, 500)}
        whole["choices"] = [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]
        model.script = [sent(asks if streamed else [whole], streamed=streamed)]
        done = {"choices": [{"message": {"content": "Noted."}, "finish_reason": "stop"}], "usage": usage(9, 2)["usage"]}
        model.default = sent([word("Noted."), end(), usage(9, 2)] if streamed else [done], streamed=streamed)
        llm, meter = answering(model, "openai", streamed=streamed)
        assert said(llm, [note]) == "Noted."
        assert meter.calls == [TokenCounts(100_000, 0, 500), TokenCounts(9, 0, 2)]
        assert model.requests[-1]["messages"][-1]["content"] == "caf\u00e9"


def test_thoughts_that_are_said_aloud_are_paid_and_are_no_part_of_the_answer(model: ModelServer) -> None:
    thought = {"choices": [{"delta": {"reasoning_content": "Hm, let me see. "}}]}
    model.default = sent([thought, word("Well, "), end()], streamed=True)
    llm, meter = answering(model, "openai", streamed=True)
    assert said(llm) == "Well, "
    assert meter.calls == [TokenCounts(ASKED, 0, text_bound("Hm, let me see. Well, "), estimated=True)]


DENSE = [
    "\U00020001\u9f98\U0002a6d6",
    "0123456789",
    "qZ8+/x9Aa==",
    "\U0001f9d1\U0001f3fd\u200d\U0001f4bb",
    "if(a[0]){b;}",
]


@pytest.mark.parametrize("text", DENSE)
def test_whoever_stops_at_the_first_word_pays_no_less_than_a_token_a_byte_of_what_was_sent(
    model: ModelServer, text: str
) -> None:
    model.default = Raw([STREAM, b"data: " + encoded(word(text)) + b"\n\n"], hang=True)
    llm, meter = answering(model, "openai", streamed=True)
    ask: list[Message] = [{"role": "user", "content": text * 50}]
    answer = llm.stream(ask)
    assert next(answer).text == text
    answer.close()  # type: ignore[attr-defined]
    (tokens,) = meter.calls
    assert tokens.input >= len((text * 50).encode())
    assert tokens.output >= len(text.encode())


def gemini(text: str, finish: str | None = None, **usage: int) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": finish}], "usageMetadata": usage}


def test_of_an_answer_that_is_left_what_its_provider_reported_by_then_counts(model: ModelServer) -> None:
    events = [gemini("Well", promptTokenCount=900, candidatesTokenCount=700), gemini(", ", promptTokenCount=900)]
    model.default = Raw([STREAM, *[b"data: " + encoded(event) + b"\n\n" for event in events]], hang=True)
    llm, meter = answering(model, "gemini", streamed=True)
    answer = llm.stream(ASK)
    next(answer)
    answer.close()  # type: ignore[attr-defined]
    (tokens,) = meter.calls
    assert (tokens.input, tokens.output) == (900, 700)


def test_an_answer_in_one_piece_that_breaks_off_or_is_endless_is_a_models_error(model: ModelServer) -> None:
    body = encoded({"choices": [{"message": {"content": "Hello"}}]})
    for raw in (
        Raw([JSON.replace(b"Connection", b"Content-Length: 9000\r\nConnection"), body]),
        Raw([JSON, *[b" " * 1_000_000] * 5]),
    ):
        model.default = raw
        llm, meter = answering(model, "openai", streamed=False)
        with pytest.raises(ModelUnavailable):
            said(llm)
        assert meter.calls == []
