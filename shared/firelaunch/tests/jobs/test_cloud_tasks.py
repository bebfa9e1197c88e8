"""Cloud Tasks: what the adapter sends, what the server that plays it refuses, and who may call /internal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from fakes.cloud_tasks import CloudTasksServer, RetryPolicy
from fakes.jobs import ACCOUNT, QUEUE, Site, cloud_site
from firelaunch.errors import JobsUnavailable
from firelaunch.jobs import Delivery, Kind
from firelaunch.jobs.cloud_tasks import CloudTasksBackend
from firelaunch.scope import Scope
from firelaunch.store.base import Create, Increment, Set
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.certificates import CertificateServer
from firelaunch.worker import JobRun
from google.api_core import exceptions
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

ADA = Scope("demo", "ada")
NOBODY = "http://127.0.0.1:9"
"""A port that nothing listens on (discard)."""


class Note(BaseModel):
    text: str = ""


NOTE = Kind("note", Note)


@pytest.fixture(scope="module")
def certificates() -> Iterator[CertificateServer]:
    with CertificateServer() as server:
        yield server


@pytest.fixture
def server(certificates: CertificateServer) -> Iterator[CloudTasksServer]:
    with CloudTasksServer(QUEUE, certificates=certificates, policy=RetryPolicy(min_backoff=0.01)) as running:
        yield running


@pytest.fixture
def client(server: CloudTasksServer) -> Any:
    return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=server.channel()))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    store = SQLiteStore(tmp_path / "data.sqlite3")
    with cloud_site(tmp_path, store) as made:
        yield made
    store.close()


def later(**change: Any) -> Any:
    """A task for an hour from now."""
    request: dict[str, Any] = {"url": f"{NOBODY}/x", "body": b"{}"} | change.pop("http_request", {})
    at = datetime.now(UTC) + timedelta(hours=1)
    return tasks_v2.Task(**({"http_request": request, "schedule_time": at} | change))


@pytest.mark.parametrize(
    "task",
    [
        later(name=f"{QUEUE}/tasks/not valid"),
        later(name=f"{QUEUE}/tasks/" + "x" * 501),
        later(name="projects/other/locations/x/queues/demo/tasks/x"),
        later(name="x"),
        later(http_request={"body": b"x" * 103_000}),
        later(http_request={"url": "ftp://example.com"}),
        later(http_request={"url": "http://example.com/" + "x" * 2083}),
        later(http_request={"http_method": tasks_v2.HttpMethod.GET}),
        later(http_request={"oidc_token": {"service_account_email": "nobody"}}),
        later(schedule_time=datetime.now(UTC) + timedelta(days=31)),
        later(dispatch_deadline=timedelta(seconds=14)),
        later(dispatch_deadline=timedelta(minutes=31)),
        tasks_v2.Task(),
    ],
)
def test_the_server_refuses_tasks_that_google_refuses(client: Any, server: CloudTasksServer, task: Any) -> None:
    with pytest.raises(exceptions.InvalidArgument):
        client.create_task(parent=QUEUE, task=task)
    assert server.tasks == {}


def test_the_server_knows_its_queues(client: Any) -> None:
    with pytest.raises(exceptions.NotFound):
        client.create_task(parent=QUEUE.replace("demo-project", "other"), task=later())
    with pytest.raises(exceptions.InvalidArgument):
        client.create_task(parent="demo", task=later())


def test_a_name_is_used_once_also_after_its_task_is_gone(client: Any, server: CloudTasksServer) -> None:
    waits, gone = f"{QUEUE}/tasks/waits", f"{QUEUE}/tasks/gone"
    with CertificateServer() as target:
        request = {"url": target.url, "http_method": tasks_v2.HttpMethod.GET}
        client.create_task(parent=QUEUE, task=tasks_v2.Task(name=gone, http_request=request))
        assert server.wait_until_idle(30)
    assert [one.status for one in server.dispatches] == [200]
    client.create_task(parent=QUEUE, task=later(name=waits))
    for name in (waits, gone):
        with pytest.raises(exceptions.AlreadyExists):
            client.create_task(parent=QUEUE, task=later(name=name))


def test_a_task_that_fails_is_retried_by_the_queues_policy_and_dropped_at_its_end(
    certificates: CertificateServer,
) -> None:
    policy = RetryPolicy(min_backoff=0.001, max_attempts=4)
    with CloudTasksServer(QUEUE, certificates=certificates, policy=policy) as server:
        backend = CloudTasksBackend("demo", QUEUE, NOBODY, ACCOUNT, channel=server.channel)
        backend.deliver(Delivery("j1", "note", datetime.now(UTC), "j1-0", 1))
        assert server.wait_until_idle(30)
    assert [(one.task, one.status) for one in server.dispatches] == [(f"{QUEUE}/tasks/j1-0", 0)] * 4
    assert server.dropped == [f"{QUEUE}/tasks/j1-0"]


def test_the_policy_doubles_its_pauses_then_adds_to_them_up_to_the_longest() -> None:
    """The example of the API's reference: 10 s, three doublings, 300 s at most."""
    policy = RetryPolicy(min_backoff=10, max_backoff=300, max_doublings=3)
    assert [policy.pause(n) for n in range(1, 9)] == [10, 20, 40, 80, 160, 240, 300, 300]


def backend_of(server: CloudTasksServer) -> CloudTasksBackend:
    return CloudTasksBackend("demo", QUEUE, "https://demo.example/", ACCOUNT, channel=server.channel)


def test_the_task_carries_the_jobs_id_and_no_more(server: CloudTasksServer) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    backend_of(server).deliver(Delivery("j1", "note", at, "j1-0", 100))
    (task,) = server.tasks.values()
    assert task.name == f"{QUEUE}/tasks/j1-0"
    assert task.http_request.url == "https://demo.example/internal/jobs/note"
    assert json.loads(task.http_request.body) == {"app_id": "demo", "job_id": "j1"}
    assert task.http_request.oidc_token.service_account_email == ACCOUNT
    assert task.http_request.oidc_token.audience == "https://demo.example"
    assert task.schedule_time == at
    assert task.dispatch_deadline == timedelta(seconds=130)


def test_a_delivery_of_a_known_name_is_made_once_and_no_error(server: CloudTasksServer) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    for _ in range(3):
        backend_of(server).deliver(Delivery("j1", "note", at, "j1-0", 1))
    assert len(server.tasks) == 1


@pytest.mark.parametrize("seconds", [0.001, 1740])
def test_any_time_that_a_kind_may_take_is_a_deadline_that_cloud_tasks_takes(
    server: CloudTasksServer, seconds: float
) -> None:
    at = datetime.now(UTC) + timedelta(hours=1)
    backend_of(server).deliver(Delivery("j1", "note", at, None, seconds))
    assert len(server.tasks) == 1


def test_a_job_beyond_the_farthest_schedule_goes_there_in_steps(site: Site) -> None:
    job = site.services.jobs.enqueue(ADA, NOTE, Note(), delay=90 * 86_400)
    assert site.cloud is not None
    (first,) = site.cloud.tasks.values()
    assert first.schedule_time < datetime.now(UTC) + timedelta(days=30)
    assert site.runner.run(job.id, "note") == "later"
    assert len(site.cloud.tasks) == 2
    assert site.job(ADA, job.id).attempts == 0


@pytest.mark.parametrize("status", [grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_queue_that_refuses_is_an_error_of_its_own_and_loses_no_job(site: Site, status: grpc.StatusCode) -> None:
    assert site.cloud is not None
    site.handlers.on(NOTE)(lambda _, __: None)
    site.cloud.refuse = status
    job = site.services.jobs.enqueue(ADA, NOTE, Note())
    with pytest.raises(JobsUnavailable):
        site.services.jobs.deliver_again(job, datetime.now(UTC))
    assert site.cloud.tasks == {}
    site.cloud.refuse = None
    assert site.services.jobs.enqueue(ADA, NOTE, Note()).id != job.id
    assert site.runner.run(job.id) == "ran"


def call(site: Site, path: str, token: str | None, body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = httpx.post(site.url + path, json=body, headers=headers, timeout=30, trust_env=False)
    return answer.status_code, answer.json()


def good_token(site: Site, **claims: Any) -> str:
    assert site.cloud is not None
    return site.cloud.token(ACCOUNT, site.url, **claims)


def refused_tokens(site: Site) -> dict[str, str | None]:
    good = good_token(site)
    head, claims, signature = good.split(".")
    with CertificateServer() as strangers:
        stranger = strangers.sign({"iss": "https://accounts.google.com", "aud": site.url, "email": ACCOUNT,
                                   "email_verified": True, "iat": 1, "exp": 9_999_999_999})  # fmt: skip
    return {
        "none": None,
        "no token": "x",
        "another service": good_token(site, aud="https://other.example"),
        "no audience": good_token(site, aud=None),
        "another account": good_token(site, email="other@demo-project.iam.gserviceaccount.com"),
        "no e-mail": good_token(site, email=None),
        "an e-mail not verified": good_token(site, email_verified=False),
        "an e-mail verified as text": good_token(site, email_verified="true"),
        "another issuer": good_token(site, iss="https://securetoken.google.com/demo-project"),
        "no issuer": good_token(site, iss=None),
        "expired": good_token(site, iat=1_700_000_000, exp=1_700_003_600),
        "of the future": good_token(site, iat=4_000_000_000, exp=4_000_003_600),
        "another signer": stranger,
        "another signature": f"{head}.{claims}.{signature[::-1]}",
        "other claims": f"{head}.{good_token(site, sub='1').split('.')[1]}.{signature}",
        "no signature": f"{head}.{claims}.",
        "a dev token": site.services.dev_identity.issue("ada", role="admin") if site.services.dev_identity else None,
    }


def test_internal_routes_take_googles_token_for_this_service_and_account_and_no_other(site: Site) -> None:
    seen: list[str] = []
    site.handlers.on(NOTE)(lambda run, _: seen.append(run.id))
    prepared = site.services.jobs.prepare(ADA, NOTE, Note())
    site.services.store.commit([prepared.write])
    body = {"app_id": "demo", "job_id": prepared.job_id}
    for name, token in refused_tokens(site).items():
        for path in ("/internal/jobs/note", "/internal/sweep", "/internal/schedules/x", "/internal/events/x"):
            status, answer = call(site, path, token, body)
            assert (status, answer["error"]["code"]) == (401, "unauthenticated"), name
    assert seen == []
    assert call(site, "/internal/jobs/note", good_token(site), body) == (200, {"outcome": "ran"})
    assert call(site, "/internal/jobs/note", good_token(site, iss="accounts.google.com"), body)[0] == 200
    assert seen == [prepared.job_id]
    assert call(site, "/internal/sweep", good_token(site), {}) == (200, {"delivered": 0})


def test_a_users_token_is_good_for_no_internal_route_and_googles_for_no_other(site: Site) -> None:
    assert call(site, "/v1/chats", good_token(site), {})[0] == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"app_id": "demo"}, 400),
        ({"app_id": "demo", "job_id": 5}, 400),
        ({"app_id": "demo", "job_id": "../../other"}, 400),
        ({"app_id": "demo", "job_id": "j1", "uid": "bob"}, 400),
        ({"app_id": "other", "job_id": "j1"}, 403),
        ({"app_id": "demo", "job_id": "j1"}, 200),
    ],
)
def test_a_delivery_that_is_not_ours_is_refused_and_one_of_a_job_that_is_gone_is_done_with(
    site: Site, body: Any, status: int
) -> None:
    assert call(site, "/internal/jobs/note", good_token(site), body)[0] == status


words = st.one_of(
    st.sampled_from(["demo", "other", "ada", "bob", "note", "secret", "..", "apps/other/jobs/j1", "j1", "j2", ""]),
    st.text(max_size=20),
)


def test_no_forged_delivery_crosses_a_scope(tmp_path: Path) -> None:
    """Whatever a task's body and path say, a handler runs with the scope and payload of the job's own document."""
    store = SQLiteStore(tmp_path / "data.sqlite3")
    with cloud_site(tmp_path, store) as site:
        ran: list[tuple[str, Scope, str]] = []

        @site.handlers.on(NOTE)
        @site.handlers.on(Kind("secret", Note))
        def handle(run: JobRun, payload: Note) -> None:
            ran.append((run.id, run.scope, payload.text))
            run.commit(Set(f"{run.scope.root}/things/ran", {"n": Increment(1)}, merge=True))

        jobs = site.services.jobs
        prepared = {
            "ada": jobs.prepare(ADA, NOTE, Note(text="ada's")),
            "bob": jobs.prepare(ADA.of("bob"), NOTE, Note(text="bob's")),
        }
        for one in prepared.values():
            store.commit([one.write])
        theirs = {**prepared["ada"].write.data, "uid": "ada"}
        store.commit([Create("apps/other/jobs/j1", theirs), Create("apps/demo/things/j1", theirs)])
        ids = st.one_of(words, st.sampled_from([one.job_id for one in prepared.values()]))
        extra = st.dictionaries(st.sampled_from(["uid", "scope", "payload", "kind", "x"]), words, max_size=2)

        @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(app=words, job=ids, kind=st.sampled_from(["note", "secret", "other"]), more=extra)
        def forge(app: str, job: str, kind: str, more: dict[str, str]) -> None:
            status, _ = call(site, f"/internal/jobs/{kind}", good_token(site), {"app_id": app, "job_id": job, **more})
            assert status in {200, 400, 403}
            assert status != 200 or (app == "demo" and not more)

        forge()
        own = {prepared[uid].job_id: (prepared[uid].job_id, ADA.of(uid), f"{uid}'s") for uid in prepared}
        assert all(one == own[one[0]] for one in ran)
        assert len(ran) == len({one[0] for one in ran})
        untouched = store.get("apps/other/jobs/j1")
        assert untouched is not None
        assert untouched.data["attempts"] == 0
    store.close()
