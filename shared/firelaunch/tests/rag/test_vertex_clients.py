"""Vertex AI's clients: one channel a host, credentials on each call, and nothing imported before it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.vertex_index import VertexIndexServer
from firelaunch.llm.google_locations import vertex_host
from firelaunch.rag.google_calls import GoogleError
from firelaunch.rag.vertex_clients import VertexClients
from firelaunch.testing.apps import write_app
from firelaunch.testing.http import HttpAnswer
from google.auth.exceptions import RefreshError
from google.oauth2.credentials import Credentials


@pytest.fixture
def server() -> Iterator[VertexIndexServer]:
    with VertexIndexServer(2) as made:
        yield made


def remove(clients: VertexClients, seconds: float = 5.0) -> Any:
    request = {"index": VertexIndexServer.INDEX, "datapoint_ids": ["a"]}
    return clients.call(lambda each: each.indexes.remove_datapoints, request, seconds)


def test_the_clients_of_a_host_share_one_channel_whichever_thread_is_first(server: VertexIndexServer) -> None:
    clients = server.clients()
    threads = [threading.Thread(target=remove, args=(clients,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 8
    channels = {
        id(each.transport.grpc_channel._channel) for each in (clients.indexes, clients.predictions, clients.matches)
    }
    assert len(channels) == 1


def test_each_call_carries_the_service_accounts_token(server: VertexIndexServer) -> None:
    remove(server.clients(Credentials("google-token")))  # type: ignore[no-untyped-call]
    assert server.headers[0]["authorization"] == "Bearer google-token"


@pytest.mark.parametrize(("status", "passing"), [(400, False), (403, False), (404, False), (429, True), (503, True)])
def test_what_google_answers_says_whether_another_try_may_help(
    server: VertexIndexServer, status: int, passing: bool
) -> None:
    server.script = [HttpAnswer(status, {"error": {"message": "said so"}}, {"Retry-After": "7"})]
    with pytest.raises(GoogleError) as failed:
        remove(server.clients())
    assert (failed.value.status, failed.value.passing, failed.value.retry_after) == (status, passing, 7.0)
    assert failed.value.reason == "said so"
    assert len(server.requests) == 1, "nobody tries again but who says so"


def test_a_call_ends_with_its_seconds_where_nobody_answers() -> None:
    silent = VertexIndexServer(2)  # never started
    with pytest.raises(GoogleError) as failed:
        remove(silent.clients(), 0.2)
    assert failed.value.passing


def test_without_credentials_a_call_says_so(server: VertexIndexServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: Any) -> Any:
        raise RefreshError("nobody is logged in")

    monkeypatch.setattr("google.auth.default", none)
    with pytest.raises(GoogleError, match="no Google credentials") as failed:
        remove(VertexClients(server.address))
    assert failed.value.status == 401


@pytest.mark.parametrize(
    ("location", "host"),
    [("global", "aiplatform.googleapis.com"), ("europe-west1", "europe-west1-aiplatform.googleapis.com")],
)
def test_the_host_is_of_the_location(location: str, host: str) -> None:
    assert vertex_host(location) == host


START = """
import json, sys, time
from pathlib import Path
from firelaunch.settings.app import Settings
from firelaunch.server.app import App, init_app
from firelaunch.services.build import build
environ = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "demo-project"}
services = build(Settings.load(Path(sys.argv[1]), environ))
app = App("test")
init_app(app, services, lambda turn: turn.text)
said = [sorted(m for m in sys.modules if m.startswith("google.cloud.aiplatform"))]
services.documents.warm()
give_up = time.monotonic() + 60
while "google.cloud.aiplatform_v1" not in sys.modules and time.monotonic() < give_up:
    time.sleep(0.05)
said.append([m for m in ("google.cloud.aiplatform_v1", "google.cloud.aiplatform") if m in sys.modules])
print(json.dumps(said), flush=True)
import os
os._exit(0)
"""


def test_a_start_imports_no_client_and_the_first_request_has_one_imported_beside_it(tmp_path: Path) -> None:
    path = write_app(tmp_path)
    models = '\n[models.vertex]\nchat = "gemini-3.5-flash"\ncheap = "gemini-3.5-flash"\n'
    path.write_text(path.read_text().replace('provider = "openai"', 'provider = "vertex"') + models)
    done = subprocess.run(
        [sys.executable, "-c", START, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    at_start, later = json.loads(done.stdout.splitlines()[-1])
    assert at_start == []
    assert later == ["google.cloud.aiplatform_v1"], "and never the package above it"
