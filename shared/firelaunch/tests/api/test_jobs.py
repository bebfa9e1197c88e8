"""Jobs over HTTP: their owner's alone, and the dead ones the admins'."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.jobs import Site, embedded_site
from firelaunch.jobs import Job, Kind
from firelaunch.scope import Scope
from firelaunch.testing.apps import sign_in
from firelaunch.worker import JobDone, JobFailed, JobRun
from pydantic import BaseModel

ADA = Scope("demo", "ada")


class Note(BaseModel):
    text: str = ""


NOTE = Kind("note", Note)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with embedded_site(tmp_path, started=False) as made:

        @made.handlers.on(NOTE)
        def handle(run: JobRun, payload: Note) -> JobDone:
            if payload.text == "bad":
                raise JobFailed("The text is bad.")
            run.progress(1, 1, "said")
            return JobDone({"said": payload.text})

        yield made


def put_off(site: Site, text: str = "hello", scope: Scope = ADA) -> Job:
    return site.services.jobs.enqueue(scope, NOTE, Note(text=text))


def test_an_owner_reads_how_a_job_went(site: Site) -> None:
    job = put_off(site)
    ada = sign_in(site.app, "ada")
    waiting = ada.get(f"/v1/jobs/{job.id}").get_json()
    assert (waiting["state"], waiting["attempts"], waiting["result"]) == ("queued", 0, None)
    assert waiting["due_at"] is not None
    site.runner.run(job.id)
    ended = ada.get(f"/v1/jobs/{job.id}").get_json()
    assert (ended["state"], ended["result"], ended["due_at"]) == ("succeeded", {"said": "hello"}, None)
    assert ended["progress"] == {"done": 1, "total": 1, "note": "said"}
    assert [entry["event"] for entry in ended["history"]] == ["queued", "started", "succeeded"]
    assert "payload" not in ended


def test_a_list_has_the_callers_own_jobs_newest_first_by_pages(site: Site) -> None:
    ids = [put_off(site, str(n)).id for n in range(5)]
    put_off(site, scope=ADA.of("bob"))
    put_off(site, scope=Scope("demo"))
    ada = sign_in(site.app, "ada")
    first = ada.get("/v1/jobs?limit=3").get_json()
    second = ada.get(f"/v1/jobs?limit=3&cursor={first['next_cursor']}").get_json()
    assert [item["id"] for item in [*first["items"], *second["items"]]] == ids[::-1]
    assert second["next_cursor"] is None
    assert ada.get("/v1/jobs?cursor=x").status_code == 400


def test_a_job_is_there_for_its_owner_alone(site: Site) -> None:
    job = put_off(site)
    for other in (sign_in(site.app, "bob"), sign_in(site.app, "eve", role="admin")):
        assert other.get(f"/v1/jobs/{job.id}").status_code == 404
        assert other.post(f"/v1/jobs/{job.id}/cancel").status_code == 404
        assert other.get("/v1/jobs").get_json()["items"] == []
    assert site.job(ADA, job.id).state == "queued"


def test_an_owner_cancels_a_job_once(site: Site) -> None:
    job = put_off(site)
    ada = sign_in(site.app, "ada")
    assert ada.post(f"/v1/jobs/{job.id}/cancel").get_json()["state"] == "cancelled"
    again = ada.post(f"/v1/jobs/{job.id}/cancel")
    assert (again.status_code, again.get_json()["error"]["code"]) == (409, "conflict")
    assert ada.post("/v1/jobs/nothing/cancel").status_code == 404
    assert ada.post("/v1/jobs/a.b/cancel").status_code == 400


def test_admins_alone_see_dead_jobs_of_the_app_and_drive_them_on(site: Site) -> None:
    job = put_off(site, "bad")
    put_off(site)
    site.runner.run(job.id)
    member, admin = sign_in(site.app, "ada"), sign_in(site.app, "eve", role="admin")
    assert member.get("/v1/ops/jobs").status_code == 403
    assert member.post(f"/v1/ops/jobs/{job.id}/redrive").status_code == 403
    assert site.job(ADA, job.id).state == "dead"
    (dead,) = admin.get("/v1/ops/jobs").get_json()["items"]
    assert (dead["id"], dead["error"]["message"]) == (job.id, "The text is bad.")
    assert admin.post(f"/v1/ops/jobs/{job.id}/redrive").get_json()["state"] == "queued"
    assert admin.post(f"/v1/ops/jobs/{job.id}/redrive").status_code == 409
    assert admin.get("/v1/ops/jobs").get_json()["items"] == []


def test_admins_read_the_apps_own_jobs_and_no_users(site: Site) -> None:
    own, adas = put_off(site, scope=Scope("demo")), put_off(site)
    member, admin = sign_in(site.app, "ada"), sign_in(site.app, "eve", role="admin")
    assert admin.get(f"/v1/ops/jobs/{own.id}").get_json()["id"] == own.id
    assert admin.get(f"/v1/ops/jobs/{adas.id}").status_code == 404
    for job in (own, adas):
        assert member.get(f"/v1/ops/jobs/{job.id}").status_code == 403


def test_nothing_of_jobs_is_there_for_those_who_did_not_sign_in_and_internal_is_not_there_at_all(site: Site) -> None:
    client = site.app.test_client()
    for path in ("/v1/jobs", "/v1/jobs/x", "/v1/ops/jobs"):
        assert client.get(path).status_code == 401
    for path in ("/internal/jobs/note", "/internal/sweep"):
        assert client.post(path, json={}).status_code == 404
