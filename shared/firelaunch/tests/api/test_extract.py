"""Data out of text: what the model is asked, what comes back, what it costs, and what is refused before it costs."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from fakes.clocks import half_past_noon
from firelaunch.errors import BudgetExceeded, ExtractionFailed
from firelaunch.llm.types import TokenCounts
from firelaunch.metering.call_records import calls_of_request
from firelaunch.scope import Scope
from firelaunch.server.app import App
from firelaunch.store.base import Set
from firelaunch.testing.apps import SETTINGS, User, sign_in, write_app
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn
from pydantic import BaseModel, Field

ORDER = {
    "type": "object",
    "properties": {
        "item": {"type": "string", "minLength": 2},
        "count": {"type": "integer", "minimum": 1},
        "colour": {"type": "string"},
    },
    "required": ["item", "count"],
}
TEXT = "Please send 12 boxes of tea to Ada by Friday."
GOOD = {"item": "box of tea", "count": 12, "colour": None}


class Order(BaseModel):
    item: str = Field(min_length=2)
    count: int
    colour: str = "none"


def says(data: Any, **more: Any) -> Reply:
    return Reply([data if isinstance(data, str) else json.dumps(data)], **{"usage": (100, 0, 20), **more})


def extract(user: User, schema: Any = ORDER, text: Any = TEXT) -> Any:
    return user.post("/v1/extract", {"text": text, "schema": schema})


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.get_json()["error"]["code"]


def day(app: Any, uid: str) -> Any:
    services = app.services
    scope = services.store.scope.of(uid)
    return services.store.get(scope.usage(services.metering.today())).data


def price(app: Any, *calls: tuple[str, TokenCounts]) -> int:
    return sum(app.services.gateway.prices.cost(model, tokens) for model, tokens in calls)


ONE = TokenCounts(100, 0, 20)


def test_a_text_comes_back_as_data_of_the_schema_with_its_cost(model_app: App, model: ModelServer) -> None:
    model.default = says(GOOD)
    answer = extract(sign_in(model_app, "ada"))
    assert answer.status_code == 200
    body = answer.get_json()
    assert body["data"] == {"item": "box of tea", "count": 12}
    assert body["usage"]["cost_micro_usd"] == price(model_app, ("gpt-5.4-mini", ONE)) > 0
    (asked,) = model.requests
    assert asked["messages"][-1] == {"role": "user", "content": TEXT}
    assert asked["response_format"]["json_schema"]["strict"] is True
    assert "stream" not in asked
    usage = day(model_app, "ada")
    assert usage["cost_micro_usd"] == body["usage"]["cost_micro_usd"]
    assert usage["reservations"] == {}
    record = model_app.services.store.get(model_app.services.store.scope.request(body["request_id"])).data  # type: ignore[attr-defined]
    assert (record["kind"], record["state"], record["outcome"], record["uid"]) == (
        "extract",
        "settled",
        "answered",
        "ada",
    )
    assert record["usage"] == body["usage"]
    assert TEXT not in str(record)


def test_an_answer_that_does_not_fit_is_sent_back_once_with_what_is_wrong_and_both_are_paid(
    model_app: App, model: ModelServer
) -> None:
    model.script = [says({"item": "x", "count": 0, "colour": None}), says(GOOD)]
    body = extract(sign_in(model_app, "ada")).get_json()
    assert body["data"]["count"] == 12
    assert body["usage"]["cost_micro_usd"] == price(model_app, ("gpt-5.4-mini", ONE), ("gpt-5.4-mini", ONE))
    assert body["usage"]["input_tokens"] == 200
    again = model.requests[1]["messages"]
    assert again[:2] == model.requests[0]["messages"]
    assert again[2]["role"] == "assistant"
    assert "/item" in again[3]["content"]
    assert "/count" in again[3]["content"]
    assert model.requests[1]["response_format"] == model.requests[0]["response_format"]


@pytest.mark.parametrize(
    ("replies", "calls"),
    [
        ([says({"item": 1}), says("not json")], 2),
        ([says(""), says("[]")], 2),
        ([says('{"item": "te', finish="length")], 1),
        ([says("I will not.", refusal=True)], 1),
        ([says("", finish="content_filter")], 1),
    ],
)
def test_an_answer_that_will_not_fit_is_a_typed_failure_and_paid(
    model_app: App, model: ModelServer, replies: list[Reply], calls: int
) -> None:
    model.script, model.default = list(replies), Fault(400)
    answer = extract(sign_in(model_app, "ada"))
    assert code(answer) == (502, "extraction_failed")
    assert "I will not" not in answer.get_data(as_text=True)
    assert len(model.requests) == calls
    usage = day(model_app, "ada")
    assert usage["cost_micro_usd"] == price(model_app, *[("gpt-5.4-mini", ONE)] * calls)
    assert usage["reservations"] == {}


def test_it_is_retried_and_falls_back_like_a_message(model_app: App, model: ModelServer) -> None:
    model.script = [Fault(401), says({"item": 1}), says(GOOD)]
    body = extract(sign_in(model_app, "ada")).get_json()
    assert model.models_called() == ["gpt-5.4-mini", "gpt-5-mini", "gpt-5-mini"]
    assert body["usage"]["cost_micro_usd"] == price(model_app, ("gpt-5-mini", ONE), ("gpt-5-mini", ONE))
    assert body["usage"]["model"] == "gpt-5-mini"


def test_when_no_model_answers_nothing_is_owed_and_nothing_held(model_app: App, model: ModelServer) -> None:
    model.default = Fault(401)
    assert code(extract(sign_in(model_app, "ada"))) == (502, "model_failed")
    usage = day(model_app, "ada")
    assert (usage["cost_micro_usd"], usage["reservations"], usage["requests"]) == (0, {}, 1)


@pytest.mark.parametrize(
    ("schema", "text", "status", "error"),
    [
        ({"type": "array"}, TEXT, 400, "invalid_schema"),
        ({"type": "object", "properties": {"a": {"$ref": "http://localhost/x"}}}, TEXT, 400, "invalid_schema"),
        ({"type": "object", "properties": {"a": {"const": float("nan")}}}, TEXT, 400, "invalid_schema"),
        ({**ORDER, "description": "x" * 20_000}, TEXT, 413, "too_large"),
        (ORDER, "x" * 16_001, 413, "too_large"),
        (ORDER, "", 400, "invalid_request"),
        (ORDER, None, 400, "invalid_request"),
        ("{}", TEXT, 400, "invalid_request"),
        (None, TEXT, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_it_costs(
    model_app: App, model: ModelServer, schema: Any, text: Any, status: int, error: str
) -> None:
    ada = sign_in(model_app, "ada")
    assert code(extract(ada, schema, text)) == (status, error)
    assert model.requests == []
    assert ada.get("/v1/usage").get_json()["requests"] == 0


def test_a_body_nested_beyond_reason_is_a_400(model_app: App) -> None:
    ada = sign_in(model_app, "ada")
    for deep in ('{"anyOf":[' * 150 + "{}" + "]}" * 150, '{"a":' * 5000 + "1" + "}" * 5000):
        raw = f'{{"text": "x", "schema": {{"type": "object", "properties": {{"a": {deep}}}}}}}'
        answer = ada.client.post(
            "/v1/extract", data=raw, content_type="application/json", headers={"Authorization": f"Bearer {ada.token}"}
        )
        assert answer.status_code == 400, answer.get_data(as_text=True)


def test_without_a_token_nothing_is_extracted(model_app: App) -> None:
    answer = model_app.test_client().post("/v1/extract", json={"text": TEXT, "schema": ORDER})
    assert code(answer) == (401, "unauthenticated")


def test_budgets_and_rate_limits_hold_here_as_for_messages(make_app: Any, model: ModelServer) -> None:
    model.default = says(GOOD)
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    ada = sign_in(make_app(SETTINGS.replace('"0.50"', '"0.0001"'), **environ), "ada")
    assert code(extract(ada)) == (429, "budget_exceeded")
    assert model.requests == []
    bob = sign_in(make_app(SETTINGS.replace("= 1000", "= 1"), clock=half_past_noon, **environ), "bob")
    assert extract(bob).status_code == 200
    limited = extract(bob)
    assert code(limited) == (429, "rate_limited")
    assert limited.headers["Retry-After"]


def test_a_second_try_that_the_budget_does_not_cover_is_not_made_and_the_first_is_paid(
    make_app: Any, model: ModelServer
) -> None:
    # The first call uses all that it may; together with a second one that is more than the day's budget.
    model.default = says({"item": 1}, usage=(100, 0, 100))
    settings = SETTINGS.replace('"0.50"', '"0.0013"') + "cheaper_model_at_percent = 100\n"
    app = make_app(settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    assert code(extract(sign_in(app, "ada"))) == (429, "budget_exceeded")
    assert len(model.requests) == 1
    assert day(app, "ada")["cost_micro_usd"] == price(app, ("gpt-5.4-mini", TokenCounts(100, 0, 100)))
    assert day(app, "ada")["reservations"] == {}


def test_one_users_many_extractions_at_once_are_all_counted(model_app: App, model: ModelServer) -> None:
    model.default = says(GOOD)
    statuses: list[int] = []
    users = [sign_in(model_app, "ada") for _ in range(8)]

    def run(user: User) -> None:
        statuses.append(extract(user).status_code)

    threads = [threading.Thread(target=run, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    usage = day(model_app, "ada")
    assert (usage["requests"], usage["reservations"]) == (8, {})
    assert usage["cost_micro_usd"] == price(model_app, *[("gpt-5.4-mini", ONE)] * 8)


def test_the_offline_model_answers_with_the_same_instance_each_time(make_app: Any) -> None:
    ada = sign_in(make_app(), "ada")
    first, second = extract(ada).get_json(), extract(ada).get_json()
    assert first["data"] == second["data"]
    assert len(first["data"]["item"]) >= 2
    assert first["data"]["count"] >= 1
    assert first["usage"]["cost_micro_usd"] == 0


def test_code_extracts_a_pydantic_model_for_a_scope(model_app: App, model: ModelServer) -> None:
    model.script = [says(GOOD), says({"item": 1}), says({"item": 1})]
    llm = model_app.services.llm  # type: ignore[attr-defined]
    scope = Scope("demo", "ada")
    found = llm.extract(Order, TEXT, scope=scope)
    assert found.data == Order(item="box of tea", count=12)
    assert found.usage["cost_micro_usd"] == day(model_app, "ada")["cost_micro_usd"]
    assert model.requests[0]["response_format"]["json_schema"]["name"] == "Order"
    with pytest.raises(ExtractionFailed):
        llm.extract(Order, TEXT, scope=scope)


def test_inside_a_turn_an_extraction_is_paid_by_the_turn_streamed_or_not(make_app: Any, model: ModelServer) -> None:
    def answer(turn: Turn) -> Any:
        order = turn.llm.extract(Order, [{"role": "user", "content": turn.text}])
        yield from turn.llm.stream([{"role": "user", "content": order.item}])

    app = make_app(answer=answer, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    for send in (ada.send, ada.stream):
        model.script = [says({"item": 1}), says(GOOD), Reply()]
        assert "Hello from the model." in send(chat, "12 boxes").get_data(as_text=True)
    assert model.requests[2]["messages"] == [{"role": "user", "content": "box of tea"}]
    one_turn = [("gpt-5.4-mini", ONE)] * 2 + [("gpt-5.4-mini", TokenCounts(10, 0, 4))]
    assert day(app, "ada")["cost_micro_usd"] == price(app, *one_turn * 2)


def test_the_apps_own_extraction_prompt_is_used_and_recorded(make_app: Any, model: ModelServer, tmp_path: Any) -> None:
    write_app(tmp_path / "app")
    (tmp_path / "app" / "app" / "prompts" / "extract@1.md").write_text(
        '+++\nmodel = "gpt-5.4"\ntemperature = 0.0\n+++\nRead for ${app_name}.'
    )
    model.default = says(GOOD)
    settings = SETTINGS.replace("chat = 1", "chat = 1\nextract = 1")
    app = make_app(settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    body = extract(sign_in(app, "ada")).get_json()
    (asked,) = model.requests
    assert (asked["model"], asked["temperature"]) == ("gpt-5.4", 0.0)
    assert asked["messages"][0] == {"role": "system", "content": "Read for Demo."}
    (call,) = calls_of_request(app.services.store, app.services.store.scope, body["request_id"])
    assert (call["prompt"], call["model"], call["purpose"]) == ("extract@1", "gpt-5.4", "extract")


def test_a_plan_is_looked_up_and_a_user_without_a_budget_is_refused_before_any_call(
    make_app: Any, model: ModelServer
) -> None:
    settings = SETTINGS + '[plans.none]\nrequests_per_minute = 5\ndaily_usd = "0"\n'
    app = make_app(settings, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    scope = app.services.store.scope.of("ada")
    app.services.store.commit([Set(scope.root, {"plan": "none"})])
    with pytest.raises(BudgetExceeded):
        app.services.llm.extract(Order, TEXT, scope=scope)
    assert model.requests == []
