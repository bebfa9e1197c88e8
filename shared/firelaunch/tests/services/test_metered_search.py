"""What a search costs: a question that a paid model embeds is paid from its user's day, and by nobody else."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.errors import IndexUnavailable
from firelaunch.scope import Scope
from firelaunch.store.base import Query
from firelaunch.testing.apps import User, sign_in
from firelaunch.testing.embeddings import OpenAIEmbeddingServer, tokens_of
from firelaunch.testing.http import HttpAnswer
from hypothesis import given, settings
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
BUDGET = 3_000
PRICE = 20
"""Micro-dollars a token: a thousand times the real price, so that a question costs something."""

SETTINGS = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.003"')
PAID = SETTINGS + f'\n[index]\nembedder = "openai"\n[prices.text-embedding-3-small]\ninput = "{PRICE}"\noutput = "0"\n'
TEXT = b"# Leave\n\nEach member of staff has thirty days of leave a year."


@contextmanager
def paid_site(folder: Path, *, usage: bool = True, toml: str = PAID) -> Iterator[tuple[Site, OpenAIEmbeddingServer]]:
    """An app whose library holds a document: embedding that is paid by no user."""
    with (
        OpenAIEmbeddingServer(usage=usage) as embedder,
        embedded_site(folder, settings=toml, OPENAI_API_KEY="k", OPENAI_BASE_URL=embedder.base_url) as site,
    ):
        admin = sign_in(site.app, "root", "admin")
        admin.document(admin.upload("handbook.md", TEXT, library="true").get_json()["id"], library=True)
        embedder.requests.clear()
        yield site, embedder


@pytest.fixture
def paid(tmp_path: Path) -> Iterator[tuple[Site, OpenAIEmbeddingServer]]:
    with paid_site(tmp_path) as made:
        yield made


def day(site: Site, scope: Scope = ADA) -> dict[str, Any]:
    found = site.services.store.get(scope.usage(site.services.metering.today()))
    return {} if found is None else dict(found.data)


def records(site: Site) -> list[dict[str, Any]]:
    return [dict(found.data) for found in site.services.store.query(Query("apps/demo/requests"))]


def mcp(user: User, query: str) -> Any:
    params = {"name": "search", "arguments": {"query": query}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return user.post("/mcp", body).get_json()["result"]


def test_a_search_is_paid_from_its_users_day_recorded_and_no_request_of_the_minute(
    paid: tuple[Site, OpenAIEmbeddingServer],
) -> None:
    site, _ = paid
    ada = sign_in(site.app, "ada")
    assert ada.post("/v1/search", {"query": "days of leave"}).get_json()["mode"] == "hybrid"
    assert mcp(ada, "leave")["structuredContent"]["mode"] == "hybrid"
    usage = ada.get("/v1/usage").get_json()
    assert (usage["cost_micro_usd"], usage["requests"]) == (PRICE * 4, 0)
    assert (day(site)["input_tokens"], day(site)["reservations"]) == (4, {})
    assert sorted((found["kind"], found["uid"], found["usage"]["cost_micro_usd"]) for found in records(site)) == [
        ("search", "ada", PRICE),
        ("search", "ada", PRICE * 3),
    ]
    assert sign_in(site.app, "bob").get("/v1/usage").get_json()["cost_micro_usd"] == 0


def test_a_day_that_is_used_up_refuses_the_search_before_anything_is_embedded(
    paid: tuple[Site, OpenAIEmbeddingServer],
) -> None:
    site, embedder = paid
    ada = sign_in(site.app, "ada")
    refused = ada.post("/v1/search", {"query": "leave " * 40})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (429, "budget_exceeded")
    assert int(refused.headers["Retry-After"]) > 0
    assert '"budget_exceeded"' in mcp(ada, "leave " * 40)["content"][0]["text"]
    assert (embedder.requests, records(site), day(site)) == ([], [], {})


@pytest.mark.parametrize("toml", [SETTINGS, PAID.replace(f'"{PRICE}"', '"0"')], ids=["by words", "at no price"])
def test_a_search_that_costs_nothing_writes_nothing_and_reads_only_the_index_version_and_the_documents_it_found(
    toml: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with paid_site(tmp_path, toml=toml) as (site, _):
        touched: list[str] = []
        own = threading.current_thread()
        store = type(site.services.store)
        for name in ("get", "get_many", "query", "count", "read", "commit", "transaction"):
            real = getattr(store, name)

            def watched(self: Any, *given: Any, name: str = name, real: Any = real) -> Any:
                if threading.current_thread() is own:  # the app's own jobs look beside it
                    touched.append(f"{name} {given[0]}")
                return real(self, *given)

            monkeypatch.setattr(store, name, watched)
        ada = sign_in(site.app, "ada")
        touched.clear()
        for _ in range(2):
            passages = ada.post("/v1/search", {"query": "leave"}).get_json()["passages"]
            assert passages
    app = site.services.store.scope
    found = [app.document(passages[0]["document_id"])]
    assert touched == [f"get {app.index_state()}", f"get_many {found}"] * 2


@pytest.mark.parametrize("toml", [PAID, PAID.replace(f'"{PRICE}"', '"0"')], ids=["paid", "at no price"])
def test_a_turn_reserves_what_embedding_its_message_may_cost(toml: str, tmp_path: Path) -> None:
    with paid_site(tmp_path, toml=toml.replace('"0.003"', '"5"')) as (site, _):
        sign_in(site.app, "ada").send(sign_in(site.app, "ada").new_chat(), "x" * 1_000)
        (record,) = records(site)
        without = site.services.gateway.worst_case("gpt-5.4-mini", 1_000 + site.services.settings.limits.prompt_tokens)
    most = record["reserved_micro_usd"] - without
    assert (most >= PRICE * 1_000) is (toml == PAID)


@pytest.mark.parametrize("method", ["matching", "nearest"])
def test_what_was_embedded_is_paid_also_where_the_search_then_fails(
    method: str, paid: tuple[Site, OpenAIEmbeddingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _ = paid
    ada, documents = sign_in(site.app, "ada"), site.services.documents

    def fails(*_: Any, **__: Any) -> Any:
        raise IndexUnavailable

    monkeypatch.setattr(type(documents.engine(documents.versions.ensure_state().current).index), method, fails)
    assert ada.post("/v1/search", {"query": "days of leave"}).status_code == 503
    assert (day(site)["cost_micro_usd"], day(site)["reservations"]) == (PRICE * 3, {})
    assert [(found["outcome"], found["error"]) for found in records(site)] == [("failed", "index_unavailable")]


def test_what_the_model_refused_is_searched_by_words_and_costs_nothing(
    paid: tuple[Site, OpenAIEmbeddingServer],
) -> None:
    site, embedder = paid
    embedder.script = [HttpAnswer(400, {"error": {"message": "no"}})]
    assert sign_in(site.app, "ada").post("/v1/search", {"query": "leave"}).get_json()["mode"] == "lexical"
    assert (day(site)["cost_micro_usd"], day(site)["reservations"]) == (0, {})


def test_searches_at_once_spend_no_more_than_the_day_has(paid: tuple[Site, OpenAIEmbeddingServer]) -> None:
    site, embedder = paid
    token = sign_in(site.app, "ada").token

    def search(_: int) -> int:
        answer = User(site.app.test_client(), token).post("/v1/search", {"query": "days of leave"})
        status: int = answer.status_code
        return status

    with ThreadPoolExecutor(16) as threads:
        statuses = list(threads.map(search, range(100)))
    assert set(statuses) == {200, 429}
    assert len(embedder.requests) == statuses.count(200)
    assert day(site)["cost_micro_usd"] == statuses.count(200) * PRICE * 3 <= BUDGET
    assert day(site)["reservations"] == {}


WORDS = st.lists(st.sampled_from(["leave", "days", "staff", "ż", "休暇", "x" * 9]), min_size=1, max_size=30).map(
    " ".join
)
SEARCHES = st.lists(st.tuples(WORDS, st.sampled_from(["ada", "bob"]), st.sampled_from(["", "refused"])), max_size=25)


@settings(max_examples=25)
@given(SEARCHES, st.booleans())
def test_what_is_settled_is_what_the_model_charged_and_no_day_goes_over_its_budget(
    searches: list[tuple[str, str, str]], usage: bool
) -> None:
    charged = {"ada": 0, "bob": 0}
    with tempfile.TemporaryDirectory() as folder, paid_site(Path(folder), usage=usage) as (site, embedder):
        users = {uid: sign_in(site.app, uid) for uid in charged}
        for query, uid, fault in searches:
            embedder.requests.clear()
            embedder.script = [HttpAnswer(400, {"error": {"message": "no"}})] if fault else []
            status = users[uid].post("/v1/search", {"query": query}).status_code
            assert len(embedder.requests) == (status == 200)
            if status == 200 and not fault:
                charged[uid] += PRICE * (tokens_of(query) if usage else len(query.encode()))
            else:
                assert status in {200, 429}
        for uid, cost in charged.items():
            found = day(site, Scope("demo", uid))
            assert found.get("cost_micro_usd", 0) == cost <= BUDGET
            assert not found.get("reservations")
