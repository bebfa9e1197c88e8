"""Logs: a line a request, structured on Cloud Run, and nothing in them that a user wrote or that opens a door."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from firelaunch.telemetry import REQUEST_ID, TRACE, configure_logs
from firelaunch.testing.apps import sign_in
from firelaunch.testing.models import Fault, ModelServer, Reply


def test_on_cloud_run_a_line_is_json_that_cloud_logging_files_by_severity_and_trace(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(structured=True, project="p-12345")
    REQUEST_ID.set("req_1")
    TRACE.set("abc")
    try:
        raise KeyError("broken")
    except KeyError:
        logging.getLogger("firelaunch.web").exception("went wrong: %s", "ü\n")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["severity"] == "ERROR"
    assert entry["message"].startswith("went wrong: ü")
    assert "KeyError" in entry["message"]
    assert entry["request_id"] == "req_1"
    assert entry["logging.googleapis.com/trace"] == "projects/p-12345/traces/abc"


def test_a_request_leaves_one_line_with_its_route_and_the_id_that_its_client_got(
    make_app: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ada = sign_in(make_app(), "ada")
    chat = ada.new_chat()
    capsys.readouterr()
    answer = ada.get(f"/v1/chats/{chat}")
    (line,) = capsys.readouterr().err.splitlines()
    assert "GET /v1/chats/<id> 200" in line
    assert answer.headers["X-Request-Id"] in line
    assert chat not in line
    ada.client.get("/healthz")
    assert capsys.readouterr().err == ""


def test_no_log_line_holds_a_token_a_key_or_what_a_user_wrote(
    make_app: Any, model: ModelServer, capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app(OPENAI_API_KEY="sk-very-secret", OPENAI_BASE_URL=model.base_url)
    ada = sign_in(app, "ada")
    chat = ada.new_chat()
    for action in (Reply(), Fault(400), Fault(401), Reply(cut_after=1), Reply(error_after=1)):
        model.script = [action, *[Fault(401)] * 3]
        ada.send(chat, "my private words")
        ada.stream(chat, "my private words").get_data()
    app.test_client().get("/v1/me", headers={"Authorization": "Bearer stolen-token"})
    said = capsys.readouterr().err
    assert "model gpt-5.4-mini failed" in said
    for secret in ("sk-very-secret", "my private words", ada.token, "stolen-token", "Hello from"):
        assert secret not in said


@pytest.mark.parametrize("said", ["eyJ", "eyJ-", "sk-", "a@", "ya29."])
def test_a_text_that_looks_like_a_thousand_tokens_is_searched_in_time_that_grows_with_its_length(said: str) -> None:
    search = "from firelaunch.telemetry import EMAIL, SECRET"
    code = f"import sys; {search}; [found.sub('', sys.argv[1] * 300_000) for found in (SECRET, EMAIL)]"
    # What takes the square of it would go on for a quarter of an hour.
    subprocess.run([sys.executable, "-c", code, said], check=True, timeout=120)
