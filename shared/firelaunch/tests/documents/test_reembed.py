"""A second index version: built beside the one in use, switched to when it is whole, broken off and gone on with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.documents.reembed import Reembedding
from firelaunch.errors import Conflict, Interrupted
from firelaunch.rag.versions import Version
from firelaunch.scope import Scope
from firelaunch.services.build import build
from firelaunch.settings.app import Settings
from firelaunch.store.base import Query, Set, Update
from firelaunch.store.passes import Share
from firelaunch.testing.apps import User, sign_in, write_app
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from firelaunch.testing.emulator import Emulator
from firelaunch.worker.tasks.reembed import REEMBED, Reembed
from firelaunch_cli.commands import main
from hypothesis import given
from hypothesis import strategies as st

ADA = Scope("demo", "ada")
PRICE = '\n[prices."text-embedding-3-small"]\ninput = "2"\noutput = "0"\n'
EMBEDDED = f'\n[index]\nembedder = "openai"\n{PRICE}'
CHANGED = JOB_SETTINGS + "\n[index]\nchunk_tokens = 64\nchunk_overlap = 10\n"


def prose(subject: str) -> bytes:
    return f"# {subject}\n\n{f'All that there is to know about {subject} is here. ' * 30}".encode()


def put(user: User, name: str, content: bytes) -> dict[str, Any]:
    return user.document(user.upload(name, content).get_json()["id"])


@dataclass(frozen=True)
class Place:
    """Where an app has its documents and their index. ``changed``: its settings before a re-embedding."""

    settings: str
    changed: str
    environ: dict[str, str]


@pytest.fixture
def on_firestore(
    firestore_emulator: Emulator, firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """The emulators mode, with an embedding model on a real socket."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_emulator.host)  # the client library reads it
    with OpenAIEmbeddingServer() as server:
        here = f'\n[cloud]\nproject = "{firestore_project}"\n'
        environ = {"FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": firestore_emulator.host}
        environ |= {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.base_url}
        yield Place(JOB_SETTINGS + here + EMBEDDED, CHANGED + 'embedder = "openai"\n' + here + PRICE, environ)


@pytest.fixture(params=["embedded", "firestore"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "embedded":
        return Place(JOB_SETTINGS, CHANGED, {})
    found: Place = request.getfixturevalue("on_firestore")
    return found


only_embedded = pytest.mark.parametrize("place", ["embedded"], indirect=True)


@pytest.fixture
def site(place: Place, tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path, settings=place.settings, **place.environ) as made:
        yield made


@pytest.fixture
def work(site: Site, place: Place, tmp_path: Path) -> Iterator[Reembedding]:
    """A re-embedding by another process, whose settings are changed already."""
    documents = [put(sign_in(site.app, "ada"), f"{n}.md", prose(f"walruses {n}")) for n in range(3)]
    assert {each["status"] for each in documents} == {"ready"}
    services = build(Settings.load(write_app(tmp_path, place.changed), place.environ))
    yield Reembedding(services.store, services.documents, services.metering)
    services.store.close()


def count(work: Reembedding, version: str) -> int:
    return work.documents.engine(work.target).index.count(ADA, version)


def is_of(work: Reembedding, version: Version, passage: dict[str, Any]) -> bool:
    entries = work.documents.engine(version).index.read(ADA, version.id, passage["document_id"])
    return (passage["start"], passage["end"]) in {(each.place["start"], each.place["end"]) for each in entries}


def finished(work: Reembedding) -> None:
    work.begin()
    for _ in work.build():
        pass
    assert work.switch()


def test_the_version_in_use_is_searched_until_the_new_one_holds_everything(site: Site, work: Reembedding) -> None:
    ada, versions = sign_in(site.app, "ada"), site.services.documents.versions
    first = versions.ensure_state().current
    assert (work.survey().documents, work.survey().missing) == (3, 3)
    work.begin()
    steps = work.build()
    next(steps)
    assert not work.switch()
    assert versions.ensure_state().current == first
    old = ada.post("/v1/search", {"query": "walruses"}).get_json()["passages"]
    assert old
    assert all(is_of(work, first, p) and not is_of(work, work.target, p) for p in old)
    new = put(ada, "new.md", prose("penguins"))
    assert list(steps)
    assert work.survey().missing == 0
    assert work.switch()
    state = versions.ensure_state()
    assert (state.current, state.building, state.old) == (work.target, None, (first,))
    now = ada.post("/v1/search", {"query": "walruses penguins"}).get_json()["passages"]
    assert new["id"] in {p["document_id"] for p in now}
    assert all(is_of(work, work.target, p) and not is_of(work, first, p) for p in now)


def test_the_old_version_is_kept_until_it_is_dropped_and_can_be_gone_back_to(site: Site, work: Reembedding) -> None:
    first = site.services.documents.versions.ensure_state().current
    before = count(work, first.id)
    finished(work)
    assert count(work, first.id) == before > 0
    put(sign_in(site.app, "ada"), "late.md", prose("otters"))
    back = Reembedding(site.services.store, site.services.documents, site.services.metering)
    assert back.survey().missing == 1, "what the old version holds is not built again"
    finished(back)
    assert site.services.documents.versions.ensure_state().current == first
    assert back.drop_old() == 1
    assert count(work, work.target.id) == 0
    assert work.survey().missing == 4, "no record says that the dropped version holds it"
    finished(work)
    assert count(work, work.target.id) > 0


def test_shards_share_the_documents_and_the_last_one_switches(work: Reembedding) -> None:
    work.begin()
    done = 0
    for number in range(4):
        assert not (work.survey().missing and work.switch())
        done += len(list(work.build(Share(number, 4))))
    assert done == 3
    assert work.switch()


@given(key=st.text("0123456789abcdef", min_size=40, max_size=40), of=st.integers(1, 1000))
def test_each_document_is_of_one_shard_and_comes_after_its_first_key(key: str, of: int) -> None:
    (holder,) = [shard for shard in (Share(n, of) for n in range(of)) if shard.holds(key)]
    assert key > holder.first


def test_work_that_is_broken_off_goes_on_and_makes_what_it_left_whole(site: Site, work: Reembedding) -> None:
    work.begin()
    steps = iter([None, None, None])

    def check() -> None:
        try:
            next(steps)
        except StopIteration:
            raise Interrupted from None

    with pytest.raises(Interrupted):
        list(work.build(check=check))
    assert work.waits()
    assert not work.switch()
    finished(work)
    assert not work.waits()


def test_a_document_that_went_while_it_was_built_is_taken_out_by_who_goes_on(site: Site, work: Reembedding) -> None:
    """The process died after it had written entries of a document that its user had just deleted."""
    work.begin()
    (first, *_) = site.services.store.query(Query(site.services.store.scope.sources()))
    list(work.build())
    document = first.data["document"]
    entries = work.documents.engine(work.target).index.read(ADA, work.target.id, document)
    sign_in(site.app, "ada").delete(f"/v1/documents/{document}")
    work.documents.engine(work.target).index.upsert(ADA, work.target.id, entries)
    note = site.services.store.scope.under_way(first.id)
    site.services.store.commit([Set(note, {"uid": "ada", "document": document})])
    finished(work)
    assert work.documents.engine(work.target).index.read(ADA, work.target.id, document) == []


def test_a_document_that_changed_while_it_was_built_holds_what_it_is_now(site: Site, work: Reembedding) -> None:
    ada = sign_in(site.app, "ada")
    work.begin()
    changed: list[dict[str, Any]] = []

    def check() -> None:
        if len(changed) == 0 and work.waits():
            changed.append({})
            (note,) = [n for n in site.services.store.query(Query("apps/demo/index")) if n.id != "state"]
            record = site.services.documents.record(ADA, note.data["document"])
            changed.append(put(ada, record.data["name"], prose("penguins")))

    list(work.build(check=check))
    assert work.switch()
    found = work.documents.engine(work.target).index.read(ADA, work.target.id, changed[1]["id"])
    assert found
    assert all("penguins" in entry.text and "walruses" not in entry.text for entry in found)


def test_a_document_without_its_text_keeps_the_old_version_in_use_and_is_named(site: Site, work: Reembedding) -> None:
    (first, *_) = site.services.store.query(Query(ADA.documents()))
    site.services.documents.files(ADA).delete(first.path)
    work.begin()
    list(work.build())
    assert [path for path, _ in work.refused] == [first.path]
    assert not work.switch()


def test_two_versions_are_not_built_at_once_and_one_can_be_given_up(site: Site, work: Reembedding) -> None:
    work.begin()
    list(work.build())
    path = site.services.store.scope.index_state()
    state = site.services.store.get(path)
    assert state is not None
    site.services.store.commit([Update(path, {"building": {**state.data["building"], "id": "vother"}})])
    with pytest.raises(Conflict):
        work.begin()
    assert work.abandon()
    assert not work.abandon()
    finished(work)


@only_embedded
def test_a_new_embedder_has_every_chunk_embedded_and_its_cost_is_told_before(site: Site, tmp_path: Path) -> None:
    ada = sign_in(site.app, "ada")
    document = put(ada, "a.md", prose("walruses"))
    with OpenAIEmbeddingServer() as server:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": server.base_url}
        path = write_app(tmp_path, JOB_SETTINGS + EMBEDDED)
        services = build(Settings.load(path, environ))
        work = Reembedding(services.store, services.documents, services.metering)
        told = work.survey()
        assert told.micro_usd > 0
        assert server.requests == [], "a survey costs nothing"
        finished(work)
        assert 0 < work.micro_usd <= told.micro_usd
        entries = services.documents.engine(work.target).index.read(ADA, work.target.id, document["id"])
        assert entries
        assert all(entry.vector is not None for entry in entries)
        services.store.close()


def test_from_words_alone_to_vectors_in_firestore(on_firestore: Place, tmp_path: Path) -> None:
    """Another index as well as another embedder."""
    words = on_firestore.settings.replace('embedder = "openai"', 'embedder = "none"')
    with embedded_site(tmp_path, settings=words, **on_firestore.environ) as site:
        ada = sign_in(site.app, "ada")
        document = put(ada, "a.md", prose("walruses"))
        before = ada.post("/v1/search", {"query": "walruses"}).get_json()
        services = build(Settings.load(write_app(tmp_path, on_firestore.settings), on_firestore.environ))
        work = Reembedding(services.store, services.documents, services.metering)
        assert work.target.backend == "firestore"
        finished(work)
        late = put(ada, "late.md", prose("otters"))
        after = ada.post("/v1/search", {"query": "walruses otters"}).get_json()
        assert work.drop_old() == 1
        services.store.close()
    assert (before["mode"], after["mode"]) == ("lexical", "hybrid")
    assert {each["document_id"] for each in after["passages"]} == {document["id"], late["id"]}


def test_the_command_tells_before_it_does_and_does_it_once(
    site: Site, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in place.environ.items():
        monkeypatch.setenv(name, value)
    put(sign_in(site.app, "ada"), "a.md", prose("walruses"))
    versions = site.services.documents.versions
    first = versions.ensure_state().current
    write_app(tmp_path, place.changed)

    def run(*options: str) -> str:
        done = CliRunner().invoke(main, ["reembed", str(tmp_path), *options])
        assert done.exit_code == 0, done.output
        return done.output

    assert "1 of 1 documents to build" in run("--dry-run")
    planned = json.loads(CliRunner().invoke(main, ["reembed", str(tmp_path), "--dry-run", "--json"]).stdout)
    assert (planned["documents"], planned["missing"], planned["searched"]) == (1, 1, False)
    assert versions.ensure_state().building is None
    assert "is searched now" in run()
    assert versions.ensure_state().old == (first,)
    assert "0 of 1 documents to build" in run()
    assert "Removed 1" in run("--drop-old")
    assert "None is being built" in run("--abandon")
    monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", "4")
    assert CliRunner().invoke(main, ["reembed", str(tmp_path)]).exit_code == 1


def test_an_admins_job_builds_the_version_that_the_settings_ask_for_and_switches(
    site: Site, place: Place, tmp_path: Path
) -> None:
    before = put(sign_in(site.app, "ada"), "walruses.md", prose("walruses"))
    assert before["status"] == "ready"
    with embedded_site(tmp_path, settings=place.changed, **place.environ) as changed:
        boss = sign_in(changed.app, "boss", "admin")
        job = boss.post("/v1/ops/reembed", {}).get_json()
        done = changed.finished(changed.services.jobs.find(job["id"]))
        assert done.state == "succeeded", done.error
        wanted = changed.services.documents.versions.configured
        assert json.loads(done.result or "")["version"] == wanted.id
        assert changed.services.documents.versions.ensure_state().current == wanted
        found = sign_in(changed.app, "ada").post("/v1/search", {"query": "walruses"}).get_json()["passages"]
        assert {each["document_id"] for each in found} == {before["id"]}


def test_no_member_begins_a_re_embedding(site: Site) -> None:
    assert sign_in(site.app, "ada").post("/v1/ops/reembed", {}).status_code == 403


def test_an_instance_whose_settings_ask_for_another_version_does_not_do_the_job(site: Site) -> None:
    before = site.services.documents.versions.ensure_state()
    done = site.finished(site.services.jobs.enqueue(Scope("demo"), REEMBED, Reembed(version="v0")), seconds=60)
    assert (done.state, (done.error or {}).get("code")) == ("dead", "conflict")
    assert site.services.documents.versions.ensure_state() == before
