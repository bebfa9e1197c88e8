"""Devices and notifications, with firebase-admin on this side and a server that plays FCM on the other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.fcm import FcmServer
from firelaunch.jobs import Job
from firelaunch.push import PushMessage, PushUnavailable
from firelaunch.push.devices import MOST_DEVICES
from firelaunch.push.fcm import FcmPush
from firelaunch.scope import Scope
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
from firelaunch.services.bundle import Services
from firelaunch.settings.app import Settings
from firelaunch.testing.apps import SETTINGS, sign_in, write_app
from firelaunch.worker.tasks.notify import NOTIFY, Notify
from google.auth.credentials import Credentials

ADA, BOB, PROJECT = Scope("demo", "ada"), Scope("demo", "bob"), "demo-project"


class Token(Credentials):  # type: ignore[misc]
    """Google's credentials that need no network."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "t"

    def refresh(self, request: Any) -> None:
        """It never expires."""

    def get_credential(self) -> Any:
        """As firebase-admin's credentials have it."""
        return self


@pytest.fixture
def fcm() -> Iterator[FcmServer]:
    with FcmServer(PROJECT, "phone", "laptop", "bobs") as server:
        yield server


@pytest.fixture
def services(tmp_path: Path, fcm: FcmServer) -> Iterator[Services]:
    settings = Settings.load(write_app(tmp_path, SETTINGS + "\n[jobs]\nbackoff_seconds = 0.01\n"), {})
    made = build(settings, push=FcmPush(PROJECT, url=fcm.url, credential=Token()))
    yield made
    made.store.close()


@pytest.fixture
def app(services: Services) -> App:
    made = App("test")
    init_app(made, services, lambda _: ())
    return made


def register(app: App, uid: str, *tokens: str) -> list[str]:
    user = sign_in(app, uid)
    answers = [user.post("/v1/devices", {"token": token, "platform": "web"}) for token in tokens]
    assert [answer.status_code for answer in answers] == [201] * len(tokens)
    return [answer.get_json()["id"] for answer in answers]


def notified(app: App, services: Services, user: Scope = ADA, **more: Any) -> Job:
    """The job, once it was tried once."""
    job = services.jobs.enqueue(user, NOTIFY, Notify(title="Ready", body="Your report is done.", **more))
    assert app.runner is not None
    app.runner.run(job.id)
    found = services.jobs.find(job.id)
    assert found is not None
    return found


def result(job: Job) -> Any:
    return json.loads(job.result or "null")


def test_every_device_of_the_user_shows_it_and_nobody_elses(app: App, services: Services, fcm: FcmServer) -> None:
    register(app, "ada", "phone", "laptop")
    register(app, "bob", "bobs")
    job = notified(app, services, data={"chat": "c1"})
    assert result(job) == {"devices": 2, "sent": 2, "removed": 0, "refused": 0, "off": False}
    assert {name: list(shown.values()) for name, shown in fcm.devices.items()} == {
        "phone": [("Ready", "Your report is done.")],
        "laptop": [("Ready", "Your report is done.")],
        "bobs": [],
    }
    message = fcm.requests[-1][1]["message"]
    assert message["data"] == {"chat": "c1"}
    assert message["apns"]["headers"]["apns-collapse-id"] == job.id


def test_a_device_that_is_gone_for_good_is_removed_and_one_that_is_refused_stays(
    app: App, services: Services, fcm: FcmServer
) -> None:
    register(app, "ada", "phone", "uninstalled", "laptop", "elsewhere")
    fcm.fail = {"laptop": "INVALID_ARGUMENT", "elsewhere": "SENDER_ID_MISMATCH"}
    assert result(notified(app, services)) == {"devices": 4, "sent": 1, "removed": 2, "refused": 1, "off": False}
    assert len(sign_in(app, "ada").get("/v1/devices").get_json()["items"]) == 2


def test_where_some_fail_for_now_only_those_are_tried_again_and_none_shows_it_twice(
    app: App, services: Services, fcm: FcmServer
) -> None:
    register(app, "ada", "phone", "laptop")
    fcm.fail = {"laptop": "QUOTA_EXCEEDED"}
    job = notified(app, services)
    assert (job.state, job.error and job.error["code"]) == ("queued", "push_unavailable")
    assert (fcm.sent, len(fcm.devices["phone"])) == (1, 1)
    fcm.fail = {}
    assert app.runner is not None
    services.jobs.store.commit([_due(services, job)])
    app.runner.run(job.id)
    done = services.jobs.find(job.id)
    assert done is not None
    assert (done.state, result(done)["sent"], fcm.sent) == ("succeeded", 2, 2)
    assert (len(fcm.devices["phone"]), len(fcm.devices["laptop"])) == (1, 1)


def _due(services: Services, job: Job) -> Any:
    from firelaunch.store.base import Update

    return Update(Scope("demo").job(job.id), {"due_at": services.clock()})


def test_who_signs_in_on_a_device_gets_what_is_theirs_there_and_nothing_of_the_one_before(
    app: App, services: Services, fcm: FcmServer
) -> None:
    register(app, "ada", "phone")
    register(app, "bob", "phone")
    assert sign_in(app, "ada").get("/v1/devices").get_json() == {"items": []}
    assert result(notified(app, services))["devices"] == 0
    assert result(notified(app, services, BOB))["sent"] == 1
    register(app, "ada", "phone")
    assert result(notified(app, services, BOB))["devices"] == 0


def test_devices_are_registered_once_listed_without_their_tokens_and_forgotten(app: App) -> None:
    (first,) = register(app, "ada", "phone")
    assert register(app, "ada", "phone", "laptop")[0] == first
    ada, bob = sign_in(app, "ada"), sign_in(app, "bob")
    listed = ada.get("/v1/devices")
    assert [item["id"] for item in listed.get_json()["items"]][1:] == [first]
    assert "phone" not in listed.get_data(as_text=True).replace("platform", "")
    assert bob.delete(f"/v1/devices/{first}").status_code == 404
    assert ada.delete(f"/v1/devices/{first}").status_code == 204
    assert ada.delete(f"/v1/devices/{first}").status_code == 404
    assert len(ada.get("/v1/devices").get_json()["items"]) == 1


def test_one_device_too_many_takes_the_place_of_the_oldest(app: App, services: Services) -> None:
    oldest, *_ = register(app, "ada", *(f"t{number}" for number in range(MOST_DEVICES + 1)))
    items = sign_in(app, "ada").get("/v1/devices").get_json()["items"]
    assert len(items) == MOST_DEVICES
    assert oldest not in {item["id"] for item in items}
    assert services.store.get(ADA.device_owner(oldest)) is None


@pytest.mark.parametrize(
    "body",
    [{}, {"token": "", "platform": "web"}, {"token": "x y", "platform": "web"}, {"token": "x", "platform": "fridge"}],
)
def test_what_is_no_device_is_refused(app: App, body: Any) -> None:
    assert sign_in(app, "ada").post("/v1/devices", body).status_code == 400


def test_on_a_laptop_nothing_is_sent_and_the_job_says_so(tmp_path: Path) -> None:
    services = build(Settings.load(write_app(tmp_path), {}))
    app = App("test")
    init_app(app, services, lambda _: ())
    register(app, "ada", "phone")
    assert result(notified(app, services)) == {"devices": 1, "sent": 0, "removed": 0, "refused": 0, "off": True}
    services.store.close()


def test_where_google_gives_no_credentials_it_is_said_so(fcm: FcmServer) -> None:
    from google.auth.exceptions import DefaultCredentialsError

    class Without(Token):
        """No token can be had."""

        token = None  # type: ignore[assignment]

        def __init__(self) -> None:
            Credentials.__init__(self)

        def refresh(self, request: Any) -> None:  # noqa: ARG002 - google-auth calls it so
            raise DefaultCredentialsError("none here")

    with pytest.raises(PushUnavailable):
        FcmPush(PROJECT, url=fcm.url, credential=Without()).send(["phone"], PushMessage("a", "b"))
