"""What a model refuses is learned from its own words, once, at no cost and at nobody's expense."""

from __future__ import annotations

from typing import Any

import pytest
from firelaunch.errors import ModelRefused
from firelaunch.llm.breaker import Breaker
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.types import FinishedCall, Message, TokenCounts
from firelaunch.testing.chat_rules import openai_refusal
from firelaunch.testing.models import Fault, ModelServer, Reply

ASK: list[Message] = [{"role": "user", "content": "Hello?"}]
FREE = ("gpt-6-luna", "gpt-5.6-luna", "gpt-4o", "llama3", "o3")
pytestmark = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


class Meter:
    def __init__(self) -> None:
        self.calls: list[TokenCounts] = []

    def cover(self, micro_usd: int) -> None: ...

    def release(self, micro_usd: int) -> None: ...

    def spend(self, call: FinishedCall) -> None:
        if call.charged:
            self.calls.append(call.tokens)

    def reuse(self, model: str) -> None: ...


class Rig:
    def __init__(self, model: ModelServer, *, streamed: bool, **options: Any) -> None:
        self.provider = OpenAICompatibleProvider("openai", "k", model.base_url)
        self.meter, self.streamed = Meter(), streamed
        settings: dict[str, Any] = {"pause": lambda *_: None, "breaker": Breaker(lambda: 0.0, threshold=1, rest=9.0)}
        self.gateway = Gateway(self.provider, Prices("openai", {}, free=FREE), [], 50, **settings | options)

    def say(self, name: str, *tools: Any, temperature: float | None = None) -> str:
        llm = self.gateway.answering(self.meter, name, 30, streamed=self.streamed)
        return "".join(chunk.text for chunk in llm.stream(ASK, temperature=temperature, tools=tools))


def note(text: str) -> str:
    """Take a note."""
    return text


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("gpt-6-luna", "max_completion_tokens"),
        ("o3", "max_completion_tokens"),
        ("openai/gpt-5.4-mini", "max_completion_tokens"),
        ("gpt-4o", "max_tokens"),
        ("llama3", "max_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_model_knows_at_any_base_url(
    model: ModelServer, streamed: bool, name: str, limit: str
) -> None:
    rig = Rig(model, streamed=streamed)
    rig.gateway = Gateway(rig.provider, Prices("openai", {}, free=[name]), [], 50)
    rig.say(name)
    assert model.requests[0][limit] == 50
    assert len({"max_tokens", "max_completion_tokens"} & set(model.requests[0])) == 1


def test_openais_own_rules_are_learned_once_for_each_model(model: ModelServer, streamed: bool) -> None:
    model.refusal = openai_refusal
    rig = Rig(model, streamed=streamed)
    for _ in range(3):
        assert rig.say("gpt-6-luna", temperature=0.2) == "Hello from the model."
    assert len(model.requests) == 4  # one refusal
    assert "temperature" not in model.requests[-1]
    rig.say("gpt-5.6-luna", temperature=0.2)
    assert len(model.requests) == 6
    assert len(rig.meter.calls) == 4
    assert rig.gateway.breaker.allows("gpt-6-luna")


def test_tools_are_had_by_giving_up_the_effort_and_other_calls_keep_it(model: ModelServer, streamed: bool) -> None:
    model.refusal = openai_refusal
    for effort in ("high", None):
        rig = Rig(model, streamed=streamed, effort=lambda _, effort=effort: effort)
        for _ in range(2):
            model.requests.clear()
            assert rig.say("gpt-6-luna", note) == "Hello from the model."
            assert model.requests[-1]["reasoning_effort"] == "none"
        assert len(model.requests) == 1
        rig.say("gpt-6-luna")
        assert model.requests[-1].get("reasoning_effort") == effort


def test_an_effort_that_the_model_does_not_know_gives_way_to_the_nearest(model: ModelServer, streamed: bool) -> None:
    model.refusal = openai_refusal
    rig = Rig(model, streamed=streamed, effort=lambda _: "minimal")
    rig.say("gpt-6-luna")
    assert [request.get("reasoning_effort") for request in model.requests] == ["minimal", "low"]
    rig.say("gpt-4o")
    assert "reasoning_effort" not in model.requests[-1]


SERVERS: list[tuple[str, str, str | None]] = [
    ("Unsupported parameter: 'max_tokens' is not supported with this model.", "max_tokens", "max_tokens"),
    ("Unrecognized request argument supplied: max_completion_tokens", "max_completion_tokens", None),
    ("[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options')}]", "stream_options", None),
    ("temperature is not supported by this model", "temperature", None),
    ("Unknown parameter: 'tools[0].function.strict'.", "strict", "tools[0].function.strict"),
    ("Invalid value for 'tool_choice'", "tool_choice", "tool_choice"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "name", "parameter"), SERVERS)
def test_each_parameter_that_a_server_names_is_left_out_from_then_on(
    model: ModelServer, streamed: bool, message: str, name: str, parameter: str | None
) -> None:
    if name == "stream_options" and not streamed:
        return
    known = "gpt-6-luna" if name == "max_completion_tokens" else "llama3"

    def refusal(request: dict[str, Any]) -> tuple[str, str | None] | None:
        there = "'strict'" in str(request) if name == "strict" else name in request
        return (message, parameter) if there else None

    model.refusal = refusal
    rig = Rig(model, streamed=streamed)
    for _ in range(2):
        rig.say(known, note, temperature=0.2)
    assert len(model.requests) == 3
    assert rig.provider._refused._by_model[known]


def test_a_refusal_that_names_nothing_that_can_be_left_out_is_one(model: ModelServer, streamed: bool) -> None:
    rig = Rig(model, streamed=streamed)
    model.default = Fault(400, body='{"error": {"message": "Invalid \'messages\'. Please stop.", "param": "messages"}}')
    with pytest.raises(ModelRefused):
        rig.say("gpt-6-luna", temperature=0.2)
    assert len(model.requests) == 1


def test_words_of_the_user_in_a_refusal_teach_nothing(model: ModelServer, streamed: bool) -> None:
    rig = Rig(model, streamed=streamed)
    body = '{"error": {"message": "Flagged: \'what is the temperature in Oslo\'"}}'
    model.default = Fault(400, body=body)
    with pytest.raises(ModelRefused):
        rig.say("llama3", temperature=0.2)
    model.default = Reply()
    rig.say("llama3", temperature=0.2)
    assert model.requests[-1]["temperature"] == 0.2
    assert rig.meter.calls == [TokenCounts(10, 0, 4)]


def test_a_model_that_refuses_both_names_of_the_limit_is_never_asked_without_one(
    model: ModelServer, streamed: bool
) -> None:
    rig = Rig(model, streamed=streamed)
    model.refusal = lambda request: next(
        ((f"no {name}", name) for name in ("max_tokens", "max_completion_tokens") if name in request), None
    )
    with pytest.raises(ModelRefused):
        rig.say("llama3")
    assert all({"max_tokens", "max_completion_tokens"} & set(request) for request in model.requests)


def test_a_model_that_thinks_has_an_allowance_beside_its_answer_which_is_reserved(
    model: ModelServer, streamed: bool
) -> None:
    for effort, most in ((None, 350), ("none", 50), ("low", 350)):
        rig = Rig(model, streamed=streamed, thinking_tokens=300, effort=lambda _, effort=effort: effort)
        rig.gateway = Gateway(
            rig.provider, Prices("openai", {}), [], 50, thinking_tokens=300, effort=lambda _, effort=effort: effort
        )
        rig.say("gpt-6-luna")
        assert model.requests[-1]["max_completion_tokens"] == most
        assert rig.gateway.worst_case("gpt-6-luna", 0) == Prices("openai", {}).most("gpt-6-luna", 0, most)
    rig.gateway = Gateway(rig.provider, Prices("openai", {}, free=["llama3"]), [], 50, thinking_tokens=300)
    rig.say("llama3")
    assert model.requests[-1]["max_tokens"] == 50


def test_a_thinking_model_that_is_left_without_a_figure_may_have_used_its_allowance(
    model: ModelServer, streamed: bool
) -> None:
    if not streamed:
        return
    rig = Rig(model, streamed=True, thinking_tokens=300)
    model.default = Reply(hang_after=1)
    answer = rig.gateway.answering(rig.meter, "gpt-6-luna", 30, streamed=True).stream(ASK)
    while not next(answer).text:  # the role may come in a packet of its own
        pass
    answer.close()  # type: ignore[attr-defined]
    assert rig.meter.calls[0].output == 300 + len("Hello")
