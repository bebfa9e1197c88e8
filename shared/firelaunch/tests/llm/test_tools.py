"""Tools: what the model may ask of an app's functions, what it is told, and what that costs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Annotated, Any

import pytest
from firelaunch.errors import (
    BudgetExceeded,
    Conflict,
    EmptyAnswer,
    ModelTimeout,
    ModelUnavailable,
    ScopeViolation,
    SettingsError,
    StoreError,
)
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.offline import OfflineProvider
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.tool_calls import CallAssembler
from firelaunch.llm.tool_threads import ToolThreads
from firelaunch.llm.tools import Tool, ToolError
from firelaunch.llm.types import CallPart, Chunk, FinishedCall, Message, TokenCounts
from firelaunch.server.app import App
from firelaunch.testing.apps import SETTINGS, events, sign_in
from firelaunch.testing.models import ModelServer, Reply
from firelaunch.turns.turn import Turn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

ASK: list[Message] = [{"role": "user", "content": "How is the weather in Oslo?"}]
MODEL, FALLBACK = "gpt-5.4-mini", "gpt-5-mini"


class Unit(Enum):
    C = "celsius"
    F = "fahrenheit"


class Place(BaseModel):
    name: str
    tags: list[str] = Field(max_length=2)


def get_weather(city: str, days: int = 1) -> dict[str, Any]:
    """The weather of a city.

    Args:
        city: its English name.
        days: how many days ahead,
            today being one.
    """
    return {"city": city, "days": days, "sky": "clear"}


class Meter:
    """Covers up to ``limit`` micro-dollars."""

    def __init__(self, limit: int = 10**9) -> None:
        self.limit = limit
        self.spent = 0
        self.calls: list[tuple[str, TokenCounts]] = []

    def cover(self, micro_usd: int) -> None:
        if self.spent + micro_usd > self.limit:
            raise BudgetExceeded

    def release(self, micro_usd: int) -> None: ...

    def spend(self, call: FinishedCall) -> None:
        self.spent += call.micro_usd
        if call.charged:
            self.calls.append((call.model, call.tokens))

    def reuse(self, model: str) -> None:
        raise AssertionError(model)


class Rig:
    """A gateway on the model server, and what came of it."""

    def __init__(self, model: ModelServer, *, streamed: bool, **options: Any) -> None:
        provider = OpenAICompatibleProvider("openai", "test-key", model.base_url)
        self.gateway = Gateway(
            provider, Prices("openai", {}), [FALLBACK], 50, pause=lambda *_: None, jitter=lambda: 0.0, **options
        )
        self.meter = Meter()
        self.streamed = streamed

    def say(self, *tools: Any, seconds: float = 30.0, check: Callable[[], None] = lambda: None, **more: Any) -> str:
        answering = self.gateway.answering(self.meter, MODEL, seconds, streamed=self.streamed, check=check)
        self.chunks: list[Chunk] = []
        for chunk in answering.stream(ASK, tools=tools, **more):
            self.chunks.append(chunk)
        return "".join(chunk.text for chunk in self.chunks)

    @property
    def uses(self) -> list[Any]:
        return [chunk.tool for chunk in self.chunks if chunk.tool is not None]


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
def rig(request: pytest.FixtureRequest, model: ModelServer) -> Rig:
    return Rig(model, streamed=request.param)


def asks(*calls: tuple[str, Any], words: tuple[str, ...] = ()) -> Reply:
    return Reply(words, calls=[(name, args if isinstance(args, str) else json.dumps(args)) for name, args in calls])


def told(model: ModelServer, at: int = -1) -> list[str]:
    """What the tools said, in the request at that place."""
    return [message["content"] for message in model.requests[at]["messages"] if message["role"] == "tool"]


def test_a_tool_is_called_with_what_the_model_passes_and_its_result_goes_back(model: ModelServer, rig: Rig) -> None:
    model.script = [asks(("get_weather", {"city": "Oslo", "days": 3}))]
    assert rig.say(get_weather) == "Hello from the model."
    called, returned = rig.uses
    assert (called.name, called.input, called.done) == ("get_weather", {"city": "Oslo", "days": 3}, False)
    assert (returned.output, returned.error, returned.done) == ({"city": "Oslo", "days": 3, "sky": "clear"}, None, True)
    assert called.id == returned.id == "call_0"
    asked, result = model.requests[1]["messages"][1:]
    assert asked["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Oslo", "days": 3}'}
    assert (result["tool_call_id"], json.loads(result["content"])["sky"]) == ("call_0", "clear")


def test_the_schema_comes_from_type_hints_and_docstring(model: ModelServer, rig: Rig) -> None:
    rig.say(get_weather)
    (tool,) = model.requests[0]["tools"]
    function = tool["function"]
    assert (function["name"], function["description"], function["strict"]) == (
        "get_weather",
        "The weather of a city.",
        True,
    )
    city, days = function["parameters"]["properties"].values()
    assert city == {"type": "string", "description": "its English name."}
    assert days == {"type": ["integer", "null"], "description": "how many days ahead, today being one."}
    assert model.requests[0]["tool_choice"] == "auto"


def test_hints_of_many_kinds_arrive_as_what_they_say(model: ModelServer, rig: Rig) -> None:
    seen: list[Any] = []

    def look(
        places: list[Place], unit: Unit, limit: Annotated[int, Field(ge=1, le=9)] = 5, schema: str | None = None
    ) -> str:
        """Look."""
        seen.append((places[0], unit, limit, schema))
        return "seen"

    passed = {"places": [{"name": "Oslo", "tags": ["a"]}], "unit": "celsius", "limit": None, "schema": None}
    model.script = [asks(("look", passed))]
    rig.say(look)
    assert seen == [(Place(name="Oslo", tags=["a"]), Unit.C, 5, None)]
    assert told(model) == ["seen"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"days": 2}, "required"),
        ({"city": "Oslo", "days": "many"}, "/days"),
        ({"city": "Oslo", "days": 1, "uid": "bob"}, "uid"),
        ('{"city": "Os', "not valid JSON"),
        ("[]", "object"),
    ],
    ids=["missing", "type", "extra", "cut", "list"],
)
def test_arguments_that_do_not_fit_are_told_to_the_model_and_the_function_is_not_called(
    model: ModelServer, rig: Rig, arguments: Any, expected: str
) -> None:
    def get_weather(city: str, days: int = 1) -> str:
        """The weather."""
        raise AssertionError((city, days))

    model.script = [asks(("get_weather", arguments))]
    assert rig.say(get_weather) == "Hello from the model."
    assert expected in told(model)[0]
    assert rig.uses[1].error == "invalid_arguments"


def test_a_tool_error_is_told_in_its_own_words_and_any_other_only_as_a_failure(
    model: ModelServer, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def find(what: str) -> str:
        """Find."""
        if what == "nothing":
            raise ToolError("There is nothing of that name.")
        if what == "exit":
            raise SystemExit(3)
        raise RuntimeError("password=hunter2")

    model.script = [asks(("find", {"what": "nothing"}), ("find", {"what": "bug"}), ("find", {"what": "exit"}))]
    rig.say(find)
    assert told(model) == ["There is nothing of that name.", "The tool failed.", "The tool failed."]
    assert [(use.output, use.error) for use in rig.uses if use.done] == [(None, "failed")] * 3
    assert "tool find failed" in caplog.text


def test_an_error_with_a_message_for_clients_is_told_to_the_model_unless_the_fault_is_the_apps(
    model: ModelServer, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    errors: dict[str, Exception] = {
        "taken": Conflict("The drill is taken on Monday.", reason="by bob"),
        "budget": BudgetExceeded(),
        "path": ScopeViolation(reason="apps/demo/users/bob"),
        "store": StoreError("quota of p-12345", reason="p-12345"),
        "settings": SettingsError("add an index"),
    }

    def book(what: str) -> str:
        """Book."""
        raise errors[what]

    model.script = [asks(*(("book", {"what": what}) for what in errors))]
    rig.say(book)
    assert told(model) == ["The drill is taken on Monday.", BudgetExceeded.message, *["The tool failed."] * 3]
    traced = [record.getMessage() for record in caplog.records if record.exc_info]
    assert len(traced) == 2, "the app's own faults"
    assert "conflict: The drill is taken on Monday. (by bob)" in caplog.text
    assert "security: tool book" in caplog.text


@pytest.mark.parametrize(
    ("result", "error"), [(object(), "failed"), (float("nan"), None), ("x" * 16_001, "too_long"), ({1, 2}, None)]
)
def test_a_result_that_is_no_json_or_too_long_is_none(model: ModelServer, rig: Rig, result: Any, error: str) -> None:
    def give() -> Any:
        """Give."""
        return result

    model.script = [asks(("give", ""))]
    rig.say(give)
    assert rig.uses[1].error == error
    assert len(told(model)[0]) <= 16_000


def test_a_tool_that_is_not_there_and_calls_beyond_eight_are_told_to_the_model(model: ModelServer, rig: Rig) -> None:
    model.script = [asks(("rm", "{}"), *[("get_weather", {"city": "Oslo", "days": 1})] * 8)]
    rig.say(get_weather)
    assert [use.error for use in rig.uses if use.done] == ["unknown_tool", *[None] * 7, "too_many"]
    assert [use.input for use in rig.uses if use.name == "rm"] == [None, None]


def test_a_tool_beyond_its_time_is_left_behind_and_the_answer_goes_on(model: ModelServer, rig: Rig) -> None:
    go_on = threading.Event()

    def hang() -> str:
        """Hang."""
        go_on.wait(30)
        return "too late"

    model.script = [asks(("hang", "{}"))]
    assert rig.say(Tool(hang, seconds=0.05)) == "Hello from the model."
    assert told(model) == ["The tool did not answer in time."]
    assert rig.uses[1].error == "timeout"
    go_on.set()


def test_tools_left_behind_count_until_they_have_ended(model: ModelServer) -> None:
    go_on, ended = threading.Event(), threading.Event()

    def hang() -> None:
        """Hang."""
        go_on.wait(30)
        ended.set()

    rig = Rig(model, streamed=True, tool_threads=ToolThreads(1))
    model.script = [asks(("hang", "{}")), Reply(), asks(("hang", "{}"))]
    rig.say(Tool(hang, seconds=0.05))
    rig.say(Tool(hang, seconds=0.05))
    assert rig.uses[1].error == "busy"
    go_on.set()
    assert ended.wait(10)
    model.script = [asks(("get_weather", {"city": "Oslo", "days": 1}))]
    while rig.say(get_weather) and rig.uses[1].error == "busy":
        model.script = [asks(("get_weather", {"city": "Oslo", "days": 1}))]
    assert rig.uses[1].error is None


def test_calls_of_one_step_run_side_by_side_and_are_told_in_order(model: ModelServer, rig: Rig) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(name: str) -> str:
        """Meet."""
        both.wait()
        return name

    model.script = [asks(("meet", {"name": "a"}), ("meet", {"name": "b"}))]
    rig.say(meet)
    assert told(model) == ["a", "b"]
    assert [use.done for use in rig.uses] == [False, False, True, True]


def test_after_the_last_step_the_model_must_answer(model: ModelServer, rig: Rig) -> None:
    model.default = asks(("get_weather", {"city": "Oslo", "days": 1}), words=("again",))
    assert rig.say(get_weather, tool_steps=2) == "again\n\nagain\n\nagain"
    assert [request["tool_choice"] for request in model.requests] == ["auto", "auto", "none"]
    assert len(rig.uses) == 4


def test_each_step_is_covered_before_and_paid(model: ModelServer, rig: Rig) -> None:
    model.default = asks(("get_weather", {"city": "Oslo", "days": 1}))
    with pytest.raises(EmptyAnswer, match="went on asking for tools"):
        rig.say(get_weather, tool_steps=3)
    assert rig.meter.calls == [(MODEL, TokenCounts(10, 0, 4))] * 4
    model.requests.clear()
    rig.meter = Meter(limit=1_000)
    with pytest.raises(BudgetExceeded):
        rig.say(get_weather, tool_steps=30)
    assert 0 < len(model.requests) == len(rig.meter.calls) < 31
    assert rig.meter.spent <= 1_000


def test_a_step_that_breaks_off_before_it_said_anything_is_tried_again_with_its_calls_whole(model: ModelServer) -> None:
    rig = Rig(model, streamed=True)
    whole = asks(("get_weather", {"city": "Oslo", "days": 1}))
    model.script = [Reply((), calls=whole.calls, cut_after=4), whole, Reply(cut_after=0)]
    assert rig.say(get_weather) == "Hello from the model."
    assert len(rig.uses) == 2
    assert model.models_called() == [MODEL] * 4


def test_a_step_that_breaks_off_in_its_words_is_not_started_anew(model: ModelServer) -> None:
    rig = Rig(model, streamed=True)
    model.script = [asks(("get_weather", {"city": "Oslo", "days": 1})), Reply(cut_after=2)]
    with pytest.raises(ModelUnavailable):
        rig.say(get_weather)
    assert len(model.requests) == 2


def test_a_fallback_goes_on_where_the_model_ended(model: ModelServer, rig: Rig) -> None:
    from firelaunch.testing.models import Fault

    model.script = [Fault(404), asks(("get_weather", {"city": "Oslo", "days": 1}))]
    assert rig.say(get_weather) == "Hello from the model."
    assert model.models_called() == [MODEL, FALLBACK, FALLBACK]


def test_the_requests_time_and_the_clients_leave_end_an_answer_whose_tool_runs(model: ModelServer, rig: Rig) -> None:
    go_on = threading.Event()

    def hang() -> None:
        """Hang."""
        go_on.wait(30)

    model.default = asks(("hang", "{}"))
    with pytest.raises(ModelTimeout):
        rig.say(hang, seconds=1.0)

    class Left(Exception):
        pass

    def check() -> None:
        if len(model.requests) > 1:
            raise Left

    with pytest.raises(Left):
        rig.say(hang, check=check)
    go_on.set()


def test_a_tool_that_is_not_shown_goes_to_the_client_by_name_alone(model: ModelServer, rig: Rig) -> None:
    model.script = [asks(("get_weather", {"city": "Oslo", "days": 1}))]
    rig.say(Tool(get_weather, shown=False))
    assert [(use.input, use.output) for use in rig.uses] == [(None, None), (None, None)]
    assert "clear" in told(model)[0]


def not_described(city: str) -> str:
    return city


def not_hinted(city) -> str:  # type: ignore[no-untyped-def]
    """Not hinted."""
    return str(city)


def of_any_number(*cities: str) -> str:
    """Of any number."""
    return str(cities)


def of_free_keys(cities: dict[str, int]) -> str:
    """Of free keys."""
    return str(cities)


def of_a_local_type(city: City) -> str:  # type: ignore[name-defined]  # noqa: F821
    """Of a local type."""
    return str(city)


@pytest.mark.parametrize(
    "function", [not_described, not_hinted, of_any_number, of_free_keys, of_a_local_type, lambda: 1]
)
def test_a_function_that_cannot_be_a_tool_is_refused_before_anything_is_called(
    model: ModelServer, rig: Rig, function: Any
) -> None:
    with pytest.raises(TypeError):
        rig.say(function)
    with pytest.raises(TypeError, match="same name"):
        rig.say(get_weather, get_weather)
    assert model.requests == []


parts = st.builds(
    CallPart,
    st.one_of(st.none(), st.integers(0, 3)),
    st.sampled_from(["", "call_1", "call_2"]),
    st.sampled_from(["", "get_weather"]),
    st.text(max_size=4),
)


@given(st.lists(parts, max_size=12))
def test_no_piece_of_a_call_is_lost_whatever_a_provider_numbers(found: list[CallPart]) -> None:
    assembler = CallAssembler()
    assembler.add(found)
    calls = assembler.calls()
    assert sorted("".join(call.arguments for call in calls)) == sorted("".join(part.arguments for part in found))
    assert all(call.id for call in calls)


@given(st.lists(st.tuples(st.text(max_size=30), st.integers(1, 5)), min_size=1, max_size=4))
def test_arguments_cut_anywhere_come_together(calls: list[tuple[str, int]]) -> None:
    assembler = CallAssembler()
    for number, (text, step) in enumerate(calls):
        assembler.add([CallPart(number, f"call_{number}", "f")])
        assembler.add(CallPart(number, arguments=text[at : at + step]) for at in range(0, len(text), step))
    assert [(call.id, call.name, call.arguments) for call in assembler.calls()] == [
        (f"call_{number}", "f", text) for number, (text, _) in enumerate(calls)
    ]


def test_geminis_calls_that_are_all_numbered_nought_are_told_apart_and_keep_their_signatures() -> None:
    assembler = CallAssembler()
    assembler.add([CallPart(0, "a", "f", "{}", "sig")])
    assembler.add([CallPart(0, "b", "g", "{}")])
    assert [(call.id, call.name, call.signature) for call in assembler.calls()] == [("a", "f", "sig"), ("b", "g", None)]


@pytest.mark.parametrize("streamed", [False, True])
def test_the_offline_model_calls_a_tool_that_is_named_and_says_what_it_said(streamed: bool) -> None:
    gateway = Gateway(OfflineProvider(), Prices("offline", {}), [], 50)

    def say(text: str) -> str:
        asked: list[Message] = [{"role": "user", "content": text}]
        answering = gateway.answering(Meter(), "offline", 30, streamed=streamed)
        return "".join(chunk.text for chunk in answering.stream(asked, tools=[get_weather]))

    assert '"sky": "clear"' in say("Get weather, please")
    assert say("Get weather, please") == say("Use get_weather!")
    assert "You wrote" in say("Hello")


def with_tools(turn: Turn) -> Iterator[Chunk]:
    yield from turn.llm.stream([{"role": "user", "content": turn.text}], tools=[get_weather], tool_steps=30)


def test_a_turns_stream_tells_of_its_tools_and_they_are_kept_with_the_message(
    make_app: Callable[..., App], model: ModelServer
) -> None:
    ada = sign_in(make_app(answer=with_tools, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chat = ada.new_chat()
    model.script = [asks(("get_weather", {"city": "Oslo", "days": 1}), words=("Looking.",))]
    found = list(events(ada.stream(chat, "Weather?")))
    kinds = [name for name, _ in found]
    assert (kinds[:5], kinds[-1]) == (["start", "delta", "tool_call", "tool_result", "delta"], "done")
    output = {"city": "Oslo", "days": 1, "sky": "clear"}
    assert found[2][1] == {"id": "call_0", "name": "get_weather", "input": {"city": "Oslo", "days": 1}}
    assert found[3][1] == {"id": "call_0", "name": "get_weather", "output": output, "error": None}
    message = ada.get(f"/v1/chats/{chat}").get_json()["messages"][-1]
    assert message["text"] == "Looking.\n\nHello from the model."
    assert message["tools"] == [
        {"id": "call_0", "name": "get_weather", "input": {"city": "Oslo", "days": 1}, "output": output, "error": None}
        | {"approve_until": None}
    ]
    spent = ada.get("/v1/usage").get_json()
    assert (spent["requests"], spent["cost_micro_usd"], spent["reserved_micro_usd"]) == (1, 2 * 26, 0)


def test_a_turn_whose_budget_ends_between_two_steps_keeps_what_was_said_and_settles(
    make_app: Callable[..., App], model: ModelServer
) -> None:
    settings = SETTINGS.replace('"0.50"', '"0.01"').replace("gpt-5.4-nano", MODEL)
    ada = sign_in(make_app(settings, answer=with_tools, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url), "ada")
    chat = ada.new_chat()
    model.default = Reply(("Looking.",), usage=(200, 0, 100), calls=[("get_weather", '{"city": "Oslo", "days": 1}')])
    found = list(events(ada.stream(chat, "Weather?")))
    assert found[-1][1]["error"]["code"] == "budget_exceeded"
    spent = ada.get("/v1/usage").get_json()
    assert spent["reserved_micro_usd"] == 0
    assert spent["cost_micro_usd"] <= 10_000
    assert ada.get(f"/v1/chats/{chat}").get_json()["messages"][-1]["tools"][0]["name"] == "get_weather"
