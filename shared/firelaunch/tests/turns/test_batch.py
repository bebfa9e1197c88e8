"""A batch answers each input once, within its budget and its user's, and what is done stays done."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes.clocks import half_past_noon
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.llm.types import Chunk
from firelaunch.scope import Scope
from firelaunch.store.base import Document, Query
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.batch import COLUMNS, output
from firelaunch.turns.turn import Turn
from hypothesis import example, given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")


def workflow(turn: Turn) -> Iterator[Chunk]:
    yield from turn.llm.stream([{"role": "user", "content": turn.text}])


@pytest.fixture
def site(tmp_path: Path, model: ModelServer) -> Iterator[Site]:
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with embedded_site(tmp_path, started=False, workflow=workflow, **environ) as made:
        yield made


def send(user: User, *texts: str, budget: int = 10**9, **headers: str) -> dict[str, Any]:
    inputs = [{"id": f"row {n}", "text": text} for n, text in enumerate(texts)]
    answer = user.post("/v1/batches", {"inputs": inputs, "budget_micro_usd": budget}, **headers)
    assert answer.status_code == 202, answer.get_data(as_text=True)
    found: dict[str, Any] = answer.get_json()
    return found


def run_until_it_ends(site: Site, job_id: str, most: int = 20) -> dict[str, Any]:
    for _ in range(most):
        site.runner.run(job_id)
        found = site.job(ADA, job_id)
        if found.finished:
            return {"state": found.state, **json.loads(found.result or "{}")}
    raise AssertionError(site.job(ADA, job_id))


def rows(user: User, job_id: str) -> list[dict[str, Any]]:
    answer = user.get(f"/v1/batches/{job_id}/output")
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.get_data(as_text=True).splitlines()]


def cost_of(user: User) -> int:
    usage = user.get("/v1/usage").get_json()
    assert usage["reserved_micro_usd"] == 0
    return int(usage["cost_micro_usd"])


def test_each_input_is_answered_and_billed_once_in_order(site: Site, model: ModelServer) -> None:
    ada = sign_in(site.app, "ada")
    job = send(ada, "one", "two", "three")
    ended = run_until_it_ends(site, job["id"])
    assert {key: ended[key] for key in ("state", "inputs", "answered", "failed", "stopped")} == {
        "state": "succeeded",
        "inputs": 3,
        "answered": 3,
        "failed": 0,
        "stopped": None,
    }
    assert [request["messages"][-1]["content"] for request in model.requests] == ["one", "two", "three"]
    found = rows(ada, job["id"])
    assert [(row["index"], row["id"], row["output"]) for row in found] == [
        (n, f"row {n}", "Hello from the model.") for n in range(3)
    ]
    assert sum(row["cost_micro_usd"] for row in found) == ended["cost_micro_usd"] == cost_of(ada) > 0
    assert ada.get("/v1/usage").get_json()["requests"] == 3


def test_a_crash_between_two_inputs_repeats_none_that_was_answered(site: Site, model: ModelServer) -> None:
    ada = sign_in(site.app, "ada")
    model.script += [Reply(), *[Fault(503)] * 40]
    job = send(ada, "one", "two", "three")
    site.runner.run(job["id"])
    assert site.job(ADA, job["id"]).state == "queued"
    assert [row["index"] for row in rows(ada, job["id"])] == [0]
    model.script.clear()
    ended = run_until_it_ends(site, job["id"])
    assert (ended["answered"], len(rows(ada, job["id"]))) == (3, 3)
    answered = [request["messages"][-1]["content"] for request in model.requests]
    assert answered.count("one") == answered.count("three") == 1
    assert cost_of(ada) == ended["cost_micro_usd"] == sum(row["cost_micro_usd"] for row in rows(ada, job["id"]))


def test_a_batch_stops_before_the_call_that_its_budget_does_not_cover(site: Site, model: ModelServer) -> None:
    ada = sign_in(site.app, "ada")
    probe = run_until_it_ends(site, send(ada, "x")["id"])
    worst = site.services.gateway.worst_case("gpt-5.4-mini", 4100)
    spent = probe["cost_micro_usd"]
    job = send(ada, *"abcdef", budget=worst + 2 * spent)
    ended = run_until_it_ends(site, job["id"])
    assert (ended["state"], ended["stopped"]) == ("succeeded", "budget")
    assert 1 <= ended["answered"] < 6
    assert ended["cost_micro_usd"] <= worst + 2 * spent
    assert len(rows(ada, job["id"])) == ended["answered"] == len(model.requests) - 1


def test_a_batch_that_may_cost_nothing_calls_no_model(site: Site, model: ModelServer) -> None:
    ended = run_until_it_ends(site, send(sign_in(site.app, "ada"), "x", budget=0)["id"])
    assert (ended["answered"], ended["stopped"]) == (0, "budget")
    assert model.requests == []


def test_a_batch_ends_with_its_users_day(tmp_path: Path, model: ModelServer) -> None:
    settings = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.000001"')
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with embedded_site(tmp_path, settings=settings, started=False, workflow=workflow, **environ) as site:
        ended = run_until_it_ends(site, send(sign_in(site.app, "ada"), "x")["id"])
    assert (ended["answered"], ended["stopped"]) == (0, "daily_budget")


def test_a_batch_waits_for_the_next_minute_and_spends_no_try_on_it(tmp_path: Path, model: ModelServer) -> None:
    settings = JOB_SETTINGS.replace("requests_per_minute = 1000", "requests_per_minute = 2")
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with embedded_site(
        tmp_path, clock=half_past_noon, settings=settings, started=False, workflow=workflow, **environ
    ) as site:
        job = send(sign_in(site.app, "ada"), "one", "two", "three", "four", "five")
        site.runner.run(job["id"])
        left = site.job(ADA, job["id"])
    assert (left.state, left.attempts) == ("queued", 0)
    assert json.loads(left.checkpoint or "")["done"] == 2
    assert left.due_at is not None
    assert left.due_at > left.created_at


def test_a_batch_that_one_try_is_too_short_for_goes_on_in_others_at_no_cost(tmp_path: Path, model: ModelServer) -> None:
    settings = JOB_SETTINGS.replace("max_output_tokens", "request_seconds = 1500\nmax_output_tokens")
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with embedded_site(tmp_path, settings=settings, started=False, workflow=workflow, **environ) as site:
        job = send(sign_in(site.app, "ada"), "one", "two", "three")
        seen = []
        for _ in range(3):
            site.runner.run(job["id"])
            left = site.job(ADA, job["id"])
            seen.append((left.state, left.attempts, len(model.requests)))
    assert seen == [("queued", 0, 1), ("queued", 0, 2), ("succeeded", 1, 3)]


def test_an_input_that_is_refused_or_that_the_workflow_fails_on_is_a_row_of_its_own(
    tmp_path: Path, model: ModelServer
) -> None:
    def picky(turn: Turn) -> Iterator[Chunk]:
        if turn.text == "bad":
            raise KeyError(turn.text)
        yield from workflow(turn)

    model.script += [Fault(400), Reply()]
    environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
    with embedded_site(tmp_path, started=False, workflow=picky, **environ) as site:
        ada = sign_in(site.app, "ada")
        job = send(ada, "refused", "bad", "good")
        ended = run_until_it_ends(site, job["id"])
        found = rows(ada, job["id"])
    assert (ended["state"], ended["answered"], ended["failed"]) == ("succeeded", 1, 2)
    assert [(row["error"], row["output"]) for row in found] == [
        ("model_refused", None),
        ("internal", None),
        (None, "Hello from the model."),
    ]


def test_the_output_is_csv_that_no_spreadsheet_takes_for_formulas(site: Site, model: ModelServer) -> None:
    ada = sign_in(site.app, "ada")
    model.script += [
        Reply(words=['=1+1,"x"\n']),
        Reply(words=["plain"]),
        Reply(words=["\n=1"]),
        Reply(words=["\uff1d1"]),
    ]
    job = send(ada, "one", "two", "three", "four")
    run_until_it_ends(site, job["id"])
    answer = ada.get(f"/v1/batches/{job['id']}/output?format=csv")
    assert answer.content_type.startswith("text/csv")
    head, *rows = csv.reader(io.StringIO(answer.get_data(as_text=True), newline=""))
    assert head[:3] == ["index", "id", "output"]
    assert [row[2] for row in rows] == ['\'=1+1,"x"\n', "plain", "'\n'=1", "'\uff1d1"]


HOSTILE = st.text(alphabet="=+-@\t\r\n;,|\"' a1\uff1d\uff20", max_size=12)


@given(texts=st.lists(HOSTILE, min_size=1, max_size=3))
@example(texts=["a;=1+1"])
@example(texts=['x;"=1+1"'])
@example(texts=['";\t=1', ";\t1"])
@example(texts=["x\r=1\n@x"])
def test_no_cell_is_a_formula_whatever_a_spreadsheet_splits_at(texts: list[str]) -> None:
    item = dict.fromkeys(COLUMNS) | {"index": 1, "cost_micro_usd": 7}
    store = Items([{**item, "id": text, "output": text} for text in texts])
    lines = "".join(output(store, Scope("demo", "ada"), "j1", "csv"))  # type: ignore[arg-type]
    for splits_at in ",;|\t":
        for row in csv.reader(io.StringIO(lines, newline=""), delimiter=splits_at):
            for cell in row:
                sign = cell.lstrip(' "')[:1]
                assert cell[:1] not in {"\t", "\r"}, (splits_at, row)
                assert not sign or sign not in "=+-@\uff1d\uff20", (splits_at, row)


AT = datetime(2026, 3, 1, tzinfo=UTC)


class Items:
    """A store that holds one batch's items."""

    def __init__(self, items: list[dict[str, Any]]) -> None:
        self._items = items

    def query(self, _query: Query) -> list[Document]:
        return [Document(f"x/{n}", item, AT, AT) for n, item in enumerate(self._items)]


def test_a_batch_is_its_owners_alone_and_an_output_is_of_batches_alone(site: Site) -> None:
    ada, bob = sign_in(site.app, "ada"), sign_in(site.app, "bob")
    job = send(ada, "one")
    run_until_it_ends(site, job["id"])
    assert bob.get(f"/v1/batches/{job['id']}/output").status_code == 404
    assert bob.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert ada.get("/v1/batches/nothing/output").status_code == 404
    assert ada.get(f"/v1/batches/{job['id']}/output?format=xml").status_code == 400


def test_a_repeated_send_under_a_key_is_one_batch(site: Site, model: ModelServer) -> None:
    ada = sign_in(site.app, "ada")
    first, second = (send(ada, "one", Idempotency_Key="monday") for _ in range(2))
    assert first["id"] == second["id"]
    run_until_it_ends(site, first["id"])
    assert len(model.requests) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": [], "budget_micro_usd": 1}, 400),
        ({"inputs": [{"text": ""}], "budget_micro_usd": 1}, 400),
        ({"inputs": [{"text": "x"}]}, 400),
        ({"inputs": [{"text": "x"}], "budget_micro_usd": -1}, 400),
        ({"inputs": [{"text": "x"}], "budget_micro_usd": 1.5}, 400),
        ({"inputs": [{"text": "x", "uid": "bob"}], "budget_micro_usd": 1}, 400),
        ({"inputs": [{"text": "x"}] * 1001, "budget_micro_usd": 1}, 400),
        ({"inputs": [{"text": "x" * 16_001}], "budget_micro_usd": 1}, 413),
    ],
)
def test_a_batch_that_is_not_as_it_should_be_is_refused(site: Site, body: Any, status: int) -> None:
    ada = sign_in(site.app, "ada")
    assert ada.post("/v1/batches", body).status_code == status
    assert ada.get("/v1/jobs").get_json()["items"] == []
