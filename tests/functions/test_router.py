"""The functions of one app in one service, as a deploy makes it: real functions-framework processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from firelaunch.api.caller_tokens import ServiceTokens
from firelaunch.errors import Unauthenticated
from firelaunch.functions.router import route_by_name
from firelaunch.jobs.oidc import ServiceAccountTokens
from firelaunch.scope import Scope
from firelaunch.store.sqlite import SQLiteStore
from firelaunch.testing.apps import SETTINGS, write_app
from firelaunch.testing.certificates import CertificateServer
from firelaunch.testing.cloud_events import storage_notified
from firelaunch_cli.deploy.functions import BILLING, DOCUMENTS, EVERY_APP
from flask import Flask, Request, Response, request
from support import served_function
from werkzeug.test import EnvironBuilder

PROJECT = "demo-project"
BUCKET = f"{PROJECT}.firebasestorage.app"
UPLOAD = "apps/demo/users/ada/uploads/a.txt"
CALLER = "fl-job-demo@demo-project.iam.gserviceaccount.com"


def test_each_function_answers_below_its_own_name_and_those_that_are_not_named_are_not_there(tmp_path: Path) -> None:
    write_app(tmp_path, SETTINGS + f'\n[cloud]\nproject = "{PROJECT}"\n')
    named = "rollup_usage, expire_reservations,notify,erase_user,ingest_upload"
    with (
        served_function("app_functions", tmp_path, APPS=str(tmp_path), FUNCTIONS=named) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):
        for path in ("rollup_usage/apps/demo", "expire_reservations/apps/-"):
            assert client.post(path).json()["apps"]["demo"]["job"]
        assert client.post("notify/apps/demo/users/ada/notifications", json={"title": "Ready"}).status_code == 200
        assert client.post("erase_user/apps/-/erasures/ada", json={"dry_run": True}).status_code == 200
        sent = storage_notified(BUCKET, UPLOAD)
        assert client.post("ingest_upload", content=sent.body, headers=dict(sent.headers)).status_code == 204
        for path in ("", "stripe_webhook", "on_document_written", "membership", "apps/demo", "notify"):
            assert client.post(path).status_code == 404, path
        assert client.post("stripe_webhook").json()["error"]["code"] == "not_found"
    store = SQLiteStore(tmp_path / ".firelaunch" / "data.sqlite3")
    kinds = [found.data["kind"] for path in store.tree("apps/demo/jobs") if (found := store.get(path))]
    store.close()
    assert sorted(kinds) == ["expire", "ingest", "notify", "rollup"]


def test_where_nothing_is_named_nothing_is_served() -> None:
    def open_door(_: Request) -> Response:
        return Response("in")

    def status(named: str | None) -> int:
        view = route_by_name({"f": open_door}, {} if named is None else {"FUNCTIONS": named})
        with Flask(__name__).app_context():
            return view(Request(EnvironBuilder("/f/x", method="POST").get_environ())).status_code

    assert [status(named) for named in (None, "", ",", "g", "f")] == [404, 404, 404, 404, 200]


def test_the_table_of_a_deploy_has_every_function_that_main_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from support import ROOT

    monkeypatch.syspath_prepend(ROOT / "functions")
    import main  # type: ignore[import-not-found]

    assert {function.__name__ for function in main.OF_AN_APP} == {*EVERY_APP, *BILLING, *DOCUMENTS}
    sys.modules.pop("main")


@pytest.mark.parametrize(
    ("service", "host", "audience", "held"),
    [
        ("fl-fn-demo", "fl-fn-demo-abc-ew.a.run.app", "https://fl-fn-demo-1234.europe-west1.run.app", True),
        ("fl-fn-demo", "fl-fn-demo-abc-ew.a.run.app", "https://fl-fn-demo-abc-ew.a.run.app", True),
        ("fl-fn-demo", "fl-fn-demo-1234.europe-west1.run.app", "https://fl-fn-demo-abc-ew.a.run.app", False),
        ("fl-fn-demo", "demo-abc-ew.a.run.app", "https://demo-abc-ew.a.run.app", False),
        ("fl-fn-demo", "fl-fn-demo-abc.run.app.evil.example", "https://fl-fn-demo-abc.run.app.evil.example", False),
        ("fl-fn-demo", "fl-fn-demo-abc.run.app:8080", "https://fl-fn-demo-abc.run.app:8080", False),
        ("fl-fn-demo", "evil.example/fl-fn-demo-a.run.app", "https://evil.example/fl-fn-demo-a.run.app", False),
        ("fl-fn-demo", "functions.example.com", "https://functions.example.com", False),
        ("", "fl-fn-demo-abc-ew.a.run.app", "https://fl-fn-demo-abc-ew.a.run.app", False),
        ("", "-abc.run.app", "https://-abc.run.app", False),
    ],
)
def test_a_token_is_for_the_address_that_is_named_or_for_the_services_own_that_was_called(
    service: str, host: str, audience: str, held: bool
) -> None:
    now = int(time.time())
    claims = {"iss": "https://accounts.google.com", "sub": "1", "iat": now, "exp": now + 3600}
    with CertificateServer() as google, Flask(__name__).test_request_context(base_url=f"http://{host}"):
        assert request.host == host.partition("/")[0]
        tokens = ServiceAccountTokens("https://fl-fn-demo-1234.europe-west1.run.app", CALLER, google.url)
        caller = ServiceTokens(tokens, service)

        def holds(**more: Any) -> bool:
            whole = {**claims, "aud": audience, "email": CALLER, "email_verified": True, **more}
            try:
                caller.verify(google.sign(whole))
            except Unauthenticated:
                return False
            return True

        assert holds() is held
        assert not holds(email="fl-job-other@demo-project.iam.gserviceaccount.com")


def test_the_scope_of_an_upload_is_its_users(tmp_path: Path) -> None:
    """The dispatch changes the path that a function sees, and not whose resource it is."""
    write_app(tmp_path, SETTINGS + f'\n[cloud]\nproject = "{PROJECT}"\n')
    with served_function("app_functions", tmp_path, APPS=str(tmp_path), FUNCTIONS="ingest_upload") as url:
        sent = storage_notified(BUCKET, UPLOAD)
        elsewhere = f"{url}/ingest_upload/apps/other/users/bob"
        for address, status in ((elsewhere, 404), (f"{url}/ingest_upload", 204)):
            answer = httpx.post(address, content=sent.body, headers=dict(sent.headers), trust_env=False, timeout=60)
            assert answer.status_code == status
    store = SQLiteStore(tmp_path / ".firelaunch" / "data.sqlite3")
    (job,) = [found.data for path in store.tree("apps/demo/jobs") if (found := store.get(path))]
    store.close()
    assert (job["kind"], Scope("demo", job["uid"])) == ("ingest", Scope("demo", "ada"))
