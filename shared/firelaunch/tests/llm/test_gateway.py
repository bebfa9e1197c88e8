"""Retries, fallbacks and what each costs, against a server that fails as providers do."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from firelaunch.errors import ModelError, ModelRefused, ModelTimeout, ModelUnavailable
from firelaunch.llm.breaker import Breaker
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.prices import Prices
from firelaunch.llm.providers.offline import OfflineProvider
from firelaunch.llm.providers.openai_compatible import OpenAICompatibleProvider
from firelaunch.llm.providers.vertex import GoogleAccessToken
from firelaunch.llm.types import FinishedCall, Message, TokenCounts, text_bound, token_bound
from firelaunch.testing.models import Fault, ModelServer, Reply

ASK: list[Message] = [{"role": "user", "content": "Hello?"}]
MODEL, FALLBACK = "gpt-5.4-mini", "gpt-5-mini"


class Meter:
    """Takes down what the gateway tells it."""

    def __init__(self) -> None:
        self.covered: list[int] = []
        self.calls: list[tuple[str, TokenCounts, int]] = []
        self.ended: list[FinishedCall] = []

    def cover(self, micro_usd: int) -> None:
        self.covered.append(micro_usd)

    def release(self, micro_usd: int) -> None:
        assert micro_usd in self.covered

    def spend(self, call: FinishedCall) -> None:
        self.ended.append(call)
        if call.charged:
            self.calls.append((call.model, call.tokens, call.micro_usd))


class Rig:
    """A gateway on a model server; pauses are noted, not slept."""

    def __init__(self, model: ModelServer, **options: Any) -> None:
        self.pauses: list[float] = []
        self.meter = Meter()
        provider = OpenAICompatibleProvider("openai", "test-key", model.base_url)
        settings: dict[str, Any] = {
            "pause": lambda _, seconds: self.pauses.append(seconds),
            "jitter": lambda: 1.0,
        } | options
        self.gateway = Gateway(provider, Prices("openai", {}), [FALLBACK], 50, **settings)

    def say(self, *, streamed: bool, seconds: float = 30.0) -> str:
        answering = self.gateway.answering(self.meter, MODEL, seconds, streamed=streamed)
        return "".join(chunk.text for chunk in answering.stream(ASK))


pytestmark = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

TRANSIENT = [
    Fault(429), Fault(500), Fault(502), Fault(503), Fault(529), Fault(408), Fault(409), Fault(0),
    Fault(200, body="not json"), Fault(200, body="<html>", content_type="text/html"),
]  # fmt: skip


@pytest.mark.parametrize("fault", TRANSIENT, ids=lambda f: f"{f.status} {f.body or ''}")
def test_a_passing_fault_is_tried_again_with_the_same_model(model: ModelServer, fault: Fault, streamed: bool) -> None:
    model.script = [fault]
    rig = Rig(model)
    assert rig.say(streamed=streamed) == "Hello from the model."
    assert model.models_called() == [MODEL, MODEL]
    assert rig.pauses == [0.4]
    assert rig.meter.calls == [(MODEL, TokenCounts(10, 0, 4), 26)]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_fault_that_stays_goes_to_the_fallback_at_once(model: ModelServer, status: int, streamed: bool) -> None:
    model.script = [Fault(status)]
    rig = Rig(model)
    assert rig.say(streamed=streamed) == "Hello from the model."
    assert model.models_called() == [MODEL, FALLBACK]
    assert (rig.pauses, [call[0] for call in rig.meter.calls]) == ([], [FALLBACK])


def test_a_used_up_quota_is_not_tried_again_but_falls_back(model: ModelServer, streamed: bool) -> None:
    body = '{"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}}'
    model.script = [Fault(429, body=body)]
    assert Rig(model).say(streamed=streamed) == "Hello from the model."
    assert model.models_called() == [MODEL, FALLBACK]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_is_sent_once(model: ModelServer, status: int, streamed: bool) -> None:
    model.default = Fault(status)
    rig = Rig(model)
    with pytest.raises(ModelRefused):
        rig.say(streamed=streamed)
    assert model.models_called() == [MODEL]
    assert rig.meter.calls == []


def test_when_all_fail_each_model_was_tried_three_times(model: ModelServer, streamed: bool) -> None:
    model.default = Fault(503)
    rig = Rig(model)
    with pytest.raises(ModelUnavailable):
        rig.say(streamed=streamed)
    assert model.models_called() == [MODEL] * 3 + [FALLBACK] * 3
    assert rig.pauses == [0.4, 0.8, 0.4, 0.8]


def test_what_retry_after_asks_for_is_waited(model: ModelServer, streamed: bool) -> None:
    model.script = [Fault(429, {"Retry-After": "3"}), Fault(503, {"Retry-After": "soon"})]
    rig = Rig(model, jitter=lambda: 0.5)
    rig.say(streamed=streamed)
    assert rig.pauses == [3.2, 0.4]


def test_a_retry_after_that_is_a_date_is_waited(model: ModelServer, streamed: bool) -> None:
    date = (datetime.now(UTC) + timedelta(seconds=10)).replace(microsecond=0)
    model.script = [Fault(503, {"Retry-After": format_datetime(date, usegmt=True)})]
    rig = Rig(model, jitter=lambda: 0.0)
    most = (date - datetime.now(UTC)).total_seconds()
    rig.say(streamed=streamed)
    assert (date - datetime.now(UTC)).total_seconds() <= rig.pauses[0] <= most


def test_a_wait_beyond_the_requests_time_goes_to_the_fallback_instead(model: ModelServer, streamed: bool) -> None:
    model.script = [Fault(429, {"Retry-After": "60"})]
    rig = Rig(model)
    assert rig.say(streamed=streamed, seconds=20) == "Hello from the model."
    assert (rig.pauses, model.models_called()) == ([], [MODEL, FALLBACK])


def test_a_server_that_hangs_is_left_when_the_requests_time_is_up(model: ModelServer, streamed: bool) -> None:
    model.default = Fault(500, wait=20)
    began = time.monotonic()
    with pytest.raises(ModelTimeout):
        Rig(model).say(streamed=streamed, seconds=0.7)
    assert time.monotonic() - began < 10


def test_a_server_that_is_not_there_is_unavailable(streamed: bool) -> None:
    with ModelServer() as gone:
        pass
    with pytest.raises(ModelUnavailable):
        Rig(gone).say(streamed=streamed)


def test_a_failing_model_rests_and_its_fallback_answers_meanwhile(model: ModelServer, streamed: bool) -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0], threshold=3, rest=20.0)
    model.script = [Fault(503)] * 3
    rig = Rig(model, breaker=breaker)
    rig.say(streamed=streamed)
    rig.say(streamed=streamed)
    assert model.models_called() == [MODEL] * 3 + [FALLBACK] * 2
    now[0] = 21.0
    rig.say(streamed=streamed)
    assert model.models_called()[-1] == MODEL


def test_usage_that_the_provider_leaves_out_is_estimated_and_said_so(model: ModelServer, streamed: bool) -> None:
    model.default = Reply(usage=None)
    rig = Rig(model)
    text = rig.say(streamed=streamed)
    ((_, tokens, cost),) = rig.meter.calls
    assert tokens == TokenCounts(token_bound(ASK), 0, text_bound(text), estimated=True)
    assert cost > 0


def test_cached_tokens_are_priced_as_such(model: ModelServer, streamed: bool) -> None:
    model.script = [Reply(usage=(1000, 900, 10)), Reply(usage=(1000, 5000, 10))]
    rig = Rig(model)
    for _ in range(2):
        rig.say(streamed=streamed)
    prices = Prices("openai", {})
    assert (
        rig.meter.calls[0][2]
        == prices.cost(MODEL, TokenCounts(1000, 900, 10))
        < prices.cost(MODEL, TokenCounts(1000, 0, 10))
    )
    assert rig.meter.calls[1][1] == TokenCounts(1000, 1000, 10)


def test_a_call_is_covered_for_the_worst_that_it_may_cost(model: ModelServer, streamed: bool) -> None:
    rig = Rig(model)
    rig.say(streamed=streamed)
    assert rig.meter.covered == [Prices("openai", {}).cost(MODEL, TokenCounts(input=len("Hello?") + 8, output=50))]
    assert rig.meter.covered[0] >= rig.meter.calls[0][2]


def test_without_google_credentials_the_error_is_the_models_and_says_so(
    monkeypatch: pytest.MonkeyPatch, streamed: bool
) -> None:
    import google.auth
    import google.auth.exceptions

    def none(**_: Any) -> Any:
        raise google.auth.exceptions.DefaultCredentialsError("nothing found")

    monkeypatch.setattr(google.auth, "default", none)
    with pytest.raises(ModelError, match="no Google credentials"):
        GoogleAccessToken()()


def test_the_offline_model_says_the_same_each_time_and_that_it_is_offline(streamed: bool) -> None:
    gateway = Gateway(OfflineProvider(), Prices("offline", {}), [], 50)

    def say() -> str:
        return "".join(c.text for c in gateway.answering(Meter(), "offline", 30, streamed=streamed).stream(ASK))

    assert say() == say()
    assert "offline" in say()
    assert "Hello?" in say()
