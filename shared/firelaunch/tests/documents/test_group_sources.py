"""Groups take in pages of sites, uploads by Storage, and the texts of their records."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.jobs import JOB_SETTINGS, Site, embedded_site
from firelaunch.errors import NotFound
from firelaunch.rag.files import LocalFiles, upload_path
from firelaunch.rag.web.fetch import Fetcher, FetchLimits
from firelaunch.records.collection import Collection
from firelaunch.records.record import Record
from firelaunch.records.user_ids import UserId
from firelaunch.scope import Scope
from firelaunch.server.declared import Declared
from firelaunch.testing.apps import User, run_jobs, sign_in
from firelaunch.testing.sites import Site as WebSite
from firelaunch.testing.sites import SiteReply
from firelaunch.worker.tasks.erase import erasure_of

WITH_GROUPS = JOB_SETTINGS.replace("\n[jobs]", "groups = 5\n\n[jobs]")


class Meal(Record):
    name: str
    added_by: UserId | None = None


class Note(Record):
    text: str
    by: UserId | None = None


meals = Collection("meals", Meal, owner="group", written_by="added_by", on_erase="anonymize", searchable=["name"])
notes = Collection("notes", Note, owner="group", written_by="by", on_erase="delete", searchable=["text"])


@pytest.fixture
def web() -> Iterator[WebSite]:
    with WebSite({"/": SiteReply(b"<p>Walruses dive deep.</p>")}) as served:
        yield served


@pytest.fixture
def site(tmp_path: Path, web: WebSite) -> Iterator[Site]:
    fetcher = Fetcher(FetchLimits(ports=frozenset({web.port})), allow=lambda _: True)
    declared = Declared(collections=(meals, notes))
    with embedded_site(tmp_path, settings=WITH_GROUPS, started=False, fetcher=fetcher, declared=declared) as made:
        yield made


def new_group(owner: User, **members: User) -> str:
    group: str = owner.post("/v1/groups", {"name": "Family"}).get_json()["id"]
    for role, user in members.items():
        code = owner.post(f"/v1/groups/{group}/invites", {"role": role}).get_json()["invite"]
        assert user.post(f"/v1/groups/{group}/join", {"invite": code}).status_code == 200
    return group


def found(user: User, query: str, group: str | None = None) -> list[str]:
    answer = user.post("/v1/search", {"query": query, **({"group": group} if group else {})})
    assert answer.status_code == 200, answer.get_json()
    return [passage["title"] for passage in answer.get_json()["passages"]]


def people(site: Site) -> list[User]:
    return [sign_in(site.app, uid) for uid in ("ada", "bob", "cat", "eve")]


def test_a_crawl_brings_pages_into_the_group_and_its_members_follow_it(site: Site, web: WebSite) -> None:
    ada, bob, cat, eve = people(site)
    group, other = new_group(ada, editor=bob, viewer=cat), new_group(ada)
    body = {"url": f"{web.url}/", "depth": 0, "pages": 3, "group": group}
    assert cat.post("/v1/crawls", body).status_code == 403
    assert eve.post("/v1/crawls", body).status_code == 404
    assert ada.post("/v1/crawls", {**body, "library": True}).status_code == 400
    assert run_jobs(site.app) == [], "who may not write starts nothing"
    job = bob.post("/v1/crawls", body)
    assert job.status_code == 202, job.get_json()
    run_jobs(site.app)
    path = f"/v1/jobs/{job.get_json()['id']}"
    for user in (ada, bob, cat):
        assert user.get(f"{path}?group={group}").get_json()["result"]["pages"] == 1
        assert user.get(path).status_code == 404, "it is nobody's own"
    assert eve.get(f"{path}?group={group}").status_code == 404
    assert ada.get(f"{path}?group={other}").status_code == 404
    assert len(found(cat, "walruses", group)) == 1
    assert found(bob, "walruses") == found(ada, "walruses", other) == []


def test_editors_cancel_a_groups_job_and_viewers_and_removed_members_do_not(site: Site, web: WebSite) -> None:
    ada, bob, cat, _ = people(site)
    group = new_group(ada, editor=bob, viewer=cat)
    job = bob.post("/v1/crawls", {"url": f"{web.url}/", "group": group}).get_json()["id"]
    ada.delete(f"/v1/groups/{group}/members/bob")
    cancel = f"/v1/jobs/{job}/cancel?group={group}"
    assert [user.post(cancel, {}).status_code for user in (cat, bob)] == [403, 404]
    assert ada.post(cancel, {}).get_json()["state"] == "cancelled"
    assert bob.post("/v1/crawls", {"url": f"{web.url}/", "group": group}).status_code == 404


def put_into_storage(folder: Path, uid: str, name: str, content: bytes) -> None:
    path = upload_path(Scope("demo", uid), name)
    LocalFiles(folder / ".firelaunch" / "files").put(path, io.BytesIO(content))


def test_a_users_upload_is_copied_into_a_group_or_the_library_that_they_may_write_to(
    site: Site, tmp_path: Path
) -> None:
    ada, bob, cat, _ = people(site)
    boss = sign_in(site.app, "ada", role="admin")
    group = new_group(bob, editor=ada, viewer=cat)
    for uid in ("ada", "cat"):  # a viewer who has the very file is refused as well
        put_into_storage(tmp_path, uid, "a.txt", b"Walruses dive deep.")
    body = {"upload": "a.txt", "group": group}
    assert ada.post("/v1/documents", body).status_code == 202
    run_jobs(site.app)
    assert found(cat, "walruses", group) == ["a.txt"]
    assert found(ada, "walruses") == [], "it is the group's now"
    missing = bob.post("/v1/documents", body)
    assert (missing.status_code, missing.get_json()["error"]["code"]) == (404, "not_found"), "Bob uploaded no such file"
    assert cat.post("/v1/documents", body).status_code == 403
    for name in ("../bob/uploads/a.txt", "x/a.txt", "..", "a."):
        assert ada.post("/v1/documents", {**body, "upload": name}).status_code == 400, name
    assert ada.post("/v1/documents", {"upload": "a.txt", "library": True}).status_code == 403
    assert boss.post("/v1/documents", {"upload": "a.txt", "library": True}).status_code == 202
    assert bob.delete(f"/v1/groups/{group}/members/ada").status_code == 204
    assert ada.post("/v1/documents", body).status_code == 404


def test_a_groups_record_is_found_by_its_members_and_by_nobody_else(site: Site) -> None:
    ada, bob, cat, eve = people(site)
    group, other = new_group(ada, editor=bob, viewer=cat), new_group(ada)
    records = site.services.data.within(Scope("demo").of_group(group))
    records(meals).add(Meal(name="Walrus soup", added_by=UserId("bob")), id="m1")
    run_jobs(site.app)
    for user in (ada, bob, cat):
        assert found(user, "walrus", group) == ["Walrus soup"]
    [passage] = cat.post("/v1/search", {"query": "walrus", "group": group}).get_json()["passages"]
    assert (passage["record"], passage["library"]) == ({"collection": "meals", "id": "m1"}, False)
    assert found(bob, "walrus") == found(ada, "walrus", other) == []
    assert eve.post("/v1/search", {"query": "walrus", "group": group}).status_code == 404
    records(meals).update("m1", {"name": "Penguin soup"})
    run_jobs(site.app)
    assert (found(cat, "walrus", group), found(cat, "penguin", group)) == ([], ["Penguin soup"])
    records(meals).delete("m1")
    assert found(cat, "penguin", group) == [], "before the job ran"


def test_an_erasure_takes_the_texts_of_a_users_records_out_of_the_groups_index_at_once(site: Site) -> None:
    ada, bob, _, _ = people(site)
    group = new_group(ada, editor=bob)
    place = Scope("demo").of_group(group)
    records = site.services.data.within(place)
    records(notes).add(Note(text="A walrus said so", by=UserId("bob")), id="n1")
    records(meals).add(Meal(name="Penguin soup", added_by=UserId("bob")), id="of_bob")
    run_jobs(site.app)
    erasure_of(site.services).run("bob")
    index = site.services.documents
    version = index.versions.ensure_state().current
    assert index.engine(version).index.count(place, version.id) == 0
    assert found(ada, "walrus", group) == []
    run_jobs(site.app)
    assert found(ada, "penguin", group) == ["Penguin soup"], "which stays, and names nobody"
    left = [*site.services.store.tree(place.root), *site.services.store.tree(place.jobs())]
    assert [path for path in left if "bob" in path] == []


def exported(site: Site, owner: User, group: str) -> zipfile.ZipFile:
    job = owner.post(f"/v1/groups/{group}/exports", {})
    assert job.status_code == 202, job.get_json()
    run_jobs(site.app)
    export = owner.get(f"/v1/groups/{group}/exports/{job.get_json()['id']}").get_json()
    assert export["state"] == "succeeded", export
    answer = site.app.test_client().get(export["url"].removeprefix("http://localhost"))
    assert (answer.status_code, len(answer.data)) == (200, export["bytes"])
    return zipfile.ZipFile(io.BytesIO(answer.data))


def test_an_owners_export_holds_all_of_the_group_and_nothing_else(site: Site) -> None:
    ada, bob, cat, _ = people(site)
    group, other = new_group(ada, editor=bob), new_group(ada, viewer=cat)
    ada.delete(f"/v1/groups/{group}/members/eve")
    for form, word in (({"group": group}, "walrus"), ({"group": other}, "otter"), ({}, "badger")):
        ada.upload(f"{word}.txt", f"The {word} sleeps.".encode(), **form)
    place = Scope("demo").of_group(group)
    site.services.data.within(place)(notes).add(Note(text="A walrus said so", by=UserId("bob")), id="n1")
    run_jobs(site.app)
    archive = exported(site, ada, group)
    content = {name: archive.read(name) for name in archive.namelist()}
    everything = b"".join(content.values())
    assert {"about.json", "group.json", "members.json", "documents.json", "notes.json"} <= set(content)
    assert b"The walrus sleeps." in everything
    assert b"A walrus said so" in content["notes.json"]
    for absent in (b"otter", b"badger", other.encode(), b"link_key"):
        assert absent not in everything, absent
    hidden = {"invites.json", "removals.json", "chunks.json", "postings.json", "exports.json"}
    assert not hidden & set(content)


def test_owners_alone_export_a_group_and_the_audit_log_tells_of_it(site: Site) -> None:
    ada, bob, cat, eve = people(site)
    group, other = new_group(ada, editor=bob, viewer=cat), new_group(bob)
    job = ada.post(f"/v1/groups/{group}/exports", {}).get_json()["id"]
    assert ada.post(f"/v1/groups/{group}/exports", {}).get_json()["id"] == job, "the day's"
    run_jobs(site.app)
    path = f"/v1/groups/{group}/exports"
    assert [user.post(path, {}).status_code for user in (bob, cat, eve)] == [403, 403, 404]
    assert [user.get(f"{path}/{job}").status_code for user in (bob, cat, eve)] == [403, 403, 404]
    assert bob.get(f"/v1/groups/{other}/exports/{job}").status_code == 404
    assert ada.get(f"/v1/me/exports/{job}").status_code == ada.get(f"/v1/me/exports/{job}/file").status_code == 404
    link = ada.get(f"{path}/{job}").get_json()["url"]
    other_job = bob.post(f"/v1/groups/{other}/exports", {}).get_json()["id"]
    run_jobs(site.app)
    anybody = site.app.test_client()
    assert anybody.get(link.removeprefix("http://localhost").replace(job, other_job)).status_code == 404
    entries = [site.services.store.get(path) for path in site.services.store.tree("apps/demo/audit")]
    told = [entry.data for entry in entries if entry is not None and entry.data["what"] == "group.exported"]
    assert sorted(entry["after"]["group"] for entry in told) == sorted([group, other])
    ada.patch(f"/v1/groups/{group}/members/bob", {"role": "owner"})
    bob.delete(f"/v1/groups/{group}/members/ada")
    assert ada.get(f"{path}/{job}").status_code == ada.post(path, {}).status_code == 404
    assert bob.get(f"{path}/{job}").status_code == 200


def test_with_a_group_its_exports_files_are_erased(site: Site) -> None:
    ada, *_ = people(site)
    group = new_group(ada)
    exported(site, ada, group)
    place = Scope("demo").of_group(group)
    job = next(iter(site.services.store.ids(place.exports())))
    link = ada.get(f"/v1/groups/{group}/exports/{job}")
    erasure_of(site.services).run(str(place.uid))
    assert site.app.test_client().get(link.get_json()["url"].removeprefix("http://localhost")).status_code == 404
    assert list(site.services.store.tree(place.root)) == []
    with pytest.raises(NotFound):
        next(site.services.documents.files(place).pieces(f"{place.export(job)}/data.zip"))
