"""Whatever a model's server sends, each request ends, is settled once, and leaves nothing reserved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch.errors import ContentRefused, ModelUnavailable
from firelaunch.llm.moderation import OpenAIModeration
from firelaunch.llm.types import Chunk
from firelaunch.server.app import App
from firelaunch.settings.openai_server import OpenAIServer
from firelaunch.store.base import Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, User, events, sign_in
from firelaunch.testing.models import ModelServer, Raw
from firelaunch.testing.provider_output import documents, encoded
from firelaunch.turns.turn import Turn
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
SERVED = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
RICH = SETTINGS.replace('"0.50"', '"100000"').replace("requests_per_minute = 1000", "requests_per_minute = 1000000")
SCHEMA = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}

outputs = st.one_of(
    st.lists(documents, min_size=1, max_size=4).map(
        lambda found: [STREAM, *[b"data: " + encoded(event) + b"\n\n" for event in found], b"data: [DONE]\n\n"]
    ),
    documents.map(lambda found: [JSON, encoded(found)]),
    st.lists(st.binary(max_size=60), max_size=4).map(lambda found: [STREAM, *found]),
    st.lists(st.binary(max_size=60), max_size=4),
)
"""An answer's bytes: events or a document of nearly the right form, or nothing of the kind."""


def note(text: str) -> str:
    """Take a note."""
    return text


def plain(turn: Turn) -> Iterator[Chunk]:
    yield from turn.llm.stream([{"role": "user", "content": turn.text}])


def with_tools(turn: Turn) -> Iterator[Chunk]:
    yield from turn.llm.stream([{"role": "user", "content": turn.text}], tools=[note])


@pytest.fixture(params=[plain, with_tools], ids=["plain", "tools"])
def app(request: pytest.FixtureRequest, make_app: Any, model: ModelServer) -> App:
    made = make_app(RICH, answer=request.param, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    # Three tries with pauses between them would be most of the test's time.
    object.__setattr__(made.services.gateway, "pause", lambda *_: None)  # type: ignore[attr-defined]
    object.__setattr__(made.services.gateway.breaker, "_threshold", 10**9)  # type: ignore[attr-defined]
    return made


def reserved(user: User) -> tuple[int, int]:
    usage = user.get("/v1/usage").get_json()
    return usage["reserved_micro_usd"], usage["cost_micro_usd"]


@SERVED
@given(outputs)
def test_every_stream_ends_with_done_or_error_and_its_cost_is_settled(
    app: App, model: ModelServer, output: list[bytes]
) -> None:
    ada = sign_in(app, "ada")
    before = reserved(ada)[1]
    model.default = Raw(output)
    told = list(events(ada.stream(ada.new_chat(), "hello")))
    assert [name for name, _ in told].count("done") + [name for name, _ in told].count("error") == 1
    assert told[-1][0] in {"done", "error"}
    held, after = reserved(ada)
    assert held == 0
    assert 0 <= after < 2**63
    if told[-1][0] == "done":
        assert after - before == told[-1][1]["usage"]["cost_micro_usd"] > 0


@SERVED
@given(outputs)
@example([STREAM, b'data: {"choices": [{"delta": {"tool_calls": [{}]}}]}\n\n', b"data: [DONE]\n\n"])
def test_every_answer_in_one_piece_and_every_extraction_is_settled(
    app: App, model: ModelServer, output: list[bytes]
) -> None:
    ada = sign_in(app, "ada")
    model.default = Raw(output)
    for answer in (
        ada.send(ada.new_chat(), "hello"),
        ada.post("/v1/extract", {"text": "tea", "schema": SCHEMA}),
    ):
        assert answer.status_code in {200, 502, 503, 504}, answer.get_json()
        assert reserved(ada)[0] == 0


@pytest.mark.parametrize("streamed", [True, False])
def test_an_answer_that_the_database_refuses_is_paid_and_ends_with_an_error(
    app: App, model: ModelServer, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    commit = SQLiteStore.commit

    def refusing(store: SQLiteStore, writes: Any) -> Any:
        if any(isinstance(write, Set) and write.path.endswith("-a") for write in writes):
            raise OverflowError("a client library's own error")
        return commit(store, writes)

    monkeypatch.setattr(SQLiteStore, "commit", refusing)
    if streamed:
        assert list(events(ada.stream(chat, "hello")))[-1][0] == "error"
    else:
        assert ada.send(chat, "hello").status_code == 500
    held, cost = reserved(ada)
    assert (held, cost) == (0, 26)


@pytest.fixture
def site(tmp_path: Path, model: ModelServer) -> Iterator[Site]:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with embedded_site(tmp_path, started=False, workflow=with_tools, **environ) as made:
        object.__setattr__(made.services.gateway, "pause", lambda *_: None)
        yield made


@settings(SERVED, max_examples=15)
@given(outputs)
def test_every_input_of_a_batch_is_settled(site: Site, model: ModelServer, output: list[bytes]) -> None:
    ada = sign_in(site.app, "ada")
    model.default = Raw(output)
    body = {"inputs": [{"id": "1", "text": "tea"}], "budget_micro_usd": 10**9}
    job = ada.post("/v1/batches", body).get_json()["id"]
    for _ in range(3):
        site.runner.run(job)
    assert reserved(ada)[0] == 0


nonsense = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(st.sampled_from(["results", "flagged", "categories", "harassment"]), inner, max_size=3),
    ),
    max_leaves=6,
)


def passes(found: Any) -> bool:
    """Whether it says of the first result that nothing was flagged."""
    results = found.get("results") if isinstance(found, dict) else None
    first = results[0] if isinstance(results, list) and results else None
    return isinstance(first, dict) and first.get("flagged") is False


@settings(SERVED, max_examples=15)
@given(nonsense, st.sampled_from(["{}", "null", "[1", ""]))
def test_a_moderation_that_makes_no_sense_lets_nothing_pass(model: ModelServer, found: Any, broken: str) -> None:
    for body in (json.dumps(found), broken):
        model.moderation = body
        if body is not broken and passes(found):
            OpenAIModeration("k", OpenAIServer(model.base_url))("tea")
            continue
        with pytest.raises((ContentRefused, ModelUnavailable)):
            OpenAIModeration("k", OpenAIServer(model.base_url))("tea")
