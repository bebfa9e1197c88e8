"""Searchable records: what lives is found by those who may read it, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.documents.reembed import Reembedding
from firelaunch.errors import NotFound, SettingsError
from firelaunch.events import Change, Received
from firelaunch.llm.types import Chunk
from firelaunch.records.collection import Collection
from firelaunch.records.migration import Migration
from firelaunch.records.record import Record
from firelaunch.records.user_ids import UserId
from firelaunch.scope import Scope, record_text_id
from firelaunch.server.declared import Declared
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import run_jobs, sign_in, write_app
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from firelaunch.testing.emulator import Emulator
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks.erase import erasure_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import Field

APP, ADA, BOB = Scope("demo"), Scope("demo", "ada"), Scope("demo", "bob")


class Note(Record):
    title: str
    text: str | None = None
    tags: list[str] = Field(default_factory=list)
    likes: int = 0


class Loan(Record):
    tool: str
    borrower: UserId


notes = Collection("notes", Note, owner="user", searchable=("title", "text", "tags"))
tips = Collection("tips", Note, owner="app", searchable=("title",))
loans = Collection("loans", Loan, owner="app", on_erase="delete", searchable=["tool"])
DECLARED = Declared(collections=(notes, tips, loans))
PAID = (
    JOB_SETTINGS + '\n[index]\nembedder = "openai"\n[prices."text-embedding-3-small"]\ninput = "2000"\noutput = "0"\n'
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path, declared=DECLARED, started=False) as made:
        yield made


def mine(site: Site, scope: Scope, collection: Any = notes) -> Any:
    return site.services.data.within(scope)(collection)


def found(site: Site, uid: str, query: str, **more: Any) -> list[dict[str, Any]]:
    answer = sign_in(site.app, uid).post("/v1/search", {"query": query, **more})
    assert answer.status_code == 200, answer.text
    passages: list[dict[str, Any]] = answer.get_json()["passages"]
    return passages


def records(site: Site, uid: str, query: str, **more: Any) -> set[tuple[str, str, bool]]:
    passages = found(site, uid, query, **more)
    return {(each["record"]["collection"], each["record"]["id"], each["library"]) for each in passages}


def test_a_users_record_is_found_by_that_user_with_its_collection_id_and_title(site: Site) -> None:
    mine(site, ADA).add(Note(title="Trip to Lisbon", text="Trams climb steep hills.", tags=["portugal"]), id="a")
    run_jobs(site.app)
    [passage] = found(site, "ada", "steep trams")
    assert passage["record"] == {"collection": "notes", "id": "a"}
    assert (passage["title"], passage["library"]) == ("Trip to Lisbon", False)
    assert "Trams climb steep hills." in passage["text"]
    assert records(site, "ada", "portugal") == {("notes", "a", False)}
    assert found(site, "bob", "steep trams portugal") == []


def test_a_record_of_the_app_is_found_by_all_members_unless_they_leave_the_library_out(site: Site) -> None:
    mine(site, APP, tips).add(Note(title="Sharpen chisels weekly", text="oilstone"), id="t1")
    run_jobs(site.app)
    assert records(site, "bob", "chisels") == {("tips", "t1", True)}
    assert found(site, "bob", "chisels", library=False) == []
    assert found(site, "bob", "oilstone") == [], "text is not searchable here"


def test_a_chat_shows_the_users_records_to_the_model(tmp_path: Path) -> None:
    def answer(turn: Turn) -> Iterator[Chunk]:
        yield Chunk(turn.passages + " [1]")

    with embedded_site(tmp_path, declared=DECLARED, started=False, workflow=answer) as site:
        mine(site, ADA).add(Note(title="Trip", text="Trams climb steep hills."), id="n1")
        run_jobs(site.app)
        ada = sign_in(site.app, "ada")
        chat = ada.post("/v1/chats", {}).get_json()["id"]
        message = ada.post(f"/v1/chats/{chat}/messages", {"text": "steep trams?"}).get_json()["message"]
        assert "Trams climb steep hills." in message["text"]
        assert message["citations"][0]["record"] == {"collection": "notes", "id": "n1"}


def test_a_deleted_record_is_found_no_more_before_its_job_ran_and_leaves_nothing_after(site: Site) -> None:
    note = mine(site, ADA).add(Note(title="walruses"), id="n1")
    run_jobs(site.app)
    mine(site, ADA).delete(note)
    assert found(site, "ada", "walruses") == []
    run_jobs(site.app)
    assert _traces(site, ADA) == []


def _traces(site: Site, scope: Scope) -> list[str]:
    """What there is of texts of records: catalog, index, files, and the app's list of sources."""
    documents = site.services.documents
    state = documents.versions.ensure_state()
    entries = documents.engine(state.current).index.count(scope, state.current.id)
    store = site.services.store
    sources = [store.get(path) for path in store.tree(APP.sources())]
    listed = [each.path for each in sources if each is not None and each.data["uid"] == scope.uid]
    folders = [
        scope.document(record_text_id(each.name, name)) for each in (notes, tips, loans) for name in ("n1", "l1")
    ]
    files = [name for folder in folders for name in documents.files(scope).names(folder)]
    return [*(["entries"] if entries else []), *store.tree(scope.record_texts()), *listed, *files]


def test_a_change_of_other_fields_indexes_nothing_again(site: Site) -> None:
    mine(site, ADA).add(Note(title="walruses"), id="n1")
    run_jobs(site.app)
    mine(site, ADA).increment("n1", "likes")
    assert [job.kind for job in run_jobs(site.app)] == ["search_notes"]


def test_text_that_comes_back_is_found_again_and_nothing_else(site: Site) -> None:
    mine(site, ADA).add(Note(title="walruses"), id="n1")
    run_jobs(site.app)
    for title in ("penguins", "walruses"):
        mine(site, ADA).update("n1", {"title": title})
    run_jobs(site.app)
    assert records(site, "ada", "walruses") == {("notes", "n1", False)}
    assert found(site, "ada", "penguins") == []


def test_an_erased_users_records_and_those_that_name_the_user_leave_no_trace_in_the_index(site: Site) -> None:
    mine(site, ADA).add(Note(title="walruses"), id="n1")
    mine(site, APP, loans).add(Loan(tool="chisel", borrower="ada"), id="l1")
    run_jobs(site.app)
    assert records(site, "bob", "chisel") == {("loans", "l1", True)}
    erasure_of(site.services).run("ada")
    assert _traces(site, ADA) == []
    assert _traces(site, APP) == []
    run_jobs(site.app)
    assert _traces(site, ADA) == _traces(site, APP) == []


def test_the_text_of_a_record_is_no_document_to_list_or_delete(site: Site) -> None:
    mine(site, ADA).add(Note(title="walruses"), id="n1")
    run_jobs(site.app)
    ada = sign_in(site.app, "ada")
    assert ada.get("/v1/documents").get_json()["items"] == []
    answer = ada.delete(f"/v1/documents/{record_text_id('notes', 'n1')}")
    assert (answer.status_code, "Delete the record" in answer.text) == (409, True)
    [passage] = found(site, "ada", "walruses")
    text = ada.get(f"/v1/documents/{passage['document_id']}/text?start=0&end=8&chunk_id={passage['chunk_id']}")
    assert text.get_json()["text"] == "walruses"


def test_records_count_toward_no_limit_of_documents(tmp_path: Path) -> None:
    few = JOB_SETTINGS.replace('daily_usd = "0.50"', 'daily_usd = "0.50"\ndocuments = 1')
    with embedded_site(tmp_path, settings=few, declared=DECLARED, started=False) as site:
        for number in range(3):
            mine(site, ADA).add(Note(title=f"walrus {number} {'abc'[number]}"), id=f"n{number}")
        run_jobs(site.app)
        assert len(records(site, "ada", "walrus")) == 3
        assert sign_in(site.app, "ada").upload("a.txt", b"text").status_code == 202


def test_embedding_is_paid_by_the_records_user_and_waits_for_a_day_that_covers_it(tmp_path: Path) -> None:
    with (
        OpenAIEmbeddingServer() as server,
        embedded_site(
            tmp_path,
            settings=PAID,
            declared=DECLARED,
            started=False,
            OPENAI_API_KEY="k",
            OPENAI_BASE_URL=server.base_url,
        ) as site,
    ):
        mine(site, ADA).add(Note(title="walruses"), id="n1")
        run_jobs(site.app)
        day = ADA.usage(site.services.metering.today())
        spent = site.services.store.get(day)
        assert spent is not None
        assert spent.data["cost_micro_usd"] > 0
        mine(site, BOB).add(Note(title="penguins " * 100), id="n1")
        jobs = {job.kind: job for job in run_jobs(site.app) if job.uid == "bob"}
        assert (jobs["ingest"].state, jobs["ingest"].attempts) == ("queued", 0), "it is tried again, and is no failure"


def test_existing_records_are_indexed_by_a_new_version_and_a_migration(tmp_path: Path) -> None:
    plain = Collection("notes", Note, owner="user")
    with embedded_site(tmp_path, declared=Declared(collections=(plain,)), started=False) as site:
        mine(site, ADA, plain).add(Note(title="walruses"), id="n1")
        run_jobs(site.app)
        assert found(site, "ada", "walruses") == []
    newer = Collection("notes", Note, owner="user", version=2, searchable=("title",))
    with embedded_site(tmp_path, declared=Declared(collections=(newer,)), started=False) as site:
        for _ in Migration(site.services.store, [newer]).run():
            pass
        run_jobs(site.app)
        assert records(site, "ada", "walruses") == {("notes", "n1", False)}
    with embedded_site(tmp_path, declared=Declared(collections=(plain,)), started=False) as site:
        assert found(site, "ada", "walruses") == [], "the app does not declare it as searchable any more"


def test_records_move_to_another_index_version_with_the_documents(tmp_path: Path, site: Site) -> None:
    mine(site, ADA).add(Note(title="walruses"), id="n1")
    run_jobs(site.app)
    changed = JOB_SETTINGS + "\n[index]\nchunk_tokens = 64\nchunk_overlap = 10\n"
    services = build(Settings.load(write_app(tmp_path, changed), {}))
    work = Reembedding(services.store, services.documents, services.metering)
    work.begin()
    assert list(work.build()) == [1]
    assert work.switch()
    services.store.close()
    assert records(site, "ada", "walruses") == {("notes", "n1", False)}


def test_in_the_cloud_late_and_repeated_events_lead_to_the_record_as_it_is_now(site: Site) -> None:
    assert site.app.background is not None
    events = site.app.background.events
    assert {trigger.handler: trigger.pattern for trigger in events.triggers}["search_notes"] == (
        "apps/demo/users/{uid}/notes/{record}"
    )
    mine(site, ADA).add(Note(title="walruses"), id="n1")
    run_jobs(site.app)
    now, path = datetime.now(UTC), f"{ADA.root}/notes/n1"
    written = "google.cloud.firestore.document.v1.written"
    gone = Received("e1", written, now, path, {}, Change({"title": "penguins"}, None, now))
    older = Received("e2", written, now, path, {}, Change(None, {"title": "penguins"}, now))
    for event in (gone, older, gone):
        events.receive("search_notes", event)
    run_jobs(site.app)
    assert records(site, "ada", "walruses") == {("notes", "n1", False)}
    assert found(site, "ada", "penguins") == []


@pytest.mark.parametrize(
    ("searchable", "mend"),
    [
        ("title", "write ('title',)"),
        (("name",), "has no field 'name'"),
        (("likes",), "no text"),
        (("title", "title"), "twice"),
    ],
)
def test_a_searchable_field_that_is_no_text_is_refused_at_start(searchable: Any, mend: str) -> None:
    with pytest.raises(SettingsError, match=mend.replace("(", r"\(").replace(")", r"\)")):
        Collection("notes", Note, searchable=searchable)


def test_a_users_id_is_not_searchable() -> None:
    with pytest.raises(SettingsError, match="user's id"):
        Collection("loans", Loan, owner="app", on_erase="delete", searchable=("borrower",))


WORDS = ("walrus", "penguin", "otter")
PLACES = (("notes", "ada"), ("notes", "bob"), ("tips", None))
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("put"),
            st.sampled_from("12"),
            st.sampled_from(PLACES),
            st.sampled_from("xy"),
            st.sampled_from(WORDS),
        ),
        st.tuples(st.just("delete"), st.sampled_from("12"), st.sampled_from(PLACES), st.sampled_from("xy")),
        st.tuples(st.just("work"), st.sampled_from("12"), st.integers(1, 3)),
    ),
    max_size=12,
)


@pytest.fixture(params=["embedded", "firestore"])
def environ(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    if request.param == "embedded":
        return {}
    emulator: Emulator = request.getfixturevalue("firestore_emulator")
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator.host)
    return {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": emulator.host}


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps=STEPS)
def test_after_any_changes_a_search_finds_exactly_what_lives_and_is_the_callers(
    steps: list[Any], environ: dict[str, str]
) -> None:
    with ExitStack() as stack:
        folder, project = stack.enter_context(TemporaryDirectory()), f"demo-{token_hex(8)}"
        sites = {name: stack.enter_context(_site(name, project, folder, environ)) for name in "12"}
        living: dict[tuple[str, str, str | None, str], str] = {}
        for action, app, *rest in steps:
            site = sites[app]
            if action == "work":
                for job in site.services.jobs.due(rest[0]):
                    assert site.app.runner is not None
                    site.app.runner.run(job)
            else:
                _step(site, living, action, app, rest)
            _check(sites, living, exactly=False)
        for site in sites.values():
            run_jobs(site.app)
        _check(sites, living, exactly=True)


def _site(name: str, project: str, folder: str, environ: dict[str, str]) -> Any:
    text = JOB_SETTINGS.replace('id = "demo"', f'id = "demo{name}"') + f'\n[cloud]\nproject = "{project}"\n'
    place = Path(folder) / name
    place.mkdir()
    return embedded_site(place, settings=text, declared=DECLARED, started=False, **environ)


def _step(site: Site, living: dict[Any, str], action: str, app: str, rest: list[Any]) -> None:
    (collection, uid), name = rest[0], rest[1]
    scope = Scope(f"demo{app}", uid)
    own = mine(site, scope, {"notes": notes, "tips": tips}[collection])
    key = (app, collection, uid, name)
    if action == "delete":
        own.delete(name)
        living.pop(key, None)
        return
    title = f"{rest[2]} {collection} {uid} {name}"
    try:
        own.update(name, {"title": title})
    except NotFound:
        own.add(Note(title=title), id=name)
    living[key] = rest[2]


def _check(sites: dict[str, Site], living: dict[Any, str], *, exactly: bool) -> None:
    for app, site in sites.items():
        for uid in ("ada", "bob"):
            own = {key: word for key, word in living.items() if key[0] == app and key[2] in {uid, None}}
            for word in WORDS:
                seen = records(site, uid, word)
                wanted = {(key[1], key[3], key[2] is None) for key, each in own.items() if each == word}
                everything = {(key[1], key[3], key[2] is None) for key in own}
                assert seen == wanted if exactly else seen <= everything, (app, uid, word)
