"""Logs: a line a request, structured on Cloud Run, and nothing in them that a user wrote or that opens a door."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from firelaunch.server.app import App
from firelaunch.telemetry import REQUEST_ID, TRACE, configure_logs
from firelaunch.telemetry.names import EVENT, EVENT_SETTLED
from firelaunch.telemetry.options import Sampler
from firelaunch.telemetry.outbox import Outbox
from firelaunch.telemetry.spans import Tracer, current
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
        logging.getLogger("firelaunch.server.app").exception("went wrong: %s", "ü\n")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["severity"] == "ERROR"
    assert entry["message"].startswith("went wrong: ü")
    assert "KeyError" in entry["message"]
    assert entry["request_id"] == "req_1"
    assert entry["logging.googleapis.com/trace"] == "projects/p-12345/traces/abc"


def test_a_line_names_its_span_so_that_cloud_logging_shows_it_there(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(structured=True, project="p-12345")
    span = Tracer(Outbox(None, Sampler())).begin("work", "server")
    with current(span):
        logging.getLogger("firelaunch.server.app").info("at work")
    entry = reported(capsys)
    assert entry["logging.googleapis.com/spanId"] == f"{span.span_id:016x}"
    assert entry["logging.googleapis.com/trace_sampled"] is False
    assert entry["logging.googleapis.com/trace"] == f"projects/p-12345/traces/{span.trace_id:032x}"
    configure_logs(structured=False)
    with current(span):
        logging.getLogger("firelaunch.server.app").info("at work")
    assert f"trace {span.trace_id:032x}]" in capsys.readouterr().err


def test_our_own_lines_have_their_figures_as_fields_and_no_others_do(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(structured=True)
    extra = {"event": "x", "cost": 3, "who": "ada@example.com", "messages": [PRIVATE], "severity": "DEBUG"}
    logging.getLogger("firelaunch.metering").info("done", extra=extra)
    entry = reported(capsys)
    assert (entry["event"], entry["cost"], entry["who"]) == ("x", 3, "[email]")
    assert (entry["severity"], entry["message"]) == ("INFO", "done")
    assert "messages" not in entry
    logging.getLogger("their.own").info("done", extra={"prompt": PRIVATE})
    assert PRIVATE not in json.dumps(reported(capsys))


def test_a_settled_turn_is_one_line_with_its_cost_and_the_time_to_its_first_token(
    model_app: App, caplog: pytest.LogCaptureFixture
) -> None:
    ada = sign_in(model_app, "ada")
    with caplog.at_level(logging.INFO):
        ada.stream(ada.new_chat(), "Hello").get_data()
        ada.send(ada.new_chat(), "Hello")
    streamed, whole = (record for record in caplog.records if getattr(record, EVENT, "") == EVENT_SETTLED)
    assert (vars(streamed)["kind"], vars(streamed)["outcome"]) == ("turn", "answered")
    assert vars(streamed)["cost_micro_usd"] > 0
    assert vars(streamed)["first_token_ms"] >= 0
    assert "first_token_ms" not in vars(whole)
    assert "Hello" not in streamed.getMessage() + whole.getMessage()


PRIVATE = "my private words"


class Odd(Exception):
    """An exception of a founder's, whose words may quote a user."""


def reported(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    entry: dict[str, Any] = json.loads(lines[0])
    return entry


def test_a_traceback_is_an_error_event_that_error_reporting_reads_as_pythons_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K_SERVICE", "my-app")
    monkeypatch.setenv("K_REVISION", "my-app-00007-abc")
    configure_logs(structured=True)
    try:
        try:
            raise ValueError(f"ada@example.com said {PRIVATE}")
        except ValueError as first:
            raise Odd(PRIVATE) from first
    except Odd:
        logging.getLogger("my_own_app.rooms").exception("no room for %s", "ada@example.com")
    entry = reported(capsys)
    assert entry["@type"].endswith("v1beta1.ReportedErrorEvent")
    assert (entry["severity"], entry["logger"]) == ("ERROR", "my_own_app.rooms")
    assert entry["serviceContext"] == {"service": "my-app", "version": "my-app-00007-abc"}
    first, _, second = entry["stack_trace"].partition(
        "\n\nThe above exception was the direct cause of the following exception:\n\n"
    )
    for trace, last in ((first, "ValueError"), (second, f"{__name__}.Odd")):
        assert trace.startswith("Traceback (most recent call last):\n  File ")
        assert trace.splitlines()[-1].endswith(last)
    assert entry["message"].startswith("no room for [email]\nTraceback")
    for secret in ("ada@example.com", PRIVATE):
        assert secret not in json.dumps(entry)


def raised(error: Exception, **options: Any) -> None:
    configure_logs(structured=False, **options)
    try:
        raise error
    except type(error):
        logging.getLogger("my_own_app").exception("failed")


def test_on_a_laptop_a_mistake_in_code_has_its_message_and_other_messages_are_said_to_be_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    raised(NameError("name 'metre' is not defined, Bearer abcdefghijkl, ada@example.com"), laptop=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("NameError: name 'metre' is not defined, [secret], [email]")
    raised(ValueError(PRIVATE), laptop=True)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("ValueError (the message may quote")
    assert "content = true" in last
    raised(Odd(PRIVATE), laptop=True)
    raised(NameError(PRIVATE))
    assert PRIVATE not in capsys.readouterr().err


def test_the_file_of_a_prompt_is_not_taken_for_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(structured=False)
    logging.getLogger("my_own_app").warning("prompts/chat@1.md: no such prompt; ask chat@1.md.example.com")
    assert "prompts/chat@1.md: no such prompt; ask [email]" in capsys.readouterr().err


def test_exceptions_that_lead_to_each_other_in_a_ring_and_groups_are_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs(structured=True)
    one, two = Odd("secret"), KeyError("secret")
    one.__cause__, two.__cause__ = two, one
    for error in (one, ExceptionGroup("secret", [one, ValueError("secret")])):
        logging.getLogger("x").error("went wrong", exc_info=error)
        entry = reported(capsys)
        assert "secret" not in json.dumps(entry)
        assert entry["stack_trace"].count("Odd") == 1
    assert "ValueError" in entry["stack_trace"]


def test_a_warning_with_a_traceback_is_no_error_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs(structured=True)
    try:
        raise Odd
    except Odd:
        logging.getLogger("x").warning("tries again", exc_info=True)
    entry = reported(capsys)
    assert "@type" not in entry
    assert "Odd" in entry["message"]


@pytest.mark.parametrize("structured", [True, False])
def test_every_logger_is_cleaned_and_shown_from_info_on_in_the_one_form(
    capsys: pytest.CaptureFixture[str], structured: bool
) -> None:
    configure_logs(structured=structured)
    for name in ("app", "firelaunch.server.app", "gunicorn.error", "py.warnings", "a.library"):
        logging.getLogger(name).warning("for %s by Bearer abcdefgh123", "ada@example.com")
        logging.getLogger(name).debug("too much")
    logging.getLogger("app").info("an answer was given")
    logging.getLogger("httpx").info('HTTP Request: GET https://example.com?key=1 "HTTP/1.1 200 OK"')
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert all("for [email] by [secret]" in line for line in lines[:5])
    assert not structured or all(json.loads(line)["severity"] for line in lines)


def test_a_second_configuration_takes_the_place_of_the_first_and_of_a_librarys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
    for _ in range(3):
        configure_logs(structured=True)
    logging.getLogger("app").info("once")
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1


def test_a_line_that_cannot_be_formatted_is_named_and_what_it_was_to_hold_is_not_dumped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own would raise
    configure_logs(structured=True)
    logging.getLogger("app").info("%d of %d", PRIVATE)
    entry = reported(capsys)
    assert "logger app" in entry["message"]
    assert "test_logs.py" in entry["message"]
    assert PRIVATE not in json.dumps(entry)


UNCAUGHT = """
import threading, warnings
from firelaunch.telemetry import configure_logs, log_what_nobody_catches

configure_logs(structured=True)
log_what_nobody_catches()


words = "my priv" + "ate words"  # Python 3.13 quotes the lines of a program like this one


class Holder:
    def __del__(self):
        raise KeyError(words)


def fail():
    raise ValueError(words)


warnings.warn("ada@example.com is deprecated")
Holder()
thread = threading.Thread(target=fail, name="counter")
thread.start()
thread.join()
fail()
"""


def test_what_nobody_catches_is_logged_like_everything_else() -> None:
    ended = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    entries = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [entry["severity"] for entry in entries] == ["WARNING", "ERROR", "ERROR", "CRITICAL"]
    assert all("stack_trace" in entry for entry in entries[1:])
    assert "thread counter" in entries[2]["message"]
    assert "private" not in ended.stderr
    assert "ada@" not in ended.stderr


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
    ada.client.get("/live")
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
    """It ends within the time: what takes the square of it would go on for a quarter of an hour."""
    search = "from firelaunch.telemetry import EMAIL, SECRET"
    code = f"import sys; {search}; [found.sub('', sys.argv[1] * 300_000) for found in (SECRET, EMAIL)]"
    subprocess.run([sys.executable, "-c", code, said], check=True, timeout=120)
