"""Embedding comes out of the app's own budget: users' documents and searches, the library, and re-embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.documents.reembed import Reembedding
from firelaunch.errors import AppBudgetExceeded
from firelaunch.metering.ceiling import Ceiling
from firelaunch.metering.pool import Pool
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store import sqlite
from firelaunch.testing.apps import sign_in, write_app
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from firelaunch.worker.tasks.rollup import EXPIRE, Expire

PRICES = '\n[index]\nembedder = "openai"\n[prices.text-embedding-3-small]\ninput = "20"\noutput = "0"\n'
LARGE = PRICES.replace("[prices", 'model = "text-embedding-3-large"\n[prices').replace("3-small", "3-large")
TEXT = b"# Leave\n\nEach member of staff has thirty days of leave a year."


def settings(dollars: str) -> str:
    return f'{JOB_SETTINGS}{PRICES}\n[budget]\ndaily_usd = "{dollars}"\n'


@contextmanager
def site_with(folder: Path, dollars: str) -> Iterator[Site]:
    with (
        OpenAIEmbeddingServer() as embedder,
        embedded_site(
            folder, settings=settings(dollars), OPENAI_API_KEY="k", OPENAI_BASE_URL=embedder.base_url
        ) as site,
    ):
        yield site


def pool_of(site: Site) -> Pool:
    metering = site.services.metering
    assert metering.ceiling is not None
    metering.close()
    return metering.ceiling.pool(metering.today())


def upload(site: Site, uid: str, **form: str) -> dict[str, Any]:
    user = sign_in(site.app, uid, "admin")
    document = user.upload("handbook.md", TEXT, **form).get_json()["id"]
    return user.document(document, library=bool(form))


def test_documents_searches_and_the_library_come_out_of_the_apps_budget(tmp_path: Path) -> None:
    with site_with(tmp_path, "1") as site:
        documents = [upload(site, "ada"), upload(site, "root", library="true")]
        costs = [document["cost_micro_usd"] for document in documents]
        day = site.services.metering.today()
        assert all(costs)
        assert pool_of(site).spent("day", day) == sum(costs)
        assert sign_in(site.app, "ada").post("/v1/search", {"query": "leave"}).status_code == 200
        usage = site.services.store.get(Scope("demo", "ada").usage(day))
        assert usage is not None
        pool = pool_of(site)
        assert pool.spent("day", day) == usage.data["cost_micro_usd"] + costs[1]
        assert pool.leases == {}


def test_a_document_of_the_library_that_the_apps_budget_does_not_cover_says_so(tmp_path: Path) -> None:
    with site_with(tmp_path, "0.000001") as site:
        assert upload(site, "root", library="true")["error"]["problem"] == "budget_exceeded"


def test_a_re_embedding_is_paid_from_the_apps_budget_and_stops_where_that_ends(tmp_path: Path) -> None:
    with (
        OpenAIEmbeddingServer() as server,
        embedded_site(tmp_path, settings=settings("1"), OPENAI_API_KEY="k", OPENAI_BASE_URL=server.base_url) as site,
    ):
        for uid in ("ada", "bob"):
            upload(site, uid)
        spent = pool_of(site).spent("day", site.services.metering.today())
        for dollars, refused in ((f"{(spent + 500) / 1e6:.6f}", True), ("1", False)):
            path = write_app(tmp_path, settings(dollars).replace(PRICES, LARGE))
            services = build(Settings.load(path, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.base_url}))
            work = Reembedding(services.store, services.documents, services.metering)
            work.begin()
            with pytest.raises(AppBudgetExceeded) if refused else nullcontext():
                list(work.build())
            services.metering.close()
            after = pool_of(site).spent("day", services.metering.today())
            assert after == spent + work.micro_usd
            spent = after
            services.store.close()
        assert work.micro_usd > 0


def test_work_of_the_app_that_fails_is_not_paid(tmp_path: Path) -> None:
    with site_with(tmp_path, "0.01") as site:
        metering, day = site.services.metering, site.services.metering.today()

        def fails() -> tuple[str, int]:
            raise OSError("the model is gone")

        with pytest.raises(OSError, match="is gone"):
            metering.pay_for_app(5_000, fails)
        assert metering.pay_for_app(5_000, lambda: ("done", 1_200)) == "done"
        assert pool_of(site).spent("day", day) == 1_200


def test_the_job_that_lets_reservations_go_takes_back_what_dead_processes_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with site_with(tmp_path, "0.01") as site:
        services, ceiling = site.services, site.services.metering.ceiling
        assert ceiling is not None
        day = services.metering.today()
        dead = Ceiling(services.store, services.store.scope, services.settings.budget, services.clock, 60.0)
        draw = dead.draw("r1", day, guests=False, dear=700, cheap=700)
        with draw.committing():
            services.store.commit(draw.writes)

        class Later(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> Any:
                return datetime.now(tz or UTC) + timedelta(hours=1)

        monkeypatch.setattr(sqlite, "datetime", Later)
        monkeypatch.setattr(ceiling, "clock", lambda: Later.now(UTC))
        site.finished(services.jobs.enqueue(services.store.scope, EXPIRE, Expire()))
        pool = ceiling.pool(day)
        assert (pool.given_up("day", day), pool.leases) == (700, {})
