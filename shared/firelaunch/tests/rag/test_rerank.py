"""Rerankers: the order they give, what they may cost, and that their faults leave the search as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from fakes.ranking import RankingServer
from firelaunch.errors import BudgetExceeded, ModelUnavailable
from firelaunch.llm.gateway import Gateway
from firelaunch.llm.types import Chunk, FinishedCall, TokenCounts, token_bound
from firelaunch.rag.google_rest import GoogleRest
from firelaunch.rag.index.base import Entry, Hit
from firelaunch.rag.index.embedded import EmbeddedIndex
from firelaunch.rag.index.scoped import ScopedIndex
from firelaunch.rag.rerank import model as model_module
from firelaunch.rag.rerank import vertex as vertex_module
from firelaunch.rag.rerank.base import question_end, reordered
from firelaunch.rag.rerank.model import ModelReranker
from firelaunch.rag.rerank.vertex import VertexReranker
from firelaunch.rag.retrieve import Retriever
from firelaunch.scope import Scope
from firelaunch.services.build_search import build_reranker
from firelaunch.settings.app import Settings
from firelaunch.store.base import Query
from firelaunch.testing.apps import sign_in, write_app
from firelaunch.testing.http import HttpAnswer
from firelaunch.testing.models import Fault, ModelServer, Reply
from firelaunch.turns.turn import Turn
from google.auth.credentials import AnonymousCredentials
from hypothesis import given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
URL = "projects/proj/locations/global/rankingConfigs/default_ranking_config:rank"
TEXTS = ["wing wing wing", "wing and lift of a cone", "wing in a slipstream, its lift", "wing"]
QUESTION = "wing slipstream lift"


def hits(texts: list[str]) -> list[Hit]:
    entries = [Entry(f"e{n}", f"d{n}", text, None, {}, {"title": f"t{n}"}) for n, text in enumerate(texts)]
    return [Hit("demo", "user:ada", "v1", entry, 1.0 - n / 1_000) for n, entry in enumerate(entries)]


def names(found: Any) -> list[str]:
    return [hit.entry.id for hit in found]


@pytest.fixture
def ranking() -> Iterator[RankingServer]:
    with RankingServer() as server:
        yield server


def vertex(server: RankingServer) -> VertexReranker:
    rest = GoogleRest(server.base_url, AnonymousCredentials())  # type: ignore[no-untyped-call]
    return VertexReranker("semantic-ranker-fast-004", "proj", rest)


RECORD = {"id": "1", "content": "a wing"}


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        (URL.replace("proj/", "other/"), {"records": [RECORD]}, "not found"),
        (URL, {"records": [RECORD], "model": "semantic-ranker-9"}, "not supported"),
        (URL, {"records": []}, "0 elements"),
        (URL, {"records": [RECORD] * 201}, "201 elements"),
        (URL, {"records": [{"id": "1", "title": ""}]}, "at least one of title or content"),
        (URL, {"records": [{**RECORD, "score": "high"}]}, "no record"),
        (URL, {"records": [RECORD], "top_k": 3}, "Unknown name"),
        (URL, {"records": [RECORD], "topN": "3"}, "Invalid value at 'topN'"),
    ],
)
def test_the_local_server_refuses_what_google_refuses(ranking: RankingServer, path: str, body: Any, says: str) -> None:
    answer = requests.post(f"{ranking.base_url}/{path}", json=body, timeout=30)
    assert (answer.status_code in {400, 404}, says in answer.text) == (True, True), answer.text


def test_vertex_orders_the_first_hundred_at_one_querys_price_and_the_others_follow(ranking: RankingServer) -> None:
    many = hits(["a cone"] * 110 + TEXTS)
    many = many[-4:] + many[:-4]
    booked: list[FinishedCall] = []
    found = vertex(ranking).rerank(QUESTION, many, booked.append)
    assert names(found)[:4] == ["e112", "e111", "e110", "e113"]
    assert names(found)[100:] == names(many)[100:]
    assert [(call.micro_usd, call.error, call.charged) for call in booked] == [(1_000, None, True)]
    (_, body) = ranking.requests[0]
    assert len(body["records"]) == 100
    assert body["ignoreRecordDetailsInResponse"] is True


def hang() -> Iterator[bytes]:
    time.sleep(5)
    yield b"{}"


@pytest.mark.parametrize(
    ("answer", "code", "paid"),
    [
        (lambda: HttpAnswer(429, {"error": {"message": "quota"}}), "model_unavailable", 0),
        (
            lambda: HttpAnswer(403, {"error": {"message": "denied"}}),
            "model_failed",
            0,
        ),
        (lambda: HttpAnswer(500, {}), "model_unavailable", 0),
        (lambda: HttpAnswer(0, None), "model_timeout", 1_000),
        (lambda: HttpAnswer(200, hang()), "model_timeout", 1_000),
        (lambda: HttpAnswer(200, {"records": [{"score": 1}]}), "model_unavailable", 1_000),
        (lambda: HttpAnswer(200, b"<html>"), "model_timeout", 1_000),
    ],
    ids=["quota", "role", "down", "cut", "slow", "no ids", "no JSON"],
)
def test_where_the_ranking_fails_the_passages_keep_their_order_and_the_search_says_so(
    ranking: RankingServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[], HttpAnswer],
    code: str,
    paid: int,
) -> None:
    monkeypatch.setattr(vertex_module, "_SECONDS", 0.3)
    index = ScopedIndex(EmbeddedIndex(tmp_path), "demo")
    index.upsert(ADA, "v1", [Entry(f"e{n}", f"d{n}", text) for n, text in enumerate(TEXTS)])
    plain = Retriever(index, lambda: "v1", None).search(ADA, QUESTION)
    ranking.script = [answer()]
    booked: list[FinishedCall] = []
    made = Retriever(index, lambda: "v1", None, reranker=vertex(ranking))
    failed = made.search(ADA, QUESTION, spend=booked.append)
    assert failed.passages == plain.passages
    assert f"The reranker failed ({code})" in failed.note
    assert sum(call.micro_usd for call in booked) == paid
    ranking.script = [HttpAnswer(200, {"records": [{"id": "2", "score": 0.97}]})]
    ranked = made.search(ADA, QUESTION)
    assert ranked.passages[0].hit == plain.passages[2].hit
    assert "reranker" not in ranked.note
    index.close()


def test_any_fault_of_an_apps_own_reranker_leaves_the_order_of_the_search(tmp_path: Path) -> None:
    class Broken:
        def cost_bound(self, _: str) -> int:
            return 0

        def rerank(self, *_: Any) -> Any:
            raise ZeroDivisionError

    index = ScopedIndex(EmbeddedIndex(tmp_path), "demo")
    index.upsert(ADA, "v1", [Entry(f"e{n}", f"d{n}", text) for n, text in enumerate(TEXTS)])
    found = Retriever(index, lambda: "v1", None, reranker=Broken()).search(ADA, QUESTION)
    assert len(found.passages) == 3
    assert "The reranker failed (internal)" in found.note
    index.close()


def test_a_reranker_reads_the_end_of_a_long_question() -> None:
    assert question_end("short?") == "short?"
    assert question_end("x" * 5_000 + " And the price?").endswith(" And the price?")
    assert len(question_end("休" * 5_000).encode()) <= 2_000


@given(st.integers(0, 30), st.lists(st.integers(-50, 50)))
def test_an_order_loses_and_doubles_no_hit_whatever_it_names(count: int, order: list[int]) -> None:
    all_hits = hits(["text"] * count)
    found = reordered(all_hits, order)
    assert sorted(names(found)) == sorted(names(all_hits))
    named = list(dict.fromkeys(n for n in order if 0 <= n < count))
    assert names(found)[: len(named)] == [f"e{n}" for n in named]


def test_a_search_pays_googles_query_from_its_users_day_and_none_where_there_is_nothing_to_order(
    ranking: RankingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firelaunch.services.build.build_reranker", lambda *_: vertex(ranking))
    with embedded_site(tmp_path) as site:
        admin, ada = sign_in(site.app, "root", "admin"), sign_in(site.app, "ada")
        for count, (name, text) in enumerate(LIBRARY.items()):
            document = admin.upload(name, text.encode(), library="true").get_json()
            admin.document(document["id"], library=True)
            assert ada.post("/v1/search", {"query": "leave days of staff"}).status_code == 200
            assert usage(site).get("cost_micro_usd", 0) == 1_000 * count
        assert usage(site)["reservations"] == {}
        assert [(call["purpose"], call["model"]) for call in calls(site)] == [
            ("rerank", "semantic-ranker-fast-004")
        ] * 2


RERANKED = JOB_SETTINGS + '\n[search]\nreranker = "cheap"\n'
LIBRARY = {f"{name}.md": f"# {name}\n\nLeave of staff: {name} days." for name in ("ten", "twenty", "thirty")}


def count_passages(turn: Turn) -> list[Chunk]:
    return [Chunk(f"{len(turn.grounding.passages)} passages")]


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def site(models: ModelServer, tmp_path: Path) -> Iterator[Site]:
    """An app with three documents in its library, whose cheap model reranks."""
    keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": models.base_url}
    with embedded_site(tmp_path, settings=RERANKED, workflow=count_passages, **keys) as made:
        admin = sign_in(made.app, "root", "admin")
        for name, text in LIBRARY.items():
            made_document = admin.upload(name, text.encode(), library="true").get_json()
            admin.document(made_document["id"], library=True)
        yield made


def titles(site: Site) -> list[str]:
    answer = sign_in(site.app, "ada").post("/v1/search", {"query": "leave days of staff"}).get_json()
    return [passage["title"] for passage in answer["passages"]]


def usage(site: Site) -> dict[str, Any]:
    found = site.services.store.get(ADA.usage(site.services.metering.today()))
    return {} if found is None else dict(found.data)


def test_the_cheap_model_orders_what_a_search_finds_and_its_user_pays(site: Site, models: ModelServer) -> None:
    models.script = [Reply(["1, 2, 3"])]
    before = titles(site)
    models.script = [Reply(["3, ", "1"], usage=(5_000, 0, 6))]
    spent = usage(site)["cost_micro_usd"]
    assert titles(site) == [before[2], before[0], before[1]]
    assert models.models_called()[-1] == "gpt-5.4-nano"
    prompt = models.requests[-1]["messages"][-1]["content"]
    assert "leave days of staff" in prompt
    assert all(f"Leave of staff: {name} days." in prompt for name in ("ten", "twenty", "thirty"))
    (call, *_) = [each for each in calls(site) if each["output_tokens"] == 6]
    assert (call["purpose"], call["uid"], call["input_tokens"]) == ("rerank", "ada", 5_000)
    assert usage(site)["cost_micro_usd"] - spent == call["cost_micro_usd"] > 0
    assert usage(site)["reservations"] == {}


def calls(site: Site) -> list[dict[str, Any]]:
    return [dict(found.data) for found in site.services.store.query(Query("apps/demo/calls"))]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(["The best passage is 3."]),
        Reply(["3; ignore the others and say 7x"]),
        Reply([""]),
        Fault(500),
        Fault(400),
        Fault(0),
        Reply(["3, 1"], cut_after=1),
    ],
    ids=["prose", "prose after", "nothing", "down", "refused", "cut", "cut in the middle"],
)
def test_what_is_no_order_leaves_the_searchs_own_and_is_paid_as_it_was_charged(
    site: Site, models: ModelServer, monkeypatch: pytest.MonkeyPatch, reply: Any
) -> None:
    monkeypatch.setattr(model_module, "_SECONDS", 1.0)
    models.script = [Reply(["1, 2, 3"])]
    before = titles(site)
    models.script, models.default = [], reply
    assert titles(site) == before
    assert usage(site)["cost_micro_usd"] == sum(each["cost_micro_usd"] for each in calls(site))
    assert usage(site)["reservations"] == {}


def test_a_model_that_does_not_answer_in_time_delays_a_turn_and_fails_none(
    site: Site, models: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_module, "_SECONDS", 0.3)
    models.default = Reply(["3"], hang_after=0)
    ada = sign_in(site.app, "ada")
    turn = ada.send(ada.new_chat(), "leave days of staff?")
    assert (turn.status_code, turn.get_json()["message"]["text"]) == (200, "3 passages")
    assert usage(site)["reservations"] == {}


def test_a_turn_reserves_what_reranking_may_cost_and_pays_what_it_did(site: Site, models: ModelServer) -> None:
    models.default = Reply(["2, 1, 3"], usage=(900, 0, 5))
    ada = sign_in(site.app, "ada")
    assert ada.send(ada.new_chat(), "leave days of staff?").status_code == 200
    (record,) = [each.data for each in site.services.store.query(Query("apps/demo/requests"))]
    bound = site.services.documents.rerank_cost("leave days of staff?")
    assert record["reserved_micro_usd"] > bound > 0
    (call,) = calls(site)
    assert (call["purpose"], call["step"] >= 0) == ("rerank", True)
    assert record["usage"]["cost_micro_usd"] == usage(site)["cost_micro_usd"] == call["cost_micro_usd"] > 0


def test_a_day_that_does_not_cover_the_reranking_refuses_the_search_before_a_model_is_called(
    models: ModelServer, tmp_path: Path
) -> None:
    toml = RERANKED.replace('daily_usd = "0.50"', 'daily_usd = "0.000001"')
    keys = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": models.base_url}
    with embedded_site(tmp_path, settings=toml, **keys) as site:
        admin = sign_in(site.app, "root", "admin")
        made = admin.upload("a.md", b"leave", library="true").get_json()
        admin.document(made["id"], library=True)
        assert sign_in(site.app, "ada").post("/v1/search", {"query": "leave"}).status_code == 429
    assert models.requests == []


@pytest.mark.parametrize(
    ("kind", "environ", "expected"),
    [
        ("none", {"OPENAI_API_KEY": "k"}, None),
        ("cheap", {}, None),
        ("semantic-ranker-default-004", {}, None),
        ("cheap", {"OPENAI_API_KEY": "k"}, "ModelReranker"),
        ("semantic-ranker-fast-004", {"OPENAI_API_KEY": "k"}, "ModelReranker"),
        ("cheap", {"OPENAI_API_KEY": "k", "FIRELAUNCH_MODE": "cloud"}, "ModelReranker"),
        ("semantic-ranker-fast-004", {"OPENAI_API_KEY": "k", "FIRELAUNCH_MODE": "cloud"}, "VertexReranker"),
    ],
)
def test_the_setting_names_the_reranker_and_on_a_laptop_it_is_the_cheap_model_or_none(
    tmp_path: Path, kind: str, environ: dict[str, str], expected: str | None
) -> None:
    toml = JOB_SETTINGS + f'\n[search]\nreranker = "{kind}"\n'
    settings = Settings.load(write_app(tmp_path, toml), {**environ, "GOOGLE_CLOUD_PROJECT": "demo-project"})
    made = build_reranker(settings, "demo-project", Gateway.__new__(Gateway))
    assert (None if made is None else type(made).__name__) == expected


@dataclass
class CostlyGateway:
    """A gateway whose model answers ``answer``, and is charged the worst case for each of ``tries`` tries."""

    answer: str
    tries: int = 1

    def worst_case(self, _: str, tokens: int, output: int) -> int:
        return tokens + output

    def answering(self, meter: Any, *_: Any, **__: Any) -> CostlySession:
        return CostlySession(self, meter)


@dataclass
class CostlySession:
    gateway: CostlyGateway
    meter: Any

    def complete(self, messages: Any, *, max_output_tokens: int) -> str:
        cost = token_bound(messages) + max_output_tokens
        for _ in range(self.gateway.tries):
            self.meter.cover(cost)
            self.meter.spend(FinishedCall("m", TokenCounts(1), cost, 0.1))
            self.meter.release(cost)
        return self.gateway.answer


LONG_PLACE = {"title": "題" * 200, "headings": ["題" * 200] * 8}


@given(st.text(alphabet="0123456789,[] x\n", max_size=60), st.integers(1, 40), st.integers(1, 9), st.booleans())
def test_whatever_a_model_answers_no_hit_is_lost_and_no_more_is_booked_than_was_reserved(
    answer: str, count: int, tries: int, long: bool
) -> None:
    all_hits, booked = hits(["leave " * 300] * count), []
    if long:
        all_hits = [replace(hit, entry=replace(hit.entry, place=LONG_PLACE)) for hit in all_hits]
    reranker = ModelReranker(CostlyGateway(answer, tries), "m")  # type: ignore[arg-type]
    try:
        found = reranker.rerank("question " * 900, all_hits, booked.append)
    except ModelUnavailable:
        pass  # the answer is no order
    except BudgetExceeded:
        assert tries > 1
    else:
        assert sorted(names(found)) == sorted(names(all_hits))
    assert 0 < sum(call.micro_usd for call in booked) <= reranker.cost_bound("")
