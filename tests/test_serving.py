"""Apps as they run: real gunicorn processes, killed, refused and side by side."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from firelaunch.prompts.lock import lock
from firelaunch.testing.embeddings import OpenAIEmbeddingServer
from firelaunch.testing.models import ModelServer, Reply
from support import PYTHON, Server, clean_environ, copy_template
from test_relay import certificate

SETTINGS_OF_TEST = "request_seconds = 4\nmessage_characters"


def boot(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-m", "gunicorn", "-c", "python:firelaunch.server.gunicorn_config", "app:create_app()"]
    env = clean_environ(PORT="0", HOST="127.0.0.1", **environ)
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "firelaunch.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_kill_9_in_mid_answer_loses_nothing_and_blocks_nothing(app_folder: Path, serve: Callable[..., Server]) -> None:
    edit(app_folder, "message_characters", SETTINGS_OF_TEST)
    with ModelServer(Reply(words=["word "] * 1000, pace=0.05)) as model:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        first = serve(app_folder, **environ)
        ada = first.sign_in("ada")
        chat = ada.new_chat()
        headers = {**ada.headers, "Accept": "text/event-stream"}
        body = {"text": "Keep this"}
        with first.client.stream("POST", f"/v1/chats/{chat}/messages", json=body, headers=headers) as answer:
            lines = answer.iter_lines()
            assert any(line.startswith("event: delta") for line in lines)
            assert ada.call("GET", "/v1/usage").json()["reserved_micro_usd"] > 0
            first.kill()
        model.default = Reply()
        again = serve(app_folder, **environ).sign_in("ada")
        assert again.texts(chat) == ["Keep this"]
        assert again.send(chat, "And now?").json()["message"]["text"] == "Hello from the model."
        assert again.texts(chat) == ["Keep this", "And now?", "Hello from the model."]
        before = again.call("GET", "/v1/usage").json()
        give_up = time.monotonic() + 60
        while again.call("GET", "/v1/usage").json()["reserved_micro_usd"] and time.monotonic() < give_up:
            time.sleep(0.5)
        after = again.call("GET", "/v1/usage").json()
    assert before["reserved_micro_usd"] > 0
    assert (after["reserved_micro_usd"], after["expired_requests"]) == (0, 1)
    assert after["cost_micro_usd"] == before["cost_micro_usd"]


def test_an_app_told_to_stop_lets_a_running_answer_end(app_folder: Path, serve: Callable[..., Server]) -> None:
    with ModelServer(Reply(pace=0.3)) as model:
        server = serve(app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
        ada = server.sign_in("ada")
        chat = ada.new_chat()
        answers: list[str] = []
        sending = threading.Thread(target=lambda: answers.append(ada.send(chat, "Hello").json()["message"]["text"]))
        sending.start()
        while not model.requests:
            time.sleep(0.01)
        server.process.terminate()
        sending.join()
        server.process.wait(timeout=20)
    assert answers == ["Hello from the model."]


def test_an_app_told_to_stop_ends_long_answers_keeps_what_they_said_and_settles(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    with ModelServer(Reply(words=["word "] * 2000, pace=0.05)) as model:
        environ = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": model.base_url}
        server = serve(app_folder, **environ)
        ada = server.sign_in("ada")
        chat = ada.new_chat()
        headers = {**ada.headers, "Accept": "text/event-stream"}
        path, body = f"/v1/chats/{chat}/messages", {"text": "Talk"}
        with server.client.stream("POST", path, json=body, headers=headers) as answer:
            lines = answer.iter_lines()
            assert any(line.startswith("event: delta") for line in lines)
            server.process.terminate()
            seen = list(lines)
        assert "event: error" in seen
        assert '"interrupted"' in next(line for line in reversed(seen) if line.startswith("data: "))
        assert server.process.wait(timeout=20) == 0
        again = serve(app_folder, **environ).sign_in("ada")
        kept = again.call("GET", f"/v1/chats/{chat}").json()["messages"][1]
        spent = again.call("GET", "/v1/usage").json()
    assert (kept["status"], kept["text"][:10]) == ("incomplete", "word word ")
    assert (spent["reserved_micro_usd"], spent["expired_requests"]) == (0, 0)
    assert spent["cost_micro_usd"] > 0


def test_a_served_app_does_its_jobs_and_after_kill_9_those_that_were_left(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    edit(app_folder, "[limits]", "[jobs]\nlease_seconds = 0.5\n\n[limits]")
    first = serve(app_folder)
    ada = first.sign_in("ada")
    inputs = [{"text": f"Question {n}"} for n in range(15)]  # no more than the plan's requests of a minute
    job = ada.call("POST", "/v1/batches", {"inputs": inputs, "budget_micro_usd": 0}).json()["id"]
    while not ada.call("GET", f"/v1/batches/{job}/output").text:
        time.sleep(0.01)
    first.kill()
    again = serve(app_folder).sign_in("ada")
    give_up = time.monotonic() + 60
    while again.call("GET", f"/v1/jobs/{job}").json()["state"] in {"queued", "running"} and time.monotonic() < give_up:
        time.sleep(0.05)
    ended = again.call("GET", f"/v1/jobs/{job}").json()
    rows = [json.loads(line) for line in again.call("GET", f"/v1/batches/{job}/output").text.splitlines()]
    assert (ended["state"], ended["result"]["answered"]) == ("succeeded", 15)
    assert [row["index"] for row in rows] == list(range(15))
    assert all(f"Question {row['index']}" in row["output"] for row in rows)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('chat = "gpt-6.1-terra"', "", "models.openai.chat is missing"),
        ("daily_usd", "daly_usd", "did you mean plans.free.daily_usd"),
        ('"gpt-6.1-terra"', '"gpt-99-imagined"', "no price is known"),
        ('"gpt-6-luna"', '"gpt-99-imagined"', '[prices."gpt-99-imagined"]'),
        ('"gemini-3.8-flash"', '"gemini-99"', "models.vertex"),
        ('id = "my-app"', 'id = "My App"', "app.id"),
        ("chat = 1", "chat = 7", "prompts.chat is 7"),
        ('provider = "openai"', 'provider = "opnai"', "models.provider"),
        ("[app]", "[app", "not valid TOML"),
        ("[plans.free]", "[plans.fre]", "app.plan"),
    ],
)
def test_an_app_with_a_wrong_setting_ends_at_once_and_says_which(
    app_folder: Path, old: str, new: str, says: str
) -> None:
    edit(app_folder, old, new)
    ended = boot(app_folder)
    assert ended.returncode == 4
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "gunicorn" not in ended.stderr, "nothing comes after the error"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("x = (", "app/workflow.py, line 1: SyntaxError: '(' was never closed"),
        ("import os\n\nos.environ['MENU']", "app/workflow.py, line 3: KeyError: 'MENU'"),
        ("import nowhere", "app/workflow.py, line 1: ModuleNotFoundError: No module named 'nowhere'"),
        ("def answer(", "app/workflow.py, line 1: SyntaxError: '(' was never closed"),
        ("raise ValueError('sk-1234567890 is wrong')", "app/workflow.py, line 1: ValueError: [secret] is wrong"),
    ],
)
def test_an_app_with_a_fault_in_its_code_ends_with_one_error_that_names_the_line(
    app_folder: Path, code: str, says: str
) -> None:
    (app_folder / "app" / "workflow.py").write_text(code)
    ended = boot(app_folder)
    assert ended.returncode == 3
    lines = ended.stderr.strip().splitlines()
    assert [line for line in lines if "cannot start" in line] == [f"The app cannot start: {says}"]
    assert "cannot start" in lines[-1] or lines[1:] == [f"    {code}"], "it stands last, where a terminal shows it"
    assert "gunicorn" not in ended.stderr
    assert "sk-1234567890" not in ended.stderr


def test_on_cloud_run_such_an_error_is_one_entry_of_the_log_without_its_message(app_folder: Path) -> None:
    (app_folder / "app" / "workflow.py").write_text("raise ValueError('what a user wrote'[:9])")
    ended = boot(app_folder, K_SERVICE="x")
    (entry,) = [json.loads(line) for line in ended.stderr.strip().splitlines()]
    assert entry["message"].startswith("The app cannot start: ValueError\nTraceback")
    assert 'workflow.py", line 1' in entry["message"]
    assert not entry["message"].strip().endswith("what a us")


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"K_SERVICE": "x"}, "FIRELAUNCH_MODE"),
        ({"K_SERVICE": "x", "FIRELAUNCH_MODE": "emulators", "FIRESTORE_EMULATOR_HOST": "h:1"}, "FIRELAUNCH_MODE"),
        ({"K_SERVICE": "x", "FIRELAUNCH_MODE": "cloud", "FIRESTORE_EMULATOR_HOST": "h:1"}, "FIRESTORE_EMULATOR_HOST"),
        (
            {"K_SERVICE": "x", "FIRELAUNCH_MODE": "cloud", "FIREBASE_AUTH_EMULATOR_HOST": "h:1"},
            "FIREBASE_AUTH_EMULATOR",
        ),
        ({"FIRELAUNCH_MODE": "cloud", "FIRESTORE_EMULATOR_HOST": "h:1"}, "emulator"),
        ({"FIRELAUNCH_MODE": "cloud"}, "cloud.project"),
        ({"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345"}, "OPENAI_API_KEY"),
        ({"FIRELAUNCH_MODE": "emulators"}, "FIRESTORE_EMULATOR_HOST"),
        ({"FIRELAUNCH_MOOD": "x"}, "did you mean FIRELAUNCH_MODE"),
        ({"OPENAI_API_KEY": "k", "OPENAI_MODEL": "imagined"}, "OPENAI_MODEL names 'imagined', and no price is known"),
    ],
)
def test_an_app_in_a_dangerous_environment_ends_at_once_and_says_why(
    app_folder: Path, environ: dict[str, str], says: str
) -> None:
    ended = boot(app_folder, **environ)
    assert ended.returncode == 4
    assert says in ended.stderr
    assert not (app_folder / ".firelaunch" / "data.sqlite3").exists()


def test_tls_is_refused_since_no_client_would_be_waited_for_as_it_should_be(app_folder: Path, tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    ended = boot(app_folder, GUNICORN_CMD_ARGS=f"--certfile {pem} --keyfile {pem}")
    assert ended.returncode == 4
    assert "end it in front of the app" in ended.stderr


BROKEN = {
    "a line that is no request": b"hello\r\n\r\n",
    "a path over the limit": b"GET /v1/chats/" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "a header over the limit": b"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
    + b"x" * 20_000
    + b"\r\n\r\n",
    "two lengths": b"POST /v1/chats HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": b"POST /v1/chats HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length of 5,000 digits": b"POST /v1/chats HTTP/1.1\r\nHost: x\r\nContent-Length: "
    + b"9" * 5_000
    + b"\r\n\r\n{}",
    "no length": b"POST /v1/chats HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n{}",
}


@pytest.mark.parametrize(
    "chunks", [b"0x2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}gone", b"2;\x00\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n"]
)
def test_a_body_of_malformed_chunks_is_its_clients_fault_and_ends_its_connection(
    app_folder: Path, serve: Callable[..., Server], chunks: bytes
) -> None:
    server = serve(app_folder)
    ada = server.sign_in("ada")
    head = f"POST /v1/chats HTTP/1.1\r\nHost: x\r\nAuthorization: {ada.headers['Authorization']}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=20) as connection:
        connection.sendall(head.encode() + chunks)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert "ERROR" not in server.log.read_text()


def test_requests_that_cannot_be_read_get_a_4xx_in_the_error_form(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    server = serve(app_folder)
    port = int(server.url.rpartition(":")[2])
    for name, raw in BROKEN.items():
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(raw)
            head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
        status = {"a path over the limit": b"414", "a header over the limit": b"431"}.get(name, b"400")
        assert head.startswith(b"HTTP/1.1 " + status), name
        assert json.loads(body)["error"]["code"] == "invalid_request", name
    assert server.client.get("/live").status_code == 200


def test_what_gunicorn_and_the_app_itself_log_has_the_form_of_all_lines(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    (app_folder / "app" / "own.py").write_text(
        "import logging, threading\n\n\n"
        "def hook(app):\n"
        "    def fail():\n        raise ValueError('ada@example.com')\n\n"
        "    def own():\n"
        "        logging.getLogger('app.own').info('a guest came: ada@example.com')\n"
        "        app.logger.info('and again')\n"
        "        threading.Thread(target=fail, name='counter').start()\n"
        "        return 'said'\n\n"
        "    app.add_url_rule('/own', 'own', own)\n"
    )
    path = app_folder / "app" / "__init__.py"
    path.write_text(
        path.read_text().replace("    return app", "    from .own import hook\n\n    hook(app)\n    return app")
    )
    log_more = "--log-level info --access-logfile - --access-logformat '%(r)s %({x-who}i)s'"
    server = serve(app_folder, GUNICORN_CMD_ARGS=log_more)
    assert server.sign_in("ada").call("GET", "/own", **{"X-Who": "ada@example.com"}).text == "said"
    server.process.terminate()
    server.process.wait(30)
    said = server.log.read_text()
    assert "--- Logging error ---" not in said
    assert "ada@example.com" not in said
    assert re.search(r"INFO gunicorn.error: Booting worker", said)
    assert re.search(r"INFO gunicorn.access: GET /own HTTP/1.1 \[email\]", said)
    assert re.search(r"INFO app.own: a guest came: \[email\] \[req_", said)
    assert re.search(r"INFO \S+: and again \[req_", said)
    assert re.search(r"ERROR firelaunch.uncaught: an exception ended the thread counter: ValueError", said)
    lines = [line for line in said.splitlines() if " INFO " in line or " ERROR " in line]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ", line) for line in lines)


def test_cloud_mode_starts_without_credentials_and_hands_out_no_dev_tokens(
    app_folder: Path, serve: Callable[..., Server]
) -> None:
    environ = {"K_SERVICE": "x", "FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}
    code = (
        "from app import create_app; from flask import request; a = create_app(); "
        "a.add_url_rule('/v2/peer', 'tryout.page', lambda: request.remote_addr); c = a.test_client(); "
        "forged = {'X-Forwarded-For': '6.6.6.6, 203.0.113.9'}; "
        "print(c.post('/dev/token', json={'uid': 'a'}).status_code, c.get('/live').status_code, "
        "c.get('/v2/peer', headers=forged).text)"
    )
    command = [PYTHON, "-c", code]
    lock(app_folder / "app" / "prompts")
    ended = subprocess.run(
        command, cwd=app_folder, env=clean_environ(**environ), capture_output=True, text=True, check=False
    )
    assert ended.stdout.split() == ["404", "200", "203.0.113.9"], ended.stderr
    assert not (app_folder / ".firelaunch").exists()


def test_what_is_deployed_answers_by_released_prompts_alone(app_folder: Path) -> None:
    environ = {"K_SERVICE": "x", "FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}
    assert "firelaunch lock-prompts" in boot(app_folder, **environ).stderr
    lock(app_folder / "app" / "prompts")
    prompt = app_folder / "app" / "prompts" / "chat@1.md"
    prompt.write_text(prompt.read_text() + "Be funny.\n")
    for changed in ({}, environ):
        ended = boot(app_folder, **changed)
        assert ended.returncode == 4
        assert "chat@2.md" in ended.stderr


def test_a_model_on_ones_own_machine_needs_no_price(app_folder: Path, serve: Callable[..., Server]) -> None:
    with ModelServer() as model:
        server = serve(app_folder, OPENAI_BASE_URL=model.base_url, OPENAI_MODEL="llama-of-mine")
        ada = server.sign_in("ada")
        usage = ada.send(ada.new_chat(), "Hello").json()["usage"]
    assert (usage["model"], usage["input_tokens"], usage["cost_micro_usd"]) == ("llama-of-mine", 10, 0)


def check_two_apps(first: Server, second: Server) -> None:
    ada_here, ada_there = first.sign_in("ada"), second.sign_in("ada")
    chat = ada_here.new_chat()
    ada_here.send(chat, "Only here")
    assert ada_there.call("GET", "/v1/chats").json()["items"] == []
    for method, path, body in [
        ("GET", f"/v1/chats/{chat}", None),
        ("PATCH", f"/v1/chats/{chat}", {"title": "x"}),
        ("DELETE", f"/v1/chats/{chat}", None),
        ("POST", f"/v1/chats/{chat}/messages", {"text": "x"}),
    ]:
        assert ada_there.call(method, path, body).status_code == 404
    assert ada_there.call("GET", "/v1/usage").json()["requests"] == 0
    assert second.client.get("/v1/me", headers=ada_here.headers).status_code == 401
    assert ada_here.texts(chat)[0] == "Only here"


@pytest.fixture
def two_folders(tmp_path: Path) -> list[Path]:
    folders = []
    for name in ("first", "second"):
        folder = copy_template(tmp_path / name)
        edit(folder, 'id = "my-app"', f'id = "{name}"')
        folders.append(folder)
    return folders


def test_two_apps_on_files_of_their_own_see_nothing_of_each_other(
    two_folders: list[Path], serve: Callable[..., Server]
) -> None:
    check_two_apps(*(serve(folder) for folder in two_folders))


def test_two_apps_in_one_emulator_project_see_nothing_of_each_other(
    two_folders: list[Path], serve: Callable[..., Server], firestore_emulator: object, firestore_project: str
) -> None:
    environ = {
        "FIRELAUNCH_MODE": "emulators",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator.host,  # type: ignore[attr-defined]
        "GOOGLE_CLOUD_PROJECT": firestore_project,
    }
    check_two_apps(*(serve(folder, **environ) for folder in two_folders))


FIRST_TURN = """
import sys
from app import create_app
client = create_app().test_client()
token = client.post("/dev/token", json={"uid": "a"}).get_json()["token"]
headers = {"Authorization": "Bearer " + token}
chat = client.post("/v1/chats", json={}, headers=headers).get_json()["id"]
answer = client.post(f"/v1/chats/{chat}/messages", json={"text": "x"}, headers=headers)
assert answer.status_code == 200, answer.data
"""
HEAVY = frozenset(
    [
        "google",
        "openai",
        "firebase_admin",
        "stripe",
        "grpc",
        "httpx",
        "httpx2",
        "requests",
        "cryptography",
        "numpy",
        "asyncio",
    ]
)


def loaded_by(code: str, folder: Path, **environ: str) -> list[str]:
    """The modules that a process has after ``code``."""
    command = [PYTHON, "-c", f"{code}\nprint(*sorted(sys.modules))"]
    env = clean_environ(**environ)
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def heavy_of(modules: Iterable[str]) -> set[str]:
    # functions-framework has the interpreter itself make the empty namespaces "google" and "google.cloud".
    return {name.split(".")[0] for name in modules if name not in {"google", "google.cloud"}} & HEAVY


def test_the_start_of_an_embedded_app_imports_nothing_of_the_cloud(app_folder: Path) -> None:
    loaded = loaded_by(FIRST_TURN, app_folder)
    assert "firelaunch.services.build" in loaded
    assert heavy_of(loaded) == set()
    # A start takes about half a millisecond for each. Where one more is needed, raise the number.
    assert len(loaded) <= 700, len(loaded)


START_IN_CLOUD = """
import os, sys, threading
from app import create_app
answer = create_app().test_client().get("/live")
assert answer.status_code == 200
print(*sorted(sys.modules))
answer.close()
for thread in threading.enumerate():
    if thread.name == "warm":
        thread.join(120)
print(*sorted(sys.modules), flush=True)
os._exit(0)
"""


def test_a_start_in_the_cloud_imports_no_client_and_the_first_answer_has_them_imported_after_it(
    app_folder: Path,
) -> None:
    """Google's clients and firebase-admin take longer to import than all of the start."""
    lock(app_folder / "app" / "prompts")
    env = {"FIRELAUNCH_MODE": "cloud", "GOOGLE_CLOUD_PROJECT": "p-12345", "OPENAI_API_KEY": "k"}
    command = [PYTHON, "-c", START_IN_CLOUD]
    ended = subprocess.run(
        command, cwd=app_folder, env=clean_environ(**env), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    at_answer, later = (line.split() for line in ended.stdout.splitlines())
    assert heavy_of(at_answer) == set()
    assert len(at_answer) <= 720, len(at_answer)
    assert heavy_of(later) >= {"firebase_admin", "google", "grpc"}


def test_a_moderated_answer_in_one_piece_imports_no_http_client(app_folder: Path) -> None:
    """The openai package alone takes longer to import than a start takes."""
    edit(app_folder, "[prompts]", '[guardrails]\nmoderation = "openai"\n\n[prompts]')
    with ModelServer() as model:
        loaded = loaded_by(FIRST_TURN, app_folder, OPENAI_API_KEY="k", OPENAI_BASE_URL=model.base_url)
    assert model.paths == ["/v1/chat/completions"]
    assert model.moderated
    assert heavy_of(loaded) == set()


def test_nor_do_embeddings(app_folder: Path) -> None:
    code = """
import os, sys
from firelaunch.rag.embed.openai_compatible import OpenAIEmbeddings
from firelaunch.settings.openai_server import OpenAIServer
model = OpenAIEmbeddings("m", "k", OpenAIServer(os.environ["SERVER"]))
assert len(model.request(["tea"], query=True, seconds=5).vectors) == 1
"""
    with OpenAIEmbeddingServer() as server:
        assert heavy_of(loaded_by(code, app_folder, SERVER=server.base_url)) == {"numpy"}


@pytest.mark.parametrize(
    ("toml", "environ", "expected"),
    [
        ("[cloud]\nconcurrency = 2000\n", {}, 2000),
        ("[cloud]\nconcurrency = 2000\n", {"CONCURRENCY": "7"}, 7),
        ("[cloud]\n", {}, 80),
        ("[cloud]\nconcurrency = true\n", {}, 80),
        ("[cloud]\nconcurrency = -1\n", {}, 80),
        ("cloud = 1\n", {}, 80),
        ("no toml", {}, 80),
        (None, {}, 80),
    ],
)
def test_a_process_answers_as_many_requests_at_a_time_as_the_environment_says_or_else_the_settings(
    tmp_path: Path, toml: str | None, environ: dict[str, str], expected: int
) -> None:
    if toml is not None:
        (tmp_path / "firelaunch.toml").write_text(toml)
    code = "from firelaunch.server import gunicorn_config as it; print(it.threads - it.SPARE_THREADS)"
    around = clean_environ(**environ)
    done = subprocess.run([PYTHON, "-c", code], env=around, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) == expected


def test_a_worker_collects_no_garbage_while_it_imports_the_app_and_does_so_from_then_on() -> None:
    code = (
        "import gc\n"
        "from types import SimpleNamespace as Fake\n"
        "from firelaunch.server import gunicorn_config\n"
        "gunicorn_config.post_fork(None, None)\n"
        "before = gc.isenabled()\n"
        "gunicorn_config.post_worker_init(Fake(cfg=Fake(bind=['here']), wsgi=None))\n"
        "print(before, gc.isenabled())\n"
    )
    done = subprocess.run([PYTHON, "-c", code], env=clean_environ(), capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
