"""Code written for an OpenAI client runs on a session: its calls are metered, and OpenAI's client reads its answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from firelaunch.errors import BadRequest, ModelError
from firelaunch.llm.types import Chunk
from firelaunch.testing.apps import sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "The sum.",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
    },
}
Ask = Callable[[Callable[[Turn], str]], Any]


@pytest.fixture
def ask(make_app: Any, model: ModelServer) -> Ask:
    """Has a workflow that answers with the text of a function, and returns the response of one message."""

    def run(work: Callable[[Turn], str]) -> Any:
        def answer(turn: Turn) -> Iterator[Chunk]:
            yield Chunk(work(turn))

        app = make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
        ada = sign_in(app, "ada")
        response = ada.send(ada.new_chat(), "Hello")
        response.usage = ada.get("/v1/usage").get_json()
        return response

    return run


def say(turn: Turn, **more: Any) -> Any:
    return turn.llm.openai().chat.completions.create(
        model="chat", messages=[{"role": "user", "content": turn.text}], **more
    )


def test_a_completion_is_answered_and_settled_with_the_turn(ask: Ask, model: ModelServer) -> None:
    found: list[Any] = []

    def work(turn: Turn) -> str:
        found.append(say(turn, temperature=0.5, max_tokens=30))
        return str(found[0].choices[0].message.content)

    answer = ask(work).get_json()
    assert answer["message"]["text"] == "Hello from the model."
    assert (found[0].usage.prompt_tokens, found[0].usage.completion_tokens) == (10, 4)
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (10, 4)
    assert model.requests[0]["model"] == "gpt-5.4-mini"
    assert model.requests[0]["max_completion_tokens"] == 30


def test_a_stream_comes_in_pieces_with_its_usage(ask: Ask) -> None:
    def work(turn: Turn) -> str:
        pieces = list(say(turn, stream=True))
        assert pieces[-1].usage.completion_tokens == 4
        assert pieces[-2].choices[0].finish_reason == "stop"
        return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)

    assert ask(work).get_json()["message"]["text"] == "Hello from the model."


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_are_the_codes_own_to_run(ask: Ask, model: ModelServer, streamed: bool) -> None:
    model.script = [Reply((), calls=[("add", '{"a": 1, "b": 2}')], finish="tool_calls")]

    def work(turn: Turn) -> str:
        messages: list[Any] = [{"role": "user", "content": turn.text}]
        client = turn.llm.openai()
        if streamed:
            pieces = list(client.chat.completions.create(model="cheap", messages=messages, tools=[TOOL], stream=True))
            call = next(p.choices[0].delta.tool_calls[0] for p in pieces if p.choices and p.choices[0].delta.tool_calls)
        else:
            answer = client.chat.completions.create(
                model="cheap", messages=messages, tools=[TOOL], tool_choice="required"
            )
            call = answer.choices[0].message.tool_calls[0]
            assert answer.choices[0].finish_reason == "tool_calls"
        assert json.loads(call.function.arguments) == {"a": 1, "b": 2}
        function = {"name": "add", "arguments": call.function.arguments}
        messages += [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": call.id, "type": "function", "function": function}],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "3"},
        ]
        return str(
            client.chat.completions.create(model="cheap", messages=messages, tools=[TOOL]).choices[0].message.content
        )

    answer = ask(work)
    assert answer.get_json()["message"]["text"] == "Hello from the model."
    assert answer.usage["output_tokens"] == 8
    assert model.requests[0]["tool_choice"] == ("auto" if streamed else "required")
    assert model.requests[0]["tools"][0]["function"]["strict"] is False
    assert model.requests[1]["messages"][-1]["content"] == "3"


def test_a_parsed_answer_has_its_form(ask: Ask, model: ModelServer) -> None:
    class Order(BaseModel):
        item: str
        count: int

    model.script = [Reply(['{"item": "tea", "count": 2}'])]

    def work(turn: Turn) -> str:
        asked: Any = [{"role": "user", "content": "2 teas"}]
        answer = turn.llm.openai().chat.completions.parse(model="chat", messages=asked, response_format=Order)
        order = answer.choices[0].message.parsed
        assert order is not None
        return f"{order.count} {order.item}"

    assert ask(work).get_json()["message"]["text"] == "2 tea"


def test_asynchronous_clients_do_the_same_side_by_side(ask: Ask, model: ModelServer) -> None:
    async def all_of(turn: Turn) -> list[str]:
        client = turn.llm.openai_async()
        asked: Any = [{"role": "user", "content": turn.text}]
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="chat", messages=asked) for _ in range(3))
        )
        text = ""
        async for piece in await client.chat.completions.create(model="chat", messages=asked, stream=True):
            text += (piece.choices[0].delta.content or "") if piece.choices else ""
        return [str(answer.choices[0].message.content) for answer in answers] + [text]

    answer = ask(lambda turn: " ".join(asyncio.run(all_of(turn))))
    assert answer.get_json()["message"]["text"] == " ".join(["Hello from the model."] * 4)
    assert answer.usage["output_tokens"] == 16
    assert len(model.requests) == 4


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [(Fault(400), "model_refused", 502), (Reply((), finish="content_filter"), "answer_filtered", 502)],
)
def test_a_failure_of_the_model_ends_the_turn_with_its_own_code(
    ask: Ask, model: ModelServer, fault: Any, code: str, status: int
) -> None:
    model.default = fault
    answer = ask(lambda turn: str(say(turn)))
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (status, code)
    assert answer.usage["reserved_micro_usd"] == 0


def test_code_may_catch_the_failure_and_go_on(ask: Ask, model: ModelServer) -> None:
    model.script = [Fault(400)]

    def work(turn: Turn) -> str:
        try:
            return str(say(turn))
        except ModelError:
            return "It did not work."

    assert ask(work).get_json()["message"]["text"] == "It did not work."


def test_what_a_session_cannot_do_is_said(ask: Ask) -> None:
    def work(turn: Turn) -> str:
        with pytest.raises(openai.NotFoundError, match="chat completions alone"):
            turn.llm.openai().embeddings.create(model="chat", input="x")
        with pytest.raises(BadRequest, match="leave n out"):
            say(turn, n=2)
        with pytest.raises(ValueError, match="none of the models"):
            turn.llm.openai().chat.completions.create(model="gpt-unheard-of", messages=[])
        return "said"

    assert ask(work).get_json()["message"]["text"] == "said"


def test_an_agent_of_pydantic_ai_runs_inside_a_turn_and_its_books_are_the_models(ask: Ask, model: ModelServer) -> None:
    class Weather(BaseModel):
        city: str
        degrees: int

    model.script = [
        Reply((), (100, 20, 9), calls=[("temperature", '{"city": "Oslo"}')], finish="tool_calls"),
        Reply((), (150, 0, 12), calls=[("final_result", '{"city": "Oslo", "degrees": 7}')], finish="tool_calls"),
    ]

    def work(turn: Turn) -> str:
        provider = OpenAIProvider(openai_client=turn.llm.openai_async())
        agent = Agent(OpenAIChatModel("chat", provider=provider), output_type=Weather, instructions="Be brief.")

        @agent.tool_plain
        def temperature(city: str) -> int:
            """The temperature in a city."""
            return len(city) + 3

        weather = agent.run_sync(turn.text).output
        return f"{weather.city}: {weather.degrees}"

    answer = ask(work)
    assert answer.get_json()["message"]["text"] == "Oslo: 7"
    used = answer.get_json()["usage"]
    assert (used["input_tokens"], used["cached_input_tokens"], used["output_tokens"]) == (250, 20, 21)
    assert answer.usage["cost_micro_usd"] == used["cost_micro_usd"] > 0
    assert answer.usage["reserved_micro_usd"] == 0
    assert [message["role"] for message in model.requests[1]["messages"]] == ["system", "user", "assistant", "tool"]
