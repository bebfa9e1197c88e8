"""Gemini on Vertex AI in its own words, against a server that refuses what Google refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from firelaunch.errors import AnswerFiltered, ModelError, ModelRefused
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.google_locations import is_served_in
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.gemini import GeminiOptions, _parse_answer, _parse_event
from firelaunch.llm.providers.vertex import vertex_provider
from firelaunch.llm.types import FinishedCall, Message, TokenCounts
from firelaunch.llm.wire.relay import read
from firelaunch.testing.gemini import GeminiReply, GeminiServer
from firelaunch.testing.http import HttpAnswer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

pytest.importorskip("google.cloud.aiplatform_v1")

MODEL, FALLBACK = "gemini-3.5-flash", "gemini-2.5-flash"
ASK: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello?"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "Are you there?"},
]


class Credentials:
    """A service account whose tokens are refreshed when they are stale."""

    def __init__(self) -> None:
        self.valid, self.token, self.refreshes = False, "none", 0

    def refresh(self, _request: Any) -> None:
        self.refreshes += 1
        self.token, self.valid = f"token-{self.refreshes}", True


class Meter:
    def __init__(self) -> None:
        self.calls: list[tuple[str, TokenCounts]] = []

    def cover(self, micro_usd: int) -> None:
        assert micro_usd > 0

    def release(self, micro_usd: int) -> None: ...

    def spend(self, call: FinishedCall) -> None:
        if call.charged:
            assert call.micro_usd == Prices("vertex", {}).cost(call.model, call.tokens)
            self.calls.append((call.model, call.tokens))

    def reuse(self, model: str) -> None:
        raise AssertionError(model)


class Rig:
    def __init__(self, server: GeminiServer, *, streamed: bool) -> None:
        self.credentials = Credentials()
        provider = vertex_provider("p-12345", "global", self.credentials, server.url)
        self.pauses: list[float] = []
        self.gateway = Gateway(
            provider, Prices("vertex", {}), [FALLBACK], 50, pause=lambda _, s: self.pauses.append(s), jitter=lambda: 0.0
        )
        self.meter, self.streamed = Meter(), streamed

    def answering(self, model: str = MODEL) -> Any:
        return self.gateway.answering(self.meter, model, 30, streamed=self.streamed)

    def say(self, *tools: Any, model: str = MODEL) -> str:
        self.chunks = list(self.answering(model).stream(ASK, tools=tools))
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def finish(self) -> str | None:
        return next((chunk.finish for chunk in reversed(self.chunks) if chunk.finish), None)


@pytest.fixture
def server() -> Any:
    with GeminiServer() as made:
        yield made


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def rig(request: pytest.FixtureRequest, server: GeminiServer) -> Rig:
    return Rig(server, streamed=request.param)


PAGES = [("Oslo", "https://example.com/oslo"), ("Rain", "https://example.com/rain")]


@pytest.mark.parametrize(("model", "cost"), [(MODEL, 3 * 14_000), (FALLBACK, 35_000)])
def test_what_gemini_finds_on_the_web_are_sources_and_searches_are_paid(
    server: GeminiServer, rig: Rig, model: str, cost: int
) -> None:
    rig.gateway = replace(rig.gateway, searches=4)
    server.default = GeminiReply(sources=[*PAGES, PAGES[0], ("bad", "javascript:x")], queries=["a", "b", "c"])
    assert rig.say(model=model) == "Hello from Gemini."
    found = [chunk.source for chunk in rig.chunks if chunk.source]
    assert [(source.title, source.url) for source in found] == PAGES
    assert len({source.id for source in found}) == 2
    tokens = TokenCounts(10, 0, 4, searches=3)
    assert rig.meter.calls == [(model, tokens)]
    prices = Prices("vertex", {})
    assert prices.cost(model, tokens) - prices.cost(model, TokenCounts(10, 0, 4)) == cost
    assert prices.most(model, 10, 4, 3) >= prices.cost(model, tokens)


def test_gemini_searches_for_no_step_of_a_workflow_and_beside_no_tools(server: GeminiServer, rig: Rig) -> None:
    def note(text: str) -> str:
        """Take a note."""
        return text

    rig.gateway = replace(rig.gateway, searches=4)
    rig.answering().complete(ASK)
    rig.say(note)
    assert not any("googleSearch" in json.dumps(body) for _, body in server.requests)


def test_a_reader_who_leaves_before_the_end_pays_the_searches_that_are_reserved(server: GeminiServer) -> None:
    rig = Rig(server, streamed=True)
    rig.gateway = replace(rig.gateway, searches=4)
    server.default = GeminiReply([f"{number} " for number in range(500)], pause=0.005, queries=["a"])
    stream = rig.answering().stream(ASK)
    next(chunk for chunk in stream if chunk.text)
    stream.close()
    ((_, tokens),) = rig.meter.calls
    assert (tokens.searches, tokens.estimated) == (4, True)


def test_safety_settings_go_with_each_request(server: GeminiServer, rig: Rig) -> None:
    options = GeminiOptions({"harassment": "block_only_high", "dangerous_content": "off"})
    provider = vertex_provider("p-12345", "global", rig.credentials, server.url, options)
    rig.gateway = replace(rig.gateway, provider=provider)
    assert rig.say() == "Hello from Gemini."
    assert server.requests[0][1]["safetySettings"] == [
        {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"},
        {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "threshold": "OFF"},
    ]


def models_called(server: GeminiServer) -> list[str]:
    return [path.rpartition("/")[2].partition(":")[0] for path, _ in server.requests]


def test_an_answer_is_asked_for_in_googles_form_with_a_fresh_token(server: GeminiServer, rig: Rig) -> None:
    assert rig.say() == rig.say(model=f"google/{MODEL}") == "Hello from Gemini."
    rig.credentials.valid = False
    rig.say()
    path, body = server.requests[0]
    method = "streamGenerateContent?alt=sse" if rig.streamed else "generateContent"
    assert path == f"v1/projects/p-12345/locations/global/publishers/google/models/{MODEL}:{method}"
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    assert [headers["authorization"] for headers in server.headers] == ["Bearer token-1"] * 2 + ["Bearer token-2"]
    assert rig.meter.calls == [
        (MODEL, TokenCounts(10, 0, 4)),
        (f"google/{MODEL}", TokenCounts(10, 0, 4)),
        (MODEL, TokenCounts(10, 0, 4)),
    ]


def used(asked: int, said: int, thought: int) -> dict[str, int]:
    return {"promptTokenCount": asked, "candidatesTokenCount": said, "thoughtsTokenCount": thought}


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (used(8, 9, 107) | {"totalTokenCount": 124}, TokenCounts(8, 0, 116, reasoning=107)),
        (used(8, 116, 107) | {"totalTokenCount": 124}, TokenCounts(8, 0, 116, reasoning=107)),
        ({"promptTokenCount": 8, "candidatesTokenCount": 9, "thoughtsTokenCount": 1}, TokenCounts(8, 0, 10, reasoning=1)),  # noqa: E501
        ({"promptTokenCount": 8, "toolUsePromptTokenCount": 2, "totalTokenCount": 12}, TokenCounts(10, 0, 2)),
        ({"promptTokenCount": 8, "cachedContentTokenCount": 99}, TokenCounts(8, 8, 0)),
        ({}, None),
    ],
)  # fmt: skip
def test_usage_is_read_whichever_way_a_model_counts_its_thoughts(usage: Any, tokens: TokenCounts | None) -> None:
    assert _parse_event({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}).tokens == tokens


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
        ("PROHIBITED_CONTENT", "content_filter"), ("SPII", "content_filter"), ("BLOCKLIST", "content_filter"),
        ("MODEL_ARMOR", "content_filter"), ("MALFORMED_FUNCTION_CALL", "error"), ("OTHER", "other"),
        ("A_REASON_OF_TOMORROW", "other"),
    ],
)  # fmt: skip
def test_why_an_answer_ended_is_told_and_what_it_used_is_paid(
    server: GeminiServer, rig: Rig, reason: str, finish: str
) -> None:
    server.replies = [GeminiReply(("Well",), finish=reason)]
    rig.say()
    assert (rig.finish, rig.meter.calls) == (finish, [(MODEL, TokenCounts(10, 0, 4))])


@pytest.mark.parametrize("reason", ["STOP", "MALFORMED_FUNCTION_CALL", "OTHER"])
def test_an_empty_answer_is_asked_for_again(server: GeminiServer, rig: Rig, reason: str) -> None:
    server.replies = [GeminiReply((), finish=reason)]
    assert rig.say() == "Hello from Gemini."
    assert rig.meter.calls == [(MODEL, TokenCounts(10, 0, 4))] * len(server.requests)


def test_a_prompt_that_is_blocked_fails_with_that_cause_and_is_paid(server: GeminiServer, rig: Rig) -> None:
    server.replies = [GeminiReply(blocked="PROHIBITED_CONTENT")]
    with pytest.raises(AnswerFiltered, match="held the answer back"):
        rig.say()
    assert rig.meter.calls == [(MODEL, TokenCounts(10, 0, 0))]


@pytest.mark.parametrize("model", [MODEL, FALLBACK])
def test_tools_are_called_side_by_side_and_signatures_go_back(server: GeminiServer, rig: Rig, model: str) -> None:
    def get_weather(city: str, days: int = 1) -> dict[str, Any]:
        """The weather."""
        return {"city": city, "days": days}

    calls = [("get_weather", {"city": "Oslo", "days": 2}), ("get_weather", {"city": "T\u00f8nder", "days": None})]
    server.replies = [GeminiReply(("Looking.",), calls=calls), GeminiReply((), calls=calls[:1])]
    assert rig.say(get_weather, model=model) == "Looking.\n\nHello from Gemini."
    uses = [chunk.tool for chunk in rig.chunks if chunk.tool is not None and chunk.tool.done]
    assert [use.output for use in uses] == [
        {"city": c, "days": d} for c, d in [("Oslo", 2), ("T\u00f8nder", 1), ("Oslo", 2)]
    ]
    asked, answered = server.requests[1][1]["contents"][-2:]
    assert [part.get("functionCall", {}).get("name") for part in asked["parts"]] == [None, "get_weather", "get_weather"]
    assert ("thoughtSignature" in asked["parts"][1]) is (model == MODEL)
    output = answered["parts"][1]["functionResponse"]["response"]["output"]
    assert json.loads(output) == {"city": "T\u00f8nder", "days": 1}
    declared = server.requests[0][1]["tools"][0]["functionDeclarations"][0]
    assert declared["parametersJsonSchema"]["required"] == ["city", "days"]
    assert len(rig.meter.calls) == 3


def test_a_fallback_that_wants_signatures_goes_on_from_calls_of_a_model_that_makes_none(
    server: GeminiServer, rig: Rig
) -> None:
    def note(text: str) -> str:
        """Take a note."""
        server.script = [HttpAnswer(404, {"error": {"code": 404, "status": "NOT_FOUND"}})]
        return text

    rig.gateway = replace(rig.gateway, fallback=[MODEL])
    server.replies = [GeminiReply((), calls=[("note", {"text": "a"}), ("note", {"text": "b"})])]
    assert rig.say(note, model=FALLBACK) == "Hello from Gemini."
    assert models_called(server) == [FALLBACK, FALLBACK, MODEL]


def test_a_structured_answer_is_asked_for_by_its_json_schema(server: GeminiServer, rig: Rig) -> None:
    class Found(BaseModel):
        item: str
        count: int | None = None

    server.replies = [GeminiReply(('{"item": "tea", ', '"count": null}'))]
    assert rig.answering().extract(Found, ASK) == Found(item="tea")
    config = server.requests[0][1]["generationConfig"]
    assert (config["responseMimeType"], config["responseJsonSchema"]["required"]) == (
        "application/json",
        ["item", "count"],
    )


def test_what_google_does_not_know_is_refused_once_and_not_tried_again(server: GeminiServer, rig: Rig) -> None:
    with pytest.raises(ModelRefused):
        list(rig.answering().stream([{"role": "system", "content": "Be brief."}]))
    assert (len(server.requests), rig.meter.calls) == (1, [])


def quota(**error: Any) -> HttpAnswer:
    return HttpAnswer(429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota", **error}})


def test_a_used_up_quota_is_waited_for_as_google_asks(server: GeminiServer, rig: Rig) -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2.5s"}
    server.script = [quota(details=[{"@type": "x"}, info]), quota(details="none"), quota()]
    assert rig.say() == "Hello from Gemini."
    assert rig.pauses == [2.5, 0.0]
    assert models_called(server) == [MODEL] * 3 + [FALLBACK]


def test_a_stream_that_fails_before_words_is_tried_again(server: GeminiServer) -> None:
    rig = Rig(server, streamed=True)
    server.replies = [GeminiReply((), cut=True), GeminiReply((), error=500)]
    assert rig.say() == "Hello from Gemini."
    assert models_called(server) == [MODEL] * 3
    assert rig.meter.calls == [(MODEL, TokenCounts(10, 0, 4))]


WORDS = ["candidates", "content", "parts", "text", "functionCall", "name", "args", "thought"]
WORDS += ["finishReason", "usageMetadata", "promptTokenCount", "totalTokenCount", "promptFeedback"]

shapes = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["candidates", "usageMetadata", "promptFeedback"]), shapes))
def test_json_of_another_form_is_a_chunk_or_a_models_error(event: dict[str, Any]) -> None:
    for parse in (_parse_event, _parse_answer):
        try:
            chunk = read(parse, event)
        except ModelError:
            continue
        assert isinstance(chunk.text, str)


@pytest.mark.parametrize(
    ("location", "host"),
    [
        ("global", "aiplatform.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("europe-west1", "europe-west1-aiplatform.googleapis.com"),
    ],
)
def test_each_location_has_its_host_and_is_named_in_the_path(location: str, host: str) -> None:
    assert vertex_provider("p-12345", location).base_url == f"https://{host}/v1/projects/p-12345/locations/{location}"


@pytest.mark.parametrize(
    ("model", "locations"),
    [("gemini-3.5-flash", {"global", "eu", "us"}), ("gemini-2.5-flash", {"global", "europe-west1"})],
)
def test_a_model_answers_where_it_is_and_is_a_404_elsewhere(
    server: GeminiServer, model: str, locations: set[str]
) -> None:
    for location in ("global", "eu", "us", "europe-west1"):
        assert is_served_in(model, location) is (location in locations)
        rig = Rig(server, streamed=True)
        provider = vertex_provider("p-12345", location, rig.credentials, server.url)
        rig.gateway = replace(rig.gateway, provider=provider, fallback=[])
        if location in locations:
            assert rig.say(model=model) == "Hello from Gemini."
        else:
            with pytest.raises(ModelError, match="HTTP 404"):
                rig.say(model=model)


def test_the_id_of_a_call_goes_back_with_its_result_where_there_is_one(server: GeminiServer, rig: Rig) -> None:
    def note(text: str) -> str:
        """Take a note."""
        return text

    for ids in (True, False):
        server.replies = [GeminiReply((), calls=[("note", {"text": "a"}), ("note", {"text": "b"})], ids=ids)]
        assert rig.say(note) == "Hello from Gemini."
        asked, answered = server.requests[-1][1]["contents"][-2:]
        told = ["function-call-0", "function-call-1"] if ids else [None, None]
        assert [part["functionCall"].get("id") for part in asked["parts"]] == told
        assert [part["functionResponse"].get("id") for part in answered["parts"]] == told


@pytest.mark.parametrize(
    ("model", "effort", "asked"),
    [
        ("gemini-3.5-flash", "none", {"thinkingLevel": "MINIMAL"}),
        ("gemini-3.5-flash", "max", {"thinkingLevel": "HIGH"}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-flash", "high", {"thinkingBudget": -1}),
        ("gemini-3.8-flash", "minimal", {"thinkingLevel": "LOW"}),  # which it learns from a refusal
        ("gemini-2.5-pro", "none", None),
    ],
)
def test_an_effort_is_told_in_the_words_that_the_model_knows(
    server: GeminiServer, rig: Rig, model: str, effort: Any, asked: Any
) -> None:
    rig.gateway = replace(rig.gateway, effort=lambda _: effort, thinking_tokens=500)
    for number in (1, 2):
        assert rig.say(model=model) == "Hello from Gemini."
        config = server.requests[-1][1]["generationConfig"]
        assert config.get("thinkingConfig") == asked
        thinks_not = effort == "none" and model.startswith("gemini-2.5")
        assert config["maxOutputTokens"] == (50 if thinks_not else 550)
        assert len(rig.meter.calls) == number
    refused = model in {"gemini-3.8-flash", "gemini-2.5-pro"}
    assert models_called(server) == [model] * (3 if refused else 2)
    assert rig.pauses == []
