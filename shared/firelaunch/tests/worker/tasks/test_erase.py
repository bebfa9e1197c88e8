"""Erasing a user leaves nothing of theirs, and everything of others as it was."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch.documents.catalog import DocumentSource
from firelaunch.llm.types import Chunk
from firelaunch.rag.files import upload_path
from firelaunch.scope import Scope
from firelaunch.store.base import Create, DocumentStore, Set
from firelaunch.testing.apps import sign_in
from firelaunch.turns.turn import Turn
from firelaunch.worker.tasks.erase import ERASE, Erase, erasure_of
from firelaunch.worker.tasks.notify import NOTIFY, Notify

ADA, BOB, APP = Scope("demo", "uid-of-ada"), Scope("demo", "uid-of-bob"), Scope("demo")
MARK = "xyzzy-content"
WHERE = ("chats", "messages", "usage", "requests", "calls", "devices", "device_owners", "jobs", "invites", "members")


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


def live(site: Site, user: Scope, word: str) -> None:
    """A user who did everything that an app offers."""
    one = sign_in(site.app, user.uid or "")
    assert one.send(one.new_chat(), f"{word} in a message").status_code == 200
    assert one.post("/v1/devices", {"token": f"{word}-token", "platform": "web"}).status_code == 201
    batch = one.post("/v1/batches", {"inputs": [{"text": f"{word} in a batch"}], "budget_micro_usd": 1000}).get_json()
    site.runner.run(batch["id"])
    site.services.jobs.enqueue(user, NOTIFY, Notify(title=f"{word} in a job"))
    site.services.store.commit(
        [
            Set(user.root, {"plan": "free", "billing": {"customer": f"cus_{user.uid}"}}, merge=True),
            Set(user.member(), {"role": "member"}),
            Create(APP.invite(f"i-{word}"), {"role": "member", "created_by": user.uid}),
            Create(APP.billing_event(f"e-{word}"), {"uid": user.uid, "type": "x"}),
            Set(user.memory(), {"notes": [f"{word} to remember"]}),
            Set(user.chat("orphan") + "/messages/m1", {"text": f"{word} below a chat that is gone"}),
        ]
    )


def everything(store: DocumentStore) -> dict[str, Any]:
    return {path: store.get(path) for path in store.tree("apps/demo")}


def of(documents: dict[str, Any], word: str) -> dict[str, Any]:
    return {path: d for path, d in documents.items() if word in path or word in repr(d.data)}


def test_nothing_is_left_of_one_user_and_nothing_changed_of_another(site: Site) -> None:
    live(site, ADA, f"{MARK}-ada")
    live(site, BOB, f"{MARK}-bob")
    store = site.services.store
    before = everything(store)
    report = erasure_of(site.services).run(ADA.uid or "")
    after = everything(store)
    # That somebody was erased is kept for a month, under a hash, and what their day has cost.
    (fence,) = [path for path in after if path not in before]
    assert fence == ADA.erasure()
    assert set(after.pop(fence).data) == {"begun_at", "delete_at", "used"}

    assert set(WHERE) <= set(report.found)
    assert report.customer == f"cus_{ADA.uid}"
    left = of(after, "-ada")
    assert list(left) == [f"apps/demo/invites/i-{MARK}-ada"], "the invitation is the app's"
    assert left[f"apps/demo/invites/i-{MARK}-ada"].data == {"role": "member"}
    assert {path: before[path] for path in after if path not in left} == {
        p: d for p, d in after.items() if p not in left
    }
    assert len(of(before, "-bob")) == len(of(after, "-bob")) > 10


def test_a_dry_run_says_the_same_and_changes_nothing(site: Site) -> None:
    live(site, ADA, f"{MARK}-ada")
    before = everything(site.services.store)
    said = erasure_of(site.services).report(ADA.uid or "")
    assert everything(site.services.store) == before
    assert erasure_of(site.services).run(ADA.uid or "").found == said.found
    assert erasure_of(site.services).report(ADA.uid or "").found == {}


def test_a_user_erases_themselves_and_nobody_else(site: Site) -> None:
    live(site, ADA, f"{MARK}-ada")
    live(site, BOB, f"{MARK}-bob")
    store = site.services.store
    before = everything(store)
    assert sign_in(site.app, ADA.uid or "").delete("/v1/me").status_code == 202
    (job,) = (path for path in everything(store) if path not in before)
    site.runner.run(job.rpartition("/")[2])
    after = everything(store)
    assert {path for path in of(after, "-ada") if "invites" not in path} == {job}, "which names the customer in Stripe"
    assert len(of(before, "-bob")) == len(of(after, "-bob")) > 10
    assert sign_in(site.app, ADA.uid or "").get("/v1/chats").get_json()["items"] == []


def test_the_job_leaves_not_even_the_name_of_whom_it_erased(site: Site, tmp_path: Path) -> None:
    live(site, ADA, f"{MARK}-ada")
    site.services.jobs.cancel(ADA, next(iter(site.services.jobs.mine(ADA, 1, None).items))["id"])
    job = site.services.jobs.enqueue(APP, ERASE, Erase(uid=ADA.uid or ""))
    site.runner.run(job.id)
    done = site.services.jobs.find(job.id)
    assert done is not None
    assert (done.state, done.payload, done.uid) == ("succeeded", "{}", None)
    found = json.loads(done.result or "")["found"]
    assert found["chats"] == 1
    erased = [p for p in of(everything(site.services.store), "-ada") if "invites" not in p]
    assert erased == [f"apps/demo/jobs/{job.id}"], "the report names the customer in Stripe"
    assert ADA.uid not in repr({**everything(site.services.store)[erased[0]].data, "result": ""})


def test_what_was_at_work_meanwhile_is_found_by_a_second_pass(site: Site) -> None:
    live(site, ADA, f"{MARK}-ada")
    store = site.services.store
    store.commit([Set(APP.job("busy"), {"uid": ADA.uid, "state": "running", "kind": "x"})])
    job = site.services.jobs.enqueue(APP, ERASE, Erase(uid=ADA.uid or ""))
    site.runner.run(job.id)
    waits = site.services.jobs.find(job.id)
    assert waits is not None
    assert (waits.state, waits.due_at is not None) == ("queued", True)
    store.commit([Set(ADA.message("c9", "m9"), {"text": f"{MARK} late"})])
    store.commit([Set(APP.job(job.id), {"due_at": site.services.clock()}, merge=True)])
    site.runner.run(job.id)
    ended = site.services.jobs.find(job.id)
    assert ended is not None
    assert ended.state == "succeeded"
    assert json.loads(ended.result or "")["found"]["chats"] == 1, "the first pass's counts"
    assert [p for p in of(everything(store), MARK) if "invites" not in p] == []


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_no_byte_of_what_they_wrote_is_in_any_file(site: Site, tmp_path: Path, capfd: Any) -> None:
    live(site, ADA, f"{MARK}-ada")
    live(site, BOB, f"{MARK}-bob")
    erasure_of(site.services).run(ADA.uid or "")
    site.services.store.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    bytes_of = {path: path.read_bytes() for path in files}
    assert not [
        p for p, content in bytes_of.items() if f"{MARK}-ada".encode() in content.replace(f"i-{MARK}-ada".encode(), b"")
    ]
    assert not [path for path, content in bytes_of.items() if (ADA.uid or "").encode() in content]
    assert [path for path, content in bytes_of.items() if f"{MARK}-bob".encode() in content]
    assert MARK not in "".join(capfd.readouterr())


@pytest.mark.parametrize("uid", ["", "a/b", "..", "__x__", "x" * 129, "a\x00"])
def test_what_is_no_uid_erases_nothing(tmp_path: Path, uid: str) -> None:
    from firelaunch.errors import InvalidId

    with embedded_site(tmp_path, started=False) as site:
        live(site, ADA, f"{MARK}-ada")
        before = everything(site.services.store)
        with pytest.raises(InvalidId):
            erasure_of(site.services).run(uid)
        assert everything(site.services.store) == before


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_of_documents_neither_text_nor_vectors_nor_files_are_left(site: Site, tmp_path: Path) -> None:
    """Of one user; what another has is found as before, and the user's client's uploads are gone as well."""
    services = site.services
    for user, word in ((ADA, "otters"), (BOB, "badgers")):
        text = f"{MARK} {word} live near the river. ".encode() * 30
        services.documents.add(user, DocumentSource("file", f"{word}.txt"), io.BytesIO(text))
        services.documents.files(user).put(upload_path(user, "raw.txt"), io.BytesIO(text))
        services.documents.files(user).put(f"{user.root}/pictures/{word}.jpg", io.BytesIO(text))
    for job in services.jobs.due(10):
        site.runner.run(job)
    ada, bob = sign_in(site.app, ADA.uid or ""), sign_in(site.app, BOB.uid or "")
    before = bob.post("/v1/search", {"query": "badgers"}).get_json()
    assert ada.post("/v1/search", {"query": "otters"}).get_json()["passages"]
    report = erasure_of(services).run(ADA.uid or "")
    assert report.found["index_entries"] >= 1
    assert {"documents", "sources", "jobs"} <= set(report.found)
    assert not ada.post("/v1/search", {"query": "otters"}).get_json()["passages"]
    assert bob.post("/v1/search", {"query": "badgers"}).get_json() == before
    site.services.store.close()
    contents = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not [path for path, content in contents.items() if b"otters" in content]
    assert len([path for path, content in contents.items() if b"badgers" in content]) >= 5
