"""docs/failures.md, row by row: the relay against a server that fails as providers do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from firelaunch.errors import BudgetExceeded, FirelaunchError, ModelError, ModelTimeout, ModelUnavailable
from firelaunch.llm.breaker import Breaker
from firelaunch.llm.failures import of_status, retry_after
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.types import FinishedCall, Message, TokenCounts, text_bound, token_bound
from firelaunch.scope import Scope
from firelaunch.testing.models import Fault, ModelServer, Raw, Reply
from hypothesis import given
from hypothesis import strategies as st

ASK: list[Message] = [{"role": "user", "content": "Hello?"}]
MODEL, FALLBACK = "gpt-5.4-mini", "gpt-5-mini"
DOCS = Path(__file__).parents[4] / "docs" / "failures.md"
PROMPT = TokenCounts(token_bound(ASK), 0, 0, estimated=True)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
CHUNKED = HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked")
WORD = json.dumps({"choices": [{"index": 0, "delta": {"content": "Well, "}, "finish_reason": None}]}).encode()
ROLE = json.dumps({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}).encode()
STOP = json.dumps({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}).encode()
USAGE = b'{"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}'
WORDS = TokenCounts(token_bound(ASK), 0, text_bound("Well, "), estimated=True)
USED = TokenCounts(10, 0, 4)


def chunked(*pieces: bytes) -> list[bytes]:
    return [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]


def stream(*events: bytes, hang: bool = False) -> Raw:
    return Raw([HEAD, *[b"data: " + event + b"\n\n" for event in events]], hang=hang)


def error(code: str) -> bytes:
    return json.dumps({"error": {"message": "no", "type": code, "code": code}}).encode()


QUOTA = '{"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}}'
ACTIONS: dict[str, Any] = {
    "HTTP 429, insufficient_quota": Fault(429, body=QUOTA),
    "takes no connection": None,
    "closes the connection without an answer": Fault(0),
    "answers with HTML": Fault(200, body="<html>", content_type="text/html"),
    "answers with what is no JSON": Fault(200, body="not json"),
    "sends no head for too long": Fault(500, wait=30),
    "sends no head until the request's time is up": Fault(500, wait=30),
    "sends a head, and no first token for too long": stream(ROLE, hang=True),
    "cuts the connection before the first token": stream(ROLE),
    "sends an error object before the first token": stream(ROLE, error("server_error")),
    "sends an error object: invalid_request_error": stream(error("invalid_request_error")),
    "sends an error object: insufficient_quota": stream(error("insufficient_quota")),
    "sends an event that is no JSON, before the first token": stream(b'{"choices": [{'),
    "cuts the connection after some words": stream(ROLE, WORD),
    "sends an error object after some words": stream(WORD, error("server_error")),
    "sends an event that is no JSON, after some words": stream(WORD, b"null"),
    "falls silent after some words": stream(WORD, hang=True),
    "ends without a word of why, after some words": Raw([CHUNKED, *chunked(b"data: " + WORD + b"\n\n"), b"0\r\n\r\n"]),
    "ends without [DONE], after it said why": stream(WORD, STOP, USAGE),
    "reports no usage": Reply(("Well, ",), usage=None),
    "refuses in words": Reply(("I cannot.",), refusal=True),
    "ends at the limit of tokens": Reply(("Well, ",), finish="length"),
    "ends with content_filter and no word": Reply((), finish="content_filter"),
    "thinks until the limit of tokens, and says no word": Reply((), finish="length"),
    "ends without a word": Reply(("\n",), finish="stop"),
    "ends with an error and no word": Reply((), finish="error"),
}
OUTCOME = {"nothing": None, "the prompt": PROMPT, "the prompt, the words": WORDS, "its usage": USED}


TRIES = {"no": 1, "once": 2, "yes": 3}


@dataclass(frozen=True)
class Row:
    """A row of the table, in one way of calling."""

    what: str
    streamed: bool
    tries: int
    elsewhere: bool
    ends: str
    billed: str

    @property
    def action(self) -> Any:
        kind, _, status = self.what.partition(" ")
        return Fault(int(status)) if kind == "HTTP" and status.isdigit() else ACTIONS[self.what]


def rows() -> Iterator[Row]:
    lines = DOCS.read_text().split("| --- | --- | --- | --- | --- | --- |\n")[1].split("\n\n")[0].splitlines()
    for line in lines:
        what, how, again, elsewhere, ends, billed = (cell.strip() for cell in line.strip("|").split("|"))
        for streamed in {"both": (True, False), "stream": (True,), "whole": (False,)}[how]:
            yield Row(what, streamed, TRIES[again], elsewhere == "yes", ends.strip("`"), billed)


ROWS = list(rows())
FAILING = [row for row in ROWS if row.ends != "the answer"]


class Meter:
    def __init__(self) -> None:
        self.calls: list[tuple[str, TokenCounts]] = []

    def cover(self, micro_usd: int) -> None:
        assert micro_usd > 0

    def release(self, micro_usd: int) -> None: ...

    def spend(self, call: FinishedCall) -> None:
        if call.charged:
            assert call.micro_usd == Prices("openai", {}).cost(call.model, call.tokens)
            self.calls.append((call.model, call.tokens))

    def reuse(self, model: str) -> None:
        raise AssertionError(model)


class Rig:
    """A gateway on a server, with short patience; pauses are noted, not slept."""

    def __init__(self, model: ModelServer, *, streamed: bool, **options: Any) -> None:
        self.pauses: list[float] = []
        self.meter = Meter()
        self.streamed = streamed
        self.said: list[str] = []
        settings: dict[str, Any] = {
            "pause": lambda _, seconds: self.pauses.append(seconds),
            "jitter": lambda: 1.0,
        }
        provider = OpenAICompatibleProvider("openai", "test-key", model.base_url)
        self.gateway = Gateway(provider, Prices("openai", {}), [FALLBACK], 50, **settings | options)

    def say(self, seconds: float = 30.0) -> str:
        answering = self.gateway.answering(self.meter, MODEL, seconds, streamed=self.streamed)
        for chunk in answering.stream(ASK):
            self.said.append(chunk.text)
        return "".join(self.said)


def seconds_for(row: Row) -> float:
    return 1.0 if "request's time" in row.what else 30.0


def patience_for(row: Row) -> dict[str, float]:
    first = 0.3 if row.what.startswith("sends no head") else 30.0
    between = 0.3 if "falls silent" in row.what or "no first token" in row.what else 30.0
    return {"first_token_seconds": first, "between_tokens_seconds": between}


def test_every_fault_that_the_tests_know_is_a_row_of_the_table() -> None:
    assert set(ACTIONS) <= {row.what for row in ROWS}
    assert len(ROWS) > 60


@pytest.mark.parametrize("row", FAILING, ids=lambda row: f"{row.what} {'streamed' if row.streamed else 'whole'}")
def test_a_fault_that_stays_ends_as_the_table_says(model: ModelServer, row: Row) -> None:
    server = ModelServer() if row.action is None else model
    if row.action is None:
        with server:
            pass
    else:
        model.default = row.action
    rig = Rig(server, streamed=row.streamed, **patience_for(row))
    with pytest.raises(ModelError) as caught:
        rig.say(seconds_for(row))
    assert caught.value.code == row.ends
    if row.action is not None:
        tries = [MODEL] * row.tries
        assert model.models_called() == tries + ([FALLBACK] * len(tries) if row.elsewhere else [])
    billed = OUTCOME[row.billed]
    assert rig.meter.calls == ([] if billed is None else [(name, billed) for name in model.models_called()])


@pytest.mark.parametrize(
    "row",
    [row for row in FAILING if row.action is not None],
    ids=lambda row: f"{row.what} {'streamed' if row.streamed else 'whole'}",
)
def test_a_fault_that_passes_is_got_over_as_the_table_says(model: ModelServer, row: Row) -> None:
    model.script = [row.action]
    rig = Rig(model, streamed=row.streamed, **patience_for(row))
    if row.tries == 1 and not row.elsewhere:
        with pytest.raises(ModelError):
            rig.say(seconds_for(row))
        assert model.models_called() == [MODEL]
        return
    assert rig.say().lstrip() == "Hello from the model."
    assert model.models_called() == [MODEL, MODEL if row.tries > 1 else FALLBACK]
    billed = OUTCOME[row.billed]
    assert rig.meter.calls[:-1] == ([] if billed is None else [(MODEL, billed)])
    assert rig.meter.calls[-1][1] == USED


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.ends == "the answer"], ids=lambda row: f"{row.what} {row.streamed}"
)
def test_an_unusual_end_is_an_answer_and_paid(model: ModelServer, row: Row) -> None:
    model.default = row.action
    rig = Rig(model, streamed=row.streamed)
    text = rig.say()
    assert model.models_called() == [MODEL]
    ((_, tokens),) = rig.meter.calls
    assert tokens == OUTCOME[row.billed]
    if row.billed != "its usage":
        assert tokens.output == text_bound(text)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"}, 62.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9" * 5_000 + "s"}, None),
        ({"retry-after": "9" * 5_000}, None),
        ({"retry-after-ms": "1e999"}, None),
        ({"retry-after": "1", "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "60s"}, 1.0),
        ({}, None),
    ],
)
def test_what_a_provider_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@given(
    st.dictionaries(
        st.sampled_from(
            ["retry-after", "retry-after-ms"]
            + [f"x-ratelimit-{word}-{kind}" for word in ("reset", "remaining") for kind in ("requests", "tokens")]
        ),
        st.one_of(st.text(max_size=20), st.floats().map(str), st.just("0"), st.datetimes().map(str)),
    )
)
def test_no_header_of_a_provider_makes_the_reading_fail(headers: dict[str, str]) -> None:
    found = retry_after(headers)
    assert found is None or 0 <= found < 1e9


@given(st.integers(100, 999), st.one_of(st.none(), st.text(max_size=30), st.integers()))
def test_every_status_amounts_to_some_error(status: int, code: Any) -> None:
    assert isinstance(of_status(status, code, {}, "x"), ModelError)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_pause_is_what_the_provider_asks_for_and_a_random_part_on_top(model: ModelServer, streamed: bool) -> None:
    date = (datetime.now(UTC) + timedelta(seconds=10)).replace(microsecond=0)
    limits = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "7s"}
    for headers, pause in [
        ({"Retry-After": "3"}, 3.2),
        ({"Retry-After": format_datetime(date, usegmt=True)}, None),
        ({"retry-after-ms": "1500"}, 1.7),
        ({"x-ms-retry-after-ms": "1500"}, 1.7),
        ({"Retry-After": "0m5s"}, 5.2),
        (limits, 7.2),
    ]:
        model.script = [Fault(429, headers)]
        rig = Rig(model, streamed=streamed, jitter=lambda: 0.5)
        most = pause or 0.2 + (date - datetime.now(UTC)).total_seconds()
        rig.say()
        least = pause or 0.2 + (date - datetime.now(UTC)).total_seconds()
        assert least <= rig.pauses[0] <= most


def test_jitter_is_full(model: ModelServer) -> None:
    for part in (0.0, 0.25, 1.0):
        model.script = [Fault(500), Fault(500)]
        rig = Rig(model, streamed=True, jitter=lambda part=part: part)  # type: ignore[misc]
        rig.say()
        assert rig.pauses == [part * 0.4, part * 0.8]


def test_all_tries_share_one_time_budget(model: ModelServer) -> None:
    model.default = Fault(503, {"Retry-After": "8"})
    # A second pause, of 48 s, is too long however fast the first try was, and the first pause, of 28 s, is not.
    rig = Rig(model, streamed=True, jitter=lambda: 50.0)
    with pytest.raises(ModelUnavailable):
        rig.say(seconds=48)
    assert rig.pauses == [28.0, 28.0]
    assert model.models_called() == [MODEL, MODEL, FALLBACK, FALLBACK]  # the pauses are not slept here


def test_a_try_that_was_given_up_on_is_paid_and_the_next_is_made_only_if_it_is_covered(model: ModelServer) -> None:
    model.script = [stream(ROLE, hang=True)]
    rig = Rig(model, streamed=True, between_tokens_seconds=0.3)

    def cover(micro_usd: int) -> None:
        if rig.meter.calls:
            raise BudgetExceeded

    rig.meter.cover = cover  # type: ignore[method-assign]
    with pytest.raises(ModelTimeout):
        rig.say()
    assert rig.meter.calls == [(MODEL, PROMPT)]
    assert model.models_called() == [MODEL]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_after_a_rest_just_one_of_many_threads_is_the_probe() -> None:
    clock = Clock()
    breaker = Breaker(clock, threshold=5, rest=20.0)
    for _ in range(5):
        assert breaker.allows("a")
        breaker.failed("a")
    assert not breaker.allows("a")
    assert breaker.allows("b")
    for _ in range(3):
        clock.now += 21
        found: list[bool] = []
        gate = threading.Barrier(16)

        def ask(found: list[bool] = found, gate: threading.Barrier = gate) -> None:
            gate.wait()
            found.append(breaker.allows("a"))

        threads = [threading.Thread(target=ask) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found.count(True) == 1
        breaker.failed("a")
        assert not breaker.allows("a")
    clock.now += 21
    assert breaker.allows("a")
    breaker.succeeded("a")
    assert all(breaker.allows("a") for _ in range(10))


@given(st.lists(st.sampled_from(["ask", "failed", "succeeded", "rest"]), max_size=60))
def test_a_breaker_never_stays_open_for_ever_and_never_opens_early(steps: Sequence[str]) -> None:
    clock = Clock()
    breaker = Breaker(clock, threshold=3, rest=10.0)
    in_a_row = 0
    for step in steps:
        if step == "ask":
            assert breaker.allows("m") or in_a_row >= 3
        elif step == "failed":
            in_a_row += 1
            breaker.failed("m")
        elif step == "succeeded":
            in_a_row = 0
            breaker.succeeded("m")
        else:
            clock.now += 11
            assert breaker.allows("m")


@given(st.lists(st.sampled_from(["ada", "bob", None]), max_size=12))
def test_nonsense_that_one_caller_alone_gets_closes_no_model_off_for_all(callers: Sequence[str | None]) -> None:
    breaker = Breaker(Clock(), threshold=4)
    for caller in callers:
        breaker.failed("m", caller)
    counted = len({caller for caller in callers if caller}) + callers.count(None)
    assert breaker.allows("m") is (counted < 4)


@pytest.mark.parametrize("nonsense", ["answers with HTML", "sends an event that is no JSON, before the first token"])
def test_a_server_that_sends_nonsense_to_one_user_goes_on_answering_the_others(
    model: ModelServer, nonsense: str
) -> None:
    rig = Rig(model, streamed=True)

    def say(uid: str) -> str:
        owner = Scope("my-app", uid)
        answering = rig.gateway.answering(rig.meter, MODEL, 30.0, streamed=True, owner=owner)
        return "".join(chunk.text for chunk in answering.stream(ASK))

    model.script = [ACTIONS[nonsense]] * 30
    for _ in range(5):  # three tries each, of the model and of its fallback
        with pytest.raises(ModelUnavailable):
            say("ada")
    assert say("bob") == "Hello from the model."
    assert model.models_called()[-1] == MODEL


def test_a_probe_that_nobody_heard_the_end_of_is_followed_by_another(model: ModelServer) -> None:
    clock = Clock()
    rig = Rig(model, streamed=True, breaker=Breaker(clock, threshold=1, rest=5.0))
    model.script = [Fault(400), Fault(500), Fault(500), Fault(500)]
    with pytest.raises(FirelaunchError):
        rig.say()
    assert rig.gateway.breaker.allows(MODEL)  # a refusal is not the provider's fault
    rig.say()
    assert not rig.gateway.breaker.allows(MODEL)
    clock.now = 6.0
    probe = rig.gateway.answering(rig.meter, MODEL, 30, streamed=True).stream(ASK)
    next(probe)
    probe.close()  # type: ignore[attr-defined]
    assert not rig.gateway.breaker.allows(MODEL)
    clock.now = 12.0
    assert rig.gateway.breaker.allows(MODEL)


def test_while_every_model_rests_the_answer_says_when_to_come_back(model: ModelServer) -> None:
    rig = Rig(model, streamed=True, breaker=Breaker(Clock(), threshold=1, rest=5.0))
    model.default = Fault(500)
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            rig.say()
    with pytest.raises(ModelUnavailable) as caught:
        rig.say()
    assert caught.value.retry_after == 5
