"""An export holds all of one user's data and nothing of another's, is made once a day, and goes with its user."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch.documents.catalog import DocumentSource
from firelaunch.errors import NotFound
from firelaunch.llm.types import Chunk
from firelaunch.scope import Scope
from firelaunch.store.base import Create, DocumentStore, Set
from firelaunch.testing.apps import User, sign_in
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks import user_archive
from firelaunch.worker.tasks.erase import erasure_of
from firelaunch.worker.tasks.export import archive_of_link, export_view

ADA, BOB, APP = Scope("demo", "ada"), Scope("demo", "bob"), Scope("demo")


@pytest.fixture(params=["sqlite", "firestore"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    store: DocumentStore | None = None
    if request.param == "firestore":
        store = request.getfixturevalue("emulator_store")
    with embedded_site(tmp_path, store, started=False, workflow=answer) as made:
        yield made


def answer(turn: Turn) -> Iterator[Chunk]:
    turn.llm.complete([{"role": "user", "content": "Think"}])
    yield Chunk(f"So: {turn.text}")


def live(site: Site, user: Scope, word: str) -> User:
    """A user who did something of everything."""
    one = sign_in(site.app, user.uid or "")
    chat = one.new_chat()
    for number in range(3):
        assert one.send(chat, f"{word} message {number}").status_code == 200
    assert one.post("/v1/devices", {"token": f"{word}-secret-token", "platform": "web"}).status_code == 201
    batch = one.post("/v1/batches", {"inputs": [{"text": f"{word} in a batch"}], "budget_micro_usd": 1000}).get_json()
    site.runner.run(batch["id"])
    services = site.services
    services.documents.add(user, DocumentSource("file", "../a/b.txt"), io.BytesIO(f"{word} in a file. ".encode() * 9))
    for name in ("a?.png", "a*.png"):
        services.documents.files(user).put(f"{user.root}/pictures/{name}", io.BytesIO(f"{word} in {name}".encode()))
    services.store.commit(
        [
            Set(user.root, {"plan": "free"}, merge=True),
            Set(user.member(), {"role": "member"}),
            Set(user.memory(), {"notes": [f"{word} to remember"]}),
            Set(f"{user.root}/meals/m1", {"name": f"{word} soup", "photo": b"\x00\x01"}),
            Create(APP.billing_event(f"e-{word}"), {"uid": user.uid, "type": "x"}),
            Create(APP.invite(f"i-{word}"), {"role": "member", "created_by": user.uid}),
        ]
    )
    for job in services.jobs.due(10):
        site.runner.run(job)
    return one


def exported(site: Site, one: User) -> zipfile.ZipFile:
    answer = one.post("/v1/me/exports")
    assert answer.status_code == 202
    job = answer.get_json()
    assert one.get(f"/v1/me/exports/{job['id']}").get_json()["url"] is None
    assert one.get(f"/v1/me/exports/{job['id']}/file").status_code == 404
    site.runner.run(job["id"])
    export = one.get(f"/v1/me/exports/{job['id']}").get_json()
    assert export["state"] == "succeeded", site.services.jobs.find(job["id"])
    got = site.app.test_client().get(export["url"].removeprefix("http://localhost"))  # without a token
    assert (got.status_code, len(got.data)) == (200, export["bytes"])
    archive = zipfile.ZipFile(io.BytesIO(got.data))
    assert archive.testzip() is None
    return archive


def test_all_of_a_user_and_nothing_of_another_is_in_the_zip(site: Site) -> None:
    ada = live(site, ADA, "badger")
    live(site, BOB, "otter")
    archive = exported(site, ada)
    content = {name: archive.read(name).decode() for name in archive.namelist()}
    everything = "".join(content.values())
    assert "otter" not in everything
    assert '"bob"' not in everything
    assert "secret-token" not in everything
    assert set(content) >= {
        "about.json", "user.json", "chats.json", "usage.json", "memory.json", "documents.json", "batches.json",
        "devices.json", "meals.json", "of_the_app/jobs.json", "of_the_app/requests.json", "of_the_app/calls.json",
        "of_the_app/billing_events.json",
    }  # fmt: skip
    assert not {"chunks.json", "postings.json", "gates.json", "exports.json"} & set(content)
    data = {name: json.loads(text) for name, text in content.items() if name.endswith(".json")}
    (chat,) = data["chats.json"]
    assert [m["data"]["text"] for m in chat["messages"] if m["data"]["role"] == "user"] == [
        f"badger message {n}" for n in range(3)
    ]
    assert len(chat["messages"]) == 6
    assert data["user.json"]["membership"] == {"role": "member"}
    assert data["meals.json"] == [{"id": "m1", "data": {"name": "badger soup", "photo": "AAE="}}]
    assert data["devices.json"][0]["data"]["platform"] == "web"
    assert data["batches.json"][0]["id"].endswith("/items/000000")
    (file,) = [name for name in content if name.startswith("files/")]
    assert ".." not in file
    assert content[file] == "badger in a file. " * 9
    pictures = {name: text for name, text in content.items() if name.startswith("pictures/")}
    assert pictures == {"pictures/1/a_.png": "badger in a*.png", "pictures/2/a_.png": "badger in a?.png"}


def test_a_collection_that_is_named_as_another_file_has_a_place_of_its_own(site: Site) -> None:
    ada = live(site, ADA, "badger")
    site.services.store.commit([Set(f"{ADA.root}/{name}/r1", {"text": name}) for name in ("about", "user")])
    archive = exported(site, ada)
    names = archive.namelist()
    assert len(names) == len(set(names))
    assert json.loads(archive.read("records/user.json")) == [{"id": "r1", "data": {"text": "user"}}]
    assert json.loads(archive.read("about.json"))["user"] == "ada"


def test_what_erasure_counts_is_what_the_zip_holds_but_for_what_is_hidden(site: Site) -> None:
    """The two work by one list: a collection that one knows and the other does not fails here."""
    ada = live(site, ADA, "badger")
    found = erasure_of(site.services).report("ada").found
    archive = exported(site, ada)
    held = {name.removeprefix("of_the_app/").removesuffix(".json") for name in archive.namelist()}
    hidden = {"chunks", "postings", "gates", "sources", "device_owners", "invites", "index_entries"}
    nested = {"messages", "items", "users", "members"}
    assert set(found) - hidden - nested <= held


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_there_is_one_export_a_day_and_it_is_its_own_users(site: Site) -> None:
    ada, bob = live(site, ADA, "badger"), live(site, BOB, "otter")
    first, again = (ada.post("/v1/me/exports").get_json() for _ in range(2))
    assert first["id"] == again["id"]
    site.runner.run(first["id"])
    assert ada.post("/v1/me/exports").get_json()["state"] == "succeeded"
    for path in (f"/v1/me/exports/{first['id']}", f"/v1/me/exports/{first['id']}/file", "/v1/me/exports/../x"):
        assert bob.get(path).status_code == 404
    assert bob.post("/v1/me/exports").get_json()["id"] != first["id"]


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_day_later_the_file_is_gone(site: Site, tmp_path: Path) -> None:
    ada = live(site, ADA, "badger")
    exported(site, ada)
    (job,) = [job for job in site.services.jobs.mine(ADA, 50, None).items if job["kind"] == "user_export_expiry"]
    export = ada.post("/v1/me/exports").get_json()["id"]
    later = replace(site.services, clock=lambda: site.services.clock() + timedelta(hours=25))
    assert export_view(later, ADA, export, str, reader="ada")["url"] is None
    site.services.store.commit([Set(APP.job(job["id"]), {"due_at": site.services.clock()}, merge=True)])
    site.runner.run(job["id"])
    assert ada.get(f"/v1/me/exports/{export}").status_code == 404
    assert not list(tmp_path.rglob("*.zip"))


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_link_is_for_its_export_and_its_hour_alone(site: Site) -> None:
    ada, anybody = live(site, ADA, "badger"), site.app.test_client()
    exported(site, ada)
    exported(site, live(site, BOB, "otter"))
    export = ada.post("/v1/me/exports").get_json()["id"]
    url = ada.get(f"/v1/me/exports/{export}").get_json()["url"].removeprefix("http://localhost")
    assert anybody.get(url).status_code == 200
    path, _, key = url.partition("?key=")
    about, _, signature = key.partition(".")

    def about_of(text: str) -> str:
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    bobs, lf = sign_in(site.app, "bob").post("/v1/me/exports").get_json()["id"], "\n"
    later = int(site.services.clock().timestamp()) + 10_000
    for wrong in (
        path,
        f"{path}?key=",
        f"{path}?key={about}",
        f"{path}?key={about}.{signature[:-1]}0{signature[-1:]}",
        f"{path}?key={about_of(f'{later}{lf}{lf}ada{lf}')}.{signature}",
        f"{path}?key={about_of(f'{later}{lf}{lf}bob{lf}')}.{signature}",
        f"{path}?key={about_of(f'x{lf}{lf}ada{lf}')}.{signature}",
        f"{path}?key={about_of(f'{later}{lf}{lf}a/b{lf}')}.{signature}",
        f"{path}?key={about_of(f'{later} ada')}.{signature}",
        f"{path}?key=%ff.%ff",
        f"{path.replace(export, bobs)}?key={key}",
    ):
        assert anybody.get(wrong).status_code in {400, 404}, wrong
    after = replace(site.services, clock=lambda: site.services.clock() + timedelta(minutes=61))
    with pytest.raises(NotFound):
        archive_of_link(after, export, key)
    erasure_of(site.services).run("ada")
    assert anybody.get(url).status_code == 404


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_the_next_export_removes_a_file_whose_removal_its_user_cancelled(site: Site, tmp_path: Path) -> None:
    ada, store, at = live(site, ADA, "badger"), site.services.store, site.services.clock()
    old = ADA.export("j-old")
    store.commit([Create(old, {"day": "2026-01-01", "created_at": at, "expires_at": at - timedelta(hours=1)})])
    site.services.documents.files(ADA).put(f"{old}/data.zip", io.BytesIO(b"old"))
    exported(site, ada)
    assert store.get(old) is None
    assert len(list(tmp_path.rglob("data.zip"))) == 1


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_an_attempt_that_dies_is_begun_again_and_leaves_one_whole_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = live(site, ADA, "badger")
    job = ada.post("/v1/me/exports").get_json()["id"]
    files = user_archive._files

    def die(*_: Any) -> Any:
        raise RuntimeError("killed")

    monkeypatch.setattr(user_archive, "_files", die)
    site.runner.run(job)
    assert ada.get(f"/v1/me/exports/{job}").get_json()["url"] is None
    assert not list(tmp_path.rglob("*.zip*"))
    monkeypatch.setattr(user_archive, "_files", files)
    site.services.store.commit([Set(APP.job(job), {"due_at": site.services.clock()}, merge=True)])
    site.runner.run(job)
    got = ada.get(f"/v1/me/exports/{job}/file").data
    assert zipfile.ZipFile(io.BytesIO(got)).testzip() is None


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_user_who_is_erased_while_their_data_is_exported_leaves_no_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = live(site, ADA, "badger")
    job = ada.post("/v1/me/exports").get_json()["id"]
    files = user_archive._files

    def erased_meanwhile(run: Any) -> Any:
        erasure_of(site.services).run("ada")
        yield from files(run)

    monkeypatch.setattr(user_archive, "_files", erased_meanwhile)
    site.runner.run(job)
    assert not list(tmp_path.rglob("*.zip*"))
    assert list(site.services.store.tree(ADA.root)) == []


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_an_erased_users_finished_export_goes_with_them(site: Site, tmp_path: Path) -> None:
    exported(site, live(site, ADA, "badger"))
    assert list(tmp_path.rglob("*.zip"))
    erasure_of(site.services).run("ada")
    assert not list(tmp_path.rglob("*.zip"))


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_much_data_takes_no_more_memory_than_a_page_of_it(site: Site) -> None:
    """32 MB of messages, and 32 MB of jobs, that do not compress to nothing."""
    ada = sign_in(site.app, "ada")
    chat, at = ada.new_chat(), site.services.clock()
    for number in range(320):
        text = f"{number:06d}" * 16_000
        site.services.store.commit([Create(ADA.message(chat, f"m{number:04d}"), {"text": text, "created_at": at})])
        site.services.store.commit([Create(APP.job(f"j{number:04d}"), {"uid": "ada", "payload": text})])
    job = ada.post("/v1/me/exports").get_json()["id"]
    tracemalloc.start()
    try:
        site.runner.run(job)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert site.services.jobs.get(ADA, job).state == "succeeded"
    assert peak < 16 * 2**20
