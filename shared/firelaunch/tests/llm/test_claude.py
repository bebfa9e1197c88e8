"""Claude in its own words, against a server that refuses what Anthropic refuses; test_contract.py has the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from firelaunch.errors import ModelError, ModelUnavailable
from firelaunch.llm.claude_models import claude_thinks
from firelaunch.llm.conversation import alternating
from firelaunch.llm.deadline import Deadline
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.claude import ClaudeProvider, ClaudeWithKey, _Reader
from firelaunch.llm.providers.claude_cache import RecentPrompts
from firelaunch.llm.providers.claude_prompt import body_of
from firelaunch.llm.providers.vertex import vertex_provider
from firelaunch.llm.thinking import EFFORTS
from firelaunch.llm.types import Chunk, FinishedCall, Message, ModelCall, TokenCounts, ToolCall, ToolSpec, token_bound
from firelaunch.llm.wire.event_template import Pattern
from firelaunch.llm.wire.relay import read
from firelaunch.testing.claude import ClaudeReply, ClaudeServer
from firelaunch.testing.claude_rules import check_request
from firelaunch.testing.gemini import GeminiServer
from firelaunch.testing.http import HttpAnswer
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

MODEL, BUDGETED = "claude-sonnet-5-5", "claude-haiku-4-5"
MODELS = [
    MODEL, BUDGETED, "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-2", "claude-opus-5", "claude-sonnet-5",
    "claude-opus-4-8", "claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-5", "claude-sonnet-4-5-20250929",
]  # fmt: skip
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

    def reuse(self, model: str) -> None:
        raise AssertionError(model)


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Rig:
    def __init__(self, server: ClaudeServer) -> None:
        self.server, self.clock, self.meter = server, Clock(), Meter()
        self.fallback: list[str] = []
        self.effort: Any = None
        self.provider: Any = ClaudeProvider("claude", ClaudeWithKey("k", server.url), RecentPrompts(self.clock))
        self.prices = Prices("claude", {})

    def session(self, model: str = MODEL, *, streamed: bool = True, thinking: int = 4_096) -> Any:
        gateway = Gateway(
            self.provider, self.prices, self.fallback, 500, thinking, lambda _: self.effort, pause=lambda *_: None
        )
        return gateway.answering(self.meter, model, 30, streamed=streamed)

    def say(self, messages: Sequence[Message] = ASK, model: str = MODEL, **options: Any) -> str:
        return "".join(chunk.text for chunk in self.session(model).stream(messages, **options))

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.server.requests]


@pytest.fixture
def server() -> Iterator[ClaudeServer]:
    with ClaudeServer() as made:
        yield made


@pytest.fixture
def rig(server: ClaudeServer) -> Rig:
    return Rig(server)


class Credentials:
    valid, token = True, "t"


def on_vertex(rig: Rig) -> Rig:
    rig.provider = vertex_provider("p-12345", "global", Credentials(), rig.server.url)
    rig.prices = Prices("vertex", {})
    return rig


def marks(body: dict[str, Any]) -> tuple[bool, bool]:
    """Return whether the instructions and the conversation are marked for the cache."""
    return "cache_control" in json.dumps(body.get("system")), "cache_control" in json.dumps(body["messages"])


def test_a_key_and_an_access_token_each_call_the_api_in_their_way(rig: Rig, server: ClaudeServer) -> None:
    assert rig.say() == on_vertex(rig).say(model="claude-haiku-4-5@20251001") == "Hello from Claude."
    (path, body), (vertex_path, vertex_body) = server.requests
    assert (path, body["model"], body["system"][0]["text"]) == ("v1/messages", MODEL, "Be brief.")
    assert server.headers[0]["x-api-key"] == "k"
    place = "v1/projects/p-12345/locations/global/publishers/anthropic/models"
    assert vertex_path == f"{place}/claude-haiku-4-5@20251001:streamRawPredict"
    assert ("model" in vertex_body, vertex_body["anthropic_version"]) == (False, "vertex-2023-10-16")
    assert server.headers[1]["authorization"] == "Bearer t"
    assert "x-api-key" not in server.headers[1]


@pytest.mark.parametrize("effort", [None, *EFFORTS])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_every_effort_with_tools_a_schema_and_a_temperature(
    rig: Rig, server: ClaudeServer, model: str, effort: Any
) -> None:
    rig.effort = effort
    server.replies = [ClaudeReply(("Wait.",), "Hm.", calls=[("note", {"text": "a"})])]
    assert rig.say(model=model, tools=[note], temperature=1.5) == "Wait.\n\nHello from Claude."
    # Only "xhigh" on models of 4.6 has to be learned.
    assert len(server.requests) == 2 + (effort == "xhigh" and model.endswith("4-6"))
    thinking = {body.get("thinking", {}).get("type") for body in rig.bodies}
    if not claude_thinks(model, effort):
        assert thinking <= {None, "disabled"}
    elif effort is not None:
        assert thinking == {None} or thinking <= {"enabled", "adaptive", "between_tools"}


@pytest.mark.parametrize(("effort", "budget"), [("minimal", 1_024), ("low", 2_000), ("medium", 4_000), ("high", 8_000)])
def test_a_budget_is_the_part_of_the_tokens_for_thinking_that_the_effort_may_use(
    rig: Rig, effort: Any, budget: int
) -> None:
    rig.effort = effort
    list(rig.session(BUDGETED, thinking=8_000).stream(ASK))
    assert rig.bodies[0]["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert rig.bodies[0]["max_tokens"] == 8_500


def test_a_model_that_nobody_knew_cannot_stop_thinking_is_asked_to_think_little(rig: Rig, server: ClaudeServer) -> None:
    rig.effort = "none"
    text = '"thinking.type.disabled" is not supported for this model. Use "output_config.effort".'
    server.script = [HttpAnswer(400, {"type": "error", "error": {"type": "invalid_request_error", "message": text}})]
    for _ in range(2):
        assert rig.say(model="claude-opus-5") == "Hello from Claude."
    asked = [(body.get("thinking"), body.get("output_config")) for body in rig.bodies]
    assert asked == [({"type": "disabled"}, None), (None, {"effort": "low"}), (None, {"effort": "low"})]


def test_thoughts_go_back_unchanged_in_their_place_at_each_step(rig: Rig, server: ClaudeServer) -> None:
    call = ("note", {"text": "caf\u00e9"})
    server.replies = [
        ClaudeReply(("Look ", "here."), 'I "think"\n\u00e9.', "hidden", calls=[call, call]),
        ClaudeReply((), "More.", calls=[call]),
    ]
    for streamed in (True, False):
        server.requests.clear()
        replies = list(server.replies)
        assert "".join(c.text for c in rig.session(streamed=streamed).stream(ASK, tools=[note])).startswith(
            "Look here."
        )
        server.replies = replies
        kinds = [[block["type"] for block in message["content"]] for message in rig.bodies[2]["messages"]]
        assert kinds == [
            ["text"],
            ["thinking", "redacted_thinking", "text", "tool_use", "tool_use"],
            ["tool_result", "tool_result"],
            ["thinking", "tool_use"],
            ["tool_result"],
        ]
        assert rig.bodies[2]["messages"][1]["content"][0]["thinking"] == 'I "think"\n\u00e9.'


@pytest.mark.parametrize("other", ["claude-opus-5-5", BUDGETED])
def test_another_model_that_takes_over_gets_the_calls_without_the_thoughts(
    rig: Rig, server: ClaudeServer, other: str
) -> None:
    def break_down(text: str) -> str:
        """Make the model fail."""
        server.script = [HttpAnswer(404, {"type": "error", "error": {"type": "not_found_error", "message": "no"}})]
        return text

    rig.fallback, rig.effort = [other], "high"
    server.replies = [ClaudeReply((), "Hm.", calls=[("break_down", {"text": "a"})])]
    assert rig.say(tools=[break_down]) == "Hello from Claude."
    assert rig.bodies[-1]["model"] == other
    assert [block["type"] for block in rig.bodies[-1]["messages"][1]["content"]] == ["tool_use"]


def test_gemini_goes_on_from_claudes_calls(rig: Rig, server: ClaudeServer) -> None:
    pytest.importorskip("google.cloud.aiplatform_v1")
    call = ToolCall("toolu_1", "note", '{"text": "a"}', json.dumps({"model": MODEL, "blocks": [{"type": "thinking"}]}))
    messages: list[Message] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "", "calls": [call]},
        {"role": "tool", "content": "a", "call_id": "toolu_1", "name": "note"},
    ]
    spec = ToolSpec("note", "Take a note.", {"type": "object", "properties": {}})
    with GeminiServer() as gemini:
        provider = vertex_provider("p-12345", "global", Credentials(), gemini.url)
        call_of_gemini = ModelCall("gemini-3.5-flash", messages, 50, Deadline(1e12, 30, 30), tools=[spec])
        assert provider.complete(call_of_gemini).text == "Hello from Gemini."


def test_a_beginning_is_cached_once_it_has_come_again(rig: Rig) -> None:
    chat = list(ASK)
    for _ in range(3):
        chat += [{"role": "assistant", "content": rig.say(chat)}, {"role": "user", "content": "And?"}]
    assert [marks(body) for body in rig.bodies] == [(False, False), (True, True), (True, True)]
    rig.clock.now += 299
    rig.say([ASK[0], {"role": "user", "content": "Another chat."}])
    rig.clock.now += 301
    rig.say(chat)
    assert [marks(body) for body in rig.bodies[3:]] == [(True, False), (False, False)]


def test_what_differs_each_time_is_never_written_to_the_cache(rig: Rig) -> None:
    chat: list[Message] = [{"role": "user", "content": "Hello?"}]
    for turn in range(3):
        system: Message = {"role": "system", "content": f"Passages of turn {turn}."}
        chat += [{"role": "assistant", "content": rig.say([system, *chat])}, {"role": "user", "content": "And?"}]
    assert [marks(body) for body in rig.bodies] == [(False, False)] * 3


def test_many_steps_with_tools_keep_to_the_marks_that_are_allowed(rig: Rig, server: ClaudeServer) -> None:
    server.replies = [ClaudeReply((), calls=[("note", {"text": str(step)})]) for step in range(6)]
    rig.say(tools=[note], tool_steps=6)
    assert [json.dumps(body).count('"cache_control"') for body in rig.bodies] == [0, *[2] * 6]


def test_writing_to_the_cache_costs_a_quarter_more_and_reading_less(rig: Rig, server: ClaudeServer) -> None:
    server.replies = [
        ClaudeReply(usage=(100, 0, 10_000, 50, 0)), ClaudeReply(usage=(100, 10_000, 0, 50, 0)),
        ClaudeReply(usage=(10_100, 0, 0, 50, 0)),
    ]  # fmt: skip
    for _ in range(3):
        rig.say()
    written, read_again, plain = rig.meter.calls
    assert written.tokens == TokenCounts(10_100, 0, 50, cache_write=10_000)
    assert read_again.tokens == TokenCounts(10_100, 10_000, 50)
    # claude-sonnet-5-5: 2 dollars a million, 2.5 written, and 10 for output.
    assert (written.micro_usd, plain.micro_usd) == (200 + 25_000 + 500, 20_200 + 500)
    assert read_again.micro_usd < plain.micro_usd / 3
    assert rig.prices.most(MODEL, 10_100, 50) >= written.micro_usd


class Counted(BaseModel):
    item: str
    count: int = Field(ge=1, le=5)


class Branch(BaseModel):
    name: str
    branches: list[Branch]


def test_limits_that_claude_does_not_enforce_are_described_and_checked(rig: Rig, server: ClaudeServer) -> None:
    server.replies = [ClaudeReply(('{"item": "tea", "count": 9}',)), ClaudeReply(('{"item": "tea", "count": 5}',))]
    assert rig.session().extract(Counted, ASK) == Counted(item="tea", count=5)
    count = rig.bodies[0]["output_config"]["format"]["schema"]["properties"]["count"]
    assert count == {"type": "integer", "description": "(minimum: 1, maximum: 5)"}


def test_a_schema_that_claude_refuses_is_asked_for_in_words_and_others_are_still_enforced(
    rig: Rig, server: ClaudeServer
) -> None:
    server.replies = [ClaudeReply(('{"name": "a", "branches": []}',)), ClaudeReply(('{"item": "tea", "count": 1}',))]
    assert rig.session().extract(Branch, ASK) == Branch(name="a", branches=[])
    assert rig.session().extract(Counted, ASK) == Counted(item="tea", count=1)
    assert ["output_config" in body for body in rig.bodies] == [True, False, True]
    assert '"branches"' in rig.bodies[1]["system"][-1]["text"]


def test_where_a_policy_forbids_enforcement_tools_and_schemas_work_without_it(rig: Rig, server: ClaudeServer) -> None:
    server.structured = False
    for _ in range(2):
        server.replies = [ClaudeReply((), calls=[("note", {"text": "a"})])]
        assert on_vertex(rig).say(tools=[note]) == "Hello from Claude."
        server.replies = [ClaudeReply(('{"item": "tea", "count": 1}',))]
        assert rig.session().extract(Counted, ASK).count == 1


def test_an_id_of_another_providers_call_is_written_in_claudes_alphabet(rig: Rig) -> None:
    call = ToolCall("call:1/\u00e9.x", "note", "not json")
    messages: list[Message] = [
        ASK[1], {"role": "assistant", "content": " ", "calls": [call]},
        {"role": "tool", "content": "", "call_id": call.id, "name": "note"},
    ]  # fmt: skip
    assert rig.say(messages, tools=[note]) == "Hello from Claude."
    assert rig.bodies[0]["messages"][1]["content"][0] == {
        "type": "tool_use", "id": "call_1___x", "name": "note", "input": {},
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["overloaded_error", "api_error", "rate_limit_error"])
def test_an_error_in_a_stream_is_tried_again_unless_words_have_gone_out(
    rig: Rig, server: ClaudeServer, kind: str
) -> None:
    server.replies = [ClaudeReply((), error=kind)]
    assert rig.say() == "Hello from Claude."
    server.replies = [ClaudeReply(error=kind)]
    with pytest.raises(ModelUnavailable):
        rig.say()
    assert rig.meter.calls[-1].tokens.output >= len("Hello from Claude.")


def test_a_paused_turn_is_no_whole_answer(rig: Rig, server: ClaudeServer) -> None:
    server.replies = [ClaudeReply(finish="pause_turn")]
    session = rig.session()
    list(session.stream(ASK))
    assert session.finish == "other"


def test_the_reservation_covers_what_the_api_adds_to_a_prompt(rig: Rig) -> None:
    session = rig.session()
    at_least = rig.prices.cost(MODEL, TokenCounts(token_bound(ASK) + 804, 0, 500 + 4_096))
    assert session.gateway.worst_case(MODEL, token_bound(ASK)) >= at_least


def test_events_with_filler_are_read_without_parsing_them() -> None:
    parsed: list[str] = []

    def parse(event: dict[str, Any]) -> Chunk:
        chunk = reader.event(event)
        parsed.append(chunk.text)
        return chunk

    reader, pattern = _Reader(MODEL), Pattern(parse)
    head = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    first = head + b'"text":"One"}}'
    pattern.learn(first, first.partition(b"data: ")[2], Chunk("One"))
    count = len(parsed)
    events = b"".join(
        head + b'"text":"%b"}%b}\n\n' % (word, b" " * size) for size, word in enumerate([b"a\\n", b"b", b"c"])
    )
    assert pattern.run(events, 0) == ("a\nbc", len(events))
    other = head.replace(b":0,", b":1,") + b'"text":"x"}}\n\n'
    assert pattern.run(events + other, 0) == ("a\nbc", len(events))
    assert len(parsed) == count


texts = st.text(st.sampled_from("a \n\u00e9"), max_size=3)
signatures = st.sampled_from([None, "x", "{}", '{"model": 1}', json.dumps({"model": "other", "blocks": [{}]})])
ids = st.text(st.sampled_from("ab:/\u00e9"), min_size=1, max_size=3)


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """Any order of roles; each call of a tool has its result right after it, as the toolbox sees to."""
    messages: list[Message] = []
    for role in draw(st.lists(st.sampled_from(["system", "user", "assistant", "calls"]), max_size=7)):
        text = draw(texts)
        if role != "calls":
            messages.append({"role": role, "content": text})  # type: ignore[misc]
            continue
        names = draw(st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True))
        calls = [ToolCall(f"{draw(ids)}{name}", "note", draw(texts), draw(signatures)) for name in names]
        messages.append({"role": "assistant", "content": text, "calls": calls})
        messages += [{"role": "tool", "content": text, "call_id": c.id, "name": "note"} for c in calls]
    return [*messages, {"role": "user", "content": "End"}]


@given(histories(), st.sampled_from(MODELS), st.sampled_from([None, *EFFORTS[:5]]))
def test_no_history_is_refused(messages: list[Message], model: str, effort: Any) -> None:
    spec = ToolSpec("note", "d", {"type": "object", "properties": {}, "additionalProperties": False})
    call = ModelCall(
        model, alternating(messages), 50, Deadline(1e12, 1, 1), 0.5, tools=[spec], thinking_tokens=2_000, effort=effort
    )
    body = RecentPrompts().marked(model, body_of(call))
    check_request(model, body)
    roles = [message["role"] for message in body["messages"]]
    assert all(role != after for role, after in pairwise(roles))


WORDS = ["type", "content_block", "delta", "text", "thinking", "signature", "partial_json", "index", "usage", "message"]
WORDS += ["input_tokens", "output_tokens", "stop_reason", "content", "input", "name", "id", "data"]
KINDS = ["content_block_delta", "content_block_start", "message_start", "message_delta", "text_delta", "tool_use"]
KINDS += ["thinking_delta", "signature_delta", "input_json_delta", "text", "thinking", "redacted_thinking", "ping"]
faulty = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.sampled_from(KINDS)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)),
    max_leaves=12,
)
events = st.fixed_dictionaries({"type": st.sampled_from(KINDS)}, optional=dict.fromkeys(WORDS[1:], faulty))


@given(st.lists(events, max_size=4))
def test_json_of_another_form_is_a_chunk_or_a_models_error(documents: list[dict[str, Any]]) -> None:
    reader = _Reader(MODEL)
    for document in documents:
        for parse in (reader.event, reader.answer):
            try:
                chunk = read(parse, document)
            except ModelError:
                continue
            assert isinstance(chunk.text, str)
            assert all(isinstance(part.arguments, str) for part in chunk.parts)
