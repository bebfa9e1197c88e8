"""Calls over ``/mcp`` that take their time: signs of life, cancellation, and questions that are sent again.

Real clients over real sockets, against two instances of one app that share a database.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from firelaunch.testing.models import ModelServer, Raw, Reply
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from support import Server, User, copy_template, served

WAIT_SECONDS = 2
MODES = ["2026-07-28", "legacy"]
SLOW = Reply(words=("Slow", " but", " whole."), pace=0.8)
_LATE = [{"choices": [{"delta": {"content": "Late."}}]}, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
_EVENTS = "".join(
    f"data: {json.dumps(each)}\n\n"
    for each in [*_LATE, {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}]
)
SILENT = Raw(
    [f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{_EVENTS}data: [DONE]\n\n".encode()], pace=3.2
)
HANGING = Reply(words=("Begun", " and", " never ended"), hang_after=2)
BLOCKING = """
from firelaunch import *
import time

def rest() -> str:
    'Rest for a while.'
    time.sleep(3.2)
    return "rested"

def answer(turn):
    if turn.text.startswith("block"):
        time.sleep(3.2)
    yield from turn.llm.stream([{"role": "user", "content": turn.text}])
    if turn.text.startswith("after"):
        time.sleep(3.2)
"""


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    with ModelServer() as found:
        yield found


@pytest.fixture(scope="module")
def instances(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    folder = copy_template(tmp_path_factory.mktemp("mcp-calls") / "my-app")
    settings = folder / "firelaunch.toml"
    text = settings.read_text().replace("requests_per_minute = 20", "requests_per_minute = 1000")
    settings.write_text(f"{text}\n[mcp]\nwait_seconds = {WAIT_SECONDS}\n")
    (folder / "app" / "workflow.py").write_text(BLOCKING)
    init = folder / "app" / "__init__.py"
    init.write_text(init.read_text().replace("App(__name__)", "App(__name__, mcp=[workflow.rest])"))
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with served(folder, **environ) as one, served(folder, **environ) as two:
        yield [one, two]


@asynccontextmanager
async def agent(server: Server, user: User, mode: str, **options: Any) -> AsyncIterator[Client]:
    """MCP's own client; ``timeout`` is httpx's: the longest silence, in seconds."""
    timeout = options.pop("timeout", 30)
    async with (
        httpx2.AsyncClient(headers=user.headers, trust_env=False, timeout=timeout) as http,
        Client(streamable_http_client(f"{server.url}/mcp", http_client=http), mode=mode, **options) as found,
    ):
        yield found


def message(method: str, params: Any, message_id: Any = None) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "method": method, "params": params}
    return body if message_id is None else {**body, "id": message_id}


def call(server: Server, user: User, body: Any, session: str = "") -> httpx.Response:
    headers = {**user.headers, "Accept": "application/json, text/event-stream"}
    return httpx.post(f"{server.url}/mcp", json=body, headers={**headers, "Mcp-Session-Id": session}, timeout=30)


def ask(text: str, message_id: Any = 1, **more: Any) -> dict[str, Any]:
    return message("tools/call", {"name": "ask", "arguments": {"text": text}, **more}, message_id)


def cancel(message_id: Any, reason: str = "the user wants it no more") -> dict[str, Any]:
    return message("notifications/cancelled", {"requestId": message_id, "reason": reason})


def last_of(answer: httpx.Response) -> dict[str, Any]:
    """The answer of a stream: its last message."""
    assert answer.headers["Content-Type"].startswith("text/event-stream"), answer.text
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("data: "))
    return found


class Asked(threading.Thread):
    """A question that is being asked, from another thread."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(daemon=True)
        self.arguments, self.more = arguments, more
        self.start()

    def run(self) -> None:
        self.response = call(*self.arguments, **self.more)

    def result(self) -> dict[str, Any]:
        self.join(30)
        result: dict[str, Any] = last_of(self.response)["result"]["structuredContent"]
        return result

    def unanswered(self) -> bool:
        """Whether the stream ended with no answer."""
        self.join(30)
        return '"result"' not in self.response.text


def until(true: Callable[[], Any]) -> None:
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def settled(user: User) -> dict[str, Any]:
    """The user's day, once nothing is reserved any longer."""
    until(lambda: user.call("GET", "/v1/usage").json()["reserved_micro_usd"] == 0)
    day: dict[str, Any] = user.call("GET", "/v1/usage").json()
    return day


def test_a_call_outlives_clients_that_bear_no_silence_also_while_the_apps_own_code_blocks(
    instances: list[Server], model: ModelServer
) -> None:
    """Silent for longer than a client waits, 2.6 seconds: the model, the workflow, a followed answer, a tool."""
    model.default = SILENT
    told: dict[str, list[float]] = {}

    async def one(mode: str, text: str) -> str:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            told.setdefault(f"{mode} {text}", []).append(progress)

        user = instances[0].sign_in(f"quiet-{mode}")
        async with agent(instances[0], user, mode, timeout=2.6) as found:
            answer = await found.call_tool("ask", {"text": text}, progress_callback=on_progress)
            rested = await found.call_tool("rest", {}) if text == "wait" else None
        assert not answer.is_error, answer
        assert rested is None or rested.content[0].text == "rested"
        return str(answer.structured_content["text"])

    async def all_of_them() -> list[str]:
        return await asyncio.gather(
            *(one(mode, text) for mode in MODES for text in ("wait", "block", "block", "after"))
        )

    assert asyncio.run(all_of_them()) == ["Late."] * 8
    for values in told.values():
        assert len(values) >= 2
    for mode in MODES:
        assert told[f"{mode} wait"] == sorted(set(told[f"{mode} wait"])), "progress must grow"


@pytest.mark.parametrize("mode", MODES)
def test_a_question_that_is_sent_again_after_a_time_out_is_answered_and_paid_once(
    mode: str, instances: list[Server], model: ModelServer
) -> None:
    model.default, asked = SLOW, len(model.requests)
    user = instances[0].sign_in(f"patient-{mode}")

    async def work() -> Any:
        async with agent(instances[0], user, mode) as first:
            with pytest.raises(MCPError):
                await first.call_tool("ask", {"text": "Twice?"}, read_timeout_seconds=0.5)
            with pytest.raises(MCPError):
                await first.call_tool("ask", {"text": "Twice?"}, read_timeout_seconds=0.5)
        # Another session, at another instance.
        async with agent(instances[1], user, mode) as again:
            return await again.call_tool("ask", {"text": "Twice?"})

    answer = asyncio.run(work()).structured_content
    assert (answer["text"], answer["status"]) == ("Slow but whole.", "complete")
    assert len(model.requests) == asked + 1
    day = settled(user)
    assert (day["requests"], day["cost_micro_usd"]) == (1, answer["usage"]["cost_micro_usd"])
    assert user.texts(answer["chat_id"]) == ["Twice?", "Slow but whole."]


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_came_too_late_for_its_client_is_given_when_it_is_asked_for_again(
    mode: str, instances: list[Server], model: ModelServer
) -> None:
    model.default, asked = Reply(words=("a", "b"), pace=0.3), len(model.requests)
    user = instances[0].sign_in(f"late-{mode}")

    async def work() -> list[Any]:
        async with agent(instances[0], user, mode) as found:
            with pytest.raises(MCPError):
                await found.call_tool("ask", {"text": "Late?"}, read_timeout_seconds=0.5)
            await asyncio.to_thread(settled, user)
            return [(await found.call_tool("ask", {"text": "Late?"})).structured_content for _ in range(2)]

    answers = asyncio.run(work())
    assert [each["text"] for each in answers] == ["ab", "ab"]
    assert user.texts(answers[0]["chat_id"]) == ["Late?", "ab"]
    assert answers[0]["chat_id"] != answers[1]["chat_id"], "once the client has the answer, the question is a new one"
    assert (len(model.requests), settled(user)["requests"]) == (asked + 2, 2)


def test_the_same_question_after_its_answer_is_a_new_one(instances: list[Server], model: ModelServer) -> None:
    model.default = Reply()
    user = instances[0].sign_in("curious")
    found = [last_of(call(instances[0], user, ask("Again", n)))["result"]["structuredContent"] for n in range(5)]
    assert len({each["request_id"] for each in found}) == len({each["chat_id"] for each in found}) == 5
    assert settled(user)["requests"] == 5


def test_a_key_makes_calls_one_and_keeps_the_same_questions_apart(instances: list[Server], model: ModelServer) -> None:
    model.default, asked = SLOW, len(model.requests)
    user = instances[0].sign_in("keys")
    keys = ["a", "a", "b"]
    calls = [
        Asked(instances[n % 2], user, ask("Same", n, _meta={"firelaunch/idempotency-key": key}))
        for n, key in enumerate(keys)
    ]
    first, same, other = (each.result()["request_id"] for each in calls)
    assert first == same != other
    replayed = last_of(call(instances[0], user, ask("Same", 9, _meta={"firelaunch/idempotency-key": "a"})))
    assert replayed["result"]["structuredContent"]["request_id"] == first
    assert len(model.requests) == asked + 2
    other_text = call(instances[0], user, ask("Other", 9, _meta={"firelaunch/idempotency-key": "a"})).json()
    assert json.loads(other_text["result"]["content"][0]["text"])["error"]["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("session", ["s1", ""])
def test_a_cancelled_call_ends_and_settles_also_at_another_instance_and_nobody_elses_does(
    session: str, instances: list[Server], model: ModelServer
) -> None:
    model.default, asked, left = HANGING, len(model.requests), model.hung_up
    ada, bob = (instances[0].sign_in(f"{name}-cancels-{session}") for name in ("ada", "bob"))
    of_ada, of_bob = (Asked(instances[0], user, ask("Go on", 7), session=session) for user in (ada, bob))
    until(lambda: len(model.requests) == asked + 2)
    until(lambda: ada.call("GET", "/v1/chats").json()["items"])
    for wrong in (8, "7", 7.0, None, True, [7]):
        call(instances[1], ada, cancel(wrong), session)
    call(instances[1], ada, cancel(7), "another session")
    time.sleep(1.5)  # a wrong one would be noticed at the next checkpoint
    assert model.hung_up == left
    assert call(instances[1], ada, cancel(7), session).status_code == 202
    assert of_ada.unanswered()
    (chat,) = ada.call("GET", "/v1/chats").json()["items"]
    (_, kept) = ada.call("GET", f"/v1/chats/{chat['id']}").json()["messages"]
    assert (kept["text"], kept["status"]) == ("Begun and", "incomplete")
    until(lambda: model.hung_up == left + 1)
    day = settled(ada)
    assert day["cost_micro_usd"] == kept["usage"]["cost_micro_usd"] > 0
    assert of_bob.is_alive(), "another user's call has the same id, and goes on"
    call(instances[1], bob, cancel(7), session)
    assert of_bob.unanswered()
    # Asked again, it is answered anew under the same message.
    model.default = Reply()
    again = last_of(call(instances[0], ada, ask("Go on", 9), session))["result"]["structuredContent"]
    assert ada.texts(again["chat_id"]) == ["Go on", "Hello from the model."]
    assert settled(ada)["cost_micro_usd"] == day["cost_micro_usd"] + again["usage"]["cost_micro_usd"]


def test_a_flood_of_cancellations_keeps_no_answer_from_settling_once(
    instances: list[Server], model: ModelServer
) -> None:
    model.default, asked = HANGING, len(model.requests)
    user = instances[0].sign_in("flood")
    asking = Asked(instances[0], user, ask("Go on", 1), session="f")
    until(lambda: len(model.requests) == asked + 1)
    until(lambda: user.call("GET", "/v1/chats").json()["items"])
    stop = threading.Event()

    def flood(server: Server, reason: str) -> None:
        with httpx.Client(headers={**user.headers, "Mcp-Session-Id": "f"}, timeout=30) as client:
            while not stop.is_set():
                client.post(f"{server.url}/mcp", json=cancel(1, reason))

    reasons = ["no more", "Request timed out"]
    floods = [threading.Thread(target=flood, args=(each, reason)) for each in instances for reason in reasons]
    for each in floods:
        each.start()
    try:
        assert asking.unanswered()
        day = settled(user)
    finally:
        stop.set()
        for each in floods:
            each.join()
    (chat,) = user.call("GET", "/v1/chats").json()["items"]
    kept = user.call("GET", f"/v1/chats/{chat['id']}").json()["messages"][-1]
    assert day["cost_micro_usd"] == kept["usage"]["cost_micro_usd"] > 0


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_that_nobody_waits_for_ends_after_a_while_and_is_paid_as_far_as_it_came(
    mode: str, instances: list[Server], model: ModelServer
) -> None:
    model.default, left = HANGING, model.hung_up
    user = instances[0].sign_in(f"gone-{mode}")

    async def work() -> None:
        async with agent(instances[0], user, mode) as found:
            with suppress(MCPError):
                await found.call_tool("ask", {"text": "Nobody waits"}, read_timeout_seconds=1)

    asyncio.run(work())
    until(lambda: model.hung_up == left + 1)
    assert settled(user)["cost_micro_usd"] > 0
    (chat,) = user.call("GET", "/v1/chats").json()["items"]
    assert user.texts(chat["id"]) == ["Nobody waits", "Begun and"]


def test_a_client_that_cancels_its_own_call_ends_it(instances: list[Server], model: ModelServer) -> None:
    model.default, asked, left = HANGING, len(model.requests), model.hung_up
    user = instances[0].sign_in("own-cancel")

    async def work() -> None:
        async with agent(instances[0], user, "legacy") as found, anyio.create_task_group() as tasks:
            tasks.start_soon(found.call_tool, "ask", {"text": "Stop me"})
            await asyncio.to_thread(until, lambda: len(model.requests) == asked + 1)
            tasks.cancel_scope.cancel()

    asyncio.run(work())
    until(lambda: model.hung_up == left + 1)
    assert settled(user)["requests"] == 1
